"""A database in memory in which foreign keys act, and a log that shows only what statements did.

Rows have three columns. Keys may share columns, lead around in circles, and follow a primary key
that changes. Tables may be versioned as MariaDB's are; transactions may be undone and logged all
the same, logged as a statement, or so large that their log comes in pieces.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from projector.model import (
    MISSING,
    Change,
    Kind,
    Need,
    Row,
    RowsChange,
    TableChange,
    TableName,
    Transactions,
    Watch,
)
from projector.mysql.foreign_keys import ForeignKey
from projector.mysql.hidden import Completer
from projector.mysql.knowledge import Learned
from projector.mysql.linked import Edge, Linked, Values, linked
from projector.mysql.log import MysqlLog
from projector.mysql.position import Flavour, Position
from projector.mysql.snapshots import Snapshots, View
from tests.unit.model_database import SID, position

REGION, DEPOT, SHELF, PARCEL = (TableName("d", n) for n in ("region", "depot", "shelf", "parcel"))
NOISE = TableName("d", "noise")
TABLES = (REGION, DEPOT, SHELF, PARCEL)
COLUMNS = ("id", "parent", "other")
WATCHES = [Watch(table, COLUMNS, frozenset(COLUMNS)) for table in (*TABLES, NOISE)]

Rows = dict[TableName, dict[int, Row]]
Hidden = list[tuple[TableName, Row, Row | None]]  # what keys did to a row


def place(version: int, *, has_gtids: bool) -> Position:
    """The place after so many transactions."""
    found = position(version)
    return found if has_gtids else Position(Flavour.MYSQL, SID, found.file, version, None)


def key(
    child: TableName, column: str, parent: TableName, delete: str, update: str = "CASCADE"
) -> ForeignKey:
    """A key of one column."""
    return ForeignKey(child, (column,), parent, ("id",), delete, update, ("id",))


def both(child: TableName, parent: TableName, delete: str, update: str) -> ForeignKey:
    """A key of two columns, which other keys have too."""
    return ForeignKey(child, COLUMNS[1:], parent, ("id", "other"), delete, update, ("id",))


class Refused(Exception):
    """By a key."""


@dataclass
class Entry:
    """A transaction in the log. `hidden`: what it did beside."""

    changes: list[Change]
    hidden: Hidden = field(default_factory=list)
    is_undone: bool = False


def _copied(rows: Rows) -> Rows:
    return {table: dict(found) for table, found in rows.items()}


@dataclass
class Database:
    """The tables, every version of them, and the log of each transaction."""

    keys: Sequence[ForeignKey]
    versioned: frozenset[TableName] = frozenset()
    is_minimal: bool = False

    def __post_init__(self) -> None:
        self.versions: list[Rows] = [{table: {} for table in TABLES}]
        self.log: list[Entry] = []

    @property
    def rows(self) -> Rows:
        """As they are now."""
        return self.versions[-1]

    def execute(self, change: RowsChange) -> None:
        """Carry a statement out, with what keys do; the log tells the statement alone."""
        self.commit([lambda _: change])

    def commit(self, statements: Iterable[Callable[[Rows], RowsChange]], how: str = "rows") -> None:
        """Carry out a transaction: logged as `rows`, as a `statement`, or as rows and `undone`."""
        rows, entry = self.rows, Entry([])
        for make in statements:
            trial, hidden = _copied(rows), Hidden()
            change = make(trial)
            try:
                self._carry_out(trial, change, hidden)
                _check(trial, self.keys)
            except Refused:
                continue
            rows = trial
            entry.changes += self._logged(change)
            entry.hidden += hidden
        if not entry.changes:
            return
        if how == "undone":
            rows, entry = self.rows, Entry(entry.changes, is_undone=True)
        if how == "statement":
            tables = dict.fromkeys(change.table for change in entry.changes)
            entry.changes = [TableChange(table, "statement") for table in tables]
        self.versions.append(rows)
        self.log.append(entry)

    def note(self) -> None:
        """A transaction of a table that no key leads to or from."""
        self.versions.append(self.rows)
        self.log.append(Entry([RowsChange(NOISE, Kind.INSERT, [], [(1, 1, 1)], 1)]))

    def _carry_out(self, rows: Rows, change: RowsChange, hidden: Hidden) -> None:
        table = rows[change.table]
        for row in change.before:
            if table.pop(row[0], None) is None:
                raise Refused
        for row in change.after:
            if row[0] in table:
                raise Refused
            table[row[0]] = row
        for i, old in enumerate(change.before):
            self._follow(rows, change.table, old, change.after[i] if change.after else None, hidden)

    def _follow(
        self, rows: Rows, table: TableName, old: Row, new: Row | None, hidden: Hidden
    ) -> None:
        for edge in self.keys:
            if edge.parent == table:
                self._act(rows, edge, old, new, hidden)

    def _act(self, rows: Rows, edge: ForeignKey, old: Row, new: Row | None, hidden: Hidden) -> None:
        was, now = _part(old, edge.referenced), new and _part(new, edge.referenced)
        if None in was or was == now:
            return
        action = edge.on_update if now else edge.on_delete
        table = rows[edge.child]
        for row in [r for r in table.values() if _part(r, edge.columns) == was]:
            if action == "RESTRICT" or table.get(row[0]) != row:
                raise Refused
            del table[row[0]]
            changed = None
            if now or action == "SET NULL":
                values = now if now and action == "CASCADE" else (None,) * len(was)
                given = dict(zip(edge.columns, values, strict=True))
                changed = tuple(given.get(c, v) for c, v in zip(COLUMNS, row, strict=True))
                if changed[0] is None or changed[0] in table:
                    raise Refused
                table[changed[0]] = changed
            hidden.append((edge.child, row, changed))
            self._follow(rows, edge.child, row, changed, hidden)

    def _logged(self, change: RowsChange) -> list[Change]:
        """As the server's log has it: an ended row of a versioned table is updated, an updated one
        is written once more as it was."""
        found = [change]
        if change.table in self.versioned and change.kind is Kind.DELETE:
            found = [change._replace(kind=Kind.UPDATE, after=change.before)]
        elif change.table in self.versioned and change.kind is Kind.UPDATE:
            found.append(change._replace(kind=Kind.INSERT, before=[], after=change.before))
        return [_minimal(each) for each in found] if self.is_minimal else list(found)


def _part(row: Row, names: Iterable[str]) -> Row:
    return tuple(row[COLUMNS.index(name)] for name in names)


def _minimal(change: RowsChange) -> RowsChange:
    """The key before, what has changed after."""
    if change.kind is Kind.INSERT:
        return change
    before = [(row[0], MISSING, MISSING) for row in change.before]
    pairs = zip(change.before, change.after, strict=False)
    after = [tuple(MISSING if a == b else a for b, a in zip(*p, strict=True)) for p in pairs]
    return change._replace(before=before, after=after)


def _check(rows: Rows, keys: Iterable[ForeignKey]) -> None:
    for k in keys:
        there = {_part(row, k.referenced) for row in rows[k.parent].values()}
        for row in rows[k.child].values():
            values = _part(row, k.columns)
            if None not in values and values not in there:
                raise Refused


class VersionCompleter(Completer):
    """Asks a version of the database instead of a connection."""

    def _ask(self, view: View, edge: Edge, child: Linked, values: Iterable[Values]) -> list[Row]:
        version: Rows = view.connection.version  # type: ignore[attr-defined]
        wanted = set(values)
        rows = version[child.name].values()
        return [row for row in rows if tuple(row[i] for i in edge.referencing) in wanted]


class VersionSnapshots(Snapshots):
    """Snapshots anywhere between what is needed and the log's end, open when luck has it."""

    def __init__(
        self,
        database: Database,
        chance: random.Random,
        *,
        has_gtids: bool = True,
        knows_end: bool = True,
    ) -> None:
        self.now_s = 0.0
        super().__init__(
            lambda: SimpleNamespace(close=lambda: None),  # type: ignore[arg-type,return-value]
            self._open_somewhere, lambda: self.now_s,
        )  # fmt: skip
        self._executor.shutdown()
        later: Any = SimpleNamespace(submit=self._submit, shutdown=lambda **_: None)
        self._executor = later
        self._database, self._chance = database, chance
        self._has_gtids, self._knows_end = has_gtids, knows_end
        self._waiting: list[tuple[Future[Position], Any, Need]] = []

    def _submit(
        self, _function: Any, connection: Any, need: Need, _is_dropped: Any
    ) -> Future[Position]:
        future: Future[Position] = Future()
        self._waiting.append((future, connection, need))
        return future

    def advance(self) -> None:
        """Open what was asked for, perhaps."""
        for future, connection, need in self._waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(self._open_somewhere(connection, need, lambda: False))
        self._waiting.clear()

    def _open_somewhere(
        self, connection: Any, need: Need, _is_dropped: Callable[[], bool]
    ) -> Position:
        last = len(self._database.versions) - 1
        least = need.position.offset if self._has_gtids else self._locked(need)
        seen = self._chance.choice([least, self._chance.randint(least, last)])
        connection.version = self._database.versions[seen]
        end = last if self._knows_end else need.position.offset
        return place(end, has_gtids=self._has_gtids)

    def _locked(self, need: Need) -> int:
        """The last transaction of whose rows one was locked: it shows, and all before it."""
        awaited = {id(c) for c in need.changes if isinstance(c, RowsChange) and c.table != NOISE}
        shown = [
            number
            for number, entry in enumerate(self._database.log, 1)
            if any(id(change) in awaited for change in entry.changes)
        ]
        return max(shown, default=0)


class VersionLog(MysqlLog):
    """The completed log of such a database. `incoming`: what is read from it, the last first."""

    def __init__(
        self,
        snapshots: VersionSnapshots,
        keys: Sequence[ForeignKey],
        versioned: Iterable[TableName] = (),
        *,
        has_gtids: bool,
    ) -> None:
        self.incoming: list[Transactions] = []
        inner: Any = SimpleNamespace(
            read=lambda _: self.incoming.pop() if self.incoming else None,
            start=lambda *_: None, close=lambda: None,
        )  # fmt: skip
        unconnected: Any = None
        super().__init__(inner, unconnected, "d", is_replica=False)
        self._learned = Learned(keys=keys, versioned=frozenset(versioned), logs_actions=False)
        self.start(place(0, has_gtids=has_gtids), WATCHES)
        self.linked = linked(WATCHES, keys, {}, self._learned.versioned)
        self._snapshots = snapshots
        self._completer = VersionCompleter(self.linked, {}, snapshots)


def batches(
    entries: Sequence[Entry], first: int, chance: random.Random, *, has_gtids: bool
) -> Iterable[tuple[list[Entry], Transactions]]:
    """Cut a part of the log into what is read at once: whole transactions, or pieces of one."""
    at = 0
    while at < len(entries):
        entry = entries[at]
        cut = chance.randint(1, len(entry.changes)) if chance.random() < 0.5 else 0
        if 0 < cut < len(entry.changes):
            here = place(first + at + 1, has_gtids=has_gtids)
            yield [], Transactions(entry.changes[:cut], 0, None, here, ())
            rest = entry.changes[cut:]
            yield [entry], Transactions(rest, 1, here, here, [0.0], False, entry.is_undone)
            at += 1
            continue
        upto = chance.randint(at + 1, len(entries))
        here = place(first + upto, has_gtids=has_gtids)
        together = list(entries[at:upto])
        changes = [change for each in together for change in each.changes]
        undone = any(each.is_undone for each in together)
        yield together, Transactions(changes, upto - at, here, here, [0.0], False, undone)
        at = upto
