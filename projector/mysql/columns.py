"""The types that the tables of projections have, from the server's catalog."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from projector.model import TableName
from projector.mysql.collations import foldings_of
from projector.mysql.connection import Connection
from projector.mysql.literals import literal
from projector.projection import Plan
from projector.projection.columns import MEMBERS, ColumnType, TableTypes, Types

_MEMBER = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "0": "\0", "t": "\t", "Z": "\x1a"}


def fitted(plan: Plan, connection: Connection) -> Plan:
    """Return the plan for the types that its tables have now."""
    types = types_of([plan], connection)
    return plan.fitted(types, foldings_of([plan], types, connection))


def types_of(plans: Sequence[Plan], connection: Connection) -> Types:
    """Ask for the types of the columns that projections read, in one round trip."""
    read: dict[tuple[str | None, str], set[str]] = {}
    names: dict[tuple[str | None, str], tuple[str, str]] = {}
    for plan in plans:
        for node in plan.all_nodes():
            table = (node.table.schema, node.table.name)
            wanted = {*node.read, *(column.name for column in node.key)}
            read.setdefault(table, set()).update(name.lower() for name in wanted)
            names[table] = plan.table_name(node, "")
    answers = connection.query(*(_question(*name) for name in names.values()))
    types = [_types(rows) for rows in answers]
    return {
        table: {name: kind for name, kind in found.items() if name in read[table]}
        for table, found in zip(names, types, strict=True)
    }


def table_types(connection: Connection, tables: Sequence[TableName]) -> dict[TableName, TableTypes]:
    """Ask for the types of all columns of tables, in one round trip."""
    answers = connection.query(*(_question(*table) for table in tables)) if tables else []
    return dict(zip(tables, map(_types, answers), strict=True))


def _question(schema: str, name: str) -> str:
    where = f"TABLE_SCHEMA={literal(schema) if schema else 'DATABASE()'}"
    return (
        "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME"
        f" FROM information_schema.COLUMNS WHERE {where} AND TABLE_NAME={literal(name)}"
    )


def _types(rows: Sequence[Sequence[Any]]) -> TableTypes:
    return {str(name).lower(): _type(*rest) for name, *rest in rows}


def _type(kind: Any, full: Any, charset: Any, collation: Any) -> ColumnType:
    lowered = str(kind).lower()
    if lowered not in MEMBERS:
        return ColumnType(lowered, str(full).lower(), charset, collation)
    members = tuple(
        _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[1]), text.replace("''", "'"))
        for text in _MEMBER.findall(str(full))
    )
    return ColumnType(lowered, str(full), charset, collation, members)
