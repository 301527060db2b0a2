"""Tables that foreign keys link, as far as what the keys do changes documents. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from projector.model import Kind, Row, TableName, Watch
from projector.mysql.foreign_keys import ACTIVE, ForeignKey
from projector.mysql.generated import Generated, bases, with_bases

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """A foreign key with the places of its columns in the rows of both tables.

    `number` tells edges apart. `computed`: places in a row of the child of columns that are
    computed from the key's own; `digests`: of the digests of the key's own columns; `bases`: in a
    row of the parent, of the digests of what its columns are computed from.
    """

    number: int
    key: ForeignKey
    referenced: tuple[int, ...]  # in a row of the parent
    referencing: tuple[int, ...]  # in a row of the child
    computed: tuple[int, ...] = ()
    digests: tuple[int, ...] = ()
    bases: tuple[int, ...] = ()

    def action(self, kind: Kind) -> str:
        """Return what a change of the parent sets off here; empty for nothing."""
        action = {Kind.DELETE: self.key.on_delete, Kind.UPDATE: self.key.on_update}.get(kind, "")
        return action if action in ACTIVE else ""


@dataclass(frozen=True, slots=True)
class Linked:
    """A table that foreign keys lead to or from. `key`: places of its primary key in a row;
    `outward`: keys of others that reference it; `inward`: its own.

    `is_versioned`: its log shows a deleted row as an update that leaves it as it was, and earlier
    states of rows as new ones (MariaDB's system-versioned tables)."""

    watch: Watch
    key: tuple[int, ...]
    outward: tuple[Edge, ...] = field(default=(), hash=False)
    inward: tuple[Edge, ...] = field(default=(), hash=False)
    is_versioned: bool = False

    @property
    def name(self) -> TableName:
        """The table."""
        return self.watch.table

    @property
    def locked_by(self) -> tuple[int, ...]:
        """Places by whose columns a row is found by index, if there are such."""
        return self.key or next((edge.referenced for edge in self.outward), ())

    def key_of(self, row: Row) -> Values:
        """Return a row's primary key; the whole row where it has none."""
        return tuple(row[i] for i in self.key) if self.key else row


def widened(
    watches: Sequence[Watch],
    keys: Sequence[ForeignKey],
    generated: Mapping[TableName, Generated],
) -> list[Watch]:
    """Return the watches, with columns and tables added that foreign keys need, and what all these
    are computed from. What one key needs another may change, which is then needed too."""
    found = {watch.table: watch for watch in watches}
    wanted: list[ForeignKey] | None = None
    while True:
        for table, watch in found.items():
            found[table] = with_bases(watch, generated.get(table, {}))
        known, wanted = wanted, needed(keys, list(found.values()))
        if wanted == known:
            return list(found.values())
        for key in wanted:
            _widen(found, key.parent, key.referenced)
            _widen(found, key.child, (*key.columns, *key.child_key))


def _widen(found: dict[TableName, Watch], table: TableName, columns: Sequence[str]) -> None:
    watch = found.get(table) or Watch(table, (), frozenset(), is_read=False)
    known = {name.lower() for name in watch.columns}
    more = dict.fromkeys(name for name in columns if name not in known)
    found[table] = replace(
        watch, columns=(*watch.columns, *more), read=watch.read | set(columns)
    )  # fmt: skip


def needed(keys: Sequence[ForeignKey], watches: Sequence[Watch]) -> list[ForeignKey]:
    """Leave out keys whose children touch no documents but those that the parent's row touches."""
    by_table = {watch.table: watch for watch in watches}
    wanted = dict.fromkeys(keys)
    while True:
        plain = [
            key
            for key in wanted
            if not any(other.parent == key.child for other in wanted)
            and not _matters(key, by_table.get(key.child))
        ]
        if not plain:
            return list(wanted)
        for key in plain:
            del wanted[key]


def _matters(key: ForeignKey, watch: Watch | None) -> bool:
    """Whether documents depend on what a key does to a child that nothing else references."""
    if watch is None or not watch.is_read:
        return False
    pairs = frozenset(zip(key.columns, key.referenced, strict=True))
    if (key.parent, pairs) in watch.implied:
        return False
    read = {name.lower() for name in watch.read}
    return key.on_delete == "CASCADE" or not read.isdisjoint(key.columns)


def linked(
    watches: Sequence[Watch],
    keys: Sequence[ForeignKey],
    generated: Mapping[TableName, Generated],
    versioned: Collection[TableName] = (),
) -> dict[TableName, Linked]:
    """Return the tables whose changes foreign keys carry on. `watches`: widened for the keys."""
    by_table = {watch.table: watch for watch in watches}
    wanted = needed(keys, watches)
    edges = [_edge(number, key, by_table, generated) for number, key in enumerate(wanted)]
    primary = {key.child: key.child_key for key in wanted}
    tables = dict.fromkeys(table for key in wanted for table in (key.parent, key.child))
    return {
        table: Linked(
            by_table[table],
            _places(by_table[table], primary.get(table, ())),
            tuple(edge for edge in edges if edge.key.parent == table),
            tuple(edge for edge in edges if edge.key.child == table),
            table in versioned,
        )
        for table in tables
    }


def _edge(
    number: int,
    key: ForeignKey,
    watches: Mapping[TableName, Watch],
    generated: Mapping[TableName, Generated],
) -> Edge:
    child, parent = watches[key.child], watches[key.parent]
    of = generated.get(key.child, {})
    computed = [
        i for i, name in enumerate(child.columns) if not bases(of, [name]).isdisjoint(key.columns)
    ]
    return Edge(
        number,
        key,
        _places(parent, key.referenced),
        _places(child, key.columns),
        tuple(computed),
        _digests(child, key.columns),
        _digests(parent, bases(generated.get(key.parent, {}), key.referenced)),
    )


def _digests(watch: Watch, names: Collection[str]) -> tuple[int, ...]:
    """Return where the digests of these columns stand in a row."""
    first = len(watch.columns)
    return tuple(first + i for i, name in enumerate(watch.bases) if name.lower() in names)


def _places(watch: Watch, names: Iterable[str]) -> tuple[int, ...]:
    place = {name.lower(): i for i, name in enumerate(watch.columns)}
    return tuple(place[name] for name in names)
