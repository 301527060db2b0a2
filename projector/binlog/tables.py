"""From a table map to the decoder of its rows, once for each different map.

Never decodes by guess: columns are found by the names in the log; where it has none, by the
catalog's ordinals, and only if every column that both know has a type that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from projector.binlog.catalog import Catalog
from projector.binlog.rows import RowsDecoder
from projector.binlog.tablemap import ColumnInfo, TableMap, agrees
from projector.model import TableName, Watch

_CACHE_LIMIT: Final = 10_000  # maps; a server with very many tables must not fill the memory


class WatchedTable(NamedTuple):
    """A watched table as the log has it; without a decoder its rows cannot be read for certain."""

    table: TableName
    decoder: RowsDecoder | None


@dataclass(frozen=True, slots=True)
class _Found:
    columns: tuple[int, ...]
    compared: tuple[int, ...]
    infos: Sequence[ColumnInfo | None]


class Tables:
    """Decoders by table map."""

    def __init__(self, watches: Sequence[Watch], catalog: Catalog, *, folds_names: bool) -> None:
        self._folds = folds_names
        self._watch_by_name = {self._key(*watch.table): watch for watch in watches}
        self._catalog = catalog
        self._known: dict[bytes, WatchedTable | None] = {}
        self.lookup = self._known.get

    def add(self, body: bytes) -> WatchedTable | None:
        """Give what a table map that `lookup` does not know leads to; None: not watched."""
        if len(self._known) >= _CACHE_LIMIT:
            self._known.clear()
        table_map = TableMap.parse(body)
        watch = self._watch_by_name.get(self._key(table_map.schema, table_map.name))
        known = None if watch is None else self._watched(watch, table_map)
        self._known[body] = known
        return known

    def knows(self, body: bytes) -> bool:
        """Say whether this very map has been seen."""
        return body in self._known

    def forget(self, table: TableName) -> None:
        """The table's definition has changed."""
        self._catalog.forget(table)
        self._known.clear()

    def _key(self, schema: str, name: str) -> tuple[str, str]:
        return (schema.lower(), name.lower()) if self._folds else (schema, name)

    def _watched(self, watch: Watch, table_map: TableMap) -> WatchedTable:
        found = self._find(watch, table_map)
        if found is None:
            return WatchedTable(watch.table, None)
        try:
            decoder = RowsDecoder(table_map, found.columns, found.infos, found.compared)
        except LookupError:  # a key of a type that cannot be read from the log
            return WatchedTable(watch.table, None)
        return WatchedTable(watch.table, decoder)

    def _find(self, watch: Watch, table_map: TableMap) -> _Found | None:
        names: Sequence[str] = table_map.column_names or ()
        known = self._catalog.columns(watch.table)
        by_name = {info.name.lower(): info for info in known}
        infos: Sequence[ColumnInfo | None] = [by_name.get(name.lower()) for name in names]
        if not names:
            common = list(zip(known, table_map.types, table_map.metadata, strict=False))
            if not all(agrees(info, code, metadata) for info, code, metadata in common):
                return None
            names = [info.name for info, _, _ in common]
            infos = [*known[: len(common)], *[None] * (len(table_map.types) - len(common))]
        ordinals = {name.lower(): i for i, name in enumerate(names)}
        try:
            columns = tuple(ordinals[name.lower()] for name in watch.columns)
            read = {ordinals[name.lower()] for name in watch.read}
        except KeyError:
            return None
        # Of a system-versioned table's columns the catalog may hide those that end a row.
        ends = {i for i, info in enumerate(infos) if info is None or info.ends_row}
        return _Found(columns, tuple(sorted(read | ends)), infos)
