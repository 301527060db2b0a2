"""The publication: whether all that documents need of the log is published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from projector.checks import Check, failed, ok, warning
from projector.model import TableName
from projector.postgres.checks.asking import Asker
from projector.postgres.checks.tables import Table
from projector.postgres.slot import identifier, quoted

_NAME = "postgres.publication"
_FILTERS = 150000
_SHOWN = 5
_OPERATIONS = "publish = 'insert, update, delete, truncate', publish_via_partition_root = false"


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication. `whole`: the tables of which all rows and columns are published, `partial` the
    others; `roots`: of partitioned tables, published as such."""

    name: str
    operations: frozenset[str]
    is_by_root: bool
    is_of_all: bool
    whole: frozenset[TableName]
    partial: frozenset[TableName]


def find(asker: Asker, name: str, number: int) -> Publication | None:
    """Return the publication of this name."""
    found = asker.objects(f"SELECT * FROM pg_publication WHERE pubname = {quoted(name)}")
    if not found:
        return None
    [said] = found
    wanted = {"insert", "update", "delete", "truncate"}
    rows = asker.rows(_members(name, can_filter=number >= _FILTERS))
    partial = frozenset(TableName(s, t) for s, t, is_whole in rows if is_whole != "t")
    return Publication(
        name,
        frozenset(each for each in wanted if said[f"pub{each}"]),
        said["pubviaroot"],
        said["puballtables"],
        frozenset(TableName(s, t) for s, t, _ in rows) - partial,
        partial,
    )


def _members(name: str, *, can_filter: bool) -> str:
    whole = "true"
    if can_filter:
        whole = (
            "p.rowfilter IS NULL AND (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid"
            " AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
            " AND a.attname <> ALL (p.attnames)) = 0"
        )
    return (
        f"SELECT p.schemaname, p.tablename, {whole} FROM pg_publication_tables p"
        " JOIN pg_namespace n ON n.nspname = p.schemaname"
        " JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename"
        f" WHERE p.pubname = {quoted(name)}"
    )


def creation(name: str, tables: Iterable[TableName]) -> str:
    """Return the statement that makes the publication."""
    return f"CREATE PUBLICATION {identifier(name)} FOR TABLE {listed(tables)} WITH ({_OPERATIONS});"


def listed(tables: Iterable[TableName]) -> str:
    """Spell tables, in order."""
    return ", ".join(f"{identifier(t.schema)}.{identifier(t.name)}" for t in sorted(tables))


def publication(
    name: str, found: Publication | None, tables: Mapping[TableName, Table]
) -> list[Check]:
    """Test that every change of these tables is published."""
    if found is None:
        return [failed(
            _NAME, f"there is no publication {name}: nothing says what is to be sent",
            f"As the owner of the tables: {creation(name, tables)}",
        )]  # fmt: skip
    problems = list(_problems(found, tables))
    if problems:
        return problems
    return [ok(_NAME, f"{name} has all changes of {len(tables)} tables"), *_more(found, tables)]


def _problems(found: Publication, tables: Mapping[TableName, Table]) -> Iterator[Check]:
    altered = f"As its owner: ALTER PUBLICATION {identifier(found.name)}"
    missing = sorted({"insert", "update", "delete", "truncate"} - found.operations)
    if missing or found.is_by_root:
        what = f"leaves out {', '.join(missing)}" if missing else (
            "names the root of partitioned tables (publish_via_partition_root): TRUNCATE of a"
            " partition would not be told")  # fmt: skip
        yield failed(_NAME, f"{found.name} {what}", f"{altered} SET ({_OPERATIONS});")
    unpublished = [t for t, facts in tables.items() if _left_out(t, facts, found)]
    if unpublished:
        yield failed(
            _NAME,
            f"{found.name} lacks {', '.join(map(str, unpublished))}: their changes are not sent",
            f"{altered} ADD TABLE {listed(unpublished)}; then `projector resync`.",
        )
    cut = sorted(t for facts in tables.values() for t in _stored(facts) if t in found.partial)
    if cut:
        spelled = listed(cut)
        yield failed(
            _NAME,
            f"{found.name} has a filter of rows, or not all columns, of {', '.join(map(str, cut))}",
            f"{altered} DROP TABLE {spelled}; ALTER PUBLICATION {identifier(found.name)} ADD TABLE"
            f" {spelled}; then `projector resync`.",
        )


def _stored(facts: Table) -> Sequence[TableName]:
    """Return the tables that rows are logged for."""
    return [each.table for each in facts.identities]


def _left_out(table: TableName, facts: Table, found: Publication) -> bool:
    members = found.whole | found.partial
    stored = _stored(facts)
    if not stored:  # no partition yet: the next one is published with its root alone
        return table not in members and not found.is_of_all
    return not members.issuperset(stored)


def _more(found: Publication, tables: Mapping[TableName, Table]) -> Iterator[Check]:
    """What is published for nothing. UPDATE and DELETE fail of published tables without a key."""
    wanted = {*tables, *(t for facts in tables.values() for t in _stored(facts))}
    others = sorted((found.whole | found.partial) - wanted)
    if not others:
        return
    shown = ", ".join(map(str, others[:_SHOWN])) + (" …" if len(others) > _SHOWN else "")
    yield warning(
        _NAME,
        f"{found.name} also has {len(others)} tables that no projection reads ({shown}): their"
        " changes are sent for nothing, and where one has no primary key, the application's UPDATE"
        " and DELETE fail",
        f"DROP PUBLICATION {identifier(found.name)}, and as the owner of the tables:"
        f" {creation(found.name, tables)}" if found.is_of_all else
        f"As its owner: ALTER PUBLICATION {identifier(found.name)} DROP TABLE {listed(others)};",
    )  # fmt: skip
