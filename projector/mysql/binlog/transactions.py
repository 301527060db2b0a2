"""From events to whole transactions.

Never gives out a position inside a transaction. A transaction ends in an Xid event, a query
COMMIT or ROLLBACK (tables without transactions), an XA PREPARE in one phase, or is one statement.
What has no end when another begins was never committed (a server that crashed) and is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from struct import Struct
from typing import Final
from zlib import crc32

from projector.errors import UndecodableLogError
from projector.model import Change, Kind, RowsChange, TableChange, TableName, Transactions, Watch
from projector.mysql.binlog import events
from projector.mysql.binlog.catalog import Catalog
from projector.mysql.binlog.damage import DamagedEventError, UnlikeValueError
from projector.mysql.binlog.events import CHECKSUM_SIZE, HEADER_SIZE, Event, Gtid, Query, header
from projector.mysql.binlog.plain import know, make_scanner
from projector.mysql.binlog.progress import Ended, Prepared, Progress
from projector.mysql.binlog.statements import Watched, defined, effects, opens_transaction
from projector.mysql.binlog.tables import UNSEEN, Tables, WatchedTable
from projector.mysql.binlog.tokens import Session
from projector.mysql.position import Flavour, file_number
from projector.queue import ROWS_AT_ONCE

_WRONG_CHECKSUM: Final = "an event's checksum is wrong"
_checksum_at = Struct("<I").unpack_from

Emit = Callable[[Transactions, int], None]
Handler = Callable[[bytes, int, int], None]


class Assembler:
    """Takes events in the order of the log and emits transactions."""

    def __init__(
        self, progress: Progress, watches: Sequence[Watch], catalog: Catalog, *, folds_names: bool,
        emit: Emit,
    ) -> None:  # fmt: skip
        self.checksum_size = 0
        self.has_begun = False  # a format description has come
        self._progress, self._catalog, self._emit = progress, catalog, emit
        self._tables = Tables(watches, catalog, folds_names=folds_names)
        self._is_mariadb = progress.flavour is Flavour.MARIADB
        self._shown = events.shown(is_mariadb=self._is_mariadb)
        self._unseen = {w.table: None for w in watches if w.is_read and w.keys_unseen}
        self._acted_on: dict[TableName, None] = {}
        read = {watch.table: watch.read for watch in watches}
        self._watched = Watched(read, folds_names, self._may_act_unnamed)
        self._place = (0, 0)  # of the statement that is being understood
        self._table_by_id: dict[bytes, WatchedTable | None] = {events.DUMMY_TABLE: None}
        # Whole transactions not yet emitted, then the changes of the open one from `_tail` on.
        self._changes: list[Change] = []
        self._tail = self._rows = self._tail_rows = self._count = 0
        self._times: list[float] = []
        self._beat = self._has_undone = False
        self._is_undone = False  # some of the open transaction
        self._prepared: dict[str, Prepared] = {}
        self._payload_end: tuple[int, int] | None = None
        # The open transaction; `_gno` 0: MySQL gave it no GTID.
        self._is_open = self._holds = False
        self._sid, self._tag, self._gno = b"", "", 0
        self._mariadb_gtid: tuple[int, int, int] | None = None
        self._committed_at, self._first_end = 0.0, 0
        self._said: set[TableChange] = set()
        self._ended = Ended(progress)
        self.handlers = self._make_handlers()
        self._scanner = (
            None
            if self._unseen
            else make_scanner(self.handlers, self._shown, is_mariadb=self._is_mariadb)
        )

    # `handlers` are called with the buffer, the place of the event's header, its end but checksum.

    def _make_handlers(self) -> list[Handler | None]:
        """Return what to do by event type; None: nothing."""
        handlers: list[Handler | None] = [self._unknown] * 256
        for event in Event:
            handlers[event] = None
        for kind in events.KIND_BY_TYPE:
            handlers[kind] = self._take_acting_rows if self._unseen else self._take_rows
        for event, handler in {
            Event.QUERY: self._take_query,
            Event.QUERY_COMPRESSED: self._take_query,
            Event.EXECUTE_LOAD_QUERY: self._take_query,
            Event.ROTATE: self._take_rotate,
            Event.FORMAT_DESCRIPTION: self._take_format,
            Event.PREVIOUS_GTIDS: self._take_preamble,
            Event.XID: self._take_end,
            Event.TABLE_MAP: self._take_table_map,
            Event.INCIDENT: self._take_incident,
            Event.HEARTBEAT: self._take_heartbeat,
            Event.HEARTBEAT_V2: self._take_heartbeat,
            Event.GTID: self._take_gtid,
            Event.ANONYMOUS_GTID: self._take_odd_gtid,
            Event.GTID_TAGGED: self._take_odd_gtid,
            Event.MARIADB_GTID: self._take_mariadb_gtid,
            Event.XA_PREPARE: self._take_prepare,
        }.items():
            handlers[event] = handler
        if self._unseen and self._is_mariadb:
            handlers[Event.TABLE_MAP] = self._take_acted_on
        return handlers

    def take_plain(self, buf: bytes, at: int) -> int:
        """Take the plain transactions from a GTID's packet on; the place behind them, 0: none."""
        is_open = self._is_open or len(self._changes) > self._tail  # or without an end
        if self._scanner is None or is_open or self._payload_end is not None:
            return 0
        most = ROWS_AT_ONCE - max(self._rows, self._count)
        found = self._scanner.scan(buf, at, self.checksum_size, most, self._table_by_id)
        if found is None:
            return 0
        stop, end_pos, times, changes, rows, name, last = found
        self._changes += changes
        self._times += times
        self._ended.move(end_pos)
        if self._is_mariadb:
            self._mariadb_gtid, self._first_end = name, last
            self._progress.count_in(*name)
        else:
            self._sid, self._committed_at = name[0], last
            self._ended.add_run(*name)
        self._are_whole(len(times), rows)
        return int(stop)

    def flush(self, *, is_head: bool) -> None:
        """Emit the whole transactions that have come; a heartbeat is emitted at the head only."""
        if not self._count and not self._tail and not (self._beat and is_head):
            return
        self._ended.settle()
        whole = self._changes[: self._tail]
        del self._changes[: self._tail]
        rows, self._rows, self._tail, self._beat = self._rows, 0, 0, False
        count, times, undone = self._count, self._times, self._has_undone
        self._count, self._times, self._has_undone = 0, [], False
        restart, here = self._progress.restart(), self._progress.here()
        self._emit(Transactions(whole, count, restart, here, times, is_head, undone), rows)

    def begin_payload(self, buf: bytes, at: int) -> None:
        """The events that follow come from inside a compressed transaction."""
        seconds, _, _, _, log_pos, _ = header(buf, at)
        self._payload_end = (seconds, log_pos)
        self.checksum_size = 0

    def end_payload(self, checksum_size: int) -> None:
        """The compressed transaction has been taken."""
        self._payload_end = None
        self.checksum_size = checksum_size

    def _take_rows(self, buf: bytes, at: int, end: int) -> None:
        try:
            watched = self._table_by_id[buf[at + 19 : at + 25]]
        except KeyError:
            raise DamagedEventError("rows of a table that the log has not described") from None
        if watched is None:
            return
        if self.checksum_size and crc32(buf[at:end]) != _checksum_at(buf, end)[0]:
            raise DamagedEventError(_WRONG_CHECKSUM)
        table, decoder, watch = watched
        kind = buf[at + 4]
        if decoder is None:
            is_told = watch.keys_unseen and self._is_mariadb  # by the tables that it acts on
            may_act = events.may_act(buf, at, end, self._shown)
            if watch.is_read or (may_act and not is_told):
                self._say(TableChange(table, "undecodable"))
            elif events.KIND_BY_TYPE[kind] is Kind.INSERT:
                self._changes.append(watched.unread())
            return
        try:
            before, after, count = decoder.decode(kind, buf, at + HEADER_SIZE, end)
        except UnlikeValueError:
            self._say(TableChange(table, "undecodable"))
            return
        hides = not buf[at + 25] & self._shown
        change = (table, events.KIND_BY_TYPE[kind], before, after, count, hides)
        self._changes.append(_new(RowsChange, change))  # a third of the time of RowsChange()
        self._tail_rows += count
        if self._tail_rows >= ROWS_AT_ONCE:
            self._relieve()

    def _take_table_map(self, buf: bytes, at: int, end: int) -> None:
        body = buf[at + HEADER_SIZE : end]
        watched = self._tables.lookup(body, UNSEEN)
        if watched is UNSEEN:
            self.verify(buf, at, end)
            watched = self._tables.add(body)
        self._table_by_id[body[:6]] = watched
        if self._scanner is not None:
            know(self._scanner, body, watched)

    # Only where the account is not shown by which foreign keys watched rows change (`_unseen`).
    # MariaDB maps, before the rows of a statement, each table that its keys act on.

    def _take_acted_on(self, buf: bytes, at: int, end: int) -> None:
        self._take_table_map(buf, at, end)
        watched = self._table_by_id[buf[at + HEADER_SIZE : at + HEADER_SIZE + 6]]
        if watched is not None and watched.table in self._unseen:
            self._acted_on[watched.table] = None

    def _take_acting_rows(self, buf: bytes, at: int, end: int) -> None:
        self._take_rows(buf, at, end)
        if events.may_act(buf, at, end, self._shown):
            own = self._table_by_id[buf[at + 19 : at + 25]]
            for table in self._acted_on if self._is_mariadb else self._unseen:
                if own is None or own.table != table:
                    self._say(TableChange(table, "cascade"))
        if buf[at + 25] & events.ENDS_STATEMENT:
            self._acted_on.clear()

    def _take_gtid(self, buf: bytes, at: int, end: int) -> None:
        if self._is_open:
            self._drop_unfinished()
        self.verify(buf, at, end)
        if end - at < HEADER_SIZE + events.GTID_SIZE:
            self._take_odd_gtid(buf, at, end)
            return
        self._sid, self._gno, micros = events.gtid_at(buf, at + HEADER_SIZE)
        self._committed_at = (micros & events.MICROSECONDS_MASK) / 1e6

    def _take_odd_gtid(self, buf: bytes, at: int, end: int) -> None:
        """A GTID with a tag, from before MySQL 8.0, or none at all."""
        self._drop_unfinished()
        self.verify(buf, at, end)
        is_tagged = buf[at + 4] == Event.GTID_TAGGED
        gtid = events.tagged_gtid(buf, at, end) if is_tagged else events.gtid(buf, at, end)
        self._committed_at = gtid.committed_at
        if buf[at + 4] == Event.ANONYMOUS_GTID:
            self._first_end = header(buf, at)[4]
        else:
            self._sid, self._tag, self._gno = gtid.sid, gtid.tag, gtid.gno

    def _take_mariadb_gtid(self, buf: bytes, at: int, end: int) -> None:
        self._drop_unfinished()
        self.verify(buf, at, end)
        self._holds = False
        domain, server, sequence, lone, prepares = events.mariadb_gtid(buf, at, end)
        self._mariadb_gtid = (domain, server, sequence)
        self._is_open, self._holds = not lone, prepares
        self._first_end = header(buf, at)[4]

    def _take_query(self, buf: bytes, at: int, end: int) -> None:
        if buf[end - 6 : end] == b"\0BEGIN":
            self._is_open = True
        elif buf[end - 7 : end] == b"\0COMMIT":
            self._take_end(buf, at, end)
        else:
            self.verify(buf, at, end)
            kind = buf[at + 4]
            query = events.query(buf, at, end, load=kind == Event.EXECUTE_LOAD_QUERY)
            if kind == Event.QUERY_COMPRESSED:
                query = query._replace(text=events.decompress(query.text))
            self._statement(query, buf, at, end)

    def _statement(self, query: Query, buf: bytes, at: int, end: int) -> None:
        text = query.text
        words = text[:64].upper().split()
        first, second = (*words[:2], b"", b"")[:2]
        if first == b"XA":
            self._take_xa(second, text, buf, at, end)
        elif first == b"BEGIN":
            self._is_open = True
        elif first == b"COMMIT" or (first == b"ROLLBACK" and second != b"TO"):
            # A rollback is logged when tables without transactions have been changed.
            self._is_undone |= first == b"ROLLBACK"
            self._take_end(buf, at, end)
        elif first == b"ROLLBACK":  # to a savepoint
            self._is_undone = True
        elif first != b"SAVEPOINT":
            self._take_effects(query, header(buf, at)[4])
            if opens_transaction(text):
                self._is_open = True
            elif not self._is_open:
                self._take_end(buf, at, end)

    def _take_effects(self, query: Query, log_pos: int) -> None:
        """Tell what a statement did to watched tables."""
        session = Session(query.charset, query.mode)
        if self._catalog.sees_all:
            self._catalog.note_defined(defined(query.text, session))
        self._ended.settle()
        place = self._progress.ahead(None, log_pos)
        self._place = (file_number(place.file), place.offset)
        for table, said, moves_columns in effects(query.text, query.schema, self._watched, session):
            reason = said
            if table is not None:
                was_early = self._catalog.was_early(table, place.file, place.offset)
                if reason is None and moves_columns and was_early:
                    reason = "alter"
                self._tables.forget(table)
            elif moves_columns:  # some definition changed, nobody can read whose
                for each in self._watched.read:
                    self._tables.forget(each)
            if self._scanner is not None:
                self._scanner.forget()
            if reason is not None:
                self._say(TableChange(table, reason))

    def _may_act_unnamed(self, names: Collection[str]) -> bool:
        return self._catalog.may_act_unnamed(names, self._place)

    def _take_xa(self, verb: bytes, text: bytes, buf: bytes, at: int, end: int) -> None:
        if verb in (b"START", b"BEGIN"):
            self._is_open = self._holds = True
        elif verb in (b"COMMIT", b"ROLLBACK"):
            xid = events.xid_text(text.split(None, 2)[2])
            prepared = self._prepared.pop(xid, None)
            if verb == b"COMMIT" and prepared is None:
                self._say(TableChange(None, "prepared"))
            elif prepared is not None:
                if verb == b"COMMIT":
                    self._changes += prepared.changes
                    self._tail_rows += prepared.rows
                    self._is_undone |= prepared.is_undone
                self._progress.release(xid)
            self._take_end(buf, at, end)

    def _take_prepare(self, buf: bytes, at: int, end: int) -> None:
        self.verify(buf, at, end)
        xid, commits = events.prepared_xid(buf, at, end)
        if commits:
            self._take_end(buf, at, end)
            return
        self.flush(is_head=False)
        changes = self._changes[self._tail :]
        del self._changes[self._tail :]
        self._prepared[xid] = Prepared(changes, self._tail_rows, self._is_undone)
        self._ended.settle()
        self._progress.hold(xid, self._named())
        self._tail_rows, self._tag, self._gno = 0, "", 0
        self._take_end(buf, at, end)
        self._count -= 1
        self._times.pop()

    def _take_end(self, buf: bytes, at: int, end: int) -> None:
        """The open transaction is whole."""
        if self._payload_end is not None:
            seconds, log_pos = self._payload_end
        else:
            seconds, _, _, _, log_pos, _ = header(buf, at)
        self._ended.move(log_pos)
        if self._gno:
            self._ended.add(self._sid, self._tag, self._gno)
            self._tag = ""
        elif self._mariadb_gtid is not None:
            self._progress.count_in(*self._mariadb_gtid)
        self._times.append(self._committed_at or seconds)
        self._are_whole(1, self._tail_rows)

    def _are_whole(self, count: int, rows: int) -> None:
        """So many transactions have ended."""
        self._count += count
        self._tail = len(self._changes)
        self._rows += rows
        self._has_undone |= self._is_undone
        self._is_open = self._holds = self._is_undone = False
        self._tail_rows = self._gno = 0
        self._said.clear()
        if self._rows >= ROWS_AT_ONCE or self._count >= ROWS_AT_ONCE:
            self.flush(is_head=False)

    def _named(self) -> Gtid | None:
        """The open transaction's name, if the server gave it one."""
        return Gtid(self._sid, self._tag, self._gno, self._committed_at) if self._gno else None

    def _take_rotate(self, buf: bytes, at: int, end: int) -> None:
        self._ended.settle()
        file, offset = events.rotate(buf, at, end + self.checksum_size)
        if header(buf, at)[5] & events.ARTIFICIAL_FLAG or header(buf, at)[0] == 0:
            self._progress.open(file, offset)
        else:
            self._drop_unfinished()
            self._progress.rotate(file, offset)

    def _take_format(self, buf: bytes, at: int, end: int) -> None:
        end_with_checksum = end + self.checksum_size
        self.checksum_size = CHECKSUM_SIZE if events.has_checksum(buf, end_with_checksum) else 0
        self._drop_unfinished()
        self._table_by_id = {events.DUMMY_TABLE: None}
        self._ended.settle()
        self._progress.describe(header(buf, at)[0])
        self._take_preamble(buf, at, end)
        self.has_begun = True

    def _take_preamble(self, buf: bytes, at: int, end: int) -> None:
        """What stands in a file before its first transaction is passed: without GTIDs the log would
        never be read to its end."""
        _, _, _, _, log_pos, flags = header(buf, at)
        if log_pos and not flags & events.ARTIFICIAL_FLAG and not self._progress.has_gtids:
            self._progress.move(log_pos)

    def _take_heartbeat(self, buf: bytes, at: int, end: int) -> None:
        self._beat = True
        self._catalog.read_clock()

    def _take_incident(self, buf: bytes, at: int, end: int) -> None:
        """The server says that its log may lack changes."""
        self._say(TableChange(None, "undecodable"))
        if not self._is_open:
            self._take_end(buf, at, end)

    def _unknown(self, buf: bytes, at: int, end: int) -> None:
        _, kind, _, _, _, flags = header(buf, at)
        if not flags & events.IGNORABLE_FLAG:
            raise UndecodableLogError(
                f"the log holds an event of the unknown type {kind} in {self._progress.file}",
                "Update this program; a resync after the event's end goes on without it.",
            )

    def verify(self, buf: bytes, at: int, end: int) -> None:
        """Compare an event's checksum, if it has one. Raises DamagedEventError."""
        if self.checksum_size and crc32(buf[at:end]) != _checksum_at(buf, end)[0]:
            raise DamagedEventError(_WRONG_CHECKSUM)

    def _say(self, change: TableChange) -> None:
        if change not in self._said:
            self._said.add(change)
            self._changes.append(change)

    def _relieve(self) -> None:
        """Keep a large transaction from filling the memory."""
        if self._holds:  # not committed: nothing may be given out, so keep the tables only
            tables = {change.table for change in self._changes[self._tail :]}
            self._changes[self._tail :] = [TableChange(table, "prepared") for table in tables]
            self._tail_rows = len(tables)
            return
        if self._tail or self._count:
            self.flush(is_head=False)
        changes, rows = self._changes, self._tail_rows
        self._changes, self._tail_rows = [], 0
        self._ended.settle()
        barrier = self._progress.ahead(self._named(), self._first_end)
        undone, self._is_undone = self._is_undone, False
        self._emit(Transactions(changes, 0, None, barrier, (), has_undone=undone), rows)

    def _drop_unfinished(self) -> None:
        """Forget a transaction that has begun and not ended."""
        self._has_undone |= self._is_open  # pieces of it may have been given out
        self._is_undone = False
        del self._changes[self._tail :]
        self._is_open = self._holds = False
        self._tail_rows, self._tag, self._gno = 0, "", 0
        self._said.clear()


_new = tuple.__new__
