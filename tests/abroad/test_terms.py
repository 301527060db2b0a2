"""Leases, terms and walks: each projection for itself, and nothing taken for more than it is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from projector.projection import Projection
from tests.abroad.world import MakeWorld, World
from tests.projector_process import Projector, wait_for
from tests.servers import Flavour

pytestmark = pytest.mark.server

here = pytest.mark.parametrize("anywhere", [Flavour.MARIADB], indirect=True)

_DDL = """
CREATE TABLE one (id INT PRIMARY KEY, v INT);
CREATE TABLE two (id INT PRIMARY KEY, v INT);
INSERT INTO one VALUES (1, 1), (2, 2), (3, 3);
INSERT INTO two VALUES (1, 1), (2, 2)
"""
_meta = sa.MetaData()


def _table(name: str) -> sa.Table:
    return sa.Table(
        name, _meta, sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", sa.Integer)
    )


_one, _two = _table("one"), _table("two")
ones = Projection("ones", root=_one, fields=[_one.c.id, _one.c.v])
twos = Projection("twos", root=_two, fields=[_two.c.id, _two.c.v])
_MODULE = "tests.abroad.test_terms"
BOTH = f"{_MODULE}:ones,{_MODULE}:twos"


@pytest.fixture
def world(abroad: MakeWorld) -> World:
    """Two projections of one daemon, with a lease that soon runs out."""
    return abroad(_DDL, BOTH, PROJECTOR_REDIS__LEASE_TTL_S="1.5")


@pytest.fixture
def other(world: World) -> Iterator[Projector]:
    """Another daemon with the same settings, not started."""
    with Projector(world.url, world.redis_server.url(db=1)).start() as made:  # replaced below
        made.kill()
        made.environment.update(
            {k: v for k, v in world.daemon.environment.items() if k.startswith("PROJECTOR_")}
        )
        yield made


def expected(**by_id: int) -> dict[str, dict[str, int]]:
    """Documents by `_1=value`."""
    return {key[1:]: {"id": int(key[1:]), "v": value} for key, value in by_id.items()}


def epoch(world: World, name: str = "ones") -> int:
    """The lease's number by the checkpoint."""
    return int(world.redis.hget(f"{{{name}}}:checkpoint", "epoch"))


def test_no_truncate_statement_or_definition_ends_the_lease(world: World) -> None:
    """What is owed for them is walked; the epoch stays, and the documents come right."""
    world.start()
    before = epoch(world)
    for number in range(5):
        world.execute("TRUNCATE one", f"INSERT INTO one VALUES (7, {number})")
        world.execute("SET SESSION binlog_format = 'STATEMENT'", "UPDATE two SET v = v + 1")
        world.execute("ALTER TABLE one ADD COLUMN w INT DEFAULT 5", "ALTER TABLE one DROP COLUMN w")
        world.settle()
    world.execute(
        "CREATE TABLE three (id INT PRIMARY KEY)",
        "ALTER TABLE two ADD COLUMN three_id INT, ADD FOREIGN KEY (three_id) REFERENCES three (id)"
        " ON DELETE CASCADE",
        "SET SESSION binlog_format = 'ROW'",
        "INSERT INTO three VALUES (1)",
        "UPDATE two SET three_id = 1 WHERE id = 2",
    )
    world.settle()
    world.execute("DELETE FROM three")  # seen only by who has learned of the key
    world.expect(expected(_7=4), "ones")
    world.expect(expected(_1=6), "twos")
    assert (epoch(world), epoch(world, "twos")) == (before, before)
    assert [e for e in world.daemon.events() if e.get("kind") == "fenced"] == []


@here
def test_a_lease_is_kept_whatever_a_renewal_fails_of(world: World, other: Projector) -> None:
    """Rights that are away for a second, a lease of another type: in the end one leads, not two."""
    redis = world.redis
    redis.execute_command("ACL", "SETUSER", "p", "on", ">pw", "~*", "+@all")
    url = world.redis_server.url(db=1).replace("redis://", "redis://p:pw@")
    for daemon in (world.daemon, other):
        daemon.environment["PROJECTOR_REDIS__URL"] = url
    try:
        world.start()
        other.start()
        redis.execute_command("ACL", "SETUSER", "p", "-pexpire", "-hgetall")
        time.sleep(1)  # the fault's own length
        redis.execute_command("ACL", "SETUSER", "p", "+pexpire", "+hgetall")
        world.execute("INSERT INTO one VALUES (4, 4)")
        wait_for(lambda: redis.hexists("ones", "4"))
        assert [d.process and d.process.poll() for d in (world.daemon, other)] == [None, None]
        wait_for(lambda: _leaders(world.daemon, other) == 1)
        redis.delete("{ones}:lease")
        redis.rpush("{ones}:lease", "x")
        wait_for(
            lambda: None not in [d.process and d.process.poll() for d in (world.daemon, other)]
        )
        assert {d.wait() for d in (world.daemon, other)} == {3}
        assert "DEL '{ones}:lease'" in world.daemon.log()
    finally:
        redis.execute_command("ACL", "DELUSER", "p")


def _leaders(*daemons: Projector) -> float:
    return sum(d.metric("projector_projection_leader", projection="ones") or 0 for d in daemons)


@here
def test_a_projection_is_led_whatever_else_a_process_cannot_lead(
    world: World, other: Projector
) -> None:
    """Overlapping sets: each is led by one, and taken over by whoever can."""
    world.daemon.environment["PROJECTOR_PROJECTION"] = f"{_MODULE}:ones"
    world.names = ["ones"]
    world.start()
    other.start()
    world.names = ["ones", "twos"]
    wait_for(lambda: world.redis.hlen("twos") == 2, other)
    world.settle()
    assert other.metric("projector_projection_leader", projection="ones") == 0
    assert other.metric("projector_projection_leader", projection="twos") == 1
    assert other.metric("projector_documents", projection="twos") == 2
    assert other.metric("projector_documents", projection="ones") is None
    wait_for(lambda: other.http("/readyz")[0] == 200, other)
    assert "stands by for ones" in other.http("/readyz")[1].decode()
    before = epoch(world, "twos")
    world.daemon.kill()
    world.execute("INSERT INTO one VALUES (4, 4)", "INSERT INTO two VALUES (4, 4)")
    wait_for(lambda: world.redis.hexists("ones", "4"), other)
    wait_for(lambda: world.redis.hexists("twos", "4"), other)
    assert epoch(world, "twos") == before
    assert other.metric("projector_projection_leader", projection="ones") == 1


@here
def test_a_hash_of_another_name_is_mentioned(world: World) -> None:
    """A renamed projection leaves it behind, readable and no longer kept."""
    world.start()
    world.daemon.environment["PROJECTOR_PROJECTION"] = f"{_MODULE}:twos"
    assert _left_behind(world)["status"] == "ok"  # led by somebody
    assert world.daemon.stop() == 0
    found = _left_behind(world)
    assert (found["status"], "ones" in found["detail"]) == ("warning", True)
    world.names = ["twos"]


def _left_behind(world: World) -> dict[str, str]:
    checks = json.loads(world.daemon.run("check", "--json").stdout)
    [line] = [check for check in checks if check["name"] == "redis.left_behind"]
    return dict(line)


@here
def test_a_projections_loss_is_its_own(world: World) -> None:
    """One walks, the other does not; each has its figures."""
    world.start()
    world.redis.hdel("ones", "1")
    wait_for(lambda: world.redis.hexists("ones", "1"), world.daemon)
    world.settle()
    assert world.daemon.metric(
        "projector_recoveries_total", reason="hash_changed", projection="ones"
    )
    assert not world.daemon.metric(
        "projector_recoveries_total", reason="hash_changed", projection="twos"
    )
    for name, count in (("ones", 3), ("twos", 2)):
        assert world.daemon.metric("projector_documents", projection=name) == count
        for gauge in ("quarantined_documents", "debts", "resync_running"):
            wait_for(_is_zero(world, f"projector_{gauge}", name), world.daemon)


def _is_zero(world: World, gauge: str, name: str) -> Callable[[], bool]:
    return lambda: world.daemon.metric(gauge, projection=name) == 0


@here
def test_a_former_leader_shows_no_figures_of_its_term(world: World, other: Projector) -> None:
    """A resync was running: who leads no more does not say so."""
    world.start()
    world.execute("INSERT INTO one SELECT seq, seq FROM seq_10_to_3000")
    world.daemon.environment["PROJECTOR_RECONCILE__CHUNK_DOCUMENTS"] = "10"
    assert world.daemon.stop() == 0
    world.daemon.start("--resync")

    def running() -> float | None:
        return world.daemon.metric("projector_resync_running", projection="ones")

    wait_for(lambda: running() == 1, world.daemon)
    for name in ("ones", "twos"):
        world.redis.set(f"{{{name}}}:lease", "somebody else", ex=60)
    health = world.daemon.http
    wait_for(lambda: json.loads(health("/readyz")[1])["state"] == "standby", world.daemon)
    assert running() is None
    state = json.loads(world.daemon.http("/readyz")[1])
    assert (state["resync"], state["owed_since"], state["debts"]) == (None, None, 0)
    world.redis.delete("{ones}:lease", "{twos}:lease")
    world.settle(120)
    # Once for the life of the process: not again after the lease came back.
    asked = [e for e in world.daemon.events() if e["event"] == "resync_needed"]
    assert [e["reason"] for e in asked].count("requested") == 2  # one a projection


@here
def test_a_resync_on_an_idle_database_is_no_lag(world: World) -> None:
    """It is ready all the while, says when it begins and ends, and a second one is made whole."""
    world.daemon.environment["PROJECTOR_RECONCILE__CHUNK_DOCUMENTS"] = "5"
    world.daemon.environment["PROJECTOR_HTTP__READY_MAX_LAG_S"] = "0.2"
    world.execute("INSERT INTO one SELECT seq, seq FROM seq_10_to_6000")
    world.start()
    wait_for(lambda: world.daemon.http("/readyz")[0] == 200, world.daemon)
    assert world.daemon.run("resync", "--no-wait", "--projection", "ones").returncode == 0
    wait_for(lambda: int(world.redis.hget("{ones}:resync", "done") or 0) > 500, world.daemon)
    world.redis.hset("ones", "10", "{}")  # passed already
    second = world.daemon.run("resync", "--projection", "ones", "--no-wait")
    assert second.returncode == 0
    verdicts = set()
    while world.redis.hlen("{ones}:debts"):
        verdicts.add(world.daemon.http("/readyz")[0])
        time.sleep(0.05)
    assert verdicts == {200}
    assert world.redis.hget("ones", "10") == b'{"id":10,"v":10}'
    events = [e["event"] for e in world.daemon.events()]
    assert events.count("resync_needed") == 4  # two builds, two asked for
    assert events.count("resync_done") >= 3
    told = json.loads(world.daemon.http("/status.json")[1])["events"]
    assert any("resync_needed" in e["text"] for e in told)
    assert any("resync_done" in e["text"] for e in told)


@here
def test_a_hash_that_grows_is_looked_through_and_not_built(world: World) -> None:
    """A foreign field every moment: no build, readiness stays, and the fields go."""
    world.start()
    wait_for(lambda: world.daemon.http("/readyz")[0] == 200, world.daemon)
    began = time.monotonic()
    number = 0
    while time.monotonic() < began + 4:
        number += 1
        world.redis.hset("ones", f"x{number}", "x")
        assert world.daemon.http("/readyz")[0] == 200
        time.sleep(0.3)
    recoveries = [e for e in world.daemon.events() if e["event"] in {"hash_grew", "hash_changed"}]
    assert [e["event"] for e in recoveries] in (["hash_grew"], ["hash_grew", "hash_grew"])
    wait_for(lambda: world.redis.hlen("ones") == 3, world.daemon)
    world.redis.hdel("ones", "1")  # a loss is made good at once, whatever else is put off
    wait_for(lambda: world.redis.hexists("ones", "1"), world.daemon, timeout_s=8)
