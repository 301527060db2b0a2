"""From a Relation message to the function that reads its rows, once for each relation.

Layouts: PostgreSQL manual, 55.9 "Logical Replication Message Formats".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

from projector.model import MISSING, Row, TableName, Watch

Raw = Any  # bytes, None for NULL, MISSING for what the message does not hold
ReadTuple = Callable[[bytes, int], tuple[list[Raw], int]]  # values of the wanted columns, and end
Readers = Callable[[int], Callable[[bytes], Any]]  # by a type's OID, what reads its values
Shape = tuple[tuple[str, int, int], ...]  # of columns: name, OID of the type, its modifier

_COLUMN = Struct(">Ii").unpack_from


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the stream describes it. `is_identity`: old images hold it."""

    name: str
    type_oid: int
    modifier: int
    is_identity: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the stream describes it."""

    oid: int
    table: TableName
    columns: tuple[Column, ...]

    @classmethod
    def parse(cls, buf: bytes, at: int) -> Relation:
        """Read what follows the `R`."""
        oid = int.from_bytes(buf[at : at + 4], "big")
        schema, at = _text(buf, at + 4)
        name, at = _text(buf, at)
        at += 1  # which identity it is: columns say whether they belong to it
        count = int.from_bytes(buf[at : at + 2], "big")
        at += 2
        columns = []
        for _ in range(count):
            flags = buf[at]
            column, at = _text(buf, at + 1)
            type_oid, modifier = _COLUMN(buf, at)
            at += 8
            columns.append(Column(column, type_oid, modifier, bool(flags & 1)))
        return cls(oid, TableName(schema, name), tuple(columns))


def _text(buf: bytes, at: int) -> tuple[str, int]:
    end = buf.index(b"\0", at)
    return buf[at:end].decode(), end + 1


@dataclass(frozen=True, slots=True)
class WatchedRelation:
    """A watched table as the stream has it.

    `read_tuple` gives the wanted columns: those of the watch and their bases, `width` of them, then
    what else is read. `identity` has, of each, whether old images hold it. `shape` changes when the
    definition of a wanted column does; `is_whole`: all that is read is there.
    """

    table: TableName
    read_tuple: ReadTuple
    readers: tuple[Callable[[bytes], Any], ...]
    identity: tuple[bool, ...]
    width: int
    shape: Shape
    is_whole: bool

    def row(self, raw: Sequence[Raw]) -> Row:
        """Read the values of the watched columns."""
        return tuple([
            value if value is None or value is MISSING else read(value)
            for read, value in zip(self.readers, raw, strict=False)
        ])  # fmt: skip

    def of_identity(self, raw: Sequence[Raw]) -> list[Raw]:
        """Take the identity's columns alone: others are not known."""
        return [
            value if is_known else MISSING
            for is_known, value in zip(self.identity, raw, strict=False)
        ]


def wanted(watch: Watch) -> list[str]:
    """Return the columns of which rows are read, in the order of `WatchedRelation`."""
    return list(dict.fromkeys([*watch.columns, *watch.bases, *sorted(watch.read)]))


def watched(relation: Relation, watch: Watch, reader_of: Readers) -> WatchedRelation:
    """Return how to read the rows of a watched table. What the stream does not have of it, as
    columns that are generated, is MISSING in each row."""
    place: Mapping[str, int] = {column.name: i for i, column in enumerate(relation.columns)}
    names = [*watch.columns, *watch.bases]
    more = [name for name in wanted(watch) if name not in names]
    places = [place.get(name) for name in [*names, *more]]
    found = [None if i is None else relation.columns[i] for i in places]
    shown = {column.name: column for column in found if column is not None}
    return WatchedRelation(
        watch.table,
        _reader(places, len(relation.columns)),
        tuple(bytes if c is None else reader_of(c.type_oid) for c in found[: len(names)]),
        tuple(c is not None and c.is_identity for c in found[: len(names)]),
        len(names),
        shape_of((name, c.type_oid, c.modifier) for name, c in shown.items()),
        all(name in shown for name in watch.read),
    )


def shape_of(columns: Any) -> Shape:
    """Return what is compared of the definitions of columns."""
    return tuple(sorted(columns))


def _reader(places: Sequence[int | None], count: int) -> ReadTuple:
    """Generate the function that walks a TupleData and keeps the wanted columns."""
    kept = {place for place in places if place is not None}
    lines = ["def read(b, p):", " p += 2"]
    for place in range(count):
        lines += [" k = b[p]", " if k == 116:"]  # t: text
        lines += ["  q = p + 5", "  p = q + int.from_bytes(b[p + 1:q], 'big')"]
        lines += [f"  c{place} = b[q:p]"] if place in kept else []
        lines += [" else:", "  p += 1"]
        if place in kept:  # n, else u: TOAST that has not changed
            lines += [f"  c{place} = None if k == 110 else MISSING"]
    values = ", ".join("MISSING" if place is None else f"c{place}" for place in places)
    lines.append(f" return [{values}], p")
    scope: dict[str, Any] = {"MISSING": MISSING}
    exec("\n".join(lines), scope)
    read: ReadTuple = scope["read"]
    return read
