"""One walk in chunks that makes the store equal to the database, whatever the reason.

Works off debts: the initial build, resync, repair, wide fan-outs, scrub. Chunks are read ahead by
threads, behind the barrier, each in one snapshot; they are settled one after the other by the
thread that also applies the tail. Never overwrites what the tail wrote since the chunk was read:
such documents are left to the tail (DBLog's low watermark, without writing to the source).
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace

from projector import metrics
from projector.debt import ALL, GREW, LISTS_CHANGED, NO_LAG, REPAIR, REQUESTED, Debt
from projector.errors import TooMuchError, ValueRefusedError
from projector.fetch import Fetched, Fetcher
from projector.model import Differences, Need, Reason
from projector.pipeline import Pipeline
from projector.portion import Portions
from projector.ports import Sink
from projector.position import Position
from projector.projection import clock

SCRUB = "scrub"  # the key of the slow walk in the background
REFRESH = "refresh"  # of the search for what a filter no longer admits because time has passed
BACKGROUND = frozenset({SCRUB, REFRESH})  # nobody waits for these
_BRIEF = frozenset({GREW, REFRESH})  # reasons of a look at the hash's ids alone
_REPAIRS = frozenset({SCRUB, REPAIR, GREW, LISTS_CHANGED})
_BESIDE_CHANGES = 250  # documents a chunk while there are live changes, which wait for its write
_AHEAD = 2  # chunks read ahead: one may be read while another is settled
_DUE_MAX = 100_000  # documents whose moment has come and that are not made again yet
_CATCH_UP_S = 10.0  # a chunk that differs and that the tail does not pass is read again then


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one part of a walk found: documents to write, and how the walk goes on.

    `cursor` None: nothing is left in this phase. `recovered`: ids in quarantine whose row can be
    written again, or is gone. `end`: of the log after differences were found; until the tail has
    passed it they may be changes under way. `strays`: entries of lists that nothing accounts for.
    """

    fetched: Fetched
    recovered: frozenset[str]
    differences: Differences
    count: int
    cursor: str | None
    end: Position | None = None
    strays: frozenset[tuple[str, str]] = frozenset()


@dataclass(slots=True)
class _Flight:
    key: str
    phase: str
    started_at: float  # of the walk: another one may have taken its key meanwhile
    future: Future[Chunk]
    compared_at: float | None = None  # for the first time, in vain
    touched: set[str] = field(default_factory=set)


class ChunkReader:
    """Reads one chunk after the other and compares it with the store. Cuts are made in order."""

    def __init__(
        self,
        sink: Sink,
        fetchers: Callable[[], Fetcher],
        portions: Portions,
        log_end: Callable[[], Position],
        *,
        is_timed: bool = False,
    ) -> None:
        """`is_timed`: time alone changes documents."""
        self._sink = sink
        self._fetcher = fetchers
        self._portions = portions
        self._log_end = log_end
        self._is_timed = is_timed

    @property
    def has_lists(self) -> bool:
        """Whether the store has lists beside its documents."""
        return self._sink.has_lists

    def cut(
        self, debt: Debt, cursor: str | None, need: Need, most: int
    ) -> tuple[list[str], str | None]:
        """Return the next ids of a walk, so many documents at most, and the cursor after them."""
        if debt.phase == "orphans":
            following, ids = self._sink.scan(int(cursor or 0), self._portions.names.size)
            if cursor is None:  # what is in quarantine need not stand in the hash
                ids = [*dict.fromkeys([*ids, *self._sink.quarantined()])]
            return ids, str(following) if following else None
        # Once: readers adapt it, and a short answer is the end.
        size = min(most, self._portions.walk.size)
        match debt.scope:
            case "all":
                ids = self._fetcher().ids_after(cursor, size, need)
            case "route":
                ids = self._fetcher().look_up_after(debt.name, debt.values, cursor, size, need)
            case "ids":
                first = int(cursor or 0)
                ids = list(debt.ids[first : first + size])
                return ids, str(first + len(ids)) if first + len(ids) < len(debt.ids) else None
        return ids, ids[-1] if len(ids) == size else None

    def read(self, ids: list[str], cursor: str | None, need: Need, *, compares: bool) -> Chunk:
        """Read documents, give those that differ from the store. With `compares` that is a fault,
        so that the log's end is asked for, too."""
        started = time.monotonic()
        fetched = self._fetcher().documents(ids, need)
        found = self._sink.compare(fetched.documents, fetched.gone)
        displaced = self._sink.displaced({k: fetched.places.get(k, "") for k in fetched.documents})
        recovered = frozenset(self._sink.quarantined(ids)) - fetched.failed.keys()
        size_bytes = sum(map(len, fetched.documents.values()))
        self._portions.walk.took(len(ids), time.monotonic() - started, size_bytes)
        differing = {k: fetched.documents[k] for k in found.missing | found.stale}
        places = {k: fetched.places[k] for k in differing if k in fetched.places}
        places |= {k: fetched.places.get(k, "") for k in displaced}
        kept = Fetched(differing, found.orphan, fetched.failed, places)
        stale = found.stale | displaced - found.missing
        if stale and compares and self._is_timed:
            stale -= self._sink.due(clock.now_us(), _DUE_MAX).keys()  # made again in a moment
        found = replace(found, stale=stale)
        end = self._log_end() if compares and len(found) else None
        return Chunk(kept, recovered, found, len(ids), cursor, end)

    def strays(self, cursor: str | None) -> Chunk:
        """Find entries of lists that nothing accounts for; the store judges by itself."""
        following, looked, found = self._sink.strays(cursor, self._portions.names.size)
        stale = frozenset(k for _, k in found)
        return Chunk(
            Fetched({}, frozenset(), {}), frozenset(), Differences(stale=stale), looked,
            following, strays=found,
        )  # fmt: skip

    def orphans(self, ids: list[str], cursor: str | None, need: Need, *, compares: bool) -> Chunk:
        """Find those among the store's ids that the database does not have; as `read` does."""
        started = time.monotonic()
        gone = frozenset(ids) - self._existing(ids, need)
        self._portions.names.took(len(ids), time.monotonic() - started, 0)
        recovered = frozenset(self._sink.quarantined([*gone]))
        orphan = gone - recovered | self._sink.compare({}, recovered).orphan
        found = Differences(orphan=orphan)
        end = self._log_end() if compares and len(found) else None
        return Chunk(Fetched({}, orphan, {}), recovered, found, len(ids), cursor, end)

    def shrink(self, phase: str) -> None:
        """What was cut last was too much."""
        portion = self._portions.walk if phase == "write" else self._portions.names
        portion.too_much(portion.size)

    def _existing(self, ids: list[str], need: Need) -> set[str]:
        """Ask in halves where all at once is too much: a store may give more than it is asked."""
        try:
            return self._fetcher().existing(ids, need)
        except TooMuchError:
            if len(ids) <= max(1, self._portions.names.size):
                raise
            middle = len(ids) // 2
            return self._existing(ids[:middle], need) | self._existing(ids[middle:], need)


class Walker:
    """Works the debts of one pipeline off, a little at each turn. For the pipeline's thread."""

    def __init__(
        self,
        pipeline: Pipeline,
        reader: ChunkReader,
        executor: Executor,
        scrub_interval_s: float,
        on_differences: Callable[[Differences], None],
        on_read: Callable[[], None],
        on_done: Callable[[str, Debt], None] = lambda key, debt: None,
    ) -> None:
        self._pipeline = pipeline
        self._reader = reader
        self._executor = executor
        self._scrub_interval_s = scrub_interval_s
        self._on_differences = on_differences
        self._on_done = on_done  # called with a walk that has ended, and its key
        self._on_read = on_read  # called by a reader's thread: a chunk waits to be settled
        self._flights: deque[_Flight] = deque()
        self._cut_cursor: str | None = None
        self._is_cut = False  # the phase's last chunk has been cut
        self._rest_until = 0.0
        self._phase = ""  # of what was cut last
        self._again_at = 0.0  # after a read that failed
        self._refresh_s = pipeline.plan.projection.refresh_s
        self._refresh_at = time.monotonic() + (self._refresh_s or 0.0)
        self._found = {"missing": 0, "stale": 0, "orphan": 0}  # by the scrub's pass so far

    @property
    def is_idle(self) -> bool:
        """Nothing is owed that anybody waits for."""
        return not (self._pipeline.known.debts.keys() - BACKGROUND)

    @property
    def is_resting(self) -> bool:
        """There is nothing to do at this moment."""
        return not self._flights and self._next() is None

    def has_begun(self, key: str) -> bool:
        """Whether documents were read already for what is owed."""
        debt = self._pipeline.known.debts.get(key)
        is_read = any(flight.key == key for flight in self._flights)
        return debt is not None and (is_read or debt.cursor is not None or debt.done > 0)

    def turn(self, lag_s: float, yield_at_lag_s: float) -> bool:
        """Settle a chunk that is read, read ahead. Never waits. True when one was settled: there
        may be more, but the tail goes first."""
        settled = self._is_next_read and self._is_comparable(self._flights[0])
        if settled:
            self._settle(self._flights.popleft())
            if self._is_next_read:
                self._on_read()  # nobody waits for what has been read already
        if lag_s <= yield_at_lag_s:
            self._read_ahead()
        return settled

    @property
    def _is_next_read(self) -> bool:
        return bool(self._flights) and self._flights[0].future.done()

    def _is_comparable(self, flight: _Flight) -> bool:
        """Whether the tail has passed all that a chunk of the scrub may have seen: before that,
        what differs may be a change under way. Such a chunk waits; or it is read again, where
        something else is owed, or the log's end is not reached."""
        if flight.key != SCRUB or flight.future.exception() is not None:
            return True
        end = flight.future.result().end
        if end is None:
            return True
        if self.is_idle and self._pipeline.position.surely_reaches(end):
            return True
        flight.compared_at = flight.compared_at or time.monotonic()
        if not self.is_idle or time.monotonic() - flight.compared_at > _CATCH_UP_S:
            self.close()
        return False

    def begin_again(self, error: Exception, delay_s: float) -> None:
        """Read again, after a while, what could not be read; less at once where that was too much.
        Nothing is lost: a walk goes on from the last chunk that was settled."""
        if isinstance(error, TooMuchError):
            self._reader.shrink(self._phase)
        self.close()
        self._again_at = time.monotonic() + delay_s

    def close(self) -> None:
        """Forget what is being read."""
        for flight in self._flights:
            flight.future.cancel()
        self._flights.clear()
        self._pipeline.touched.clear()

    def _read_ahead(self) -> None:
        if time.monotonic() < self._again_at:
            return
        key = self._next()
        debt = self._pipeline.known.debts.get(key) if key else None
        flying = self._flights[0] if self._flights else None
        if flying and (debt is None or (flying.key, flying.started_at) != (key, debt.started_at)):
            return  # another walk is next: let what is in flight land first
        if key == SCRUB and debt is None:
            debt = Debt("all", SCRUB, started_at=time.time())
            self._pipeline.known.debts[SCRUB] = debt
        if key == REFRESH and debt is None and self._refresh_s:
            debt = Debt("all", REFRESH, phase="orphans", started_at=time.time())
            self._pipeline.known.debts[REFRESH] = debt
            self._refresh_at = time.monotonic() + self._refresh_s
        if key is None or debt is None:
            return
        if not self._flights:
            self._cut_cursor, self._is_cut = debt.cursor, False
        need = self._pipeline.need(debt)
        ahead = 1 if key == SCRUB else _AHEAD
        while len(self._flights) < ahead and not self._is_cut:
            try:
                future = self._submit(debt, need)
            except (TooMuchError, ValueRefusedError):
                if debt.scope != "route":
                    raise
                self._pipeline.widen(key)
                return
            flight = _Flight(key, debt.phase, debt.started_at, future)
            self._flights.append(flight)
            self._pipeline.touched.append(flight.touched)
            flight.future.add_done_callback(lambda _: self._on_read())

    def _submit(self, debt: Debt, need: Need) -> Future[Chunk]:
        self._phase = debt.phase
        if debt.phase == "strays":
            chunk = self._reader.strays(self._cut_cursor)
            self._cut_cursor, self._is_cut = chunk.cursor, chunk.cursor is None
            return self._executor.submit(lambda: chunk)
        most = _BESIDE_CHANGES if self._pipeline.is_live else sys.maxsize
        ids, cursor = self._reader.cut(debt, self._cut_cursor, need, most)
        self._cut_cursor, self._is_cut = cursor, cursor is None
        read = self._reader.orphans if debt.phase == "orphans" else self._reader.read
        return self._executor.submit(read, ids, cursor, need, compares=debt.reason == SCRUB)

    def _next(self) -> str | None:
        """Choose: certain ids first; then the whole where it is owed for cause, for a build must
        not wait while one wide change follows another; then those, what was asked for, the scrub.
        """
        debts = self._pipeline.known.debts

        def order(key: str) -> int:
            if debts[key].scope == "all":
                return 3 if debts[key].reason in {REQUESTED, REFRESH, GREW} else 1
            return 0 if debts[key].scope == "ids" else 2

        keys = sorted((key for key in debts if key != SCRUB), key=order)
        if keys:
            return keys[0]
        if self._refresh_s and time.monotonic() >= self._refresh_at:
            return REFRESH
        if not self._scrub_interval_s or time.monotonic() < self._rest_until:
            return None
        return SCRUB

    def _settle(self, flight: _Flight) -> None:
        self._pipeline.touched = [t for t in self._pipeline.touched if t is not flight.touched]
        chunk = flight.future.result()
        debt = self._pipeline.known.debts.get(flight.key)
        if debt is None or (debt.phase, debt.started_at) != (flight.phase, flight.started_at):
            return  # cancelled, or begun again
        ours = _without(chunk.fetched, flight.touched)
        found = _standing(chunk.differences, flight.touched)
        debt = replace(
            debt, cursor=chunk.cursor, done=debt.done + chunk.count,
            written=debt.written + len(ours.documents), removed=debt.removed + len(ours.gone),
        )  # fmt: skip
        following: Debt | None = debt
        if chunk.cursor is None:
            following = _following(debt, has_lists=self._reader.has_lists)
        reason = Reason.REPAIR if debt.reason in _REPAIRS else Reason.RESYNC
        progress = _progress(debt, following) if flight.key == ALL else {}
        recovered = chunk.recovered - flight.touched
        self._pipeline.settle(
            ours, reason, {flight.key: following}, progress, recovered, chunk.strays
        )
        self._count(debt, found, is_done=following is None)
        if following is None:
            self._on_done(flight.key, debt)
        self._pace(flight, chunk)

    def _count(self, debt: Debt, found: Differences, *, is_done: bool) -> None:
        """A pass of the scrub is a verification: tell its differences when it ends."""
        if debt.reason != SCRUB:
            return
        if debt.phase == "orphans" and self._refresh_s:
            found = Differences()  # no mistake: time has passed
        for kind in self._found:
            self._found[kind] += len(getattr(found, kind))
        if len(found):
            self._on_differences(found)
        if is_done:
            for kind, count in self._found.items():
                metrics.differences.labels(kind, self._pipeline.plan.name).set(count)
                self._found[kind] = 0
            metrics.verified_timestamp.labels(self._pipeline.plan.name).set_to_current_time()

    def _pace(self, flight: _Flight, chunk: Chunk) -> None:
        """Spread the phases of a scrub over its time."""
        if flight.key != SCRUB:
            return
        most = max(1, self._pipeline.known.checkpoint.documents)
        if flight.phase == "strays":  # lists and their entries, both are counted
            most *= 2 * max(1, len(self._pipeline.plan.views.keep))
        phases = 3 if self._reader.has_lists else 2
        share = self._scrub_interval_s * chunk.count / most / phases
        self._rest_until = time.monotonic() + max(share, 0.0)


def _without(fetched: Fetched, touched: set[str]) -> Fetched:
    if not touched:
        return fetched
    return Fetched(
        {k: v for k, v in fetched.documents.items() if k not in touched},
        fetched.gone - touched,
        {k: v for k, v in fetched.failed.items() if k not in touched},
        {k: v for k, v in fetched.places.items() if k not in touched},
    )


def _standing(found: Differences, touched: set[str]) -> Differences:
    return Differences(found.missing - touched, found.stale - touched, found.orphan - touched)


def _following(debt: Debt, *, has_lists: bool) -> Debt | None:
    """What is owed after a phase: orphans after writing everything, then what stands in lists for
    no reason; one more round if asked."""
    if debt.scope == "all" and debt.phase == "write" and not debt.onto_empty:
        return replace(debt, phase="orphans", cursor=None)
    if has_lists and debt.scope == "all" and debt.phase != "strays" and debt.reason not in _BRIEF:
        return replace(debt, phase="strays", cursor=None)
    if debt.again:
        # Every document is there by now: a further round is no build any more.
        reason = debt.reason
        if debt.scope == "all":
            reason = debt.again if debt.again in NO_LAG else "another_round"
        return replace(
            debt, phase="write", cursor=None, again="", onto_empty=False, done=0, reason=reason
        )
    return None


def _progress(debt: Debt, following: Debt | None) -> Mapping[str, str | None]:
    return {
        "state": "running" if following else "done",
        "scope": debt.scope,
        "reason": debt.reason,
        "phase": following.phase if following else debt.phase,
        "cursor": (following.cursor if following else None) or "",
        "done": str(debt.done),
        "total": str(debt.total),
        "written": str(debt.written),
        "removed": str(debt.removed),
        "started_at": str(debt.started_at),
        "updated_at": str(time.time()),
    }
