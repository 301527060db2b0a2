"""What index a join wants: one that can be built and can serve, or none and why not. Pure.

An index of a column leads to what equals a value where both are compared as the index sorts: in a
family of types (manual, "Interfacing Extensions to Indexes", operator families), and in its own
collation. Where types differ, the one that converts to the other by itself is converted, and an
index of it does not serve.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from projector.indexes import Wanted, free_name, servable
from projector.model import TableName
from projector.postgres.names import LONGEST, identifier, spelled
from projector.projection.columns import ColumnType

UNLIKE = "Give both sides of the join the same type and collation."
_UNINDEXED = frozenset("json xml point box line lseg path polygon circle".split())
_WHOLE = frozenset({"int2", "int4", "int8"})
_FLOATS = frozenset({"float4", "float8"})
_MOMENTS = frozenset({"date", "timestamp", "timestamptz"})
_TEXTS = frozenset({"text", "varchar", "name"})
_SERVED = {  # by the type of an index: types of values that it leads to, beside its own
    "numeric": _WHOLE,
    **dict.fromkeys(_WHOLE, _WHOLE),
    **dict.fromkeys(_FLOATS, _WHOLE | _FLOATS | {"numeric"}),
    **dict.fromkeys(_MOMENTS, _MOMENTS),
    **dict.fromkeys(_TEXTS, _TEXTS | {"bpchar", "citext"}),
}


def index(
    table: TableName,
    wanted: Wanted,
    types: Mapping[str, ColumnType],
    taken: Collection[str],
    *,
    is_partitioned: bool,
) -> str:
    """Write the statement that makes an index, or say why none would help. `taken`: names that the
    schema has, in lower case."""
    columns, reason = servable(wanted, types, serves, _UNINDEXED, UNLIKE)
    if not columns:
        return reason
    name = free_name(f"ix_{table.name}_{'_'.join(columns)}", LONGEST, set(taken))
    listed = ", ".join(map(identifier, columns))
    if is_partitioned:  # "cannot create index on partitioned table concurrently"
        return (
            f"CREATE INDEX {identifier(name)} ON {spelled(table)} ({listed}); (nobody writes to the"
            " table meanwhile; first CONCURRENTLY on each partition, and it is done at once)"
        )
    return f"CREATE INDEX CONCURRENTLY {identifier(name)} ON {spelled(table)} ({listed});"


def serves(own: ColumnType | None, other: ColumnType | None) -> bool:
    """Whether an index of a column of the type `own` leads to what equals one of the other type."""
    if own is None or other is None or not other.kind:
        return True
    if own.collation != other.collation and other.collation is not None:
        return False  # compared by the collation that was chosen, not by the default
    return own.kind == other.kind or other.kind in _SERVED.get(own.kind, ())
