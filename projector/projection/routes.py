"""From a changed row to the documents that it touches, along the same joins, upwards.

Every node of the graph has one route: either the row holds the document's id, or one look-up
leads from the parent's columns to the root. Pure: look-ups are written here and made in `fetch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from projector.projection.descent import Descent, from_root
from projector.projection.dialect import Dialect, Likeness, Write, keys_mark, with_keys
from projector.projection.keys import KeyCodec, among
from projector.projection.nodes import Node, all_nodes, determines_id


@dataclass(frozen=True)  # no slots: for the cached property
class LookUp:
    """A query for the ids of documents in which a row of `start` with certain values stands.

    `name` is stable between releases, so that a look-up put off can be made by a successor.
    `likenesses`: one for each column, for each kind of row that the values may come from.
    """

    name: str
    start: Node
    columns: tuple[str, ...]
    sql: str
    column_names: tuple[str, ...]
    id_names: tuple[str, ...]
    codec: KeyCodec
    dialect: Dialect
    likenesses: tuple[tuple[Likeness, ...], ...] = ()

    def query(self, values: Iterable[Sequence[Any]], after: Sequence[Any], limit: int) -> str:
        """Write the query for the first `limit` ids beyond `after` (empty: from the start)."""
        predicate = f"{self._sought(values)} AND {self.codec.beyond(self.id_names, after)}"
        return f"{with_keys(self.sql, predicate)} LIMIT {limit}"

    @property
    def is_known(self) -> bool:
        """Whether there is a way to find what the join finds."""
        return all(x.is_known for alike in self.likenesses for x in alike)

    @cached_property
    def _writers(self) -> list[Write] | None:
        """How literals are written that find all that the join finds; None where some do not."""
        if not self.likenesses:
            return [self.dialect.literal] * len(self.columns)
        if len(self.likenesses) != 1 or not all(x.is_plain for x in self.likenesses[0]):
            return None
        return [x.write for x in self.likenesses[0]]

    def _sought(self, values: Iterable[Sequence[Any]]) -> str:
        if self._writers is not None:
            return among(self.column_names, values, self._writers)
        rows = list(values)
        found = []
        for likenesses in self.likenesses:
            own = [r for r in rows if all(x.suits(v) for x, v in zip(likenesses, r, strict=True))]
            found.append(self.dialect.sought(self.column_names, own, likenesses))
        return f"({' OR '.join(found)})"


@dataclass(frozen=True, slots=True)
class Route:
    """How rows of `node` lead to documents.

    `columns` of the changed row are needed. Without `look_up` they are the document's id. Where an
    image in the log lacks them, `by_key` finds the documents by the row's own primary key.
    """

    node: Node
    columns: tuple[str, ...]
    look_up: LookUp | None
    by_key: LookUp | None

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The primary key that `by_key` wants."""
        return tuple(c.name for c in self.node.key)


def routes(root: Node, codec: KeyCodec, dialect: Dialect) -> list[Route]:
    """Derive the route of each node. Look-ups of one name are one look-up."""
    named: dict[str, LookUp] = {}
    return [_route(node, root, named, codec, dialect) for node in all_nodes(root)]


def _route(
    node: Node, root: Node, named: dict[str, LookUp], codec: KeyCodec, dialect: Dialect
) -> Route:
    if node.parent is None:
        return Route(node, tuple(c.name for c in root.key), None, None)
    by_key = _look_up(node, node.key, root, named, codec, dialect) if node.key else None
    own_by_parent = {other.key: own for own, other in node.pairs}
    others = [other for _, other in node.pairs]
    if node.parent is root and determines_id(node.pairs, root):
        columns = tuple(own_by_parent[c.key].name for c in root.key)
        return Route(node, columns, None, by_key)
    columns = tuple(own.name for own, _ in node.pairs)
    look_up = _look_up(node.parent, others, root, named, codec, dialect)
    return Route(node, columns, look_up, by_key)


def ids_statement(start: Node, root: Node) -> tuple[sa.Select[Any], list[Any]]:
    """Write the query for the ids of documents in which chosen rows of `start` stand, in order;
    give it with the columns of the ids."""
    descent = Descent(root.source, list(root.key)) if start is root else from_root(start)
    key = descent.keys
    statement = sa.select(*key).distinct().select_from(descent.source)
    statement = statement.where(keys_mark(), *descent.conditions).order_by(*key)
    if any(column.table is not root.source for column in key):  # read from a row that may hang free
        statement = statement.where(*(column.is_not(None) for column in key))
    return statement, key


def _look_up(
    start: Node,
    columns: Sequence[sa.Column[Any]],
    root: Node,
    named: dict[str, LookUp],
    codec: KeyCodec,
    dialect: Dialect,
) -> LookUp:
    statement, key = ids_statement(start, root)
    names = tuple(c.name for c in columns)
    steps = [node.source.description for node in start.path()]
    look_up = LookUp(
        name="/".join([*reversed(steps), "+".join(names)]),
        start=start,
        columns=names,
        sql=dialect.compile(statement),
        column_names=tuple(map(dialect.spell, columns)),
        id_names=tuple(map(dialect.spell, key)),
        codec=codec,
        dialect=dialect,
    )
    return _named(look_up, named)


def _named(look_up: LookUp, named: dict[str, LookUp]) -> LookUp:
    """Number look-ups of one name apart: a table may belong to another in several ways, and tables
    of several databases may have the same name."""
    candidate, number = look_up, 1
    while True:
        known = named.setdefault(candidate.name, candidate)
        if (known.sql, known.column_names) == (look_up.sql, look_up.column_names):
            return known
        number += 1
        candidate = replace(look_up, name=f"{look_up.name}#{number}")
