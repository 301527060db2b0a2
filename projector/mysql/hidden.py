"""Completes a log that lacks the rows which foreign keys change.

InnoDB itself carries out ON DELETE and ON UPDATE actions; only MySQL from 9.6 on logs their rows
(`innodb_native_foreign_keys=OFF`), and says so in each event. Elsewhere the log shows the parent's
row alone. Here the missing changes are made: when a parent's row is deleted or gets another key,
the rows that reference it are looked up, and their changes follow it in the same transaction,
recursively, as MySQL 9.6 would have logged them. Whoever reads the log need not know that foreign
keys exist.

Where the rows are found: in a snapshot a little behind the tail, where they still stand, and in an
overlay of the rows that the log has changed since (see `snapshots`). A row is taken with every
image that it has had, so that an action which did not take place (`foreign_key_checks=0`) costs a
needless read and no missed one. Where nobody can say which rows are meant, a table change follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any

import structlog

from projector import metrics
from projector.errors import OperatorError, TransientError
from projector.model import (
    MISSING,
    Change,
    Kind,
    Row,
    RowsChange,
    TableChange,
    TableName,
    Transactions,
)
from projector.mysql.connection import ServerError
from projector.mysql.linked import Edge, Linked, Values
from projector.mysql.literals import writer_for
from projector.mysql.snapshots import Snapshots, View, folded, may_equal
from projector.projection.columns import APPROXIMATE, BINARIES, INTEGERS, ColumnType, TableTypes
from projector.projection.keys import among

SAVEPOINT = "hidden"
_DEPTH = 15  # FK_MAX_CASCADE_DEL in storage/innobase/include/row0mysql.h: InnoDB refuses more
_FOUND_ROWS = 100_000  # in one read
_VALUES_AT_ONCE = 1000
_UNKNOWN = "cascade"  # the reason of table changes made here

# By data type; what is not here stays a text.
_READ: Mapping[str, Callable[[bytes], Any]] = {
    **dict.fromkeys([*INTEGERS, "year"], int),
    **dict.fromkeys(APPROXIMATE, float),
    **dict.fromkeys(BINARIES, bytes),
    "bit": partial(int.from_bytes, byteorder="big"),
    "decimal": lambda value: Decimal(value.decode()),
}

log = structlog.get_logger()


class Completer:
    """Adds to transactions what foreign keys did behind them. For one thread.

    `types`: of the columns of linked tables, by which values of the snapshot become what the log
    would have given.
    """

    def __init__(
        self,
        tables: Mapping[TableName, Linked],
        types: Mapping[TableName, TableTypes],
        snapshots: Snapshots,
    ) -> None:
        self._tables, self._snapshots = tables, snapshots
        self._types = types
        self._left = 0  # of _FOUND_ROWS, in this read
        self._told: dict[TableChange, None] = {}  # in this read
        self.is_inside = False  # a transaction of which a piece has come

    def complete(self, transactions: Transactions) -> Transactions:
        """Return the transactions with the missing changes, each behind the one it follows from."""
        tables = self._tables
        if not tables:
            return transactions
        if transactions.has_undone and self.is_inside:
            self._snapshots.forget()  # what was noted of the pieces before may be undone
        self.is_inside = transactions.position is None
        self._left = _FOUND_ROWS
        self._told.clear()
        changes: list[Change] = []
        for change in transactions.changes:
            changes.append(change)
            if change.table is None:
                self._snapshots.forget()  # any row may have changed
            elif (table := tables.get(change.table)) is not None:
                is_last = not (transactions.has_undone or table.is_versioned)
                self._note(table, change, is_logged=is_last)
                if table.outward:
                    changes += self._consequences(table, change)
        if len(changes) == len(transactions.changes):
            return transactions
        return replace(transactions, changes=changes)

    def _note(self, table: Linked, change: Change, *, is_logged: bool) -> None:
        if isinstance(change, TableChange):
            self._snapshots.forget()
        elif table.inward and change.after and self._snapshots.are_kept:
            rows = change.after
            if change.kind is Kind.UPDATE:
                rows = _noteworthy(change)
            if any(MISSING in table.key_of(row) for row in rows):
                self._snapshots.forget()
            else:
                self._snapshots.note(table, rows, is_logged=is_logged)

    def _consequences(self, table: Linked, change: Change) -> list[Change]:
        """Follow a change of a parent to its children, to theirs and so on."""
        if isinstance(change, TableChange):
            self._told[change] = None
        elif not change.hides:
            return []
        found: list[Change] = []
        followed: set[tuple[int, Kind, Values]] = set()
        pending = deque((cause, 0) for cause in _meant(table, change))
        asked: set[str] = set()
        while pending:
            cause, depth = pending.popleft()
            assert cause.table is not None
            for edge in self._tables[cause.table].outward:
                made = self._caused(edge, cause, followed)
                if made is None:
                    continue
                asked.add("walk" if isinstance(made, TableChange) else "snapshot")
                if self._take(edge, cause, made):
                    found.append(made)
                    if depth < _DEPTH and self._tables[edge.key.child].outward:
                        pending.append((made, depth + 1))
        if asked and isinstance(change, RowsChange):
            metrics.cascades.labels("walk" if "walk" in asked else "snapshot").inc()
        return found

    def _take(self, edge: Edge, cause: Change, made: Change) -> bool:
        """Note what a foreign key did; whether it is anything new."""
        if isinstance(made, RowsChange):
            self._note(self._tables[edge.key.child], made, is_logged=False)
            return bool(made.before)
        if _adds_references(edge, cause):
            self._snapshots.forget()
        is_new = made not in self._told
        self._told[made] = None
        return is_new

    def _caused(
        self, edge: Edge, cause: Change, followed: set[tuple[int, Kind, Values]]
    ) -> Change | None:
        """Return what one foreign key did, if it acts; without rows it did nothing. `followed`:
        what has been asked for already, for keys may lead around in a circle."""
        child = edge.key.child
        if isinstance(cause, TableChange):
            return TableChange(child, cause.reason)
        action = edge.action(cause.kind)
        if not action:
            return None
        changed = _keys_changed(edge, cause)
        if changed is None:
            return TableChange(child, _UNKNOWN)
        new_by_old = {
            old: new
            for old, new in changed.items()
            if (edge.number, cause.kind, old) not in followed
        }
        if not new_by_old:
            return None
        followed.update((edge.number, cause.kind, old) for old in new_by_old)
        rows = None if self._told_of(child) else self._rows(edge, new_by_old)
        if rows is None:
            return self._told_of(child) or TableChange(child, _UNKNOWN)
        return _carried_out(edge, action, cause.kind, rows, new_by_old)

    def _told_of(self, table: TableName) -> TableChange | None:
        """Return what this read has told already of a table as a whole."""
        return next((each for each in self._told if each.table == table), None)

    def _rows(self, edge: Edge, values: Collection[Values]) -> list[Row] | None:
        """Return the children's rows that may reference these values, with all their images since
        the snapshot; None when nobody can say."""
        view = self._snapshots.current
        if view is None or self._left < 0:
            return None
        child = self._tables[edge.key.child]
        try:
            found = self._ask(view, edge, child, values)
        except (TransientError, OperatorError, ServerError) as error:  # altered table, killed
            log.info("snapshot_lost", error=str(error))
            self._snapshots.forget()
            return None
        references = {folded(wanted) for wanted in values}
        if not all(_may_reference(edge, row, references) for row in found):
            return None  # equal to the server and not to us: the overlay's rows cannot be judged
        images: dict[Values, dict[Row, None]] = {}
        for row in found:
            images.setdefault(child.key_of(row), {})[row] = None
        for key in view.overlay.referencing(edge, references):
            images.setdefault(key, {})
        rows: list[Row] = []
        for key, known in images.items():
            since = view.overlay.images(edge.key.child, key)
            if since:
                last = next(reversed(since))
                if since[last] and not _may_reference(edge, last, references):
                    continue
            rows += dict.fromkeys([*known, *since])
        self._left -= len(rows)
        return rows if self._left >= 0 else None

    def _ask(self, view: View, edge: Edge, child: Linked, values: Iterable[Values]) -> list[Row]:
        """Read rows from the snapshot, at most one more than may be found."""
        types = self._types[child.name]
        kinds = [types.get(name.lower()) for name in child.watch.columns]
        columns = ", ".join(map(_spelled, child.watch.columns))
        own = [_spelled(name) for name in edge.key.columns]
        writers = [writer_for(types.get(name)) for name in edge.key.columns]
        table = ".".join(map(_spelled, child.name))
        digests = (None,) * len(child.watch.bases)
        rows: list[Row] = []
        remaining = iter(values)
        while len(rows) <= self._left and (part := list(islice(remaining, _VALUES_AT_ONCE))):
            limit = self._left - len(rows) + 1
            sql = f"SELECT {columns} FROM {table} WHERE {among(own, part, writers)} LIMIT {limit}"
            # The savepoint gives the metadata locks back, for which an ALTER TABLE would wait;
            # MariaDB keeps them until the snapshot is renewed.
            found, _ = view.connection.query_raw(sql, f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
            try:
                rows += [(*map(_as_logged, kinds, row), *digests) for row in found]
            except (ValueError, ArithmeticError):
                said = f"{child.name} has values of other types than were known"
                raise TransientError("mysql", said) from None
        return rows


def _as_logged(kind: ColumnType | None, value: bytes | None) -> Any:
    """Return what the log's decoder gives for a value that the server has written as text."""
    if value is None:
        return None
    return _READ.get(kind.kind if kind is not None else "", bytes.decode)(value)


def _meant(table: Linked, change: Change) -> list[Change]:
    """Return what a change in the log may have been: of a versioned table, rows that an update
    leaves as they were may have been deleted."""
    if not table.is_versioned or isinstance(change, TableChange) or change.kind is not Kind.UPDATE:
        return [change]
    pairs = zip(change.before, change.after, strict=True)
    ended = [before for before, after in pairs if _merged(before, after) == before]
    return [change, RowsChange(table.name, Kind.DELETE, ended, (), len(ended))]


def _adds_references(edge: Edge, cause: Change) -> bool:
    """Whether unknown rows may reference by now what they did not before."""
    if isinstance(cause, TableChange):
        return False  # whoever did not know the parent's rows has dropped the snapshots already
    action = edge.action(cause.kind)
    return action == "SET DEFAULT" or (cause.kind is Kind.UPDATE and action == "CASCADE")


def _merged(before: Row, after: Row) -> Row:
    """Return a row as it is after an update: what the image after lacks has not changed."""
    return tuple(b if a is MISSING else a for b, a in zip(before, after, strict=True))


def _noteworthy(change: RowsChange) -> list[Row]:
    """Return rows as they are after an update, without those of which it changes nothing watched
    and the log has but the key (binlog_row_image=MINIMAL): what they refer to is known from before.
    """
    pairs = [(old, _merged(old, new)) for old, new in zip(change.before, change.after, strict=True)]
    return [new for old, new in pairs if new != old or MISSING not in new]


def _may_reference(edge: Edge, row: Row, references: Collection[Values]) -> bool:
    return may_equal(folded(tuple(row[i] for i in edge.referencing)), references)


def _keys_changed(edge: Edge, cause: RowsChange) -> dict[Values, Values | None] | None:
    """Return what was referenced, with what takes its place (None: nothing); None where the log
    does not say, as it may leave out what is computed."""
    found: dict[Values, Values | None] = {}
    afters: Sequence[Row | None] = cause.after or [None] * len(cause.before)
    for before, after in zip(cause.before, afters, strict=True):
        old = tuple(before[i] for i in edge.referenced)
        new = None
        if after is not None:
            changed = tuple(after[i] for i in edge.referenced)
            if MISSING in changed and any(before[i] != after[i] for i in edge.bases):
                return None
            new = _merged(old, changed)
            if new == old:
                continue
        if MISSING in old:
            return None
        if None not in old:  # nothing references NULL
            found[old] = new
    return found


def _carried_out(
    edge: Edge,
    action: str,
    kind: Kind,
    rows: list[Row],
    new_by_old: Mapping[Values, Values | None],
) -> Change:
    child = edge.key.child
    if kind is Kind.DELETE and action == "CASCADE":
        return RowsChange(child, Kind.DELETE, rows, (), len(rows))
    nothing = (None,) * len(edge.referencing)
    references = {folded(values) for values in new_by_old}
    before: list[Row] = []
    after: list[Row] = []
    for row in rows:
        old = tuple(row[i] for i in edge.referencing)
        if MISSING in old or action == "SET DEFAULT":
            return TableChange(child, _UNKNOWN)
        if not may_equal(folded(old), references):
            continue  # an earlier image of the row
        new = nothing if action == "SET NULL" else _replaced(old, new_by_old)
        if new is None:
            return TableChange(child, _UNKNOWN)
        was, now = list(row), list(row)
        for place, value in zip(edge.referencing, new, strict=True):
            now[place] = value
        for place in edge.computed:
            now[place] = MISSING
        for place in edge.digests:
            was[place], now[place] = 0, 1
        before.append(tuple(was))
        after.append(tuple(now))
    return RowsChange(child, Kind.UPDATE, before, after, len(before))


def _replaced(old: Values, new_by_old: Mapping[Values, Values | None]) -> Values | None:
    """Return what takes the place of a reference; None where it may have been several ones."""
    if (new := new_by_old.get(old)) is not None:
        return new
    found = {new for known, new in new_by_old.items() if may_equal(folded(old), {folded(known)})}
    return found.pop() if len(found) == 1 else None


def _spelled(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
