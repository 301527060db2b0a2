"""Life: standby, leadership, the loop, retries, a clean stop.

The only place with a broad view of failures: transient ones are retried here with backoff and
jitter, and nowhere else. Never writes without the lease; a lost lease or a store that is not the
one known ends the term, and the next begins from what the store says.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from sqlalchemy.engine import Engine

from projector import metrics
from projector.cascade import foreign_keys, hidden, logs_actions, with_parents
from projector.database import Connection
from projector.debt import REQUESTED
from projector.errors import (
    ExitCode,
    FencedError,
    OperatorError,
    PositionLostError,
    RefusedError,
    TransientError,
)
from projector.generated import generated, with_bases
from projector.health import Health, Resync, State
from projector.lane import BUILDS, Knowledge, Lane
from projector.logs import BatchLog
from projector.model import RowsChange, TableChange, Transactions, Watch
from projector.portion import Portions
from projector.ports import Sink, Source
from projector.position import Position
from projector.projection import Plan
from projector.reconcile import BACKGROUND
from projector.settings import Settings
from projector.waiting import GIVE_UP_S, Terms, Waitings

_IDLE_WAIT_S = 0.5
_WALKING_WAIT_S = 0.05  # a chunk that has been read wakes the loop
_REQUESTS_EVERY_S = 0.5
_WORKED_S = 10.0  # a term that lasted so long was none in vain
_REDIS_EVERY_S = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the daemon works with; made by the command line."""

    plans: Sequence[Plan]
    sinks: Sequence[Sink]  # one a plan, in the same order
    source: Source
    engine: Engine


class Daemon:
    """One process: at most one at a time writes, the others stand by."""

    def __init__(self, settings: Settings, parts: Parts, health: Health) -> None:
        self._settings = settings
        self._parts = parts
        self._health = health
        self._stop = threading.Event()
        self._fenced = threading.Event()
        self._is_altered = threading.Event()
        self._target: Position | None = None
        self._log = BatchLog()
        self._redis_asked_at = float("-inf")
        self._schema = settings.mysql.parsed_url.database or ""
        self._watches: list[Watch] = []
        self._learned_at: Position | None = None
        self._portions = {plan.name: Portions.of(settings) for plan in parts.plans}
        self._waitings = Waitings(health, self._is_ending)
        self._terms = Terms(health)
        self._has_worked = False  # in this term
        self._is_redefined = False  # a watched table's definition changed: learn the keys anew,
        self._is_whole = True  # but not within a transaction, which the next term would meet again

    def stop(self) -> None:
        """End soon, after the batch under way. Safe to call from a signal handler."""
        self._stop.set()

    def abandon(self) -> None:
        """Give the leases up, from another thread: the loop hangs, and the process ends now."""
        for sink in self._parts.sinks:
            try:
                sink.release()
            except TransientError:
                return  # they run out by themselves

    def run(self, *, until_current: bool = False, resync: bool = False) -> ExitCode:
        """Work until stopped. Raises OperatorError when only an operator can help."""
        self._waitings.give_up_s = self._terms.give_up_s = GIVE_UP_S if until_current else math.inf
        while not self._stop.is_set():
            began, self._has_worked = time.monotonic(), False
            try:
                if until_current and self._target is None:
                    self._target = self._parts.source.current()
                if not self._acquire():
                    continue
                try:
                    self._lead(resync)
                    resync = False
                finally:
                    self._resign()
                if until_current and not (self._stop.is_set() or self._is_redefined):
                    break
            except (TransientError, RefusedError) as error:
                if self._stop.is_set():
                    break
                has_worked = self._has_worked or time.monotonic() - began > _WORKED_S
                self._stop.wait(self._terms.failed(error, has_worked=has_worked))
            except PositionLostError as error:  # while reading: the next start decides
                self._health.failed("position_lost", str(error))
                self._stop.wait(0.2)
            except FencedError as error:
                self._health.failed("fenced", str(error))
                self._stop.wait(0.2)
        self._health.update(state=State.STOPPED)
        return ExitCode.OK

    def _acquire(self) -> bool:
        """Take the leases of all projections, or none; wait a little when another has one."""
        for index, sink in enumerate(self._parts.sinks):
            if not sink.acquire():
                for held in self._parts.sinks[:index]:
                    held.release()
                self._health.update(state=State.STANDBY, redis_up=True)
                self._health.progress()
                self._health.sample()
                self._stop.wait(min(0.5, self._settings.redis.lease_ttl_s / 4))
                return False
        return True

    def _resign(self) -> None:
        self._parts.source.close()
        self._health.update(state=State.STOPPING if self._stop.is_set() else State.STANDBY)
        for sink in self._parts.sinks:
            try:
                sink.release()
            except TransientError as error:  # it runs out by itself
                log.warning("lease_not_released", error=str(error))

    def _lead(self, resync: bool) -> None:
        """One term of leadership."""
        self._fenced.clear()
        term_over = threading.Event()
        keeper = threading.Thread(target=self._keep_leases, args=(term_over,), daemon=True)
        keeper.start()
        lanes: list[Lane] = []
        try:
            known = self._learn()
            for plan, sink in zip(self._parts.plans, self._parts.sinks, strict=True):
                lanes.append(self._lane(plan, sink, known))
            self._begin(lanes, resync)
            self._loop(lanes)
        finally:
            term_over.set()
            for lane in lanes:
                lane.close()
            keeper.join(self._settings.redis.timeout_s)

    def _lane(self, plan: Plan, sink: Sink, known: Knowledge) -> Lane:
        return Lane(
            plan, sink, self._parts.engine, self._settings, known,
            self._is_ending, self._parts.source.visible_end, self._parts.source.wake,
            self._portions[plan.name], self._health,
        )  # fmt: skip

    def _learn(self) -> Knowledge:
        """Read foreign keys and generated columns; watch the tables of the projections, hidden
        keys' parents, and what generated columns are computed from."""
        self._learned_at = self._parts.source.current()
        connection = Connection(self._parts.engine, self._health.progress)
        try:
            [[[folds]]] = connection.query("SELECT @@lower_case_table_names")
            for plan in self._parts.plans:
                plan.folds_names = int(folds) != 0
            tables = {w.table for p in self._parts.plans for w in p.watches(self._schema)}
            keys = foreign_keys(connection, tables, folds_names=int(folds) != 0)
            parents = {key.parent for key in keys.known}
            computed = generated(connection, sorted(tables | parents))
            are_logged = logs_actions(connection)
        finally:
            connection.close()
        wanted = [Watch(t, (), frozenset(), is_read=False, keys_unseen=True) for t in keys.unseen]
        for plan in self._parts.plans:
            found = hidden(keys.known, plan, self._schema, computed)
            wanted += with_parents(plan.watches(self._schema), found, keys.known)
        self._watches = [with_bases(w, computed.get(w.table, {})) for w in merged(wanted)]
        self._is_redefined = False
        return Knowledge(self._watches, keys.known, computed, are_logged)

    def _is_ending(self) -> bool:
        return self._stop.is_set() or self._fenced.is_set()

    def _keep_leases(self, term_over: threading.Event) -> None:
        """Renew the leases; beside the loop, which may wait long for a commit to show."""
        is_over = False  # at once, too: a term may end before its first quarter
        while not is_over:
            report = self._report()
            for sink in self._parts.sinks:
                try:
                    lease = sink.renew(report)
                except TransientError:
                    continue  # the loop meets the same failure; the lease may outlast it
                if not lease.held:
                    self._fenced.set()
                    return
                if not lease.intact:
                    self._is_altered.set()
            is_over = term_over.wait(self._settings.redis.lease_ttl_s / 4)

    def _report(self) -> str:
        """Say what `projector status` cannot see in the store."""
        now = self._health.snapshot()
        lag_s = None if now.lag_s is None else round(now.lag_s, 1)
        return json.dumps(
            {
                "lag_s": lag_s,
                "last_error": now.last_error,
                "last_error_at": now.last_error_at,
                "waiting_for": now.waiting_for,
            }
        )

    def _begin(self, lanes: Sequence[Lane], resync: bool) -> None:
        """Find where to go on, or take a position and owe the build; then start reading."""
        source = self._parts.source
        checkpoints = [lane.sink.load() for lane in lanes]
        known = [c.position for c in checkpoints if c is not None]
        fresh: Position | None = None
        if len(known) < len(lanes):
            fresh = source.current()
        start = earliest(known) if known else fresh
        assert start is not None
        try:
            source.start(start, self._watches)
        except PositionLostError as error:
            fresh = self._start_anew(error)
            checkpoints = [None] * len(lanes)
            reason = "position_lost"
        else:
            reason = "initial_build"
        for lane, found in zip(lanes, checkpoints, strict=True):
            if found is None:
                assert fresh is not None
                lane.open(lane.first(fresh, reason))
            else:
                lane.open(found)
            if resync:
                lane.owe_all(REQUESTED)
        self._health.update(
            state=State.CATCHING_UP,
            projections=tuple(lane.plan.name for lane in lanes),
            mysql_up=True,
            redis_up=True,
            epoch=lanes[0].sink.epoch,
            committed_at=lanes[0].pipeline.known.checkpoint.committed_at,
        )

    def _start_anew(self, error: PositionLostError) -> Position:
        if self._settings.mysql.on_position_lost == "stop":
            raise OperatorError(
                f"the binlog cannot be read on from the checkpoint: {error}",
                "Run it once with PROJECTOR_MYSQL__ON_POSITION_LOST=resync.",
            ) from error
        log.warning("position_lost", error=str(error))
        fresh = self._parts.source.current()
        try:
            self._parts.source.start(fresh, self._watches)
        except PositionLostError as again:
            raise TransientError("mysql", f"the log moved on at once: {again}") from again
        return fresh

    def _loop(self, lanes: Sequence[Lane]) -> None:
        asked_at = 0.0
        while not self._stop.is_set():
            if self._fenced.is_set():
                raise FencedError("the lease was lost")
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
            if self._is_current(lanes) or (self._is_redefined and self._is_whole):
                break
        for lane in lanes:
            lane.pipeline.flush()

    def _apply(self, lanes: Sequence[Lane], transactions: Transactions) -> None:
        began = time.perf_counter()
        changes = count(transactions)
        times = transactions.commit_times
        if times:
            self._health.received(times[0])
        self._is_whole = transactions.position is not None
        if any(isinstance(change, TableChange) for change in transactions.changes):
            self._is_redefined |= not self._is_learned(transactions.barrier)
        for lane in lanes:
            position = transactions.position
            if position is None or not lane.is_beyond(position):
                # Again and again, with the lease in hand: nothing behind it may be applied before.
                step = partial(lane.pipeline.step, transactions)
                self._waitings.insist(f"{lane.plan.name} changes", step)
                self._has_worked |= bool(transactions.changes)
        if transactions.position is None:
            return  # the transaction goes on
        server_now = time.time() + self._parts.source.clock_offset_s
        for committed_at in times:
            metrics.commit_to_redis.observe(max(0.0, server_now - committed_at))
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
        try:
            return self._learned_at.reaches(position)
        except ValueError:  # another server behind the address since
            return False

    def _attend(self, lanes: Sequence[Lane]) -> None:
        """Now and then: requests, tampering, checkpoints of idle times, figures."""
        is_altered = self._is_altered.is_set()
        self._is_altered.clear()
        for lane in lanes:
            lane.answer_requests()
            lane.check_hash(is_intact=not is_altered)
            lane.pipeline.flush()
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

    def _show(self, lanes: Sequence[Lane]) -> None:
        """Tell health what is known; at most of the first projection where only one can be."""
        debts = [debt for lane in lanes for key, debt in lane.pipeline.known.debts.items()
                 if key not in BACKGROUND]  # fmt: skip
        metrics.debts.set(len(debts))
        whole = [debt for debt in debts if debt.scope == "all"]
        resync = None
        if whole:
            done = sum(debt.done for debt in whole)
            elapsed = time.time() - min(debt.started_at for debt in whole)
            resync = Resync(
                whole[0].reason, done, sum(debt.total for debt in whole),
                done / elapsed if elapsed > 0 else 0.0,
            )  # fmt: skip
        owed = [debt.started_at for debt in debts if debt.started_at]
        building = any(debt.reason in BUILDS for debt in whole)
        state = self._health.snapshot().state
        if building:
            state = State.BUILDING
        elif state is State.BUILDING:
            state = State.CATCHING_UP
        self._health.update(
            state=state,
            checkpoint=str(lanes[0].pipeline.position),
            owed_since=min(owed) if owed else None,
            resync=resync,
        )
        self._health.sample()

    def _is_current(self, lanes: Sequence[Lane]) -> bool:
        return self._target is not None and all(
            lane.pipeline.position.reaches(self._target) and lane.walker.is_idle for lane in lanes
        )


def merged(watches: Sequence[Watch]) -> list[Watch]:
    """Join what several projections want of the same table."""
    by_table: dict[object, Watch] = {}
    for watch in watches:
        known = by_table.get(watch.table, watch)
        columns = tuple(dict.fromkeys([*known.columns, *watch.columns]))
        by_table[watch.table] = Watch(
            watch.table,
            columns,
            known.read | watch.read,
            is_read=known.is_read or watch.is_read,
            keys_unseen=known.keys_unseen or watch.keys_unseen,
        )
    return list(by_table.values())


def earliest(positions: Sequence[Position]) -> Position:
    """Give the position that all others reach."""
    first = positions[0]
    for position in positions[1:]:
        if first.reaches(position):
            first = position
    return first


def count(transactions: Transactions) -> int:
    """Count what was read; give the number of row changes."""
    metrics.transactions.inc(transactions.count)
    changes = 0
    for change in transactions.changes:
        if isinstance(change, RowsChange):
            metrics.row_changes.labels(change.table.name, change.kind).inc(change.row_count)
            changes += change.row_count
    return changes
