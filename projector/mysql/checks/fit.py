"""Whether a projection fits the tables that the server has: columns, types, keys.

A type of another family than the declared one would put documents in quarantine, value by value
(see `projection.encoding`): it is refused at the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

from projector.checks import Check, failed, ok, warning
from projector.fitness import keys
from projector.model import TableName
from projector.mysql.checks.asking import Facts
from projector.mysql.checks.catalog import ColumnFacts, TableFacts
from projector.projection import Plan
from projector.projection.nodes import Node

Found = Mapping[TableName, TableFacts | None]

# The second are MariaDB's: documents show the rows of now, as queries without FOR SYSTEM_TIME do.
_LOGGED = {"BASE TABLE", "SYSTEM VERSIONED"}
_TEXT = "char varchar tinytext text mediumtext longtext enum set json uuid inet4 inet6 time".split()
_BINARY = "binary varbinary tinyblob blob mediumblob longblob".split()
# What is shown as no text: bytes of formats of its own.
_OPAQUE = "bit geometry point linestring polygon multipoint multilinestring multipolygon".split()
_OPAQUE += ["geometrycollection", "geomcollection", "vector", *_BINARY]
_WHOLE = "tinyint smallint mediumint int bigint year".split()
_KINDS = {
    "whole": [*_WHOLE, "decimal"],  # one without a fraction
    "number": [*_WHOLE, "decimal", "float", "double"],
    "truth": [*_WHOLE, "decimal", "float", "double", "bit"],
    "bit": ["bit"],
    "instant": ["datetime", "timestamp"],
    "date": ["date"],
    "time": ["time"],
    "json": _TEXT,
    "binary": _BINARY,
    "uuid": ["uuid", "char", "varchar"],
    "text": _TEXT,
}
_FAMILIES: tuple[tuple[type[Any], str], ...] = (
    (sa.Boolean, "truth"), (sa.Integer, "whole"), (mysql.YEAR, "whole"), (mysql.BIT, "bit"),
    (sa.Numeric, "number"), (sa.Float, "number"), (sa.DateTime, "instant"), (sa.Date, "date"),
    (sa.Time, "time"), (sa.JSON, "json"), (sa.Uuid, "uuid"), (sa.types._Binary, "binary"),
    (sa.types.NullType, ""),
)  # fmt: skip


def tables(plan: Plan, schema: str, found: Found) -> list[Check]:
    """Test that every table and column is there and has a fitting type."""
    name = f"{plan.name}.columns"
    problems: list[Check] = []
    read = {watch.table: watch.read for watch in plan.watches(schema)}
    for table, node in _by_table(plan, schema).items():
        facts = found[table]
        if facts is None:
            problems.append(failed(
                name, f"there is no table {table}, or it may not be read",
                f"Correct its name in the projection, create it, or GRANT SELECT ON {table}.",
            ))  # fmt: skip
        elif facts.kind not in _LOGGED:
            problems.append(failed(
                name, f"{table} is a {facts.kind.lower()}: the log has no rows of it",
                "Declare the tables below it, joined." if "VIEW" in facts.kind
                else "Name a table, or leave it out.",
            ))  # fmt: skip
        else:
            problems += _columns(plan, table, node, facts, read[table])
    problems += _ids(plan, schema, found)
    count = sum(map(len, read.values()))
    if any(problem.status == "failed" for problem in problems):
        return problems
    return [ok(name, f"{count} columns of {len(found)} tables are there"), *problems]


def shape(plan: Plan, schema: str, found: Found, facts: Facts) -> list[Check]:
    """Test keys, engines and cascades of tables that are there."""
    roles = [(node, found[plan.table_name(node, schema)]) for node in plan.all_nodes()]
    there = [(node, table) for node, table in roles if table is not None]
    return [
        *keys(plan, there),
        _engines(plan, found),
        _cascades(plan, found, facts),
    ]


def _by_table(plan: Plan, schema: str) -> dict[TableName, Node]:
    return {plan.table_name(node, schema): node for node in plan.all_nodes()}


def _columns(
    plan: Plan, table: TableName, node: Node, facts: TableFacts, read: frozenset[str]
) -> Iterator[Check]:
    name = f"{plan.name}.columns"
    for column in node.table.columns:
        if column.name not in read:
            continue
        actual = facts.columns.get(column.name.lower())
        if actual is None:
            yield failed(
                name,
                f"there is no column {table}.{column.name}, or it may not be read",
                "Correct its name in the projection's tables, migrate the database, or"
                f" GRANT SELECT ON {table}.",
            )
            continue
        yield from _type(name, table, column, actual)
        if plan.is_local(column) and actual.kind == _other_clock(column.type):
            yield failed(
                name,
                f"{table}.{column.name} is {actual.full}, declared as {column.type}: of the two, a"
                " zone converts one alone",
                "Declare the type that the column has.",
            )


def _type(
    name: str, table: TableName, column: sa.Column[object], actual: ColumnFacts
) -> Iterator[Check]:
    where, declared = f"{table}.{column.name}", str(column.type)
    family = _family(column.type)
    has_fraction = actual.kind == "decimal" and not re.search(r"\(\d+(,0)?\)", actual.full)
    if family and (actual.kind not in _KINDS[family] or (family == "whole" and has_fraction)):
        is_shown = family == "text" and actual.kind not in _OPAQUE
        judge = warning if is_shown else failed
        yield judge(
            name,
            f"{where} is {actual.full}, declared as {declared}",
            "Declare the type that the column has.",
        )
        return
    unsigned = getattr(column.type, "unsigned", None)
    if unsigned is not None and unsigned != actual.is_unsigned:
        yield warning(
            name,
            f"{where} is {actual.full}, declared {'un' if unsigned else ''}signed",
            "Declare the type that the column has.",
        )
    if not column.nullable and not column.primary_key and actual.is_nullable:
        yield warning(
            name,
            f"{where} may be NULL, and is declared NOT NULL: readers may not expect null",
            "Declare it nullable, in the document's model too.",
        )


def _other_clock(kind: TypeEngine[object]) -> str:
    """Return which type is taken for this one unless there is a zone; "" for what is no time."""
    if isinstance(kind, TypeDecorator):
        return _other_clock(kind.impl_instance)
    if isinstance(kind, sa.TIMESTAMP):
        return "datetime"
    return "timestamp" if isinstance(kind, sa.DateTime) else ""


def _family(kind: TypeEngine[object]) -> str:
    if isinstance(kind, TypeDecorator):
        return _family(kind.impl_instance)
    for known, family in _FAMILIES:
        if isinstance(kind, known):
            return family
    return "text"


def _ids(plan: Plan, schema: str, found: Found) -> Iterator[Check]:
    """Test that values of the root's key can be told apart by their texts."""
    facts = found[plan.table_name(plan.root, schema)]
    for column in plan.root.key if facts is not None else ():
        actual = facts.columns.get(column.name.lower()) if facts is not None else None
        if actual is None:
            continue
        is_blurred = actual.kind == "enum" and "''" in actual.full.replace("'',", ",''")
        if actual.kind == "float" or is_blurred:
            yield failed(
                f"{plan.name}.columns",
                f"{plan.root.table.name}.{column.name} names documents, and is {actual.full}:"
                " several of its values are written alike",
                "Make it a DOUBLE or DECIMAL (an ENUM: without an empty member), or name documents"
                " by another column.",
            )


def _engines(plan: Plan, found: Found) -> Check:
    name = f"{plan.name}.engines"
    other = {t: f for t, f in found.items() if f is not None and not f.is_transactional}
    if other:
        return warning(
            name,
            ", ".join(f"{table} is {facts.engine}" for table, facts in other.items())
            + ": without transactions a document may show half a change for a moment",
            " ".join(f"ALTER TABLE {table} ENGINE=InnoDB;" for table in other),
        )
    return ok(name, "every table has transactions")


def hides_cascades(facts: Facts) -> bool:
    """Return whether rows changed by foreign keys are missing from the log.

    MySQL logs them from 9.6 on, unless InnoDB does the cascades (innodb_native_foreign_keys).
    """
    if facts.title == "MariaDB" or facts.number < (9, 6):
        return True
    return facts.is_on("innodb_native_foreign_keys", "OFF")


def _cascades(plan: Plan, found: Found, facts: Facts) -> Check:
    name = f"{plan.name}.cascades"
    keys = [f"{t.name}.{key}" for t, f in found.items() if f is not None for key in f.cascades]
    if not keys:
        return ok(name, "no foreign key changes rows by itself")
    if not hides_cascades(facts):
        return ok(name, f"the log shows what {len(keys)} foreign keys change by themselves")
    return ok(
        name,
        "what these foreign keys change is not in the log, and is looked up in a snapshot kept a"
        " little behind the tail (while catching up, a walk over all documents): "
        + ", ".join(keys),
    )
