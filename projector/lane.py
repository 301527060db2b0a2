"""One projection under one lease: its pipeline, its walks, its answers to requests.

Created again for every term of leadership, so that nothing is remembered from before a lost lease.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import reduce
from typing import Any, Protocol

import structlog

from projector import metrics
from projector.debt import (
    ALL,
    DOUBTED,
    GREW,
    NO_LAG,
    ORPHANS,
    REPAIR,
    REQUESTED,
    Debt,
    full,
    ids_debt,
    read_request,
    route_debt,
    usable,
)
from projector.due import Due
from projector.errors import OperatorError
from projector.fetch import Fetched, Fetcher
from projector.model import (
    Batch,
    Checkpoint,
    Damage,
    Differences,
    KeyByTable,
    Need,
    Reason,
    Transactions,
)
from projector.pipeline import Limits, Pipeline, StoredState
from projector.portion import Portions
from projector.ports import Database, Knowledge, Patience, Reader, Sink
from projector.position import Position, later
from projector.projection import Plan
from projector.reconcile import BACKGROUND, ChunkReader, Walker
from projector.resume import Ahead
from projector.route import Router
from projector.settings import Settings
from projector.views import Lists, is_bare, views_of

_READERS = 2  # threads that read chunks, and as many that read for the tail

# Until these walks are done, documents that exist in the database may be missing in the hash.
BUILDS = frozenset({"initial_build", "position_lost", "hash_changed"})

# Others write to the hash, perhaps without end: a look for what they wrote is followed by a rest.
_GREW_REST_S = 10.0
_GREW_REST_RATIO = 4.0  # of the time that the look took

log = structlog.get_logger()


class Listener(Protocol):
    """Who is told how it goes: `health.Health`."""

    def progress(self) -> None:
        """A server has answered."""

    def waits(self, who: str, cause: str | None) -> None:
        """Somebody waits for something; None: no longer."""

    def event(self, text: str, level: str = "info", **facts: Any) -> None:
        """Something worth telling has happened."""


class _Nobody:
    def progress(self) -> None:
        pass

    def waits(self, who: str, cause: str | None) -> None:
        pass

    def event(self, text: str, level: str = "info", **facts: Any) -> None:
        pass


class Lane:
    """A projection in work. Raises what sink and fetcher raise."""

    def __init__(
        self,
        plan: Plan,
        sink: Sink,
        database: Database,
        settings: Settings,
        known: Knowledge,
        is_stopping: Callable[[], bool],
        log_end: Callable[[], Position],
        wake: Callable[[], None],
        portions: Portions | None = None,
        listener: Listener | None = None,
    ) -> None:
        self._portions = portions or Portions.of(settings)
        self._listener = listener or _Nobody()
        self.plan = plan
        self.sink = sink
        self._database = database
        self._settings = settings
        self._known = known
        self._is_stopping = is_stopping
        self._log_end = log_end
        self._wake = wake
        self._rest_until = 0.0  # no look for orphans before
        self._schema = settings.database.default_schema
        self._executor = ThreadPoolExecutor(_READERS, thread_name_prefix="walk")
        self._ahead = ThreadPoolExecutor(_READERS, thread_name_prefix="fetch")
        self._local = threading.local()
        self._readers: Callable[[], Reader] | None = None
        self._fetchers: list[Fetcher] = []
        self._walker: Walker | None = None
        self._pipeline: Pipeline | None = None
        self._ahead_of: Ahead | None = None

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline; only after `open`."""
        assert self._pipeline is not None
        return self._pipeline

    @property
    def walker(self) -> Walker:
        """The walks; only after `open`."""
        assert self._walker is not None
        return self._walker

    def open(
        self, checkpoint: Checkpoint, start: Position | None = None, end: Position | None = None
    ) -> None:
        """Begin to work from a checkpoint. `start`: where the stream begins, if before it; `end`:
        of the log by now, if that is known."""
        self._ahead_of = Ahead(checkpoint.position, start or checkpoint.position)
        patience = Patience(self._is_stopping, on_wait=self._say_wait)
        self._readers = self._database.readers(
            checkpoint.position, self._keys(), patience, self._listener.progress
        )
        debts, unusable = usable(checkpoint.debts, self.plan, checkpoint.position.parse)
        known = StoredState(
            checkpoint, debts, set(self.sink.quarantined()), damage=checkpoint.damage,
            are_lists_lost=checkpoint.are_lists_lost,
        )  # fmt: skip
        metrics.quarantined.labels(self.plan.name).set(len(known.quarantine))
        metrics.documents.labels(self.plan.name).set(checkpoint.documents)
        router = Router(self.plan, self._schema, self._known.watches)
        recent = self._portions.recent
        limits = Limits(self._portions.tail, self._settings.fanout_max_documents, recent)
        self._pipeline = Pipeline(
            self.plan, router, self._fetcher(), self.sink, limits, known,
            lambda ids, need: self._ahead.submit(self._read, ids, need),
        )  # fmt: skip
        # The checkpoint may be another server's: what its place is here nobody knows.
        self._pipeline.barrier = end or checkpoint.position
        reader = ChunkReader(
            self.sink, self._thread_fetcher, self._portions, self._log_end,
            is_timed=bool(self.plan.views.timed),
        )  # fmt: skip
        self.lists = Lists(self.plan, self.sink, self._pipeline, self._full)
        self._due = Due(self.plan, self.sink, self._pipeline)
        self._walker = Walker(
            self._pipeline,
            reader,
            self._executor,
            self._settings.reconcile.scrub_interval_s,
            self._report,
            self._wake,
            self._note_end,
        )
        self._check_fingerprint()
        self._forgive(unusable)
        self.lists.check_views()

    def first(
        self,
        position: Position,
        reason: str,
        covered: Collection[str] = frozenset(),
        barrier: Position | None = None,
    ) -> Checkpoint:
        """Write a checkpoint with everything owed: the start of a build. `covered`: debts that are
        thereby struck off, `barrier`: of their causes."""
        metrics.recoveries.labels(reason, self.plan.name).inc()
        self._listener.event("resync_needed", projection=self.plan.name, reason=reason)
        is_empty = is_bare(self.sink)
        barrier = later(position, barrier)
        debt = replace(self._full(reason), onto_empty=is_empty, barrier=barrier)
        batch = Batch(
            {}, frozenset(), Reason.RESYNC, position=position,
            fingerprint=self.plan.fingerprint, committed_at=time.time(),
            debts={**dict.fromkeys(covered), ALL: debt.to_json()},
            views=views_of(self.plan, self.sink),
        )  # fmt: skip
        return self.sink.apply(batch).checkpoint

    def doubt(self, crash_loss_s: float) -> None:
        """Owe what was done in the last seconds of the term before: what was seen then may be gone
        with a crash of the database, and no log tells."""
        recent = self._portions.recent
        recent.keep_s = crash_loss_s
        owed = [route_debt(name, values) for name, values in recent.look_ups().items()]
        if ids := recent.ids():
            owed.append(ids_debt(ids, DOUBTED))
        if owed:
            self.pipeline.owe(dict(owed))

    def owe_all(self, reason: str, requests_done: frozenset[str] = frozenset()) -> None:
        """Ask for a walk over everything. One that has not begun serves all who ask; to one under
        way a round is added, for who asks wants every document made after that."""
        is_fresh = ALL in self.pipeline.known.debts and not self.walker.has_begun(ALL)
        if reason == REQUESTED and is_fresh:
            self.pipeline.owe({}, requests_done)
            return
        self._listener.event("resync_needed", projection=self.plan.name, reason=reason)
        self.pipeline.owe({ALL: self._full(reason)}, requests_done)

    def answer_requests(self) -> None:
        """Take up what the command line asked for."""
        for key, text in self.sink.requests().items():
            done = frozenset({key})
            match read_request(text):
                case ("resync", [], _):
                    self.owe_all(REQUESTED, done)
                case ("resync", ids, reason):
                    debt_key, debt = ids_debt(ids, reason)
                    self.pipeline.owe({debt_key: debt}, done)
                case ("lists", _, _):
                    self.lists.owe(REPAIR, done)
                case ("cancel", _, _):
                    self._cancel(done)
                case _:
                    log.warning("request_unreadable", projection=self.plan.name)
                    self.pipeline.owe({}, done)

    def check_hash(self, damage: Damage = Damage.NONE) -> None:
        """Owe what makes good that others changed the hash."""
        known = self.pipeline.known
        match known.damage.and_then(damage):
            case Damage.NONE:
                return
            case Damage.GREW if ORPHANS in known.debts or time.monotonic() < self._rest_until:
                known.damage = Damage.GREW  # not sooner again, or it would never end
                return
            case Damage.GREW:
                debt = Debt("all", GREW, phase="orphans", started_at=time.time())
                self._recover(GREW)
                self.pipeline.owe({ORPHANS: debt})
            case Damage.LOST:
                self._make_good()
        known.damage = Damage.NONE

    def _make_good(self) -> None:
        known = self.pipeline.known
        strangers = self.sink.debts().keys() - known.debts.keys()
        if strangers:
            self.pipeline.owe({}, struck=strangers)
        if ALL not in known.debts or known.debts[ALL].reason == REQUESTED:  # it may be cancelled
            self._recover("hash_changed")
            self.owe_all("hash_changed")

    def step(self, transactions: Transactions) -> None:
        """Apply transactions, but for those that were done before the term began. How far they go
        their barrier tells: while one is prepared, their position stays before that."""
        assert self._ahead_of is not None
        is_whole = transactions.position is not None
        if is_whole and self._ahead_of.has_done(transactions.barrier):
            self.pipeline.skip(transactions)
        else:
            self.pipeline.step(transactions)

    def _recover(self, reason: str) -> None:
        metrics.recoveries.labels(reason, self.plan.name).inc()
        log.warning(reason, projection=self.plan.name)

    def _note_end(self, key: str, debt: Debt) -> None:
        """A walk has ended."""
        took = max(0.0, time.time() - debt.started_at)
        if key == ORPHANS:
            self._settle_growth(debt.removed)
            self._rest_until = time.monotonic() + max(_GREW_REST_S, _GREW_REST_RATIO * took)
        if key == ALL:
            self._listener.event(
                "resync_done", projection=self.plan.name, reason=debt.reason,
                written=debt.written, removed=debt.removed, seconds=round(took, 1),
            )  # fmt: skip

    def _settle_growth(self, removed: int) -> None:
        """Compare the orphans found with the growth: where there were more, as many documents of
        ours are missing."""
        known = self.pipeline.known
        if removed > known.strangers:
            known.damage = Damage.LOST
        known.strangers = max(0, known.strangers - removed)

    @property
    def is_building(self) -> bool:
        """Whether documents that exist in the database may be missing in the hash."""
        walk = self.walk()
        return walk is not None and walk.reason in BUILDS

    def walk(self) -> Debt | None:
        """Return the walk over everything that is owed, if any."""
        return self.pipeline.known.debts.get(ALL)

    def owed_since(self) -> float | None:
        """Return when the oldest work was put off that commits wait for. What somebody asked for,
        and what strangers did to the hash, is no lag."""
        debts = self.pipeline.known.debts
        since = [
            debt.started_at for key, debt in debts.items()
            if key not in BACKGROUND and debt.reason not in NO_LAG and debt.started_at
        ]  # fmt: skip
        return min(since, default=None)

    def show(self) -> None:
        """Set the gauges of this projection."""
        name, known, walk = self.plan.name, self.pipeline.known, self.walk()
        metrics.debts.labels(name).set(len(known.debts.keys() - BACKGROUND))
        metrics.checkpoint_timestamp.labels(name).set(known.checkpoint.committed_at)
        metrics.resync_running.labels(name).set(walk is not None)
        if walk is not None:
            metrics.resync_progress.labels(name).set(
                min(1.0, walk.done / walk.total) if walk.total else 0.0
            )

    def turn(self, lag_s: float) -> bool:
        """Do a little of what is not the tail's. True when a walk got on."""
        self._due.turn()
        return self.walker.turn(lag_s, self._settings.reconcile.yield_at_lag_s)

    def close(self) -> None:
        """Free threads and connections."""
        if self._walker is not None:
            self._walker.close()
        if self._pipeline is not None:
            self._pipeline.close()
        for executor in (self._executor, self._ahead):
            executor.shutdown(wait=False, cancel_futures=True)
        for fetcher in self._fetchers:
            fetcher.close()

    def _check_fingerprint(self) -> None:
        known = self.pipeline.known
        if known.checkpoint.fingerprint == self.plan.fingerprint:
            return
        if self._settings.reconcile.on_projection_change == "stop":
            raise OperatorError(
                f"the documents of {self.plan.name} were made by another projection",
                "Set PROJECTOR_RECONCILE__ON_PROJECTION_CHANGE=resync for one run, or go back to"
                " the other projection.",
            )
        # What another projection put off, or its place in a walk, means nothing to this one.
        barrier = reduce(later, (debt.barrier for debt in known.debts.values()), None)
        position = known.checkpoint.position
        covered = known.checkpoint.debts.keys()
        known.checkpoint = self.first(position, "projection_changed", covered, barrier)
        known.debts = {ALL: Debt.from_json(known.checkpoint.debts[ALL], position.parse)}

    def _forgive(self, unusable: Collection[str]) -> None:
        """Replace debts that nobody can read by a walk over everything."""
        struck = [key for key in unusable if key in self.pipeline.known.checkpoint.debts]
        if not struck:
            return
        log.warning("record_unreadable", key=f"{{{self.plan.name}}}:debts", records=len(struck))
        metrics.recoveries.labels("debts_unreadable", self.plan.name).inc()
        debt = replace(self._full("debts_unreadable"), barrier=self.pipeline.barrier)
        self.pipeline.owe({ALL: debt}, struck=struck)

    def _cancel(self, done: frozenset[str]) -> None:
        debts = self.pipeline.known.debts
        left: dict[str, Debt | None] = {k: None for k, d in debts.items() if d.reason == REQUESTED}
        if ALL in left:
            self._listener.event("resync_cancelled", projection=self.plan.name)
        elif ALL in debts and debts[ALL].again == REQUESTED:
            left[ALL] = replace(debts[ALL], again="")
        is_over = ALL in left and left[ALL] is None
        self.pipeline.strike(left, done, {"state": "cancelled"} if is_over else {})

    def _full(self, reason: str) -> Debt:
        return replace(full(reason), total=self._count(), started_at=time.time())

    def _count(self) -> int:
        return self._database.count(self.plan.count_query(None))

    def _fetcher(self) -> Fetcher:
        assert self._readers is not None
        fetcher = Fetcher(self.plan, self._readers())
        self._fetchers.append(fetcher)
        return fetcher

    def _read(self, ids: Sequence[str], need: Need) -> Fetched:
        return self._thread_fetcher().documents(ids, need)

    def _thread_fetcher(self) -> Fetcher:
        """Each thread reads over a connection of its own."""
        if not hasattr(self._local, "fetcher"):
            self._local.fetcher = self._fetcher()
        fetcher: Fetcher = self._local.fetcher
        return fetcher

    def _say_wait(self, cause: str | None) -> None:
        self._listener.waits(f"{self.plan.name} at the barrier", cause)

    def _keys(self) -> KeyByTable:
        place = {w.table: {c: i for i, c in enumerate(w.columns)} for w in self._known.watches}
        return {
            self.plan.table_name(node, self._schema): tuple(
                (place[self.plan.table_name(node, self._schema)][c.name], c.name) for c in node.key
            )
            for node in self.plan.all_nodes()
        }

    def _report(self, found: Differences) -> None:
        """The scrub found differences: somebody's mistake, so say it loudly."""
        for kind in ("missing", "stale", "orphan"):
            count = len(getattr(found, kind))
            metrics.scrub_differences.labels(kind, self.plan.name).inc(count)
        log.error(
            "scrub_found_differences", projection=self.plan.name, missing=len(found.missing),
            stale=len(found.stale), orphan=len(found.orphan),
        )  # fmt: skip
