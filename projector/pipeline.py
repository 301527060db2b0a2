"""One step: what transactions touch is found, read behind the barrier and applied with their
position. Also the only writer: walks (see `reconcile`) hand their documents in here.

Never moves the checkpoint before everything up to it is written or recorded as owed in the same
act. Holds what is known of the side records: debts and quarantine.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import chain, islice

import structlog

from projector import metrics
from projector.debt import ALL, REQUESTED, Debt, full, route_debt
from projector.errors import (
    DocumentRefusedError,
    TooMuchError,
    ValueRefusedError,
)
from projector.fetch import Fetched, Fetcher, Found
from projector.model import Applied, Batch, Checkpoint, Damage, Need, Reason, Transactions, ViewSet
from projector.portion import Portion, Recent
from projector.ports import Sink
from projector.position import Position, later
from projector.projection import Plan
from projector.quarantine import QuarantineLog
from projector.route import Affected, Router

_LIVE_S = 1.0
_CHECKPOINT_EVERY_S = 1.0  # how often a checkpoint alone is written, at most
# And how soon after documents of a change: who asked for the end of the log after a commit may have
# been told a place beyond it, where others have committed what is none of ours.
_CHECKPOINT_SOON_S = 0.03
_AHEAD = 2  # slices of a step that are read while one is written

_ROUTES_MAX = 16  # look-ups put off; more are worked off as one walk over everything

ReadAhead = Callable[[Sequence[str], Need], Future[Fetched]]

log = structlog.get_logger()


@dataclass(slots=True)
class Limits:
    """`batch` documents a batch; a look-up that finds more than `fanout_documents` is put off.
    `recent`: what was done of late."""

    batch: Portion
    fanout_documents: int
    recent: Recent = field(default_factory=Recent)


@dataclass(slots=True)
class StoredState:
    """What this process knows of the store, as of its last write."""

    checkpoint: Checkpoint
    debts: dict[str, Debt] = field(default_factory=dict)
    quarantine: set[str] = field(default_factory=set)
    damage: Damage = Damage.NONE  # by other hands than ours, not yet owed for
    strangers: int = 0  # documents that others added, as far as writes have found them
    are_lists_lost: bool = False  # not as they were written, and not yet owed for


class Pipeline:
    """The steps of one projection. For one thread."""

    def __init__(
        self,
        plan: Plan,
        router: Router,
        fetcher: Fetcher,
        sink: Sink,
        limits: Limits,
        known: StoredState,
        read_ahead: ReadAhead | None = None,
    ) -> None:
        self.plan = plan
        self._router = router
        self._fetcher = fetcher
        self._sink = sink
        self._limits = limits
        self.known = known
        self._read_ahead = read_ahead
        self.touched: list[set[str]] = []  # one a chunk being read: ids written meanwhile
        self._quarantine_log = QuarantineLog(plan.name)
        self._unwritten: Transactions | None = None  # passed, nothing of ours in them
        # Everything up to here has been met: beyond `position` while a prepared transaction holds
        # that back, and what reads must see.
        self.barrier = known.checkpoint.position
        self.passed = self.barrier  # the same, but for a transaction that has come in part
        self._written_at = self._changed_at = 0.0  # the latter: documents of a change

    @property
    def position(self) -> Position:
        """Everything up to here is in the hash, but for the debts."""
        if self._unwritten is not None and self._unwritten.position is not None:
            return self._unwritten.position
        return self.known.checkpoint.position

    @property
    def is_live(self) -> bool:
        """Whether documents were written for a change in the last second."""
        return 0.0 < self._changed_at > time.monotonic() - _LIVE_S

    def step(self, transactions: Transactions) -> None:
        """Apply transactions. Raises TransientError, FencedError: then nothing after the last
        checkpoint counts, and the caller goes on from there."""
        affected = self._router.route(transactions.changes)
        self._meet(transactions)
        if not affected:
            self._pass(transactions)
            return
        need = Need(transactions.barrier, transactions.changes)
        found = self._look_up(affected, need)
        debts = self._owed(affected, found.deferred)
        ids = sorted(affected.ids | found.ids)
        last = Batch(
            {}, frozenset(), Reason.CHANGE,
            position=transactions.position,
            committed_at=transactions.commit_times[-1] if transactions.commit_times else None,
            debts={key: debt.to_json() if debt else None for key, debt in debts.items()},
        )  # fmt: skip
        for fetched, is_last in self._documents(ids, need):
            self._write(fetched, last if is_last else Batch({}, frozenset(), Reason.CHANGE))
        self._know(debts)
        self._unwritten = None
        self._changed_at = self._written_at

    def skip(self, transactions: Transactions) -> None:
        """Pass transactions that were done before this process began."""
        if transactions.barrier.surely_reaches(self.passed):
            self._meet(transactions)

    def need(self, debt: Debt) -> Need:
        """Return what reads for a debt must see: all that was met, and the debt's own cause, which
        may lie behind that after a restart."""
        if debt.barrier is None:
            return Need(self.barrier)
        return Need(self.barrier.later(debt.barrier), is_unspelled=True)

    def _meet(self, transactions: Transactions) -> None:
        self.barrier = transactions.barrier
        if transactions.position is not None:
            self.passed = transactions.barrier

    def _look_up(self, affected: Affected, need: Need) -> Found:
        """Find documents by rows. What takes too long, or what the server refuses to compare, is
        put off: nothing behind it may wait for it."""
        if affected.look_ups:
            self._limits.recent.note((), affected.look_ups)
        try:
            return self._fetcher.look_up(affected.look_ups, need, self._limits.fanout_documents)
        except (TooMuchError, ValueRefusedError):
            look_ups = affected.look_ups.items()
            return Found(frozenset(), {name: frozenset(values) for name, values in look_ups})

    def _documents(self, ids: Sequence[str], need: Need) -> Iterator[tuple[Fetched, bool]]:
        """Read in slices, in order, and say which is the last; where there are several, some while
        others are written. Walks are settled between steps only, so that none is written with what
        was read before it."""
        remaining = deque(_sliced(ids, self._limits.batch.size)) or deque([[]])
        is_ahead = len(remaining) > 1
        flying: deque[tuple[list[str], Future[Fetched] | None]] = deque()
        while remaining or flying:
            self._send_ahead(remaining, flying, need, is_ahead=is_ahead)
            part, future = flying.popleft()
            started = time.monotonic()
            try:
                fetched = future.result() if future else self._fetcher.documents(part, need)
            except TooMuchError:
                if len(part) <= 1:
                    raise
                self._limits.batch.too_much(len(part))
                left = [*part, *(i for slice_, _ in flying for i in slice_), *chain(*remaining)]
                remaining, is_ahead = deque(_sliced(left, self._limits.batch.size)), False
                flying.clear()
                continue
            size_bytes = sum(map(len, fetched.documents.values()))
            self._limits.batch.took(len(part), time.monotonic() - started, size_bytes)
            self._send_ahead(remaining, flying, need, is_ahead=is_ahead)
            yield fetched, not (remaining or flying)

    def _send_ahead(
        self,
        remaining: deque[list[str]],
        flying: deque[tuple[list[str], Future[Fetched] | None]],
        need: Need,
        *,
        is_ahead: bool,
    ) -> None:
        """Let slices be read by others, at most so many; the next one is read here otherwise."""
        if not is_ahead or self._read_ahead is None:
            if remaining and not flying:
                flying.append((remaining.popleft(), None))
            return
        while remaining and len(flying) < _AHEAD:
            part = remaining.popleft()
            flying.append((part, self._read_ahead(part, need)))

    def flush(self) -> None:
        """Move the checkpoint past transactions that touched nothing; tell what was set aside."""
        self._quarantine_log.tell(is_walking=ALL in self.known.debts)
        if (passed := self._unwritten) is None:
            return
        when = passed.commit_times[-1] if passed.commit_times else None
        self._apply(
            Batch({}, frozenset(), Reason.CHANGE, position=passed.position, committed_at=when)
        )
        self._unwritten = None

    def close(self) -> None:
        """Tell what is left to tell."""
        self._quarantine_log.tell()

    def owe(
        self,
        debts: Mapping[str, Debt],
        requests_done: frozenset[str] = frozenset(),
        struck: Iterable[str] = (),
        views: ViewSet | None = None,
    ) -> None:
        """Record work to be done, together with the requests that it answers and the records that
        it stands for, and with the views that it is done for."""
        merged = {key: self._again(key, debt) for key, debt in debts.items()}
        changes: dict[str, str | None] = dict.fromkeys(struck)
        changes |= {key: debt.to_json() for key, debt in merged.items()}
        batch = Batch(
            {}, frozenset(), Reason.CHANGE, debts=changes, requests_done=requests_done, views=views
        )
        self._apply(batch)
        self.known.debts.update(merged)

    def strike(
        self,
        debts: Mapping[str, Debt | None],
        requests_done: frozenset[str],
        progress: Mapping[str, str | None],
    ) -> None:
        """Give up work, or a part of it, that was owed only because somebody asked for it."""
        self._apply(
            Batch(
                {}, frozenset(), Reason.CHANGE,
                debts={key: debt.to_json() if debt else None for key, debt in debts.items()},
                requests_done=requests_done, resync=progress,
            )
        )  # fmt: skip
        self._know(debts)

    def widen(self, key: str) -> None:
        """Owe a walk over everything in place of a look-up that the server does not make."""
        owed = replace(full("fanout"), barrier=self.known.debts[key].barrier)
        all_of_it = self._again(ALL, owed)
        debts = {ALL: all_of_it.to_json(), key: None}
        self._apply(Batch({}, frozenset(), Reason.CHANGE, debts=debts))
        self._know({ALL: all_of_it, key: None})

    def settle(
        self,
        fetched: Fetched,
        reason: Reason,
        debts: Mapping[str, Debt | None],
        progress: Mapping[str, str | None],
        recovered: Collection[str] = frozenset(),
        strays: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        """Write what a walk found, with the walk's own progress, in one act. `recovered` need not
        be in quarantine any more, though nothing is written for them. `strays`: entries of lists
        that nothing accounts for."""
        batch = Batch(
            {}, frozenset(), reason,
            debts={key: debt.to_json() if debt else None for key, debt in debts.items()},
            quarantine=dict.fromkeys(recovered),
            resync=progress, strays=strays,
        )  # fmt: skip
        self._write(fetched, batch)
        self._know(debts)

    def _know(self, debts: Mapping[str, Debt | None]) -> None:
        for key, debt in debts.items():
            if debt is None:
                self.known.debts.pop(key, None)
            else:
                self.known.debts[key] = debt

    def _pass(self, transactions: Transactions) -> None:
        """Remember a place without work; write it once a second at most, but soon after documents,
        and then at intervals that double."""
        if transactions.position is None or transactions.position == self.position:
            return
        self._unwritten = transactions
        soon_s = max(_CHECKPOINT_SOON_S, self._written_at - self._changed_at)
        if time.monotonic() - self._written_at >= min(soon_s, _CHECKPOINT_EVERY_S):
            self.flush()

    def _owed(
        self,
        affected: Affected,
        deferred: Mapping[str, frozenset[tuple[object, ...]]],
    ) -> dict[str, Debt | None]:
        """Return what is recorded as owed, and what is struck off because a wider debt covers
        it."""
        debts = dict(route_debt(name, values) for name, values in deferred.items())
        struck: set[str] = set()
        if debts and not affected.repairs and self._is_flooded(debts):
            affected.repairs.add("fanout")
        if affected.repairs:
            debts = {ALL: full(reason="+".join(sorted(affected.repairs)))}
            struck = {key for key, debt in self.known.debts.items() if debt.scope == "route"}
        barrier: Position | None = self.barrier
        for key in struck:
            barrier = later(barrier, self.known.debts[key].barrier)
        caused = {key: replace(debt, barrier=barrier) for key, debt in debts.items()}
        return {key: self._again(key, debt) for key, debt in caused.items()} | dict.fromkeys(struck)

    def _is_flooded(self, debts: Mapping[str, Debt]) -> bool:
        """Whether so much is put off that one walk over everything is less work."""
        routes = {key for key, debt in self.known.debts.items() if debt.scope == "route"}
        return len(routes | debts.keys()) > _ROUTES_MAX

    def _again(self, key: str, debt: Debt) -> Debt:
        """A walk asked for again while under way ends its round and then does another: begun
        again each time, it might never end."""
        known = self.known.debts.get(key)
        if known is None:
            return debt
        # What was only asked for may be cancelled; what is owed for cause may not.
        reason = debt.reason if known.reason == REQUESTED else known.reason
        again = debt.reason if known.again in ("", REQUESTED) else known.again
        barrier = later(debt.barrier, known.barrier)
        return replace(known, again=again, reason=reason, barrier=barrier)

    def _write(self, fetched: Fetched, batch: Batch) -> None:
        if batch.reason is Reason.CHANGE:
            for touched in self.touched:
                touched.update(fetched.documents, fetched.gone, fetched.failed)
        quarantine: dict[str, str | None] = {**batch.quarantine, **fetched.failed}
        for document_id in self.known.quarantine & (fetched.documents.keys() | fetched.gone):
            quarantine[document_id] = None
        full_batch = replace(
            batch, documents=fetched.documents, removed=fetched.gone, quarantine=quarantine,
            places=fetched.places,
        )  # fmt: skip
        try:
            self._apply(full_batch)
        except DocumentRefusedError as error:
            # Too large for Redis: set these aside, write the others.
            kept = {k: v for k, v in fetched.documents.items() if k not in error.ids}
            failed = {**fetched.failed, **dict.fromkeys(error.ids, error.reason)}
            places = {k: v for k, v in fetched.places.items() if k not in error.ids}
            self._write(Fetched(kept, fetched.gone, failed, places), batch)
            return
        self._quarantine_log.add(
            reason for document_id, reason in fetched.failed.items()
            if ALL in self.known.debts or document_id not in self.known.quarantine
        )  # fmt: skip
        for document_id, reason in quarantine.items():
            if reason is None:
                self.known.quarantine.discard(document_id)
            else:
                self.known.quarantine.add(document_id)
        metrics.quarantined.labels(self.plan.name).set(len(self.known.quarantine))

    def _apply(self, batch: Batch) -> Applied:
        if written := (*batch.documents, *batch.removed, *batch.quarantine):
            self._limits.recent.note(written, {})
        started = time.perf_counter()
        applied = self._sink.apply(batch)
        metrics.stage.labels("apply").observe(time.perf_counter() - started)
        if batch.documents or batch.removed:
            metrics.batch_documents.observe(len(batch.documents) + len(batch.removed))
            metrics.documents_written.labels(batch.reason).inc(applied.written)
            metrics.documents_removed.labels(batch.reason).inc(applied.removed)
        metrics.documents.labels(self.plan.name).set(applied.documents)
        self.known.damage = self.known.damage.and_then(applied.damage)
        self.known.strangers += applied.grown
        self.known.are_lists_lost |= applied.are_lists_lost
        self.known.checkpoint = applied.checkpoint
        self._written_at = time.monotonic()
        return applied


def _sliced(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    remaining = iter(ids)
    while part := list(islice(remaining, size)):
        yield part
