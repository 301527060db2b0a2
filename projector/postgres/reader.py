"""Rows at or beyond a place in the log: the read barrier of PostgreSQL.

On the primary: one message opens a snapshot, asks which one it is and runs the queries; reached
when that snapshot shows every transaction that is needed, else all is done again a little later.
On a standby snapshots list no running transactions, so there the replayed LSN is compared instead,
asked in a transaction of its own before the snapshot is taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from projector import metrics
from projector.errors import RefusedError, TooMuchError, TransientError
from projector.model import KeyByTable, Need
from projector.ports import FOR_EVER, Patience
from projector.position import Position
from projector.postgres.catalog import types_of
from projector.postgres.connection import Session
from projector.postgres.dialect import settings_of
from projector.postgres.errors import PEER
from projector.postgres.position import own, parse_lsn
from projector.postgres.visibility import Snapshot
from projector.projection import Plan
from projector.projection.encoding import SentRows

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_PAUSE_MAX_S = 0.05
_SAID_AFTER_S = 2.0  # shorter waits are everyday life
_CAUSE = "the log's changes to show where documents are read"
_COUNT_S = 5  # limit of a count, which is only for a progress bar

Connect = Callable[[], Session]


class PostgresReader:
    """Implements `ports.Reader` over one connection, made when needed and dropped at an error."""

    def __init__(
        self,
        connect: Connect,
        patience: Patience = FOR_EVER,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect, self._patience, self._on_answer = connect, patience, on_answer
        self._session: Session | None = None
        self._is_standby = False
        self._system = ""

    def rows(
        self, queries: Sequence[str], need: Need, max_bytes: float = math.inf
    ) -> list[SentRows]:
        """Run queries in one snapshot that shows what is needed; see `ports.Reader`."""
        with metrics.stage.labels("fetch").time():
            return self._behind(queries, need, max_bytes)

    def close(self) -> None:
        """Drop the connection."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _behind(self, queries: Sequence[str], need: Need, max_bytes: float) -> list[SentRows]:
        started, pause_s, is_told = time.monotonic(), 0.0, False
        try:
            while (found := self._attempt(queries, need, max_bytes)) is None:
                metrics.barrier_waits.inc()
                waited_s = time.monotonic() - started
                if self._patience.is_stopping() or waited_s > self._patience.seconds:
                    raise TransientError(PEER, f"stopped while waiting for {_CAUSE}")
                if waited_s > _SAID_AFTER_S and not is_told:
                    is_told = True
                    self._patience.on_wait(_CAUSE)
                time.sleep(pause_s)
                pause_s = min(_PAUSE_MAX_S, pause_s * 2 or 0.001)
        finally:
            if is_told:
                self._patience.on_wait(None)
        return found

    def _attempt(
        self, queries: Sequence[str], need: Need, max_bytes: float
    ) -> list[SentRows] | None:
        """Read in a new snapshot; None where it does not show what is needed. A connection that has
        died since its last use is made again without a word."""
        is_used = self._session is not None
        try:
            return self._read(queries, need, max_bytes)
        except TransientError as error:
            if not is_used or error.answered or isinstance(error, TooMuchError):
                raise
        return self._read(queries, need, max_bytes)

    def _read(self, queries: Sequence[str], need: Need, max_bytes: float) -> list[SentRows] | None:
        try:
            session = self._opened()
            needed = own(need.position)
            self._require(needed.system)
            asking = "SELECT pg_current_snapshot()"
            opening = [_BEGIN, asking]
            if self._is_standby:
                opening = ["SELECT pg_last_wal_replay_lsn()", _BEGIN]
            opening += settings_of(queries[0]) if queries else []
            first, second, *found = session.rows(*opening, *queries, "COMMIT", max_bytes=max_bytes)
            found = found[len(opening) - 2 :]
        except BaseException:
            self.close()
            raise
        self._on_answer()
        [[said]] = first or second
        if self._is_standby:
            is_reached = parse_lsn((said or b"0/0").decode()) >= needed.lsn
        else:
            is_reached = Snapshot.parse((said or b"").decode()).shows(needed.unseen)
        return found[:-1] if is_reached else None

    def _opened(self) -> Session:
        if self._session is None:
            self._session = self._connect()
            self._on_answer()
            [[standby, self._system]] = self._session.ask(
                "SELECT pg_is_in_recovery(), system_identifier FROM pg_control_system()"
            )
            self._is_standby = standby == "t"  # at each opening: a standby may be promoted
        return self._session

    def _require(self, system: str) -> None:
        """Raise RefusedError on a server of another cluster than the log's: places and ids of one
        say nothing of the other."""
        if system and system != self._system:
            raise RefusedError(
                "documents would be read from another cluster than the log",
                "Name a streaming standby of the primary in PROJECTOR_SOURCE__READ_URL, or leave it"
                " out.",
            )


class PostgresDatabase:
    """Implements `ports.Database`. `connect` opens a session where documents are read."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def readers(
        self,
        position: Position,
        keys: KeyByTable,
        patience: Patience,
        on_answer: Callable[[], None] = lambda: None,
    ) -> Callable[[], PostgresReader]:
        """Return what makes readers; see `ports.Database`."""
        return lambda: PostgresReader(self._connect, patience, on_answer)

    def fitted(self, plan: Plan) -> Plan:
        """Return the plan for the types that its tables have now."""
        session = self._connect()
        try:
            return plan.fitted(types_of([plan], session), {})
        finally:
            session.close()

    def count(self, query: str) -> int:
        """Return a count as of now, 0 where that takes more than seconds: for a bar."""
        limit = f"SET LOCAL statement_timeout = {_COUNT_S * 1000}"
        try:
            session = self._connect()
        except (TransientError, RefusedError):
            return 0
        try:
            *_, rows, _ = session.run(_BEGIN, limit, query, "COMMIT")
            return int(rows[0][0] or 0)
        except (TransientError, RefusedError):
            return 0
        finally:
            session.close()
