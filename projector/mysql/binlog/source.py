"""The source: a thread that reads the log, and a bounded queue to whoever asks.

A slow reader of the queue slows the thread and with it the server: memory stays flat. The thread
never outlives `close`, and its end is always told to the next `read`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pymysql

from projector.databases import Mysql
from projector.errors import PositionLostError, TransientError, UndecodableLogError
from projector.model import Transactions, Watch
from projector.mysql.binlog.catalog import Catalog
from projector.mysql.binlog.connection import Replica, Server, Wire, ask, connect, identify, log_end
from projector.mysql.binlog.damage import DamagedEventError
from projector.mysql.binlog.progress import Progress
from projector.mysql.binlog.start import born, check
from projector.mysql.binlog.stream import Stream
from projector.mysql.binlog.transactions import Assembler
from projector.mysql.position import Flavour, GtidSet, MariadbGtids, Position
from projector.queue import Queue

_ATTEMPTS: Final = 5  # to see file, offset and GTIDs of a busy server at one moment
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class BinlogSource:
    """Implements `ports.Source` for MySQL and MariaDB. For one thread; reads in another."""

    def __init__(self, settings: Mysql) -> None:
        self._settings = settings
        self._run: _Run | None = None
        self._clock_offset_s = 0.0

    @property
    def clock_offset_s(self) -> float:
        """The server's clock minus ours, in seconds, measured at each start and each minute."""
        if self._run is not None:
            self._clock_offset_s = self._run.catalog.clock_offset_s
        return self._clock_offset_s

    def current(self) -> Position:
        """Return the end of the server's log. Raises TransientError or OperatorError."""
        with connect(self._settings) as connection:
            server = identify(connection)
            end = _current(connection, server)
        if self._run is not None:
            return end  # the server would take one more stream of ours for the end of the other
        try:
            return replace(end, born=born(self._settings, server, end.file))
        except PositionLostError as error:  # the file has gone at this very moment
            raise TransientError("mysql", f"the log moved on at once: {error}") from error

    def check(self, position: Position) -> None:
        """Raise PositionLostError when the log cannot be read on from there; see `ports.Source`."""
        with connect(self._settings) as connection:
            check(connection, self._settings, identify(connection), position)

    def visible_end(self) -> Position:
        """Return a place that all that can be seen by now lies at or before; see `ports.Source`.

        MySQL shows a transaction before it adds it to gtid_executed (MYSQL_BIN_LOG::
        process_commit_stage_queue, sql/binlog.cc); until then it is in gtid_owned.
        """
        with connect(self._settings) as connection:
            server = identify(connection)
            owned = GtidSet()
            if server.flavour is Flavour.MYSQL:  # first, for it goes from this set into the other
                owned = owned_gtids(ask(connection, "SELECT @@global.gtid_owned")[0][0])
            end = _current(connection, server)
        if isinstance(end.gtids, GtidSet):
            end = replace(end, gtids=end.gtids | owned)
        return end

    def start(self, position: Position, watches: Sequence[Watch]) -> None:
        """Begin to read after `position`; see `ports.Source`."""
        self.close()
        with connect(self._settings) as connection:
            server = identify(connection)
            check(connection, self._settings, server, position)
            end = log_end(connection)[:2]
        run = _Run(self._settings, server, position, watches, end)
        self._run = run
        try:
            run.begin()
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float) -> Transactions | None:
        """Return what has come since the last call; see `ports.Source`.

        Raises TransientError, PositionLostError or OperatorError once all that came is given out.
        """
        if self._run is None:
            raise TransientError("mysql", "the source has not been started")
        return self._run.queue.get(timeout_s)

    def wake(self) -> None:
        """Let a `read` under way return; see `ports.Source`."""
        run = self._run
        if run is not None:
            run.queue.wake()

    def close(self) -> None:
        """End the stream and free the connections, at once."""
        run, self._run = self._run, None
        if run is not None:
            self._clock_offset_s = run.catalog.clock_offset_s
            run.end()


class _Run:
    """One connection's stream with its thread, from start to close."""

    def __init__(
        self,
        settings: Mysql,
        server: Server,
        position: Position,
        watches: Sequence[Watch],
        end: tuple[str, int],
    ) -> None:
        self.queue = Queue("mysql", settings.gather_s)
        self.catalog = Catalog(settings)
        progress = Progress(position, server.name, end)
        self._assembler = Assembler(
            progress, watches, self.catalog, folds_names=server.folds_names, emit=self._give
        )
        self._progress = progress
        self._begun = threading.Event()
        self._failure: Exception | None = None
        try:
            self.catalog.read_clock(now=True)
            self.catalog.begin()
            self._wire = Wire(settings, server, position, Replica.daemon(settings))
        except BaseException:
            self.catalog.close()
            raise
        self._patience_s = settings.read_timeout_s
        self._thread = threading.Thread(target=self._read, name="binlog", daemon=True)

    def begin(self) -> None:
        """Start the thread; return when the log has begun to come, raise if it cannot."""
        self._thread.start()
        if not self._begun.wait(self._patience_s):
            raise TransientError("mysql", "the server does not begin to send its log")
        if self._failure is not None and self.queue.is_empty():
            raise self._failure

    def end(self) -> None:
        """End the thread and free the connections."""
        self.queue.close()
        self._wire.close()
        if self._thread.ident is not None:
            self._thread.join()
        self.catalog.close()

    def _give(self, transactions: Transactions, rows: int) -> None:
        self._begun.set()  # first, for the queue may be full before anybody takes from it
        self.queue.put(transactions, rows)

    def _read(self) -> None:
        stream = Stream(self._wire, self._assembler)
        try:
            stream.run(self._begun.set, self.queue.is_empty)
        except DamagedEventError as error:
            self._failure = UndecodableLogError(
                f"an event cannot be read: {error} (after {self._progress.here()})",
                "Check the server's log with mysqlbinlog; a resync goes on behind it.",
            )
        except Exception as error:  # told to the reader of the queue, whatever it is
            self._failure = error
        finally:
            assert self._failure is not None
            self.queue.fail(self._failure)
            self._begun.set()


def owned_gtids(text: str) -> GtidSet:
    """Read `gtid_owned`: each number is followed by `#` and a thread's, and nothing stands before
    the next UUID (Owned_gtids::to_string, sql/rpl_gtid_owned.cc)."""
    return GtidSet.parse(re.sub(r"#\d+", "", _UUID.sub(r",\g<0>", text)))


def _current(connection: pymysql.Connection[Any], server: Server) -> Position:
    if server.flavour is Flavour.MYSQL:
        file, offset, executed = log_end(connection)
        gtids = GtidSet.parse(executed) if server.gtids_on else None
        return Position(Flavour.MYSQL, server.name, file, offset, gtids)
    for _ in range(_ATTEMPTS):
        file, offset, _executed = log_end(connection)
        text = ask(connection, "SELECT @@global.gtid_binlog_pos")[0][0]
        if log_end(connection)[:2] == (file, offset):
            break
    else:  # too busy: the server looks the GTIDs of this place up in its log
        text = ask(connection, "SELECT BINLOG_GTID_POS(%s, %s)", file, offset)[0][0]
    return Position(Flavour.MARIADB, server.name, file, offset, MariadbGtids.parse(text or ""))
