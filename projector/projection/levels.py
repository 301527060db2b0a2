"""A query of a projection, and how its rows become JSON: what `selects` plans, `assembly` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from projector.projection.dialect import with_keys
from projector.projection.encoding import Raw, RowWriter
from projector.projection.keys import KeyCodec
from projector.projection.nodes import Node

Rows = Sequence[Sequence[Raw]]
RowKey = Any  # the raw key value of a row, or the tuple of them


@dataclass(frozen=True, slots=True)
class Object:
    """What stands in one object: fields and insets, which are read with its row, and collections,
    whose rows are read by queries of their own."""

    writer: RowWriter
    insets: tuple[Nested | Trail, ...] = ()
    children: tuple[Level, ...] = ()

    def all(self) -> list[Level]:
        """Return all levels within, in the order of queries."""
        own = [level for child in self.children for level in child.all()]
        nested = [o for inset in self.insets if isinstance(inset, Nested) for o in inset.objects]
        return own + [level for inner in nested for level in inner.all()]


@dataclass(frozen=True, slots=True)
class Nested:
    """An object within the row: the first of `objects` whose mark, a column of the row by its
    number, is not NULL; else null."""

    label: bytes
    marks: tuple[int, ...]
    objects: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Trail:
    """A path within the row: of each step the number of the column that tells its row apart, and
    what writes its value."""

    label: bytes
    steps: tuple[tuple[int, RowWriter], ...]


@dataclass(frozen=True, slots=True)
class Named:
    """How rows of names and values become an object: `key` writes the name of a row, `by_key` what
    has a form of its own, by the name as the server sends it. `is_counted`: each value is a figure
    of all rows of a name."""

    key: RowWriter
    by_key: Mapping[bytes, RowWriter]
    repeated: str
    is_counted: bool


@dataclass(frozen=True, slots=True)
class Level:
    """The rows of the root, a collection or an aggregate: how to ask for and how to write them.

    A row is: the root's key, the enclosing collections' keys, the own key, the fields, the insets
    (slices `parent` and `own` are keys of rows; both begin with the root's key).
    """

    node: Node
    sql: str
    key_names: tuple[str, ...]
    key_width: int
    width: int
    parent: Callable[[Sequence[Raw]], RowKey]
    own: Callable[[Sequence[Raw]], RowKey]
    body: Object
    before: bytes
    after: bytes
    empty: bytes  # without rows, unless one whose keys are all NULL (`nothing`) says otherwise
    nothing: RowKey
    is_object: bool
    parent_width: int  # columns of `parent`
    signature: str
    named: Named | None = None
    encoders: dict[Any, Any] = field(default_factory=dict, compare=False)  # see `assembly`

    def all(self) -> list[Level]:
        """Return this level and those below, in the order of queries."""
        return [self, *self.body.all()]

    def query(self, keys: Sequence[Sequence[Any]], codec: KeyCodec) -> str:
        """Write the query for these keys of the root."""
        return with_keys(self.sql, codec.among(self.key_names, keys))


def key_reader(first: int, end: int) -> Callable[[Sequence[Raw]], RowKey]:
    """Return what reads a key from so many columns of a row."""
    if end - first == 1:
        return lambda row: row[first]
    return lambda row: tuple(row[first:end])
