"""Tables as the server's catalog has them, as far as a projection's text needs them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from projector.errors import ConfigurationError, OperatorError

_TABLES = {"BASE TABLE", "SYSTEM VERSIONED"}
_NEAR = 3  # names that a wrong one may have meant


@dataclass(frozen=True, slots=True)
class Reference:
    """Columns that refer to those of another table: a foreign key, or what is to be followed."""

    columns: tuple[str, ...]
    schema: str | None
    table: str
    referred: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """`types`: by column, as Python; empty where they are of no use in a document."""

    schema: str | None
    name: str
    types: dict[str, str]
    nullable: frozenset[str]
    key: tuple[str, ...]
    references: tuple[Reference, ...]
    has_zero_dates: bool

    @property
    def place(self) -> tuple[str | None, str]:
        """What tells it from others."""
        return self.schema, self.name


@dataclass(frozen=True, slots=True)
class Column:
    """A column as proposals see it: `type` without what does not matter to a comparison."""

    table: str
    name: str
    type: str
    is_indexed: bool


class Catalog:
    """Reads the catalog; each table once."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._inspector: sa.Inspector = sa.inspect(connection)
        self._tables: dict[tuple[str | None, str], Table] = {}
        self._referring: dict[str | None, list[tuple[str, list[Reference]]]] = {}
        self._kinds_of: dict[str | None, dict[str, str]] = {}
        self._unique: dict[tuple[str | None, str], list[set[str]]] = {}

    def root(self, name: str) -> Table:
        """Return the table of documents. Raises OperatorError for what cannot be one."""
        schema, _, bare = name.rpartition(".")
        kinds = self._kinds(schema or None)
        if (kind := kinds.get(bare)) is None:
            folded = {known.lower(): known for known in kinds}
            near = [known for known in kinds if bare.lower() in known.lower()][:_NEAR]
            near += [folded[n] for n in difflib.get_close_matches(bare.lower(), folded, _NEAR, 0.6)]
            meant = " or ".join(dict.fromkeys(near))
            meant = f"; did you mean {meant}?" if meant else ""
            database = schema or self._connection.exec_driver_sql("SELECT DATABASE()").scalar()
            raise ConfigurationError(
                f"there is no table {bare} in {database}{meant}",
                "Write its name as SHOW TABLES does.",
            )
        if kind not in _TABLES:
            raise OperatorError(
                f"{bare} is a {kind.lower()}: the log has no rows of it",
                "Scaffold the tables below it.",
            )
        table = self.table(schema or None, bare)
        if not table.key:
            raise OperatorError(f"{bare} has no primary key", "Give it one: it names documents.")
        return table

    def has(self, name: str) -> bool:
        """Return whether there is such a table in the database at hand."""
        return self._kinds(None).get(name) in _TABLES

    def table(self, schema: str | None, name: str) -> Table:
        """Return a table that is known to be there."""
        if (schema, name) not in self._tables:
            columns = self._inspector.get_columns(name, schema)
            own = self._own_types(schema, name)
            self._tables[schema, name] = Table(
                schema, name,
                {c["name"]: own.get(c["name"]) or _type(c["type"]) for c in columns},
                frozenset(c["name"] for c in columns if c["nullable"]),
                tuple(self._inspector.get_pk_constraint(name, schema)["constrained_columns"]),
                tuple(_reference(k) for k in self._inspector.get_foreign_keys(name, schema)),
                any(str(c["default"] or "").strip("'").startswith("0000-00-00") for c in columns),
            )  # fmt: skip
        return self._tables[schema, name]

    def is_unique(self, table: Table, columns: Sequence[str]) -> bool:
        """Return whether values of these columns belong to at most one row."""
        if table.place not in self._unique:
            indexes = self._inspector.get_indexes(table.name, table.schema)
            found = [{str(c) for c in i["column_names"]} for i in indexes if i["unique"]]
            self._unique[table.place] = [*found, *([set(table.key)] if table.key else [])]
        return any(key <= set(columns) for key in self._unique[table.place])

    def referring(self, schema: str | None) -> list[tuple[str, list[Reference]]]:
        """Return the foreign keys of a database's tables, by the table that has them."""
        if schema not in self._referring:
            found = self._inspector.get_multi_foreign_keys(schema)
            self._referring[schema] = sorted(
                (name, [_reference(key) for key in keys]) for (_, name), keys in found.items()
            )
        return self._referring[schema]

    def columns(self) -> list[Column]:
        """Return all columns of the database's tables; none of views."""
        rows = self._connection.exec_driver_sql(
            "SELECT c.TABLE_NAME, c.COLUMN_NAME, c.DATA_TYPE, EXISTS (SELECT 1 FROM"
            " information_schema.STATISTICS s WHERE s.TABLE_SCHEMA = c.TABLE_SCHEMA"
            " AND s.TABLE_NAME = c.TABLE_NAME AND s.COLUMN_NAME = c.COLUMN_NAME"
            " AND s.SEQ_IN_INDEX = 1) FROM information_schema.COLUMNS c"
            " WHERE c.TABLE_SCHEMA = DATABASE() ORDER BY c.TABLE_NAME, c.ORDINAL_POSITION"
        )
        return [
            Column(str(t), str(c), str(kind).lower(), bool(i))
            for t, c, kind, i in rows
            if self.has(str(t))
        ]

    def _kinds(self, schema: str | None) -> dict[str, str]:
        if schema in self._kinds_of:
            return self._kinds_of[schema]
        rows = self._connection.execute(
            sa.text("SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES"
                    " WHERE TABLE_SCHEMA = COALESCE(:schema, DATABASE()) ORDER BY TABLE_NAME"),
            {"schema": schema},
        )  # fmt: skip
        return self._kinds_of.setdefault(schema, {str(name): str(kind) for name, kind in rows})

    def _own_types(self, schema: str | None, name: str) -> dict[str, str]:
        """MariaDB's types that SQLAlchemy does not see: JSON is a text with a check."""
        parts = [part.replace("`", "``") for part in (schema, name) if part]
        said = self._connection.exec_driver_sql(f"SHOW CREATE TABLE `{'`.`'.join(parts)}`")
        definition = str(said.one()[1])
        json = re.findall(r"json_valid\(`((?:[^`]|``)+)`\)", definition)
        addresses = re.findall(r"^  `((?:[^`]|``)+)` inet[46]\b", definition, re.MULTILINE)
        types = [(json, "mysql.JSON()"), (addresses, "sa.String(45)")]
        return {column.replace("``", "`"): kind for columns, kind in types for column in columns}


def all_tables(columns: Sequence[Column]) -> Iterator[str]:
    """Yield the tables that have columns, each once."""
    yield from dict.fromkeys(column.table for column in columns)


def _type(kind: Any) -> str:
    if isinstance(kind, sa.types.NullType):
        return ""
    for attribute in ("charset", "collation"):
        if getattr(kind, attribute, None) is not None:
            setattr(kind, attribute, None)
    home = "mysql" if hasattr(mysql, type(kind).__name__) else "sa"
    return f"{home}.{kind!r}"


def _reference(said: Any) -> Reference:
    return Reference(
        tuple(said["constrained_columns"]), said["referred_schema"], said["referred_table"],
        tuple(said["referred_columns"]),
    )  # fmt: skip
