"""Keys of documents: ids and back, and the SQL that finds keys, asked of another server's SQL."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import mysql

from projector.errors import ConfigurationError
from projector.mysql.dialect import MYSQL
from projector.mysql.literals import literal, writer_for
from projector.projection.columns import ColumnType
from projector.projection.keys import KeyCodec, among

ENUM = ColumnType("enum", "enum('b','a','')", "utf8mb4", "utf8mb4_bin", ("b", "a", ""))
SET = ColumnType("set", "set('z','b','a')", "utf8mb4", "utf8mb4_bin", ("z", "b", "a"))
LATIN = ColumnType("varchar", "varchar(9)", "latin1", "latin1_swedish_ci")


def codec(*kinds: sa.types.TypeEngine[Any], types: Sequence[ColumnType | None] = ()) -> KeyCodec:
    columns: list[Any] = [sa.Column(f"c{i}", kind) for i, kind in enumerate(kinds)]
    return KeyCodec(columns, MYSQL, types)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_what_is_beyond_a_key_is_what_sorts_behind_it(width: int) -> None:
    """Of every key of small numbers, as SQLite finds them and Python orders them."""
    names = [f"c{i}" for i in range(width)]
    keys = list(itertools.product(range(3), repeat=width))
    ours = codec(*[sa.Integer()] * width)
    with closing(sqlite3.connect(":memory:")) as table:
        table.execute(f"CREATE TABLE t ({', '.join(names)})")
        table.executemany(f"INSERT INTO t VALUES ({', '.join('?' * width)})", keys)

        def found(predicate: str) -> list[tuple[int, ...]]:
            return sorted(table.execute(f"SELECT * FROM t WHERE {predicate}"))

        for key in keys:
            assert found(ours.beyond(names, key)) == [k for k in keys if k > key]
        assert found(ours.beyond(names, ())) == keys
        for chosen in ([], keys[:1], keys[1:5]):
            assert found(ours.among(names, chosen)) == chosen


def test_members_are_beyond_each_other_by_their_numbers() -> None:
    """A server sorts ENUM and SET by number; the empty text may be a member or none."""
    ours = codec(mysql.ENUM("b", "a", ""), types=[ENUM])
    a, empty = literal("a"), literal("")
    assert ours.beyond(["c"], ("b",)) == f"c IN ({a},{empty})"
    assert ours.beyond(["c"], ("a",)) == f"c IN ({empty})"
    assert ours.beyond(["c"], ("",)) == "FALSE"
    two = codec(mysql.ENUM("b", "a", ""), sa.Integer(), types=[ENUM, None])
    assert two.beyond(["c", "n"], ("a", 7)) == (f"(c IN ({a},{empty}) AND (c IN ({empty}) OR n>7))")
    other = ColumnType("enum", "enum('b','a')", members=("b", "a"))
    wrong = codec(mysql.ENUM("b", "a"), sa.Integer(), types=[other, None])
    assert wrong.beyond(["c", "n"], ("", 7)) == (
        f"(c IN ({empty},{literal('b')},{a}) AND (c IN ({literal('b')},{a}) OR n>7))"
    )
    sets = codec(mysql.SET("z", "b", "a"), types=[SET])
    assert sets.beyond(["c"], ("z,a",)) == "c+0>5"
    with pytest.raises(ValueError, match="not in"):
        sets.to_values("x")


_PARTS: dict[str, tuple[sa.types.TypeEngine[Any], st.SearchStrategy[Any]]] = {
    "int": (sa.BigInteger(), st.integers(-(2**63), 2**64 - 1)),
    "text": (sa.String(9), st.text("ab:%253A\\' é😀", max_size=8)),
    "uuid": (sa.BINARY(16), st.binary(min_size=16, max_size=16)),
    "bytes": (sa.VARBINARY(9), st.binary(max_size=9)),
}


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[sa.types.TypeEngine[Any]], tuple[Any, ...]]:
    chosen = draw(st.lists(st.sampled_from(sorted(_PARTS)), min_size=1, max_size=3))
    return [_PARTS[name][0] for name in chosen], tuple(draw(_PARTS[name][1]) for name in chosen)


@settings(deadline=None)
@given(rows(), rows())
def test_an_id_leads_back_to_its_key_and_to_no_other(
    row: tuple[list[sa.types.TypeEngine[Any]], tuple[Any, ...]],
    other: tuple[list[sa.types.TypeEngine[Any]], tuple[Any, ...]],
) -> None:
    """Whatever its parts hold: separators, percent signs, nothing."""
    kinds, values = row
    ours = codec(*kinds)
    assert ours.to_values(ours.to_id(values)) == values
    if other[0] == kinds and other[1] != values:
        assert ours.to_id(other[1]) != ours.to_id(values)


def test_ids_look_as_people_write_them() -> None:
    """Sixteen bytes as a UUID, others in hex; texts as they are, whoever sent them."""
    number = bytes(range(16))
    assert codec(sa.BINARY(16)).to_id((number,)) == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert codec(sa.BINARY(16)).to_values("000102030405060708090a0b0c0d0e0f") == (number,)
    assert codec(sa.VARBINARY(9)).to_id((b"\x00\xff",)) == "00ff"
    assert codec(sa.String(9)).to_id((b"a",)) == codec(sa.String(9)).to_id(("a",)) == "a"
    assert codec(sa.Integer()).to_id((b"007",)) == "7"
    assert among(["a", "b"], [(1, "x")], [literal] * 2) == f"((a=1 AND b={literal('x')}))"


def _refused() -> Iterator[tuple[KeyCodec, str]]:
    number = codec(sa.Integer())
    yield from ((number, text) for text in ("x", "", "1.5", str(2**64), str(-(2**63) - 1)))
    yield codec(sa.Integer(), sa.Integer()), "1"
    yield codec(sa.Integer(), sa.Integer()), "1:2:3"
    yield codec(sa.VARBINARY(9)), "0g"
    yield codec(sa.BINARY(16)), "123-"
    yield codec(sa.String(9)), "x" * (2 * 65535 + 1)
    yield codec(sa.String(9)), "\udcff"
    for kind, texts in {
        "date": ("2026-13-01", "2026-01-32", "x", "2026-01-01 00:00:00"),
        "datetime": ("2026-01-01", "2026-01-01 24:00:00"),
        "decimal": ("1e3", "1.", "one", ""),
        "double": ("1e400", "x"),
    }.items():
        typed = codec(sa.String(40), types=[ColumnType(kind, kind)])
        yield from ((typed, text) for text in texts)


@pytest.mark.parametrize(("ours", "text"), list(_refused()))
def test_an_id_that_no_row_can_have_is_known_as_such(ours: KeyCodec, text: str) -> None:
    """Whoever asks for it is told so, and no query is made of it."""
    with pytest.raises(ValueError, match=r"."):
        ours.to_values(text)


def test_an_id_is_read_as_its_column_holds_it() -> None:
    """A number for a number, whatever it was declared as."""
    for kind, text, value in (
        ("decimal", "-1.50", Decimal("-1.50")), ("year", "2026", Decimal(2026)),
        ("double", "2.5e3", 2500.0), ("date", "2026-01-31", "2026-01-31"),
        ("varchar", "2026", "2026"),
    ):  # fmt: skip
        ours = codec(sa.String(40), types=[ColumnType(kind, kind)])
        [found] = ours.to_values(text)
        assert (found, type(found)) == (value, type(value))
    assert codec(sa.Integer(), types=[ColumnType("int", "int")]).to_values("7") == (7,)


def test_literals_are_written_for_the_columns_character_set() -> None:
    """What it lacks is converted: a literal that cannot be would be an error."""
    assert writer_for(LATIN)("a") == literal("a")
    assert "USING latin1) COLLATE latin1_swedish_ci" in writer_for(LATIN)("😀")
    assert writer_for(LATIN)(b"\xff") == "0xff"
    for kind in (None, ColumnType("int", "int"), ColumnType("varchar", "v", "utf8mb4", "x")):
        assert writer_for(kind)("😀") == literal("😀")
    ours = codec(sa.String(9), types=[LATIN])
    assert "USING latin1" in ours.among(["c"], [("😀",)])
    for value, written in (
        (True, "1"), (7, "7"), ("", "''"), (b"", "''"), (b"\x00", "0x00"),
        (Decimal("1E+2"), "100"), (2.5, "2.5e0"), (1e30, "1e+30"), ("a", "_utf8mb4 0x61"),
    ):  # fmt: skip
        assert literal(value) == written


def test_a_type_that_cannot_name_a_document_is_refused() -> None:
    """Dates and floats have no one spelling."""
    with pytest.raises(ConfigurationError, match="cannot be part"):
        codec(sa.DateTime())
