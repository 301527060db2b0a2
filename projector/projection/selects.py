"""The queries that read documents, and how their rows become JSON.

One query for the root with all its to-one joins, one for each collection or aggregate, at any
depth: a constant number, whatever the number of documents. All are keyed by the root's ids alone,
so that they can be sent together. Pure: nothing here talks to a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import functions

from projector.errors import ConfigurationError
from projector.projection.declaration import (
    Aggregate,
    First,
    Kind,
    Many,
    One,
    Pairs,
    Path,
    Projection,
)
from projector.projection.descent import from_root, joined_to_one
from projector.projection.dialect import Dialect, Statement, keys_mark
from projector.projection.encoding import Form, Promise, RowWriter, name_of, text
from projector.projection.expressions import is_figure
from projector.projection.figures import form_for_figure
from projector.projection.forms import form_by_key, form_for
from projector.projection.levels import Level, Named, Nested, Object, Trail, key_reader
from projector.projection.nodes import Inset, Listed, Node, nodes_read, on_alias
from projector.projection.values import (
    WRAPPERS,
    Expression,
    Field,
    Fixed,
    Hashed,
    Manner,
    Partial,
    binary,
    expression_of,
    text_of,
)

_NULL_OVER_NOTHING = {"sum", "min", "max", "avg", "group_concat"}


@dataclass(frozen=True, slots=True)
class _Style:
    """What holds for all levels of a projection. `width`: of the root's key."""

    manner: Manner
    dialect: Dialect
    width: int


def levels(
    projection: Projection, root: Node, dialect: Dialect, more: Sequence[Expression] = ()
) -> Level:
    """Plan all queries of a projection; that of the root reads `more` behind its own columns."""
    fields, width, manner = list(projection.fields), len(root.key), projection.manner
    style = _Style(manner, dialect, width)
    if not fields:
        raise ConfigurationError(
            f"{projection.name} has no fields", "Name the root's key at least."
        )
    columns = [*root.key, *map(expression_of, fields)]
    writer = RowWriter(
        tuple(map(name_of, fields)), tuple(form_for(f, manner) for f in fields), width
    )
    body = _object(root, writer, columns, style)
    asked = sa.select(*_labelled([*columns, *more]))
    statement = asked.select_from(joined_to_one(root)).where(keys_mark())
    if projection.where is not None:
        statement = statement.where(projection.where)
    _refuse_double(projection.name, names_within(root, fields))
    key = key_reader(0, width)
    return Level(
        node=root, sql=dialect.compile_down(statement),
        key_names=tuple(map(dialect.spell, root.key)),
        key_width=width, width=len(columns), parent=key, own=key, body=body,
        before=b"", after=b"", empty=b"", nothing=None, is_object=True, parent_width=width,
        signature=_signature(root, fields, manner),
    )  # fmt: skip


def _object(place: Node, writer: RowWriter, columns: list[Expression], style: _Style) -> Object:
    """Plan what stands in the object of a node; append what its insets read to `columns`."""
    insets = tuple(_inset(inset, columns, style, writer.path) for inset in place.insets)
    base = place.many_parent
    hanging = [c for node in base.scope for c in node.children if c.place is place]
    within = writer.path if place is not base else ""
    levels = tuple(_level(child, style, within) for child in hanging)
    return Object(writer, insets, levels)


def _inset(inset: Inset, columns: list[Expression], style: _Style, path: str) -> Nested | Trail:
    declared = inset.declared
    label = b",%b:" % text(declared.name.encode())
    inner = ".".join(filter(None, (path, declared.name)))
    if isinstance(declared, Path):
        return _trail(
            declared, inset.nodes, columns, label, form_for(declared.value, style.manner), inner
        )
    kinds: Sequence[One | Kind] = (
        [declared] if isinstance(declared, One) else [*declared.of.values()]
    )
    names = {tuple(sorted(map(name_of, kind.fields))) for kind in kinds}
    if len(names) != 1:
        raise ConfigurationError(
            f"{declared.name}: the kinds fill different fields: {sorted(names)}",
            'Give each the same ones: sa.null().label("email") where a table has none.',
        )
    marks, objects = [], []
    for kind, node in zip(kinds, inset.nodes, strict=True):
        mark: Expression = node.pairs[0][0]
        if kind.where is not None:
            mark = sa.case((kind.where, mark))
        marks.append(len(columns))
        columns += [mark, *map(expression_of, kind.fields)]
        writer = RowWriter(
            tuple(map(name_of, kind.fields)),
            tuple(form_for(f, style.manner) for f in kind.fields),
            marks[-1] + 1, inner,
        )  # fmt: skip
        objects.append(_object(node, writer, columns, style))
        _refuse_double(declared.name, names_within(node, kind.fields))
    return Nested(label, tuple(marks), tuple(objects))


def _trail(
    declared: Path, nodes: Sequence[Node], columns: list[Expression], label: bytes, form: Form,
    path: str,
) -> Trail:  # fmt: skip
    steps, first = [], nodes[0]
    own, value = first.pairs[0][0], expression_of(declared.value)
    for node in nodes:
        place = len(columns)
        columns += [on_alias(e, first.source, node.source) for e in (own, value)]
        steps.append((place, RowWriter(("",), (form,), place + 1, path, is_plain=True)))
    return Trail(label, tuple(steps))


def names_within(place: Node, fields: Sequence[Field]) -> list[str]:
    """Return the names of the fields of an object, in order."""
    hanging = [c for node in place.many_parent.scope for c in node.children if c.place is place]
    names = [name_of(f) for f in fields] + [n for c in hanging for n in _names(c)]
    return names + [inset.declared.name for inset in place.insets]


def _names(node: Node) -> list[str]:
    declared = node.declared
    if isinstance(declared, Aggregate):
        return [name_of(f) for f in declared.fields]
    return [declared.name] if declared is not None else []


def _refuse_double(name: str, names: Sequence[str]) -> None:
    double = {n for n in names if names.count(n) > 1}
    if double or "" in names:
        raise ConfigurationError(
            f"{name}: fields without a name or with the same name: {sorted(double)}",
            'Give each its own: column.label("owner_name").',
        )


def _signature(place: Node, fields: Sequence[Field], manner: Manner) -> str:
    """Spell names, types and masks: what the SQL does not show. A mask's key is named only."""
    said = [*map(_spelled_field, fields)]
    if manner != Manner():
        said.append(repr(manner))
    for inset in place.insets:
        declared = inset.declared
        if isinstance(declared, Path):
            said.append(f"{declared.name} [{_spelled_field(declared.value)}]")
            continue
        kinds: list[One | Kind] = (
            [declared] if isinstance(declared, One) else [*declared.of.values()]
        )
        for node, kind in zip(inset.nodes, kinds, strict=True):
            said.append(f"{declared.name} {{{_signature(node, kind.fields, Manner())}}}")
    return "\n".join(said)


def _spelled_field(declared: Field) -> str:
    if isinstance(declared, Fixed | Hashed | Partial):
        mask = repr(declared).replace(repr(declared.column), "")
        return f"{name_of(declared)} {mask}"
    if isinstance(declared, WRAPPERS):
        turned = repr(declared).replace(repr(declared.column), repr(declared.column.type))
        return f"{name_of(declared)} {turned}"
    return f"{name_of(declared)} {declared.type!r}"


def _listed_signature(declared: Listed, within: str) -> str:
    """Spell what each row becomes, and in which object of its row the collection stands."""
    said = f"\nwithin {within}" if within else ""
    if isinstance(declared, Pairs):
        types = sorted((str(key), repr(kind)) for key, kind in declared.types.items())
        said += f"\n{declared.repeated} {types}"
    elif not isinstance(declared, Aggregate) and declared.value is not None:
        said += "\nplain values"
    return said


def _labelled(columns: Sequence[Expression]) -> list[Expression]:
    return [column.label(f"c{index}") for index, column in enumerate(columns)]


def _level(node: Node, style: _Style, within: str) -> Level:
    declared, manner, dialect = node.declared, style.manner, style.dialect
    assert declared is not None
    assert node.parent is not None
    fields = _fields(declared)
    conditions = [
        (above, above.declared.where)
        for above in node.path()
        if above.declared is not None and above.declared.where is not None
    ]
    read = nodes_read(node, [*map(expression_of, fields), *getattr(declared, "order_by", ())])
    for above, condition in conditions:
        read |= nodes_read(above, [condition])
    descent = from_root(node, read | set(node.to_one), picks=True)
    # All keys on the way, not the nearest: a row may belong to several rows of one document.
    enclosing = [above for above in node.parent.path() if above.declared is not None]
    keys = [*descent.keys, *(column for above in reversed(enclosing) for column in above.row_key)]
    own_key = list(node.row_key) if any(other.children for other in node.scope) else []
    first = len(keys) + len(own_key)
    columns = [*keys, *own_key, *_asked(declared, node, dialect)]
    body = _object(node, _writer(declared, node, first, manner), columns, style)
    statement = sa.select(*_labelled(columns)).select_from(descent.source).where(keys_mark())
    statement = statement.where(*descent.conditions, *(condition for _, condition in conditions))
    arranged: Statement = _arranged(statement, declared, node, keys, len(columns))
    if isinstance(declared, Aggregate) and not all(map(_is_known_over_nothing, fields)):
        arranged = sa.union_all(
            arranged, _over_nothing(descent.source, keys, columns[first:], dialect)
        )
    if isinstance(declared, Many | First) and declared.value is None:  # plain values need no name
        _refuse_double(declared.name, names_within(node, fields))
    before, after, empty = _brackets(declared)
    return Level(
        node=node, sql=dialect.compile_down(arranged),
        key_names=tuple(dialect.spell(c) for c in descent.keys), key_width=style.width,  # type: ignore[arg-type]
        width=len(columns),
        parent=key_reader(0, len(keys)), own=key_reader(0, first), body=body,
        before=before, after=after, empty=empty,
        nothing=key_reader(0, len(keys))((None,) * len(keys)),
        is_object=isinstance(declared, Many | First) and declared.value is None,
        parent_width=len(keys),
        signature=_signature(node, fields, manner) + _listed_signature(declared, within),
        named=_named(declared, first, body.writer.path, manner),
    )  # fmt: skip


def _writer(declared: Listed, node: Node, first: int, manner: Manner) -> RowWriter:
    path = _path_of(node)
    if isinstance(declared, Pairs):
        form = form_for(declared.value, manner)
        return RowWriter(("",), (form,), first + 1, path, is_plain=True)
    choose = form_for_figure if isinstance(declared, Aggregate) else form_for
    fields = _fields(declared)
    forms = tuple(choose(f, manner) for f in fields)
    plain = isinstance(declared, Many | First) and declared.value is not None
    return RowWriter(tuple(map(name_of, fields)), forms, first, path, plain)


def _named(declared: Listed, key: int, path: str, manner: Manner) -> Named | None:
    if not isinstance(declared, Pairs):
        return None
    names = RowWriter(("",), (form_for(declared.key, manner),), key, f"{path} (name)", True)
    forms = {name: form_by_key(said, manner) for name, said in declared.types.items()}
    by_key = {
        text_of(name).encode(): RowWriter(("",), (form,), key + 1, f"{path}.{name}", is_plain=True)
        for name, form in forms.items()
    }
    is_counted = is_figure(expression_of(declared.value))
    return Named(names, by_key, "last" if is_counted else declared.repeated, is_counted)


def _asked(declared: Listed, node: Node, dialect: Dialect) -> list[Expression]:
    fields = list(map(expression_of, _fields(declared)))
    if isinstance(declared, Aggregate) or (isinstance(declared, Pairs) and is_figure(fields[1])):
        return [dialect.settled(field, node.key) for field in fields]
    return fields


def _path_of(node: Node) -> str:
    """Spell where the rows of a collection stand in the document; an aggregate's stand beside."""
    names = [n.declared.name for n in node.path() if isinstance(n.declared, Many | First | Pairs)]
    return ".".join(reversed(names))


def _fields(declared: Listed) -> list[Field]:
    if isinstance(declared, Aggregate):
        return list(declared.fields)
    if isinstance(declared, Pairs):
        return [declared.key, declared.value]
    if (declared.value is None) == (not declared.fields):
        raise ConfigurationError(
            f"{declared.name} needs either fields or a value", "Give one of the two."
        )
    if declared.value is not None and declared.collections:
        raise ConfigurationError(
            f"{declared.name} has a value and nested collections", "Give fields instead."
        )
    return [declared.value] if declared.value is not None else list(declared.fields)


def _brackets(declared: Listed) -> tuple[bytes, bytes, bytes]:
    """Return what stands before rows, behind them, and in place of none."""
    if isinstance(declared, Aggregate):
        nothing = [
            text(name_of(f).encode())
            + (b":0" if isinstance(_bare(expression_of(f)), functions.count) else b":null")
            for f in declared.fields
        ]
        return b",", b"", b"," + b",".join(nothing)
    label = b",%b:" % text(declared.name.encode())
    match declared:
        case First():
            return label, b"", label + b"null"
        case Pairs():
            return label + b"{", b"}", label + b"{}"
        case _:
            return label + b"[", b"]", label + b"[]"


def _is_known_over_nothing(declared: Field) -> bool:
    """Whether `_brackets` says what a figure over no rows is: NULL, and null in every form; or a
    count, if its 0 is written as it is."""
    function = _bare(expression_of(declared))
    if isinstance(function, functions.count):
        return form_for(declared).encoder(Promise.WHOLE) is None
    return (
        isinstance(function, functions.FunctionElement)
        and getattr(function, "name", "") in _NULL_OVER_NOTHING
    )


def _over_nothing(
    source: sa.FromClause,
    keys: Sequence[Expression],
    fields: Sequence[Expression],
    dialect: Dialect,
) -> Statement:
    """Ask for the one row that figures over no rows give. Its keys are NULL, of the keys' types."""
    columns = [*map(dialect.null_like, keys), *fields]
    return sa.select(*_labelled(columns)).select_from(source).where(sa.false())


def _bare(expression: Expression) -> Expression:
    return expression.element if isinstance(expression, sa.Label) else expression


def _arranged(
    statement: sa.Select[Any],
    declared: Listed,
    node: Node,
    keys: Sequence[Expression],
    width: int,
) -> sa.Select[Any]:
    """Group, or order and limit. Ties in the order are broken by the primary keys."""
    if isinstance(declared, Aggregate):
        return statement.group_by(*keys)
    if isinstance(declared, Pairs):
        name = _bare(expression_of(declared.key))
        statement = statement.where(name.is_not(None))
        if is_figure(expression_of(declared.value)):  # names that a collation calls equal differ
            return statement.group_by(*keys, name, binary(name))
    chosen = list(declared.order_by)
    ties = [c for c in node.row_key if not any(c is other for other in chosen)]
    order = [*chosen, *(c for c in ties if not any(c is key for key in keys))]
    limit = 1 if isinstance(declared, First) else getattr(declared, "limit", None)
    if limit is None:
        return statement.order_by(*keys, *order)
    rank = sa.func.row_number().over(partition_by=list(keys), order_by=order).label("n")
    ranked = statement.add_columns(rank).subquery("ranked")
    return (
        sa.select(*list(ranked.c)[:width])
        .where(ranked.c.n <= limit)
        .order_by(*list(ranked.c)[: len(keys)], ranked.c.n)
    )
