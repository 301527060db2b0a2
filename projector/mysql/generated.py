"""Generated columns: which columns each is computed from.

The log may leave a generated column out of a row (MariaDB 11 always, 10 under MINIMAL), and no
statement names it where one of its base columns is redefined. Whoever reads it therefore reads its
bases too. Never takes a column for independent: of an expression that cannot be read, every column
of the table is a base. All names are in lower case, as columns ignore case on every server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from projector.model import TableName, Watch
from projector.mysql.connection import Connection
from projector.mysql.literals import literal

_QUOTED = re.compile(r"`((?:[^`]|``)+)`")
_ROW_PERIOD = {"ROW START", "ROW END"}  # of a system-versioned table: given by the server

Generated = Mapping[str, frozenset[str]]  # the plain columns that each is computed from in the end


def generated(connection: Connection, tables: Iterable[TableName]) -> dict[TableName, Generated]:
    """Read the generated columns of tables; nothing of those without any."""
    found: dict[TableName, Generated] = {}
    for table in tables:
        [rows] = connection.query(
            "SELECT COLUMN_NAME, GENERATION_EXPRESSION FROM information_schema.COLUMNS"
            f" WHERE TABLE_SCHEMA={literal(table.schema)} AND TABLE_NAME={literal(table.name)}"
        )
        if columns := resolved({str(name): expression for name, expression in rows}):
            found[table] = columns
    return found


def resolved(expressions: Mapping[str, str | None]) -> dict[str, frozenset[str]]:
    """Return the plain columns behind each generated one, through any chain of them.

    `expressions`: of all columns of a table; empty or None for plain ones.
    """
    columns = frozenset(name.lower() for name in expressions)
    direct = {
        name.lower(): _named(expression, columns)
        for name, expression in expressions.items()
        if expression and expression not in _ROW_PERIOD
    }
    return {name: _plain(name, direct) for name in direct}


def _named(expression: str, columns: frozenset[str]) -> frozenset[str]:
    """Return the columns that an expression names; the server puts each in backticks."""
    names = {name.replace("``", "`").lower() for name in _QUOTED.findall(expression)}
    return frozenset(names) or columns


def _plain(name: str, direct: Mapping[str, frozenset[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting, seen = [name], {name}
    while waiting:
        for base in direct[waiting.pop()] - seen:
            seen.add(base)
            if base in direct:
                waiting.append(base)
            else:
                found.add(base)
    return frozenset(found)


def bases(of: Generated, names: Iterable[str]) -> frozenset[str]:
    """Return the columns that these are computed from, none for plain ones."""
    return frozenset().union(*(of.get(name.lower(), ()) for name in names))


def with_bases(watch: Watch, of: Generated) -> Watch:
    """Watch what the watched columns of a table are computed from."""
    needed = bases(of, watch.columns)
    read = watch.read | needed | bases(of, watch.read)
    return replace(watch, read=read, bases=tuple(sorted(needed)))
