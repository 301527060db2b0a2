"""What `projector scaffold` asks of PostgreSQL's catalog.

Tables of the search schema are named without it. Partitions are no tables of their own here: their
rows and foreign keys are the partitioned table's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from projector.databases import Source
from projector.postgres.checks.asking import Asker
from projector.postgres.names import quoted
from projector.scaffold.tables import Column, Kind, Place, Reference, Table

_NO_ROWS = "the log has no rows of it"
_BELOW = "Scaffold the tables below it."
_KINDS = {  # relkind, with what else makes a difference
    "v": Kind(f"a view: {_NO_ROWS}", _BELOW),
    "m": Kind(f"a materialized view: {_NO_ROWS}", _BELOW),
    "f": Kind(f"a foreign table: {_NO_ROWS}", "Scaffold a table of this database."),
    "unlogged": Kind(f"an unlogged table: {_NO_ROWS}", "ALTER TABLE … SET LOGGED first."),
    "partition": Kind("a partition: its rows are the partitioned table's", "Scaffold that one."),
    "inherited": Kind(
        "a table that others inherit from: rows that it shows are logged as theirs",
        "Scaffold those tables.",
    ),
}
# By the type's name in pg_type, below domains: as SQLAlchemy has it. Length and precision follow.
_TYPES = {
    "bool": "sa.Boolean()", "int2": "sa.SmallInteger()", "int4": "sa.Integer()",
    "int8": "sa.BigInteger()", "oid": "sa.BigInteger()", "float4": "sa.REAL()",
    "float8": "sa.Double()", "numeric": "sa.Numeric({})", "text": "sa.Text()",
    "varchar": "sa.String({})", "bpchar": "sa.CHAR({})", "char": "sa.String(1)",
    "name": "sa.String(63)", "citext": "postgresql.CITEXT()", "date": "sa.Date()",
    "time": "sa.Time()", "timestamp": "sa.DateTime()",
    "timestamptz": "sa.TIMESTAMP(timezone=True)", "json": "postgresql.JSON()",
    "jsonb": "postgresql.JSONB()", "uuid": "sa.Uuid()", "bytea": "sa.LargeBinary()",
    "inet": "postgresql.INET()", "cidr": "postgresql.CIDR()", "macaddr": "postgresql.MACADDR()",
    "macaddr8": "postgresql.MACADDR8()", "bit": "postgresql.BIT({})",
    "varbit": "postgresql.BIT(varying=True)", "pg_lsn": "sa.Text()", "ltree": "sa.Text()",
}  # fmt: skip
# Ids are made of whole numbers, UUIDs, bytes and texts: the rest names documents by its text.
_NAMING = ("sa.SmallInteger", "sa.Integer", "sa.BigInteger", "sa.Uuid", "sa.LargeBinary",
           "sa.Text", "sa.String", "sa.CHAR", "sa.Enum", "postgresql.CITEXT")  # fmt: skip

_WHOLE = re.compile(r"sa\.Numeric\((\d+), 0\)")
_DIGITS = 18  # that every bigint has


@contextmanager
def catalog(source: Source) -> Iterator[Catalog]:
    """Open the catalog. Raises OperatorError, TransientError."""
    asker = Asker(source, reads=True)
    try:
        yield Catalog(asker, source.search_schema)
    finally:
        asker.close()


class Catalog:
    """Implements `scaffold.tables.Catalog`; reads each table once."""

    dialect = "postgresql"
    lists_tables = r"\dt"
    lists_columns = r"\d"

    def __init__(self, asker: Asker, home: str) -> None:
        self._asker, self.home = asker, home
        self._tables: dict[Place, Table] = {}
        self._kinds: dict[str | None, dict[str, Kind]] = {}
        self._unique: dict[Place, list[frozenset[str]]] = {}
        self._references: list[tuple[Place, Reference]] | None = None

    def place(self, name: str) -> Place:
        """Return the place that a name on the command line means, quoted or not; letter by letter.
        A name may have a dot in it."""
        if name in self.kinds(None):
            return None, name
        schema, _, bare = name.rpartition(".")
        return self._schema(_unquoted(schema)), _unquoted(bare)

    def kinds(self, schema: str | None) -> Mapping[str, Kind]:
        """Return what there is in a schema, by name."""
        if schema not in self._kinds:
            rows = self._asker.objects(_RELATIONS.format(schema=quoted(schema or self.home)))
            self._kinds[schema] = {row["name"]: _KINDS.get(row["kind"], Kind()) for row in rows}
        return self._kinds[schema]

    def root(self, place: Place) -> Table:
        """Return a table that is known to be there, whose key is to name documents."""
        table = self.table(place)
        types = {name: _naming(kind) if name in table.key else kind
                 for name, kind in table.types.items()}  # fmt: skip
        self._tables[place] = Table(
            table.schema, table.name, types, table.nullable, table.key, table.references,
            comments=table.comments,
        )  # fmt: skip
        return self._tables[place]

    def table(self, place: Place) -> Table:
        """Return a table that is known to be there."""
        if place not in self._tables:
            schema, name = place
            where = {"schema": quoted(schema or self.home), "name": quoted(name)}
            columns = self._asker.objects(_COLUMNS.format(**where))
            keys = [row["columns"] for row in self._indexes(place) if row["is_key"]]
            self._tables[place] = Table(
                schema,
                name,
                {row["name"]: _type(row) for row in columns},
                frozenset(row["name"] for row in columns if row["is_nullable"]),
                tuple(keys[0]) if keys else (),
                tuple(key for own, key in self._foreign_keys() if own == place),
                comments={row["name"]: row["comment"] for row in columns if row["comment"]},
            )
        return self._tables[place]

    def is_unique(self, table: Table, columns: Sequence[str]) -> bool:
        """Return whether values of these columns belong to at most one row."""
        if table.place not in self._unique:
            rows = self._indexes(table.place)
            self._unique[table.place] = [frozenset(row["columns"]) for row in rows]
        return any(key <= set(columns) for key in self._unique[table.place])

    def referring(self, table: Table) -> list[tuple[Place, Reference]]:
        """Return the foreign keys that refer to a table, from any schema."""
        return [
            (own, key)
            for own, key in self._foreign_keys()
            if (key.schema, key.table) == table.place
        ]

    def columns(self) -> list[Column]:
        """Return all columns of the search schema's tables; none of views and partitions."""
        tables = {name for name, kind in self.kinds(None).items() if not kind.refused}
        rows = self._asker.objects(_ALL_COLUMNS.format(schema=quoted(self.home)))
        return [Column(**row) for row in rows if row["table"] in tables]

    def _foreign_keys(self) -> list[tuple[Place, Reference]]:
        if self._references is None:
            self._references = []
            for row in self._asker.objects(_FOREIGN_KEYS):
                columns, referred = tuple(row["columns"]), tuple(row["referred"])
                other = self._schema(row["other_schema"]), row["other"]
                reference = Reference(columns, *other, referred)
                self._references.append(((self._schema(row["schema"]), row["name"]), reference))
        return self._references

    def _indexes(self, place: Place) -> list[dict[str, Any]]:
        schema, name = place
        return self._asker.objects(
            _UNIQUE.format(schema=quoted(schema or self.home), name=quoted(name))
        )

    def _schema(self, name: str) -> str | None:
        return None if name in ("", self.home) else name


def _unquoted(name: str) -> str:
    if len(name) > 1 and name.startswith('"') and name.endswith('"'):
        return name[1:-1].replace('""', '"')
    return name


def _type(row: Mapping[str, Any]) -> str:
    """Write a column's type; "" for one without a form in JSON."""
    if row["element"] is not None:  # of an array
        element = _TYPES.get(row["element"], "").format("")
        return f"postgresql.ARRAY({element})" if element else ""
    if row["members"] is not None:
        members = "".join(f"{member!r}, " for member in row["members"])
        return f"sa.Enum({members}name={row['kind']!r})"
    if row["kind"] in _TYPES:
        return _TYPES[row["kind"]].format(row["size"].replace(",", ", "))
    return "sa.Text()" if row["is_like_text"] else ""


def _naming(kind: str) -> str:
    if (match := _WHOLE.fullmatch(kind)) and int(match[1]) <= _DIGITS:
        return "sa.BigInteger()"
    return kind if kind.startswith(_NAMING) else "sa.String()"


_RELATIONS = """
SELECT c.relname AS name, CASE WHEN c.relispartition THEN 'partition'
    WHEN c.relkind = 'r' AND c.relpersistence <> 'p' THEN 'unlogged'
    WHEN c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
    THEN 'inherited' ELSE c.relkind::text END AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1"""

# Of a domain, the type below it and its length, through any chain of domains.
_COLUMNS = """
WITH RECURSIVE columns AS (
  SELECT a.* FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = {schema} AND c.relname = {name} AND a.attnum > 0 AND NOT a.attisdropped),
bases (attnum, oid, modifier) AS (
  SELECT attnum, atttypid, atttypmod FROM columns
  UNION ALL SELECT b.attnum, t.typbasetype, t.typtypmod
  FROM bases b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd')
SELECT a.attname AS name, t.typname AS kind,
  coalesce(substring(format_type(b.oid, b.modifier) FROM '\\(([0-9, -]+)\\)'), '') AS size,
  CASE WHEN t.typcategory = 'A' THEN CASE e.typtype WHEN 'e' THEN 'text' ELSE e.typname END END
    AS element,
  (SELECT jsonb_agg(m.enumlabel ORDER BY m.enumsortorder) FROM pg_enum m WHERE m.enumtypid = t.oid)
    AS members,
  t.typcategory = 'S' AS is_like_text, NOT a.attnotnull AS is_nullable,
  col_description(a.attrelid, a.attnum) AS comment
FROM columns a JOIN bases b USING (attnum)
JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd' LEFT JOIN pg_type e ON e.oid = t.typelem
ORDER BY a.attnum"""

_UNIQUE = """
SELECT i.indisprimary AS is_key, array_agg(a.attname ORDER BY k.place) AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE n.nspname = {schema} AND c.relname = {name} AND i.indisunique AND i.indimmediate
  AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indisprimary DESC, i.indexrelid"""

# Those of partitions are the partitioned table's; one for periods is no equality.
_FOREIGN_KEYS = """
SELECT n.nspname AS schema, c.relname AS name, fn.nspname AS other_schema, f.relname AS other,
  array_agg(a.attname ORDER BY k.place) AS columns,
  array_agg(b.attname ORDER BY k.place) AS referred
FROM pg_constraint r JOIN pg_class c ON c.oid = r.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class f ON f.oid = r.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
CROSS JOIN LATERAL unnest(r.conkey, r.confkey) WITH ORDINALITY k (own, other, place)
JOIN pg_attribute a ON a.attrelid = r.conrelid AND a.attnum = k.own
JOIN pg_attribute b ON b.attrelid = r.confrelid AND b.attnum = k.other
WHERE r.contype = 'f' AND r.conparentid = 0 AND c.relpersistence = 'p'
  AND NOT c.relispartition AND NOT f.relispartition
  AND NOT coalesce((to_jsonb(r) ->> 'conperiod')::bool, false)
GROUP BY r.oid, 1, 2, 3, 4, r.conname ORDER BY 2, 1, min(a.attnum), r.conname"""

_ALL_COLUMNS = """
SELECT c.relname AS table, a.attname AS name, format_type(a.atttypid, -1) AS type,
  EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum) AS is_indexed
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema} AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum"""
