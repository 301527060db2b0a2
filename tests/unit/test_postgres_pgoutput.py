"""PostgreSQL's stream, message by message, to transactions: bytes to changes, without a server."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from projector.errors import UndecodableLogError
from projector.model import MISSING, Kind, RowsChange, TableChange, TableName, Watch
from projector.postgres import pgoutput
from projector.postgres.pgoutput import Assembler, Piece
from projector.postgres.results import Kinds

T, LEAF = TableName("public", "t"), TableName("public", "leaf")
COLUMNS = [("id", 23), ("a", 23), ("b", 25)]  # int4, int4, text
SHAPE = (("a", 23, -1), ("b", 25, -1), ("id", 23, -1))
TOAST = "unchanged"


class Catalog:
    """What the stream asks for."""

    def root_of(self, oid: int) -> TableName | None:
        return T if oid == 2 else None

    def reader(self, oid: int) -> Callable[[bytes], Any]:
        return Kinds().reader(oid)


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def relation(
    oid: int = 1, table: TableName = T, columns: Any = None, identity: Sequence[str] = ("id",)
) -> bytes:
    columns = COLUMNS if columns is None else columns
    parts = [b"R", struct.pack(">I", oid), text(table.schema), text(table.name), b"d"]
    parts.append(struct.pack(">H", len(columns)))
    for name, kind in columns:
        parts += [bytes([name in identity]), text(name), struct.pack(">Ii", kind, -1)]
    return b"".join(parts)


def row(*values: Any) -> bytes:
    parts = [struct.pack(">H", len(values))]
    for value in values:
        if value is None or value == TOAST:
            parts.append(b"n" if value is None else b"u")
        else:
            said = str(value).encode()
            parts.append(b"t" + struct.pack(">I", len(said)) + said)
    return b"".join(parts)


def begin(xid: int = 7) -> bytes:
    return b"B" + struct.pack(">QqI", 99, 0, xid)


def commit(end: int = 100) -> bytes:
    return b"C" + struct.pack(">BQQq", 0, end - 1, end, 1_500_000)


def insert(*values: Any, oid: int = 1) -> bytes:
    return b"I" + struct.pack(">I", oid) + b"N" + row(*values)


def update(*values: Any, how: bytes = b"", old: Sequence[Any] = (), oid: int = 1) -> bytes:
    before = how + row(*old) if how else b""
    return b"U" + struct.pack(">I", oid) + before + b"N" + row(*values)


def delete(how: bytes, *values: Any, oid: int = 1) -> bytes:
    return b"D" + struct.pack(">I", oid) + how + row(*values)


def message(prefix: str, content: str, *, is_transactional: bool = True) -> bytes:
    said = content.encode()
    head = struct.pack(">BQ", is_transactional, 50)
    return b"M" + head + text(prefix) + struct.pack(">I", len(said)) + said


def taken(
    *messages: bytes, read: Sequence[str] = ("id", "a"), shapes: Any = None, watch: Any = None
) -> list[Piece]:
    """Let them come, 25 bytes into a buffer each, and hand out what there is."""
    watch = watch or Watch(T, ("id", "a"), frozenset(read))
    pieces: list[Piece] = []
    assembler = Assembler([watch], shapes or {}, Catalog(), pieces.append)
    for each in messages:
        assembler.take(b"w" * 25 + each, 25)
    assembler.flush()
    return pieces


def changes(*messages: bytes, **more: Any) -> list[Any]:
    return [
        (c.kind.value, list(c.before), list(c.after)) if isinstance(c, RowsChange) else c.reason
        for piece in taken(begin(), *messages, commit(), **more)
        for c in piece.changes
    ]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([insert(1, 2, "x")], ("insert", [], [(1, 2)])),
        ([insert(1, None, "x")], ("insert", [], [(1, None)])),
        # Without an old image the identity has not changed; nothing else is known of it.
        ([update(1, 3, "x")], ("update", [(1, MISSING)], [(1, 3)])),
        # A key alone: what is NULL there beside the identity is no NULL.
        (
            [update(2, 3, "x", how=b"K", old=(1, None, None))],
            ("update", [(1, MISSING)], [(2, 3)]),
        ),
        ([delete(b"K", 1, None, None)], ("delete", [(1, MISSING)], [])),
        # All of the old row: NULL is NULL.
        (
            [update(1, 3, "x", how=b"O", old=(1, None, "x"))],
            ("update", [(1, None)], [(1, 3)]),
        ),
        ([delete(b"O", 1, None, "x")], ("delete", [(1, None)], [])),
        # What is out of line and has not changed stands in the old row, or nowhere.
        (
            [update(1, TOAST, "x", how=b"O", old=(2, 5, "x"))],
            ("update", [(2, 5)], [(1, 5)]),
        ),
        ([update(1, TOAST, "x")], ("update", [(1, MISSING)], [(1, MISSING)])),
    ],
)
def test_old_and_new_rows(messages: list[bytes], expected: Any) -> None:
    """Each form in which the server may send them."""
    assert changes(relation(), *messages) == [expected]


def test_an_identity_may_have_several_columns() -> None:
    """Those of an index: old values of all of them are known."""
    both = relation(identity=("id", "a"))
    assert changes(both, update(1, 3, "x")) == [("update", [(1, 3)], [(1, 3)])]
    moved = update(1, 3, "x", how=b"K", old=(1, 2, None))
    assert changes(both, moved) == [("update", [(1, 2)], [(1, 3)])]


def test_updates_that_change_nothing_that_is_read_are_counted_only() -> None:
    """Where the whole old row is known."""
    same = update(1, 2, "new", how=b"O", old=(1, 2, "old"))
    [piece] = taken(begin(), relation(), same, commit())
    [change] = piece.changes
    assert isinstance(change, RowsChange)
    assert (change.after, change.row_count, piece.rows) == ([], 1, 1)
    assert changes(relation(), same, read=("id", "a", "b")) == [("update", [(1, 2)], [(1, 2)])]
    assert changes(relation(), same, read=("id", "a", "nowhere"))[0][2] == [(1, 2)]


def test_rows_of_one_kind_and_shape_come_together() -> None:
    """The router takes one shape a change."""
    found = changes(
        relation(), insert(1, 1, ""), insert(2, 1, ""), update(1, 2, ""),
        update(2, 2, "", how=b"O", old=(2, 1, "")), delete(b"K", 2, None, None),
    )  # fmt: skip
    assert [(kind, len(before), len(after)) for kind, before, after in found] == [
        ("insert", 0, 2), ("update", 1, 1), ("update", 1, 1), ("delete", 1, 0)
    ]  # fmt: skip


def test_what_is_told_of_a_transaction() -> None:
    """Its end, its time, its id; keys' work is in the log."""
    [piece] = taken(
        begin(1 << 31), relation(), insert(1, 1, ""), commit(500), begin(9), commit(600)
    )
    assert (piece.end_lsn, piece.count, piece.xids) == (600, 2, [1 << 31, 9])
    assert piece.commit_times == [pgoutput.EPOCH_S + 1.5] * 2
    assert not any(c.hides for c in piece.changes if isinstance(c, RowsChange))


def test_a_large_transaction_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them a place to go on from, but the last; what is whole before it goes first."""
    monkeypatch.setattr(pgoutput, "ROWS_AT_ONCE", 2)
    pieces = taken(
        begin(1), relation(), insert(0, 0, ""), commit(10),
        begin(2), *[insert(n, 0, "") for n in range(1, 6)], commit(20),
    )  # fmt: skip
    assert [(p.end_lsn, p.count, p.rows, p.xids) for p in pieces] == [
        (10, 1, 1, [1]), (None, 0, 2, [2]), (None, 0, 2, [2]), (20, 1, 1, [2])
    ]  # fmt: skip
    assert [r[0] for p in pieces for c in p.changes for r in c.after] == list(range(6))  # type: ignore[union-attr]


def test_pieces_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows may be large."""
    monkeypatch.setattr(pgoutput, "_BYTES_AT_ONCE", 1000)
    wide = insert(1, 1, "x" * 600)
    pieces = taken(begin(), relation(), wide, wide, wide, commit())
    assert [p.rows for p in pieces] == [2, 1]


def test_tables_that_are_not_watched_leave_nothing() -> None:
    """But the place that the log has reached."""
    other = relation(3, TableName("public", "other"))
    [piece] = taken(begin(), other, insert(1, 1, "", oid=3), commit(70))
    assert (piece.changes, piece.end_lsn, piece.rows) == ([], 70, 0)


def test_partitions_are_their_table() -> None:
    """With columns in an order of their own."""
    leaf = relation(2, LEAF, [("b", 25), ("a", 23), ("id", 23)])
    [piece] = taken(begin(), leaf, insert("x", 2, 1, oid=2), commit())
    assert [(c.table, c.after) for c in piece.changes] == [(T, [(1, 2)])]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (COLUMNS, []),
        ([*COLUMNS, ("c", 23)], []),  # nobody reads it
        ([("b", 25), ("id", 23), ("a", 23)], []),
        ([("id", 23), ("a", 20), ("b", 25)], ["alter"]),
        ([("id", 23), ("b", 25)], ["alter"]),
        ([("id", 23), ("a2", 23), ("b", 25)], ["alter"]),
    ],
)
def test_another_definition_of_what_is_read_is_told(columns: Any, expected: Any) -> None:
    """Of the types that were learned, and of those that the stream had before."""
    shown = relation(columns=columns)
    wanted = (("a", 23, -1), ("id", 23, -1))
    assert changes(relation(), shown) == expected
    assert changes(shown, shapes={T: wanted}) == expected


def test_a_column_that_is_not_there_is_missing() -> None:
    """As one that is generated: its bases follow the columns."""
    without = relation(columns=[("id", 23), ("b", 25)])
    watch = Watch(T, ("id", "a"), frozenset({"id", "b"}), ("b",))
    assert changes(without, insert(1, "x"), watch=watch) == [("insert", [], [(1, MISSING, "x")])]


def test_truncated_tables_are_told_once_each() -> None:
    """Those that are watched."""
    both = b"T" + struct.pack(">IBIII", 3, 0, 1, 3, 1)
    other = relation(3, TableName("public", "other"))
    assert changes(relation(), other, both) == ["truncate"]


def test_messages_of_an_event_trigger_tell_of_definitions() -> None:
    """Of watched tables, within a transaction; anybody's other messages say nothing."""
    found = changes(
        message("projector:ddl", "public.t"), message("projector:ddl", "public.u"),
        message("mine", "public.t"), message("projector:ddl", "\\xff"),
        message("projector:ddl", "public.t", is_transactional=False),
    )  # fmt: skip
    assert found == ["alter"]


def test_types_and_origins_are_passed_over() -> None:
    """What else there may be must not be skipped."""
    assert changes(b"Y" + struct.pack(">I", 5) + text("s") + text("mood"), b"O" + text("x")) == []
    with pytest.raises(UndecodableLogError, match="'S'"):
        taken(b"S")


def test_changes_keep_their_order() -> None:
    """A table's end between its rows."""
    found = changes(
        relation(), insert(1, 1, ""), b"T" + struct.pack(">IBI", 1, 0, 1), insert(2, 2, "")
    )
    assert found == [("insert", [], [(1, 1)]), "truncate", ("insert", [], [(2, 2)])]
    assert TableChange(T, "truncate").table == T
    assert Kind.INSERT.value == "insert"
