"""From `pgoutput`'s messages to whole transactions.

Protocol version 1: the server sends a transaction once it has committed, from Begin to Commit,
and nothing of what was rolled back. The position after it is the Commit's *end* LSN. Never gives
out a position inside a transaction.

Old images (PostgreSQL manual, 55.9): with REPLICA IDENTITY FULL the whole row before (`O`); else
the identity's columns, and only where they have changed (`K`, for deletes always). Columns outside
the identity are NULL on the wire in a `K`: they are MISSING here, never NULL. Without an old image
the identity's columns have not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final, Protocol

from projector.errors import UndecodableLogError
from projector.model import (
    MISSING,
    Change,
    Kind,
    Row,
    RowsChange,
    TableChange,
    TableName,
    Watch,
)
from projector.postgres.relation import Relation, Shape, WatchedRelation, watched
from projector.queue import ROWS_AT_ONCE

EPOCH_S: Final = 946_684_800  # 2000-01-01 in seconds since 1970: PostgreSQL counts from there
DDL_PREFIX: Final = "projector:ddl"  # of the messages that tell of a definition: see `log`
_BYTES_AT_ONCE: Final = 8 << 20

_BEGIN = Struct(">QqI").unpack_from
_COMMIT = Struct(">xQQq").unpack_from
_OID = Struct(">I").unpack_from

_INSERT, _UPDATE, _DELETE = ord("I"), ord("U"), ord("D")
_BEGIN_TAG, _COMMIT_TAG, _RELATION_TAG = ord("B"), ord("C"), ord("R")
_TRUNCATE_TAG, _MESSAGE_TAG, _TYPE_TAG, _ORIGIN_TAG = ord("T"), ord("M"), ord("Y"), ord("O")
_KEY, _OLD = ord("K"), ord("O")


@dataclass(slots=True)
class Piece:
    """Changes in commit order: whole transactions up to `end_lsn`, or (None) a part of a large one.

    `xids` are those of the transactions, 32 bits each as the stream has them; `commit_times` in
    seconds since 1970; `rows` counts row changes, `size_bytes` is what came for them.
    """

    changes: list[Change] = field(default_factory=list)
    count: int = 0
    end_lsn: int | None = None
    xids: list[int] = field(default_factory=list)
    commit_times: list[float] = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0


class Catalog(Protocol):
    """What the stream does not say of a table."""

    def root_of(self, oid: int) -> TableName | None:
        """Return the table that a partition belongs to; None: it is none."""
        ...

    def reader(self, oid: int) -> Callable[[bytes], Any]:
        """Return what reads values of a type."""
        ...


class Assembler:
    """Takes messages in the order of the stream and hands out transactions. For one thread.

    `shapes`: of the watched tables, as they were when their definitions were learned.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        shapes: Mapping[TableName, Shape],
        catalog: Catalog,
        emit: Callable[[Piece], None],
    ) -> None:
        self._watch_by_table = {watch.table: watch for watch in watches}
        self._catalog, self._emit, self._learned = catalog, emit, shapes
        self._relations: dict[int, WatchedRelation | None] = {}
        self._shapes: dict[int, Shape] = {}
        self._whole = Piece()  # transactions that have ended and are not handed out
        self._open = Piece()  # of the one that has begun
        self._said: set[TableChange] = set()
        self._xid = 0
        self.end_lsn = 0  # of the last whole transaction
        self.is_open = False
        self.owners: Mapping[int, TableName] = {}  # see `definitions.owners`
        # Rows of one table, kind and shape that follow one another become one change.
        self._run: tuple[TableName, Kind, int] | None = None
        self._before: list[Row] = []
        self._after: list[Row] = []
        self._run_rows = 0

    def take(self, buf: bytes, at: int) -> None:
        """Take the message that begins at `at`. Raises UndecodableLogError."""
        tag = buf[at]
        if tag in (_INSERT, _UPDATE, _DELETE):
            self._take_row(tag, buf, at + 1)
        elif tag == _BEGIN_TAG:
            _, _, self._xid = _BEGIN(buf, at + 1)
            self.is_open = True
        elif tag == _COMMIT_TAG:
            self._take_commit(buf, at + 1)
        elif tag == _RELATION_TAG:
            self._take_relation(buf, at + 1)
        elif tag == _TRUNCATE_TAG:
            self._take_truncate(buf, at + 1)
        elif tag == _MESSAGE_TAG:
            self._take_message(buf, at + 1)
        elif tag not in (_TYPE_TAG, _ORIGIN_TAG):
            raise UndecodableLogError(
                f"the stream holds a message of the unknown type {chr(tag)!r}",
                "Update this program; a resync from after the message goes on without it.",
            )

    def flush(self) -> None:
        """Hand out the whole transactions that have come."""
        if self._whole.count:
            piece, self._whole = self._whole, Piece()
            piece.end_lsn = self.end_lsn
            self._emit(piece)

    def _take_commit(self, buf: bytes, at: int) -> None:
        self._end_run()
        _, self.end_lsn, micros = _COMMIT(buf, at)
        whole, came = self._whole, self._open
        whole.xids.append(self._xid)
        whole.commit_times.append(EPOCH_S + micros / 1e6)
        whole.count += 1
        whole.changes += came.changes
        whole.rows += came.rows
        whole.size_bytes += came.size_bytes
        self._open, self.is_open = Piece(), False
        self._said.clear()
        if max(whole.rows, whole.count) >= ROWS_AT_ONCE or whole.size_bytes >= _BYTES_AT_ONCE:
            self.flush()

    def _take_row(self, tag: int, buf: bytes, at: int) -> None:
        [oid] = _OID(buf, at)
        relation = self._relations.get(oid)
        if relation is None:
            if oid in self.owners:
                self._take_renamed(oid)
            return
        self._open.size_bytes += len(buf)
        at += 5  # the oid, and which image follows
        if tag == _INSERT:
            new, _ = relation.read_tuple(buf, at)
            self._add(relation, Kind.INSERT, None, new)
        elif tag == _UPDATE:
            self._take_update(relation, buf, at)
        else:
            old, _ = relation.read_tuple(buf, at)
            old = relation.of_identity(old) if buf[at - 1] == _KEY else old
            self._add(relation, Kind.DELETE, old, None)

    def _take_update(self, relation: WatchedRelation, buf: bytes, at: int) -> None:
        which = buf[at - 1]
        if which == _OLD:
            old, at = relation.read_tuple(buf, at)
            new, _ = relation.read_tuple(buf, at + 1)
            for place, value in enumerate(new):
                if value is MISSING:  # TOAST that has not changed stands in the old image
                    new[place] = old[place]
            if old == new and relation.is_whole:
                self._skip(relation.table)
                return
        elif which == _KEY:
            old, at = relation.read_tuple(buf, at)
            old = relation.of_identity(old)
            new, _ = relation.read_tuple(buf, at + 1)
        else:
            new, _ = relation.read_tuple(buf, at)
            old = relation.of_identity(new)
        self._add(relation, Kind.UPDATE, old, new)

    def _add(
        self, relation: WatchedRelation, kind: Kind, old: list[Any] | None, new: list[Any] | None
    ) -> None:
        """Add a row to the run that it continues: the router takes one shape a change."""
        width = relation.width
        before = relation.row(old[:width]) if old is not None else None
        after = relation.row(new[:width]) if new is not None else None
        shape = _missing(before) | _missing(after) << width
        run = (relation.table, kind, shape)
        if run != self._run:
            self._end_run()
            self._run = run
        if before is not None:
            self._before.append(before)
        if after is not None:
            self._after.append(after)
        self._count_row()

    def _skip(self, table: TableName) -> None:
        """Count an update of columns that nobody reads."""
        if self._run is None or self._run[:2] != (table, Kind.UPDATE):
            self._end_run()
            self._run = (table, Kind.UPDATE, 0)
        self._count_row()

    def _count_row(self) -> None:
        self._run_rows += 1
        self._open.rows += 1
        if self._open.rows >= ROWS_AT_ONCE or self._open.size_bytes >= _BYTES_AT_ONCE:
            self._relieve()

    def _end_run(self) -> None:
        if self._run is not None and self._run_rows:
            table, kind, _ = self._run
            self._open.changes.append(
                RowsChange(table, kind, self._before, self._after, self._run_rows, hides=False)
            )
            self._before, self._after = [], []
        self._run, self._run_rows = None, 0

    def _relieve(self) -> None:
        """Keep a large transaction from filling the memory: hand out what there is of it."""
        self._end_run()
        self.flush()
        piece, self._open = self._open, Piece()
        piece.xids.append(self._xid)
        self._emit(piece)

    def _take_relation(self, buf: bytes, at: int) -> None:
        relation = Relation.parse(buf, at)
        watch = self._watch_by_table.get(relation.table)
        if watch is None:
            root = self._catalog.root_of(relation.oid)
            watch = self._watch_by_table.get(root) if root is not None else None
        if watch is None:
            self._relations[relation.oid] = None
            return
        found = watched(relation, watch, self._catalog.reader)
        self._relations[relation.oid] = found
        known = self._shapes.get(relation.oid, self._learned.get(watch.table, found.shape))
        self._shapes[relation.oid] = found.shape
        if known != found.shape:
            self._say(TableChange(watch.table, "alter"))

    def _take_truncate(self, buf: bytes, at: int) -> None:
        [count] = _OID(buf, at)
        for index in range(count):
            [oid] = _OID(buf, at + 5 + 4 * index)
            relation = self._relations.get(oid)
            if relation is not None:
                self._say(TableChange(relation.table, "truncate"))
            elif oid in self.owners:
                self._take_renamed(oid)

    def _take_renamed(self, oid: int) -> None:
        """A watched table changes while it has another name."""
        self._say(TableChange(self.owners[oid], "rename"))

    def _take_message(self, buf: bytes, at: int) -> None:
        """A logical message: it may say that a definition has changed."""
        is_transactional = buf[at] & 1
        end = buf.index(b"\0", at + 9)
        if not is_transactional or buf[at + 9 : end].decode() != DDL_PREFIX:
            return
        [size] = _OID(buf, end + 1)
        text = buf[end + 5 : end + 5 + size].decode("utf-8", "replace")
        for table in self._watch_by_table:
            if text == str(table):
                self._say(TableChange(table, "alter"))

    def _say(self, change: TableChange) -> None:
        if change not in self._said:
            self._said.add(change)
            self._end_run()
            self._open.changes.append(change)


def _missing(row: Row | None) -> int:
    """Return a bit for each column that a row lacks."""
    if row is None or MISSING not in row:
        return 0
    return sum(1 << place for place, value in enumerate(row) if value is MISSING)
