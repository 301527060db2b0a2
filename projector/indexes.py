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

from sqlalchemy import Integer

from projector.database import Connection
from projector.model import TableName
from projector.projection import Plan
from projector.projection.graph import Node
from projector.projection.keys import literal
from projector.projection.routes import LookUp

_SAMPLE = 3  # documents or values that a query is explained for

# EXPLAIN's columns by their number: MariaDB has 10, MySQL 12 (manual, "EXPLAIN Output Format").
_COLUMNS = {
    10: "id select_type table type possible_keys key key_len ref rows extra",
    12: "id select_type table partitions type possible_keys key key_len ref rows filtered extra",
}

# MySQL: "Cannot use ref access on index 'x' due to …"; MariaDB: "Cannot use key `x` part[0] …".
_REFUSED = re.compile(r"Cannot use .*?(?:index '|key `)(.+?)['`] (?:due to|part)")

Step = Mapping[str, Any]  # a row of EXPLAIN by these names
_Seek = tuple[Node, tuple[str, ...]]  # a table in its role, and what it is sought by


@dataclass(frozen=True, slots=True)
class Missing:
    """What a table is sought by without an index that serves. `rows`: the server's estimate."""

    table: TableName
    columns: tuple[str, ...]
    rows: int
    is_there: bool  # an index is, and cannot be used

    @property
    def detail(self) -> str:
        """Say what it costs."""
        how = "the index on" if self.is_there else "no index begins with"
        end = " cannot serve" if self.is_there else ""
        columns = " or ".join(self.columns)
        return f"{self.table} is read whole (about {self.rows} rows): {how} {columns}{end}"

    @property
    def fix(self) -> str:
        """Say what to do."""
        if self.is_there:
            return "Give both sides of the join the same type, character set and collation."
        index = quoted(f"ix_{self.table.name}_{self.columns[0]}")
        columns = ", ".join(map(quoted, self.columns))
        return f"CREATE INDEX {index} ON {'.'.join(map(quoted, self.table))} ({columns});"


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
    catalog = _Catalog(plan, connection)
    [sample] = connection.query_raw(plan.ids_after(None, _SAMPLE))
    keys = [plan.codec.to_values(plan.to_id(row)) for row in sample] or [_invented(plan.root)]
    found = []
    for level in plan.levels:
        steps = _steps(level.query(keys), connection)
        missing = list(catalog.missing(_seeks_down(level.node), steps))
        found.append(Explained("query", role(level.node), level.query(keys), steps, missing))
    for look_up in {r.look_up.name: r.look_up for r in plan.routes if r.look_up}.values():
        sql = look_up.query(_values(look_up, connection), (), 1)
        steps = _steps(sql, connection)
        missing = list(catalog.missing(_seeks_up(look_up), steps))
        found.append(Explained("look-up", look_up.name, sql, steps, missing))
    return found


def _steps(sql: str, connection: Connection) -> list[dict[str, Any]]:
    """Give the server's plan; of the keys that it thought of only those that it could use."""
    rows, notes = connection.query(f"EXPLAIN FORMAT=TRADITIONAL {sql}", "SHOW WARNINGS")
    refused = {match[1] for *_, text in notes if (match := _REFUSED.search(text))}
    steps = [dict(zip(_COLUMNS[len(row)].split(), row, strict=True)) for row in rows]
    for step in steps:
        usable = [key for key in (step["possible_keys"] or "").split(",") if key not in refused]
        step["possible_keys"] = ",".join(usable) or None
    return steps


def _seeks_down(node: Node) -> Iterator[_Seek]:
    """From the root's keys to a collection, and to what is joined to it."""
    for other in dict.fromkeys([*reversed(list(node.path())), *node.to_one]):
        own = tuple(column.name for column, _ in other.pairs)
        yield other, own or tuple(column.name for column in other.key)


def _seeks_up(look_up: LookUp) -> Iterator[_Seek]:
    """From a changed row's values to the root."""
    yield look_up.start, look_up.columns
    for below in look_up.start.path():
        if below.parent is not None:
            yield below.parent, tuple(other.name for _, other in below.pairs)


class _Catalog:
    """Columns that indexes begin with, and estimates of rows."""

    def __init__(self, plan: Plan, connection: Connection) -> None:
        [[[schema, folds]]] = connection.query("SELECT DATABASE(), @@lower_case_table_names")
        plan.folds_names = int(folds) != 0
        self._table = {node: plan.table_name(node, schema or "") for node in plan.all_nodes()}
        self._leading: dict[TableName, set[str]] = {}
        self._rows: dict[TableName, int] = {}
        for table in set(self._table.values()):
            where = f"TABLE_SCHEMA={literal(table.schema)} AND TABLE_NAME={literal(table.name)}"
            leading, rows = connection.query(
                "SELECT COLUMN_NAME FROM information_schema.STATISTICS"
                f" WHERE SEQ_IN_INDEX=1 AND {where}",
                f"SELECT TABLE_ROWS FROM information_schema.TABLES WHERE {where}",
            )
            self._leading[table] = {row[0].lower() for row in leading}
            self._rows[table] = int(rows[0][0] or 0) if rows else 0

    def missing(self, seeks: Iterator[_Seek], steps: Sequence[Step]) -> Iterator[Missing]:
        """Judge: a table whose index can serve, and has few rows, is rightly read whole."""
        for node, columns in seeks:
            table = self._table[node]
            is_there = not self._leading[table].isdisjoint(name.lower() for name in columns)
            if not is_there or _is_useless(node, steps):
                yield Missing(table, columns, self._rows[table], is_there)


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
    """Give a value to compare with: bytes compare like the text that they are, in the column's own
    collation, if said as text."""
    if value is None or is_number:
        return None if value is None else int(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def are_numbers(node: Node, names: Sequence[str]) -> list[bool]:
    """Say of columns whether they hold whole numbers."""
    by_name = {column.name: column for column in node.table.columns}
    return [isinstance(by_name[name].type, Integer) for name in names]


def role(node: Node) -> str:
    """Name a table by its place in the document."""
    return "/".join(reversed([step.source.description for step in node.path()]))


def quoted(name: str) -> str:
    """Write an identifier for the server."""
    return f"`{name.replace('`', '``')}`"


def spelled(node: Node) -> str:
    """Write the name of a node's table."""
    schema = node.table.schema
    return ".".join(quoted(part) for part in (schema, node.table.name) if part)
