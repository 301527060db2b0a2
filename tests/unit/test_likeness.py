"""How values of one column are sought in another: by literals where those find all that the join
finds, as rows of the column's own type elsewhere. The servers themselves: tests/abroad."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from projector.mysql.likeness import Likeness, sought, turns_into
from projector.mysql.literals import literal
from projector.projection.columns import ColumnType

INT = ColumnType("int", "int")
DECIMAL = ColumnType("decimal", "decimal(10,2)")
DOUBLE = ColumnType("double", "double")
YEAR = ColumnType("year", "year")
BIT = ColumnType("bit", "bit(9)")
DATE = ColumnType("date", "date")
UUID = ColumnType("uuid", "uuid")
BYTES = ColumnType("varbinary", "varbinary(9)")
BLOB = ColumnType("blob", "blob")
GENERAL = ColumnType("varchar", "varchar(9)", "utf8mb4", "utf8mb4_general_ci")
BIN = ColumnType("varchar", "varchar(9)", "utf8mb4", "utf8mb4_bin")
NOPAD = ColumnType("varchar", "varchar(9)", "utf8mb4", "utf8mb4_0900_ai_ci")
LATIN = ColumnType("varchar", "varchar(9)", "latin1", "latin1_swedish_ci")
LATIN_BIN = ColumnType("varchar", "varchar(9)", "latin1", "latin1_bin")
UTF16 = ColumnType("varchar", "varchar(9)", "utf16", "utf16_general_ci")
ENUM = ColumnType("enum", "enum('b','a')", "utf8mb4", "utf8mb4_general_ci", ("b", "a"))
EMPTY = ColumnType("enum", "enum('b','')", "utf8mb4", "utf8mb4_general_ci", ("b", ""))
SET = ColumnType("set", "set('b','a')", "utf8mb4", "utf8mb4_general_ci", ("b", "a"))


@pytest.mark.parametrize(
    ("own", "other", "is_plain"),
    [
        (INT, INT, True), (INT, DECIMAL, True), (INT, GENERAL, True), (INT, DOUBLE, True),
        (INT, ENUM, True), (INT, DATE, False), (INT, BYTES, False), (YEAR, INT, True),
        (YEAR, DATE, False), (BIT, DATE, False), (BIT, INT, True),
        (DOUBLE, DOUBLE, True), (DOUBLE, ColumnType("float", "float"), True),
        (DOUBLE, GENERAL, True), (DOUBLE, INT, False), (DOUBLE, DECIMAL, False),
        (DECIMAL, DOUBLE, True), (BYTES, BLOB, True), (BYTES, GENERAL, False),
        (BYTES, INT, False), (DATE, DATE, True), (DATE, ColumnType("datetime", "datetime"), False),
        (UUID, UUID, True), (UUID, GENERAL, False), (GENERAL, UUID, False),
        (GENERAL, GENERAL, True), (GENERAL, BIN, True), (BIN, GENERAL, True), (BIN, INT, False),
        (GENERAL, DOUBLE, False), (GENERAL, BYTES, False), (GENERAL, DATE, False),
        (GENERAL, NOPAD, False), (NOPAD, GENERAL, True), (NOPAD, NOPAD, True),
        (LATIN, GENERAL, True), (LATIN, LATIN_BIN, True), (GENERAL, LATIN, False),
        (UTF16, GENERAL, False), (LATIN, UTF16, False), (GENERAL, UTF16, False),
        (ENUM, GENERAL, True), (GENERAL, ENUM, True), (ENUM, INT, False), (ENUM, SET, True),
    ],
)  # fmt: skip
def test_a_literal_stands_for_a_column_where_it_finds_as_much(
    own: ColumnType, other: ColumnType, is_plain: bool
) -> None:
    """Whatever the values; everywhere else the server compares columns."""
    likeness = Likeness(own, other)
    assert likeness.is_plain is is_plain
    assert ("JSON_TABLE" in sought(["c"], [], [likeness])) is not is_plain


@pytest.mark.parametrize(
    ("own", "other", "value", "takes"),
    [
        (BIN, INT, "12", True), (BIN, INT, "1e1", False), (BIN, INT, "1.e1", False),
        (BIN, INT, "e1", True), (BIN, INT, "1" * 15, True), (BIN, INT, "1" * 16, False),
        (BIN, DECIMAL, "12", False), (BIN, DOUBLE, "12", False), (GENERAL, LATIN, "a", False),
        (GENERAL, LATIN, b"\xff", True), (DATE, INT, "2026-01-01", False), (ENUM, INT, "b", False),
        (GENERAL, GENERAL, "1e1", True), (BYTES, INT, b"1", False), (BIT, DATE, 1, False),
    ],
)  # fmt: skip
def test_a_short_number_in_a_text_is_sought_as_it_stands(
    own: ColumnType, other: ColumnType, value: Any, takes: bool
) -> None:
    """A double holds fifteen digits exactly; an exponent, or another column, is for the server."""
    assert Likeness(own, other).takes(value) is takes


@pytest.mark.parametrize(
    ("own", "value", "suits"),
    [
        (INT, 1, True), (INT, "17", True), (INT, "x", False), (INT, b"1", False),
        (DECIMAL, "1.50", True), (DOUBLE, "1e30", True), (DOUBLE, "", False),
        (DECIMAL, Decimal(1), True), (BYTES, b"a", True), (BYTES, "a", False),
        (GENERAL, "a", True), (GENERAL, b"\xff", True), (GENERAL, 1, False),
        (ENUM, 1, True), (ENUM, "b", True), (SET, 3, True), (DATE, "2026-01-01", True),
        (DATE, 1, False),
    ],
)  # fmt: skip
def test_a_value_is_sought_as_what_it_may_have_been(
    own: ColumnType, value: Any, suits: bool
) -> None:
    """Rows of several kinds may lead to one look-up; numbers put off come back as texts."""
    assert Likeness(own, GENERAL).suits(value) is suits


@pytest.mark.parametrize(
    ("own", "other", "value", "cells"),
    [
        (ENUM, INT, "a", [2]), (ENUM, INT, "", [0]), (EMPTY, INT, "", [0, 2]),
        (ENUM, INT, "gone", []), (SET, INT, "b,a", [3]), (SET, INT, "gone", []),
        (ENUM, DATE, "a", ["a"]), (BYTES, INT, b"\x0a", ["0a"]), (DECIMAL, DATE, Decimal("1E+1"),
        ["10"]), (INT, DATE, 7, [7]), (BIT, DATE, 5, [5]),
    ],
)  # fmt: skip
def test_a_value_becomes_a_cell(
    own: ColumnType, other: ColumnType, value: Any, cells: list[Any]
) -> None:
    """A member beside a number counts by its number; the empty text may be one, or none."""
    assert list(Likeness(own, other).cells(value)) == cells


@pytest.mark.parametrize(
    ("own", "other", "written", "expression"),
    [
        (INT, DATE, "int", "n"), (BIT, DATE, "BIGINT UNSIGNED", "n"),
        (ENUM, INT, "BIGINT UNSIGNED", "n"),
        (ENUM, DATE, "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", "n"),
        (UUID, GENERAL, "LONGTEXT CHARACTER SET utf8mb4", "CAST(n AS UUID)"),
        (BYTES, INT, "LONGTEXT CHARACTER SET utf8mb4", "UNHEX(n)"),
        (LATIN, INT, "varchar(9) CHARACTER SET latin1 COLLATE latin1_swedish_ci", "n"),
        (ColumnType("timestamp", "timestamp /* mariadb-5.3 */"), INT, "timestamp ", "n"),
    ],
)  # fmt: skip
def test_a_row_has_the_columns_own_type(
    own: ColumnType, other: ColumnType, written: str, expression: str
) -> None:
    """So that the server compares as in the join."""
    assert Likeness(own, other).row_type == written
    assert Likeness(own, other).expression("n") == expression


def test_the_join_compares_by_the_wider_character_set() -> None:
    """And within one by the binary collation."""
    assert turns_into(LATIN, GENERAL)
    assert turns_into(GENERAL, GENERAL)
    assert turns_into(GENERAL, BIN)
    assert turns_into(ENUM, BIN)
    assert not turns_into(BIN, GENERAL)
    assert not turns_into(GENERAL, LATIN)
    assert not turns_into(UTF16, GENERAL)
    assert not turns_into(LATIN, UTF16)
    assert not turns_into(INT, GENERAL)
    assert not turns_into(GENERAL, INT)


def test_values_of_both_sorts_are_sought_together() -> None:
    """Some by literals, the others as rows, in the order of the columns; none at all by rows, so
    that it shows whether the server can."""
    by_text = Likeness(BIN, INT)
    found = sought(["c"], [("12",), ("1e1",)], [by_text])
    assert found.startswith(f"(c IN ({literal('12')}) OR EXISTS (SELECT 1 FROM JSON_TABLE(")
    assert literal(json.dumps([["1e1"]])) in found
    assert sought(["c"], [("12",)], [by_text]) == f"c IN ({literal('12')})"
    assert sought(["c"], [], [by_text]).startswith("EXISTS")
    assert sought(["c"], [], [Likeness(INT, INT)]) == "FALSE"
    two = sought(["c", "d"], [("1e1", 7)], [by_text, Likeness(INT, DATE)])
    assert literal(json.dumps([["1e1", 7]])) in two
    assert two.endswith("WHERE c = sought.c0 AND d = sought.c1)")
    assert sought(["c", "d"], [("1", 7)], [by_text, Likeness(INT, INT)]).startswith("(c=", 1)


def test_a_number_that_was_put_off_is_a_number_again() -> None:
    """Written into a debt it has become a text, which would be compared otherwise."""
    write = Likeness(DECIMAL, GENERAL).write
    assert write("1.50") == "1.50"
    assert write("1e300") == repr(1e300)
    assert write("abc") == literal("abc")
    assert Likeness(GENERAL, INT).write("1.50") == literal("1.50")


def test_bits_beside_times_have_no_meaning() -> None:
    """In any schema; everything else is known."""
    assert not Likeness(BIT, DATE).is_known
    assert Likeness(BIT, INT).is_known
    assert Likeness(INT, DATE).is_known
