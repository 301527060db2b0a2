"""Snapshots kept open a little behind the tail, with what the log has changed since.

Never asks a snapshot that may hold the change in question: one is used only once the tail has
passed the log's visible end, asked for once the snapshot was open. A transaction stands in the log
before it can be seen, so everything beyond that end is unseen in the snapshot (InnoDB's two-phase
commit: prepare, write the log, commit). Never forgets a reference: an overlay holds every image
that a row has had since the snapshot was asked for.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import structlog

from projector.model import MISSING, Need, Row, TableName
from projector.mysql.connection import Connection
from projector.mysql.linked import Edge, Linked, Values
from projector.position import Position

_RENEW_S = 0.5  # while the log moves: the younger, the smaller the overlay
_IDLE_RENEW_S = 30.0
_CATCH_UP_S = 10.0  # an open snapshot keeps the server from purging; no longer, when behind
_OVERLAY_IMAGES = 50_000

Clock = Callable[[], float]
OpenAt = Callable[[Connection, Need, Callable[[], bool]], Position]

log = structlog.get_logger()


class Overlay:
    """Rows as the log has changed them since a snapshot was asked for.

    Holds every image of a row in order, by its primary key and by what it references; and whether
    the log told it, or it was concluded from a foreign key.
    """

    def __init__(self) -> None:
        self._images: dict[tuple[TableName, Values], dict[Row, bool]] = {}
        self._keys_by_edge: dict[int, dict[Values, dict[Values, None]]] = {}
        self.size = 0

    def add(self, table: Linked, row: Row, *, is_logged: bool) -> None:
        """Remember an image and what it references."""
        key = table.key_of(row)
        images = self._images.setdefault((table.name, key), {})
        images.pop(row, None)
        images[row] = is_logged
        self.size += 1
        for edge in table.inward:
            values = tuple(row[i] for i in edge.referencing)
            if None not in values:
                by_reference = self._keys_by_edge.setdefault(edge.number, {})
                by_reference.setdefault(folded(values), {})[key] = None

    def images(self, table: TableName, key: Values) -> dict[Row, bool]:
        """Return what a row has been since the snapshot, the last image last."""
        return self._images.get((table, key), {})

    def referencing(self, edge: Edge, references: Collection[Values]) -> Iterable[Values]:
        """Return the primary keys of rows that may have had one of these references (folded) since
        the snapshot."""
        by_reference = self._keys_by_edge.get(edge.number, {})
        asked = by_reference if UNKNOWN in references else (*references, UNKNOWN)
        return dict.fromkeys(key for each in asked for key in by_reference.get(each, ()))


# Which ASCII characters some collation of MySQL 9.7 or MariaDB 11.8 takes for one, beside the two
# cases of a letter: Lithuanian, Latvian, Roman and Latin, swe7, Big5, GBK, macce, geostd8.
_ALIKE: Final = str.maketrans("jy~^vn`@{|}", "iiiiumee[\\]")
UNKNOWN: Final[Values] = ("unknown", "unknown", "unknown")  # what may equal anything


def folded(values: Values) -> Values:
    """Return what is the same for values that any collation takes for equal, or UNKNOWN.

    Between texts of plain ASCII only case, a few letters and signs, and spaces at the end may not
    count. Others may equal one another, and such ones, in ways that only their collation knows.
    """
    for value in values:
        if value is MISSING:
            return UNKNOWN
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            return UNKNOWN
    return tuple(
        v.rstrip(" ").lower().translate(_ALIKE) if isinstance(v, str) else v for v in values
    )


def may_equal(first: Values, others: Collection[Values]) -> bool:
    """Whether folded values may be equal to one of the others, folded too."""
    return first is UNKNOWN or first in others or UNKNOWN in others


@dataclass(slots=True)
class View:
    """A snapshot with its overlay. `end`: the log's visible end once it was open; `dropped`: set
    when nobody wants it any more."""

    asked_at: float
    connection: Connection
    end: Future[Position]
    dropped: threading.Event
    overlay: Overlay = field(default_factory=Overlay)

    def close(self) -> None:
        """Drop it, at once or as soon as it is open."""
        self.dropped.set()
        self.end.cancel()
        self.end.add_done_callback(lambda _: self.connection.close())


class Snapshots:
    """One snapshot in use and one that the tail has yet to pass.

    For one thread; `open_at` runs in another: it opens a snapshot at or beyond what is needed, on
    the connection that it is given, and returns the log's visible end; it gives up when what it is
    given says that nobody wants it any more.
    """

    def __init__(
        self, connect: Callable[[], Connection], open_at: OpenAt, clock: Clock = time.monotonic
    ) -> None:
        self._connect, self._open_at, self._clock = connect, open_at, clock
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self.current: View | None = None
        self._coming: View | None = None
        self._asked_for: Position | None = None  # where the tail was
        self._asked_at = -math.inf
        self._rest_until = 0.0

    def tend(self, need: Need, *, may_ask: bool = True) -> None:
        """Bring a snapshot into use that the tail has passed, and ask for a younger one. `need`:
        what the tail has met. Never waits.

        `may_ask` False: what was read last is not whole, or nobody could wait for it to show. A
        snapshot asked for now could lack it, and so would its overlay."""
        self._arrive(need.position)
        if self.current is not None and self._age_s(self.current) > _IDLE_RENEW_S + _CATCH_UP_S:
            self.current.close()
            self.current = None
        if self._coming is not None or not may_ask or self._clock() < self._rest_until:
            return
        if self._clock() - self._asked_at < _RENEW_S:
            return  # what was asked for then has been forgotten already
        has_moved = need.position != self._asked_for
        age_s = self._age_s(self.current) if self.current is not None else _IDLE_RENEW_S
        if age_s >= _IDLE_RENEW_S or (has_moved and age_s >= _RENEW_S):
            self._asked_for, self._asked_at = need.position, self._clock()
            connection, dropped = self._connect(), threading.Event()
            end = self._executor.submit(self._open_at, connection, need, dropped.is_set)
            self._coming = View(self._asked_at, connection, end, dropped)

    def note(self, table: Linked, rows: Iterable[Row], *, is_logged: bool) -> None:
        """Remember images of rows in the overlays."""
        for view in (self.current, self._coming):
            if view is not None:
                for row in rows:
                    view.overlay.add(table, row, is_logged=is_logged)
                if view.overlay.size > _OVERLAY_IMAGES:
                    self.forget()

    @property
    def are_kept(self) -> bool:
        """Whether anything needs to be noted."""
        return self.current is not None or self._coming is not None

    def forget(self) -> None:
        """Drop the snapshots: their overlays no longer tell everything."""
        for view in (self.current, self._coming):
            if view is not None:
                view.close()
        self.current = self._coming = None

    def close(self) -> None:
        """Drop the snapshots for good."""
        self.forget()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _age_s(self, view: View) -> float:
        return self._clock() - view.asked_at

    def _arrive(self, position: Position) -> None:
        """Take the coming snapshot into use, once the tail has passed it."""
        coming = self._coming
        if coming is None:
            return
        if coming.end.done() and (error := coming.end.exception()) is not None:
            log.info("snapshot_refused", error=str(error))
            self._give_up(coming)
        elif coming.end.done() and position.surely_reaches(coming.end.result()):
            if self.current is not None:
                self.current.close()
            self.current, self._coming = coming, None
        elif self._age_s(coming) > _CATCH_UP_S:  # the tail is far behind
            self._give_up(coming)

    def _give_up(self, coming: View) -> None:
        coming.close()
        self._coming = None
        self._rest_until = self._clock() + _CATCH_UP_S
