"""Aggregate functions whose value depends on the order in which the server reads rows, made to give
the same for the same rows: a document that changed with the plan would be a difference for ever.

Lists (GROUP_CONCAT) are put in the order of the primary key where none is declared. Objects
(JSON_OBJECTAGG) have their members sorted, and no value where a name stands twice or is NULL: which
of the values is shown would be left to chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import functions, operators, visitors

from projector.projection import shapes
from projector.projection.encoding import Form, text
from projector.projection.forms import form_for
from projector.projection.jsontext import sorted_members
from projector.projection.values import Expression, Field, Manner, expression_of

# In place of an object of which a name stands twice: refused like any such JSON, with its column.
_TWICE = '\'{"":0,"":0}\''


def settled(expression: Expression, key: Sequence[Expression]) -> Expression:
    """Return an expression of an aggregate that does not depend on the order of rows. `key`: of one
    of the rows that are added up."""

    def replace(element: Any, **_: Any) -> Any:
        name = _name(element)
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
        for m in _members(expression)
    ]
    bare = expression.element if isinstance(expression, sa.Label) else expression
    changed: Expression = visitors.replacement_traverse(bare, {}, replace)
    if not counted:
        return changed
    return sa.case((sa.and_(*counted), changed), else_=sa.literal_column(_TWICE))


def form_for_figure(declared: Field, manner: Manner) -> Form:
    """Choose the form of an aggregate's field."""
    form, expression = form_for(declared, manner), expression_of(declared)
    if next(_members(expression), None) is None:
        return form
    if isinstance(expression.type, sa.JSON):
        return Form(sorted_members, form.shape)
    return Form(lambda value: text(sorted_members(value)), shapes.TEXT)


def _members(expression: Expression) -> Iterator[Any]:
    """Yield what names the members of each object in an expression."""
    for element in visitors.iterate(expression):
        if _name(element) == "json_objectagg":
            found: Any = element
            yield next(iter(found.clauses))


def _name(element: Any) -> str:
    is_function = isinstance(element, functions.FunctionElement)
    return str(getattr(element, "name", "")).lower() if is_function else ""


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
