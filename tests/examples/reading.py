"""Whole tables as rows of Python values, for oracles that share nothing with any SQL."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def read(connection: Any, tables: Sequence[str]) -> dict[str, list[Row]]:
    """Read tables in the order of their first column; dates as the server spells them."""
    found = {}
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SHOW COLUMNS FROM {table}")
            columns = [(row[0], "date" in row[1].lower()) for row in cursor.fetchall()]
            shown = ", ".join(f"CAST({c} AS CHAR)" if d else c for c, d in columns)
            cursor.execute(f"SELECT {shown} FROM {table} ORDER BY 1")
            names = [name for name, _ in columns]
            found[table] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return found


def by(rows: Sequence[Row], key: Any, column: str = "id") -> Row | None:
    """Return the row with a key, if there is one."""
    return next((row for row in rows if row[column] == key), None)
