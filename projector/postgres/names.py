"""Names and texts as PostgreSQL's SQL writes them."""

from __future__ import annotations

from typing import Final

from projector.model import TableName

LONGEST: Final = 63  # bytes of a name (NAMEDATALEN - 1)


def identifier(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'


def spelled(table: TableName) -> str:
    """Write a table's name with its schema."""
    return f"{identifier(table.schema)}.{identifier(table.name)}"


def quoted(text: str) -> str:
    """Quote a text (standard_conforming_strings is on)."""
    return "'" + text.replace("'", "''") + "'"
