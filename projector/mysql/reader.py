"""Reads of documents' rows, each in one snapshot behind the barrier, in one round trip."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sqlalchemy.engine import Engine

from projector import metrics
from projector.errors import RefusedError, TransientError
from projector.model import KeyByTable, Need
from projector.mysql.barrier import Barrier, behind, choose
from projector.mysql.columns import fitted
from projector.mysql.connection import Connection
from projector.mysql.position import own
from projector.mysql.results import RawRows
from projector.ports import FOR_EVER, Patience
from projector.position import Position
from projector.projection import Plan

_CLOSING = "COMMIT"
_COUNT_S = 5  # limit of a count, which is only for a progress bar


class MysqlReader:
    """Implements `ports.Reader` over one connection."""

    def __init__(
        self, connection: Connection, barrier: Barrier, patience: Patience = FOR_EVER
    ) -> None:
        self._connection, self._barrier, self._patience = connection, barrier, patience

    def rows(
        self, queries: Sequence[str], need: Need, max_bytes: float = math.inf
    ) -> list[RawRows]:
        """Run queries in one snapshot at or beyond what is needed; see `ports.Reader`."""
        with metrics.stage.labels("fetch").time():
            results = behind(
                self._barrier, self._connection, need, self._patience, [*queries, _CLOSING],
                max_bytes, metrics.barrier_waits.inc,
            )  # fmt: skip
        return results[:-1]

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
        patience: Patience,
        on_answer: Callable[[], None] = lambda: None,
    ) -> Callable[[], MysqlReader]:
        """Return what makes readers; see `ports.Database`."""
        barrier = choose(own(position), keys, is_replica=self._is_replica)
        return lambda: MysqlReader(Connection(self.engine, on_answer), barrier, patience)

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
