"""The completed log, case by case: what is noted, asked and told, and which keys matter."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from projector.errors import TransientError
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
from projector.mysql import hidden
from projector.mysql import log as mysql_log
from projector.mysql.dialect import MYSQL
from projector.mysql.foreign_keys import ForeignKey
from projector.mysql.hidden import Completer
from projector.mysql.knowledge import Learned
from projector.mysql.linked import linked, needed, widened
from projector.mysql.log import MysqlLog
from projector.mysql.snapshots import Snapshots, folded, may_equal
from projector.ports import FOR_EVER, Patience
from projector.projection import Plan
from projector.projection.columns import ColumnType
from schema.projection import tickets
from tests.unit.model_database import position
from tests.unit.model_hidden import (
    COLUMNS,
    DEPOT,
    NOISE,
    REGION,
    WATCHES,
    Database,
    VersionCompleter,
    VersionLog,
    VersionSnapshots,
    key,
    place,
)

ACTIONS = ["CASCADE", "CASCADE", "SET NULL", "RESTRICT"]


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


class Stage:
    """A log of two tables, read change by change, with a snapshot that opens at once."""

    def __init__(
        self,
        *keys: ForeignKey,
        has_gtids: bool = True,
        visible: Sequence[Row] = (),
        versioned: Sequence[TableName] = (),
    ) -> None:
        self.keys = keys or (key(DEPOT, "parent", REGION, "CASCADE"),)
        self.database = Database(self.keys)
        self.show(visible)
        self.has_gtids, self.at = has_gtids, 0
        self.snapshots = VersionSnapshots(self.database, random.Random(0), has_gtids=has_gtids)
        self.log = VersionLog(self.snapshots, self.keys, versioned, has_gtids=has_gtids)

    def show(self, rows: Sequence[Row]) -> None:
        """Let a snapshot see these rows of the child from now on."""
        self.database.versions = [{DEPOT: {row[0]: row for row in rows}}]

    def read(
        self, *changes: Change, is_whole: bool = True, has_undone: bool = False
    ) -> list[Change]:
        """Read a transaction, or a piece of one; return what was added to it."""
        here = place(self.at + 1, has_gtids=self.has_gtids)
        self.at += is_whole
        position = here if is_whole else None
        self.log.incoming.append(
            Transactions(changes, int(is_whole), position, here, (), has_undone=has_undone)
        )
        found = self.log.read(0)
        assert found is not None
        self.pass_()
        return [change for change in found.changes if all(change is not each for each in changes)]

    def pass_(self) -> None:
        """Let a second pass, and what was asked for come."""
        self.snapshots.now_s += 1.0
        for future, connection, _ in self.snapshots._waiting:
            connection.version = self.database.versions[-1]
            if future.set_running_or_notify_cancel():
                future.set_result(place(self.at, has_gtids=self.has_gtids))
        self.snapshots._waiting.clear()
        self.log.read(0)


def inserted(*rows: Row) -> RowsChange:
    """Children that come."""
    return RowsChange(DEPOT, Kind.INSERT, [], rows, len(rows))


def moved(row: Row, parent: int) -> RowsChange:
    """A child that gets another parent."""
    return RowsChange(DEPOT, Kind.UPDATE, [row], [(row[0], parent, *row[2:])], 1)


def gone(*parents: int) -> RowsChange:
    """Parents that are deleted."""
    return RowsChange(REGION, Kind.DELETE, [(p, None, None) for p in parents], [], len(parents))


WALK = TableChange(DEPOT, "cascade")


def told(*rows: Row) -> list[Change]:
    """Children that go with their parent."""
    return [RowsChange(DEPOT, Kind.DELETE, list(rows), (), len(rows))]


def test_no_snapshot_is_asked_for_between_the_pieces_of_a_transaction() -> None:
    """It need not see the transaction, and its overlay would lack the pieces before."""
    stage = Stage()
    stage.read(inserted((6, 5, None)))
    stage.read(inserted((7, 1, None)), is_whole=False)
    stage.read(inserted((8, 1, None)), is_whole=False)
    stage.show([(6, 5, None), (7, 1, None), (8, 1, None), (9, 1, None)])
    stage.read(inserted((9, 1, None)))
    assert stage.read(gone(1)) == told(*((n, 1, None) for n in (7, 8, 9)))


def test_what_pieces_told_is_dropped_when_their_transaction_is_undone() -> None:
    """A child that moved in it still belongs to its first parent."""
    stage = Stage(visible=[(7, 1, None)])
    stage.read(inserted((6, 5, None)))
    assert stage.read(gone(9)) == []
    stage.read(moved((7, 1, None), 2), is_whole=False)
    assert stage.read(gone(9), has_undone=True) == [WALK]
    stage.read(inserted((6, 5, None)))
    assert stage.read(gone(1)) == told((7, 1, None))


def test_without_gtids_a_snapshot_waits_for_the_last_linked_rows() -> None:
    """Not for those of a table that no key leads to, which show nothing of a commit before; after
    a statement nobody can wait."""
    stage = Stage(has_gtids=False)
    noise = RowsChange(NOISE, Kind.INSERT, [], [(1, None, None)], 1)
    stage.read(noise)
    assert not stage.snapshots.are_kept
    stage.read(inserted((7, 1, None)))
    assert stage.snapshots.are_kept
    stage.read(noise)
    assert stage.log._met is not None
    assert [change.table for change in stage.log._met.changes] == [DEPOT]
    stage.read(TableChange(DEPOT, "statement"), noise)
    assert not stage.snapshots.are_kept
    stage.read(noise)
    assert not stage.snapshots.are_kept


def test_a_row_that_cannot_be_read_drops_the_snapshots() -> None:
    """It may refer to anything, and stands in none of them."""
    stage = Stage()
    stage.read(inserted((6, 5, None)))
    assert stage.read(inserted((MISSING, MISSING, MISSING)), gone(1)) == [WALK]


def test_an_update_of_nothing_watched_costs_no_walk_though_the_image_has_but_the_key() -> None:
    """Under MINIMAL: what the row refers to is what it did before."""
    stage = Stage(key(DEPOT, "parent", REGION, "SET NULL"), visible=[(7, 1, None)])
    stage.read(inserted((6, 5, None)))
    known, nothing = (7, MISSING, MISSING), (MISSING, MISSING, MISSING)
    update = RowsChange(DEPOT, Kind.UPDATE, [known], [nothing], 1)
    assert stage.read(update, gone(2)) == []
    assert stage.read(update, gone(1)) == [
        RowsChange(DEPOT, Kind.UPDATE, [(7, 1, None)], [(7, None, None)], 1)
    ]
    moves = RowsChange(DEPOT, Kind.UPDATE, [known], [(MISSING, MISSING, 4)], 1)
    assert stage.read(moves, gone(2)) == [WALK]


def test_values_that_the_server_takes_for_equal_and_we_do_not_cost_a_walk() -> None:
    """A column of another type than was known, or one that is written in another way."""
    stage = Stage(key(DEPOT, "parent", REGION, "SET NULL"))
    stage.read(inserted((6, 5, None)))
    completer: Any = stage.log._completer
    completer._ask = lambda *_: [(7, "1", None)]
    assert stage.read(gone(1)) == [WALK]


def test_a_value_that_cannot_be_read_costs_a_walk() -> None:
    """What the snapshot gives is of another type than was known, and is not shown in the log."""
    stage = Stage()
    stage.read(inserted((6, 5, None)))
    view = stage.snapshots.current
    assert view is not None
    view.connection.query_raw = lambda *_: [[(b"7", b"AB12", None)], []]  # type: ignore[method-assign]
    completer: Any = stage.log._completer
    completer._types = {DEPOT: dict.fromkeys(COLUMNS, ColumnType("int", "int"))}
    completer._ask = lambda *asked: Completer._ask(completer, *asked)
    with capture_logs() as lines:
        assert stage.read(gone(1)) == [WALK]
    assert "AB12" not in str(lines)


def test_rows_are_found_up_to_a_number_in_each_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the table is told as a whole, once, and nobody asks any more."""
    monkeypatch.setattr(hidden, "_FOUND_ROWS", 5)
    stage = Stage(visible=[(n, n // 3, None) for n in range(12)])
    stage.read(inserted((90, 80, None)))
    first = [(n, 0, None) for n in range(3)]
    assert stage.read(gone(0), gone(1), gone(2), gone(3)) == [*told(*first), WALK]
    assert stage.read(gone(0)) == told(*first)


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_of_a_versioned_parent_an_update_that_changes_nothing_may_be_the_end(action: str) -> None:
    """MariaDB logs so that a row is deleted; an update that is none costs needless reads."""
    stage = Stage(key(DEPOT, "parent", REGION, action), visible=[(7, 1, None)], versioned=[REGION])
    stage.read(inserted((6, 5, None)))
    same, other = (1, None, None), (2, None, None)
    [change] = stage.read(RowsChange(REGION, Kind.UPDATE, [same], [same], 1))
    assert isinstance(change, RowsChange)
    assert list(change.before) == [(7, 1, None)]
    assert stage.read(RowsChange(REGION, Kind.UPDATE, [other], [(2, None, 5)], 1)) == []


def test_of_a_versioned_child_an_earlier_state_is_not_the_last() -> None:
    """MariaDB writes it into the log once more, behind the update."""
    stage = Stage(visible=[(7, 1, None)], versioned=[DEPOT])
    stage.read(inserted((6, 5, None)))
    [change] = stage.read(moved((7, 1, None), 2), inserted((7, 1, None)), gone(2))
    assert isinstance(change, RowsChange)
    assert (7, 2, None) in change.before


def test_a_computed_key_that_the_log_leaves_out_costs_a_walk_when_its_base_changes() -> None:
    """MariaDB 11 leaves generated columns out of both images; the digest of the base tells."""
    watches = [Watch(REGION, ("id",), frozenset({"id", "a"}), ("a",)), WATCHES[1]]
    keys = [key(DEPOT, "parent", REGION, "RESTRICT", "CASCADE")]
    tables = linked(watches, keys, {REGION: {"id": frozenset({"a"})}})
    snapshots: Any = SimpleNamespace(current=None, are_kept=False, forget=lambda: None)
    completer = Completer(tables, {}, snapshots)

    def made(old: int, new: int) -> list[Change]:
        change = RowsChange(REGION, Kind.UPDATE, [(MISSING, old)], [(MISSING, new)], 1)
        return list(completer.complete(Transactions([change], 1, here, here, ())).changes[1:])

    here = position(1)
    assert made(1, 2) == [WALK]
    assert made(1, 1) == []


def test_snapshots_that_nobody_wants_do_not_pile_up() -> None:
    """Table changes drop each one at once: then it is not opened, nor the next asked for yet."""
    made = itertools.count()

    def open_at(connection: Any, need: Need, is_dropped: Any) -> Any:
        while not is_dropped():
            time.sleep(0.001)
        raise TransientError("mysql", "stopped")

    now_s = itertools.count(step=0.02)
    snapshots = Snapshots(
        lambda: SimpleNamespace(number=next(made), close=lambda: None),  # type: ignore[arg-type,return-value]
        open_at, lambda: next(now_s),
    )  # fmt: skip
    for number in range(100):
        snapshots.forget()
        snapshots.tend(Need(position(number)))
    asked = next(made)
    assert 3 < asked < 15
    snapshots.forget()
    last = snapshots._executor.submit(lambda: None)
    last.result(timeout=5)
    snapshots.close()


def test_definitions_are_read_where_documents_are_once_these_have_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replica is behind: what it knew of keys before an ALTER would be taken for the truth."""
    answers = [b"1", b"1", b"0"]
    asked: list[str] = []

    def query(*statements: str, max_bytes: float = 0) -> list[Any]:
        asked.extend(statements)
        return [[(answers.pop(0),)], []] if len(statements) == 2 else [[]]

    connection: Any = SimpleNamespace(query_raw=query, query=query, close=lambda: None)
    inner: Any = SimpleNamespace(current=lambda: position(3))
    monkeypatch.setattr(mysql_log, "learn", lambda *_: Learned(logs_actions=bool(answers)))
    read = MysqlLog(inner, lambda: connection, "d", is_replica=True)
    read.learn([], FOR_EVER)
    assert not read._learned.logs_actions
    assert str(position(3).gtids) in asked[0]
    answers.append(b"1")
    with pytest.raises(TransientError):
        read.learn([], Patience(lambda: True))


# -- what matters


def _watches(*keys: ForeignKey) -> dict[str, Watch]:
    return {
        watch.table.name: watch for watch in widened(Plan(tickets, MYSQL).watches("h"), keys, {})
    }


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
    assert needed(keys, Plan(tickets, MYSQL).watches("h")) == [keys[1]]
    assert "author_id" in _watches(*keys)["ticket_comments"].read
    assert "comment_id" not in _watches(*keys)["ticket_attachments"].read


def test_a_key_matters_that_changes_a_column_of_another() -> None:
    """Though no document reads it: the rows that the other one changes are found by it."""
    keys = [
        _helpdesk("ticket_watchers", "group_id", "groups", "CASCADE"),
        replace(
            _helpdesk("ticket_watchers", "", "kinds", "RESTRICT", "CASCADE"),
            columns=("group_id", "kind"), referenced=("id", "kind"),
        ),
    ]  # fmt: skip
    watches = widened(Plan(tickets, MYSQL).watches("h"), keys, {})
    tables = {table.name for table in linked(watches, keys, {})}
    assert tables == {"ticket_watchers", "groups", "kinds"}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_keys_and_computed_columns_there_are_all_that_they_need_is_watched(
    seed: int,
) -> None:
    """Keys share columns with one another, with primary keys and with what is computed."""
    chance = random.Random(seed)
    names = [TableName("d", name) for name in "abcdef"]
    some = lambda most: tuple(chance.sample("pqrstuv", chance.randint(1, most)))  # noqa: E731 (short)
    primary = {name: some(3) for name in names}
    keys = []
    for _ in range(chance.randint(1, 8)):
        child, parent, columns = chance.choice(names), chance.choice(names), some(2)
        actions = chance.choice(ACTIONS), chance.choice(ACTIONS)
        referenced = tuple(chance.sample("pqrstuv", len(columns)))
        keys.append(ForeignKey(child, columns, parent, referenced, *actions, primary[child]))
    watches = [Watch(name, some(2), frozenset(some(3))) for name in names if chance.random() < 0.4]
    computed = {name: {chance.choice("pqrstuv"): frozenset(some(2))} for name in names[::2]}
    wide = widened(watches, keys, computed)
    tables = linked(wide, keys, computed)
    for table in tables.values():
        for edge in (*table.inward, *table.outward):
            assert {edge.key.child, edge.key.parent} <= tables.keys()


def test_tables_between_are_watched() -> None:
    """Though no document reads them: what references them changes documents."""
    keys = [_helpdesk("members", "team_id", "teams", "CASCADE"),
            _helpdesk("tickets", "assignee_id", "members", "SET NULL")]  # fmt: skip
    watches = _watches(*keys)
    assert watches["teams"].columns == ("id",)
    assert watches["members"].columns == ("team_id", "id")
    assert not watches["members"].is_read


def _completed(change: Change, *keys: ForeignKey) -> list[Change]:
    watches = widened(Plan(tickets, MYSQL).watches("h"), keys, {})
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
    [("abc", "ABC  ", True), ("abc", "abd", False), ("Jy~", "iii", True),
     ("\\]", "|}", True), ("a", "\u00e1", True), ("\u00df", "ss", True),
     (1, 1, True), (1, 2, False), ("a\x01", "a", True), (MISSING, 7, True)],
)  # fmt: skip
def test_texts_are_told_apart_only_where_every_collation_does(
    first: Any, second: Any, may: bool
) -> None:
    """Case, accents and spaces at the end may not count, nor what cannot be seen."""
    assert may_equal(folded((first,)), {folded((second,))}) is may
