"""The model: processes with the real pipeline and walker, one store, one database, and bad luck.

Everything that can happen is a method that does one small thing, so that an explorer can put them
into any order; `check` holds after each of them, `settle` at the end. `Rules` breaks one rule of
the algorithm at a time, to show that the model notices.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from pydantic import SecretStr

from projector.databases import Mysql
from projector.debt import ALL, Debt
from projector.errors import FencedError, TransientError
from projector.fetch import Fetcher
from projector.lane import Lane
from projector.model import Applied, Batch, Differences, Transactions
from projector.mysql.position import Position
from projector.portion import Portion, Portions
from projector.ports import Knowledge
from projector.projection import Plan
from projector.reconcile import SCRUB
from projector.settings import Reconcile, Settings
from tests.memory_sink import MemorySink, MemoryStore, entries
from tests.unit.model_database import (
    PLAN,
    TICKET_IDS,
    WATCHES,
    Database,
    VersionFetcher,
    place_of,
    position,
    scan_place,
)

TTL_S = 5.0
VIEWS = {"customer": 0, "title": 0}
KNOWN = Knowledge(WATCHES)
IDS = [str(ticket) for ticket in TICKET_IDS]


def _two() -> Portion:
    return Portion(2, 2, math.inf)


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True)
class Rules:
    """What the algorithm relies on; each False breaks one."""

    barrier: bool = True  # a read sees at least what it answers for
    lease: bool = True  # a write needs the lease
    stamp: bool = True  # a write continues from the checkpoint that the writer knows
    atomic: bool = True  # documents and checkpoint are written in one act
    debts: bool = True  # what is put off is recorded with the checkpoint that passes it
    whole: bool = True  # no position lies inside a transaction


class RuledSink(MemorySink):
    """The sink in memory, with the rules that are in force."""

    rules = Rules()
    dies_between: Callable[[], bool] = staticmethod(lambda: False)

    def refusal(self, stamp: str) -> str:
        refusal = super().refusal(stamp)
        is_broken = not (self.rules.lease if "lease" in refusal else self.rules.stamp)
        return "" if is_broken else refusal

    def apply(self, batch: Batch) -> Applied:
        if self.store.checkpoint is None and None in (batch.position, batch.fingerprint):
            raise FencedError("nothing to continue from")  # whatever the rules
        if not self.rules.debts and batch.position is not None:
            batch = replace(batch, debts={k: v for k, v in batch.debts.items() if k == ALL})
        if not self.rules.atomic and batch.position is not None:
            super().apply(replace(batch, documents={}, removed=frozenset()))
            if self.dies_between():
                raise TransientError("redis", "died between checkpoint and documents")
            batch = replace(batch, position=None, debts={}, quarantine={}, resync={})
        return super().apply(batch)


class Pause(Exception):
    """A thread of the walk has done one more thing; its time is up."""


@dataclass
class Flight(Executor):
    """What a thread of the walk does, one input or output at a time: played again from the start
    with the answers had so far, and one more."""

    future: Future[Any]
    act: Callable[[], Any]
    answers: list[Any] = field(default_factory=list)
    played: int = 0
    is_fresh: bool = True

    def advance(self) -> None:
        self.played, self.is_fresh = 0, True
        try:
            self.future.set_result(self.act())
        except Pause:
            pass

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.played == len(self.answers):
            if not self.is_fresh:
                raise Pause
            self.answers.append(function(*arguments))
            self.is_fresh = False
        self.played += 1
        return self.answers[self.played - 1]


class Threads(Executor):
    """Threads that run only when told."""

    def __init__(self) -> None:
        self.flights: deque[Flight] = deque()
        self.running: Flight | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.flights.append(Flight(future, lambda: fn(*args, **kwargs)))
        return future

    def advance(self, number: int) -> None:
        """Let one of the threads do one thing more."""
        self.flights = deque(f for f in self.flights if not f.future.done())
        if self.flights:
            self.running = self.flights[number % len(self.flights)]
            self.running.advance()
            self.running = None


class Taped:
    """A sink or fetcher whose calls count as a thread's when one is running."""

    def __init__(self, threads: Threads, wrapped: Any) -> None:
        self._threads = threads
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._wrapped, name)
        if not callable(function):
            return function

        def call(*arguments: Any) -> Any:
            flight = self._threads.running
            return flight.call(function, *arguments) if flight else function(*arguments)

        return call


class AtOnce(Executor):
    """Does what is submitted there and then."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class ModelLane(Lane):
    """The real lane; its database is the model's, and its threads run only when told."""

    def __init__(
        self, plan: Plan, sink: Any, fetcher: Any, threads: Executor, settings: Settings,
        known: Knowledge, log_end: Callable[[], Position] = lambda: position(0),
        scrubbed: Callable[[Differences], None] = lambda found: None,
    ) -> None:  # fmt: skip
        database: Any = SimpleNamespace(readers=lambda *place, **waits: None)
        super().__init__(
            plan, sink, database, settings, known, lambda: False, log_end, lambda: None,
            Portions(_two(), _two(), _two()),
        )  # fmt: skip
        for real in (self._executor, self._ahead):
            real.shutdown()
        read_ahead: Any = AtOnce()
        walking: Any = threads
        self._executor, self._ahead = walking, read_ahead
        self._of_model = fetcher
        self._scrubbed = scrubbed

    def _fetcher(self) -> Fetcher:
        fetcher: Fetcher = self._of_model
        return fetcher

    def _count(self) -> int:
        return 0

    def _report(self, found: Differences) -> None:
        self._scrubbed(found)

    def close(self) -> None:
        """Forget what is being read."""
        if self._walker is not None:
            self._walker.close()


def model_settings(**more: Any) -> Settings:
    """Everything small, so that little is much."""
    reconcile = {"chunk_documents": 2, "scrub_interval_s": more.pop("scrub_interval_s", 0.0)}
    return Settings(
        mysql=Mysql(url=SecretStr("mysql://u@h/db")), batch_max_documents=2,
        fanout_max_documents=2, reconcile=Reconcile(**reconcile), **more,
    )  # fmt: skip


class Process:
    """A daemon's term: a real lane, without time and threads."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.threads = Threads()
        self.sink = world.new_sink()
        assert self.sink.acquire()
        fetcher: Any = VersionFetcher(world.database, world.choose, has_barrier=world.rules.barrier)
        self.lane = ModelLane(
            PLAN, Taped(self.threads, self.sink), Taped(self.threads, fetcher), self.threads,
            world.settings, KNOWN, Taped(self.threads, world).log_end, world.scrubbed,
        )  # fmt: skip
        checkpoint = self.sink.load()
        if checkpoint is None:
            checkpoint = self.lane.first(position(world.database.committed), "initial_build")
        self.lane.open(checkpoint)
        self.pipeline, self.walker = self.lane.pipeline, self.lane.walker
        self._read = checkpoint.position.offset  # transactions handed on
        self._pieces = 0  # of the next one

    @property
    def is_behind(self) -> bool:
        return self._read < self._world.database.committed

    def step(self, most: int) -> None:
        """Apply the next transactions of the log, at most so many."""
        log = self._world.database.log
        if self._pieces:
            most = 1
        last = min(self._read + most, len(log))
        changes = [change for number in range(self._read, last) for change in log[number]]
        if last > self._read:
            self._hand_on(changes[self._pieces :], last, last - self._read, position(last))
            self._read, self._pieces = last, 0

    def step_piece(self) -> None:
        """Apply one more change of a large transaction, but for its last."""
        log = self._world.database.log
        if self.is_behind and self._pieces < len(log[self._read]) - 1:
            place = position(self._read + 1)
            piece = log[self._read][self._pieces]
            self._hand_on([piece], self._read + 1, 0, None if self._world.rules.whole else place)
            self._pieces += 1

    def _hand_on(self, changes: list[Any], version: int, count: int, place: Any) -> None:
        self.pipeline.step(
            Transactions(changes, count, place, position(version), [0.0] * count, False)
        )

    def turn(self) -> None:
        """One turn of the walks."""
        self.lane.turn(0.0)

    def attend(self) -> None:
        """Answer requests, owe what others did to the hash."""
        self.lane.answer_requests()
        lease = self.sink.renew()
        self.lane.check_hash(lease.damage)
        self.lane.lists.check(are_lost=lease.are_lists_lost)

    def walk(self, turns: int) -> None:
        """Turns with time enough between them for what is read ahead."""
        for _ in range(turns):
            self.turn()
            for _ in range(4):
                self.threads.advance(0)
        self.turn()

    @property
    def is_done(self) -> bool:
        return not self.is_behind and self.walker.is_idle


class World:
    """A store, a database, up to two processes, and copies of the store that lag."""

    def __init__(
        self, choose: Callable[[int, int], int], rules: Rules, *, has_scrub: bool = False
    ) -> None:
        self.choose = choose
        self.rules = rules
        self.settings = model_settings(scrub_interval_s=1e-9 if has_scrub else 0.0)
        self.database = Database()
        self.store = MemoryStore()
        self.processes: list[Process] = []
        self.floor = dict.fromkeys(IDS, 0)  # the earliest version that each document can be of
        self._copies = [(self.store.copy(), dict(self.floor))]
        self._now_s = 0.0
        self.is_touched = False  # by strangers

    @property
    def is_unsettled(self) -> bool:
        """Whether the daemon has yet to see what was asked, or done to the store."""
        sink = MemorySink(self.store)
        found = sink.load()
        is_changed = found is not None and (found.damage or found.are_lists_lost)
        return bool(self.store.requests or is_changed)

    def new_sink(self) -> RuledSink:
        sink = RuledSink(self.store, TTL_S, lambda: self._now_s, VIEWS)
        sink.rules = self.rules
        sink.dies_between = lambda: self.choose(0, 1) == 1
        return sink

    def log_end(self) -> Position:
        """Where the log ends."""
        return position(self.database.committed)

    # -- what can happen

    def commit(self, writes: list[tuple[str, int, int]]) -> None:
        self.database.commit(writes)

    def show(self) -> None:
        """What is committed becomes visible, or a part of it."""
        self.database.visible = self.choose(self.database.visible, self.database.committed)

    def take_over(self) -> None:
        """The lease runs out, as far as it is held, and another process takes it."""
        self._now_s += TTL_S
        try:
            self.processes = [*self.processes[-1:], Process(self)]
        except (FencedError, TransientError):
            pass  # its first write was lost

    def crash(self) -> None:
        """The process dies between two acts; the next one begins."""
        self.processes.clear()
        self.take_over()

    def run(self, number: int, act: Callable[[Process], None]) -> None:
        """Let one of the processes do something: the last has, or had, the lease."""
        if not self.processes:
            self.take_over()
        if not self.processes:
            return
        process = self.processes[number % len(self.processes)]
        try:
            act(process)
        except (FencedError, TransientError):
            self.processes.remove(process)

    def lose(self, dropped: Any) -> None:
        """The next write's request or reply is lost."""
        self.store.dropped = dropped

    def ask(self, request: Mapping[str, Any]) -> None:
        """Somebody asks something of whoever leads."""
        self.store.requests[f"{len(self.store.requests)}"] = json.dumps(request)

    def steal(self, document_id: str) -> None:
        """A stranger removes a document."""
        self.is_touched = True
        if self.store.documents.pop(document_id, None) is not None:
            self.floor[document_id] = 0

    def litter(self, number: int) -> None:
        """A stranger writes a field of his own."""
        self.is_touched = True
        self.store.documents[f"9{number}"] = b"x"

    def steal_list(self, number: int) -> None:
        """A stranger removes a list, or what is recorded of all ids."""
        self.is_touched = True
        if not number:
            self.store.listed.clear()
        elif self.store.lists:
            del self.store.lists[sorted(self.store.lists)[number % len(self.store.lists)]]

    def litter_list(self, document_id: str) -> None:
        """A stranger puts a document into a list."""
        self.is_touched = True
        self.store.lists.setdefault("title:odd", {})[document_id] = -1.0

    def copy_store(self) -> None:
        """A replica has got this far."""
        self._copies.append((self.store.copy(), dict(self.floor)))

    def promote(self, number: int) -> None:
        """A replica that lags becomes the store."""
        old, floor = self._copies[number % len(self._copies)]
        self.store.restore(old)
        self.floor = dict(floor)
        self._copies = [(c, f) for c, f in self._copies if c.epoch <= old.epoch]

    # -- what must hold

    def scrubbed(self, found: Differences) -> None:
        """Where nobody else writes, whatever the scrub finds is a change under way."""
        if not self.is_touched:
            raise Broken(f"a false alarm: {found}")

    def check(self) -> None:
        """The promise, after every act; what strangers did to the hash is seen a little later."""
        for document_id in IDS:
            self._check_order(document_id)
        if not self.is_touched:
            self._check_lists(self.store.documents)
        if self.store.checkpoint is not None and not self.is_unsettled:
            debts = {
                k: Debt.from_json(text, Position.parse) for k, text in self.store.debts.items()
            }
            for document_id in IDS:
                self._check_current(document_id, self.store.checkpoint.position.offset, debts)

    def _check_lists(self, documents: Mapping[str, bytes]) -> None:
        """Lists and documents are always of one act."""
        places = {k: place_of(document) for k, document in documents.items()}
        wanted: dict[str, dict[str, float]] = {}
        for document_id, place in places.items():
            for name, score in entries(place).items():
                wanted.setdefault(name, {})[document_id] = score
        if (self.store.listed, self.store.lists) != (places, wanted):
            raise Broken(f"the lists are not those of the documents: {self.store.lists}")

    def _check_order(self, document_id: str) -> None:
        """No document is of an earlier moment than before."""
        stored = self.store.documents.get(document_id)
        ticket, floor = int(document_id), self.floor[document_id]
        for version in range(floor, self.database.committed + 1):
            if self.database.versions[version].document(ticket) == stored:
                self.floor[document_id] = version
                return
        raise Broken(f"document {document_id} went back in time, or never was: {stored!r}")

    def _check_current(self, document_id: str, checkpoint: int, debts: dict[str, Debt]) -> None:
        """Each document is of the checkpoint or later, or owed, or about to be touched."""
        ticket, stored = int(document_id), self.store.documents.get(document_id)
        later = [v.document(ticket) for v in self.database.versions[checkpoint:]]
        if stored in later or len(set(later)) > 1:
            return
        if any(self._covers(debt, document_id, checkpoint) for debt in debts.values()):
            return
        raise Broken(f"document {document_id} is older than the checkpoint {checkpoint}")

    def _covers(self, debt: Debt, document_id: str, checkpoint: int) -> bool:
        later = self.database.versions[checkpoint:]
        ticket = int(document_id)
        if debt.reason == SCRUB:
            return False
        if debt.again:
            return True
        is_ahead = debt.cursor is None or ticket > int(debt.cursor)
        if debt.scope == "route":
            customers = {v.tickets[ticket][0] for v in later if ticket in v.tickets}
            return is_ahead and any((customer,) in debt.values for customer in customers)
        if debt.scope == "ids":
            return document_id in debt.ids[int(debt.cursor or 0) :]
        if debt.phase == "strays":
            return False
        if debt.phase == "write":
            return is_ahead or later[0].document(ticket) is None
        is_unscanned = debt.cursor is None or scan_place(document_id) > int(debt.cursor)
        return is_unscanned and later[0].document(ticket) is None

    def settle(self) -> None:
        """Nothing happens any more: in the end the store is the database."""
        self.store.dropped = ""
        for _ in range(1000):
            if not (self.processes and self.processes[-1].sink.renew().held):
                self.crash()
                continue
            if self.processes[-1].is_done and not self.is_unsettled:
                break
            for act in (_step, _walk, Process.attend):
                self.run(-1, act)
                self.check()
        else:
            raise Broken("it never ends")
        if self.store.documents != self.database.versions[-1].documents():
            raise Broken("in the end the store is not the database")
        self._check_lists(self.store.documents)


def _step(process: Process) -> None:
    process.step(2)


def _walk(process: Process) -> None:
    process.walk(1)
