"""What the server's catalog says of a projection's tables: columns, indexes, engine, foreign keys.

Reads with no more than SELECT on the tables: MariaDB shows REFERENTIAL_CONSTRAINTS only to who may
change a table, hence SHOW CREATE TABLE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from projector.model import TableName
from projector.mysql.advice import quoted
from projector.mysql.checks.asking import Asker, Refusal, text_of
from projector.mysql.literals import literal

_CONSTRAINT = re.compile(
    r"CONSTRAINT `((?:[^`]|``)+)` FOREIGN KEY .*? REFERENCES .*?"
    r"((?: ON (?:DELETE|UPDATE) (?:CASCADE|SET NULL|SET DEFAULT|RESTRICT|NO ACTION))+)"
)


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column: its type's name, its type in full, both in lower case."""

    name: str
    kind: str
    full: str
    is_nullable: bool

    @property
    def is_unsigned(self) -> bool:
        """Whether the number has no sign."""
        return "unsigned" in self.full


@dataclass(frozen=True, slots=True)
class Index:
    """An index; names of columns in lower case, in order."""

    name: str
    is_unique: bool
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table; `columns` by lower-case name; `rows` is the server's estimate."""

    kind: str
    engine: str
    is_transactional: bool
    rows: int
    columns: Mapping[str, ColumnFacts]
    indexes: Sequence[Index]
    cascades: Sequence[str]

    def is_unique_by(self, names: Sequence[str]) -> bool:
        """Return whether values of these columns belong to at most one row."""
        wanted = {name.lower() for name in names}
        return any(index.is_unique and wanted.issuperset(index.columns) for index in self.indexes)

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns; none where there is none."""
        return next((index.columns for index in self.indexes if index.name == "PRIMARY"), ())


def look(asker: Asker, table: TableName) -> TableFacts | None:
    """Return a table; None where there is none, or none that may be read."""
    where = f"TABLE_SCHEMA={literal(table.schema)} AND TABLE_NAME={literal(table.name)}"
    tables, columns, indexed = asker.each(
        "SELECT t.TABLE_TYPE, t.ENGINE, e.TRANSACTIONS, t.TABLE_ROWS"
        " FROM information_schema.TABLES t"
        f" LEFT JOIN information_schema.ENGINES e ON e.ENGINE=t.ENGINE WHERE {where}",
        "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE FROM information_schema.COLUMNS"
        f" WHERE {where}",
        "SELECT INDEX_NAME, NON_UNIQUE, COLUMN_NAME FROM information_schema.STATISTICS"
        f" WHERE {where} ORDER BY INDEX_NAME, SEQ_IN_INDEX",
    )
    if not tables:
        return None
    kind, engine, transactions, rows = map(text_of, tables[0])
    found = (ColumnFacts(n, k.lower(), f.lower(), null == "YES")
             for n, k, f, null in (map(text_of, row) for row in columns))  # fmt: skip
    parts: dict[tuple[str, bool], list[str]] = {}
    for name, is_repeated, column in (map(text_of, row) for row in indexed):
        parts.setdefault((name, is_repeated == "0"), []).append(column.lower())
    spelled = f"{quoted(table.schema)}.{quoted(table.name)}"
    definition = asker.attempt(f"SHOW CREATE TABLE {spelled}")
    return TableFacts(
        kind=kind, engine=engine, is_transactional=transactions == "YES", rows=int(rows or 0),
        columns={column.name.lower(): column for column in found},
        indexes=[Index(name, unique, tuple(names)) for (name, unique), names in parts.items()],
        cascades=[] if isinstance(definition, Refusal) else _cascades(text_of(definition[0][1])),
    )  # fmt: skip


def _cascades(definition: str) -> list[str]:
    """Name the constraints through which the server changes rows of this table by itself."""
    found = []
    for line in definition.splitlines():
        match = _CONSTRAINT.search(line)
        if match and re.search("CASCADE|SET NULL|SET DEFAULT", match[2]):
            found.append(f"{match[1]}{match[2]}")
    return found
