"""Documents that time alone changes: made again when their moment comes, and by no change."""

import contextlib
import datetime
import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.worlds import World
from tests.examples import promises
from tests.postgres.world import is_settled
from tests.projector_process import Projector, await_checkpoint, wait_for
from tests.servers import DatabaseServer, PostgresServer, RedisServer
from tests.servers.role import documented_role

pytestmark = pytest.mark.server

DUE = "{promises}:by:due:next"
_SETTINGS = {
    "PROJECTOR_PROJECTION": "tests.examples.promises:promises",
    "PROJECTOR_RECONCILE__SCRUB_INTERVAL_S": "0",  # it would mend what nobody made again
    "PROJECTOR_REDIS__LEASE_TTL_S": "2",
}
_TOLERATED_S = 3.0  # between a moment and its document, on a busy machine; half a second is usual


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


class Promises:
    """The tables, and a daemon that is not started yet. Of each kind of server one."""

    redis: Any
    daemon: Projector

    def execute(self, sql: str, *values: Any) -> None:
        raise NotImplementedError

    def rows(self, sql: str) -> list[Any]:
        raise NotImplementedError

    def settle(self) -> None:
        """Wait until everything committed is applied."""
        raise NotImplementedError

    def stored(self) -> dict[str, Any]:
        return {k.decode(): json.loads(v) for k, v in self.redis.hgetall("promises").items()}

    def expected(self) -> dict[str, Any]:
        rows = {
            "promises": self.rows("SELECT * FROM promises"),
            "steps": self.rows("SELECT * FROM steps"),
        }
        return promises.documents(rows, utc_now())

    def write(self, chance: random.Random) -> None:
        """Change something; most moments are in the next seconds."""
        near = utc_now() + datetime.timedelta(seconds=chance.uniform(-1, 4))
        far = utc_now() + datetime.timedelta(days=chance.choice([-1, 1]))
        moment = chance.choice([near, near, near, far, None])
        local = moment and promises_local(moment)
        key, step = chance.randint(1, 40), chance.randint(1, 120)
        self.execute(*chance.choice([
            ("UPDATE promises SET due_at = %s WHERE id = %s", moment, key),
            ("UPDATE promises SET promised = %s WHERE id = %s", local, key),
            ("UPDATE promises SET closed_at = %s WHERE id = %s", chance.choice([None, far]), key),
            ("UPDATE promises SET parent_id = %s WHERE id = %s", chance.randint(1, 45), key),
            ("UPDATE steps SET until = %s WHERE id = %s", moment, step),
            ("UPDATE steps SET promise_id = %s WHERE id = %s", key, step),
            ("DELETE FROM steps WHERE id = %s", step),
        ]))  # fmt: skip

    def fill(self, chance: random.Random) -> None:
        for key in range(1, 41):
            self.execute("INSERT INTO promises (id) VALUES (%s)", key)
        for step in range(1, 121):
            owner = chance.randint(1, 40)
            self.execute("INSERT INTO steps (id, promise_id) VALUES (%s, %s)", step, owner)
        for _ in range(200):
            self.write(chance)

    def close(self) -> None:
        raise NotImplementedError


def promises_local(moment: datetime.datetime) -> datetime.datetime:
    zone = promises.ZoneInfo(promises.ZONE)
    return moment.replace(tzinfo=datetime.UTC).astimezone(zone).replace(tzinfo=None)


class MysqlPromises(Promises):
    """On MySQL or MariaDB."""

    def __init__(self, database: DatabaseServer, name: str, redis_server: RedisServer) -> None:
        database.load_sql(";".join(promises.DDL).format(time="DATETIME(6)"), name)
        self._world = World(database, name, redis_server, **_SETTINGS)
        self.redis, self.daemon = self._world.redis, self._world.daemon

    def execute(self, sql: str, *values: Any) -> None:
        with self._world.connection.cursor() as cursor:
            cursor.execute(sql, values or None)

    def rows(self, sql: str) -> list[Any]:
        return self._world.rows(sql)

    def settle(self) -> None:
        await_checkpoint(self.redis, self._world.connection, self.daemon, "promises")

    def close(self) -> None:
        self._world.__exit__(None, None, None)


class PostgresPromises(Promises):
    """On PostgreSQL."""

    def __init__(self, server: PostgresServer, name: str, redis_server: RedisServer) -> None:
        self._connection = server.connect(name)
        for statement in promises.DDL:
            self.execute(statement.format(time="TIMESTAMP"))
        url = documented_role(server, name, ["promises", "steps"])
        self.redis = redis_server.client(db=1)
        self.daemon = Projector(
            url, redis_server.url(db=1), PROJECTOR_SOURCE__SLOT=f"s_{name}", **_SETTINGS
        )

    def execute(self, sql: str, *values: Any) -> None:
        self._connection.execute(sql, values or None)

    def rows(self, sql: str) -> list[Any]:
        return self._connection.execute(sql).fetchall()

    def settle(self) -> None:
        [[end]] = self.rows("SELECT pg_current_wal_insert_lsn()::text")
        high, low = (int(part, 16) for part in end.split("/"))
        wait_for(lambda: is_settled(self.redis, "promises", high << 32 | low), self.daemon)

    def close(self) -> None:
        self.daemon.__exit__(None)
        self.redis.close()
        self._connection.close()


def moments_come_in_silence(stage: Promises) -> None:
    """Random moments under changes and a kill; then none but time changes anything, and the
    documents are right, and wait for what is still to come. `verify` never objects."""
    chance = random.Random(5)
    stage.fill(chance)
    stage.daemon.start()
    stage.settle()
    until = time.monotonic() + 4
    while time.monotonic() < until:
        stage.write(chance)
        time.sleep(0.01)
    stage.daemon.kill()
    stage.daemon.start()
    for _ in range(100):
        stage.write(chance)
    stage.settle()
    assert stage.daemon.run("verify").returncode == 0
    waiting = time.monotonic() + 4 + _TOLERATED_S
    while time.monotonic() < waiting:  # no write
        report = stage.daemon.run("verify", "--json")
        assert report.returncode == 0, report.stdout
    expected = stage.expected()
    wrong = {k: (v, expected.get(k)) for k, v in stage.stored().items() if v != expected.get(k)}
    assert not wrong
    assert stage.stored().keys() == expected.keys()
    waits = {k for k, document in expected.items() if "false" in json.dumps(document)}
    assert {k.decode() for k in stage.redis.zrange(DUE, 0, -1)} == waits


def a_moment_is_met_soon_after_it_comes(stage: Promises) -> None:
    """Never before, and within a second or so, also while nothing else happens."""
    stage.execute("INSERT INTO promises (id) VALUES (1)")
    stage.daemon.start()
    stage.settle()
    for _ in range(3):
        moment = utc_now() + datetime.timedelta(seconds=1)
        stage.execute("UPDATE promises SET due_at = %s WHERE id = 1", moment)
        stage.settle()
        wait_for(lambda: stage.stored()["1"]["overdue"] is False, stage.daemon)
        wait_for(lambda: stage.stored()["1"]["overdue"] is True, stage.daemon)
        late = (utc_now() - moment).total_seconds()
        assert 0 < late < _TOLERATED_S


def moments_that_came_while_nobody_looked_are_met(stage: Promises) -> None:
    """The daemon was down; what its successor finds is owed at once."""
    stage.execute("INSERT INTO promises (id) VALUES (1), (2)")
    moment = utc_now() + datetime.timedelta(seconds=3)
    stage.execute("UPDATE promises SET due_at = %s WHERE id = 1", moment)
    stage.daemon.start()
    stage.settle()
    stage.daemon.kill()
    assert stage.stored()["1"]["overdue"] is False
    time.sleep(max(0.0, (moment - utc_now()).total_seconds()))
    stage.daemon.start()
    wait_for(lambda: stage.stored()["1"]["overdue"] is True, stage.daemon)
    assert stage.redis.exists(DUE) == 0


CHECKS = [
    moments_come_in_silence,
    a_moment_is_met_soon_after_it_comes,
    moments_that_came_while_nobody_looked_are_met,
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("check", CHECKS)
def test_moments(
    check: Callable[[Promises], None],
    database: DatabaseServer,
    fresh_database: str,
    fresh_redis: RedisServer,
) -> None:
    """On MariaDB and MySQL."""
    with contextlib.closing(MysqlPromises(database, fresh_database, fresh_redis)) as stage:
        check(stage)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("check", CHECKS)
def test_moments_on_postgres(
    check: Callable[[Promises], None],
    postgres_server: PostgresServer,
    fresh_postgres: str,
    fresh_redis: RedisServer,
) -> None:
    """On each PostgreSQL."""
    with contextlib.closing(
        PostgresPromises(postgres_server, fresh_postgres, fresh_redis)
    ) as stage:
        check(stage)
