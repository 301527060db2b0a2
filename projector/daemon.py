"""Life: standby, leadership, the loop, retries, a clean stop.

The only place with a broad view of failures: transient ones are retried here with backoff and
jitter, and nowhere else. Never writes without the lease of the projection; a lost lease or a store
that is not the one known ends the term, and the next begins from what the store says. A term is one
reading of the log for the projections whose leases are held; leases outlast it, unless it failed.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

import structlog

from projector import metrics
from projector.debt import REQUESTED, Debt
from projector.errors import (
    ExitCode,
    FencedError,
    OperatorError,
    PositionLostError,
    RefusedError,
    TransientError,
)
from projector.lane import Lane
from projector.leases import Leases
from projector.logs import BatchLog
from projector.model import Change, Damage, Kind, RowsChange, TableChange, Transactions
from projector.portion import Portions
from projector.ports import Database, Knowledge, Patience, Sink, Source
from projector.position import Position
from projector.projection import Plan
from projector.resume import Resume, decide, refused
from projector.service.health import Health, Resync, State
from projector.settings import Settings
from projector.variables import variable
from projector.waiting import GIVE_UP_S, Terms, Waitings

_IDLE_WAIT_S = 0.5
_WALKING_WAIT_S = 0.05  # a chunk that has been read wakes the loop
_REQUESTS_EVERY_S = 0.5
_WORKED_S = 10.0  # a term that lasted so long was none in vain
_BETWEEN_TERMS_S = 0.2  # after one that failed
_STANDBY_S = 0.5
_REDIS_EVERY_S = 10.0
_LEARNING = "definitions"  # who waits
_DEFINITIONS = frozenset({"alter", "drop", "rename"})  # of `TableChange.reason`

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Adapters:
    """What the daemon works with; made by the command line."""

    plans: Sequence[Plan]
    sinks: Sequence[Sink]  # one a plan, in the same order
    source: Source
    database: Database


class _End(Enum):
    """How a term ends: for good, or for one with other projections or definitions."""

    DONE = "done"
    ANOTHER = "another"


class Daemon:
    """One process: at most one at a time writes, the others stand by."""

    def __init__(self, settings: Settings, parts: Adapters, health: Health) -> None:
        self._settings = settings
        self._parts = parts
        self._health = health
        self._stop = threading.Event()
        names = [plan.name for plan in parts.plans]
        self._leases = Leases(
            dict(zip(names, parts.sinks, strict=True)), settings.redis.lease_ttl_s, self._report,
            health.failing, health.works,
        )  # fmt: skip
        self._to_resync: set[str] = set()  # whose resync the command line asks for, not yet owed
        self._target: Position | None = None
        self._passed = ""  # where that is beyond the checkpoint: a prepared transaction is pending
        self._log = BatchLog()
        self._redis_asked_at = float("-inf")
        self._known = Knowledge(())
        self._learned_at: Position | None = None
        self._portions = {plan.name: Portions.of(settings) for plan in parts.plans}
        self._waitings = Waitings(health, self._is_ending)
        self._terms = Terms(health)
        self._has_worked = False  # in this term
        self._is_widened = False  # a projection that nobody led can be led from now on
        self._is_redefined = False  # a watched table's definition changed: read the keys again,
        self._is_whole = True  # but not within a transaction, which the next term would meet again

    def stop(self) -> None:
        """End soon, after the batch under way. Safe to call from a signal handler."""
        self._stop.set()

    def abandon(self) -> None:
        """Release the leases, from another thread: the loop hangs, and the process ends now."""
        self._leases.release()

    def run(self, *, until_current: bool = False, resync: bool = False) -> ExitCode:
        """Work until stopped. Raises OperatorError when only an operator can help."""
        self._waitings.give_up_s = self._terms.give_up_s = GIVE_UP_S if until_current else math.inf
        if resync:
            self._to_resync = {plan.name for plan in self._parts.plans}
        while not self._stop.is_set():
            began, self._has_worked = time.monotonic(), False
            try:
                if until_current and self._target is None:
                    self._target = self._parts.source.current()
                if self._lead() and until_current:
                    break
            except (TransientError, RefusedError) as error:
                if self._stop.is_set():
                    break
                has_worked = self._has_worked or time.monotonic() - began > _WORKED_S
                self._stop.wait(self._terms.failed(error, has_worked=has_worked))
            except PositionLostError as error:  # while reading: the next start decides
                self._health.failed("position_lost", str(error))
                self._stop.wait(_BETWEEN_TERMS_S)
        self._health.update(state=State.STOPPED)
        return ExitCode.OK

    def _lead(self) -> bool:
        """Lead the projections whose leases are free, one term after the other; wait a little when
        there is none. True when everything that was to be reached is."""
        try:
            while led := self._leases.acquire():
                self._tell_led(led)
                try:
                    if self._term(led) is _End.DONE:
                        return True
                except FencedError as error:
                    self._health.failed("fenced", str(error))
                    self._stop.wait(_BETWEEN_TERMS_S)
        finally:
            if self._leases.held:
                self._resign()
        self._stand_by()
        return False

    def _stand_by(self) -> None:
        self._tell_led(frozenset())
        self._health.works()  # what failed while this process led is another's now
        leaders = [sink.leader() for sink in self._parts.sinks]
        self._health.update(
            state=State.STANDBY, redis_up=True, leader=max(leaders, key=lambda x: x.age_s or 0.0)
        )
        self._health.progress()
        self._health.sample()
        self._stop.wait(min(_STANDBY_S, self._settings.redis.lease_ttl_s / 4))

    def _resign(self) -> None:
        self._tell_led(frozenset())
        self._health.update(state=State.STOPPING if self._stop.is_set() else State.STANDBY)
        self._leases.release()

    def _tell_led(self, led: frozenset[str]) -> None:
        """What one leader knew of a projection is not the next one's, and no figure for alerts."""
        for plan in self._parts.plans:
            metrics.projection_leader.labels(plan.name).set(plan.name in led)
            if plan.name not in led:
                metrics.forget(plan.name)
        names = [plan.name for plan in self._parts.plans if led and plan.name not in led]
        self._health.update(standby_for=tuple(names))

    def _term(self, led: frozenset[str]) -> _End:
        """One term of leadership."""
        lanes: list[Lane] = []
        try:
            self._learn()
            for plan, sink in zip(self._parts.plans, self._parts.sinks, strict=True):
                if plan.name in led:
                    lanes.append(self._lane(plan, sink))
            self._begin(lanes)
            return self._loop(lanes)
        finally:
            for lane in lanes:
                lane.close()
            self._parts.source.close()

    def _lane(self, plan: Plan, sink: Sink) -> Lane:
        return Lane(
            plan.fitted(self._known.types, self._known.foldings), sink, self._parts.database,
            self._settings, self._known, self._is_ending, self._parts.source.visible_end,
            self._parts.source.wake, self._portions[plan.name], self._health,
        )  # fmt: skip

    def _learn(self) -> bool:
        """Read definitions; True when they are not as they were before."""
        self._learned_at, before = self._parts.source.current(), self._known
        patience = Patience(self._is_ending, on_wait=partial(self._health.waits, _LEARNING))
        self._known = self._parts.source.learn(self._parts.plans, patience)
        self._is_redefined = False
        return self._known != before

    def _is_ending(self) -> bool:
        return self._stop.is_set() or self._leases.are_lost

    def _report(self) -> str:
        """Return what `projector status` cannot see in the store."""
        now = self._health.snapshot()
        lag_s = None if now.lag_s is None else round(now.lag_s, 1)
        return json.dumps(
            {
                "lag_s": lag_s,
                "last_error": now.last_error,
                "last_error_at": now.last_error_at,
                "waiting_for": now.waiting_for,
                "passed": self._passed,
            }
        )

    def _begin(self, lanes: Sequence[Lane]) -> None:
        """Find where to go on, or take a position and owe the build; then start reading."""
        checkpoints = [lane.sink.load() for lane in lanes]
        resumed, start = self._start(lanes, [c.position if c else None for c in checkpoints])
        end, self._passed = self._parts.source.current(), ""
        for lane, found, reason in zip(lanes, checkpoints, resumed.reasons, strict=True):
            begun = found if found and reason is None else lane.first(start, reason or "")
            lane.open(begun, start, end)
            lane.doubt(self._parts.source.crash_loss_s)
            if lane.plan.name in self._to_resync:
                lane.owe_all(REQUESTED)
                self._to_resync.discard(lane.plan.name)
        self._health.update(
            state=State.CATCHING_UP,
            projections=tuple(lane.plan.name for lane in lanes),
            database_up=True,
            redis_up=True,
            epoch=lanes[0].sink.epoch,
            committed_at=lanes[0].pipeline.known.checkpoint.committed_at,
        )

    def _start(
        self, lanes: Sequence[Lane], positions: Sequence[Position | None]
    ) -> tuple[Resume, Position]:
        """Start the stream where the projections can go on; return what was decided, and where."""
        source = self._parts.source
        resumed = decide(positions, source.check)
        while True:
            self._tell_lost(lanes, resumed)
            start = source.begin() if resumed.start is None else resumed.start
            try:
                source.start(start, self._known.watches)
            except PositionLostError as error:
                if resumed.start is None:
                    raise TransientError(
                        self._settings.database.peer, f"the log moved on at once: {error}"
                    ) from error
                resumed = refused(resumed, error, source.check)
            else:
                return resumed, start

    def _tell_lost(self, lanes: Sequence[Lane], resumed: Resume) -> None:
        error = resumed.error
        if error is None:
            return
        if self._settings.database.on_position_lost == "stop":
            section = self._settings.database.section
            raise OperatorError(
                f"the log cannot be read on from the checkpoint: {error}",
                f"Run it once with {variable((section, 'on_position_lost'))}=resync.",
            ) from error
        lost = [
            lane.plan.name
            for lane, reason in zip(lanes, resumed.reasons, strict=True)
            if reason == "position_lost"
        ]
        log.warning("position_lost", error=str(error), projections=lost)

    def _loop(self, lanes: Sequence[Lane]) -> _End:
        asked_at = 0.0
        ending: _End | None = None
        while ending is None:
            if self._leases.are_lost:
                raise FencedError("a lease was lost")
            is_resting = all(lane.walker.is_resting for lane in lanes)
            transactions = self._parts.source.read(_IDLE_WAIT_S if is_resting else _WALKING_WAIT_S)
            if transactions is not None:
                self._apply(lanes, transactions)
            if is_resting and (transactions is None or not transactions.count):
                self._log.flush()
            now = time.monotonic()
            if now - asked_at >= _REQUESTS_EVERY_S:
                asked_at = now
                self._attend(lanes)
            for lane in lanes:
                self._turn(lane)
            self._health.progress()
            ending = self._ending(lanes)
        for lane in lanes:
            lane.pipeline.flush()
        return ending

    def _ending(self, lanes: Sequence[Lane]) -> _End | None:
        """Whether the term ends here, and how."""
        if self._stop.is_set() or self._is_current(lanes):
            return _End.DONE
        if self._is_widened or (self._is_redefined and self._is_whole and self._learn()):
            return _End.ANOTHER
        return None

    def _apply(self, lanes: Sequence[Lane], transactions: Transactions) -> None:
        began = time.perf_counter()
        changes = count(transactions)
        times = transactions.commit_times
        if times:
            self._health.received(times[0])
        self._is_whole = transactions.position is not None
        if any(map(_is_definition, transactions.changes)):
            self._is_redefined |= not self._is_learned(transactions.barrier)
        for lane in lanes:
            # Again and again, with the lease in hand: nothing behind it may be applied before.
            step = partial(lane.step, transactions)
            self._waitings.insist(f"{lane.plan.name} changes", step)
            self._has_worked |= bool(transactions.changes)
        pipeline = lanes[-1].pipeline
        is_held = pipeline.passed != pipeline.position
        self._passed = str(pipeline.passed) if is_held else ""
        if transactions.position is None:
            return  # the transaction goes on
        server_now = time.time() + self._parts.source.clock_offset_s
        metrics.commit_to_redis.observe_all([max(0.0, server_now - at) for at in times])
        if transactions.count:
            self._log.applied(
                {"transactions": transactions.count, "row_changes": changes},
                lag_s=round(max(0.0, server_now - times[-1]), 4) if times else 0.0,
                seconds=round(time.perf_counter() - began, 4),
            )
        self._health.applied(times[-1] if times else None, transactions.is_head, server_now)

    def _turn(self, lane: Lane) -> None:
        """Let one projection's walks go on; those that the database delays begin again later."""
        who, lag_s = f"{lane.plan.name} walk", self._health.tail_lag_s() or 0.0
        self._has_worked |= self._waitings.attempt(
            who, lambda: lane.turn(lag_s), lane.walker.begin_again
        )
        if lane.walker.is_resting:
            self._waitings.end(who)

    def _is_learned(self, position: Position) -> bool:
        """Whether this term's keys were read behind a place in the log. While a prepared
        transaction holds the checkpoint back, each term meets the definitions after it again."""
        assert self._learned_at is not None
        return self._learned_at.surely_reaches(position)

    def _attend(self, lanes: Sequence[Lane]) -> None:
        """Now and then: requests, tampering, checkpoints of idle times, figures."""
        damage, lost_lists = self._leases.damage(), self._leases.lost_lists()
        for lane in lanes:
            lane.answer_requests()
            lane.check_hash(damage.get(lane.plan.name, Damage.NONE))
            lane.lists.check(are_lost=lane.plan.name in lost_lists)
            lane.pipeline.flush()
        self._parts.source.confirm([lane.pipeline.known.checkpoint.position for lane in lanes])
        self._is_widened = self._leases.acquire_free()
        self._ask_redis(lanes)
        self._show(lanes)

    def _ask_redis(self, lanes: Sequence[Lane]) -> None:
        """Refresh what only Redis knows."""
        if time.monotonic() - self._redis_asked_at < _REDIS_EVERY_S:
            return
        self._redis_asked_at = time.monotonic()
        memory, limit = lanes[0].sink.memory()
        metrics.redis_memory.set(memory)
        metrics.redis_memory_limit.set(limit)
        for lane in lanes:
            lane.lists.show()

    def _show(self, lanes: Sequence[Lane]) -> None:
        """Tell health what is known: of all that are led, the worst."""
        for lane in lanes:
            lane.show()
        walks = [walk for lane in lanes if (walk := lane.walk()) is not None]
        owed = [since for lane in lanes if (since := lane.owed_since()) is not None]
        state = self._health.snapshot().state
        if any(lane.is_building for lane in lanes):
            state = State.BUILDING
        elif state is State.BUILDING:
            state = State.CATCHING_UP
        self._health.update(
            state=state,
            checkpoint=str(lanes[0].pipeline.position),
            owed_since=min(owed, default=None),
            resync=_together(walks),
        )
        self._health.sample()

    def _is_current(self, lanes: Sequence[Lane]) -> bool:
        """Whether everything committed before the start is applied. A prepared transaction is not
        committed, and holds only the place to restart from back."""
        if self._target is None:
            return False
        try:
            return all(
                lane.pipeline.passed.reaches(self._target) and lane.walker.is_idle for lane in lanes
            )
        except ValueError:  # another server is behind the address now
            self._target = self._parts.source.current()
            return False


def _is_definition(change: Change) -> bool:
    """Whether foreign keys and generated columns may be others after a change."""
    return isinstance(change, TableChange) and change.reason in _DEFINITIONS


def _together(walks: Sequence[Debt]) -> Resync | None:
    """Several walks over everything, as one for people."""
    if not walks:
        return None
    done = sum(debt.done for debt in walks)
    elapsed = time.time() - min(debt.started_at for debt in walks)
    return Resync(
        walks[0].reason, done, sum(debt.total for debt in walks),
        done / elapsed if elapsed > 0 else 0.0,
    )  # fmt: skip


def count(transactions: Transactions) -> int:
    """Count what was read; give the number of row changes."""
    metrics.transactions.inc(transactions.count)
    found: Counter[tuple[str, Kind]] = Counter()
    for change in transactions.changes:
        if isinstance(change, RowsChange):
            found[change.table.name, change.kind] += change.row_count
    for labels, rows in found.items():
        metrics.row_changes.labels(*labels).inc(rows)
    return found.total()
