"""Random faults at random moments under a random workload: the hash ends equal, by itself.

`make test-faults SEEDS=100` runs any number; CI runs eight.
"""

import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pymysql
import pytest

from schema.document import TicketDocument
from tests.abroad.worlds.plan import Plan
from tests.abroad.worlds.runner import Runner
from tests.faults.faults import FAULTS, REWINDS
from tests.faults.stage import Stage, stage
from tests.servers import Flavour
from tests.workload import Workload

pytestmark = [pytest.mark.server, pytest.mark.faults]

REPORTS = Path(__file__).resolve().parents[2] / "build" / "faults"
SEEDS = int(os.environ.get("SEEDS", "30"))


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """Servers that stay from world to world, for faults are over when they return."""
    with Runner(REPORTS) as made:
        yield made


class Watcher:
    """A reader of the hash: no document of one Redis history may go back in time.

    A row's own time may: it is when its statement began, which then waited for a lock.
    """

    def __init__(self, world: Stage) -> None:
        self._world = world
        self._seen: dict[bytes, Any] = {}
        self._connection: Any = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.problems: list[str] = []
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def forget(self) -> None:
        """Redis itself is about to go back in time."""
        with self._lock:
            self._seen.clear()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def _watch(self) -> None:
        while not self._stopped.wait(0.05):
            with self._lock:
                try:
                    found = self._world.redis.hgetall("tickets")
                except Exception:
                    continue
                for key, value in found.items():
                    document = TicketDocument.model_validate_json(value)
                    moment = (document.created_at, document.updated_at)
                    before = self._seen.get(key)
                    is_older = before and before[0] == moment[0] and before[1] > moment[1]
                    if is_older and not self._is_now(key, moment[1]):
                        self.problems.append(f"{key!r} went back from {before} to {moment}")
                    self._seen[key] = moment

    def _is_now(self, key: bytes, moment: datetime) -> bool:
        """Whether this is what the row says."""
        deadline = time.monotonic() + 10
        while True:
            try:
                self._connection = self._connection or self._world.connect()
                with self._connection.cursor() as cursor:
                    sql = "SELECT updated_at FROM tickets WHERE id = %s"
                    cursor.execute(sql, (key.decode(),))
                    [[found]] = cursor.fetchall() or [[None]]
            except pymysql.MySQLError:  # it is away, as the fault wants
                self._connection = None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return bool(found == moment.replace(tzinfo=None))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_hash_ends_equal_after_faults(seed: int) -> None:
    """Three faults under load, a last one in silence: no later write mends what it broke."""
    random = Random(seed)
    flavour = [Flavour.MARIADB, Flavour.MYSQL][seed % 2]
    with stage(flavour) as world:
        world.daemon.start()
        time.sleep(random.uniform(0, 2))
        workload = Workload(world.connect, seed=seed, cascades=seed % 3 == 0, rate=100)
        watcher = Watcher(world)
        chosen = [*random.sample(FAULTS, 3), random.choice(FAULTS)]
        print("faults:", ", ".join(fault.__name__ for fault in chosen))
        workload.start()
        try:
            for fault in chosen[:3]:
                time.sleep(random.uniform(0.2, 1.5))
                _do(fault, world, random, watcher)
        finally:
            workload.stop()
        _do(chosen[3], world, random, watcher)
        try:
            world.check(is_rewound=not REWINDS.isdisjoint(chosen))
        finally:
            watcher.stop()
        assert not watcher.problems, watcher.problems[:5]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_made_up_worlds_end_equal_after_faults(runner: Runner, seed: int) -> None:
    """The same faults, under a made-up history of a made-up schema on any of the servers."""
    chosen = runner.faults_of(seed)
    print("faults:", ", ".join(fault.__name__ for fault in chosen))
    _, verdict = runner.play(Plan(seed), faults=chosen)
    assert not verdict.is_failure, f"{verdict}\nReports: {REPORTS}"


def _do(fault: Any, world: Stage, random: Random, watcher: Watcher) -> None:
    if fault in REWINDS:
        watcher.stop()
        fault(world, random)
        watcher.__init__(world)  # type: ignore[misc]
    else:
        fault(world, random)
