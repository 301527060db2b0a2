"""PostgreSQL's SQL as projections have it written."""

import re
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from projector.errors import ConfigurationError
from projector.postgres.dialect import FOLDS, POSTGRES, Likeness, literal
from projector.projection import Aggregate, Plan, Projection, binary
from projector.projection.columns import ColumnType
from projector.projection.dialect import Sameness
from schema.projection import tickets

_METADATA = sa.MetaData()
_ORDERS = sa.Table("orders", _METADATA, sa.Column("id", sa.Integer, primary_key=True))
_LINES = sa.Table(
    "lines", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.Integer), sa.Column("name", sa.Text), sa.Column("data", sa.JSON),
)  # fmt: skip


def _read(text: str) -> str:
    """Read a literal as a server does while standard_conforming_strings is on."""
    assert re.fullmatch(r"'(?:[^']|'')*'", text, re.DOTALL)
    return text[1:-1].replace("''", "'")


@given(st.text())
def test_a_text_is_read_back_as_it_was(text: str) -> None:
    """Nothing but the quote means anything in a literal."""
    assert _read(literal(text)) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_constant_of_a_declaration_is_read_back_as_it_was(text: str) -> None:
    """SQLAlchemy's literals too: a backslash is a backslash, a percent sign single."""
    said = POSTGRES.compile(sa.select(sa.literal(text)))
    assert _read(said.removeprefix("SELECT ").rpartition(" AS ")[0]) == text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "1"), (-5, "-5"), (b"\x00\xff", "'\\x00ff'::bytea"), (b"", "'\\x'::bytea"),
        (Decimal("1E-7"), "0.0000001"), (Decimal("NaN"), "'NaN'"), (1e16, "'1e+16'"),
    ],
)  # fmt: skip
def test_values_are_written_as_the_server_reads_them(value: Any, written: str) -> None:
    """Whatever a key may hold."""
    assert literal(value) == written


def test_a_value_is_sought_as_one_of_its_columns_own_type() -> None:
    """So it is compared with the other column as the join compares both."""
    own = ColumnType("bpchar", "character(5)", None, '"pg_catalog"."C"')
    assert Likeness(own).write("a'b") == "CAST('a''b' AS character(5)) COLLATE \"pg_catalog\".\"C\""
    assert Likeness(ColumnType("bytea", "bytea")).write(b"\1") == "CAST('\\x01'::bytea AS bytea)"
    assert POSTGRES.likeness(ColumnType("", ""), own).write(7) == "7"


@pytest.mark.parametrize(
    ("kind", "value", "suits"),
    [
        ("int4", 5, True), ("int4", "5", True), ("int4", "x", False), ("bytea", b"x", True),
        ("bytea", "x", False), ("text", b"x", False), ("text", "x", True),
    ],
)  # fmt: skip
def test_a_value_is_sought_as_what_it_may_have_been(kind: str, value: Any, suits: bool) -> None:
    """A look-up of one name may serve columns of several types."""
    assert Likeness(ColumnType(kind, kind)).suits(value) is suits


def test_texts_are_sorted_by_bytes_where_that_is_declared() -> None:
    """A cast to bytea would read the backslashes of a text as escapes."""
    said = POSTGRES.compile(sa.select(binary(_LINES.c.name)))
    assert "convert_to(CAST(lines.name AS TEXT), 'UTF8')" in said


def test_what_is_listed_has_the_order_of_the_key() -> None:
    """Unless an order is declared; what is listed once each is sorted by itself."""
    name, key = _LINES.c.name, [_LINES.c.id]

    def said(expression: Any) -> str:
        return POSTGRES.compile(sa.select(POSTGRES.settled(expression, key)))

    assert "array_agg(lines.name ORDER BY lines.id)" in said(sa.func.array_agg(name))
    assert "string_agg(lines.name, ',' ORDER BY lines.id)" in said(sa.func.string_agg(name, ","))
    assert "array_agg(DISTINCT lines.name ORDER BY lines.name)" in said(
        sa.func.array_agg(sa.distinct(name))
    )
    ordered = sa.func.array_agg(postgresql.aggregate_order_by(name, name.desc()))
    assert "array_agg(lines.name ORDER BY lines.name DESC)" in said(ordered)


def test_figures_over_no_rows_are_asked_without_a_maximum() -> None:
    """Not every type of a key has one."""
    figure = sa.func.coalesce(sa.func.sum(_LINES.c.id), 0).label("sum")
    lines = Aggregate(_LINES, on=_LINES.c.order_id == _ORDERS.c.id, fields=[figure])
    plan = Plan(Projection("orders", _ORDERS, [_ORDERS.c.id], collections=[lines]), POSTGRES)
    assert "UNION ALL SELECT NULL AS c0" in plan.levels[1].sql.replace("\n", "")


@pytest.mark.parametrize("kind", [postgresql.INTERVAL(), postgresql.INT4RANGE(), sa.Interval()])
def test_types_without_a_form_in_json_are_refused(kind: Any) -> None:
    """A cast to a text says what is meant."""
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                     sa.Column("x", kind))  # fmt: skip
    with pytest.raises(ConfigurationError, match="without a form in JSON"):
        Plan(Projection("t", table, list(table.c)), POSTGRES)


def test_which_texts_are_one_value() -> None:
    """All others are told apart; spaces at the end of a char(n) do not count."""
    assert POSTGRES.sameness(ColumnType("text", "text")) is Sameness.BYTES
    assert POSTGRES.sameness(ColumnType("bpchar", "character(5)")) is Sameness.PADDED
    assert POSTGRES.sameness(ColumnType("text", "text", FOLDS)) is Sameness.UNKNOWN


def test_the_reference_is_planned_alike() -> None:
    """The same routes and watches, whatever the server."""
    plan = Plan(tickets, POSTGRES)
    assert "`" not in "".join(level.sql for level in plan.levels)
    assert {w.table.name for w in plan.watches("public")} >= {"tickets", "users", "ticket_tags"}
