"""MySQL's and MariaDB's log as the core reads it: whole, with what foreign keys do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from projector.errors import TransientError
from projector.model import Transactions, Watch
from projector.mysql.barrier import Barrier, Need, choose
from projector.mysql.binlog import BinlogSource
from projector.mysql.columns import table_types
from projector.mysql.connection import Connection
from projector.mysql.hidden import SAVEPOINT, Completer
from projector.mysql.knowledge import Learned, learn
from projector.mysql.linked import linked
from projector.mysql.position import Position
from projector.mysql.results import RawRows
from projector.mysql.snapshots import Snapshots
from projector.ports import Knowledge
from projector.projection import Plan


class MysqlLog:
    """Implements `ports.Source` over `BinlogSource`. For one thread.

    `connect` gives connections to where documents are read; with `is_replica` that is another
    server than the log's. `schema`: the default one, of tables without any.
    """

    def __init__(
        self,
        inner: BinlogSource,
        connect: Callable[[], Connection],
        schema: str,
        *,
        is_replica: bool,
    ) -> None:
        self._inner, self._connect, self._schema = inner, connect, schema
        self._is_replica = is_replica
        self._learned = Learned()
        self._completer: Completer | None = None
        self._snapshots: Snapshots | None = None
        self._barrier: Barrier | None = None
        self._met: Need | None = None  # the last whole transactions read

    @property
    def clock_offset_s(self) -> float:
        """The server's clock minus ours, in seconds; see `ports.Source`."""
        return self._inner.clock_offset_s

    def learn(self, plans: Sequence[Plan]) -> Knowledge:
        """Read what must be known of the projections' tables; see `ports.Source`."""
        connection = self._connect()
        try:
            self._learned = learn(connection, plans, self._schema)
        finally:
            connection.close()
        return self._learned.knowledge

    def current(self) -> Position:
        """Return the end of the log; see `ports.Source`."""
        return self._inner.current()

    def visible_end(self) -> Position:
        """Return a place beyond all that can be seen; see `ports.Source`."""
        return self._inner.visible_end()

    def check(self, position: Position) -> None:
        """Raise PositionLostError when the log cannot be read on from there."""
        self._inner.check(position)

    def start(self, position: Position, watches: Sequence[Watch]) -> None:
        """Begin to read after `position`; `watches` are those of the last `learn`."""
        self.close()
        learned = self._learned
        tables = linked(watches, learned.keys, learned.generated)
        if tables and not learned.logs_actions:
            keys = {
                table.name: tuple((place, table.watch.columns[place]) for place in table.key)
                for table in tables.values()
            }
            self._barrier = choose(position, keys, is_replica=self._is_replica)
        connection = self._connect()
        try:
            types = table_types(connection, list(tables))
        finally:
            connection.close()
        self._snapshots = Snapshots(self._connect, self._open)
        self._completer = Completer(tables, types, self._snapshots)
        self._inner.start(position, watches)

    def read(self, timeout_s: float) -> Transactions | None:
        """Return what has come since the last call, completed; see `ports.Source`."""
        transactions = self._inner.read(timeout_s)
        if transactions is not None and self._completer is not None:
            completed = self._completer.complete(transactions)
            if transactions.position is not None:
                changes = transactions.changes or (self._met.changes if self._met else ())
                self._met = Need(transactions.barrier, changes, is_kept=True)
            transactions = completed
        if self._met is not None and self._barrier is not None and self._snapshots is not None:
            # Also where nothing came: what was asked keeps its tables from being altered (MariaDB).
            self._snapshots.tend(self._met)
        return transactions

    def wake(self) -> None:
        """Let a `read` under way return; see `ports.Source`."""
        self._inner.wake()

    def close(self) -> None:
        """End the stream and free the connections."""
        snapshots, self._snapshots = self._snapshots, None
        self._completer = self._barrier = self._met = None
        if snapshots is not None:
            snapshots.close()
        self._inner.close()

    def _open(self, connection: Connection, need: Need) -> Position:
        """Open a snapshot at or beyond what is needed; return the log's visible end after that."""
        barrier = self._barrier
        assert barrier is not None
        results: list[RawRows] = []
        while True:
            results = connection.query_raw(*barrier.opening(need, results))
            if barrier.reached(need, results):
                break
            if self._barrier is not barrier:
                raise TransientError("mysql", "stopped while waiting for a commit to show")
        connection.query(f"SAVEPOINT {SAVEPOINT}")
        return self._inner.visible_end()
