"""What index a join wants: one that can be built and can serve, or none and why not. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from projector.model import TableName
from projector.mysql.likeness import turns_into
from projector.projection.columns import BINARIES, NATIVE, NUMBERS, TEXTS, TIMES, ColumnType

_LONGEST_KEY_BYTES = 3072  # of an index, by InnoDB's default row format
_PREFIX = 100  # characters of a text that is too long for an index
_LONGEST_NAME = 64
_UNINDEXED = frozenset({"json", "geometry", "vector"})
_BYTES_OF = {"utf8mb3": 3, "utf8": 3, "ucs2": 2, "latin1": 1, "ascii": 1, None: 1}


@dataclass(frozen=True, slots=True)
class Missing:
    """What a table is sought by without an index that serves. `rows`: the server's estimate;
    `alias`: the role of the table where it stands under another name; `fix`: what to do."""

    table: TableName
    alias: str
    columns: tuple[str, ...]
    rows: int
    is_there: bool  # an index is, and cannot be used
    fix: str

    @property
    def detail(self) -> str:
        """Return what it costs."""
        how = "the index on" if self.is_there else "no index begins with"
        end = " cannot serve" if self.is_there else ""
        columns = " or ".join(self.columns)
        role = f" (as {self.alias})" if self.alias else ""
        return f"{self.table}{role} is read whole (about {self.rows} rows): {how} {columns}{end}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What rows are sought by: columns with the types that they are compared with (none known), and
    columns that are held to constants."""

    compared: Mapping[str, Sequence[ColumnType]]
    constant: Sequence[str] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them, those compared first."""
        return tuple(dict.fromkeys([*self.compared, *self.constant]))

    def is_begun_by(self, index: Sequence[str]) -> bool:
        """Whether an index leads to the rows: by one compared column at least, behind constants."""
        compared = {name.lower() for name in self.compared}
        for column in index:
            if column.lower() in compared:
                return True
            if column.lower() not in {name.lower() for name in self.constant}:
                return False
        return False


def unlike() -> str:
    """Return what to do where the types of a join keep every index from serving."""
    return "Give both sides of the join the same type, character set and collation."


def index(
    table: TableName, wanted: Wanted, types: Mapping[str, ColumnType], taken: Collection[str]
) -> str:
    """Write the statement that makes an index, or say why none would help. `taken`: its names."""
    serving = [
        name
        for name, others in wanted.compared.items()
        if all(serves(types.get(name.lower()), other) for other in others)
    ]
    columns = [*serving, *(name for name in wanted.constant if name not in serving)]
    barred = [n for n in columns if (t := types.get(n.lower())) and t.kind in _UNINDEXED]
    if barred:
        return f"Join by a column that can have an index: {barred[0]} is {types[barred[0]].kind}."
    if not serving:
        return unlike()
    parts = [_part(name, types.get(name.lower()), len(columns)) for name in columns]
    name = _free(f"ix_{table.name}_{'_'.join(columns)}", taken)
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


def _free(name: str, taken: Collection[str]) -> str:
    lowered = {other.lower() for other in taken}
    candidate, number = name[:_LONGEST_NAME], 1
    while candidate.lower() in lowered:
        number += 1
        end = f"_{number}"
        candidate = name[: _LONGEST_NAME - len(end)] + end
    return candidate


def quoted(name: str) -> str:
    """Write an identifier for the server."""
    return f"`{name.replace('`', '``')}`"
