"""Whether a projection fits the tables that PostgreSQL has: columns, types.

A type of another family than the declared one would put documents in quarantine, value by value
(see `projection.encoding`): it is refused at the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

from projector.checks import Check, failed, ok, warning
from projector.model import TableName
from projector.postgres.checks.tables import Column, Table
from projector.postgres.dialect import NO_FORM as NO_FORM_TYPES
from projector.projection import Plan
from projector.projection.nodes import Node

Found = Mapping[TableName, Table | None]

_RELATIONS = {  # relkind: what it is, and what to do
    "v": ("a view", "Declare the tables below it, joined."),
    "m": ("a materialized view", "Declare the tables below it, joined."),
    "f": ("a foreign table", "Name a table of this database, or leave it out."),
}
_TEXT = "text varchar bpchar char name citext uuid inet cidr macaddr macaddr8 pg_lsn".split()
_TEXT += "bit varbit time ltree json jsonb".split()
_WHOLE = "int2 int4 int8 oid".split()
_NUMBER = [*_WHOLE, "numeric", "float4", "float8"]
_KINDS = {
    "whole": [*_WHOLE, "numeric"],  # one without a fraction
    "number": _NUMBER,
    "truth": ["bool", *_WHOLE],
    "instant": ["timestamp", "timestamptz"],
    "date": ["date"],
    "time": ["time"],
    "json": ["json", "jsonb", "text", "varchar"],
    "binary": ["bytea"],
    "uuid": ["uuid", "text", "varchar", "bpchar"],
    "text": _TEXT,
}
# Shown as they are by the server, in words of its own; arrays are opaque but to an ARRAY.
_SHOWN = {*_NUMBER, "bool", "timestamp", "timestamptz", "date"}
_FAMILIES: tuple[tuple[type[Any], str], ...] = (
    (sa.Boolean, "truth"), (sa.Integer, "whole"), (sa.Numeric, "number"), (sa.Float, "number"),
    (sa.DateTime, "instant"), (sa.Date, "date"), (sa.Time, "time"), (sa.JSON, "json"),
    (sa.Uuid, "uuid"), (sa.types._Binary, "binary"), (sa.Interval, ""), (sa.types.NullType, ""),
    *((kind, "") for kind in NO_FORM_TYPES),  # never shown but cast: see `PostgresDialect.require`
)  # fmt: skip
_CAST = "Cast it where it is shown: cast(table.c.name, String).label('name'); or leave it out."


def tables(plan: Plan, schema: str, found: Found) -> list[Check]:
    """Test that every table and column is there and has a fitting type."""
    name = f"{plan.name}.columns"
    problems: list[Check] = []
    read = {watch.table: watch.read for watch in plan.watches(schema)}
    for table, node in {plan.table_name(n, schema): n for n in plan.all_nodes()}.items():
        facts = found[table]
        if facts is None:
            problems.append(failed(
                name, f"there is no table {table}",
                "Correct its name in the projection (letter by letter, in lower case where it was"
                " created without quotes), name its schema (PROJECTOR_SOURCE__SEARCH_SCHEMA), or"
                " create it.",
            ))  # fmt: skip
            continue
        problems += _relation(name, table, facts)
        problems += _columns(plan, table, node, facts, read[table])
    problems += _ids(plan, found[plan.table_name(plan.root, schema)])
    count = sum(map(len, read.values()))
    if any(problem.status == "failed" for problem in problems):
        return problems
    return [ok(name, f"{count} columns of {len(read)} tables are there"), *problems]


def _relation(name: str, table: TableName, facts: Table) -> Iterator[Check]:
    """Test that the log has all rows of the table, under its name."""
    if facts.kind in _RELATIONS:
        what, way = _RELATIONS[facts.kind]
        yield failed(name, f"{table} is {what}: the log has no rows of it", way)
    elif facts.persistence != "p":
        yield failed(
            name,
            f"{table} is unlogged: the log has no rows of it",
            f'ALTER TABLE "{table.schema}"."{table.name}" SET LOGGED;',
        )
    elif facts.is_inherited:
        yield failed(
            name,
            f"{table} shows rows of tables that inherit from it, which are logged as theirs",
            "Make it a partitioned table, or declare those tables.",
        )
    elif facts.is_partition:
        yield failed(
            name,
            f"{table} is a partition: its rows are taken for the partitioned table's",
            "Declare the partitioned table, with a condition on its key.",
        )


def _columns(
    plan: Plan, table: TableName, node: Node, facts: Table, read: frozenset[str]
) -> Iterator[Check]:
    name = f"{plan.name}.columns"
    for column in node.table.columns:
        if column.name not in read:
            continue
        actual = facts.columns.get(column.name)
        if actual is None:
            yield failed(
                name,
                f"there is no column {table}.{column.name}",
                "Correct its name in the projection's tables (letter by letter), or migrate the"
                " database.",
            )
            continue
        yield from _type(name, table, column, actual)
        if plan.is_local(column) and actual.kind == _other_clock(column.type):
            yield failed(
                name,
                f"{table}.{column.name} is {actual.full}, declared as {column.type}: of the two, a"
                " zone converts one alone",
                "Declare timestamptz as TIMESTAMP(timezone=True), timestamp as DateTime.",
            )


def _type(
    name: str, table: TableName, column: sa.Column[object], actual: Column
) -> Iterator[Check]:
    where, declared = f"{table}.{column.name}", str(column.type)
    if not fits(column.type, actual):
        is_shown = _family(column.type) == "text" and actual.kind in _SHOWN and not actual.is_array
        judge = warning if is_shown else failed
        has_form = actual.kind in {kind for kinds in _KINDS.values() for kind in kinds}
        yield judge(
            name,
            f"{where} is {actual.full}, declared as {declared}"
            + ("" if has_form or actual.is_like_text else ", and has no form in JSON"),
            "Declare the type that the column has." if has_form or actual.is_like_text else _CAST,
        )
        return
    if not column.nullable and not column.primary_key and actual.is_nullable:
        yield warning(
            name,
            f"{where} may be NULL, and is declared NOT NULL: readers may not expect null",
            "Declare it nullable, in the document's model too.",
        )


def fits(kind: TypeEngine[object], actual: Column) -> bool:
    """Return whether values of a column are such as its declared type says."""
    kind = kind._variant_mapping.get("postgresql", kind)
    family, own = _family(kind), actual.kind
    if isinstance(kind, TypeDecorator):
        return fits(kind.impl_instance, actual)
    if isinstance(kind, sa.ARRAY):
        return actual.is_array and fits(kind.item_type, replace(actual, is_array=False))
    if not family:
        return True
    if actual.form in "crm" or actual.is_array:  # composite, range, multirange
        return False
    if family == "whole" and own == "numeric":
        return bool(re.search(r"\(\d+(,0)?\)", actual.full))
    return own in _KINDS[family] or (family == "text" and actual.is_like_text)


def _other_clock(kind: TypeEngine[object]) -> str:
    """Return which type is taken for this one unless there is a zone; "" for what is no time."""
    if isinstance(kind, TypeDecorator):
        return _other_clock(kind.impl_instance)
    if isinstance(kind, sa.TIMESTAMP):
        return "timestamp"
    return "timestamptz" if isinstance(kind, sa.DateTime) else ""


def _family(kind: TypeEngine[Any]) -> str:
    if isinstance(kind, TypeDecorator):
        return _family(kind.impl_instance)
    for known, family in _FAMILIES:
        if isinstance(kind, known):
            return family
    return "text"


def _ids(plan: Plan, facts: Table | None) -> Iterator[Check]:
    """Test that values of the root's key are equal only where their texts are."""
    for column in plan.root.key if facts is not None else ():
        actual = facts.columns.get(column.name) if facts is not None else None
        if actual is not None and actual.folds:
            yield failed(
                f"{plan.name}.columns",
                f"{plan.root.table.name}.{column.name} names documents, and its collation (or type"
                f" {actual.full}) calls unlike texts equal",
                "Give it a deterministic collation, or name documents by another column.",
            )
