"""What PostgreSQL's catalog says of the tables that projections read.

Names are the catalog's own, letter by letter: the server folds only what is written unquoted, and
our queries quote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from projector.model import TableName
from projector.postgres.connection import Session
from projector.postgres.dialect import FOLDS
from projector.postgres.names import quoted
from projector.projection import Plan
from projector.projection.columns import ColumnType, TableTypes, Types

_OF_TABLE = (
    "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = {schema} AND c.relname = {name} AND a.attnum > 0 AND NOT a.attisdropped"
)
# Of a domain, the type below it, through any chain of domains. DEFAULT_COLLATION_OID is 100.
_TYPES = """
WITH RECURSIVE columns AS (SELECT a.attname, a.atttypid, a.atttypmod, a.attcollation {of_table}),
bases (attname, oid) AS (
  SELECT attname, atttypid FROM columns
  UNION ALL SELECT b.attname, t.typbasetype
  FROM bases b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd')
SELECT c.attname, t.typname, format_type(c.atttypid, c.atttypmod),
  CASE WHEN c.attcollation NOT IN (0, 100)
    THEN format('%I.%I', cn.nspname, l.collname) END,
  t.typname = 'citext' OR coalesce(NOT l.collisdeterministic, false)
FROM columns c JOIN bases b USING (attname)
JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
LEFT JOIN pg_collation l ON l.oid = c.attcollation
LEFT JOIN pg_namespace cn ON cn.oid = l.collnamespace"""
# The columns that a generated one is computed from are in pg_depend: of the expression, or (before
# 15) of the column itself. From 18 on stored ones are sent where the publication says so; that its
# view names them earlier means nothing. Virtual ones are in no publication.
_GENERATED = """
SELECT a.attname, b.attname {of_table} AND a.attgenerated <> '' AND NOT (
  current_setting('server_version_num')::int >= 180000 AND EXISTS (
    SELECT FROM pg_publication_tables p WHERE p.pubname = {publication}
    AND to_jsonb(p) -> 'attnames' ? a.attname::text
    AND (p.schemaname, p.tablename) IN (SELECT tn.nspname, t.relname
      FROM pg_class t JOIN pg_namespace tn ON tn.oid = t.relnamespace WHERE t.oid = c.oid
      OR t.oid IN (SELECT relid FROM pg_partition_tree(c.oid)))))"""
_BASES = """ LEFT JOIN pg_attrdef e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
LEFT JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
  AND d.refobjsubid > 0 AND d.refobjsubid <> a.attnum
  AND (d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid
    OR d.classid = 'pg_class'::regclass AND d.objid = a.attrelid AND d.objsubid = a.attnum)
LEFT JOIN pg_attribute b ON b.attrelid = a.attrelid AND b.attnum = d.refobjsubid
WHERE"""


def types_of(plans: Sequence[Plan], session: Session) -> Types:
    """Ask for the types of the columns that projections read, in one message."""
    read: dict[tuple[str | None, str], set[str]] = {}
    for plan in plans:
        for node in plan.all_nodes():
            wanted = {*node.read, *(column.name for column in node.key)}
            read.setdefault((node.table.schema, node.table.name), set()).update(wanted)
    questions = (_TYPES.format(of_table=_of_table(*table)) for table in read)
    answers = session.run(*questions) if read else []
    return {
        table: _types([[_decoded(v) for v in row] for row in rows], read[table])
        for table, rows in zip(read, answers, strict=True)
    }


def _types(rows: Sequence[Sequence[str | None]], read: set[str]) -> TableTypes:
    return {
        str(name).lower(): ColumnType(
            str(kind), str(full), FOLDS if folds == "t" else None, collation
        )
        for name, kind, full, collation, folds in rows
        if name in read
    }


def unsent(
    session: Session, tables: Sequence[TableName], publication: str
) -> Mapping[TableName, Mapping[str, frozenset[str]]]:
    """Return, by table, the columns that the stream leaves out, being generated, and what each is
    computed from."""
    found: dict[TableName, dict[str, frozenset[str]]] = {}
    for table in tables:
        where = _of_table(*table).replace(" WHERE", _BASES, 1)
        question = _GENERATED.format(of_table=where, publication=quoted(publication))
        for name, base in session.ask(question):
            of_table = found.setdefault(table, {})
            of_table[name] = of_table.get(name, frozenset()) | ({base} if base else frozenset())
    return found


def shapes(
    session: Session, names_by_table: Mapping[TableName, Sequence[str]]
) -> dict[TableName, tuple[tuple[str, int, int], ...]]:
    """Return what the stream says of these columns, as they are now."""
    found = {}
    for table, names in names_by_table.items():
        rows = session.ask(f"SELECT a.attname, a.atttypid, a.atttypmod {_of_table(*table)}")
        columns = ((str(name), int(oid), int(modifier)) for name, oid, modifier in rows)
        found[table] = tuple(sorted(column for column in columns if column[0] in names))
    return found


def _of_table(schema: str | None, name: str) -> str:
    """Write where the columns of a table are; without a schema, of the default one."""
    return _OF_TABLE.format(
        schema=quoted(schema) if schema else "current_schema()", name=quoted(name)
    )


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
