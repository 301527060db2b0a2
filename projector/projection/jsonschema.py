"""The JSON Schema of a projection's documents, from its own types.

Follows the plan by which documents are written, member by member. Null stands wherever a row may be
missing or a value NULL: only columns that are declared `nullable=False` or of the primary key, of a
row that is there, and counts have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import functions

from projector.projection.declaration import Aggregate, First, Kind, Many, One, OneOf, Pairs, Path
from projector.projection.encoding import Form, any_text
from projector.projection.levels import Level, Named, Nested, Object, Trail
from projector.projection.nodes import Inset, Node
from projector.projection.plan import Plan
from projector.projection.shapes import Shape, any_of, array, or_null
from projector.projection.values import Field, expression_of


def json_schema(plan: Plan) -> dict[str, Any]:
    """Describe the documents: by the model that the projection names, or else by its types."""
    model = plan.projection.document
    if model is not None:
        return model.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": plan.name,
        **_object(plan.projection.fields, plan.root, plan.top.body),
    }


def _object(fields: Sequence[Field], node: Node, body: Object) -> Shape:
    """Describe an object of these fields of a node's row, and of what stands in it beside them."""
    members = dict(zip(body.writer.names, _values(fields, node, body.writer.forms), strict=True))
    for level in body.children:
        members.update(_listed(level))
    for inset, planned in zip(node.insets, body.insets, strict=True):
        members[inset.declared.name] = _inset(inset, planned)
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def _values(fields: Sequence[Field], node: Node, forms: Sequence[Form]) -> Iterator[Shape]:
    for declared, form in zip(fields, forms, strict=True):
        yield form.shape if _is_there(declared, node) else or_null(form.shape)


def _is_there(declared: Field, node: Node) -> bool:
    """Whether a value of a node's row is never NULL. What is joined to it may be missing."""
    said = expression_of(declared)
    expression = said.element if isinstance(said, sa.Label) else said
    if isinstance(expression, sa.Column):
        return expression.table is node.source and not expression.nullable
    return isinstance(expression, functions.count)


def _listed(level: Level) -> dict[str, Shape]:
    declared, body, node = level.node.declared, level.body, level.node
    match declared:
        case Aggregate():
            figures = _values(declared.fields, node, body.writer.forms)
            return dict(zip(body.writer.names, figures, strict=True))
        case Many():
            return {declared.name: array(_element(declared, level), declared.limit)}
        case First():
            return {declared.name: or_null(_element(declared, level))}
        case Pairs() if level.named is not None:
            return {declared.name: _pairs(declared, level, level.named)}
    raise AssertionError(declared)


def _element(declared: Many | First, level: Level) -> Shape:
    if declared.value is None:
        return _object(declared.fields, level.node, level.body)
    [shape] = _values([declared.value], level.node, level.body.writer.forms)
    return shape


def _pairs(declared: Pairs, level: Level, named: Named) -> Shape:
    """Describe an object whose names are data. Only of a key that is shown as the server sends it
    the names of those with a type of their own are known."""
    is_list = named.repeated == "list"

    def member(form: Form) -> Shape:
        [shape] = _values([declared.value], level.node, [form])
        return array(shape) if is_list else shape

    [plain] = level.body.writer.forms
    others = member(plain)
    typed = {name: member(writer.forms[0]) for name, writer in named.by_key.items()}
    [key] = named.key.forms
    if key.checked is not any_text:
        return {"type": "object", "additionalProperties": any_of([*typed.values(), others])}
    known = {name.decode(): shape for name, shape in typed.items()}
    properties = {"properties": known} if known else {}
    return {"type": "object", **properties, "additionalProperties": others}


def _inset(inset: Inset, planned: Nested | Trail) -> Shape:
    declared, nodes = inset.declared, inset.nodes
    if isinstance(declared, Path):
        assert isinstance(planned, Trail)
        form = planned.steps[0][1].forms[0]
        [shape] = _values([declared.value], nodes[0], [form])
        return array(shape, declared.depth)
    assert isinstance(planned, Nested)
    kinds: list[One | Kind] = [*declared.of.values()] if isinstance(declared, OneOf) else [declared]
    objects = zip(kinds, nodes, planned.objects, strict=True)
    return or_null(any_of(_object(kind.fields, node, body) for kind, node, body in objects))
