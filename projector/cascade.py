"""Foreign keys whose actions change rows that the log does not show.

InnoDB itself carries out ON DELETE and ON UPDATE actions; only MySQL from 9.6 on logs them
(`innodb_native_foreign_keys=OFF`). Elsewhere the log shows the parent's row alone, and the rows
that hung on it are gone: which documents they stood in, nobody can look up any more. Such a change
is therefore a repair, unless the documents are known from the parent's row itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from projector.database import Connection
from projector.errors import OperatorError
from projector.model import TableName, Watch
from projector.projection import Plan
from projector.projection.graph import Node

_ACTIVE = {"CASCADE", "SET NULL", "SET DEFAULT"}
_LOGGED_SINCE = (9, 6)
_NAME = r"`(?:[^`]|``)+`"
_CONSTRAINT = re.compile(
    rf"FOREIGN KEY \((?P<own>.+?)\) REFERENCES (?:(?P<schema>{_NAME})\.)?(?P<table>{_NAME})"
    r" \((?P<referenced>.+?)\)"
    r"(?: ON DELETE (?P<delete>CASCADE|SET NULL|SET DEFAULT|RESTRICT|NO ACTION))?"
    r"(?: ON UPDATE (?P<update>CASCADE|SET NULL|SET DEFAULT|RESTRICT|NO ACTION))?"
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns of `child` that refer to columns of `parent`, and what follows a change there."""

    child: TableName
    columns: tuple[str, ...]
    parent: TableName
    referenced: tuple[str, ...]
    on_delete: str
    on_update: str


@dataclass(frozen=True, slots=True)
class Hidden:
    """What the log hides behind changes of one parent: of deletes, and of updates that change one
    of `columns`."""

    on_delete: bool
    on_update: bool
    columns: tuple[str, ...]


def foreign_keys(connection: Connection, tables: Iterable[TableName]) -> list[ForeignKey]:
    """Read the keys of these tables, and of their parents, whose actions the log hides; none where
    the server logs them.

    By SHOW CREATE TABLE, for which SELECT is enough: MariaDB shows REFERENTIAL_CONSTRAINTS only to
    who may change a table.
    """
    [version] = connection.query("SELECT VERSION()")
    if _logs_actions(connection, str(version[0][0])):
        return []
    found: list[ForeignKey] = []
    waiting = list(tables)
    seen = set(waiting)
    while waiting:
        ours = [key for key in _keys_of(connection, waiting.pop()) if _is_active(key)]
        found += ours
        further = {key.parent for key in ours} - seen
        seen |= further
        waiting += further
    return found


def _is_active(key: ForeignKey) -> bool:
    return bool(_ACTIVE & {key.on_delete, key.on_update})


def _keys_of(connection: Connection, table: TableName) -> list[ForeignKey]:
    spelled = ".".join(f"`{part.replace('`', '``')}`" for part in table)
    try:
        [rows] = connection.query(f"SHOW CREATE TABLE {spelled}")
    except OperatorError as error:  # a parent that we may not see, or no table yet
        log.warning("foreign_keys_unknown", table=str(table), error=str(error))
        return []
    return [
        ForeignKey(
            table, _names(match["own"]),
            TableName(_names(match["schema"])[0] if match["schema"] else table.schema,
                      _names(match["table"])[0]),
            _names(match["referenced"]),
            match["delete"] or "RESTRICT", match["update"] or "RESTRICT",
        )
        for match in _CONSTRAINT.finditer(str(rows[0][1]))
    ]  # fmt: skip


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name[1:-1].replace("``", "`") for name in re.findall(_NAME, listed))


def _logs_actions(connection: Connection, version: str) -> bool:
    number = re.match(r"(\d+)\.(\d+)", version)
    if "MariaDB" in version or number is None:
        return False
    if (int(number[1]), int(number[2])) < _LOGGED_SINCE:
        return False
    [rows] = connection.query("SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'")
    return not rows or str(rows[0][1]).upper() in {"OFF", "0"}


def hidden(keys: Iterable[ForeignKey], plan: Plan, default_schema: str) -> dict[TableName, Hidden]:
    """Give the parents whose changes can alter documents behind the log's back."""
    known = list(keys)
    nodes: dict[TableName, list[Node]] = {}
    for node in plan.all_nodes():
        nodes.setdefault(plan.table_name(node, default_schema), []).append(node)
    found: dict[TableName, Hidden] = {}
    for parent in {key.parent for key in known}:
        ours = [key for key in known if key.parent == parent]
        roots = [node for node in nodes.get(parent, ()) if node.parent is None]
        deleting = [key for key in ours if key.on_delete in _ACTIVE]
        updating = [key for key in ours if key.on_update in _ACTIVE]
        on_delete = any(_matters(key, known, nodes, roots, (), "on_delete") for key in deleting)
        on_update = any(_matters(key, known, nodes, (), (), "on_update") for key in updating)
        if on_delete or on_update:
            columns = tuple(dict.fromkeys(c for key in updating for c in key.referenced))
            found[parent] = Hidden(on_delete, on_update, columns)
    return found


def _matters(
    key: ForeignKey,
    keys: Sequence[ForeignKey],
    nodes: Mapping[TableName, list[Node]],
    covered: Sequence[Node],
    seen: tuple[ForeignKey, ...],
    action: str,
) -> bool:
    """Whether the rows that the action changes stand in documents that are not known already.

    `covered` are the roles of the parent whose documents are known: below the root, everything
    that hangs on the deleted row goes with it.
    """
    if key in seen:
        return False
    is_delete = getattr(key, action) == "CASCADE" and action == "on_delete"
    below = []
    for node in nodes.get(key.child, ()):
        hangs = {(own.name, other.name) for own, other in node.pairs}
        is_below = node.parent in covered and hangs == set(
            zip(key.columns, key.referenced, strict=True)
        )
        if is_below:
            below.append(node)
        elif is_delete or set(key.columns) & node.read:
            return True
    if not is_delete:
        return False
    further = [other for other in keys if other.parent == key.child and other.on_delete in _ACTIVE]
    return any(_matters(k, keys, nodes, below, (*seen, key), action) for k in further)


def with_parents(watches: Sequence[Watch], found: Mapping[TableName, Hidden]) -> list[Watch]:
    """Watch the parents too, with the columns that others refer to."""
    extra = [Watch(table, h.columns, frozenset(h.columns)) for table, h in found.items()]
    return [*watches, *extra]
