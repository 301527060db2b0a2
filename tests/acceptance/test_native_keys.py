"""MariaDB's own types as keys: its order of UUIDs is not that of their text, nor is INET6's."""

import contextlib
import json
import random
import uuid
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv6Address
from typing import Any

import pytest

from tests.examples import native
from tests.oracle import Documents, compare
from tests.projector_process import Projector, await_checkpoint, wait_for, walked
from tests.servers import DatabaseServer, RedisServer
from tests.servers.account import documented_account

pytestmark = pytest.mark.server

_TAILS = ("0" * 12, "0" * 11 + "1", "f" * 12, "00ff" + "0" * 8)
# Several versions, both sides of the variant's bit by which MariaDB turns them round, and zeros at
# either end, which the log leaves out.
UUIDS = [
    f"{head}-{middle}-{version}{rest}-{variant}000-{tail}"
    for head, middle, rest in (("00000000", "0000", "000"), ("ffffffff", "0001", "f00"))
    for version in "01467"
    for variant in "08b"
    for tail in _TAILS
]
ADDRESSES = [
    "::", "::1", "::ffff:1.2.3.4", "::1.2.3.4", "1::", "a::", "10::", "fe80::1", "2001:db8::",
    "2001:db8::a:0:0:1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
]  # fmt: skip


class World:
    """The three hashes, a writer, and plain SQL for what they should be."""

    def __init__(self, database: DatabaseServer, name: str, redis_server: RedisServer) -> None:
        self.connection = database.connect(name)
        self.redis = redis_server.client(db=1)
        module = "tests.examples.native"
        self.daemon = Projector(
            documented_account(database, name),
            redis_server.url(db=1),
            PROJECTOR_PROJECTION=",".join(
                f"{module}:{p}" for p in ("visits_by_id", "hosts_by_ip", "clicks_by_key")
            ),
            PROJECTOR_RECONCILE__CHUNK_DOCUMENTS="3",
        )

    def write(self, seed: int, steps: int) -> None:
        chance = random.Random(seed)
        with self.connection.cursor() as cursor:
            for _ in range(steps):
                visit, ip = chance.choice(UUIDS), chance.choice(ADDRESSES)
                statement, values = chance.choice([
                    ("REPLACE INTO visits VALUES (%s, %s, %s)", (visit, ip, str(seed))),
                    ("REPLACE INTO hosts VALUES (%s, %s)", (ip, f"{seed}{ip}")),
                    ("REPLACE INTO clicks VALUES (%s, %s)", (visit, chance.randrange(3))),
                    ("UPDATE visits SET ip = %s WHERE id = %s", (ip, visit)),
                    ("UPDATE IGNORE visits SET id = %s WHERE ip = %s LIMIT 1", (visit, ip)),
                    ("DELETE FROM visits WHERE id = %s", (visit,)),
                    ("DELETE FROM hosts WHERE ip = %s", (ip,)),
                    ("DELETE FROM clicks WHERE visit_id = %s", (visit,)),
                ])  # fmt: skip
                cursor.execute(statement, values)
            self.connection.commit()

    def fill(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany("INSERT INTO hosts VALUES (%s, %s)", [(a, a) for a in ADDRESSES])
            cursor.executemany(
                "INSERT INTO visits VALUES (%s, %s, 'p')",
                [(u, ADDRESSES[i % len(ADDRESSES)]) for i, u in enumerate(UUIDS)],
            )
            cursor.executemany("INSERT INTO clicks VALUES (%s, 1)", [(u,) for u in UUIDS])
            self.connection.commit()

    def rows(self, sql: str) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            found = list(cursor.fetchall())
        self.connection.commit()
        return found

    def expected(self) -> dict[str, Documents]:
        visits: Documents = {}
        hosts: Documents = {}
        clicks: Documents = {}
        every = self.rows("SELECT visit_id, number FROM clicks ORDER BY 1, 2")
        seen = self.rows("SELECT ip, id FROM visits ORDER BY id")
        for key, ip, page, name in self.rows(
            "SELECT v.id, v.ip, page, name FROM visits v LEFT JOIN hosts h ON h.ip = v.ip"
        ):
            numbers = [number for visit, number in every if visit == key]
            visits[key] = {"id": key, "ip": ip, "page": page, "name": name, "clicks": numbers}
        for ip, name in self.rows("SELECT ip, name FROM hosts"):
            hosts[ip] = {"ip": ip, "name": name, "visits": [k for at, k in seen if at == ip]}
        for key, number, page in self.rows(
            "SELECT visit_id, number, page FROM clicks LEFT JOIN visits ON id = visit_id"
        ):
            clicks[f"{key}:{number}"] = {"visit_id": key, "page": page}
        return {"visits": visits, "hosts": hosts, "clicks": clicks}

    def check(self) -> None:
        for name, documents in self.expected().items():
            await_checkpoint(self.redis, self.connection, self.daemon, name)
            assert not compare(self.redis.hgetall(name), documents), name

    def close(self) -> None:
        self.connection.close()
        self.redis.close()


@pytest.fixture(params=["mariadb", "mariadb11"])
def world(request: pytest.FixtureRequest, fresh_redis: RedisServer) -> Iterator[World]:
    """The tables on either release of MariaDB."""
    database: DatabaseServer = request.getfixturevalue(request.param)
    name = f"test_{uuid.uuid4().hex[:12]}"
    database.create_database(name)
    database.load_sql(native.DDL, name)
    made = World(database, name, fresh_redis)
    with contextlib.ExitStack() as stack:
        stack.callback(database.drop_database, name)
        stack.callback(made.close)
        stack.push(made.daemon.__exit__)
        yield made


def test_native_keys_are_followed_and_walked(world: World) -> None:
    """The build by ranges of keys, changes of each kind, a kill between; nothing is missed."""
    world.fill()
    texts = [row[0] for row in world.rows("SELECT id FROM visits ORDER BY id")]
    assert texts != sorted(texts)
    world.daemon.start()
    world.check()
    for round_ in range(3):
        world.write(round_, 150)
        world.check()
    world.daemon.kill()
    world.write(9, 150)
    world.daemon.start()
    world.check()
    assert [e for e in world.daemon.events() if "kind" in e] == []


def test_orphans_of_native_keys_are_found(world: World) -> None:
    """Ids that no row has, and ids that are no key at all or another spelling of one."""
    world.fill()
    world.daemon.environment["PROJECTOR_RECONCILE__SCRUB_INTERVAL_S"] = "0"
    world.daemon.start()
    world.check()
    orphans = {
        "visits": [str(uuid.UUID(int=5)), "nothing", "", UUIDS[1].upper()[:-1] + "E",
                   UUIDS[2].replace("-", ""), UUIDS[-1].upper()],
        "hosts": ["::2", "nothing", IPv6Address("::1").exploded, "10.0.0.1"],
        "clicks": [f"{UUIDS[0]}:9", "nothing:1", f"{UUIDS[3].replace('-', '')}:1"],
    }  # fmt: skip
    world.daemon.kill()  # it would see that the hash has grown, and mend it before we look
    for name, ids in orphans.items():
        world.redis.hdel(name, world.redis.hkeys(name)[0])
        for id_ in ids:
            world.redis.hset(name, id_, b"{}")
        found = world.daemon.run("verify", "--projection", name, "--json")
        report = json.loads(found.stdout)
        assert (report["missing"], report["orphan"]) == (1, len(ids))
    world.daemon.start()
    for name, documents in world.expected().items():
        wait_for(partial(_is_as_large, world.redis, name, len(documents)), world.daemon)
        assert world.daemon.run("resync", "--projection", name).returncode == 0
        assert world.daemon.run("verify", "--projection", name).returncode == 0
    world.check()


def _is_as_large(redis: Any, name: str, count: int) -> bool:
    return int(redis.hlen(name)) == count


def test_native_keys_pass_the_check_and_are_explained(world: World) -> None:
    """No warning for the types; queries and look-ups seek by an index."""
    world.fill()
    checked = world.daemon.run("check", "--json")
    said = [c for c in json.loads(checked.stdout) if c["name"].endswith((".columns", ".keys"))]
    assert {c["status"] for c in said} == {"ok"}, said
    for name, key in (("visits", UUIDS[7]), ("hosts", "::1.2.3.4"), ("clicks", f"{UUIDS[7]}:1")):
        explained = json.loads(
            world.daemon.run(
                "explain", "--projection", name, "--table", name, "--key", key, "--json"
            ).stdout
        )
        assert [found["ids"] for found in explained["touched"]] == [[key]]


def test_a_fan_out_over_native_keys_is_put_off_and_done(world: World) -> None:
    """A walk along a route goes on from a key in the server's order."""
    world.fill()
    world.daemon.environment["PROJECTOR_FANOUT_MAX_DOCUMENTS"] = "2"
    world.daemon.start()
    world.check()
    by_walks = walked(world.daemon)
    world.rows("UPDATE hosts SET name = CONCAT(name, '!')")
    world.check()
    assert walked(world.daemon) > by_walks
    for _ in range(2):
        world.rows("UPDATE hosts SET name = CONCAT(name, '+')")
        world.daemon.kill()
        world.daemon.start()
    world.check()
