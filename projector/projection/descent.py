"""The way from the root down to a table: what a query of its rows joins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from projector.projection.nodes import Node, determines_id, joined_for, nodes_read, on_alias
from projector.projection.values import Expression


def joined_to_one(root: Node) -> sa.FromClause:
    """Join to the root what documents show of it."""
    source: sa.FromClause = root.source
    for node in root.to_one:
        source = sa.outerjoin(source, node.source, chosen(node))
    return source


def chosen(node: Node) -> Expression | None:
    """Return the condition by which documents join a node: where several rows match, the first of
    them is sought by its key."""
    if not node.pick:
        return node.on
    other = node.table.alias(f"{node.source.description} pick")

    def over(expression: Expression) -> Expression:
        return on_alias(expression, node.source, other)

    assert node.on is not None
    order = [*map(over, node.pick), *map(over, node.key)]
    first = [
        sa.select(over(column)).select_from(other).where(over(node.on)).order_by(*order).limit(1)
        .correlate_except(other).scalar_subquery()
        for column in node.key
    ]  # fmt: skip
    return sa.and_(*(own == found for own, found in zip(node.key, first, strict=True)))


@dataclass(frozen=True, slots=True)
class Descent:
    """The way from the root down to a node: what to select from, the root's key as read there, and
    the conditions that no join in `source` says."""

    source: sa.FromClause
    keys: list[Expression]
    conditions: Sequence[Expression] = ()


def from_root(node: Node, read: Collection[Node] = (), *, picks: bool = False) -> Descent:
    """Join the path from the root down to `node`, and `read` too. The root itself is left out where
    the topmost edge already holds its key; what else its condition says stays. `picks`: of several
    rows that match, only those are meant that documents show."""
    path = list(node.path())[::-1]
    root, top = path[0], path[1]
    own_by_parent = {other.key: own for own, other in top.pairs}
    joined = joined_for(node, read)
    bare = (
        (top.declared is not None or top.is_through)
        and determines_id(top.pairs, root)
        and root not in read
        and not any(other.parent is root for other in joined if other is not top)
        and not any(root in nodes_read(other, other.conditions) for other in joined)
    )
    first, *following = joined[1:] if bare else joined
    source = first.source
    for other in following:
        on = chosen(other) if picks else other.on
        source = sa.join(source, other.source, on, isouter=other not in path)
    if not bare:
        return Descent(source, list(root.key))
    return Descent(source, [own_by_parent[c.key] for c in root.key], top.conditions)
