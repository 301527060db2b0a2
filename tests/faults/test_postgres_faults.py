"""The same faults on PostgreSQL, and its own: the hash ends equal, by itself.

`make test-faults SEEDS=100` runs a third of so many.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import psycopg
import pytest

from tests.faults import faults
from tests.faults.faults import FAULTS, REWINDS
from tests.faults.postgres_stage import PostgresStage, standby_of
from tests.faults.test_faults import SEEDS
from tests.projector_process import wait_for
from tests.servers import (
    PostgresFlavour,
    PostgresServer,
    RedisServer,
    start_postgres,
    start_redis,
)

pytestmark = [pytest.mark.server, pytest.mark.faults]


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


def failed_over(stage: Any, random: Random) -> None:
    """A standby is promoted in its primary's place, with the slot (18) or without it, and with the
    last transactions or without them."""
    is_18 = stage.database.flavour is PostgresFlavour.POSTGRES_18
    standby = standby_of(stage.database, keeps_slots=is_18)
    if is_18 and random.random() < 0.7:
        with contextlib.suppress(AssertionError):  # the daemon may be busy with another fault
            wait_for(lambda: stage.is_kept_by(standby), stage.daemon, 15)
    stage.fail_over(standby)


_OWN = [sessions_terminated, server_crashed, slot_dropped, failed_over]
_OTHERS = {faults.dump_thread_killed, faults.logs_purged}  # of MySQL's statements
_ALL = [*(fault for fault in FAULTS if fault not in _OTHERS), *_OWN]


Servers = tuple[Sequence[PostgresServer], RedisServer]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Servers that stay from seed to seed, for faults are over when they return."""
    with contextlib.ExitStack() as stack:
        databases = [stack.enter_context(start_postgres(each)) for each in PostgresFlavour]
        yield databases, stack.enter_context(start_redis())


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(max(1, SEEDS // 3)))
def test_the_hash_ends_equal_after_faults(servers: Servers, seed: int) -> None:
    """Three faults under load, a last one in silence: no later write mends what it broke."""
    random = Random(f"postgres:{seed}")
    databases, redis_server = servers
    server = databases[seed % len(databases)]
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
        world.check(is_rewound=not REWINDS.isdisjoint(chosen))
    server.drop_database(name)
