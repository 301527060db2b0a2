"""Foreign keys whose actions change rows that the log does not show.

InnoDB itself carries out ON DELETE and ON UPDATE actions; only MySQL from 9.6 on logs them
(`innodb_native_foreign_keys=OFF`), and says so in each event. Elsewhere the log shows the parent's
row alone, and the rows that referred to it are gone: which documents they stood in can be asked
only of a snapshot from before the change (see `hindsight`), by the queries that are written here: a
`Trace` for each chain of keys that leads from the parent to rows of documents not known from the
parent's row itself. Where an update is carried on, the same query with the new values tells where
the rows stand now.

Names of columns are in lower case here, as they ignore case on every server.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from projector.errors import OperatorError, TransientError
from projector.model import TableName, Watch
from projector.mysql.connection import Connection, ServerError, code_of
from projector.mysql.generated import Generated, bases
from projector.projection import Plan
from projector.projection.graph import Node
from projector.projection.keys import among
from projector.projection.routes import ids_statement
from projector.projection.selects import compile_sql, keys_mark, spelled_at, with_keys

_ACTIVE = {"CASCADE", "SET NULL", "SET DEFAULT"}
_NATIVE_KEYS = "innodb_native_foreign_keys"  # MySQL's from 9.6 on
_DEPTH = 4  # keys in a chain that is traced; InnoDB itself follows 15
_ABSENT = {1049, 1146}  # ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE
_DENIED = {1044, 1142}  # ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR
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


@dataclass(frozen=True, slots=True)
class ForeignKeys:
    """The keys that change rows of certain tables, or of those above them, by themselves.

    `denied`: tables whose definitions the account is not shown; `unseen`: these and those below,
    whose rows may change by keys that nobody knows.
    """

    known: Sequence[ForeignKey] = ()
    denied: frozenset[TableName] = frozenset()
    unseen: frozenset[TableName] = frozenset()


def foreign_keys(
    connection: Connection, tables: Iterable[TableName], *, folds_names: bool = False
) -> ForeignKeys:
    """Read the keys of these tables, and of their parents, that act by themselves.

    By SHOW CREATE TABLE, for which SELECT is enough: MariaDB shows REFERENTIAL_CONSTRAINTS only to
    who may change a table.
    """
    found: list[ForeignKey] = []
    waiting = list(tables)
    seen = set(waiting)
    denied: set[TableName] = set()
    while waiting:
        table = waiting.pop()
        keys = _keys_of(connection, table, folds_names)
        if keys is None:
            denied.add(table)
            continue
        ours = [key for key in keys if _is_active(key)]
        found += ours
        further = {key.parent for key in ours} - seen
        seen |= further
        waiting += further
    unseen = set(denied)
    while below := {key.child for key in found if key.parent in unseen} - unseen:
        unseen |= below
    return ForeignKeys(found, frozenset(denied), frozenset(unseen))


def _is_active(key: ForeignKey) -> bool:
    return bool(_ACTIVE & {key.on_delete, key.on_update})


def _keys_of(
    connection: Connection, table: TableName, folds_names: bool
) -> list[ForeignKey] | None:
    """Read a table's keys; None where we may not."""
    try:
        [rows] = connection.query(f"SHOW CREATE TABLE {_spelled(*table)}")
    except (OperatorError, ServerError, TransientError) as error:
        code = code_of(error)
        if code in _ABSENT:  # dropped, or not there yet: then the log will tell of it
            return []
        if code not in _DENIED:
            raise
        log.warning("foreign_keys_unknown", table=str(table), error=str(error))
        return None
    return [
        ForeignKey(
            table, _lowered(match["own"]),
            TableName(_names(match["schema"])[0] if match["schema"] else table.schema,
                      _names(match["table"])[0]).folded(folds_names),
            _lowered(match["referenced"]),
            match["delete"] or "RESTRICT", match["update"] or "RESTRICT",
        )
        for match in _CONSTRAINT.finditer(str(rows[0][1]))
    ]  # fmt: skip


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name[1:-1].replace("``", "`") for name in re.findall(_NAME, listed))


def _lowered(listed: str) -> tuple[str, ...]:
    return tuple(name.lower() for name in _names(listed))


def logs_actions(connection: Connection) -> bool:
    """Tell whether the server now logs what foreign keys do, and hides nothing of it; what older
    parts of its log hide, their events tell."""
    [version] = connection.query("SELECT VERSION()")
    if "MariaDB" in str(version[0][0]):
        return False
    [rows] = connection.query(f"SHOW GLOBAL VARIABLES LIKE '{_NATIVE_KEYS}'")
    return bool(rows) and str(rows[0][1]).upper() in {"OFF", "0"}


def hidden(
    keys: Iterable[ForeignKey],
    plan: Plan,
    default_schema: str,
    generated: Mapping[TableName, Generated] | None = None,
) -> dict[TableName, Hidden]:
    """Return the parents whose changes can alter documents behind the log's back."""
    known = list(keys)
    nodes: dict[TableName, list[Node]] = {}
    for node in plan.all_nodes():
        nodes.setdefault(plan.table_name(node, default_schema), []).append(node)
    links = _links(known)
    found: dict[TableName, Hidden] = {}
    for parent in dict.fromkeys(key.parent for key in known):
        roots = tuple(node for node in nodes.get(parent, ()) if node.parent is None)
        ours = Hidden(
            tuple(_traces(parent, "on_delete", roots, known, nodes, generated or {})),
            tuple(_traces(parent, "on_update", (), known, nodes, generated or {})),
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
    generated: Mapping[TableName, Generated],
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
        computed = generated.get(chain.last.child, {})
        for node in nodes.get(chain.last.child, ()):
            joined = {(own.name.lower(), other.name.lower()) for own, other in node.pairs}
            pairs = set(zip(chain.last.columns, chain.last.referenced, strict=True))
            if chain.deletes and node.parent in chain.covered and joined == pairs:
                below.append(node)
            elif _matters(chain.last, node.read | bases(computed, node.read)):
                yield _trace(chain, node)
            if _scatters(chain, bases(computed, (own for own, _ in joined))):
                yield _end(chain)
        onward = chain.onward(keys, below)
        if len(chain.keys) < _DEPTH:
            chains += onward
        elif onward:
            yield _end(chain)


def _matters(key: ForeignKey, read: Collection[str]) -> bool:
    """Whether documents that read these columns depend on where a row hangs by the key: it is read
    there, or goes with its parent."""
    names = {name.lower() for name in read}
    return key.on_delete == "CASCADE" or not names.isdisjoint(key.columns)


def _scatters(chain: _Chain, computed_from: Collection[str]) -> bool:
    """Whether rows whose columns become NULL may then be joined to anything, by a column that is
    computed from these: nobody can say to what, so all documents count."""
    is_set = getattr(chain.last, chain.action) != "CASCADE"
    return is_set and not set(chain.last.columns).isdisjoint(computed_from)


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
        Watch(table, (*h.columns, *h.links), frozenset((*h.key_columns, *h.links)), is_read=False)
        for table, h in found.items()
    ]
    return [*watches, *children, *parents]
