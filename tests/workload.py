"""A random workload over all twelve tables, from several connections at once.

    workload = Workload(lambda: server.connect("helpdesk"), seed=7, cascades=False)
    workload.run(30)                        # or start() ... stop()
    print(workload.stats)

Each transaction is one to five steps out of `tests.workload_steps`; some are rolled back, whole or
to a savepoint. Deadlocks, lock timeouts, duplicate keys and refused foreign keys belong to it;
a lost connection is re-established; any other exception ends the workload and comes out of `stop`.

`cascades=False` deletes and unlinks children in statements of their own, under a lock of the
parent, so that no foreign key changes a row behind the log's back. Tickets get explicit ids up to
2**64 - 1: rows that others insert afterwards need explicit ids too.
"""

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pymysql
from pymysql.constants import ER
from pymysql.cursors import Cursor

from tests.workload_steps import STEPS, Steps

Connect = Callable[[], "pymysql.Connection[Any]"]

_CHECKREAD = 1020  # MariaDB 11: the row has changed since the snapshot
_TOLERATED = {
    ER.DUP_ENTRY,
    ER.LOCK_WAIT_TIMEOUT,
    ER.LOCK_DEADLOCK,
    ER.NO_REFERENCED_ROW_2,
    ER.ROW_IS_REFERENCED_2,
    _CHECKREAD,
}
_ROLLED_BACK = {ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, _CHECKREAD}
_AWAY = {0, 1040, 1053, 1927, 2003, 2006, 2013, 2055, 4031}


class Workload:
    """Random transactions until stopped; `stats` counts what was done."""

    def __init__(
        self,
        connect: Connect,
        seed: int,
        *,
        cascades: bool,
        connections: int = 4,
        rate: float = 300,
    ) -> None:
        """`rate` is transactions a second over all connections, as far as the server keeps up."""
        self.stats: Counter[str] = Counter()
        self._connect = connect
        self._cascades = cascades
        self._pause_s = connections / rate
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []
        self._numbers = itertools.count(1)
        self._threads = [
            threading.Thread(target=self._work, args=(Random(f"{seed}/{number}"),), daemon=True)
            for number in range(connections)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the transactions under way. Raises what a connection failed with."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        if self._failures:
            raise self._failures[0]
        assert not any(thread.is_alive() for thread in self._threads), "a transaction hangs"

    def run(self, seconds: float, until: Callable[[], bool] = lambda: True) -> None:
        """Work for so long and, on a slow machine for up to a minute more, until `until` is true;
        ends early, raising, when a connection fails."""
        self.start()
        self._stopping.wait(seconds)
        latest = time.monotonic() + 60
        while not until() and time.monotonic() < latest and not self._stopping.wait(0.5):
            pass
        self.stop()

    def _work(self, random: Random) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._work_connected(random)
                except (pymysql.err.OperationalError, pymysql.err.InterfaceError) as error:
                    if error.args[0] not in _AWAY:
                        raise
                    self.stats["connections lost"] += 1
                    self._stopping.wait(0.1)
        except BaseException as error:
            self._failures.append(error)
            self._stopping.set()

    def _work_connected(self, random: Random) -> None:
        with contextlib.closing(self._connect()) as connection, connection.cursor(Cursor) as cursor:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 2, autocommit = 0")
            steps = Steps(cursor, random, self._numbers, cascades=self._cascades)
            due = time.monotonic()
            while not self._stopping.is_set():
                self._transaction(cursor, random, steps)
                # What was lost to a slow server is made up for, but not beyond a second.
                due = max(due + self._pause_s, time.monotonic() - 1)
                self._stopping.wait(max(0.0, due - time.monotonic()))

    def _transaction(self, cursor: Cursor, random: Random, steps: Steps) -> None:
        done: Counter[str] = Counter()
        for _ in range(random.choice([1, 1, 1, 2, 3, 5])):
            if not self._step(cursor, random, steps, done):
                cursor.execute("ROLLBACK")
                self.stats["transactions undone by the server"] += 1
                return
        if random.random() < 0.08:
            cursor.execute("ROLLBACK")
            self.stats["transactions rolled back"] += 1
            return
        cursor.execute("COMMIT")
        self.stats["transactions"] += 1
        self.stats.update(done)

    def _step(self, cursor: Cursor, random: Random, steps: Steps, done: Counter[str]) -> bool:
        """One step, now and then within a savepoint; False when the transaction is lost."""
        step = random.choices(list(STEPS), list(STEPS.values()))[0]
        # Every step can be undone alone: a refused one must not leave half of its statements.
        cursor.execute("SAVEPOINT step")
        try:
            step(steps)
        except pymysql.err.MySQLError as error:
            if error.args[0] not in _TOLERATED:
                raise
            self.stats[f"{step.__name__}: error {error.args[0]}"] += 1
            if error.args[0] in _ROLLED_BACK:
                return False
            cursor.execute("ROLLBACK TO SAVEPOINT step")
            return True
        if random.random() < 0.05:
            cursor.execute("ROLLBACK TO SAVEPOINT step")
            self.stats["steps rolled back"] += 1
            return True
        done[step.__name__] += 1
        return True
