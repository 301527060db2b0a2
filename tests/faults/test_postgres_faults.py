"""The same faults on PostgreSQL, and its own: the hash ends equal, by itself.

`make test-faults SEEDS=100` runs a third of so many.
"""

import contextlib
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.faults import faults
from tests.faults.faults import FAULTS
from tests.faults.test_faults import SEEDS
from tests.postgres.world import PostgresWorld
from tests.projector_process import Projector
from tests.servers import PostgresServer, RedisServer, TcpProxy, start_postgres, start_redis

pytestmark = [pytest.mark.server, pytest.mark.faults]

_QUICK = {
    "PROJECTOR_SOURCE__HEARTBEAT_S": "0.3",
    "PROJECTOR_SOURCE__CONNECT_TIMEOUT_S": "2",
    "PROJECTOR_SOURCE__READ_TIMEOUT_S": "3",
    "PROJECTOR_REDIS__TIMEOUT_S": "1",
    "PROJECTOR_REDIS__LEASE_TTL_S": "2",
    "PROJECTOR_RECONCILE__SCRUB_INTERVAL_S": "0",  # it would mend what a fault broke
}


class PostgresStage(PostgresWorld):
    """A helpdesk whose daemon sees its servers through proxies; workload and oracle do not."""

    def __init__(self, server: PostgresServer, name: str, redis_server: RedisServer) -> None:
        self.to_mysql = TcpProxy(server.host, server.port)  # the database's, to the faults
        self.to_redis = TcpProxy(redis_server.host, redis_server.port)
        self.database, self.redis_server = server, redis_server
        super().__init__(server, name, redis_server)
        self.daemon.environment |= self.another().environment

    @property
    def names(self) -> list[str]:
        return ["tickets"]

    def another(self) -> Projector:
        """Return a further daemon with the same settings, not started."""
        through = make_url(self.url).set(host="127.0.0.1", port=self.to_mysql.port)
        daemon = Projector("", f"redis://127.0.0.1:{self.to_redis.port}/1", **_QUICK)
        del daemon.environment["PROJECTOR_MYSQL__URL"]
        url = through.render_as_string(hide_password=False)
        daemon.environment["PROJECTOR_SOURCE__URL"] = url
        daemon.environment["PROJECTOR_SOURCE__SLOT"] = self.slot
        return daemon

    def __exit__(self, *failure: object) -> None:
        super().__exit__(*failure)
        self.to_mysql.close()
        self.to_redis.close()


def sessions_terminated(stage: Any, random: Random) -> None:
    """The walsender ends, and some of the reading sessions."""
    with contextlib.suppress(psycopg.Error):
        stage.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'p\\_%%'"
            f" AND (backend_type = 'walsender' OR {random.random()} < 0.3)"
        )


def server_crashed(stage: Any, random: Random) -> None:
    """Immediate shutdown: the next start recovers from the log."""
    stage.database.stop_immediately()
    stage.database.start()


def slot_dropped(stage: Any, random: Random) -> None:
    """The log that the daemon needs goes away while it is down."""
    stage.daemon.kill()
    time.sleep(random.uniform(0.1, 0.6))
    named = f"FROM pg_replication_slots WHERE slot_name = '{stage.slot}'"
    stage.database.execute(f"SELECT pg_terminate_backend(active_pid, 5000) {named} AND active")
    stage.database.execute(f"SELECT pg_drop_replication_slot(slot_name) {named}")
    stage.daemon.start()


_OWN = [sessions_terminated, server_crashed, slot_dropped]
_OTHERS = {faults.dump_thread_killed, faults.logs_purged}  # of MySQL's statements
_ALL = [*(fault for fault in FAULTS if fault not in _OTHERS), *_OWN]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgresServer, RedisServer]]:
    """Servers that stay from seed to seed, for faults are over when they return."""
    with start_postgres() as server, start_redis() as redis_server:
        yield server, redis_server


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(max(1, SEEDS // 3)))
def test_the_hash_ends_equal_after_faults(
    servers: tuple[PostgresServer, RedisServer], seed: int
) -> None:
    """Three faults under load, a last one in silence: no later write mends what it broke."""
    random = Random(f"postgres:{seed}")
    server, redis_server = servers
    name = f"faults_{seed}"
    with redis_server.client(db=1) as client:
        client.flushall()
    server.create_database(name)
    with PostgresStage(server, name, redis_server) as world:
        world.daemon.start()
        time.sleep(random.uniform(0, 2))
        workload = world.workload(seed, rate=100)
        chosen = [*random.sample(_ALL, 3), random.choice(_ALL)]
        print("faults:", ", ".join(fault.__name__ for fault in chosen))
        workload.start()
        try:
            for fault in chosen[:3]:
                time.sleep(random.uniform(0.2, 1.5))
                fault(world, random)  # type: ignore[arg-type]
        finally:
            workload.stop()
        chosen[3](world, random)  # type: ignore[arg-type]
        world.reconnect()
        world.check()
    server.drop_database(name)
