"""Aggregate functions whose value depends on the order in which the server reads rows, made to give
the same for the same rows: a document that changed with the plan would be a difference for ever.

Lists (GROUP_CONCAT) are put in the order of the primary key where none is declared. Objects
(JSON_OBJECTAGG) have their members sorted, and no value where a name stands twice or is NULL: which
of the values is shown would be left to chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators, visitors

from projector.projection.figures import members, name_of_function
from projector.projection.values import Expression

# In place of an object of which a name stands twice: refused like any such JSON, with its column.
_TWICE = '\'{"":0,"":0}\''


def settled(expression: Expression, key: Sequence[Expression]) -> Expression:
    """Return an expression of an aggregate that does not depend on the order of rows; see
    `Dialect.settled`."""

    def replace(element: Any, **_: Any) -> Any:
        name = name_of_function(element)
        if name == "group_concat" and key:
            return _in_order(element, key)
        if name == "aggregate_strings" and key:
            listed, separator = element.clauses
            return sa.func.group_concat(_Listed(listed, key, separator), type_=element.type)
        if name == "json_objectagg":
            member, value = element.clauses
            return sa.func.json_objectagg(sa.func.coalesce(member, sa.literal("")), value)
        return None

    counted = [
        sa.func.count() == sa.func.count(sa.distinct(sa.cast(sa.cast(m, sa.CHAR), sa.BINARY)))
        for m in members(expression)
    ]
    bare = expression.element if isinstance(expression, sa.Label) else expression
    changed: Expression = visitors.replacement_traverse(bare, {}, replace)
    if not counted:
        return changed
    return sa.case((sa.and_(*counted), changed), else_=sa.literal_column(_TWICE))


class _Listed(sa.ColumnElement[Any]):
    """The last argument of GROUP_CONCAT, put in order."""

    inherit_cache = False

    def __init__(self, listed: Any, key: Sequence[Expression], separator: Any = None) -> None:
        is_distinct = getattr(listed, "operator", None) is operators.distinct_op
        self.listed = listed
        # Values that are listed once each have no row of their own: they go by themselves.
        self.order = [listed.element] if is_distinct else list(key)
        self.separator = separator


@compiles(_Listed)
def _spell(element: _Listed, compiler: Any, **options: Any) -> str:
    order = ", ".join(compiler.process(column, **options) for column in element.order)
    said = f"{compiler.process(element.listed, **options)} ORDER BY {order}"
    if element.separator is None:
        return said
    return f"{said} SEPARATOR {compiler.process(element.separator, **options)}"


def _in_order(function: Any, key: Sequence[Expression]) -> Any:
    """Return the function with an order; None where it has one, or is spelled by hand."""
    *others, last = function.clauses
    parts = list(visitors.iterate(last))
    is_by_hand = any(isinstance(p, sa.TextClause) or getattr(p, "is_literal", False) for p in parts)
    if is_by_hand or "ORDER BY" in map(_operator, parts):
        return None
    if _operator(last) == "SEPARATOR":
        listed = _Listed(last.left, key, last.right)
    else:
        listed = _Listed(last, key)
    return sa.func.group_concat(*others, listed, type_=function.type)


def _operator(element: Any) -> str:
    """Return an operator that the declaration spells out itself: `x.op("ORDER BY")(y)`."""
    spelled = getattr(getattr(element, "operator", None), "opstring", "")
    return str(spelled).strip().upper()
