"""From a table map to the decoder of its rows, once for each different map.

Never decodes by guess: columns are found by the names in the log; where it has none, by the
catalog's ordinals, and only if every column that both know has a type that fits. What the account
may not see keeps its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from projector.model import MISSING, Kind, RowsChange, TableName, Watch
from projector.mysql.binlog.catalog import Catalog
from projector.mysql.binlog.rows import RowsDecoder
from projector.mysql.binlog.tablemap import ColumnInfo, TableMap, agrees

_CACHE_LIMIT: Final = 10_000  # maps; a server with very many tables must not fill the memory


class WatchedTable(NamedTuple):
    """A watched table as the log has it; without a decoder its rows cannot be read for certain."""

    table: TableName
    decoder: RowsDecoder | None
    watch: Watch

    def unread(self) -> RowsChange:
        """Return that rows came of which nobody can tell anything, not even what they refer to."""
        row = (MISSING,) * (len(self.watch.columns) + len(self.watch.bases))
        return RowsChange(self.table, Kind.INSERT, (), (row,), 0)


_NO_TABLE: Final = TableName("", "")
UNSEEN: Final = WatchedTable(_NO_TABLE, None, Watch(_NO_TABLE, (), frozenset()))


@dataclass(frozen=True, slots=True)
class _Found:
    columns: tuple[int, ...]
    bases: tuple[int, ...]
    compared: tuple[int, ...]
    infos: Sequence[ColumnInfo | None]


class Tables:
    """Decoders by table map."""

    def __init__(self, watches: Sequence[Watch], catalog: Catalog, *, folds_names: bool) -> None:
        self._folds = folds_names
        self._watch_by_name = {watch.table.folded(folds_names): watch for watch in watches}
        self._catalog = catalog
        self._known: dict[bytes, WatchedTable | None] = {}
        self.lookup = self._known.get

    def add(self, body: bytes) -> WatchedTable | None:
        """Return what a table map that `lookup` does not know leads to; None: not watched."""
        if len(self._known) >= _CACHE_LIMIT:
            self._known.clear()
        table_map = TableMap.parse(body)
        name = TableName(table_map.schema, table_map.name)
        watch = self._watch_by_name.get(name.folded(self._folds))
        known = None if watch is None else self._watched(watch, table_map)
        self._known[body] = known
        return known

    def knows(self, body: bytes) -> bool:
        """Return whether this very map has been seen."""
        return body in self._known

    def forget(self, table: TableName) -> None:
        """The table's definition has changed."""
        self._catalog.forget(table)
        self._known.clear()

    def _watched(self, watch: Watch, table_map: TableMap) -> WatchedTable:
        found = self._find(watch, table_map)
        if found is None:
            return WatchedTable(watch.table, None, watch)
        try:
            decoder = RowsDecoder(
                table_map, found.columns, found.infos, found.compared, found.bases
            )
        except LookupError:  # a key of a type that cannot be read from the log
            return WatchedTable(watch.table, None, watch)
        return WatchedTable(watch.table, decoder, watch)

    def _find(self, watch: Watch, table_map: TableMap) -> _Found | None:
        names: Sequence[str] = table_map.column_names or ()
        known = self._catalog.columns(watch.table)
        by_name = {info.name.lower(): info for info in known if info is not None}
        infos: Sequence[ColumnInfo | None] = [by_name.get(name.lower()) for name in names]
        if not names:
            # Longer than the catalog: what no account sees stands behind everything else.
            infos = [*known, *[None] * len(table_map.types)][: len(table_map.types)]
            logged = zip(infos, table_map.types, table_map.metadata, strict=True)
            if not all(i is None or agrees(i, code, metadata) for i, code, metadata in logged):
                return None
            names = ["" if info is None else info.name for info in infos]
        ordinals = {name.lower(): i for i, name in enumerate(names) if name}
        try:
            columns = tuple(ordinals[name.lower()] for name in watch.columns)
            bases = tuple(ordinals[name.lower()] for name in watch.bases)
            read = {ordinals[name.lower()] for name in watch.read}
        except KeyError:
            return None
        # Of a system-versioned table's columns the catalog may hide those that end a row.
        ends = {i for i, info in enumerate(infos) if info is None or info.ends_row}
        return _Found(columns, bases, tuple(sorted(read | ends)), infos)
