"""What `projector scaffold` asks of the catalog of MySQL and MariaDB."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL

from projector.databases import Mysql
from projector.mysql.connection import ServerError, engine, meaning
from projector.scaffold.tables import Column, Kind, Place, Reference, Table

_TABLES = {"BASE TABLE", "SYSTEM VERSIONED"}


@contextmanager
def catalog(url: URL, settings: Mysql) -> Iterator[Catalog]:
    """Open the catalog. Raises OperatorError, TransientError."""
    source = engine(url, settings)
    try:
        with source.connect() as connection, warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)  # types that it does not know
            yield Catalog(connection)
    except sa.exc.OperationalError as error:
        if not isinstance(error.orig, ServerError):
            raise
        raise meaning(error.orig) from error
    finally:
        source.dispose()


class Catalog:
    """Implements `scaffold.tables.Catalog`; reads each table once."""

    dialect = "mysql"
    lists_tables = "SHOW TABLES"
    lists_columns = "SHOW COLUMNS"

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._inspector: sa.Inspector = sa.inspect(connection)
        self._tables: dict[Place, Table] = {}
        self._referring: dict[str | None, list[tuple[str, list[Reference]]]] = {}
        self._kinds_of: dict[str | None, dict[str, Kind]] = {}
        self._unique: dict[Place, list[set[str]]] = {}

    @cached_property
    def home(self) -> str:
        """The database that the URL names."""
        return str(self._connection.exec_driver_sql("SELECT DATABASE()").scalar())

    def place(self, name: str) -> Place:
        """Return the place that a name on the command line means."""
        schema, _, bare = name.rpartition(".")
        return schema or None, bare

    def root(self, place: Place) -> Table:
        """Return a table that is known to be there, whose key is to name documents."""
        return self.table(place)

    def table(self, place: Place) -> Table:
        """Return a table that is known to be there."""
        if place not in self._tables:
            schema, name = place
            columns = self._inspector.get_columns(name, schema)
            own = self._own_types(schema, name)
            self._tables[place] = Table(
                schema, name,
                {c["name"]: own.get(c["name"]) or _type(c["type"]) for c in columns},
                frozenset(c["name"] for c in columns if c["nullable"]),
                tuple(self._inspector.get_pk_constraint(name, schema)["constrained_columns"]),
                tuple(_reference(k) for k in self._inspector.get_foreign_keys(name, schema)),
                any(str(c["default"] or "").strip("'").startswith("0000-00-00") for c in columns),
                {c["name"]: said for c in columns if (said := c.get("comment"))},
            )  # fmt: skip
        return self._tables[place]

    def is_unique(self, table: Table, columns: Sequence[str]) -> bool:
        """Return whether values of these columns belong to at most one row."""
        if table.place not in self._unique:
            indexes = self._inspector.get_indexes(table.name, table.schema)
            found = [{str(c) for c in i["column_names"]} for i in indexes if i["unique"]]
            self._unique[table.place] = [*found, *([set(table.key)] if table.key else [])]
        return any(key <= set(columns) for key in self._unique[table.place])

    def referring(self, table: Table) -> list[tuple[Place, Reference]]:
        """Return the foreign keys of its database's tables that refer to a table."""
        schema = table.schema
        if schema not in self._referring:
            found = self._inspector.get_multi_foreign_keys(schema)
            self._referring[schema] = sorted(
                (name, [_reference(key) for key in keys]) for (_, name), keys in found.items()
            )
        return [
            ((schema, name), key)
            for name, keys in self._referring[schema]
            for key in keys
            if (key.schema, key.table) == table.place
        ]

    def columns(self) -> list[Column]:
        """Return all columns of the database's tables; none of views."""
        rows = self._connection.exec_driver_sql(
            "SELECT c.TABLE_NAME, c.COLUMN_NAME, c.DATA_TYPE, EXISTS (SELECT 1 FROM"
            " information_schema.STATISTICS s WHERE s.TABLE_SCHEMA = c.TABLE_SCHEMA"
            " AND s.TABLE_NAME = c.TABLE_NAME AND s.COLUMN_NAME = c.COLUMN_NAME"
            " AND s.SEQ_IN_INDEX = 1) FROM information_schema.COLUMNS c"
            " WHERE c.TABLE_SCHEMA = DATABASE() ORDER BY c.TABLE_NAME, c.ORDINAL_POSITION"
        )
        tables = {name for name, kind in self.kinds(None).items() if not kind.refused}
        return [
            Column(str(t), str(c), str(kind).lower(), bool(i))
            for t, c, kind, i in rows
            if str(t) in tables
        ]

    def kinds(self, schema: str | None) -> Mapping[str, Kind]:
        """Return what there is in a database, by name."""
        if schema not in self._kinds_of:
            rows = self._connection.execute(
                sa.text("SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES"
                        " WHERE TABLE_SCHEMA = COALESCE(:schema, DATABASE()) ORDER BY TABLE_NAME"),
                {"schema": schema},
            )  # fmt: skip
            self._kinds_of[schema] = {str(name): _kind(str(kind)) for name, kind in rows}
        return self._kinds_of[schema]

    def _own_types(self, schema: str | None, name: str) -> dict[str, str]:
        """MariaDB's types that SQLAlchemy does not see: JSON is a text with a check."""
        parts = [part.replace("`", "``") for part in (schema, name) if part]
        said = self._connection.exec_driver_sql(f"SHOW CREATE TABLE `{'`.`'.join(parts)}`")
        definition = str(said.one()[1])
        json = re.findall(r"json_valid\(`((?:[^`]|``)+)`\)", definition)
        addresses = re.findall(r"^  `((?:[^`]|``)+)` inet[46]\b", definition, re.MULTILINE)
        types = [(json, "mysql.JSON()"), (addresses, "sa.String(45)")]
        return {column.replace("``", "`"): kind for columns, kind in types for column in columns}


def _kind(kind: str) -> Kind:
    if kind in _TABLES:
        return Kind()
    return Kind(f"a {kind.lower()}: the log has no rows of it", "Scaffold the tables below it.")


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
