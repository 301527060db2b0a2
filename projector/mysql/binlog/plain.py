"""Plain transactions, the many: taken out of the log by the compiled core, many at a time.

Plain is a GTID, a BEGIN, maps of tables that are known, rows, and an Xid, also where MySQL has
compressed all but the GTID. Whatever has anything else in it is taken by `transactions`, event by
event. Never knows a table of unreadable rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import zstandard

from projector import compiled
from projector.model import RowsChange
from projector.mysql.binlog import events
from projector.mysql.binlog.events import Event
from projector.mysql.binlog.tables import WatchedTable
from projector.queue import ROWS_AT_ONCE


def make_scanner(handlers: Sequence[object], shown: int, *, is_mariadb: bool) -> Any:
    """Make what takes them, if the core is in use. `handlers`: by event type, None for what nobody
    takes; `shown`: flags of rows whose consequences are in the log."""
    if compiled.core is None:
        return None
    kinds = tuple(map(events.KIND_BY_TYPE.get, range(256)))
    payload = Event.TRANSACTION_PAYLOAD  # the stream takes it
    ignored = bytes(handler is None and kind != payload for kind, handler in enumerate(handlers))
    decompressor = zstandard.ZstdDecompressor()

    def inflate(source: bytes, size: int) -> bytes:
        return decompressor.decompress(source, max_output_size=size)

    return compiled.core.Scanner(
        kinds, RowsChange, ignored, shown, is_mariadb, ROWS_AT_ONCE, inflate
    )


def know(scanner: Any, body: bytes, watched: WatchedTable | None) -> None:
    """Tell it of a table map that has come, and of what that leads to."""
    if watched is None:
        scanner.know(body, None, None, None)
    elif watched.decoder is not None and watched.decoder.compiled is not None:
        scanner.know(body, watched, watched.table, watched.decoder.compiled)
