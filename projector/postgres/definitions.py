"""Definitions whose change alters documents without a row in the stream.

A partition that is attached, detached or dropped brings or takes its rows; a table or a column may
take another one's name; values change under their rows (ALTER … TYPE … USING, SET EXPRESSION,
RENAME VALUE), or their order does (COLLATE). The stream tells of none of these. So the catalog is
compared with what it said before, which is kept with the checkpoint. Its tables: PostgreSQL
manual, chapter 53 "System Catalogs".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from projector.model import TableName, Watch
from projector.postgres.names import quoted
from projector.postgres.relation import wanted

Ask = Callable[[str], Sequence[Sequence[Any]]]
Filled = Callable[[Collection[int]], Collection[int]]


@dataclass(slots=True)
class Definition:
    """A watched table.

    `oid`: its own. `files`: of each table that its rows are logged for, by oid, the file that
    holds them. `places` and `versions`: of each column that is read, where it is in a row, of which
    type, collation and expression; and which transaction wrote its definition. `labels`: of the
    enums of these columns, by oid.
    """

    oid: int = 0
    files: dict[int, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)


Definitions = Mapping[TableName, Definition]


class Seen:
    """What was seen of the definitions of watched tables. For one thread."""

    def __init__(self, watches: Iterable[Watch]) -> None:
        self._question = question(watches)
        self._digest = ""
        self.definitions: dict[TableName, Definition] = {}
        self.owners: dict[int, TableName] = {}  # see `owners`
        self.text = ""  # of the definitions: see `text`

    @property
    def question(self) -> str:
        """Return an expression whose value `look` takes."""
        return digest(self._question)

    def look(self, ask: Ask, digest: str) -> list[TableName]:
        """Read the definitions if `digest`, the answer to `question`, is another than last time;
        return the tables whose rows or values changed without the stream telling of it. The first
        time none can be known."""
        if digest == self._digest:
            return []
        is_first, self._digest = not self._digest, digest
        found = read(ask(self._question))
        told = [] if is_first else changed(self.definitions, found, partial(_filled, ask))
        self.definitions |= found
        self.owners, self.text = owners(self.definitions), text(self.definitions)
        return told


def question(watches: Iterable[Watch]) -> str:
    """Return the question whose rows `read` takes: schema, table, what is said, of what, how."""
    columns = [(*watch.table, name) for watch in watches for name in wanted(watch)]
    listed = ", ".join(f"({', '.join(map(quoted, each))})" for each in columns)
    return _STATE.format(columns=listed or "('', '', '')")


# A relation of no partitions is no tree of its own to pg_partition_tree.
_STATE = """
WITH RECURSIVE wanted (nspname, relname, attname) AS (VALUES {columns}),
named AS (SELECT DISTINCT nspname, relname, c.oid FROM wanted
  JOIN pg_namespace n USING (nspname) JOIN pg_class c USING (relname)
  WHERE c.relnamespace = n.oid),
leaves AS (SELECT DISTINCT named.nspname, named.relname, s.oid, s.relfilenode FROM named
  CROSS JOIN LATERAL (SELECT named.oid AS relid
    UNION SELECT t.relid::oid FROM pg_partition_tree(named.oid) t) p
  JOIN pg_class s ON s.oid = p.relid AND s.relkind = 'r'),
columns AS (SELECT nspname, relname, a.* FROM named JOIN wanted USING (nspname, relname)
  JOIN (SELECT attrelid, attname::text, attnum, atttypid, atttypmod, attcollation, xmin,
      (SELECT sha256(convert_to(adbin::text, 'UTF8')) FROM pg_attrdef
        WHERE adrelid = attrelid AND adnum = attnum AND attgenerated <> '') AS expression
    FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped) a USING (attname)
  WHERE attrelid = named.oid),
types (nspname, relname, oid) AS (SELECT nspname, relname, atttypid FROM columns
  UNION SELECT nspname, relname, CASE typtype WHEN 'd' THEN typbasetype ELSE typelem END
  FROM types JOIN pg_type t USING (oid) WHERE typtype = 'd' OR typelem <> 0)
SELECT nspname, relname, 'oid' AS what, oid::text AS of, '' AS said FROM named
UNION ALL SELECT nspname, relname, 'file', oid::text, relfilenode::text FROM leaves
UNION ALL SELECT nspname, relname, 'place', attname,
  concat_ws(' ', attnum, atttypid, atttypmod, attcollation, expression) FROM columns
UNION ALL SELECT nspname, relname, 'version', attname, xmin::text FROM columns
UNION ALL SELECT DISTINCT nspname, relname, 'label', e.oid::text, e.enumlabel::text
  FROM types JOIN pg_enum e ON e.enumtypid = types.oid"""


def digest(state: str) -> str:
    """Return the question, in brackets, whose one answer changes whenever one of `state`'s does.
    MD5 is refused by servers in FIPS mode."""
    return (
        "(SELECT sha256(convert_to(coalesce(string_agg(state::text, ',' ORDER BY state::text"
        f" COLLATE \"C\"), ''), 'UTF8')) FROM ({state}) state)"
    )


def read(rows: Iterable[Sequence[Any]]) -> dict[TableName, Definition]:
    """Return the tables that are there."""
    found: dict[TableName, Definition] = {}
    for schema, name, what, of, said in rows:
        definition = found.setdefault(TableName(schema, name), Definition())
        if what == "oid":
            definition.oid = int(of)
        elif what == "file":
            definition.files[int(of)] = int(said)
        elif what == "place":
            definition.places[of] = said
        elif what == "version":
            definition.versions[of] = int(said)
        else:
            definition.labels[int(of)] = said
    return found


def changed(before: Definitions, now: Definitions, filled: Filled) -> list[TableName]:
    """Return the tables that show other rows or other values than the stream has told of.

    `filled`: of tables by oid, those that have held a row. A table that is not there says nothing:
    its documents wait for it.
    """
    return [
        table
        for table, definition in now.items()
        if table not in before or _is_changed(before[table], definition, filled)
    ]


def _is_changed(before: Definition, now: Definition, filled: Filled) -> bool:
    if before.oid != now.oid or before.files.keys() - now.files.keys():
        return True
    added = now.files.keys() - before.files.keys()
    if added and filled(added):
        return True
    # TRUNCATE and VACUUM FULL replace files, SET STATISTICS replaces a column's definition; only
    # what replaces both has recomputed values.
    is_rewritten = any(before.files.get(oid, file) != file for oid, file in now.files.items())
    is_defined = any(before.versions.get(name, v) != v for name, v in now.versions.items())
    is_moved = any(before.places.get(name, p) != p for name, p in now.places.items())
    is_renamed = any(before.labels.get(oid, label) != label for oid, label in now.labels.items())
    return (is_rewritten and is_defined) or is_moved or is_renamed


def owners(definitions: Definitions) -> dict[int, TableName]:
    """Return the watched tables by the oids of those that their rows are logged for."""
    return {oid: table for table, each in definitions.items() for oid in each.files}


def text(definitions: Definitions) -> str:
    """Return what is kept of definitions: see `may_have_changed`."""
    tables = sorted(definitions.items())
    rows = [(t, d.oid, sorted(d.files), sorted(d.places.items()),
             sorted(d.labels.items())) for t, d in tables]  # fmt: skip
    files = [sorted(d.files.items()) for _, d in tables]
    versions = [sorted(d.versions.items()) for _, d in tables]
    return ".".join(map(_short, (rows, files, versions)))


def may_have_changed(before: str, now: str) -> bool:
    """Return whether definitions of these texts may differ as `changed` says; too often rather than
    too seldom. Nothing is known of an empty text."""
    if not before or before == now:
        return False
    if before.count(".") != 2:
        return True
    is_other = [a != b for a, b in zip(before.split("."), now.split("."), strict=True)]
    return is_other[0] or (is_other[1] and is_other[2])


def _short(value: object) -> str:
    return hashlib.blake2b(repr(value).encode(), digest_size=6).hexdigest()


def _filled(ask: Ask, oids: Collection[int]) -> Collection[int]:
    """Ask the server which of some tables have held a row."""
    listed = ", ".join(map(str, sorted(oids)))
    found = ask(
        f"SELECT oid::int8 FROM pg_class WHERE oid IN ({listed})"
        " AND coalesce(pg_relation_size(oid), 0) > 0"
    )
    return {int(oid) for [oid] in found}
