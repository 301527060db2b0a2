"""The completed log, explored: whatever keys do, replayed it gives the tables as they are.

A database of four tables in which keys act, with a log that shows only what statements did. Its
snapshots lie anywhere behind the log's end. In the end the rows that the completed log tells are
the rows of the tables, but for what it says that nobody can tell.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from projector.model import (
    MISSING,
    Change,
    Kind,
    Row,
    RowsChange,
    TableChange,
    TableName,
    Transactions,
    Watch,
)
from projector.mysql.barrier import Need
from projector.mysql.foreign_keys import ForeignKey
from projector.mysql.hidden import Completer
from projector.mysql.linked import Edge, Linked, Values, linked, needed, widened
from projector.mysql.position import Position
from projector.mysql.snapshots import Snapshots, View, folded, may_equal
from projector.projection import Plan
from schema.projection import tickets
from tests.unit.model_database import position

REGION, DEPOT, SHELF, PARCEL = (TableName("d", n) for n in ("region", "depot", "shelf", "parcel"))
_HISTORIES, _STEPS = 60, 80
TABLES = (REGION, DEPOT, SHELF, PARCEL)
WATCHES = [
    Watch(t, ("id", "parent", "other"), frozenset({"id", "parent", "other"})) for t in TABLES
]


def key(
    child: TableName, column: str, parent: TableName, delete: str, update: str = "CASCADE"
) -> ForeignKey:
    """A key of one column."""
    return ForeignKey(child, (column,), parent, ("id",), delete, update, ("id",))


def keys_of(chance: random.Random) -> list[ForeignKey]:
    """Each table references the one before; some another row of their own table, or the first."""
    actions = ["CASCADE", "CASCADE", "SET NULL", "RESTRICT"]
    found = [
        key(child, "parent", parent, chance.choice(actions), chance.choice(actions))
        for parent, child in itertools.pairwise(TABLES)
    ]
    for child in TABLES:
        if chance.random() < 0.5:
            parent = chance.choice([child, REGION])
            found.append(key(child, "other", parent, chance.choice(actions), "SET NULL"))
    return [k for k in found if {k.on_delete, k.on_update} != {"RESTRICT"}]


Rows = dict[TableName, dict[int, Row]]


class Refused(Exception):
    """By a key."""


@dataclass
class Database:
    """The tables, every version of them, and the log of each transaction."""

    keys: list[ForeignKey]

    def __post_init__(self) -> None:
        self.versions: list[Rows] = [{table: {} for table in TABLES}]
        self.log: list[list[Change]] = []

    @property
    def rows(self) -> Rows:
        """As they are now."""
        return self.versions[-1]

    def execute(self, change: RowsChange) -> None:
        """Carry a statement out, with what keys do; the log tells the statement alone."""
        rows = {table: dict(found) for table, found in self.rows.items()}
        try:
            self._carry_out(rows, change)
            _check(rows, self.keys)
        except Refused:
            return
        self.versions.append(rows)
        self.log.append([change])

    def _carry_out(self, rows: Rows, change: RowsChange) -> None:
        table = rows[change.table]
        for row in change.before:
            if table.pop(row[0], None) is None:
                return
        for row in change.after:
            if row[0] in table:
                raise Refused
            table[row[0]] = row
        for old, new in zip(change.before, change.after or [None] * 9, strict=False):
            for edge in (k for k in self.keys if k.parent == change.table):
                self._act(rows, edge, old[0], new[0] if new else None)

    def _act(self, rows: Rows, edge: ForeignKey, old: int, new: int | None) -> None:
        if old == new:
            return
        place = 1 if edge.columns == ("parent",) else 2
        action = edge.on_delete if new is None else edge.on_update
        for row in [r for r in rows[edge.child].values() if r[place] == old]:
            if action == "RESTRICT":
                raise Refused
            if action == "CASCADE" and new is None:
                self._carry_out(rows, RowsChange(edge.child, Kind.DELETE, [row], [], 1))
                continue
            value = new if action == "CASCADE" else None
            rows[edge.child][row[0]] = (*row[:place], value, *row[place + 1 :])


def _check(rows: Rows, keys: Iterable[ForeignKey]) -> None:
    for k in keys:
        place = 1 if k.columns == ("parent",) else 2
        for row in rows[k.child].values():
            if row[place] is not None and row[place] not in rows[k.parent]:
                raise Refused


class VersionCompleter(Completer):
    """Asks a version of the database instead of a connection."""

    def _ask(
        self, view: View, edge: Edge, child: Linked, values: Iterable[Values]
    ) -> list[Row] | None:
        version: Rows = view.connection.version  # type: ignore[attr-defined]
        wanted = {found[0] for found in values}
        return [row for row in version[child.name].values() if row[edge.referencing[0]] in wanted]


class VersionSnapshots(Snapshots):
    """Snapshots anywhere between what is needed and the log's end, open when luck has it."""

    def __init__(self, database: Database, chance: random.Random, *, knows_end: bool) -> None:
        self.now_s = 0.0
        super().__init__(
            lambda: SimpleNamespace(close=lambda: None),  # type: ignore[arg-type,return-value]
            self._open_somewhere, lambda: self.now_s,
        )  # fmt: skip
        self._executor.shutdown()
        later: Any = SimpleNamespace(submit=self._submit, shutdown=lambda **_: None)
        self._executor = later
        self._database, self._chance, self._knows_end = database, chance, knows_end
        self._waiting: list[tuple[Future[Position], Any, Need]] = []

    def _submit(self, _function: Any, connection: Any, need: Need) -> Future[Position]:
        future: Future[Position] = Future()
        self._waiting.append((future, connection, need))
        return future

    def advance(self) -> None:
        """Open what was asked for, perhaps."""
        for future, connection, need in self._waiting:
            future.set_result(self._open_somewhere(connection, need))
        self._waiting.clear()

    def _open_somewhere(self, connection: Any, need: Need) -> Position:
        last = len(self._database.versions) - 1
        seen = self._chance.randint(need.position.offset, last)
        connection.version = self._database.versions[seen]
        return position(last if self._knows_end else need.position.offset)


def _statement(database: Database, chance: random.Random, number: int) -> RowsChange:
    table = chance.choice(TABLES)
    rows, parents = database.rows[table], database.rows[TABLES[max(0, TABLES.index(table) - 1)]]
    parent = chance.choice([*parents, None])
    other = chance.choice([*rows, *database.rows[REGION], None])
    kind = chance.choice([Kind.INSERT, Kind.INSERT, Kind.UPDATE, Kind.UPDATE, Kind.DELETE])
    if kind is Kind.INSERT or not rows:
        return RowsChange(table, Kind.INSERT, [], [(number, parent, other)], 1)
    before = chance.choice(list(rows.values()))
    if kind is Kind.DELETE:
        return RowsChange(table, Kind.DELETE, [before], [], 1)
    own = number if chance.random() < 0.3 else before[0]
    return RowsChange(table, Kind.UPDATE, [before], [(own, parent, other)], 1)


def replay(seed: int, *, knows_end: bool = True, kind: type[Completer] = VersionCompleter) -> int:
    """Live one history; return how often nobody could tell. Fails when rows differ."""
    chance = random.Random(seed)
    database = Database(keys_of(chance))
    snapshots = VersionSnapshots(database, chance, knows_end=knows_end)
    tables = linked(WATCHES, database.keys, {})
    completer = kind(tables, {}, snapshots)
    told: dict[TableName, set[Row]] = {table: set() for table in TABLES}
    read = walks = 0
    for number in range(_STEPS):
        database.execute(_statement(database, chance, number))
        snapshots.now_s += 1.0
        if chance.random() < 0.5:
            snapshots.advance()
        if chance.random() < 0.4:
            upto = chance.randint(read, len(database.log))
            walks += _read(database, completer, snapshots, told, (read, upto))
            read = upto
    walks += _read(database, completer, snapshots, told, (read, len(database.log)))
    for table in tables:
        assert told[table] == set(database.rows[table].values()), (seed, table)
    return walks


def _read(
    database: Database,
    completer: Completer,
    snapshots: Snapshots,
    told: Mapping[TableName, set[Row]],
    part: tuple[int, int],
) -> int:
    """Read this part of the log; return for how many tables it does not say what has changed."""
    changes = [change for transaction in database.log[slice(*part)] for change in transaction]
    end = position(part[1])
    found = completer.complete(Transactions(changes, 1, end, end, [0.0]))
    walked: set[TableName] = set()
    for change in found.changes:
        if isinstance(change, TableChange):
            assert change.table is not None
            walked.add(change.table)
            continue
        for before, after in zip(change.before, change.after or change.before, strict=False):
            if before in told[change.table]:
                told[change.table].discard(before)
                if change.kind is Kind.UPDATE:
                    told[change.table].add(after)
        if change.kind is Kind.INSERT:
            told[change.table].update(change.after)
    for table in walked:  # read whole, behind all of this
        told[table].clear()
        told[table].update(database.versions[part[1]][table].values())
    snapshots.tend(Need(end, changes, is_kept=True))
    return len(walked)


def test_the_completed_log_tells_what_keys_do_in_every_history() -> None:
    """Chains, circles, changed keys and rows that moved meanwhile; mostly without a walk."""
    walks = sum(replay(seed) for seed in range(_HISTORIES))
    assert walks < _HISTORIES * _STEPS / 8


def _found_in(seeds: int, **broken: Any) -> bool:
    try:
        for seed in range(seeds):
            replay(seed, **broken)
    except AssertionError:
        return True
    return False


def test_a_snapshot_used_before_the_tail_has_passed_it_shows() -> None:
    """It may have been opened behind the very change that it is asked about."""
    assert _found_in(200, knows_end=False)


def test_an_overlay_that_forgets_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came to reference a row since the snapshot is found in the overlay alone."""
    monkeypatch.setattr(Snapshots, "note", lambda *_, **__: None)
    assert _found_in(200)


def test_a_snapshot_is_dropped_when_unknown_rows_get_another_reference() -> None:
    """What references a row by a changed key that nobody could follow stands in no snapshot from
    before, nor among the images since."""
    database = Database([key(DEPOT, "parent", REGION, "CASCADE")])
    snapshots = VersionSnapshots(database, random.Random(0), knows_end=True)
    completer = VersionCompleter(linked(WATCHES, database.keys, {}), {}, snapshots)

    def execute(change: RowsChange) -> list[Change]:
        database.execute(change)
        place = position(len(database.log))
        found = completer.complete(Transactions([change], 1, place, place, [0.0])).changes
        snapshots.now_s += 1.0
        snapshots.tend(Need(place))
        return list(found[1:])

    region, depot, renamed = (1, None, None), (2, 1, None), (9, None, None)
    execute(RowsChange(REGION, Kind.INSERT, [], [region], 1))
    execute(RowsChange(DEPOT, Kind.INSERT, [], [depot], 1))
    snapshots.advance()
    unknown = [TableChange(DEPOT, "cascade")]
    assert execute(RowsChange(REGION, Kind.UPDATE, [region], [renamed], 1)) == unknown
    assert execute(RowsChange(REGION, Kind.DELETE, [renamed], [], 1)) == unknown


# -- what matters


def _watches(*keys: ForeignKey) -> dict[str, Watch]:
    return {watch.table.name: watch for watch in widened(Plan(tickets).watches("h"), keys)}


def _helpdesk(child: str, column: str, parent: str, delete: str, update: str = "") -> ForeignKey:
    names = TableName("h", child), TableName("h", parent)
    return ForeignKey(names[0], (column,), names[1], ("id",), delete, update, ("id",))


def test_keys_whose_rows_go_with_their_document_do_not_matter() -> None:
    """A ticket's comments touch its document alone, which its own row tells; an author's do not."""
    keys = [
        _helpdesk("ticket_comments", "ticket_id", "tickets", "CASCADE", "CASCADE"),
        _helpdesk("ticket_comments", "author_id", "users", "CASCADE"),
        _helpdesk("ticket_attachments", "comment_id", "ticket_comments", "SET NULL"),
    ]
    assert needed(keys, Plan(tickets).watches("h")) == [keys[1]]
    assert "author_id" in _watches(*keys)["ticket_comments"].read
    assert "comment_id" not in _watches(*keys)["ticket_attachments"].read


def test_tables_between_are_watched() -> None:
    """Though no document reads them: what references them changes documents."""
    keys = [_helpdesk("members", "team_id", "teams", "CASCADE"),
            _helpdesk("tickets", "assignee_id", "members", "SET NULL")]  # fmt: skip
    watches = _watches(*keys)
    assert watches["teams"].columns == ("id",)
    assert watches["members"].columns == ("team_id", "id")
    assert not watches["members"].is_read


def _completed(change: Change, *keys: ForeignKey) -> list[Change]:
    watches = widened(Plan(tickets).watches("h"), keys)
    snapshots: Any = SimpleNamespace(current=None, are_kept=False, forget=lambda: None)
    completer = Completer(linked(watches, keys, {}), {}, snapshots)
    place = position(1)
    return list(completer.complete(Transactions([change], 1, place, place, [0.0])).changes[1:])


def test_what_the_log_itself_tells_is_left_alone() -> None:
    """Events of MySQL 9.6 and newer say that the actions of keys are in the log."""
    key = _helpdesk("tickets", "assignee_id", "users", "SET NULL")
    delete = RowsChange(TableName("h", "users"), Kind.DELETE, [(4, None)], [], 1)
    assert _completed(delete, key) == [TableChange(key.child, "cascade")]
    assert _completed(delete._replace(hides=False), key) == []


def test_an_image_without_the_key_costs_a_walk() -> None:
    """What the log leaves out cannot be looked up."""
    key = _helpdesk("tickets", "assignee_id", "users", "SET NULL")
    delete = RowsChange(TableName("h", "users"), Kind.DELETE, [(MISSING, None)], [], 1)
    assert _completed(delete, key) == [TableChange(key.child, "cascade")]


def test_what_the_log_does_not_spell_out_is_carried_on() -> None:
    """A statement on a table between may have changed whatever references it."""
    keys = [_helpdesk("members", "team_id", "teams", "CASCADE"),
            _helpdesk("tickets", "assignee_id", "members", "SET NULL")]  # fmt: skip
    statement = TableChange(TableName("h", "teams"), "statement")
    assert _completed(statement, *keys) == [
        TableChange(TableName("h", name), "statement") for name in ("members", "tickets")
    ]


@pytest.mark.parametrize(
    ("first", "second", "may"),
    [("abc", "ABC  ", True), ("abc", "abd", False), ("a", "\u00e1", True), ("\u00df", "ss", True),
     (1, 1, True), (1, 2, False), ("a\x01", "a", True), (MISSING, 7, True)],
)  # fmt: skip
def test_texts_are_told_apart_only_where_every_collation_does(
    first: Any, second: Any, may: bool
) -> None:
    """Case, accents and spaces at the end may not count, nor what cannot be seen."""
    assert may_equal(folded((first,)), {folded((second,))}) is may
