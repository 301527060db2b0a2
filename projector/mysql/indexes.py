"""What MySQL and MariaDB are asked of a projection's indexes: their catalog, and EXPLAIN."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Integer

from projector.indexes import SAMPLE, Compared, Explained, Lack, Step, Wanted
from projector.indexes import explained as explained_by
from projector.model import TableName
from projector.mysql.advice import UNLIKE, index, quoted
from projector.mysql.columns import fitted
from projector.mysql.connection import Connection
from projector.mysql.literals import literal
from projector.projection import Plan
from projector.projection.columns import ColumnType
from projector.projection.nodes import Node
from projector.projection.routes import LookUp

_COUNTED = 100_000  # rows that are counted one by one

# EXPLAIN's columns by their number: MariaDB has 10, MySQL 12 (manual, "EXPLAIN Output Format").
_COLUMNS = {
    10: "id select_type table type possible_keys key key_len ref rows extra",
    12: "id select_type table partitions type possible_keys key key_len ref rows filtered extra",
}

# MySQL: "Cannot use ref access on index 'x' due to …"; MariaDB: "Cannot use key `x` part[0] …".
_REFUSED = re.compile(r"Cannot use .*?(?:index '|key `)(.+?)['`] (?:due to|part)")


def explained(plan: Plan, connection: Connection) -> list[Explained]:
    """Explain the projection's queries, then its look-ups."""
    plan = fitted(plan, connection)
    return explained_by(plan, Planner(plan, connection))


class Planner:
    """Implements `indexes.Planner`."""

    UNLIKE = UNLIKE

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

    def sample(self) -> list[Sequence[Any]]:
        """Return the keys of some documents; invented where there are none."""
        plan = self._plan
        [sample] = self._connection.query_raw(plan.ids_after(None, SAMPLE))
        invented = tuple(0 if isinstance(c.type, Integer) else "" for c in plan.root.key)
        return [plan.codec.to_values(plan.to_id(row)) for row in sample] or [invented]

    def values(self, look_up: LookUp) -> list[Sequence[Any]]:
        """Return values that a look-up begins with; invented where there are none."""
        start = look_up.start
        names = ", ".join(map(quoted, look_up.columns))
        known = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in look_up.columns)
        [rows] = self._connection.query_raw(
            f"SELECT {names} FROM {spelled(start)} WHERE {known} LIMIT {SAMPLE}"
        )
        numbers = are_numbers(start, look_up.columns)
        invented = tuple(0 if is_number else "" for is_number in numbers)
        return [tuple(map(native, row, numbers)) for row in rows] or [invented]

    def compared(self, look_up: LookUp) -> Compared:
        """Return what the columns that a look-up begins with are compared with."""
        found: dict[str, list[ColumnType]] = {name: [] for name in look_up.columns}
        for likenesses in look_up.likenesses:
            alike: Any = likenesses  # this dialect's own
            for name, x in zip(look_up.columns, alike, strict=True):
                if not (x.is_plain and x.own.kind and x.own.is_text and x.other.is_text):
                    found[name].append(x.own)
        return found

    def steps(self, sql: str) -> list[Step]:
        """Return the server's plan; of the keys that it thought of only those that it could use."""
        rows, notes = self._connection.query(f"EXPLAIN FORMAT=TRADITIONAL {sql}", "SHOW WARNINGS")
        refused = {match[1] for *_, text in notes if (match := _REFUSED.search(text))}
        steps = [dict(zip(_COLUMNS[len(row)].split(), row, strict=True)) for row in rows]
        for step in steps:
            usable = [k for k in (step["possible_keys"] or "").split(",") if k not in refused]
            step["possible_keys"] = ",".join(usable) or None
        return list(steps)

    def lack(self, node: Node, wanted: Wanted, sql: str, steps: Sequence[Step]) -> Lack | None:
        """Return what keeps the query from seeking in the table of a node."""
        if not any(map(wanted.is_begun_by, self._indexes[self._table[node]].values())):
            return Lack.MISSING
        return Lack.UNFIT if _is_useless(node, steps) else None

    def remedy(self, node: Node, wanted: Wanted) -> str:
        """Write the statement that makes an index, or say why none would help."""
        table = self._table[node]
        return index(table, wanted, self._plan.types_of(node), self._indexes[table])

    def table(self, node: Node) -> TableName:
        """Return the server's name of a node's table."""
        return self._table[node]

    def count(self, table: TableName) -> int:
        """Count the rows where that is done at once; the server's estimate may be a day old."""
        name = ".".join(map(quoted, table))
        counted = f"SELECT COUNT(*) FROM (SELECT 1 FROM {name} LIMIT {_COUNTED + 1}) AS counted"
        [[[count]]] = self._connection.query(counted)
        return int(count) if int(count) <= _COUNTED else max(int(count), self._rows[table])


def _is_useless(node: Node, steps: Sequence[Mapping[str, Any]]) -> bool:
    own = [step for step in steps if step["table"] == node.source.description]
    return bool(own) and all(
        step["type"] in {"ALL", "index"} and not step["possible_keys"] for step in own
    )


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


def spelled(node: Node) -> str:
    """Write the name of a node's table."""
    schema = node.table.schema
    return ".".join(quoted(part) for part in (schema, node.table.name) if part)
