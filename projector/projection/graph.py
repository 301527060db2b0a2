"""Nodes and edges: every table that a projection reads, and how it hangs on the one above it.

An edge is a set of equal columns between a node and its parent. Never guesses: a declaration that
cannot be understood raises ConfigurationError naming the table and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import Alias, BinaryExpression, Column, FromClause, Integer, Table
from sqlalchemy.sql import operators, visitors
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
    Expression,
    Join,
    Many,
    Projection,
    expression_of,
)
from projector.projection.expressions import require_figures, require_plain, require_visible

Pair = tuple[Column[object], Column[object]]  # own column, parent's column


@dataclass(eq=False, slots=True)
class Node:
    """A table in its role. `pairs` is the edge to `parent`; the root has neither.

    `on` is the whole join condition, `conditions` what it says beside the equal columns, and
    `constants` the own columns that it holds to one value. `declared` is the Many or Aggregate that
    the node begins, None for the root and to-one joins; `to_one` are the nodes joined to it and to
    those.
    """

    source: FromClause
    table: Table
    parent: Node | None = None
    pairs: tuple[Pair, ...] = ()
    on: Expression | None = None
    conditions: tuple[Expression, ...] = ()
    constants: tuple[str, ...] = ()
    declared: Many | Aggregate | None = None
    to_one: list[Node] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    read: set[str] = field(default_factory=set)

    @property
    def key(self) -> tuple[Column[object], ...]:
        """The primary key columns, of this role."""
        return tuple(cast(Column[object], self.source.c[c.key]) for c in self.table.primary_key)

    @property
    def scope(self) -> list[Node]:
        """The node and all that is joined to it to-one: one row of it gives one row of each."""
        return [self, *self.to_one]

    @property
    def many_parent(self) -> Node:
        """The root or collection that this node's rows are part of."""
        node = self
        while node.parent is not None and node.declared is None:
            node = node.parent
        return node

    def path(self) -> Iterator[Node]:
        """Give the node, its parent and so on up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


def build(projection: Projection) -> Node:
    """Understand a declaration; give its root. Raises ConfigurationError."""
    root = Node(projection.root, _table(projection.root))
    if not root.key:
        raise ConfigurationError(
            f"{projection.name}: {root.table.name} has no primary key",
            "Declare primary_key=True on the columns that identify a document.",
        )
    _grow(root, projection.joins, projection.collections)
    expressions = [*map(expression_of, projection.fields), projection.where]
    require_plain(projection.name, expressions)
    _note_reads(root, [*expressions, *root.key])
    return root


def all_nodes(root: Node) -> list[Node]:
    """Give every node, parents before children."""
    nodes = list(root.scope)
    for node in root.scope:
        for child in node.children:
            nodes += all_nodes(child)
    return nodes


def nodes_read(reader: Node, expressions: Iterable[Expression | None]) -> set[Node]:
    """Give the nodes that expressions declared at `reader` name: of its own collection or, where
    that has none of the name, of the one around it."""
    begin = reader.many_parent
    outer = begin.parent.many_parent.scope if begin.parent is not None else []
    node_by_source = {node.source: node for node in [*outer, *begin.scope]}
    return {node_by_source[column.table] for column in _columns(expressions)}


def joined_for(node: Node, read: Iterable[Node]) -> list[Node]:
    """Give the nodes that a query of `node` joins to have `read` too, in an order to join them."""
    found: set[Node] = set()
    pending = [node, *read]
    while pending:
        wanted = pending.pop()
        if wanted not in found:
            found.add(wanted)
            if wanted.parent is not None:
                pending += [wanted.parent, *nodes_read(wanted, [wanted.on])]
    *_, root = node.path()
    ordered = [other for other in all_nodes(root) if other in found]
    sources = [other.source for other in ordered]
    for source in sources:
        if sources.count(source) > 1:
            raise ConfigurationError(
                f"one query needs {source.description} in two roles",
                f'Use an alias for one: {source.description}.alias("other").',
            )
    return ordered


def determines_id(pairs: Sequence[Pair], root: Node) -> bool:
    """Whether the own values of an edge to the root are, as they stand, the id of a document.

    Only whole numbers are, and without zeros before them: texts that the server calls equal
    (`a` = `A`, and `01` = 1) are different ids.
    """
    return [other.key for _, other in pairs] == [c.key for c in root.key] and all(
        isinstance(column.type, Integer) and not getattr(column.type, "zerofill", False)
        for pair in pairs
        for column in pair
    )


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


def _grow(base: Node, joins: Sequence[Join], collections: Sequence[Many | Aggregate]) -> None:
    for join in joins:
        node = _attach(join.table, join.on, base.scope)
        if any(node.source is other.source for other in base.scope):
            raise ConfigurationError(
                f"{node.table.name} is joined twice", 'Join an alias: users.alias("assignee").'
            )
        base.to_one.append(node)
        _note_reads(base, [join.on])
    for declared in collections:
        node = _attach(declared.table, declared.on, base.scope)
        node.declared = declared
        assert node.parent is not None
        node.parent.children.append(node)
        nested = declared.collections if isinstance(declared, Many) else ()
        if nested and not node.key:
            raise ConfigurationError(
                f"{node.table.name} has nested collections but no primary key",
                "Declare primary_key=True on the columns that identify its rows.",
            )
        _note_reads(node, [declared.on], base.scope)  # before its own joins, which `on` cannot read
        _grow(node, declared.joins, nested)
        _note_reads(node, [declared.where, *node.key, *_shown(declared, node)], base.scope)


def _shown(declared: Many | Aggregate, node: Node) -> list[Expression]:
    """Return what a collection shows and orders by, if that is of rows, or else of figures."""
    if isinstance(declared, Aggregate):
        require_plain(node.source.description, [declared.where])
        own = [other.source for other in node.scope]
        require_figures(node.source.description, declared.fields, own)
        return list(declared.fields)
    values = [declared.value] if declared.value is not None else []
    expressions = [*map(expression_of, [*declared.fields, *values]), *declared.order_by]
    require_plain(declared.name, [*expressions, declared.where])
    return expressions


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
    """Say why a table cannot be joined where it stands, and what to write instead."""
    name, known = source.description, [source, *(node.source for node in candidates)]
    absent = [c.table for c in _columns([on]) if not any(c.table is other for other in known)]
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
    for column in _columns(expressions):
        node = node_by_source.get(column.table)
        if node is None:
            raise ConfigurationError(
                f"{column} is read, but {column.table.description} is not joined there",
                "Add a Join for it. A condition of a list that reads what is joined in it stands in"
                " where=.",
            )
        node.read.add(column.name)


def _columns(expressions: Iterable[Expression | None]) -> Iterator[Column[object]]:
    for expression in expressions:
        if expression is not None:
            for element in visitors.iterate(expression):
                if isinstance(element, Column) and element.table is not None:
                    yield element
