"""The publication: whether all that documents need of the log is published, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from projector.model import TableName
from projector.postgres.names import identifier, quoted, spelled
from projector.postgres.visibility import full_xid

_SHOWN = 5
_OWNER = "the owner of the tables"
_ALL = frozenset({"insert", "update", "delete", "truncate"})
_OPERATIONS = "publish = 'insert, update, delete, truncate', publish_via_partition_root = false"

Ask = Callable[[str], Sequence[Sequence[Any]]]
Stored = Mapping[TableName, Collection[TableName]]  # of a table: those that its rows are logged for


@dataclass(frozen=True, slots=True)
class Member:
    """A published table. `is_whole`: with all rows and columns. `listed`: under which name it has
    been added, its own or a partitioned table's; None: with its schema, or with all tables."""

    is_whole: bool
    listed: TableName | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why changes are not published, and the statements that mend it. `whose`: who may run them;
    `hides`: whether changes have been lost by it, so that documents must be compared."""

    detail: str
    statements: tuple[str, ...]
    whose: str = "its owner"
    hides: bool = False

    @property
    def fix(self) -> str:
        """What to do, to be pasted."""
        then = " then `projector resync`." if self.hides else ""
        return f"As {self.whose}: {' '.join(f'{each};' for each in self.statements)}{then}"


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication. `is_by_root`: changes of partitions are published as their root's."""

    name: str
    operations: frozenset[str]
    is_by_root: bool
    is_of_all: bool
    members: Mapping[TableName, Member]


def find(ask: Ask, name: str) -> Publication | None:
    """Return the publication of this name."""
    pub = ", ".join(f"pub{each}" for each in sorted(_ALL))
    found = ask(
        f"SELECT {pub}, pubviaroot, puballtables FROM pg_publication WHERE pubname = {quoted(name)}"
    )
    if not found:
        return None
    [[*published, is_by_root, is_of_all]] = found
    members = {
        TableName(schema, table): Member(is_whole == "t", TableName(*listed) if listed[0] else None)
        for schema, table, is_whole, *listed in ask(_MEMBERS.format(name=quoted(name)))
    }
    operations = zip(sorted(_ALL), published, strict=True)
    return Publication(
        name, frozenset(each for each, is_published in operations if is_published == "t"),
        is_by_root == "t", is_of_all == "t", members,
    )  # fmt: skip


# rowfilter and attnames are there from PostgreSQL 15 on.
_MEMBERS = """
SELECT p.schemaname, p.tablename, to_jsonb(p) ->> 'rowfilter' IS NULL AND NOT EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND a.attgenerated = '' AND NOT coalesce(to_jsonb(p) -> 'attnames' ? a.attname::text, true)),
  l.nspname, l.relname
FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
LEFT JOIN LATERAL (SELECT ln.nspname, lc.relname FROM pg_publication_rel r
  JOIN pg_publication u ON u.oid = r.prpubid AND u.pubname = p.pubname
  JOIN pg_class lc ON lc.oid = r.prrelid JOIN pg_namespace ln ON ln.oid = lc.relnamespace
  WHERE lc.oid = c.oid OR lc.oid IN (SELECT relid FROM pg_partition_ancestors(c.oid))
  ORDER BY lc.oid <> c.oid LIMIT 1) l ON true
WHERE p.pubname = {name}"""


def stored(ask: Ask, tables: Iterable[TableName]) -> Stored:
    """Return the tables that rows are logged for: partitions that have none below, or itself."""
    found: dict[TableName, set[TableName]] = {table: set() for table in tables}
    for schema, name, *part in ask(_STORED.format(names=_pairs(found))):
        found[TableName(schema, name)].add(TableName(*part))
    return found


_STORED = """
SELECT n.nspname, c.relname, sn.nspname, s.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class s ON s.oid = c.oid OR s.oid IN (SELECT relid FROM pg_partition_tree(c.oid))
JOIN pg_namespace sn ON sn.oid = s.relnamespace
WHERE (n.nspname, c.relname) IN ({names}) AND s.relkind = 'r'"""


def _pairs(tables: Iterable[TableName]) -> str:
    """Write names of tables as rows of an IN; one that nothing has where there are none."""
    return ", ".join(f"({quoted(t.schema)}, {quoted(t.name)})" for t in tables) or "('', '')"


def marks(name: str, tables: Iterable[TableName], number: int) -> str:
    """Return a question whose answer changes with what is published of these tables: the ids of the
    catalog's rows that say so, each with the transaction that wrote it. `number`: the server's
    version.

    What a table's changes were while it was not published is in no stream, and nothing tells of
    it (from 18 on not even of a publication that was not there).
    """
    by_schema = _BY_SCHEMA if number >= _SCHEMAS else ""
    return _MARKS.format(name=quoted(name), names=_pairs(tables), by_schema=by_schema)


_SCHEMAS = 150000
_MARKS = """
WITH p AS (SELECT oid, xmin FROM pg_publication WHERE pubname = {name}),
named AS (SELECT c.oid, c.relnamespace FROM pg_class c JOIN pg_namespace n
  ON n.oid = c.relnamespace WHERE (n.nspname, c.relname) IN ({names}))
SELECT coalesce(string_agg(f.oid || ':' || f.xmin, ' ' ORDER BY f.oid), '') FROM (
  SELECT oid, xmin FROM p
  UNION ALL SELECT r.oid, r.xmin FROM pg_publication_rel r JOIN p ON p.oid = r.prpubid
  WHERE r.prrelid IN (SELECT oid FROM named
    UNION ALL SELECT relid FROM named, pg_partition_tree(named.oid)){by_schema}) f"""
_BY_SCHEMA = """
  UNION ALL SELECT s.oid, s.xmin FROM pg_publication_namespace s JOIN p ON p.oid = s.pnpubid
  WHERE s.pnnspid IN (SELECT relnamespace FROM named)"""


def changed_since(marks: str, published: int, near: int) -> bool:
    """Return whether one of these rows was written by a transaction that a snapshot with this
    `xmin` may not have shown. `near`: an id that is not given out yet."""
    written = (full_xid(int(mark.partition(":")[2]), near) for mark in marks.split())
    return any(published <= xid < near for xid in written)


def _creation(name: str, tables: Iterable[TableName]) -> str:
    """Return the statement that makes the publication."""
    return f"CREATE PUBLICATION {identifier(name)} FOR TABLE {listed(tables)} WITH ({_OPERATIONS})"


def listed(tables: Iterable[TableName]) -> str:
    """Spell tables, in order."""
    return ", ".join(map(spelled, sorted(tables)))


def problems(name: str, found: Publication | None, stored: Stored) -> Iterator[Problem]:
    """Report which changes of these tables are not published."""
    if found is None:
        yield Problem(
            f"there is no publication {name}: nothing says what is to be sent",
            (_creation(name, stored),),
            _OWNER,
        )
        return
    alter = f"ALTER PUBLICATION {identifier(found.name)}"
    wanted = _named(stored)
    members = {t: member for t, member in found.members.items() if t in wanted}
    if cut := sorted(t for t, member in members.items() if not member.is_whole):
        cut_tables = listed(cut)  # never a root's partitions: of these all is published, or none
        yield Problem(
            f"the publication {name} has a filter of rows, or not all columns, of"
            f" {', '.join(map(str, cut))}",
            (f"{alter} DROP TABLE {cut_tables}", f"{alter} ADD TABLE {cut_tables}"),
            hides=True,
        )
    missing = sorted(_ALL - found.operations)
    if missing or found.is_by_root:
        what = f"leaves out {', '.join(missing)}" if missing else (
            "names the root of partitioned tables (publish_via_partition_root): TRUNCATE of a"
            " partition would not be told")  # fmt: skip
        yield Problem(f"the publication {name} {what}", (f"{alter} SET ({_OPERATIONS})",))
    lacking = [t for t, parts in stored.items() if _is_left_out(t, parts, found)]
    if lacking:
        yield Problem(
            f"the publication {name} lacks {', '.join(map(str, lacking))}: their changes are"
            " not sent",
            (f"{alter} ADD TABLE {listed(lacking)}",),
            hides=True,
        )


def unpublished(ask: Ask, name: str, tables: Iterable[TableName]) -> Iterator[Problem]:
    """Look, and report which changes of these tables are not published."""
    return problems(name, find(ask, name), stored(ask, tables))


def _named(stored: Stored) -> set[TableName]:
    return {*stored, *(part for parts in stored.values() for part in parts)}


def _is_left_out(table: TableName, parts: Collection[TableName], found: Publication) -> bool:
    if table in found.members:
        return False
    if not parts:  # no partition yet: the next one is published with its root alone
        return not found.is_of_all
    return not found.members.keys() >= set(parts)


def surplus(found: Publication, stored: Stored) -> Problem | None:
    """Report what is published for nothing."""
    wanted = _named(stored)
    others = sorted(found.members.keys() - wanted)
    if not others:
        return None
    shown = ", ".join(map(str, others[:_SHOWN])) + (" …" if len(others) > _SHOWN else "")
    needed = {member.listed for table, member in found.members.items() if table in wanted}
    names = {found.members[table].listed for table in others}
    others_listed = listed(name for name in names if name is not None)
    is_made_again = None in names or names & needed
    publication = f"PUBLICATION {identifier(found.name)}"
    return Problem(
        f"{found.name} also has {len(others)} tables that no projection reads ({shown}): their"
        " changes are sent for nothing, and where one has no primary key, the application's UPDATE"
        " and DELETE fail",
        (f"DROP {publication}", _creation(found.name, stored))
        if is_made_again
        else (f"ALTER {publication} DROP TABLE {others_listed}",),
        _OWNER if is_made_again else "its owner",
    )
