"""Reads of documents' rows, each in one snapshot behind the barrier, in one round trip."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from sqlalchemy.engine import Engine

from projector import metrics
from projector.errors import RefusedError, TransientError
from projector.model import KeyByTable, Need
from projector.mysql.barrier import Barrier, choose
from projector.mysql.columns import fitted
from projector.mysql.connection import Connection
from projector.mysql.position import own
from projector.mysql.results import RawRows
from projector.position import Position
from projector.projection import Plan

_CLOSING = "COMMIT"
_SAID_AFTER_S = 2.0  # at the barrier: shorter waits are everyday life
_COUNT_S = 5  # limit of a count, which is only for a progress bar
_BARRIER = "the log's changes to show where documents are read"


class MysqlReader:
    """Implements `ports.Reader` over one connection; `is_stopping` ends a wait at the barrier with
    TransientError, as `patience_s` does."""

    def __init__(
        self,
        connection: Connection,
        barrier: Barrier,
        is_stopping: Callable[[], bool] = bool,
        patience_s: float = math.inf,
        on_wait: Callable[[str | None], None] = lambda cause: None,
    ) -> None:
        self._connection = connection
        self._barrier = barrier
        self._is_stopping = is_stopping
        self._patience_s = patience_s
        self._on_wait = on_wait

    def rows(
        self, queries: Sequence[str], need: Need, max_bytes: float = math.inf
    ) -> list[RawRows]:
        """Run queries in one snapshot at or beyond what is needed; see `ports.Reader`."""
        said: list[RawRows] = []
        started, is_told = time.monotonic(), False
        try:
            with metrics.stage.labels("fetch").time():
                while True:
                    opening = self._barrier.opening(need, said)
                    results = self._connection.query_raw(
                        *opening, *queries, _CLOSING, max_bytes=max_bytes
                    )
                    said = results[: len(opening)]
                    if self._barrier.reached(need, said):
                        return results[len(opening) : -1]
                    metrics.barrier_waits.inc()
                    waited_s = time.monotonic() - started
                    if self._is_stopping() or waited_s > self._patience_s:
                        raise TransientError("mysql", f"stopped while waiting for {_BARRIER}")
                    if waited_s > _SAID_AFTER_S and not is_told:
                        is_told = True
                        self._on_wait(_BARRIER)
        finally:
            if is_told:
                self._on_wait(None)

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()


class MysqlDatabase:
    """Implements `ports.Database`. With `is_replica` it is another server than the log's."""

    def __init__(self, engine: Engine, *, is_replica: bool) -> None:
        self.engine, self._is_replica = engine, is_replica

    def readers(
        self,
        position: Position,
        keys: KeyByTable,
        *,
        is_stopping: Callable[[], bool] = bool,
        patience_s: float = math.inf,
        on_answer: Callable[[], None] = lambda: None,
        on_wait: Callable[[str | None], None] = lambda cause: None,
    ) -> Callable[[], MysqlReader]:
        """Return what makes readers; see `ports.Database`."""
        barrier = choose(own(position), keys, is_replica=self._is_replica)
        return lambda: MysqlReader(
            Connection(self.engine, on_answer), barrier, is_stopping, patience_s, on_wait
        )

    def fitted(self, plan: Plan) -> Plan:
        """Return the plan for the types that its tables have now."""
        connection = Connection(self.engine)
        try:
            return fitted(plan, connection)
        finally:
            connection.close()

    def count(self, query: str) -> int:
        """Return a count as of now, 0 where that takes more than seconds: for a bar."""
        connection = Connection(self.engine)
        try:
            [rows] = connection.query(_within(query, _COUNT_S))
            return int(rows[0][0] or 0)
        except (TransientError, RefusedError):
            return 0
        finally:
            connection.close()


def _within(sql: str, seconds: int) -> str:
    """Limit a query's time in the words of both servers: each reads the other's as a comment."""
    limited = sql.replace("SELECT", f"SELECT /*+ MAX_EXECUTION_TIME({seconds * 1000}) */", 1)
    return f"/*M! SET STATEMENT max_statement_time={seconds} FOR */ {limited}"
