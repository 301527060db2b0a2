"""PostgreSQL's log as the core reads it: a thread that reads the stream, and a bounded queue to
whoever asks.

Confirms late: only what is durable in the store, and only once it is a minute or a gigabyte old,
whichever comes first, so that a store which goes back in time finds its log still there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from projector.errors import PositionLostError, ProjectorError, RefusedError, TransientError
from projector.model import TableName, Transactions, Watch, merged
from projector.ports import FOR_EVER, Knowledge, Patience
from projector.position import Position
from projector.postgres import catalog, definitions, figures, publication, slot
from projector.postgres.connection import Session, connect
from projector.postgres.errors import IN_USE, MISSING_OBJECT, NOT_READY, PEER, state_of
from projector.postgres.names import quoted
from projector.postgres.pgoutput import DDL_PREFIX, Assembler, Piece
from projector.postgres.position import Position as PostgresPosition
from projector.postgres.position import own, parse_lsn
from projector.postgres.relation import Shape, wanted
from projector.postgres.slot import System
from projector.postgres.stream import Stream
from projector.postgres.visibility import Snapshot, Visibility, crash_loss_s
from projector.projection import Plan
from projector.queue import Queue

_LOOK_EVERY_S: Final = 1.0  # where the log ends, and what can be seen
_MOVED_S: Final = 0.05  # until it is told that the log has moved by what nobody reads
# In a position, before it is asked whether they can be seen by now: some, or after a while.
_UNSEEN_MOST: Final = 256
_UNSEEN_SOME: Final = 16
_UNSEEN_S: Final = 0.01
_FIGURES_EVERY_S: Final = 15.0  # how the slot stands
_LOOK: Final = "SELECT pg_current_snapshot(), pg_current_wal_flush_lsn(), ({}), {}"
_CHANGED: Final = "the publication was changed: what was not published until then is in no stream"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the log is, and how it is read.

    `schema` holds the tables that a projection names without one. `failover`: have the slot kept on
    standbys, where the server can. `confirm_after_s`, `confirm_after_bytes`: how long what is
    durable in the store stays in the log.
    """

    conninfo: str
    slot: str
    publication: str
    schema: str = "public"
    failover: bool = True
    patience_s: float = 30.0
    connect_timeout_s: float = 10.0
    heartbeat_s: float = 1.0
    gather_s: float = 0.0
    confirm_after_s: float = 60.0
    confirm_after_bytes: int = 1 << 30

    def open(self, *, is_replication: bool = False) -> Session:
        """Open a connection. Raises what `connect` does."""
        return connect(
            self.conninfo, self.patience_s, schema=self.schema, is_replication=is_replication,
            connect_timeout_s=self.connect_timeout_s,
        )  # fmt: skip


@dataclass(slots=True)
class Confirmations:
    """Durable places with their time, until they are old enough to be confirmed."""

    after_s: float
    after_bytes: int
    _waiting: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, lsn: int, now: float) -> None:
        """Note a place that is durable in the store."""
        if not self._waiting or lsn > self._waiting[-1][1]:
            self._waiting.append((now, lsn))

    def due(self, now: float) -> int:
        """Return the place that may be confirmed by now; 0: none."""
        due = 0
        while self._waiting:
            added, lsn = self._waiting[0]
            if now - added < self.after_s and self._waiting[-1][1] - lsn < self.after_bytes:
                break
            due = lsn
            self._waiting.popleft()
        return due


class PostgresLog:
    """Implements `ports.Source` for PostgreSQL. For one thread, but for `wake` and `visible_end`;
    reads in another."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._run: _Run | None = None
        self._clock_offset_s = 0.0
        self._patience = FOR_EVER
        self._shapes: Mapping[TableName, Shape] = {}

    @property
    def clock_offset_s(self) -> float:
        """The server's clock minus ours, in seconds, as it last told the time."""
        run = self._run
        return self._clock_offset_s if run is None else run.clock_offset_s

    @property
    def crash_loss_s(self) -> float:
        """See `ports.Source` and `visibility.crash_loss_s`."""
        return 0.0 if self._run is None else self._run.crash_loss_s

    def learn(self, plans: Sequence[Plan], patience: Patience) -> Knowledge:
        """Read what must be known of the projections' tables; see `ports.Source`."""
        self._patience = patience
        watches = merged([w for plan in plans for w in plan.watches(self._address.schema)])
        tables = [watch.table for watch in watches]
        with self._session() as session:
            session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            types = catalog.types_of(plans, session)
            unsent = catalog.unsent(session, tables, self._address.publication)
            wide = [_widened(watch, unsent.get(watch.table, {})) for watch in watches]
            shapes = catalog.shapes(session, {w.table: wanted(w) for w in wide})
        self._shapes = {t: _without(shape, unsent.get(t, {})) for t, shape in shapes.items()}
        return Knowledge(wide, types, self._shapes)

    def current(self) -> PostgresPosition:
        """Return the end of the log: everything that can be seen by now lies at or before it, also
        what has not been flushed."""
        run = self._run
        if run is not None:
            with self._session() as session:
                return replace(run.position, lsn=_written_end(session))
        with self._session(is_replication=True) as session:
            system = slot.identify(session)
            return PostgresPosition(system.identifier, system.timeline, _written_end(session))

    visible_end = current

    def begin(self) -> PostgresPosition:
        """Make the slot anew, with whatever was visible before it; see `ports.Source`."""
        address = self._address
        with self._session() as queries, self._session(is_replication=True) as replication:
            return slot.create(
                replication, queries, address.slot, self._patience, failover=address.failover
            )

    def check(self, position: Position) -> None:
        """Raise PositionLostError when the log cannot be read on from there; see `ports.Source`."""
        with self._session(is_replication=True) as session:
            slot.check(session, session, self._address.slot, own(position))

    def start(self, position: Position, watches: Sequence[Watch]) -> None:
        """Begin to read after `position`; see `ports.Source`."""
        self.close()
        self._run = run = _Run(self._address, own(position), watches, self._shapes)
        try:
            run.begin()
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float) -> Transactions | None:
        """Return what has come since the last call; see `ports.Source`."""
        if self._run is None:
            raise TransientError(PEER, "the source has not been started")
        return self._run.queue.get(timeout_s)

    def confirm(self, durable: Collection[Position]) -> None:
        """Note what checkpoints hold; what lies before is let go a while later."""
        if self._run is not None and durable:
            self._run.confirm(min(own(position).lsn for position in durable))

    def wake(self) -> None:
        """Let a `read` under way return; see `ports.Source`."""
        run = self._run
        if run is not None:
            run.queue.wake()

    def close(self) -> None:
        """End the stream and free the connections, at once."""
        run, self._run = self._run, None
        if run is not None:
            self._clock_offset_s = run.clock_offset_s
            run.end()

    @contextmanager
    def _session(self, *, is_replication: bool = False) -> Iterator[Session]:
        session = self._address.open(is_replication=is_replication)
        try:
            yield session
        finally:
            session.close()


class _Run:
    """One stream with its thread, from start to close."""

    def __init__(
        self,
        address: Address,
        position: PostgresPosition,
        watches: Sequence[Watch],
        shapes: Mapping[TableName, Shape],
    ) -> None:
        self._address, self.position = address, position
        self._tables = [watch.table for watch in watches]
        self.queue = Queue(PEER, address.gather_s)
        self._confirmations = Confirmations(address.confirm_after_s, address.confirm_after_bytes)
        self._assembler = Assembler(watches, shapes, self, self._emit)
        self._visibility: Visibility
        self._is_idle = False
        self.crash_loss_s = 0.0
        self._flushed = 0  # the log's end, as it was a moment ago
        self._question = self._marks = ""  # what is published
        self._published = 0
        self._seen = definitions.Seen(watches)
        self._looked_at = self._beat_at = self._put_at = float("-inf")
        self._shown_at = self._figured_at = float("-inf")
        self._thread = threading.Thread(target=self._read, name="wal", daemon=True)
        self._queries = address.open()
        try:
            self._replication = address.open(is_replication=True)
        except BaseException:
            self._queries.close()
            raise
        self._stream = Stream(
            self._replication, self._assembler, address.patience_s, address.heartbeat_s
        )

    @property
    def clock_offset_s(self) -> float:
        """The server's clock minus ours, in seconds."""
        return self._stream.clock_offset_s

    def begin(self) -> None:
        """Start the stream and its thread. Raises PositionLostError, TransientError or
        OperatorError."""
        name = self._address.slot
        system = slot.check(self._queries, self._replication, name, self.position)
        self._question = _LOOK.format(
            publication.marks(self._address.publication, self._tables, system.version),
            self._seen.question,
        )
        [[text, _, self._marks, digest]] = self._queries.ask(self._question)
        self._require_publication(self._address.publication)
        slot.require_asynchronous(self._queries)
        self._redefine(digest)
        if definitions.may_have_changed(self.position.defined, self._seen.text):
            self._tell(self._seen.definitions)
        self._resume(system, Snapshot.parse(text))
        try:
            self._stream.start(name, self._address.publication, self.position.lsn)
        except ProjectorError as error:
            state = state_of(error)
            if state == IN_USE:
                raise slot.in_use(name) from error
            if state in (NOT_READY, MISSING_OBJECT):
                raise PositionLostError(f"the slot cannot be read from: {error}") from error
            raise
        self._thread.start()

    def end(self) -> None:
        """End the thread and free the connections."""
        self.queue.close()
        self._stream.wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._stream.close()
        self._replication.close()
        self._queries.close()
        figures.forget(self._address.slot)

    def confirm(self, lsn: int) -> None:
        """Let the server forget what is durable and old."""
        now = time.monotonic()
        self._confirmations.add(lsn, now)
        if due := self._confirmations.due(now):
            self._stream.confirm(due)

    def root_of(self, oid: int) -> TableName | None:
        """Return the table that a partition belongs to; see `pgoutput.Catalog`."""
        rows = self._queries.ask(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n"
            f" ON n.oid = c.relnamespace WHERE c.oid = pg_partition_root({oid})"
        )
        return TableName(*rows[0]) if rows else None

    def reader(self, oid: int) -> Callable[[bytes], Any]:
        """Return what reads values of a type; see `pgoutput.Catalog`."""
        self._queries.kinds.need([oid], self._queries.ask)
        return self._queries.kinds.reader(oid)

    def _require_publication(self, name: str) -> None:
        """Raise RefusedError unless all changes of the tables are published. Those of partitioned
        tables are published by their leaves, which may have come since."""
        for problem in publication.unpublished(self._queries.ask, name, self._tables):
            raise RefusedError(problem.detail, problem.fix)

    def _resume(self, system: System, shown: Snapshot) -> None:
        """Know again which of the transactions before the start cannot be seen yet. Raises
        PositionLostError where not all after the position may have been published."""
        published = self.position.published
        if published and publication.changed_since(self._marks, published, shown.xmax):
            raise PositionLostError(_CHANGED)
        self._published = shown.xmin
        is_same = self.position.timeline == system.timeline  # else it is a standby's, promoted
        unseen = self.position.unseen if is_same else frozenset()
        self._visibility = Visibility(shown, unseen)
        [[clock]] = self._queries.ask("SELECT extract(epoch FROM clock_timestamp())")
        self._stream.clock_offset_s = float(clock) - time.time()
        self.crash_loss_s = crash_loss_s(self._queries.ask)
        start = replace(self.position, timeline=system.timeline)
        self.position = self._at(start, self.position.lsn)
        self._confirmations.add(self.position.lsn, time.monotonic())

    def _read(self) -> None:
        try:
            self._stream.run(self._idle, lambda: self.queue.is_closed)
            failure: Exception = TransientError(PEER, "the source has been closed")
        except Exception as error:  # told to whoever reads, whatever it is
            failure = self._explained(error)
        self.queue.fail(failure)

    def _explained(self, error: Exception) -> Exception:
        """Return what an end of the stream means: before PostgreSQL 18, a place in the log where
        there was no publication can never be read."""
        if state_of(error) != MISSING_OBJECT:
            return error
        try:
            found = publication.find(self._queries.ask, self._address.publication)
        except ProjectorError as another:
            return another
        return error if found is None else PositionLostError(_CHANGED)

    def _idle(self) -> float:
        """Nothing is left to read: hand out what has come, or tell that the log has moved. Return
        how long to wait for more."""
        now = time.monotonic()
        if now - self._looked_at >= min(_LOOK_EVERY_S, self._address.heartbeat_s):
            self._looked_at = now
            self._look()
        self._is_idle = True
        self._assembler.flush()
        self._is_idle = False
        end = max(self._stream.server_end, self.position.lsn)
        is_due = now - self._beat_at >= self._address.heartbeat_s
        is_due |= end > self.position.lsn and now - self._put_at >= _MOVED_S
        if not self._assembler.is_open and is_due and self.queue.is_empty():
            self._beat_at = now
            self._put(Piece(end_lsn=end), is_head=end >= self._flushed)
        wait_s = self._address.heartbeat_s
        return min(wait_s, _MOVED_S) if end > self.position.lsn else wait_s

    def _look(self) -> None:
        [[text, end, marks, digest]] = self._queries.ask(self._question)
        if marks != self._marks:
            raise PositionLostError(_CHANGED)
        self._tell(self._redefine(digest))
        shown = Snapshot.parse(text)
        self._published = shown.xmin
        self._visibility.shown(shown)
        self._flushed = parse_lsn(end)
        now = time.monotonic()
        if now - self._figured_at >= _FIGURES_EVERY_S:
            self._figured_at = now
            figures.show(self._queries, self._address.slot)

    def _redefine(self, digest: str) -> list[TableName]:
        """Compare the definitions; return the tables that changed without the stream's telling."""
        changed = self._seen.look(self._queries.ask, digest)
        self._assembler.owners = self._seen.owners
        return changed

    def _tell(self, tables: Iterable[TableName]) -> None:
        """Write a message into the log for each table that has changed. So every projection reads
        it at a place after the change, and reads it again after a crash."""
        for table in tables:
            told = f"true, {quoted(DDL_PREFIX)}, {quoted(str(table))}"
            self._queries.ask(f"SELECT pg_logical_emit_message({told})")

    def _emit(self, piece: Piece) -> None:
        self._visibility.streamed(piece.xids)
        count, now = len(self._visibility.unseen), time.monotonic()
        is_late = count > _UNSEEN_SOME and now - self._shown_at >= _UNSEEN_S
        if count > _UNSEEN_MOST or is_late:
            self._shown_at = now
            self._visibility.shown(slot.snapshot(self._queries))
        is_whole = piece.end_lsn is not None
        self._put(piece, is_head=is_whole and self._is_idle and self._is_end(piece.end_lsn or 0))

    def _is_end(self, lsn: int) -> bool:
        return lsn >= self._flushed and not self._assembler.is_open

    def _put(self, piece: Piece, *, is_head: bool) -> None:
        self._put_at = time.monotonic()
        is_whole = piece.end_lsn is not None
        place = self._at(self.position, piece.end_lsn or self.position.lsn)
        if is_whole:
            self.position = place
        entry = Transactions(
            piece.changes, piece.count, place if is_whole else None, place,
            piece.commit_times, is_head,
        )  # fmt: skip
        self.queue.put(entry, piece.rows, piece.size_bytes, self._stream.send_status)

    def _at(self, position: PostgresPosition, lsn: int) -> PostgresPosition:
        visibility = self._visibility
        return replace(
            position, lsn=lsn, unseen=visibility.unseen, seen=visibility.seen,
            published=self._published, defined=self._seen.text,
        )  # fmt: skip


def _widened(watch: Watch, unsent: Mapping[str, frozenset[str]]) -> Watch:
    """Watch what columns are computed from that the stream leaves out."""
    bases = {base for name in watch.columns for base in unsent.get(name, ())}
    read = {base for name in watch.read for base in unsent.get(name, ())}
    return replace(watch, bases=tuple(sorted(bases)), read=watch.read - unsent.keys() | read)


def _without(shape: Shape, generated: Collection[str]) -> Shape:
    return tuple(column for column in shape if column[0] not in generated)


def _written_end(session: Session) -> int:
    """Return the end of what is written, also of what is not flushed: with synchronous_commit=off
    it can be seen already. At the beginning of a page, which has a head, it is the end of the last
    record that is meant."""
    [[lsn, page, segment]] = session.ask(
        "SELECT pg_current_wal_insert_lsn(), current_setting('wal_block_size'),"
        " pg_size_bytes(current_setting('wal_segment_size'))"
    )
    end = parse_lsn(lsn)
    head = _LONG_HEAD if end % int(segment) == _LONG_HEAD else _SHORT_HEAD
    return end - head if end % int(page) == head else end


_SHORT_HEAD, _LONG_HEAD = 24, 40  # src/include/access/xlog_internal.h
