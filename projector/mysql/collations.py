"""What characters weigh in the collations of views' keys. Asked once a process: it is much, and a
server's collations do not change."""

from __future__ import annotations

from collections.abc import Sequence

from projector.mysql.connection import Connection
from projector.mysql.literals import literal
from projector.projection import Plan
from projector.projection.columns import ColumnType, Types
from projector.projection.folding import Folding, Foldings, characters, folding, is_foldable

_AT_ONCE = 2000

_known: dict[tuple[str, str], Folding] = {}


def foldings_of(plans: Sequence[Plan], types: Types, connection: Connection) -> Foldings:
    """Return the foldings that the views of these projections need."""
    kinds = {
        kind.collation: kind
        for plan in plans
        for kind in plan.fitted(types).view_key_types()
        if kind.collation and is_foldable(kind)
    }
    return {name: _folding(kind, connection) for name, kind in kinds.items()}


def _folding(kind: ColumnType, connection: Connection) -> Folding:
    name = (kind.charset or "", kind.collation or "")
    if name not in _known:
        _known[name] = folding(kind, _weights(kind, connection))
    return _known[name]


def _weights(kind: ColumnType, connection: Connection) -> list[tuple[str, bytes]]:
    """Ask for each character by itself: a select has 4,096 columns at most."""
    every = characters(kind.charset or "")
    form = f"WEIGHT_STRING(CONVERT({{}} USING {kind.charset}) COLLATE {kind.collation})"
    found: list[tuple[str, bytes]] = []
    for first in range(0, len(every), _AT_ONCE):
        some = every[first : first + _AT_ONCE]
        asked = ",".join(form.format(literal(c)) for c in some)
        [[weights]] = connection.query_raw(f"SELECT {asked}")
        found += [(c, bytes(weight or b"")) for c, weight in zip(some, weights, strict=True)]
    return found
