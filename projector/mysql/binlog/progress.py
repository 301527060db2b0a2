"""How far the stream has come: the place in the log after the last whole transaction.

A transaction that is prepared (XA) and not yet committed or rolled back stays ahead of every
position handed out, so that a restart sees its rows again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

from projector.model import Change
from projector.mysql.binlog.events import Gtid
from projector.mysql.position import Flavour, GtidSet, GtidSetBuilder, MariadbGtids, Position

_WRAPS = 0xFFFF_FFFF  # an event's end in the log is given modulo 2**32


class Prepared(NamedTuple):
    """What a prepared transaction has changed, how many rows, and whether some of that did not
    last."""

    changes: list[Change]
    rows: int
    is_undone: bool


class Progress:
    """Where the stream stands; moved by the events, frozen into positions on demand.

    Offsets are counted from where the stream has been told to be, in the file that it reads. A
    place of the checkpoint is no start for counting: another server's file may have the same name,
    and MySQL gives transactions before it again while a prepared one is pending.
    """

    def __init__(self, start: Position, server: str, end: tuple[str, int] = ("", 0)) -> None:
        """Begin at `start`. `end`: of the server's log by now, for a start on another server: what
        the start holds lies before it, and nobody can say where."""
        self._server = server
        self._end = end
        self.flavour: Flavour = start.flavour
        is_here = start.server == server
        self.file, self.offset = (start.file, start.offset) if is_here else ("", 0)
        self._born = start.born if is_here else 0
        # MariaDB's stream begins behind this very place, but says only that the file begins.
        self._behind = (start.file, start.offset) if is_here and self._is_mariadb else ("", 0)
        self._reading, self._read_to, self._reading_born = self.file, self.offset, self._born
        gtids = start.gtids
        self._set = GtidSetBuilder(gtids) if isinstance(gtids, GtidSet) else None
        self._domains = gtids if isinstance(gtids, MariadbGtids) else None
        self._moved: dict[int, tuple[int, int]] = {}
        self._held: dict[str, Position] = {}  # before each pending prepare, oldest first
        self._prepared: dict[str, Gtid] = {}  # those that MySQL has named

    @property
    def _is_mariadb(self) -> bool:
        return self.flavour is Flavour.MARIADB

    @property
    def has_gtids(self) -> bool:
        """Whether transactions have names that positions are made of."""
        return self._set is not None or self._domains is not None

    def open(self, file: str, offset: int) -> None:
        """Note the file that the next events are from; the place stays where it is until then.

        A stream by GTID is told of a file's beginning, although it goes on in its middle.
        """
        if file != self._reading:
            self._reading_born = 0
        behind = self._behind[1] if file == self._behind[0] else 0
        self._reading, self._read_to = file, max(offset, behind)

    def describe(self, created_at: int) -> None:
        """Note when the file being read was created."""
        self._reading_born = created_at or self._reading_born
        if self.file == self._reading:
            self._born = self._reading_born

    def rotate(self, file: str, offset: int) -> None:
        """Go on to another file: the log's last one is whole."""
        self.open(file, offset)
        self._arrive()

    def move(self, log_pos: int) -> None:
        """Go to the end of an event. `log_pos` is modulo 2**32; 0 says nothing (MariaDB 11.4)."""
        if log_pos:
            self._read_to += (log_pos - self._read_to) & _WRAPS
        self._arrive()

    def add(self, gtid: Gtid) -> None:
        """Count a MySQL transaction in."""
        if self._set is not None:
            self._set.add(gtid.sid, gtid.tag, gtid.gno)

    def add_run(self, sid: bytes, first: int, last: int) -> None:
        """Count MySQL transactions of one server with consecutive numbers in."""
        if self._set is not None:
            self._set.add_interval((str(UUID(bytes=sid)), ""), first, last)

    def count_in(self, domain: int, server: int, sequence: int) -> None:
        """Count a MariaDB transaction in."""
        self._moved[domain] = (server, sequence)

    def hold(self, xid: str, gtid: Gtid | None) -> None:
        """Keep the positions to restart from before this prepare until `release`."""
        if self._set is None:
            self._held.setdefault(xid, self._frozen(self._gtids()))
        elif gtid is not None:  # left out of the set instead
            self._prepared[xid] = gtid

    def release(self, xid: str) -> None:
        """Let positions pass the place of a prepare."""
        self._held.pop(xid, None)
        gtid = self._prepared.pop(xid, None)
        if gtid is not None:
            self.add(gtid)

    def here(self) -> Position:
        """Freeze the place after the last whole transaction: how far the stream has come."""
        gtids = self._gtids()
        if self._prepared and isinstance(gtids, GtidSet):  # the server counts them as executed
            for gtid in self._prepared.values():
                gtids = gtids.add(gtid.sid, gtid.tag, gtid.gno)
        place = self._frozen(gtids)
        return place if place.file else replace(place, file=self._end[0], offset=self._end[1])

    def restart(self) -> Position:
        """Freeze the place to read on from after a failure."""
        return next(iter(self._held.values())) if self._held else self._frozen(self._gtids())

    def ahead(self, gtid: Gtid | None, log_pos: int) -> Position:
        """Freeze what must be visible for a transaction to be so whose end is not known yet.

        `log_pos` is the end of its first event, 0 with MySQL's GTIDs: whatever has committed
        beyond has all of it.
        """
        gtids = self._gtids()
        if gtid is not None and isinstance(gtids, GtidSet):
            gtids = gtids.add(gtid.sid, gtid.tag, gtid.gno)
        offset = self._read_to + ((log_pos - self._read_to) & _WRAPS if log_pos else 0)
        return Position(
            self.flavour, self._server, self._reading, offset, gtids, self._reading_born
        )

    def _arrive(self) -> None:
        self.file, self.offset, self._born = self._reading, self._read_to, self._reading_born

    def _frozen(self, gtids: GtidSet | MariadbGtids | None) -> Position:
        return Position(self.flavour, self._server, self.file, self.offset, gtids, self._born)

    def _gtids(self) -> GtidSet | MariadbGtids | None:
        if self._set is not None:
            return self._set.freeze()
        if self._domains is not None and self._moved:
            for domain, (server, sequence) in self._moved.items():
                self._domains = self._domains.replace(domain, server, sequence)
            self._moved.clear()
        return self._domains


class Ended:
    """Transactions that have ended and that the progress does not know of yet: runs of consecutive
    numbers are counted in when somebody asks for the position."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._end_pos = 0
        self._sid, self._first, self._next = b"", 0, 0

    def move(self, log_pos: int) -> None:
        """One has ended there; 0 says nothing."""
        self._end_pos = log_pos or self._end_pos

    def add(self, sid: bytes, tag: str, gno: int) -> None:
        """It has this name."""
        if tag:
            self.settle()
            self._progress.add(Gtid(sid, tag, gno, 0.0))
        else:
            self.add_run(sid, gno, gno + 1)

    def add_run(self, sid: bytes, first: int, following: int) -> None:
        """Several have, up to the one before `following`."""
        if first != self._next or sid != self._sid:
            self.settle()
            self._sid, self._first = sid, first
        self._next = following

    def settle(self) -> None:
        """Bring the progress up to the last whole transaction."""
        if self._end_pos:
            self._progress.move(self._end_pos)
            self._end_pos = 0
        if self._next > self._first:
            self._progress.add_run(self._sid, self._first, self._next - 1)
            self._first = self._next
