"""The read barrier: no document is read before its changes are visible to the reading connection.

A log hands out a transaction before other connections can see its rows: for milliseconds under
load, for the whole acknowledgement timeout under semi-sync AFTER_SYNC. Each kind of server has one
sound way to wait, written here as statements that go before the queries in the same round trip and
a test of their results. Never reads first and asks later: position and rows share one snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from projector.database import RawRows
from projector.errors import OperatorError
from projector.model import Change, RowsChange, TableName
from projector.position import Flavour, GtidSet, Position, file_number
from projector.projection.keys import among

_WAIT_S = 1.0  # limit of one wait on the server; the caller asks again as long as it likes


@dataclass(frozen=True, slots=True)
class Need:
    """What must be visible: a position, and the changes that lead up to it."""

    position: Position
    changes: Sequence[Change] = ()


class Barrier(Protocol):
    """A way to wait."""

    def opening(self, need: Need) -> list[str]:
        """Give the statements that wait and open a snapshot."""
        ...

    def reached(self, need: Need, results: Sequence[RawRows]) -> bool:
        """Judge by the results of `opening` whether the snapshot holds what is needed."""
        ...


class MysqlGtid:
    """`WAIT_FOR_EXECUTED_GTID_SET` on the reading connection, also where that is a replica.

    MySQL manual, 14.18.2 "Functions Used with Global Transaction Identifiers": 0 when the set has
    been applied, 1 on timeout.
    """

    def opening(self, need: Need) -> list[str]:
        """Wait, then open the snapshot."""
        return [
            f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{need.position.gtids}', {_WAIT_S})",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ]

    def reached(self, need: Need, results: Sequence[RawRows]) -> bool:
        """0: all of the set is committed and visible."""
        return int(results[0][0][0] or 0) == 0


class MariadbSnapshot:
    """A snapshot that names its own place in the log.

    `START TRANSACTION WITH CONSISTENT SNAPSHOT` fixes `Binlog_snapshot_file` and `_position` under
    the same lock as the snapshot (MariaDB Knowledge Base, "Enhancements for START TRANSACTION WITH
    CONSISTENT SNAPSHOT"). `@@gtid_binlog_pos` is no barrier: it moves before rows are visible.
    """

    def opening(self, need: Need) -> list[str]:
        """Open the snapshot and ask where it stands."""
        return [
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            "SHOW STATUS LIKE 'binlog_snapshot_%'",
        ]

    def reached(self, need: Need, results: Sequence[RawRows]) -> bool:
        """Compare places in the log of the same server."""
        status = {(name or b"").lower(): value or b"" for name, value in results[1]}
        file = status[b"binlog_snapshot_file"].decode()
        offset = int(status[b"binlog_snapshot_position"] or 0)
        needed = need.position
        return not file or (file_number(file), offset) >= (file_number(needed.file), needed.offset)


class MariadbReplica:
    """`MASTER_GTID_WAIT` on a replica of MariaDB: 0 when applied, -1 on timeout."""

    def opening(self, need: Need) -> list[str]:
        """Wait, then open the snapshot."""
        return [
            f"SELECT MASTER_GTID_WAIT('{need.position.gtids}', {_WAIT_S})",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ]

    def reached(self, need: Need, results: Sequence[RawRows]) -> bool:
        """0: applied."""
        return int(results[0][0][0] or 0) == 0


class LockedRows:
    """Shared locks on the changed rows, for MySQL without GTIDs.

    A transaction gives its row locks up only after it has become visible, so whoever gets a shared
    lock on a row that it changed sees it. Waits behind later writers of the same rows too, and
    needs a primary key on each watched table.
    """

    def __init__(self, key_by_table: dict[TableName, tuple[tuple[int, str], ...]]) -> None:
        self._key_by_table = key_by_table

    def opening(self, need: Need) -> list[str]:
        """Lock (each statement commits by itself), then open the snapshot."""
        locking = []
        for change in need.changes:
            if not isinstance(change, RowsChange) or not self._key_by_table.get(change.table):
                continue
            key = self._key_by_table[change.table]
            rows = {tuple(row[i] for i, _ in key) for row in (change.after or change.before)}
            locking.append(_lock(change.table, [name for _, name in key], rows))
        return [*locking, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"]

    def reached(self, need: Need, results: Sequence[RawRows]) -> bool:
        """The locks were had, or the query would have failed with a lock wait timeout."""
        return True


def _lock(table: TableName, names: Sequence[str], rows: set[tuple[Any, ...]]) -> str:
    columns = [f"`{name.replace('`', '``')}`" for name in names]
    spelled = ".".join(f"`{part.replace('`', '``')}`" for part in table)
    return f"SELECT COUNT(*) FROM {spelled} WHERE {among(columns, rows)} FOR SHARE"


def choose(
    position: Position,
    key_by_table: dict[TableName, tuple[tuple[int, str], ...]],
    *,
    is_replica: bool,
) -> Barrier:
    """Choose by the log's server and by where documents are read. Raises OperatorError."""
    if position.flavour is Flavour.MARIADB:
        return MariadbReplica() if is_replica else MariadbSnapshot()
    if isinstance(position.gtids, GtidSet):
        return MysqlGtid()
    if is_replica:
        raise OperatorError(
            "PROJECTOR_MYSQL__READ_URL needs GTIDs: without them nobody can tell how far a replica "
            "has come",
            "Set gtid_mode=ON on both servers, or unset PROJECTOR_MYSQL__READ_URL.",
        )
    return LockedRows(key_by_table)
