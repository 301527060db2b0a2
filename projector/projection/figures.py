"""Aggregate functions whose value depends on the order in which the server reads rows: objects have
their members sorted. That the rest gives the same for the same rows is `Dialect.settled`'s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import functions, visitors

from projector.projection import shapes
from projector.projection.encoding import Form, text
from projector.projection.forms import form_for
from projector.projection.jsontext import sorted_members
from projector.projection.values import Expression, Field, Manner, expression_of

_OBJECTS = {"json_objectagg", "json_object_agg", "jsonb_object_agg"}


def form_for_figure(declared: Field, manner: Manner) -> Form:
    """Choose the form of an aggregate's field."""
    form, expression = form_for(declared, manner), expression_of(declared)
    if next(members(expression), None) is None:
        return form
    if isinstance(expression.type, sa.JSON):
        return Form(sorted_members, form.shape)
    return Form(lambda value: text(sorted_members(value)), shapes.TEXT)


def members(expression: Expression) -> Iterator[Any]:
    """Yield what names the members of each object in an expression."""
    for element in visitors.iterate(expression):
        if name_of_function(element) in _OBJECTS:
            found: Any = element
            yield next(iter(found.clauses))


def name_of_function(element: Any) -> str:
    """Return the name of a function in lower case, "" of anything else."""
    is_function = isinstance(element, functions.FunctionElement)
    return str(getattr(element, "name", "")).lower() if is_function else ""
