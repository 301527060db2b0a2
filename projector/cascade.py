"""Foreign keys whose actions change rows that the log does not show.

InnoDB itself carries out ON DELETE and ON UPDATE actions; only MySQL from 9.6 on logs them
(`innodb_native_foreign_keys=OFF`). Elsewhere the log shows the parent's row alone, and the rows
that hung on it are gone: which documents they stood in can be asked only of a snapshot from before
the change (see `hindsight`), by the queries that are written here: a `Trace` for each chain of keys
that leads from the parent to rows of documents not known from the parent's row itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from projector.database import Connection
from projector.errors import OperatorError
from projector.model import TableName, Watch
from projector.projection import Plan
from projector.projection.graph import Node
from projector.projection.keys import among
from projector.projection.routes import ids_statement
from projector.projection.selects import compile_sql, keys_mark, spelled_at, with_keys

_ACTIVE = {"CASCADE", "SET NULL", "SET DEFAULT"}
_LOGGED_SINCE = (9, 6)
_DEPTH = 4  # keys in a chain that is traced; InnoDB itself follows 15
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
class Trace:
    """Where rows stood that hang on a parent by a chain of keys; for a snapshot from before.

    `columns` of the parent's row are needed. With `is_end` it finds no documents, only whether the
    chain goes on beyond what is traced.
    """

    columns: tuple[str, ...]
    sql: str
    names: tuple[str, ...]
    is_end: bool = False

    def query(self, values: Iterable[Sequence[Any]], limit: int) -> str:
        """Write the query for at most so many ids."""
        return f"{with_keys(self.sql, among(self.names, values))} LIMIT {limit}"


@dataclass(frozen=True, slots=True)
class Hidden:
    """What the log hides behind changes of one parent: of deletes, and of updates that change what
    other rows refer to by. `links`: columns by whose change other rows hang on something else.
    """

    on_delete: tuple[Trace, ...]
    on_update: tuple[Trace, ...]
    links: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the parent that traces need."""
        return _united(self.on_delete + self.on_update)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns whose update is carried on to other rows."""
        return _united(self.on_update)


def _united(traces: Iterable[Trace]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for trace in traces for column in trace.columns))


@dataclass(frozen=True, slots=True)
class _Chain:
    """Keys from a parent down. `covered`: roles of the last child in documents known already."""

    keys: tuple[ForeignKey, ...]
    action: str  # what sets the last key off: on_delete, on_update
    covered: tuple[Node, ...]

    @property
    def last(self) -> ForeignKey:
        return self.keys[-1]

    @property
    def deletes(self) -> bool:
        """Whether rows of the last child go; otherwise their columns change."""
        return self.action == "on_delete" and self.last.on_delete == "CASCADE"

    def onward(self, keys: Iterable[ForeignKey], covered: Sequence[Node]) -> list[_Chain]:
        """Lengthen by each key that is set off in turn."""
        action = "on_delete" if self.deletes else "on_update"
        return [
            _Chain((*self.keys, key), action, tuple(covered))
            for key in keys
            if key.parent == self.last.child
            and getattr(key, action) in _ACTIVE
            and (self.deletes or set(key.referenced) & set(self.last.columns))
        ]


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
    try:
        [rows] = connection.query(f"SHOW CREATE TABLE {_spelled(*table)}")
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
    links = _links(known)
    found: dict[TableName, Hidden] = {}
    for parent in dict.fromkeys(key.parent for key in known):
        roots = tuple(node for node in nodes.get(parent, ()) if node.parent is None)
        ours = Hidden(
            tuple(_traces(parent, "on_delete", roots, known, nodes)),
            tuple(_traces(parent, "on_update", (), known, nodes)),
            tuple(links.get(parent, ())),
        )
        if ours.columns:
            found[parent] = ours
    return found


def _links(keys: Iterable[ForeignKey]) -> dict[TableName, dict[str, None]]:
    """Give the columns by which rows go with others, and those that take others along."""
    links: dict[TableName, dict[str, None]] = {}
    for key in keys:
        if key.on_delete == "CASCADE":
            links.setdefault(key.child, {}).update(dict.fromkeys(key.columns))
        if key.on_update in _ACTIVE:
            links.setdefault(key.parent, {}).update(dict.fromkeys(key.referenced))
    return links


def _traces(
    parent: TableName,
    action: str,
    roots: tuple[Node, ...],
    keys: Sequence[ForeignKey],
    nodes: Mapping[TableName, list[Node]],
) -> Iterator[Trace]:
    """Follow the keys from a parent to the documents that its own row does not tell.

    `roots`: with a deleted root goes everything that hangs on it there, and its document is known.
    """
    chains = [
        _Chain((key,), action, roots)
        for key in keys
        if key.parent == parent and getattr(key, action) in _ACTIVE
    ]
    while chains:
        chain = chains.pop(0)
        below = []
        for node in nodes.get(chain.last.child, ()):
            hangs = {(own.name, other.name) for own, other in node.pairs}
            pairs = set(zip(chain.last.columns, chain.last.referenced, strict=True))
            if chain.deletes and node.parent in chain.covered and hangs == pairs:
                below.append(node)
            elif _matters(chain.last, node.read):
                yield _trace(chain, node)
        onward = chain.onward(keys, below)
        if len(chain.keys) < _DEPTH:
            chains += onward
        elif onward:
            yield _end(chain)


def _matters(key: ForeignKey, read: Collection[str]) -> bool:
    """Whether documents that read these columns depend on where a row hangs by the key: it is read
    there, or goes with its parent."""
    return key.on_delete == "CASCADE" or not set(key.columns).isdisjoint(read)


def _trace(chain: _Chain, node: Node) -> Trace:
    root = list(node.path())[-1]
    statement, _ = ids_statement(node, root)
    columns = [spelled_at(node, name) for name in chain.last.columns]
    return _written(chain, compile_sql(statement), columns)


def _end(chain: _Chain) -> Trace:
    table = chain.last.child
    sql = f"SELECT 1 FROM {_spelled(*table)} WHERE {keys_mark()}"
    trace = _written(chain, sql, [_spelled(*table, name) for name in chain.last.columns])
    return replace(trace, is_end=True)


def _written(chain: _Chain, sql: str, columns: Sequence[str]) -> Trace:
    """Write the keys above the last one as queries within the query."""
    for upper, key in zip(chain.keys[-2::-1], chain.keys[:0:-1], strict=True):
        table = upper.child
        referenced = ", ".join(_spelled(*table, name) for name in key.referenced)
        inner = f"SELECT {referenced} FROM {_spelled(*table)} WHERE {keys_mark()}"
        sql = with_keys(sql, f"({', '.join(columns)}) IN ({inner})")
        columns = [_spelled(*table, name) for name in upper.columns]
    return Trace(chain.keys[0].referenced, sql, tuple(columns))


def _spelled(*names: str) -> str:
    return ".".join(f"`{name.replace('`', '``')}`" for name in names)


def with_parents(
    watches: Sequence[Watch], found: Mapping[TableName, Hidden], keys: Iterable[ForeignKey]
) -> list[Watch]:
    """Watch the parents too, with the columns that others refer to; and where rows hang: what came
    to hang on a parent after the snapshot must have been told."""
    read = {watch.table: watch.read for watch in watches}
    children = [
        Watch(key.child, (), frozenset(key.columns))
        for key in keys
        if key.child in read and _matters(key, read[key.child])
    ]
    parents = [
        Watch(table, (*h.columns, *h.links), frozenset((*h.key_columns, *h.links)))
        for table, h in found.items()
    ]
    return [*watches, *children, *parents]
