"""MySQL's and MariaDB's log as the core reads it: whole, with what foreign keys do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from projector.model import Change, KeyByTable, Need, Transactions, Watch
from projector.mysql.barrier import Barrier, awaited, behind, choose
from projector.mysql.binlog import BinlogSource
from projector.mysql.connection import Connection
from projector.mysql.hidden import SAVEPOINT, Completer
from projector.mysql.knowledge import Learned, learn
from projector.mysql.linked import linked
from projector.mysql.position import Position as MysqlPosition
from projector.mysql.position import own
from projector.mysql.snapshots import Snapshots
from projector.ports import Knowledge, Patience
from projector.position import Position
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
        self._keys: KeyByTable = {}  # by which rows of linked tables are locked
        self._met: Need | None = None  # the last whole transactions read
        self._awaited: Sequence[Change] = ()  # with linked rows, the last met

    @property
    def clock_offset_s(self) -> float:
        """The server's clock minus ours, in seconds; see `ports.Source`."""
        return self._inner.clock_offset_s

    @property
    def crash_loss_s(self) -> float:
        """A commit can be read once it is as durable as its log; see `ports.Source`."""
        return 0.0

    def learn(self, plans: Sequence[Plan], patience: Patience) -> Knowledge:
        """Read what must be known of the projections' tables; see `ports.Source`."""
        connection = self._connect()
        try:
            if self._is_replica:  # which is behind: let it have the log's definitions
                end = self._inner.current()
                behind(choose(end, {}, is_replica=True), connection, Need(end), patience)
                connection.query("ROLLBACK")
            self._learned = learn(connection, plans, self._schema)
        finally:
            connection.close()
        return self._learned.knowledge

    def current(self) -> MysqlPosition:
        """Return the end of the log; see `ports.Source`."""
        return self._inner.current()

    def visible_end(self) -> MysqlPosition:
        """Return a place beyond all that can be seen; see `ports.Source`."""
        return self._inner.visible_end()

    def begin(self) -> MysqlPosition:
        """Return the end of the log, where a build begins; see `ports.Source`."""
        return self._inner.current()

    def check(self, position: Position) -> None:
        """Raise PositionLostError when the log cannot be read on from there."""
        self._inner.check(own(position))

    def start(self, position: Position, watches: Sequence[Watch]) -> None:
        """Begin to read after `position`; `watches` are those of the last `learn`."""
        self.close()
        learned = self._learned
        tables = linked(watches, learned.keys, learned.generated, learned.versioned)
        self._keys = {
            table.name: tuple((place, table.watch.columns[place]) for place in table.locked_by)
            for table in tables.values()
        }
        if tables and not learned.logs_actions:
            self._barrier = choose(own(position), self._keys, is_replica=self._is_replica)
        self._snapshots = Snapshots(self._connect, self._open)
        self._completer = Completer(tables, learned.types, self._snapshots)
        self._inner.start(own(position), watches)

    def read(self, timeout_s: float) -> Transactions | None:
        """Return what has come since the last call, completed; see `ports.Source`."""
        transactions = self._inner.read(timeout_s)
        if transactions is not None and self._completer is not None:
            self._meet(transactions)
            transactions = self._completer.complete(transactions)
        met, barrier, completer = self._met, self._barrier, self._completer
        if met is not None and barrier and completer and self._snapshots is not None:
            # Also where nothing came: what was asked keeps its tables from being altered (MariaDB).
            may_ask = not completer.is_inside and barrier.can_keep(met)
            self._snapshots.tend(met, may_ask=may_ask)
        return transactions

    def _meet(self, transactions: Transactions) -> None:
        """Note what a snapshot asked for from now on must hold, as its overlay will not."""
        keys = self._keys
        if changes := [c for c in transactions.changes if c.table is None or c.table in keys]:
            self._awaited = awaited(changes, keys)
        if transactions.position is not None:
            self._met = Need(transactions.barrier, self._awaited, is_kept=True)

    def confirm(self, durable: Collection[Position]) -> None:
        """Do nothing: the server keeps its log by its own rules."""

    def wake(self) -> None:
        """Let a `read` under way return; see `ports.Source`."""
        self._inner.wake()

    def close(self) -> None:
        """End the stream and free the connections."""
        snapshots, self._snapshots = self._snapshots, None
        self._completer = self._barrier = self._met = None
        self._keys, self._awaited = {}, ()
        if snapshots is not None:
            snapshots.close()
        self._inner.close()

    def _open(
        self, connection: Connection, need: Need, is_dropped: Callable[[], bool]
    ) -> MysqlPosition:
        """Open a snapshot at or beyond what is needed; return the log's visible end after that."""
        barrier = self._barrier
        assert barrier is not None
        behind(barrier, connection, need, Patience(is_dropped))
        connection.query(f"SAVEPOINT {SAVEPOINT}")
        return self._inner.visible_end()
