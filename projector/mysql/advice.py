"""What index a join wants: one that can be built and can serve, or none and why not. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from projector.indexes import Wanted, free_name, servable
from projector.model import TableName
from projector.mysql.likeness import turns_into
from projector.projection.columns import BINARIES, NATIVE, NUMBERS, TEXTS, TIMES, ColumnType

_LONGEST_KEY_BYTES = 3072  # of an index, by InnoDB's default row format
_PREFIX = 100  # characters of a text that is too long for an index
_LONGEST_NAME = 64
UNLIKE = "Give both sides of the join the same type, character set and collation."
_UNINDEXED = frozenset({"json", "geometry", "vector"})
_BYTES_OF = {"utf8mb3": 3, "utf8": 3, "ucs2": 2, "latin1": 1, "ascii": 1, None: 1}


def index(
    table: TableName, wanted: Wanted, types: Mapping[str, ColumnType], taken: Collection[str]
) -> str:
    """Write the statement that makes an index, or say why none would help. `taken`: its names."""
    columns, reason = servable(wanted, types, serves, _UNINDEXED, UNLIKE)
    if not columns:
        return reason
    parts = [_part(name, types.get(name.lower()), len(columns)) for name in columns]
    wanted_name = f"ix_{table.name}_{'_'.join(columns)}"
    name = free_name(wanted_name, _LONGEST_NAME, {other.lower() for other in taken})
    return f"CREATE INDEX {quoted(name)} ON {'.'.join(map(quoted, table))} ({', '.join(parts)});"


def serves(own: ColumnType | None, other: ColumnType | None) -> bool:
    """Whether an index of a column of the type `own` leads to what equals one of the other type."""
    if own is None or other is None or not other.kind:
        return True
    if own.kind in NUMBERS:
        return True
    if own.kind in TEXTS:
        return turns_into(other, own)
    if own.kind in BINARIES:
        return other.kind in BINARIES or other.is_text
    if own.kind in TIMES:
        return other.kind in TIMES
    return own.kind == other.kind or own.kind in NATIVE


def _part(name: str, kind: ColumnType | None, count: int) -> str:
    if kind is None:
        return quoted(name)
    length = re.match(r"\w+\((\d+)\)", kind.full)
    is_long = kind.kind.endswith(("text", "blob"))
    if length is not None and kind.kind in {"char", "varchar", "binary", "varbinary"}:
        size = int(length[1]) * _BYTES_OF.get(kind.charset, 4)
        is_long = size > _LONGEST_KEY_BYTES // count
    return f"{quoted(name)}({_PREFIX})" if is_long else quoted(name)


def quoted(name: str) -> str:
    """Write an identifier for the server."""
    return f"`{name.replace('`', '``')}`"
