"""What the catalog says of a projection's tables: columns, indexes, identities, privileges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from projector.model import TableName
from projector.postgres.checks.asking import Asker
from projector.postgres.names import quoted


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `kind`: name of its type, below domains, or of its elements' where it `is_array`;
    `form`: b, e, c, r, m as typtype has it; `is_like_text`: behaves as a text; `folds`: unlike
    texts are equal."""

    name: str
    kind: str
    full: str
    form: str
    is_like_text: bool
    is_array: bool
    is_nullable: bool
    folds: bool
    may_read: bool


@dataclass(frozen=True, slots=True)
class Index:
    """An index of columns, in order; none of expressions or of some rows alone. Also one that is
    deferrable is unique: snapshots show what has been committed."""

    columns: tuple[str, ...]
    is_unique: bool
    is_key: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """What the log says of old rows of a table: those with rows of their own, so leaves of one that
    is partitioned. `mode`: d, i, f, n as relreplident has it; `columns` are those it has now. A key
    that `is_deferrable` is no identity. `indexes`: by name, with their columns where one could be
    the identity; `broken`: those that a CREATE INDEX CONCURRENTLY has left unfinished."""

    table: TableName
    mode: str
    columns: frozenset[str]
    key: tuple[str, ...]
    is_deferrable: bool
    indexes: Mapping[str, frozenset[str]]
    broken: frozenset[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `rows` is the server's estimate, `kind` and `persistence` are relkind and
    relpersistence."""

    oid: int
    kind: str
    persistence: str
    rows: int
    is_partition: bool
    is_inherited: bool
    hides_rows: bool
    may_enter: bool
    is_own: bool
    columns: Mapping[str, Column]
    indexes: Sequence[Index]
    identities: Sequence[Identity]

    def is_unique_by(self, names: Sequence[str]) -> bool:
        """Return whether values of these columns belong to at most one row."""
        wanted = set(names)
        return any(i.is_unique and wanted.issuperset(i.columns) for i in self.indexes)

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns; none where there is none."""
        return next((index.columns for index in self.indexes if index.is_key), ())


def look(asker: Asker, table: TableName, account: str | None = None) -> Table | None:
    """Return a table; None where there is none. `account`: whose privileges count, if not those of
    the one that asks; it need not exist."""
    role = _ROLE.format(name="current_user" if account is None else quoted(account))
    found = asker.objects(
        f"{_TABLE.format(role=role)} WHERE n.nspname = {quoted(table.schema)}"
        f" AND c.relname = {quoted(table.name)}"
    )
    if not found:
        return None
    [facts] = found
    oid = facts["oid"]
    asked = asker.objects(_COLUMNS.format(oid=oid, role=role))
    columns = {row["name"]: Column(**row) for row in asked}
    return Table(
        **facts,
        columns=columns,
        indexes=[_index(row) for row in asker.objects(_INDEXES.format(oid=oid))],
        identities=[_identity(row) for row in asker.objects(_IDENTITIES.format(oid=oid))],
    )


def _index(row: Mapping[str, Any]) -> Index:
    columns = tuple(row["columns"])
    return Index(columns, row["is_unique"], row["is_key"])


def _identity(row: Mapping[str, Any]) -> Identity:
    table = TableName(row["schema"], row["name"])
    columns, key = frozenset(row["columns"] or ()), tuple(row["key"] or ())
    indexes = {name: frozenset(listed or ()) for name, listed in (row["indexes"] or {}).items()}
    broken = frozenset(row["broken"] or ())
    is_deferrable = bool(row["is_deferrable"])
    return Identity(table, row["mode"], columns, key, is_deferrable, indexes, broken)


_ROLE = "coalesce((SELECT oid FROM pg_roles WHERE rolname = {name}), 0)"  # 0: PUBLIC

# Tables that inherit as partitions do not (relkind r with children) show their rows in the parent.
_TABLE = """
SELECT c.oid::int8 AS oid, c.relkind AS kind, c.relpersistence AS persistence,
  (SELECT coalesce(sum(greatest(l.reltuples, 0)), 0)::int8 FROM pg_class l WHERE l.oid = c.oid
    OR l.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf)) AS rows,
  c.relispartition AS is_partition,
  c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS is_inherited,
  row_security_active(c.oid) AS hides_rows,
  has_schema_privilege({role}, c.relnamespace, 'USAGE') AS may_enter,
  pg_has_role(c.relowner, 'USAGE') AS is_own
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"""

_COLUMNS = """
WITH RECURSIVE bases (attnum, oid, is_array) AS (
  SELECT attnum, atttypid, false FROM pg_attribute
  WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped
  UNION ALL SELECT b.attnum, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END,
    t.typtype <> 'd' OR b.is_array
  FROM bases b JOIN pg_type t ON t.oid = b.oid
  WHERE t.typtype = 'd' OR t.typinput = 'array_in'::regproc)
SELECT a.attname AS name, t.typname AS kind, format_type(a.atttypid, a.atttypmod) AS full,
  t.typtype AS form, t.typtype = 'e' OR t.typcategory = 'S' AS is_like_text, b.is_array,
  NOT a.attnotnull AS is_nullable,
  t.typname = 'citext' OR coalesce(NOT l.collisdeterministic, false) AS folds,
  has_column_privilege({role}, a.attrelid, a.attnum, 'SELECT') AS may_read
FROM pg_attribute a JOIN bases b USING (attnum)
JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd' AND t.typinput <> 'array_in'::regproc
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = {oid}"""

_INDEXES = """
SELECT i.indisunique AND i.indpred IS NULL AS is_unique, i.indisprimary AS is_key,
  array_agg(a.attname ORDER BY k.place) AS columns
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = {oid} AND i.indisvalid AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisunique, i.indpred, i.indisprimary"""

# What an index INCLUDEs beside its key is in no identity.
_IDENTITIES = """
SELECT n.nspname AS schema, c.relname AS name, c.relreplident AS mode,
  (SELECT array_agg(a.attname) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND (c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid
      AND i.indimmediate AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
      AND CASE c.relreplident WHEN 'd' THEN i.indisprimary
      WHEN 'i' THEN i.indisreplident ELSE false END))) AS columns,
  (SELECT array_agg(a.attname ORDER BY k.place)
    FROM unnest((p.indkey::int2[])[0:p.indnkeyatts - 1]) WITH ORDINALITY k (attnum, place)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum) AS key,
  NOT p.indimmediate AS is_deferrable,
  (SELECT jsonb_object_agg(x.relname, CASE WHEN i.indisunique AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL THEN (SELECT jsonb_agg(a.attname)
        FROM pg_attribute a WHERE a.attrelid = c.oid
        AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) END)
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisvalid) AS indexes,
  (SELECT jsonb_agg(x.relname) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND NOT i.indisvalid) AS broken
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index p ON p.indrelid = c.oid AND p.indisprimary
WHERE c.relkind = 'r' AND (c.oid = {oid} OR c.oid IN
  (SELECT relid FROM pg_partition_tree({oid}) WHERE isleaf)) ORDER BY 1, 2"""
