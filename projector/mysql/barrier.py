"""The read barrier: no document is read before its changes are visible to the reading connection.

A log hands out a transaction before other connections can see its rows: for milliseconds under
load, for the whole acknowledgement timeout under semi-sync AFTER_SYNC. Each kind of server has one
sound way to wait, written here as statements that go before the queries in the same round trip and
a test of their results. Never reads first and asks later: position and rows share one snapshot.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from projector.errors import OperatorError, TransientError
from projector.model import MISSING, Change, KeyByTable, Need, RowsChange, TableName
from projector.mysql.connection import Connection
from projector.mysql.literals import literal
from projector.mysql.position import Flavour, GtidSet, Position, file_number, own
from projector.mysql.results import RawRows
from projector.ports import Patience
from projector.projection.keys import among

_WAIT_S = 1.0  # limit of one wait on the server; the caller asks again as long as it likes
_SAID_AFTER_S = 2.0  # shorter waits are everyday life
_CAUSE = "the log's changes to show where documents are read"
_HEAD_BYTES = 1 << 16  # what a file begins with: its description and the list of GTIDs
_FIRST_EVENT = 4  # where a position stands that has been carried over into the next file

# Instead of a snapshot: every read that follows waits for writers of its rows and of the gaps
# between them, and sees what they committed, until the transaction ends.
_LOCKING_READS = ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION")


class Barrier(Protocol):
    """A way to wait."""

    def opening(self, need: Need, before: Sequence[RawRows] = ()) -> list[str]:
        """Return the statements that wait and open a snapshot; `before`: results of the attempt
        that did not reach it."""
        ...

    def reached(self, need: Need, results: Sequence[RawRows]) -> bool:
        """Judge by the results of `opening` whether the snapshot holds what is needed."""
        ...

    def can_keep(self, need: Need) -> bool:
        """Return whether a snapshot that is kept can be known to hold what is needed; its changes
        are those `awaited`."""
        ...


class MysqlGtid:
    """`WAIT_FOR_EXECUTED_GTID_SET` on the reading connection, also where that is a replica.

    MySQL manual, 14.18.2 "Functions Used with Global Transaction Identifiers": 0 when the set has
    been applied, 1 on timeout.
    """

    def opening(self, need: Need, before: Sequence[RawRows] = ()) -> list[str]:
        """Wait, then open the snapshot."""
        return [
            f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{own(need.position).gtids}', {_WAIT_S})",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ]

    def reached(self, need: Need, results: Sequence[RawRows]) -> bool:
        """0: all of the set is committed and visible."""
        return int(results[0][0][0] or 0) == 0

    def can_keep(self, need: Need) -> bool:
        """Always."""
        return True


class MariadbSnapshot:
    """A snapshot that names its own place in the log.

    `START TRANSACTION WITH CONSISTENT SNAPSHOT` fixes `Binlog_snapshot_file` and `_position` under
    the same lock as the snapshot (MariaDB Knowledge Base, "Enhancements for START TRANSACTION WITH
    CONSISTENT SNAPSHOT"). `@@gtid_binlog_pos` is no barrier: it moves before rows are visible.

    One place says too much: the beginning of a file. The transaction that fills a file has it
    rotated before it becomes visible itself (MYSQL_BIN_LOG::open in sql/log.cc moves the place), so
    there the changed rows are locked as well, or all that is read where they are not known.
    """

    def __init__(self, key_by_table: KeyByTable) -> None:
        self._key_by_table = key_by_table

    def opening(self, need: Need, before: Sequence[RawRows] = ()) -> list[str]:
        """Open the snapshot and ask where it stands; after a doubtful place, lock first."""
        is_doubtful = bool(before) and _is_fresh(need, _place(before))
        locking = self._locking(need) if is_doubtful else []
        if is_doubtful and not locking and _reads_must_lock(need):
            return list(_LOCKING_READS)
        return [
            *locking,
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            "SHOW STATUS LIKE 'binlog_snapshot_%'",
        ]

    def reached(self, need: Need, results: Sequence[RawRows]) -> bool:
        """Compare places in the log of the same server."""
        if len(results) == len(_LOCKING_READS) and not results[-1]:
            return True  # the place was reached before, and what is read was waited for
        place, needed = _place(results), own(need.position)
        if place is not None and place < (file_number(needed.file), needed.offset):
            return False
        was_locked = len(results) > 2  # more than the snapshot and its place
        if was_locked or not _is_fresh(need, place):
            return True
        if need.is_kept and not need.changes:
            raise TransientError("mysql", "a snapshot at the very beginning of a file of the log")
        return not self._locking(need) and not _reads_must_lock(need)

    def can_keep(self, need: Need) -> bool:
        """Behind another place than a file's beginning always, else where rows can be locked."""
        return own(need.position).offset > _FIRST_EVENT or bool(need.changes)

    def _locking(self, need: Need) -> list[str]:
        return _locks(need, self._key_by_table, "LOCK IN SHARE MODE")


def _place(results: Sequence[RawRows]) -> tuple[int, int] | None:
    """Where MariaDB says that the snapshot stands; None: it writes no log."""
    status = {(name or b"").lower(): value or b"" for name, value in results[-1]}
    file = status[b"binlog_snapshot_file"].decode()
    return (file_number(file), int(status[b"binlog_snapshot_position"] or 0)) if file else None


def _is_fresh(need: Need, place: tuple[int, int] | None) -> bool:
    """Whether a snapshot may stand at the very beginning of a file that follows the change."""
    if place is None or place[1] >= _HEAD_BYTES:
        return False
    needed = own(need.position)
    return place[0] > file_number(needed.file) or needed.offset <= _FIRST_EVENT


class MariadbReplica:
    """`MASTER_GTID_WAIT` on a replica of MariaDB: 0 when applied, -1 on timeout."""

    def opening(self, need: Need, before: Sequence[RawRows] = ()) -> list[str]:
        """Wait, then open the snapshot."""
        return [
            f"SELECT MASTER_GTID_WAIT('{own(need.position).gtids}', {_WAIT_S})",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ]

    def reached(self, need: Need, results: Sequence[RawRows]) -> bool:
        """0: applied."""
        return int(results[0][0][0] or 0) == 0

    def can_keep(self, need: Need) -> bool:
        """Always."""
        return True


class LockedRows:
    """Shared locks on the changed rows, for MySQL without GTIDs.

    A transaction gives its row locks up only after it has become visible, so whoever gets a shared
    lock on a row that it changed sees it. Waits behind later writers of the same rows too, and
    needs a primary key on each watched table.
    """

    def __init__(self, key_by_table: KeyByTable) -> None:
        self._key_by_table = key_by_table

    def opening(self, need: Need, before: Sequence[RawRows] = ()) -> list[str]:
        """Lock (each statement commits by itself), then open the snapshot; or lock all reads."""
        if need.is_unspelled and not need.is_kept:
            return list(_LOCKING_READS)
        locking = _locks(need, self._key_by_table, "FOR SHARE")
        return [*locking, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"]

    def reached(self, need: Need, results: Sequence[RawRows]) -> bool:
        """The locks were had, or the query would have failed with a lock wait timeout."""
        return True

    def can_keep(self, need: Need) -> bool:
        """Where rows can be locked."""
        return bool(need.changes)


def _reads_must_lock(need: Need) -> bool:
    return not need.is_kept and (need.is_unspelled or bool(need.changes))


def _locks(need: Need, key_by_table: KeyByTable, how: str) -> list[str]:
    return [
        _lock(change.table, [name for _, name in key_by_table[change.table]], rows) + how
        for change in need.changes
        if isinstance(change, RowsChange) and (rows := _lockable(change, key_by_table))
    ]


def _lockable(change: RowsChange, key_by_table: KeyByTable) -> set[tuple[Any, ...]]:
    """Return the keys of a change's rows, as far as the log has them."""
    key = key_by_table.get(change.table)
    if not key:
        return set()
    rows = {tuple(row[i] for i, _ in key) for row in (*change.before, *change.after)}
    return {values for values in rows if MISSING not in values and None not in values}


def awaited(changes: Sequence[Change], key_by_table: KeyByTable) -> Sequence[Change]:
    """Return changes whose locks tell when all of these show, for commits show in the order of the
    log: none where the rows of the last one are not known."""
    last = changes[-1]
    is_known = isinstance(last, RowsChange) and _lockable(last, key_by_table)
    return changes if is_known else ()


def _lock(table: TableName, names: Sequence[str], rows: set[tuple[Any, ...]]) -> str:
    columns = [f"`{name.replace('`', '``')}`" for name in names]
    spelled = ".".join(f"`{part.replace('`', '``')}`" for part in table)
    return f"SELECT COUNT(*) FROM {spelled} WHERE {among(columns, rows, [literal] * len(columns))} "


def behind(
    barrier: Barrier,
    connection: Connection,
    need: Need,
    patience: Patience,
    queries: Sequence[str] = (),
    max_bytes: float = math.inf,
    on_again: Callable[[], None] = lambda: None,
) -> list[RawRows]:
    """Open a snapshot that holds what is needed, and run queries in it in the same round trip:
    again until it does. Return the queries' results.

    `on_again` is told of each attempt but the first. Raises TransientError when the patience ends.
    """
    said: list[RawRows] = []
    started, is_told = time.monotonic(), False
    try:
        while True:
            opening = barrier.opening(need, said)
            results = connection.query_raw(*opening, *queries, max_bytes=max_bytes)
            said = results[: len(opening)]
            if barrier.reached(need, said):
                return results[len(opening) :]
            on_again()
            waited_s = time.monotonic() - started
            if patience.is_stopping() or waited_s > patience.seconds:
                raise TransientError("mysql", f"stopped while waiting for {_CAUSE}")
            if waited_s > _SAID_AFTER_S and not is_told:
                is_told = True
                patience.on_wait(_CAUSE)
    finally:
        if is_told:
            patience.on_wait(None)


def choose(
    position: Position,
    key_by_table: KeyByTable,
    *,
    is_replica: bool,
) -> Barrier:
    """Choose by the log's server and by where documents are read. Raises OperatorError."""
    if position.flavour is Flavour.MARIADB:
        return MariadbReplica() if is_replica else MariadbSnapshot(key_by_table)
    if isinstance(position.gtids, GtidSet):
        return MysqlGtid()
    if is_replica:
        raise OperatorError(
            "PROJECTOR_MYSQL__READ_URL needs GTIDs: without them nobody can tell how far a replica "
            "has come",
            "Set gtid_mode=ON on both servers, or unset PROJECTOR_MYSQL__READ_URL.",
        )
    return LockedRows(key_by_table)
