"""What PostgreSQL's catalog says of the tables that projections read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from projector.model import TableName
from projector.postgres.connection import Session
from projector.projection import Plan
from projector.projection.columns import ColumnType, Types

_OF_TABLE = (
    "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = {schema} AND c.relname = {name} AND a.attnum > 0 AND NOT a.attisdropped"
)


def types_of(plans: Sequence[Plan], session: Session) -> Types:
    """Ask for the types of the columns that projections read."""
    found: dict[tuple[str | None, str], dict[str, ColumnType]] = {}
    for plan in plans:
        for node in plan.all_nodes():
            schema = _text(node.table.schema) if node.table.schema else "current_schema()"
            rows = session.ask(
                "SELECT a.attname, t.typname, format_type(a.atttypid, a.atttypmod)"
                f" {_OF_TABLE.format(schema=schema, name=_text(node.table.name))}".replace(
                    " WHERE", " JOIN pg_type t ON t.oid = a.atttypid WHERE", 1
                )
            )
            types = {str(name).lower(): ColumnType(kind, full) for name, kind, full in rows}
            read = {name.lower() for name in node.read} | {c.name.lower() for c in node.key}
            of_table = found.setdefault((node.table.schema, node.table.name), {})
            of_table.update({name: kind for name, kind in types.items() if name in read})
    return found


def generated(
    session: Session, tables: Sequence[TableName]
) -> Mapping[TableName, Mapping[str, frozenset[str]]]:
    """Return, by table, the columns that are generated, and what each is computed from."""
    return {}


def shapes(
    session: Session, names_by_table: Mapping[TableName, Sequence[str]]
) -> dict[TableName, tuple[tuple[str, int, int], ...]]:
    """Return what the stream says of these columns, as they are now."""
    found = {}
    for table, names in names_by_table.items():
        rows = session.ask(
            "SELECT a.attname, a.atttypid, a.atttypmod"
            f" {_OF_TABLE.format(schema=_text(table.schema), name=_text(table.name))}"
        )
        columns = ((str(name), int(oid), int(modifier)) for name, oid, modifier in rows)
        found[table] = tuple(sorted(column for column in columns if column[0] in names))
    return found


def sends_generated(session: Session, publication: str) -> bool:
    """Return whether the stream has columns that are generated (PostgreSQL 18)."""
    rows = session.ask(
        "SELECT to_jsonb(p) ->> 'pubgencols' FROM pg_publication p"
        f" WHERE pubname = {_text(publication)}"
    )
    return bool(rows) and rows[0][0] == "s"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
