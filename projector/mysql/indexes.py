"""By which indexes a projection's queries and look-ups seek, and which of these are missing.

The one judgement that `check` and `explain` share: of the catalog, which also knows about tables
that are still empty, and of the server's plans, which know of an index that cannot serve. Only
reads. Queries are explained for some documents that exist, look-ups for values that stand in their
tables, so that the server plans them as it does for the daemon.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Alias, Integer

from projector.model import TableName
from projector.mysql.advice import Missing, Wanted, index, quoted, unlike
from projector.mysql.columns import fitted
from projector.mysql.connection import Connection
from projector.mysql.literals import literal
from projector.projection import Plan
from projector.projection.columns import ColumnType
from projector.projection.nodes import Node
from projector.projection.routes import LookUp

_COUNTED = 100_000  # rows that are counted one by one
_SAMPLE = 3  # documents or values that a query is explained for

# EXPLAIN's columns by their number: MariaDB has 10, MySQL 12 (manual, "EXPLAIN Output Format").
_COLUMNS = {
    10: "id select_type table type possible_keys key key_len ref rows extra",
    12: "id select_type table partitions type possible_keys key key_len ref rows filtered extra",
}

# MySQL: "Cannot use ref access on index 'x' due to …"; MariaDB: "Cannot use key `x` part[0] …".
_REFUSED = re.compile(r"Cannot use .*?(?:index '|key `)(.+?)['`] (?:due to|part)")

Step = Mapping[str, Any]  # a row of EXPLAIN by these names
_Seek = tuple[Node, Wanted]  # a table in its role, and what it is sought by


@dataclass(frozen=True, slots=True)
class Explained:
    """A query or look-up with the server's plan."""

    kind: Literal["query", "look-up"]
    name: str
    sql: str
    steps: Sequence[Step]
    missing: Sequence[Missing]


def explained(plan: Plan, connection: Connection) -> list[Explained]:
    """Explain the projection's queries, then its look-ups."""
    plan = fitted(plan, connection)
    catalog = _Catalog(plan, connection)
    [sample] = connection.query_raw(plan.ids_after(None, _SAMPLE))
    keys = [plan.codec.to_values(plan.to_id(row)) for row in sample] or [_invented(plan.root)]
    found = []
    for level in plan.asked:
        sql = level.query(keys, plan.codec)
        steps = _steps(sql, connection)
        missing = list(catalog.missing(_seeks_down(level.node, plan), steps))
        found.append(Explained("query", role(level.node), sql, steps, missing))
    for name in dict.fromkeys(r.look_up.name for r in plan.routes if r.look_up):
        look_up = plan.look_ups[name]
        sql = look_up.query(_values(look_up, connection), (), 1)
        steps = _steps(sql, connection)
        missing = list(catalog.missing(_seeks_up(look_up, plan), steps))
        found.append(Explained("look-up", look_up.name, sql, steps, missing))
    return found


def _steps(sql: str, connection: Connection) -> list[dict[str, Any]]:
    """Return the server's plan; of the keys that it thought of only those that it could use."""
    rows, notes = connection.query(f"EXPLAIN FORMAT=TRADITIONAL {sql}", "SHOW WARNINGS")
    refused = {match[1] for *_, text in notes if (match := _REFUSED.search(text))}
    steps = [dict(zip(_COLUMNS[len(row)].split(), row, strict=True)) for row in rows]
    for step in steps:
        usable = [key for key in (step["possible_keys"] or "").split(",") if key not in refused]
        step["possible_keys"] = ",".join(usable) or None
    return steps


def _seeks_down(node: Node, plan: Plan) -> Iterator[_Seek]:
    """From the root's keys to a collection, and to what is joined to it."""
    for other in dict.fromkeys([*reversed(list(node.path())), *node.to_one]):
        if other.parent is None:
            yield other, Wanted({column.name: () for column in other.key})
            continue
        parent = other.parent
        compared = {o.name: _known(plan.type_of(parent, p.name)) for o, p in other.pairs}
        yield other, Wanted(compared, other.constants)


def _seeks_up(look_up: LookUp, plan: Plan) -> Iterator[_Seek]:
    """From a changed row's values to the root."""
    start: dict[str, list[ColumnType]] = {name: [] for name in look_up.columns}
    for likenesses in look_up.likenesses:
        alike: Any = likenesses  # this dialect's own
        for name, x in zip(look_up.columns, alike, strict=True):
            if not (x.is_plain and x.own.kind and x.own.is_text and x.other.is_text):
                start[name].append(x.own)
    yield look_up.start, Wanted(start)
    for below in look_up.start.path():
        if below.parent is not None:
            compared = {o.name: _known(plan.type_of(below, own.name)) for own, o in below.pairs}
            yield below.parent, Wanted(compared)


def _known(kind: ColumnType | None) -> list[ColumnType]:
    return [kind] if kind is not None else []


class _Catalog:
    """Indexes, and estimates of rows."""

    def __init__(self, plan: Plan, connection: Connection) -> None:
        self._plan, self._connection = plan, connection
        [[[schema, folds]]] = connection.query("SELECT DATABASE(), @@lower_case_table_names")
        plan.folds_names = int(folds) != 0
        self._table = {node: plan.table_name(node, schema or "") for node in plan.all_nodes()}
        self._indexes: dict[TableName, dict[str, list[str]]] = {}
        self._rows: dict[TableName, int] = {}
        for table in set(self._table.values()):
            where = f"TABLE_SCHEMA={literal(table.schema)} AND TABLE_NAME={literal(table.name)}"
            indexed, rows = connection.query(
                "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS"
                f" WHERE {where} ORDER BY INDEX_NAME, SEQ_IN_INDEX",
                f"SELECT TABLE_ROWS FROM information_schema.TABLES WHERE {where}",
            )
            own = self._indexes.setdefault(table, {})
            for name, column in indexed:
                own.setdefault(str(name), []).append(str(column or ""))
            self._rows[table] = int(rows[0][0] or 0) if rows else 0

    def missing(self, seeks: Iterator[_Seek], steps: Sequence[Step]) -> Iterator[Missing]:
        """Judge: a table whose index can serve, and has few rows, is rightly read whole."""
        for node, wanted in seeks:
            table = self._table[node]
            indexes = self._indexes[table]
            is_there = any(map(wanted.is_begun_by, indexes.values()))
            if is_there and not _is_useless(node, steps):
                continue
            types = self._plan.types_of(node)
            fix = unlike() if is_there else index(table, wanted, types, indexes)
            alias = node.source.description if isinstance(node.source, Alias) else ""
            yield Missing(table, alias, wanted.columns, self._count(table), is_there, fix)

    def _count(self, table: TableName) -> int:
        """Count the rows where that is done at once; the server's estimate may be a day old."""
        name = ".".join(map(quoted, table))
        counted = f"SELECT COUNT(*) FROM (SELECT 1 FROM {name} LIMIT {_COUNTED + 1}) AS counted"
        [[[count]]] = self._connection.query(counted)
        return int(count) if int(count) <= _COUNTED else max(int(count), self._rows[table])


def _is_useless(node: Node, steps: Sequence[Step]) -> bool:
    own = [step for step in steps if step["table"] == node.source.description]
    return bool(own) and all(
        step["type"] in {"ALL", "index"} and not step["possible_keys"] for step in own
    )


def _values(look_up: LookUp, connection: Connection) -> list[tuple[Any, ...]]:
    start = look_up.start
    names = ", ".join(map(quoted, look_up.columns))
    known = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in look_up.columns)
    [rows] = connection.query_raw(
        f"SELECT {names} FROM {spelled(start)} WHERE {known} LIMIT {_SAMPLE}"
    )
    numbers = are_numbers(start, look_up.columns)
    found = [tuple(map(native, row, numbers)) for row in rows]
    return found or [tuple(0 if is_number else "" for is_number in numbers)]


def _invented(root: Node) -> tuple[Any, ...]:
    return tuple(0 if isinstance(column.type, Integer) else "" for column in root.key)


def native(value: bytes | None, is_number: bool) -> Any:
    """Return a value to compare with: bytes compare like the text that they are, in the column's
    own collation, if said as text."""
    if value is None or is_number:
        return None if value is None else int(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def are_numbers(node: Node, names: Sequence[str]) -> list[bool]:
    """Return of each column whether it holds whole numbers."""
    by_name = {column.name: column for column in node.table.columns}
    return [isinstance(by_name[name].type, Integer) for name in names]


def role(node: Node) -> str:
    """Name a table by its place in the document."""
    return "/".join(reversed([step.source.description for step in node.path()]))


def spelled(node: Node) -> str:
    """Write the name of a node's table."""
    schema = node.table.schema
    return ".".join(quoted(part) for part in (schema, node.table.name) if part)
