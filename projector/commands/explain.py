"""`projector explain`: what a projection asks of its database, by which indexes, and what a changed
row touches. The same report of any server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from projector.errors import ConfigurationError, OperatorError
from projector.indexes import Explained, role
from projector.model import folded
from projector.projection import Plan
from projector.projection.routes import Route
from projector.projection.timed import VIEW as DUE
from projector.projection.values import expression_of

_SHOWN = 20  # ids that a report names
_ALL = 2**63 - 1  # ids, as a limit


class Explainer(Protocol):
    """A projection on the server that its documents are read from."""

    plan: Plan

    def fitted(self) -> Plan:
        """Return the plan for the types that its tables have now."""
        ...

    def explained(self) -> Sequence[Explained]:
        """Explain the projection's queries, then its look-ups."""
        ...

    def rows(self, sql: str) -> Sequence[Sequence[Any]]:
        """Run a query."""
        ...

    def row(self, route: Route, key: str) -> Sequence[Any] | None:
        """Return the columns that a route begins with, of the row of a key; None where there is
        none. Raises ValueError for what is no key."""
        ...


def report(explainer: Explainer) -> dict[str, Any]:
    """Explain all of a projection."""
    plan = explainer.plan
    found: dict[str, Any] = {"queries": _queries(explainer), "routes": _routes(plan)}
    found["notes"] = _notes(explainer)
    if plan.views.in_use:
        found["views"] = _views(plan)
    return found


def _queries(explainer: Explainer) -> list[dict[str, Any]]:
    return [
        {
            "kind": query.kind,
            "name": query.name,
            "sql": query.sql,
            "plan": query.steps,
            "warnings": [f"{missing.detail}. {missing.fix}" for missing in query.missing],
        }
        for query in explainer.explained()
    ]


def _notes(explainer: Explainer) -> list[str]:
    """Return what the plans do not tell."""
    plan = explainer.plan
    if explainer.rows(plan.ids_after(None, 1)):
        return []
    return [
        f"there is no document of {plan.root.table.fullname} yet: the plans are made for no rows,"
        " look again when there are some"
    ]


def _routes(plan: Plan) -> list[dict[str, Any]]:
    """Return for each table in each role how the documents of a changed row are found."""
    return [
        {
            "table": route.node.table.fullname,
            "role": role(route.node),
            "columns": list(route.columns),
            "look_up": route.look_up.name if route.look_up is not None else None,
        }
        for route in plan.routes
    ]


def _views(plan: Plan) -> list[dict[str, Any]]:
    """Return which lists are kept beside the documents, by which values and in which order."""
    found = []
    for view in plan.views.planned:
        names = [_name(expression_of(key), plan) for key in view.declared.keys]
        where = view.declared.where
        found.append(
            {
                "name": view.declared.name,
                "key": names,
                "newest": _name(view.declared.newest, plan),
                "where": None if where is None else _sql(where, plan),
                "keep": view.keep or None,
                "masked": any(part.mask for part in view.parts),
                "lists_a_document": "many" if view.many else "one",
            }
        )
    if timed := plan.views.timed:
        found.append(
            {
                "name": f"by_{DUE}",
                "key": [],
                "newest": f"the next moment of {', '.join(each.name for each in timed)}",
                "where": None,
                "keep": None,
                "masked": False,
                "lists_a_document": "one",
            }
        )
    return found


def _name(expression: Any, plan: Plan) -> str:
    column = getattr(expression, "element", expression)  # of a label
    table = getattr(getattr(column, "table", None), "description", "")
    name = getattr(column, "name", None)
    return f"{table}.{name}" if table and name else _sql(expression, plan)


def _sql(expression: Any, plan: Plan) -> str:
    return " ".join(plan.dialect.compile(sa.select(expression)).split()[1:]).partition(" FROM ")[0]


def touched(explainer: Explainer, table: str, key: str) -> list[dict[str, Any]]:
    """Return which documents a change of one row touches, in each role of its table.

    `key` is written like a document's id: the parts of a composite one are joined with `:`.
    Raises ConfigurationError for a table that the projection does not read, OperatorError for a row
    that is not there.
    """
    plan = explainer.plan
    names = {r: {r.node.table.name, r.node.table.fullname} for r in plan.routes}
    chosen = [r for r in plan.routes if table in names[r]] or [
        r for r in plan.routes if folded(table) in map(folded, names[r])
    ]
    if not chosen:
        read = ", ".join(sorted({r.node.table.fullname for r in plan.routes}))
        raise ConfigurationError(
            f"the projection {plan.name} reads no table {table}", f"It reads {read}."
        )
    plan = explainer.fitted()
    return [_touched(plan, route, key, explainer) for route in chosen]


def _touched(plan: Plan, route: Route, key: str, explainer: Explainer) -> dict[str, Any]:
    said: dict[str, Any] = {"table": route.node.table.fullname, "role": role(route.node)}
    row = _row(route, key, explainer)
    if None in row:
        return {**said, "documents": 0, "ids": []}  # NULL references nothing
    if route.look_up is None:
        sql = plan.ids_among([plan.to_id(row)])
    else:
        sql = plan.look_ups[route.look_up.name].query([row], (), _ALL)
    [[count]] = explainer.rows(f"SELECT COUNT(*) FROM ({sql}) AS counted")
    ids = explainer.rows(f"SELECT * FROM ({sql}) AS found LIMIT {_SHOWN}")
    return {**said, "documents": int(count), "ids": [plan.to_id(found) for found in ids]}


def _row(route: Route, key: str, explainer: Explainer) -> Sequence[Any]:
    """Read the columns that the route begins with."""
    node = route.node
    if not node.key:
        raise OperatorError(f"{node.table.name} has no primary key", "Name another table.")
    try:
        row = explainer.row(route, key)
    except ValueError:
        raise OperatorError(
            f"{key!r} is no key of {node.table.name}",
            f"Write {':'.join(route.key_columns)}.",
        ) from None
    if row is None:
        raise OperatorError(f"{node.table.name} has no row {key}", "Name a row that exists.")
    return row


def as_text(report: dict[str, Any]) -> str:
    """Write a report for people."""
    return "\n".join(_lines(report))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    for found in report.get("touched", ()):
        ids = ", ".join(found["ids"]) + (" …" if found["documents"] > len(found["ids"]) else "")
        yield f"{found['table']} as {found['role']}: {found['documents']} documents {ids}".rstrip()
    for note in report.get("notes", ()):
        yield f"note: {note}"
    for query in report.get("queries", ()):
        yield f"{query['kind']} {query['name']}"
        yield f"  {' '.join(query['sql'].split())}"
        for step in query["plan"]:
            how = f"{step['type']} by {step['key'] or 'no index'}"
            yield f"    {step['table']}: {how}, {step['rows']} rows. {step['extra'] or ''}".rstrip()
        for warning in query["warnings"]:
            yield f"  warning: {warning}"
    for view in report.get("views", ()):
        said = f"view {view['name']}: a list for each {'|'.join(view['key'])}"
        said += f", newest {view['newest']} first"
        said += f", where {view['where']}" if view["where"] else ""
        said += f", {view['keep']} of each for certain" if view["keep"] else ""
        yield said + (", masked" if view["masked"] else "")
    for route in report.get("routes", ()):
        columns = "+".join(route["columns"])
        how = f"look-up {route['look_up']}" if route["look_up"] else "the row holds the id"
        yield f"a change of {route['table']} as {route['role']}: {columns}; {how}"
