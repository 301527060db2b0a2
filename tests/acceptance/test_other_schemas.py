"""Three more schemas in the shape of real applications, followed under load and kills."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.examples import desk, forum, history, places
from tests.oracle import Documents, compare
from tests.projector_process import Projector, await_checkpoint
from tests.servers import DatabaseServer, RedisServer
from tests.servers.account import documented_account

pytestmark = pytest.mark.server

Oracle = Callable[[Any], Documents]
EXAMPLES: dict[str, tuple[ModuleType, dict[str, Oracle]]] = {
    "desk": (desk, {"desk": desk.documents}),
    "forum": (forum, {"forum": forum.documents}),
    "places": (
        places, {"machines": places.machine_documents, "places": places.place_documents}
    ),
}  # fmt: skip


class World:
    """An example's tables with random rows, the daemon, and the oracles of its hashes."""

    def __init__(
        self, database: DatabaseServer, schema: str, redis_server: RedisServer, name: str
    ) -> None:
        self.module, self.oracles = EXAMPLES[name]
        self.connect = lambda: database.connect(schema)
        self.connection = self.connect()
        self.redis = redis_server.client(db=1)
        names = [f"tests.examples.{name}:{hash_}" for hash_ in self.oracles]
        self.daemon = Projector(
            documented_account(database, schema), redis_server.url(db=1),
            PROJECTOR_PROJECTION=",".join(names), PROJECTOR_RECONCILE__SCRUB_INTERVAL_S="0",
        )  # fmt: skip

    def run(self, seed: int, transactions: int) -> None:
        """Two writers at once, as far as locks let them."""
        with contextlib.closing(self.connect()) as other:
            second = threading.Thread(target=self._write, args=(other, seed + 1000, transactions))
            second.start()
            self._write(self.connection, seed, transactions)
            second.join()

    def _write(self, connection: Any, seed: int, transactions: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode = ''")  # as such applications do: zero dates
        for part in range(0, transactions, 20):
            try:
                history.run(
                    connection, self.module.TABLES, seed + part, 20,
                    one_by_one=self.module is forum,
                )  # fmt: skip
            except Exception as error:
                if error.args[0] not in (1205, 1213, 1020):
                    raise
                connection.rollback()

    def check(self) -> int:
        """Compare each hash with its oracle once everything committed is in it; their sizes."""
        count = 0
        for name, oracle in self.oracles.items():
            await_checkpoint(self.redis, self.connection, self.daemon, name)
            expected = oracle(self.connection)
            differences = compare(self.redis.hgetall(name), expected)
            shown = "\n".join(map(str, differences[:5]))
            assert not differences, f"{name}: {len(differences)} of {len(expected)}\n{shown}"
            count += len(expected)
        return count

    def close(self) -> None:
        self.daemon.__exit__(None)
        self.connection.close()
        self.redis.close()


@pytest.fixture(params=list(EXAMPLES))
def world(
    request: pytest.FixtureRequest,
    database: DatabaseServer,
    fresh_database: str,
    fresh_redis: RedisServer,
) -> Iterator[World]:
    """Each example on either server."""
    module, _ = EXAMPLES[request.param]
    database.load_sql(f"SET SESSION sql_mode='';{module.DDL}", fresh_database)
    made = World(database, fresh_database, fresh_redis, request.param)
    yield made
    made.close()


def test_an_application_is_followed_through_load_and_kills(world: World) -> None:
    """Built, followed, killed between and during changes: each hash equals its oracle."""
    world.run(1, 200)
    world.daemon.start()
    counts = [world.check()]
    world.run(10, 200)
    counts.append(world.check())
    world.daemon.kill()
    world.run(20, 100)
    world.daemon.start()
    world.run(30, 100)
    world.daemon.kill()
    world.daemon.start()
    world.run(40, 100)
    counts.append(world.check())
    assert sum(counts) > 12
    for name in world.oracles:
        assert world.daemon.run("verify", "--projection", name).returncode == 0
