"""Nodes: every table that a projection reads, in each of its roles, and what is joined to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import Column, FromClause, Integer, Table
from sqlalchemy.sql import visitors

from projector.errors import ConfigurationError
from projector.projection.declaration import Aggregate, First, Many, One, OneOf, Pairs, Path
from projector.projection.values import Expression

Pair = tuple[Column[object], Column[object]]  # own column, parent's column


@dataclass(eq=False, slots=True)
class Node:
    """A table in its role. `pairs` is the edge to `parent`; the root has neither.

    `on` is the whole join condition, `conditions` what it says beside the equal columns, and
    `constants` the own columns that it holds to one value. `pick`: of the rows that it holds for,
    documents show the first in this order. `declared` is the Many, Aggregate … that the node
    begins, None for the root and for joins; `base` is the root or collection with whose rows a
    joined node is read, `around` that in which a collection is declared. `to_one` are the nodes
    joined to it and to those, `through` those on the way to it that may be many, `children` the
    collections that belong to it. `place` is the node in whose object a collection stands, `insets`
    what stands in this one's object and is read with its row.
    """

    source: FromClause
    table: Table
    parent: Node | None = None
    pairs: tuple[Pair, ...] = ()
    on: Expression | None = None
    conditions: tuple[Expression, ...] = ()
    constants: tuple[str, ...] = ()
    pick: tuple[Expression, ...] = ()
    declared: Listed | None = None
    base: Node | None = None
    around: Node | None = None
    to_one: list[Node] = field(default_factory=list)
    through: list[Node] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    place: Node | None = None
    insets: list[Inset] = field(default_factory=list)
    read: set[str] = field(default_factory=set)

    @property
    def key(self) -> tuple[Column[object], ...]:
        """The primary key columns, of this role."""
        return tuple(cast(Column[object], self.source.c[c.key]) for c in self.table.primary_key)

    @property
    def row_key(self) -> tuple[Column[object], ...]:
        """The columns that tell rows of a list apart: a row may be reached by several ways."""
        return tuple(column for node in (self, *self.through) for column in node.key)

    @property
    def scope(self) -> list[Node]:
        """The node and all that is joined to it to-one: one row of it gives one row of each; and
        the rows by which it was reached."""
        return [self, *self.to_one, *self.through]

    @property
    def many_parent(self) -> Node:
        """The root or collection that this node's rows are part of."""
        return self.base or self

    @property
    def is_through(self) -> bool:
        """Whether it may have many rows without being shown itself."""
        return self.base is not None and self in self.base.through

    def path(self) -> Iterator[Node]:
        """Yield the node, its parent and so on up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


@dataclass(frozen=True, slots=True)
class Inset:
    """An object or array that is read with the row that it stands in: `nodes` are the tables joined
    for it, of a OneOf one a kind, of a Path the row and those above it."""

    declared: One | OneOf | Path
    nodes: tuple[Node, ...]


Listed = Many | First | Pairs | Aggregate


def all_nodes(root: Node) -> list[Node]:
    """Return every node, parents before children."""
    nodes = [*root.through, root, *root.to_one]
    for node in root.scope:
        for child in node.children:
            nodes += all_nodes(child)
    return nodes


def nodes_read(reader: Node, expressions: Iterable[Expression | None]) -> set[Node]:
    """Return the nodes that expressions declared at `reader` name: of its own collection or, where
    that has none of the name, of the one around it."""
    begin = reader.many_parent
    outer = begin.around.scope if begin.around is not None else []
    node_by_source = {node.source: node for node in [*outer, *begin.scope]}
    return {node_by_source[column.table] for column in columns_in(expressions)}


def joined_for(node: Node, read: Iterable[Node]) -> list[Node]:
    """Return the nodes that a query of `node` joins to have `read` too, in an order to join
    them."""
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


def on_alias(expression: Expression, source: FromClause, other: FromClause) -> Expression:
    """Return an expression over one table as one over another role of it."""

    def replaced(element: object, **_: object) -> object:
        if isinstance(element, Column) and element.table is source:
            return other.c[element.key]
        return None

    changed: Expression = visitors.replacement_traverse(expression, {}, replaced)
    return changed


def columns_in(expressions: Iterable[Expression | None]) -> Iterator[Column[object]]:
    """Yield the columns of tables that expressions read."""
    for expression in expressions:
        if expression is not None:
            for element in visitors.iterate(expression):
                if isinstance(element, Column) and element.table is not None:
                    yield element
