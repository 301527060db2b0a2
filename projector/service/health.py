"""What the process is doing, for probes, metrics and people: one place, told by the daemon.

Always cheap and never waits for a server: what reads it gets an answer also when database and Redis
are dead. Health and metrics never disagree, because each number has one home: `Health` alone
writes the gauges lag, state, is_leader, mysql_up, postgres_up and redis_up; all other numbers it
reads from `metrics`. Every event is a log line too, written by the thread that told it, never under
the lock: standard error may be a pipe that nobody reads, and the probes must answer all the same.

Lag is the age of the oldest committed change not yet applied, by the server's clock, so that a
skewed clock here does not show in it:

- while something received is not applied: the age of its first commit;
- 0 if the last word from the source was "nothing more" (`is_head`; an idle server's heartbeats
  say so), not longer than three heartbeats ago, and everything read was applied;
- else the time since the last moment up to which everything was known to be applied, so it grows
  by itself while nothing arrives;
- never less than the age of the oldest work put off (`owed_since`);
- unknown (NaN, None) while this process leads nothing.

The last error is the last one that still matters: all applied and nobody waiting, it is forgotten
(the events keep it).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict, Unpack

import structlog

from projector import metrics
from projector.logs import redact
from projector.model import Leader
from projector.service.outages import Line, Outages, Passing, kind_of
from projector.service.rates import Latency, Rates, Sample

_BEHIND_S = 5.0  # a leader that lags more is catching up; below, lag is a batch or two
_SILENT_HEARTBEATS = 3  # one may be late and one lost before silence means something
_HISTORY = 600  # samples, one a second
_EVENTS = 50
TERM = "term"  # of leadership: who meets what no single reader does

_log = structlog.get_logger(__name__)


class State(StrEnum):
    """What this process is doing."""

    STARTING = "starting"
    STANDBY = "standby"
    BUILDING = "building"
    LEADING = "leading"
    CATCHING_UP = "catching_up"
    STOPPING = "stopping"
    STOPPED = "stopped"

    @property
    def leads(self) -> bool:
        """Whether this process holds the lease in this state."""
        return self in (State.BUILDING, State.LEADING, State.CATCHING_UP)


@dataclass(frozen=True, slots=True)
class Resync:
    """A walk over all documents under way. `rate`: documents a second."""

    reason: str
    done: int
    total: int
    rate: float

    @property
    def ratio(self) -> float:
        """Progress, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at this rate; None when nobody can say."""
        return max(0, self.total - self.done) / self.rate if self.rate > 0 else None


@dataclass(frozen=True, slots=True)
class HealthState:
    """Health at one moment. Times are seconds since the epoch; None: not known (yet).

    `owed_since`: commit time of the oldest work put off. `progress_age_s`: since when the loop has
    not gone round, nor any server answered it. `epoch`: the lease's. `waiting_for`: what keeps
    readers waiting at this moment. `standby_for`: projections that others lead while this process
    leads some. `leader`: who leads while this process stands by.
    """

    state: State
    since: float
    projections: tuple[str, ...] = ()
    standby_for: tuple[str, ...] = ()
    lag_s: float | None = None
    progress_age_s: float = 0.0
    database: str = "MySQL"
    database_up: bool | None = None
    redis_up: bool | None = None
    epoch: int | None = None
    checkpoint: str | None = None
    committed_at: float | None = None
    owed_since: float | None = None
    resync: Resync | None = None
    last_error: str | None = None
    last_error_at: float | None = None
    waiting_for: str | None = None
    leader: Leader | None = None


class Changes(TypedDict, total=False):
    """What `Health.update` takes."""

    state: State
    projections: tuple[str, ...]
    standby_for: tuple[str, ...]
    leader: Leader | None
    database_up: bool
    redis_up: bool
    epoch: int | None
    checkpoint: str | None
    committed_at: float | None
    owed_since: float | None
    resync: Resync | None


class Event(NamedTuple):
    """Something worth telling; `number` counts from 1."""

    number: int
    at: float
    text: str
    level: str


class Health:
    """The daemon tells, HTTP asks, from any thread."""

    def __init__(
        self,
        projections: tuple[str, ...] = (),
        heartbeat_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        database: str = "MySQL",
    ) -> None:
        self._lock = threading.RLock()
        self._clock = clock
        self._silence_s = _SILENT_HEARTBEATS * heartbeat_s
        self._progressed = clock()
        self._state = HealthState(State.STARTING, time.time(), projections, database=database)
        self._applied_until: float | None = None  # server's clock
        self._server_ahead_s = 0.0  # server's clock minus ours
        self._pending: float | None = None
        self._head_at: float | None = None  # our clock; None: the last word was not "nothing more"
        self._waits: dict[str, str] = {}  # by who waits
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._outages = Outages(database)
        self._unlogged: list[tuple[str, str, dict[str, Any]]] = []
        self._samples: deque[Sample] = deque(maxlen=_HISTORY)
        self._rates = Rates()
        self._sampled = clock()
        self.started_at = time.time()
        metrics.state.state(State.STARTING)
        for gauge in metrics.database_up.values():  # who never led says nothing of its peers
            gauge.set(float("nan"))
        metrics.redis_up.set(float("nan"))
        metrics.is_leader.set(0)
        metrics.lag.set_function(self._lag_or_nan)

    def update(self, **changes: Unpack[Changes]) -> None:
        """Take what is new. A change of state or of a peer becomes an event."""
        with self._lock:
            self._take(changes)
        self._write_log()

    def progress(self) -> None:
        """The loop has gone round, or a server has answered it; also while it waits for a dead
        server, as long as it retries. For any thread."""
        self._progressed = self._clock()

    def received(self, commit_time: float) -> None:
        """The source gave a transaction, committed at `commit_time` by the server's clock, that is
        not yet applied. Further ones before it is applied change nothing."""
        with self._lock:
            if self._pending is None:
                self._pending = commit_time

    def applied(self, commit_time: float | None, is_head: bool, server_now: float) -> None:
        """Everything received is applied.

        `commit_time`: of the last transaction, None for a heartbeat. `is_head`: the source had
        nothing more to give. `server_now`: the server's clock now, seconds since the epoch.
        """
        with self._lock:
            now = self._clock()
            self._server_ahead_s = server_now - now
            self._pending = None
            self._head_at = now if is_head else None
            if is_head:
                self._applied_until = server_now
            elif commit_time is not None:
                self._applied_until = commit_time
            if commit_time is not None:
                self._take({"committed_at": commit_time})
            if is_head and not self._waits and self._state.last_error is not None:
                self._state = replace(self._state, last_error=None, last_error_at=None)
                self._note_all(self._outages.works(TERM, now))
            if is_head and self._state.state is State.CATCHING_UP:
                self._take({"state": State.LEADING})
        self._write_log()

    def failed(self, kind: str, message: str) -> None:
        """Count an error that was handled and keep it as the last one."""
        metrics.errors.labels(kind).inc()
        with self._lock:
            self._keep_error(message)
        self.event("error", level="error", kind=kind, message=message)

    def counted(self, error: Passing) -> None:
        """Count a failure that passes and keep it as the last error."""
        metrics.errors.labels(kind_of(error)).inc()
        with self._lock:
            self._keep_error(str(error))

    def failing(self, error: Passing, who: str = TERM) -> None:
        """Take what has failed and is tried again: one line, whoever else meets it."""
        with self._lock:
            self._note_all(self._outages.failed(error, who, self._clock()))
        self._write_log()

    def works(self, who: str = TERM) -> None:
        """Take that what has failed there is over."""
        with self._lock:
            self._note_all(self._outages.works(who, self._clock()))
        self._write_log()

    def waits(self, who: str, cause: str | None) -> None:
        """Somebody waits for something that passes; None: no longer. For any thread."""
        with self._lock:
            if cause is None:
                self._waits.pop(who, None)
            else:
                self._waits[who] = redact(cause)
            said = "; ".join(f"{who}: {cause}" for who, cause in sorted(self._waits.items()))
            self._state = replace(self._state, waiting_for=said or None)

    def lost(self, peer: str) -> None:
        """A peer, `redis` or a database, cannot be used."""
        if peer == "redis":
            self.update(redis_up=False)
        else:
            self.update(database_up=False)

    def event(self, text: str, level: str = "info", **facts: Any) -> None:
        """Log something worth telling and keep it for the status page."""
        with self._lock:
            self._note(text, level, **facts)
        self._write_log()

    def snapshot(self) -> HealthState:
        """Return health as it is now."""
        with self._lock:
            age = max(0.0, self._clock() - self._progressed)
            return replace(self._state, lag_s=self.lag_s(), progress_age_s=age)

    def lag_s(self) -> float | None:
        """Return the lag by the rule of this module's docstring."""
        with self._lock:
            lag = self.tail_lag_s()
            if lag is not None and self._state.owed_since is not None:
                return max(lag, self._clock() + self._server_ahead_s - self._state.owed_since)
            return lag

    def tail_lag_s(self) -> float | None:
        """Return the lag without work put off: how far the tail itself is behind."""
        with self._lock:
            if not self._state.state.leads or self._applied_until is None:
                return None
            now = self._clock()
            server_now = now + self._server_ahead_s
            if self._pending is not None:
                lag = server_now - self._pending
            elif self._head_at is not None and now - self._head_at <= self._silence_s:
                lag = 0.0
            else:
                lag = server_now - self._applied_until
            return max(0.0, lag)

    def sample(self) -> None:
        """Keep the numbers of this second; called sooner, it does nothing. May write to the log."""
        with self._lock:
            now = self._clock()
            elapsed = now - self._sampled
            if elapsed < 1.0:
                return
            self._sampled = now
            lag, behind = self.lag_s(), self.tail_lag_s()
            number = self._samples[-1].number + 1 if self._samples else 1
            self._samples.append(Sample(number, time.time(), lag, *self._rates.since(elapsed)))
            if behind is not None and behind > _BEHIND_S and self._state.state is State.LEADING:
                self._take({"state": State.CATCHING_UP})
        self._write_log()

    def samples(self, after: int = 0) -> list[Sample]:
        """Return the samples of the last ten minutes with a number above `after`."""
        with self._lock:
            return [sample for sample in self._samples if sample.number > after]

    def events(self) -> list[Event]:
        """Return the last events, the newest first."""
        with self._lock:
            return list(reversed(self._events))

    def latency(self) -> Latency | None:
        """Return commit-to-Redis times of the last minute; None when there was no commit."""
        with self._lock:
            return self._rates.latency()

    def _take(self, changes: Changes) -> None:
        before = self._state
        self._state = now = replace(before, **changes)
        if now.database_up is not before.database_up:
            gauge = metrics.database_up[now.database]
            gauge.set(bool(now.database_up))
        if now.redis_up is not before.redis_up:
            metrics.redis_up.set(bool(now.redis_up))
        for peer, name in (("redis", "redis_up"), ("database", "database_up")):
            if changes.get(name):
                self._note_all(self._outages.answers(peer, self._clock()))
        if now.state is not before.state:
            self._enter(before.state, now.state)

    def _keep_error(self, message: str) -> None:
        now = time.time()
        self._state = replace(self._state, last_error=redact(message), last_error_at=now)

    def _note_all(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._note(line.text, line.level, **line.facts)

    def _note(self, text: str, level: str = "info", **facts: Any) -> None:
        """Keep an event; `_write_log` logs it once the lock is free."""
        details = "".join(f", {name} {value}" for name, value in facts.items())
        told = f"{facts['kind']}: {facts['message']}" if text == "error" else text + details
        number = self._events[-1].number + 1 if self._events else 1
        self._events.append(Event(number, time.time(), redact(told), level))
        self._unlogged.append((level, text, facts))

    def _write_log(self) -> None:
        with self._lock:
            noted, self._unlogged = self._unlogged, []
        for level, text, facts in noted:
            getattr(_log, level)(text, **facts)

    def _enter(self, before: State, now: State) -> None:
        if now is not State.STANDBY:
            self._state = replace(self._state, leader=None)
        if not now.leads:  # what was known in this term is of no use to the next, nor to anybody
            self._applied_until = self._pending = self._head_at = None
            self._waits.clear()
            self._state = replace(
                self._state, epoch=None, checkpoint=None, committed_at=None,
                owed_since=None, resync=None, waiting_for=None,
            )  # fmt: skip
        self._state = replace(self._state, since=time.time())
        metrics.state.state(now)
        metrics.is_leader.set(now.leads)
        self._note(f"{now.replace('_', ' ')}, was {before.replace('_', ' ')}")

    def _lag_or_nan(self) -> float:
        lag = self.lag_s()
        return float("nan") if lag is None else lag
