"""How far the stream has come: the place in the log after the last whole transaction.

A transaction that is prepared (XA) and not yet committed or rolled back stays ahead of every
position handed out, so that a restart sees its rows again.
"""

from __future__ import annotations

from uuid import UUID

from projector.binlog.events import Gtid
from projector.position import Flavour, GtidSet, GtidSetBuilder, MariadbGtids, Position


class Progress:
    """Where the stream stands; moved by the events, frozen into positions on demand."""

    def __init__(self, start: Position, server: str) -> None:
        self._server = server
        self.file, self.offset = start.file, start.offset
        self._reading, self._reading_from = start.file, start.offset
        self.flavour: Flavour = start.flavour
        gtids = start.gtids
        self._set = GtidSetBuilder(gtids) if isinstance(gtids, GtidSet) else None
        self._domains = gtids if isinstance(gtids, MariadbGtids) else None
        self._moved: dict[int, tuple[int, int]] = {}
        self._held: dict[str, Position] = {}  # before each pending prepare, oldest first

    def open(self, file: str, offset: int) -> None:
        """Note the file that the next events are from; the place stays where it is until then.

        A stream by GTID is told of a file's beginning, although it goes on in its middle.
        """
        self._reading, self._reading_from = file, offset

    def rotate(self, file: str, offset: int) -> None:
        """Go on to another file: the log's last one is whole."""
        self.open(file, offset)
        self.file, self.offset = file, offset

    def move(self, log_pos: int) -> None:
        """Go to the end of an event. `log_pos` is modulo 2**32; 0 says nothing (MariaDB 11.4)."""
        if self.file != self._reading:
            self.file, self.offset = self._reading, self._reading_from
        if log_pos:
            self.offset += (log_pos - self.offset) & 0xFFFF_FFFF

    def add(self, gtid: Gtid) -> None:
        """Count a MySQL transaction in."""
        if self._set is not None:
            self._set.add(gtid.sid, gtid.tag, gtid.gno)

    def add_run(self, sid: bytes, first: int, last: int) -> None:
        """Count MySQL transactions of one server with consecutive numbers in."""
        if self._set is not None:
            self._set.add_interval((str(UUID(bytes=sid)), ""), first, last)

    def replace(self, domain: int, server: int, sequence: int) -> None:
        """Count a MariaDB transaction in."""
        self._moved[domain] = (server, sequence)

    def hold(self, xid: str) -> None:
        """Keep the positions to restart from before this place until `release`."""
        if self._set is None:  # with MySQL's GTIDs the prepare's own is left out instead
            self._held.setdefault(xid, self.here())

    def release(self, xid: str) -> None:
        """Let positions pass the place of a prepare."""
        self._held.pop(xid, None)

    def here(self) -> Position:
        """Freeze the place after the last whole transaction."""
        return Position(self.flavour, self._server, self.file, self.offset, self._gtids())

    def restart(self) -> Position:
        """Freeze the place to read on from after a failure."""
        return next(iter(self._held.values())) if self._held else self.here()

    def ahead(self, gtid: Gtid | None, log_pos: int) -> Position:
        """Freeze what must be visible for a transaction to be so whose end is not known yet.

        `log_pos` is the end of its first event, 0 with MySQL's GTIDs: whatever has committed
        beyond has all of it.
        """
        gtids = self._gtids()
        if gtid is not None and isinstance(gtids, GtidSet):
            gtids = gtids.add(gtid.sid, gtid.tag, gtid.gno)
        base = self.offset if self.file == self._reading else self._reading_from
        offset = base + ((log_pos - base) & 0xFFFF_FFFF if log_pos else 0)
        return Position(self.flavour, self._server, self._reading, offset, gtids)

    def _gtids(self) -> GtidSet | MariadbGtids | None:
        if self._set is not None:
            return self._set.freeze()
        if self._domains is not None and self._moved:
            for domain, (server, sequence) in self._moved.items():
                self._domains = self._domains.replace(domain, server, sequence)
            self._moved.clear()
        return self._domains
