"""The same faults on PostgreSQL, and its own: the hash ends equal, by itself.

`make test-faults SEEDS=100` runs a third of so many.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from random import Random

import pytest

from tests.abroad.postgres.runner import PostgresRunner
from tests.abroad.worlds.plan import Plan
from tests.faults.faults import REWINDS
from tests.faults.postgres_faults import ALL
from tests.faults.postgres_stage import PostgresStage
from tests.faults.test_faults import REPORTS, SEEDS
from tests.servers import (
    PostgresFlavour,
    PostgresServer,
    RedisServer,
    start_postgres,
    start_redis,
)

pytestmark = [pytest.mark.server, pytest.mark.faults]


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
        workload = world.workload(seed, rate=100, definitions=0.01)
        chosen = [*random.sample(ALL, 3), random.choice(ALL)]
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
        is_hidden = workload.stats["definitions"] > 0  # some are noticed a moment later
        world.check(is_rewound=is_hidden or not REWINDS.isdisjoint(chosen))
    server.drop_database(name)


@pytest.fixture(scope="module")
def runner() -> Iterator[PostgresRunner]:
    """Servers that stay from world to world."""
    with PostgresRunner(REPORTS) as made:
        yield made


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(max(1, SEEDS // 3)))
def test_made_up_worlds_end_equal_after_faults(runner: PostgresRunner, seed: int) -> None:
    """The same faults, under a made-up history of a made-up schema."""
    chosen = runner.faults_of(seed)
    print("faults:", ", ".join(fault.__name__ for fault in chosen))
    _, verdict = runner.play(Plan(seed), faults=chosen)
    assert not verdict.is_failure, f"{verdict}\nReports: {REPORTS}"
