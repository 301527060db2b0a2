"""Nodes and edges: every table that a projection reads, and how it belongs to the one above it.

An edge is a set of equal columns between a node and its parent. Never guesses: a declaration that
cannot be understood raises ConfigurationError naming the table and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from sqlalchemy import Alias, BinaryExpression, Column, ColumnElement, FromClause, Table, and_
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BindParameter,
    BooleanClauseList,
    ClauseElement,
    False_,
    True_,
    _anonymous_label,
)

from projector.errors import ConfigurationError
from projector.projection.declaration import (
    Aggregate,
    Collection,
    First,
    Join,
    Kind,
    Many,
    One,
    OneOf,
    Pairs,
    Path,
    Projection,
)
from projector.projection.expressions import (
    is_figure,
    require_figures,
    require_plain,
    require_visible,
)
from projector.projection.nodes import Inset, Listed, Node, Pair, columns_in, on_alias
from projector.projection.values import Choice, Expression, Field, expression_of


def build(projection: Projection) -> Node:
    """Understand a declaration; give its root. Raises ConfigurationError."""
    root = Node(projection.root, _table(projection.root))
    if not root.key:
        raise ConfigurationError(
            f"{projection.name}: {root.table.name} has no primary key",
            "Declare primary_key=True on the columns that identify a document.",
        )
    _grow(root, root, projection.joins, projection.collections)
    expressions = [*map(expression_of, projection.fields), projection.where]
    require_plain(projection.name, expressions)
    _note_reads(root, [*expressions, *root.key, *_of_views(projection, root)])
    return root


def _of_views(projection: Projection, root: Node) -> Iterator[Expression]:
    """Yield what views read of the root and of what is joined to it."""
    known = [node.source for node in root.scope]
    for view in projection.views:
        for declared in (*view.keys, view.newest, view.where):
            expression = None if declared is None else expression_of(declared)
            if not isinstance(expression, ColumnElement):  # refused with a reason, later
                continue
            tables = [column.table for column in columns_in([expression])]
            if all(any(table is source for source in known) for table in tables):
                yield expression


def _table(source: FromClause) -> Table:
    table = source.element if isinstance(source, Alias) else source
    if not isinstance(table, Table):
        raise ConfigurationError(
            f"{source} is not a table or an alias of one", "Join tables, not subqueries."
        )
    if isinstance(source, Alias) and isinstance(source.name, _anonymous_label):  # numbered later
        raise ConfigurationError(
            f"an alias of {table.name} has no name", f'Give it one: {table.name}.alias("owner").'
        )
    return table


def _grow(
    base: Node, place: Node, joins: Sequence[Join], collections: Sequence[Collection]
) -> None:
    """Attach what is declared within the object of `place`, which is `base` or joined to it."""
    for join in joins:
        _join(base, join.table, join.on, join.pick)
    for declared in collections:
        match declared:
            case Many() | First() | Pairs() | Aggregate():
                _collect(base, place, declared)
            case One():
                _inset_one(base, place, declared)
            case OneOf():
                _inset_one_of(base, place, declared)
            case Path():
                _inset_path(base, place, declared)
            case _:
                raise ConfigurationError(
                    f"a {type(declared).__name__} stands in the collections",
                    "Write columns and masks into fields=[…], joins into joins=[…].",
                )


def _join(
    base: Node, table: FromClause, on: Expression, pick: Expression | Sequence[Expression] = ()
) -> Node:
    """Join a table to-one."""
    node = _attach(table, on, base.scope)
    if any(node.source is other.source for other in base.scope):
        raise ConfigurationError(
            f"{node.table.name} is joined twice", 'Join an alias: users.alias("assignee").'
        )
    node.pick = _ordered(pick)
    node.base = base
    base.to_one.append(node)
    _note_reads(base, [on])
    if node.pick:
        if not node.key:
            raise ConfigurationError(
                f"{node.table.name} has no primary key to tell apart the rows that pick chooses of",
                "Declare primary_key=True on the columns that identify its rows.",
            )
        require_plain(node.source.description, node.pick)
        own = Node(node.source, node.table)
        _note_reads(own, [*node.pick, *node.key])
        node.read |= own.read
    return node


def _ordered(pick: Expression | Sequence[Expression]) -> tuple[Expression, ...]:
    return (pick,) if isinstance(pick, ColumnElement) else tuple(pick)


def _collect(base: Node, place: Node, declared: Listed) -> None:
    through: list[Node] = []
    for hop in declared.through:
        through.append(_attach(hop.table, hop.on, [*base.scope, *through]))
        if _ordered(hop.pick):
            raise ConfigurationError(
                f"{hop.table.description} is on the way to many rows, and pick chooses one",
                "Leave pick out, or write the join into joins=[…].",
            )
    node = _attach(declared.table, declared.on, [*base.scope, *through])
    node.declared, node.place, node.around, node.through = declared, place, base, through
    _require_order(declared, node)
    for hop_node in through:
        if hop_node not in node.path():
            raise ConfigurationError(
                f"{hop_node.source.description} is not on the way to {node.source.description}",
                "Name in through=[…] the tables by which the list is reached, and no others; what"
                " has one row for each stands in joins=[…].",
            )
    for hop_node in through:
        hop_node.base = node
        _note_reads(node, [hop_node.on], base.scope)
    above = (through or [node])[0].parent
    assert above is not None
    if base.declared is not None and base not in above.path():
        raise ConfigurationError(
            f"{node.source.description} belongs to {above.source.description}, which is on the way"
            f" to {base.source.description}",
            f"Hang it on {base.source.description}, or declare it beside that list.",
        )
    above.children.append(node)
    nested = declared.collections if isinstance(declared, Many | First) else ()
    if nested and not all(other.key for other in (node, *through)):
        raise ConfigurationError(
            f"{node.table.name} has nested collections but no primary key, or what leads to it",
            "Declare primary_key=True on the columns that identify its rows.",
        )
    _note_reads(node, [declared.on], base.scope)  # before its own joins, which `on` cannot read
    _grow(node, node, declared.joins, nested)
    _note_reads(node, [declared.where, *node.key, *_shown(declared, node)], base.scope)


def _require_order(declared: Listed, node: Node) -> None:
    """Refuse to choose one of several rows that nothing tells apart: chance would."""
    is_chosen = isinstance(declared, First) or getattr(declared, "limit", None) is not None
    if isinstance(declared, Pairs) and not is_figure(expression_of(declared.value)):
        is_chosen = declared.repeated == "last"
    if is_chosen and not node.key:
        raise ConfigurationError(
            f"{node.table.name} has no primary key to tell apart the rows that"
            f" {getattr(declared, 'name', '')} chooses of",
            "Declare primary_key=True on the columns that identify its rows.",
        )


def _inset_one(base: Node, place: Node, declared: One) -> None:
    node = _join(base, declared.table, declared.on)
    place.insets.append(Inset(declared, (node,)))
    _grow(base, node, declared.joins, declared.collections)
    _note_inset(base, declared.name, declared)


def _inset_one_of(base: Node, place: Node, declared: OneOf) -> None:
    nodes = []
    for value, kind in declared.of.items():
        keys = list(kind.table.primary_key)
        if len(keys) != 1:
            raise ConfigurationError(
                f"{declared.name}: what {value!r} refers to has not a primary key of one column",
                'Write OneOf(…, of={"User": Kind(users, fields=[users.c.name])}).',
            )
        on = and_(kind.table.c[keys[0].key] == declared.key, declared.kind == value)
        nodes.append(_join(base, kind.table, on))
        _grow(base, nodes[-1], kind.joins, ())
        _note_inset(base, declared.name, kind)
    place.insets.append(Inset(declared, tuple(nodes)))


def _note_inset(base: Node, name: str, declared: One | Kind) -> None:
    if not declared.fields:
        raise ConfigurationError(f"{name} needs fields", "Name the columns that it shows.")
    shown = [*map(expression_of, declared.fields), declared.where]
    require_plain(name, shown)
    _note_reads(base, shown)


def _inset_path(base: Node, place: Node, declared: Path) -> None:
    """Join the row and, by aliases, those above it."""
    steps = [_join(base, declared.table, declared.on)]
    first = steps[0]
    if len(first.pairs) != 1 or first.conditions:
        raise ConfigurationError(
            f"{declared.name}: the rows of a path are told apart by one column, that of its `on`",
            "Write on=categories.c.id == tickets.c.category_id.",
        )
    own, value = first.pairs[0][0], expression_of(declared.value)
    require_plain(declared.name, [value, declared.parent])
    only = Node(first.source, first.table)
    _note_reads(only, [value, declared.parent, own])
    first.read |= only.read
    parent = declared.parent
    if not isinstance(parent, Column) or parent.table is not first.source or parent is own:
        raise ConfigurationError(
            f"{declared.name}: parent is not the column that refers to the row above",
            f"Name one of {first.source.description}, such as"
            f" {first.source.description}.c.parent_id.",
        )
    for number in range(1, declared.depth):
        alias = first.table.alias(f"{first.source.description} {declared.name} {number}")
        above = on_alias(parent, first.source, steps[-1].source)
        node = _join(base, alias, alias.c[own.key] == above)
        node.read |= first.read
        steps.append(node)
    place.insets.append(Inset(declared, tuple(steps)))


def _shown(declared: Listed, node: Node) -> list[Expression]:
    """Return what a collection shows and orders by, if that is of rows, or else of figures."""
    if isinstance(declared, Aggregate):
        require_plain(node.source.description, [declared.where])
        figures = list(map(expression_of, declared.fields))
        require_figures(node.source.description, figures, [n.source for n in node.scope])
        return figures
    if isinstance(declared, Pairs):
        return _shown_pairs(declared, node)
    values = [declared.value] if declared.value is not None else []
    expressions = [*map(expression_of, [*declared.fields, *values]), *declared.order_by]
    require_plain(declared.name, [*expressions, declared.where])
    return expressions


def _shown_pairs(declared: Pairs, node: Node) -> list[Expression]:
    key, value = expression_of(declared.key), expression_of(declared.value)
    require_plain(declared.name, [key, declared.where, *declared.order_by])
    if is_figure(value):
        if not _keeps_apart(declared.key):
            raise ConfigurationError(
                f"{declared.name}: its key gives several values one name, whose figures nobody adds"
                " up",
                "Give each value of a Choice a name of its own, and no other.",
            )
        require_figures(declared.name, [value], [n.source for n in node.scope])
    else:
        require_plain(declared.name, [value])
    return [key, value, *declared.order_by]


def _keeps_apart(key: Field) -> bool:
    """Whether no two values of a key have one name."""
    if isinstance(key, Choice):
        names = [name for name in key.names.values() if name is not None]
        return key.other is None and len(set(names)) == len(names)
    return isinstance(key, ColumnElement)


def _attach(source: FromClause, on: Expression, candidates: Sequence[Node]) -> Node:
    node = Node(source, _table(source), on=on)
    require_plain(source.description, [on])
    clauses = list(_conjuncts(on))
    pairs: dict[Node, list[Pair]] = {}
    equal: list[ClauseElement] = []
    for clause in clauses:
        for parent, pair in _equalities(clause, source, candidates):
            pairs.setdefault(parent, []).append(pair)
            equal.append(clause)
    if len(pairs) != 1:
        raise _unattached(source, on, candidates, list(pairs))
    [(node.parent, found)] = pairs.items()
    node.pairs = tuple(found)
    others = [clause for clause in clauses if not any(clause is known for known in equal)]
    node.conditions = tuple(cast(Expression, clause) for clause in others)
    node.constants = tuple(column.name for c in others for column in _held(c, source))
    return node


def _unattached(
    source: FromClause, on: Expression, candidates: Sequence[Node], found: Sequence[Node]
) -> ConfigurationError:
    """Return why a table cannot be joined where it stands, and what to write instead."""
    name, known = source.description, [source, *(node.source for node in candidates)]
    absent = [c.table for c in columns_in([on]) if not any(c.table is other for other in known)]
    if absent and not found:
        link, top = absent[0].description, candidates[0].source.description
        return ConfigurationError(
            f"the join of {name} names {link}, which is not joined before it",
            f"Where {link} has one row for each of {top}, join it first. Where it has many, begin"
            f" the list there: Many(…, {link}, on={link}.c.… == {top}.c.…, joins=[Join({name}, …)])"
            f"; and where each of these has many of {name}, nest a Many of {name} in its"
            " collections=[…].",
        )
    named = " and ".join(node.source.description for node in found) or "none"
    return ConfigurationError(
        f"the join of {name} must equate its columns with those of one table named before it, and"
        f" names {named}",
        "Write on=child.c.parent_id == parent.c.id, after the join of the parent.",
    )


def _conjuncts(on: ClauseElement) -> Iterator[ClauseElement]:
    if isinstance(on, BooleanClauseList) and on.operator is operators.and_:
        for clause in on.clauses:
            yield from _conjuncts(clause)
    else:
        yield on


def _equalities(
    clause: ClauseElement, source: FromClause, candidates: Sequence[Node]
) -> Iterator[tuple[Node, Pair]]:
    """Return the parent and the pair of columns that a clause equates, if it does just that."""
    if not (
        isinstance(clause, BinaryExpression)
        and clause.operator is operators.eq
        and isinstance(clause.left, Column)
        and isinstance(clause.right, Column)
    ):
        return
    for own, other in ((clause.left, clause.right), (clause.right, clause.left)):
        if own.table is source and other.table is not source:
            parent = next((node for node in candidates if node.source is other.table), None)
            if parent is not None:
                yield parent, (own, other)


def _held(clause: ClauseElement, source: FromClause) -> Iterator[Column[object]]:
    """Return the own column that a clause equates with a constant."""
    if isinstance(clause, BinaryExpression) and clause.operator is operators.eq:
        for own, other in ((clause.left, clause.right), (clause.right, clause.left)):
            if (
                isinstance(own, Column)
                and own.table is source
                and isinstance(other, BindParameter | True_ | False_)
            ):
                yield own


def _note_reads(
    base: Node, expressions: Sequence[Expression | None], outer: Sequence[Node] = ()
) -> None:
    """Remember which columns of which node are read; refuse those of a table not joined."""
    node_by_source = {node.source: node for node in [*outer, *base.scope]}
    require_visible(base.source.description, expressions, node_by_source)
    for column in columns_in(expressions):
        node = node_by_source.get(column.table)
        if node is None:
            raise ConfigurationError(
                f"{column} is read, but {column.table.description} is not joined there",
                "Add a Join for it. A condition of a list that reads what is joined in it stands in"
                " where=.",
            )
        node.read.add(column.name)
