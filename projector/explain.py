"""What a projection asks of the server, by which indexes, and what a changed row touches.

Only reads. Queries are explained for some documents that exist, look-ups for values that stand in
their tables, so that the server plans them as it does for the daemon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Integer

from projector.database import Connection
from projector.errors import OperatorError
from projector.projection import Plan
from projector.projection.graph import Node
from projector.projection.keys import KeyCodec, among, literal
from projector.projection.routes import LookUp, Route

_SAMPLE = 3  # documents or values that a query is explained for
_SHOWN = 20  # ids that a report names

# EXPLAIN's columns by their number: MariaDB has 10, MySQL 12 (manual, "EXPLAIN Output Format").
_COLUMNS = {
    10: "id select_type table type possible_keys key key_len ref rows extra",
    12: "id select_type table partitions type possible_keys key key_len ref rows filtered extra",
}


def queries(plan: Plan, connection: Connection) -> list[dict[str, Any]]:
    """Explain the projection's queries and look-ups; `warnings` name missing indexes."""
    [sample] = connection.query_raw(plan.ids_after(None, _SAMPLE))
    keys = [plan.codec.to_values(plan.to_id(row)) for row in sample] or [_invented(plan.root)]
    nodes = {node.source.description: node for node in plan.all_nodes()}
    found = []
    for level in plan.levels:
        sql = level.query(keys)
        found.append(_explained(None, _name(level.node), sql, nodes, connection))
    for look_up in {r.look_up.name: r.look_up for r in plan.routes if r.look_up}.values():
        sql = look_up.query(_values(look_up, connection), (), 1)
        found.append(_explained(look_up, look_up.name, sql, nodes, connection))
    return found


def routes(plan: Plan) -> list[dict[str, Any]]:
    """Say for each table in each role how the documents of a changed row are found."""
    return [
        {
            "table": route.node.table.fullname,
            "role": _name(route.node),
            "columns": list(route.columns),
            "look_up": route.look_up.name if route.look_up is not None else None,
        }
        for route in plan.routes
    ]


def touched(plan: Plan, table: str, key: str, connection: Connection) -> list[dict[str, Any]]:
    """Say which documents a change of one row touches, in each role of its table.

    `key` is written like a document's id: the parts of a composite one are joined with `:`.
    Raises OperatorError for a table that the projection does not read, and a row that is not there.
    """
    chosen = [r for r in plan.routes if table in {r.node.table.name, r.node.table.fullname}]
    if not chosen:
        read = ", ".join(sorted({r.node.table.fullname for r in plan.routes}))
        raise OperatorError(
            f"the projection {plan.name} reads no table {table}", f"It reads {read}."
        )
    return [_touched(plan, route, key, connection) for route in chosen]


def _touched(plan: Plan, route: Route, key: str, connection: Connection) -> dict[str, Any]:
    said: dict[str, Any] = {"table": route.node.table.fullname, "role": _name(route.node)}
    row = _row(route, key, connection)
    if None in row:
        return {**said, "documents": 0, "ids": []}  # NULL hangs on nothing
    if route.look_up is None:
        sql = plan.ids_among([plan.to_id(row)])
    else:
        sql = route.look_up.query([row], (), 2**63)
    [[[count]]] = connection.query(f"SELECT COUNT(*) FROM ({sql}) AS counted")
    [ids] = connection.query_raw(f"SELECT * FROM ({sql}) AS found LIMIT {_SHOWN}")
    return {**said, "documents": int(count), "ids": [plan.to_id(found) for found in ids]}


def _row(route: Route, key: str, connection: Connection) -> tuple[Any, ...]:
    """Read the columns that the route begins with."""
    node = route.node
    if not node.key:
        raise OperatorError(f"{node.table.name} has no primary key", "Name another table.")
    try:
        values = KeyCodec(node.key).to_values(key)
    except ValueError:
        raise OperatorError(
            f"{key!r} is no key of {node.table.name}",
            f"Write {':'.join(route.key_columns)}.",
        ) from None
    columns = ", ".join(map(_quoted, route.columns))
    where = among([_quoted(name) for name in route.key_columns], [values])
    [rows] = connection.query_raw(f"SELECT {columns} FROM {_spelled(node)} WHERE {where}")
    if not rows:
        raise OperatorError(f"{node.table.name} has no row {key}", "Name a row that exists.")
    types = [node.table.columns[c].type for c in _keys_of(node, route.columns)]
    return tuple(_native(v, isinstance(t, Integer)) for v, t in zip(rows[0], types, strict=True))


def _native(value: bytes | None, is_number: bool) -> Any:
    """Bytes compare like the text that they are, in the column's own collation, if said as text."""
    if value is None or is_number:
        return None if value is None else int(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _keys_of(node: Node, names: Sequence[str]) -> list[str]:
    by_name = {column.name: column.key for column in node.table.columns}
    return [by_name[name] for name in names]


def _values(look_up: LookUp, connection: Connection) -> list[tuple[Any, ...]]:
    start = look_up.start
    names = ", ".join(map(_quoted, look_up.columns))
    known = " AND ".join(f"{_quoted(name)} IS NOT NULL" for name in look_up.columns)
    [rows] = connection.query_raw(
        f"SELECT {names} FROM {_spelled(start)} WHERE {known} LIMIT {_SAMPLE}"
    )
    types = [start.table.columns[c].type for c in _keys_of(start, look_up.columns)]
    found = [
        tuple(_native(v, isinstance(t, Integer)) for v, t in zip(row, types, strict=True))
        for row in rows
    ]
    return found or [tuple(0 if isinstance(t, Integer) else "" for t in types)]


def _invented(root: Node) -> tuple[Any, ...]:
    return tuple(0 if isinstance(column.type, Integer) else "" for column in root.key)


def _explained(
    look_up: LookUp | None, name: str, sql: str, nodes: dict[str, Node], connection: Connection
) -> dict[str, Any]:
    [rows] = connection.query(f"EXPLAIN FORMAT=TRADITIONAL {sql}")
    steps = [dict(zip(_COLUMNS[len(row)].split(), row, strict=True)) for row in rows]
    return {
        "kind": "query" if look_up is None else "look-up",
        "name": name,
        "sql": sql,
        "plan": steps,
        "warnings": list(_warnings(steps, nodes, look_up, connection)),
    }


def _warnings(
    steps: Sequence[dict[str, Any]],
    nodes: dict[str, Node],
    look_up: LookUp | None,
    connection: Connection,
) -> Iterator[str]:
    """A table that is read whole although rows of it are sought has no index to seek by; one that
    has an index, and few rows, the server may rightly read whole."""
    for step in steps:
        node = nodes.get(step["table"] or "")
        if node is None or step["type"] not in {"ALL", "index"}:
            continue
        columns = _sought(node, look_up)
        if step["possible_keys"] and not _leading(node, connection).isdisjoint(columns):
            continue
        yield (
            f"{node.table.fullname} is read whole ({step['rows']} rows):"
            f" no index serves what it is sought by ({', '.join(columns)})"
        )


def _leading(node: Node, connection: Connection) -> set[str]:
    """Give the columns that an index of the table begins with."""
    schema = literal(node.table.schema) if node.table.schema else "DATABASE()"
    [rows] = connection.query(
        "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE SEQ_IN_INDEX=1"
        f" AND TABLE_SCHEMA={schema} AND TABLE_NAME={literal(node.table.name)}"
    )
    return {row[0] for row in rows}


def _sought(node: Node, look_up: LookUp | None) -> Sequence[str]:
    """Name the columns by which a query comes to a table: from above, or up from a changed row."""
    if look_up is not None:
        if node is look_up.start:
            return look_up.columns
        for below in look_up.start.path():
            if below.parent is node:
                return [other.name for _, other in below.pairs]
    return [own.name for own, _ in node.pairs] or [column.name for column in node.key]


def _name(node: Node) -> str:
    return "/".join(reversed([step.source.description for step in node.path()]))


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _spelled(node: Node) -> str:
    schema = node.table.schema
    return ".".join(_quoted(part) for part in (schema, node.table.name) if part)


def as_text(report: dict[str, Any]) -> str:
    """Write a report for people."""
    return "\n".join(_lines(report))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    for found in report.get("touched", ()):
        ids = ", ".join(found["ids"]) + (" …" if found["documents"] > len(found["ids"]) else "")
        yield f"{found['table']} as {found['role']}: {found['documents']} documents {ids}".rstrip()
    for query in report.get("queries", ()):
        yield f"{query['kind']} {query['name']}"
        yield f"  {' '.join(query['sql'].split())}"
        for step in query["plan"]:
            how = f"{step['type']} by {step['key'] or 'no index'}"
            yield f"    {step['table']}: {how}, {step['rows']} rows. {step['extra'] or ''}".rstrip()
        for warning in query["warnings"]:
            yield f"  warning: {warning}"
    for route in report.get("routes", ()):
        columns = "+".join(route["columns"])
        how = f"look-up {route['look_up']}" if route["look_up"] else "the row holds the id"
        yield f"a change of {route['table']} as {route['role']}: {columns}; {how}"
