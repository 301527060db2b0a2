"""What the daemon reads back from Redis is checked like any input: right in the end, or said."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from projector.projection import Join, Projection
from tests.abroad.world import MakeWorld, World
from tests.projector_process import wait_for
from tests.servers import Flavour, RedisServer, start_redis

pytestmark = [
    pytest.mark.server,
    pytest.mark.parametrize("anywhere", [Flavour.MARIADB], indirect=True),  # Redis is the subject
]

SEEDS = int(os.environ.get("ABROAD_SEEDS", "2"))
DEPLOYED_ACL = Path(__file__).parents[2] / "deploy" / "redis.acl"
DDL = """
CREATE TABLE owner (id INT PRIMARY KEY, name VARCHAR(20));
CREATE TABLE thing (id VARCHAR(40) PRIMARY KEY, owner_id INT, v JSON, KEY (owner_id));
INSERT INTO owner VALUES (1, 'a'), (2, 'b');
INSERT INTO thing VALUES ('1', 1, '1'), ('2', 1, '[2]'), ('ü:%', 2, '{}')
"""
EXPECTED: dict[str, Any] = {
    "1": {"id": "1", "v": 1, "owner": "a"},
    "2": {"id": "2", "v": [2], "owner": "a"},
    "ü:%": {"id": "ü:%", "v": {}, "owner": "b"},
}
KEYS = ["checkpoint", "lease", "debts", "quarantine", "resync", "requests", "changes", "daemon"]

_meta = sa.MetaData()
_owner = sa.Table(
    "owner", _meta, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(20))
)
_thing = sa.Table(
    "thing", _meta, sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("owner_id", sa.Integer), sa.Column("v", sa.JSON),
)  # fmt: skip
things = Projection(
    "things",
    root=_thing,
    fields=[_thing.c.id, _thing.c.v, _owner.c.name.label("owner")],
    joins=[Join(_owner, on=_owner.c.id == _thing.c.owner_id)],
)


@pytest.fixture
def world(abroad: MakeWorld) -> World:
    """Three things of two owners, a feed of changes, and a lease that soon runs out."""
    return abroad(
        DDL,
        "tests.abroad.test_store_state:things",
        PROJECTOR_REDIS__LEASE_TTL_S="2",
        PROJECTOR_CHANGE_FEED_MAX_LENGTH="100",
    )


def key(name: str) -> str:
    return f"{{things}}:{name}"


_GARBAGE_TEXTS = [
    b"\xff\xfe", b"", b"[", b"7", b"null", b"NaN", b'{"kind": 3}',
    b'{"kind": "resync", "ids": [1]}', b'{"kind": "resync", "ids": "1"}',
    b'{"scope": "all", "reason": "x", "newer": 1}',
    b'{"scope": [], "reason": "x"}', b'{"scope": "route", "reason": "x", "name": "gone", '
    b'"values": [[1]]}', b'{"scope": "ids", "reason": "x", "ids": ["1"], "cursor": "7"}',
    b'{"scope": "all", "reason": "x", "cursor": "1", "done": 1e400}', b"[" * 100_000, b"9" * 5000,
    b'{"scope": "all", "reason": "x", "done": -1}', b'{"scope": "all", "reason": "x", "again": 2}',
]  # fmt: skip


def _spoil(world: World) -> None:
    """Put what cannot be read into every record, and damage into the hash."""
    redis = world.redis
    for number, text in enumerate(_GARBAGE_TEXTS):
        for name in ("debts", "requests", "resync", "quarantine"):
            redis.hset(key(name), text or b"empty", text)
            redis.hset(key(name), f"{number}", text)
    redis.hset(key("checkpoint"), mapping={b"\xff": b"\xff", b"committed_at": b"nan"})
    redis.hset(key("checkpoint"), mapping={b"documents": b"many", b"owed": b"1e400", b"lost": b""})
    redis.hset(key("resync"), mapping={"done": "x", "total": "nan", "started_at": "inf"})
    redis.set(key("daemon"), b"\xff[")
    for text in _GARBAGE_TEXTS:
        redis.hset("things", b"id" + text[:2000], text)
    redis.hset("things", b"\xff\xfe", b"x")
    redis.hset("things", b"x" * 70_000 * 2, b"x")
    redis.hset("things", b"1", b"\xff")


def test_records_that_nobody_can_read_are_made_good_before_a_start(world: World) -> None:
    """Each is passed over, struck off, or answered by a walk over everything."""
    world.start()
    assert world.daemon.stop() == 0
    _spoil(world)
    world.redis.hset(key("checkpoint"), "epoch", "1.5")
    world.redis.hset(key("debts"), "all", b'{"scope": "all", "reason": "x", "newer": true}')
    for command in (["status"], ["status", "--json"], ["document", "1"], ["verify"]):
        assert world.daemon.run(*command).returncode in {0, 1}, command
    world.start()
    world.expect(EXPECTED)
    assert world.quarantined() == {}
    assert world.redis.hlen(key("requests")) == 0


def test_records_that_nobody_can_read_are_made_good_under_a_running_daemon(world: World) -> None:
    """The daemon goes on, and the hash is right again by itself."""
    world.start()
    _spoil(world)
    world.execute("UPDATE owner SET name = 'c' WHERE id = 2")
    expected = {**EXPECTED, "ü:%": {"id": "ü:%", "v": {}, "owner": "c"}}
    wait_for(lambda: world.redis.hlen(key("requests")) == 0, world.daemon)
    assert world.daemon.run("resync").returncode == 0
    world.expect(expected)
    assert world.quarantined() == {}


def test_a_checkpoint_that_cannot_be_read_means_a_build(world: World) -> None:
    """Its debts go with it; and the commands say so."""
    spoilt = [
        ("position", b"\xff|1|2|3|4"),
        ("position", None),
        ("stamp", None),
        ("fingerprint", None),
    ]
    world.start()
    for field, value in spoilt:
        assert world.daemon.stop() == 0
        world.redis.hset(key("debts"), "ids:1", '{"scope": "ids", "reason": "x", "ids": ["1"]}')
        world.redis.hset(key("checkpoint"), mapping={field: value or b"", "owed": "1"})
        if value is None:
            world.redis.hdel(key("checkpoint"), field)
        world.redis.hset("things", "1", "{}")
        if field == "position":
            assert world.daemon.run("status").returncode in {0, 3}
            assert world.daemon.run("verify").returncode == 3
        world.start()
        world.expect(EXPECTED)


def test_what_another_projection_put_off_is_not_used_under_this_one(world: World) -> None:
    """A look-up that is gone, one with other columns, and a place in a walk by other keys."""
    world.start()
    assert world.daemon.stop() == 0
    debts = {
        "route:1": {"name": "thing/team/id", "values": [[7]]},
        "route:2": {"name": "thing/owner_id", "values": [[1, 2]]},
        "all": {"scope": "all", "reason": "requested", "cursor": "zzz", "done": 3},
        "ids:1": {"scope": "ids", "reason": "requested", "ids": ["1"]},
    }
    for name, debt in debts.items():
        said = {"scope": "route", "reason": "fanout", **debt}
        world.redis.hset(key("debts"), name, json.dumps(said))
    world.redis.hset(key("checkpoint"), mapping={"fingerprint": "another", "owed": len(debts)})
    world.redis.hset("things", "1", "{}")
    world.start()
    world.expect(EXPECTED)


def test_a_damaged_document_is_shown(world: World) -> None:
    """`document` is asked exactly when something is wrong with it."""
    world.start()
    for stored in (b"\xff\x00", b"[" * 100_000, b"7"):
        world.redis.hset("things", "1", stored)
        found = world.daemon.run("document", "1", "--json")
        assert found.returncode == 1, found.stderr
        assert json.loads(found.stdout)["differing"] == ["*"]
        assert json.loads(found.stdout)["database"] == EXPECTED["1"]
    assert "damaged" in world.daemon.run("document", "1").stdout


_MAKERS: dict[str, Callable[[Any, str], Any]] = {
    "string": lambda redis, name: redis.set(name, b"\xfftext"),
    "list": lambda redis, name: redis.rpush(name, b"x"),
    "set": lambda redis, name: redis.sadd(name, b"x"),
    "zset": lambda redis, name: redis.zadd(name, {b"x": 1}),
    "stream": lambda redis, name: redis.xadd(name, {b"x": b"y"}, id=f"{2**64 - 1}-{2**64 - 1}"),
    "hash": lambda redis, name: redis.hset(name, mapping={b"\xff": b"\xff", "x": "[["}),
}  # fmt: skip


def _histories() -> Iterator[tuple[int, str, str, bool]]:
    for seed in range(SEEDS):
        chance = random.Random(seed)
        names = ["things", *map(key, KEYS)]
        yield seed, chance.choice(names), chance.choice(list(_MAKERS)), chance.random() < 0.5
    if SEEDS:
        yield 1001, key("lease"), "hash", True
        yield 1002, key("changes"), "string", True
        yield 1003, "things", "list", True
        yield 1004, key("debts"), "set", False


@pytest.mark.parametrize(
    ("name", "kind", "is_running"),
    [pytest.param(*history[1:], id=str(history[0])) for history in _histories()],
)  # fmt: skip
def test_a_key_of_another_type_is_named_or_made_good(
    world: World, name: str, kind: str, is_running: bool
) -> None:
    """Whatever stands there, the hash ends right, or the daemon ends with the remedy, not as a bug;
    once the remedy is done it goes on."""
    world.start()
    if not is_running:
        assert world.daemon.stop() == 0
    world.redis.delete(name)
    _MAKERS[kind](world.redis, name)
    if not is_running:
        world.daemon.start()
    world.execute("INSERT INTO thing VALUES ('3', 2, '3')")
    expected = {**EXPECTED, "3": {"id": "3", "v": 3, "owner": "b"}}

    def is_over() -> bool:
        process = world.daemon.process
        assert process is not None
        return process.poll() is not None or _is_right(world, expected)

    ended = wait_for(is_over, timeout_s=40)
    assert ended
    assert world.daemon.process is not None
    code = world.daemon.process.poll()
    if code is not None:
        assert code == 3, world.daemon.log()[-3000:]
        assert f"DEL '{name}'" in world.daemon.log()
        world.redis.delete(name)
        world.daemon.start()
    wait_for(lambda: _is_right(world, expected), world.daemon)


def _is_right(world: World, expected: dict[str, Any]) -> bool:
    try:
        found = world.documents()
    except Exception:  # of another type, or damaged
        return False
    return found == expected and world.redis.hlen(key("debts")) == 0


def test_a_quarantined_row_that_is_gone_leaves_the_quarantine(world: World) -> None:
    """By resync, by repair of its id, and after a TRUNCATE; `verify` counts who is left."""
    world.start()
    bad = "INSERT INTO thing VALUES (%s, 1, '[1]')"
    world.redis.hset(key("quarantine"), mapping={"77": "of old", b"\xff": "of old", "1": "of old"})
    assert world.daemon.run("resync").returncode == 0
    assert world.quarantined() == {}
    world.redis.hset(key("quarantine"), mapping={"78": "of old", "2": "of old"})
    assert world.daemon.run("resync", "--ids", "78,2").returncode == 0
    assert world.quarantined() == {}
    world.redis.hset(key("quarantine"), "79", "of old")
    world.execute(bad % "'4'", "TRUNCATE thing")
    wait_for(lambda: world.quarantined() == {}, world.daemon)
    world.expect({})


def test_the_scrub_takes_gone_rows_from_the_quarantine(world: World) -> None:
    """A pass looks at those, too."""
    world.daemon.environment["PROJECTOR_RECONCILE__SCRUB_INTERVAL_S"] = "1"
    world.start()
    world.redis.hset(key("quarantine"), "77", "of old")
    wait_for(lambda: world.quarantined() == {}, world.daemon)


@pytest.fixture
def strict_redis() -> Iterator[RedisServer]:
    """A Redis whose documented account may not ask for limits, which are low."""
    with start_redis(options=["--client-query-buffer-limit", "1mb"]) as server:
        with server.client(db=1) as client:
            client.config_set("proto-max-bulk-len", 1024 * 1024)
            line = DEPLOYED_ACL.read_text("utf-8").splitlines()[1]
            rules = line.partition("projector")[2].replace("tickets", "things")
            rules = rules.replace("change-me-writer", "pw")
            client.execute_command("ACL", "SETUSER", "projector", *rules.split())
        yield server


def test_a_document_above_a_limit_that_nobody_may_ask_for_is_set_aside(
    world: World, strict_redis: RedisServer
) -> None:
    """The server hangs up on it; that one goes into quarantine, the others go on."""
    url = f"redis://projector:pw@127.0.0.1:{strict_redis.port}/1"
    world.daemon.environment["PROJECTOR_REDIS__URL"] = url
    world.redis = strict_redis.client(db=1)
    large = "JSON_QUOTE(REPEAT('x', 1200000))"
    world.execute(f"INSERT INTO thing VALUES ('L0', 1, {large})")
    world.start()
    assert set(world.documents()) == set(EXPECTED)
    assert set(world.quarantined()) == {"L0"}
    world.execute(
        f"INSERT INTO thing VALUES ('L1', 1, {large}), ('5', 2, '5'), ('L2', 1, {large})",
        "UPDATE owner SET name = 'z' WHERE id = 1",
    )
    world.settle()
    assert set(world.quarantined()) == {"L0", "L1", "L2"}
    assert world.documents()["5"] == {"id": "5", "v": 5, "owner": "b"}
    assert world.documents()["1"]["owner"] == "z"
    assert not [e for e in world.daemon.events() if "kind" in e]
    report = json.loads(world.daemon.run("verify", "--json").stdout)
    assert (report["left"], report["stale"] + report["missing"]) == (3, 3)
    world.execute("UPDATE thing SET v = '1' WHERE id LIKE 'L%'")
    world.settle()
    assert world.quarantined() == {}
