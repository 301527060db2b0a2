"""A snapshot kept open a little behind the tail, to see what hung on a row before it went.

A cascade that the log does not show leaves nothing to look up: the rows are gone, or hang on
nothing. In a snapshot from before the change they still stand where they stood. What has changed
since the snapshot was opened is in the log, so those documents are known, and are read anew with
the ones found.

Never answers from a snapshot that may hold the change: one is used only once the tail has passed
the log's visible end, asked for once the snapshot was open. A transaction stands in the log before
it can be seen, so everything beyond that end is unseen in the snapshot (InnoDB's two-phase commit:
prepare, write the log, commit). Never knows half of what has changed: look-ups that were put off
since are put off once more; after other walks, or when too much changes, the snapshot is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import structlog

from projector import metrics
from projector.errors import OperatorError, TransientError
from projector.fetch import Fetcher
from projector.mysql.barrier import Need
from projector.mysql.cascade import Trace
from projector.mysql.connection import Connection, ServerError
from projector.mysql.position import Position
from projector.route import Values

_RENEW_S = 0.5  # while the log moves: the younger, the fewer documents have changed since
_IDLE_RENEW_S = 30.0
_CATCH_UP_S = 10.0  # an open snapshot keeps the server from tidying up; no longer, when behind
_TOUCHED_MAX = 20_000  # documents changed since it was opened
FOUND_MAX = 50_000  # documents of one kind of a cascade

log = structlog.get_logger()


@dataclass(slots=True)
class View:
    """A snapshot. `end`: of the log when it was open already; `touched`: documents written since it
    was asked for; `deferred`: look-ups put off since; `moved`: traces of rows that came to hang
    elsewhere since, by which others may have gone with what they hang on."""

    asked_at: float
    end: Future[Position]
    connection: Connection
    touched: set[str] = field(default_factory=set)
    deferred: set[tuple[str, frozenset[Values]]] = field(default_factory=set)
    moved: dict[Trace, set[Values]] = field(default_factory=dict)

    @property
    def age_s(self) -> float:
        """Seconds since it was asked for."""
        return time.monotonic() - self.asked_at

    def close(self) -> None:
        """Drop it, at once or as soon as it is open."""
        self.end.add_done_callback(lambda _: self.connection.close())


@dataclass(frozen=True, slots=True)
class Hung:
    """What may have hung on rows that are gone: documents, and look-ups that find others."""

    ids: set[str]
    deferred: Sequence[tuple[str, frozenset[Values]]]


class Hindsight:
    """Snapshots of one term: one in use, one that the tail has yet to pass. For one thread, but
    snapshots are opened by the executor's."""

    def __init__(
        self,
        fetcher: Fetcher,
        connect: Callable[[], Connection],
        log_end: Callable[[], Position],
        executor: Executor,
    ) -> None:
        self._fetcher = fetcher
        self._connect = connect
        self._log_end = log_end
        self._executor = executor
        self._view: View | None = None
        self._coming: View | None = None
        self._asked_for: Position | None = None  # where the tail was
        self._rest_until = 0.0

    def tend(self, position: Position) -> None:
        """Renew the snapshot when it is time; `position` is where the tail is. Never waits."""
        self._arrive(position)
        if self._view is not None and self._view.age_s > _IDLE_RENEW_S + _CATCH_UP_S:
            self._view.close()
            self._view = None
        if self._coming is not None or time.monotonic() < self._rest_until:
            return
        moved = position != self._asked_for
        age = self._view.age_s if self._view is not None else _IDLE_RENEW_S
        if age >= _IDLE_RENEW_S or (moved and age >= _RENEW_S):
            self._asked_for = position
            connection = self._connect()
            end = self._executor.submit(self._open, connection, Need(position, is_kept=True))
            self._coming = View(time.monotonic(), end, connection)

    def note(self, *written: Collection[str]) -> None:
        """Remember documents that the tail has written, set aside or removed."""
        for view in (self._view, self._coming):
            if view is not None:
                view.touched.update(*written)
                if len(view.touched) > _TOUCHED_MAX:
                    self.forget()

    def defer(self, deferred: Mapping[str, frozenset[Values]]) -> None:
        """Remember look-ups that were put off: their documents are not among those written."""
        for view in (self._view, self._coming):
            if view is not None:
                view.deferred.update(deferred.items())

    def move(self, moved: Mapping[Trace, set[Values]]) -> None:
        """Remember rows that hang elsewhere now: the snapshot has what hangs on them elsewhere."""
        for view in (self._view, self._coming):
            if view is not None:
                _unite(view.moved, moved)
                if sum(map(len, view.moved.values())) > _TOUCHED_MAX:
                    self.forget()

    def find(self, traces: Mapping[Trace, set[Values]]) -> Hung | None:
        """Give the documents in which rows stood, and what changed meanwhile; None when nobody can
        say."""
        found = self._found(traces) if self._view is not None else None
        metrics.cascades.labels("walk" if found is None else "snapshot").inc()
        return found

    def forget(self) -> None:
        """Drop the snapshots: they no longer tell everything."""
        for view in (self._view, self._coming):
            if view is not None:
                view.close()
        self._view = self._coming = None

    def _found(self, traces: Mapping[Trace, set[Values]]) -> Hung | None:
        assert self._view is not None
        view = self._view
        try:
            wanted = {trace: set(values) for trace, values in traces.items()}
            _unite(wanted, view.moved)
            found = self._fetcher.traced(view.connection, wanted, FOUND_MAX)
        except (TransientError, OperatorError, ServerError) as error:  # altered table, killed
            log.info("snapshot_lost", error=str(error))
            self.forget()
            return None
        return None if found is None else Hung(found | view.touched, tuple(view.deferred))

    def _arrive(self, position: Position) -> None:
        """Take the coming snapshot into use, once the tail has passed it."""
        coming = self._coming
        if coming is None:
            return
        if coming.end.done() and (error := coming.end.exception()) is not None:
            log.info("snapshot_refused", error=str(error))
            self._give_up(coming)
        elif coming.end.done() and position.surely_reaches(coming.end.result()):
            if self._view is not None:
                self._view.close()
            self._view, self._coming = coming, None
        elif coming.age_s > _CATCH_UP_S:  # the tail is far behind
            self._give_up(coming)

    def _give_up(self, coming: View) -> None:
        coming.close()
        self._coming = None
        self._rest_until = time.monotonic() + _CATCH_UP_S

    def _open(self, connection: Connection, need: Need) -> Position:
        self._fetcher.keep_snapshot(connection, need)
        return self._log_end()


def _unite(into: dict[Trace, set[Values]], more: Mapping[Trace, set[Values]]) -> None:
    for trace, values in more.items():
        into.setdefault(trace, set()).update(values)
