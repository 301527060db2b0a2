"""The model of the whole daemon: real daemon, leases and lanes over one log and two stores.

The log calls back: each time the daemon reads it, the world does the next thing of a random
history: commits, visibility, purges, lost requests and replies, a lease that goes to another, a
transaction that is prepared and waits, and crashes between any two writes. In the end every store
is the database.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Table

from projector.daemon import Adapters, Daemon
from projector.errors import PositionLostError
from projector.fetch import Fetched
from projector.lane import Lane
from projector.model import Applied, Batch, Checkpoint, Transactions, Watch, merged
from projector.mysql.dialect import MYSQL
from projector.mysql.position import Position, own
from projector.ports import Knowledge, Patience
from projector.projection import Plan, Projection
from projector.service.health import Health
from tests.memory_sink import MemorySink, MemoryStore
from tests.unit.model_database import (
    CUSTOMER_IDS,
    PLAN,
    TICKET_IDS,
    Database,
    Version,
    VersionFetcher,
    position,
)
from tests.unit.model_world import AtOnce, ModelLane, model_settings

_metadata = MetaData()
_customers = Table("customers", _metadata, Column("id", Integer, primary_key=True),
                   Column("name", Integer))  # fmt: skip
CUSTOMERS_PLAN = Plan(
    Projection(name="customers", root=_customers, fields=[_customers.c.name]), MYSQL
)
PLANS = [PLAN, CUSTOMERS_PLAN]
_TTL_S = 5.0


class Crash(BaseException):
    """kill -9."""


def customer_documents(version: Version) -> dict[str, bytes]:
    """All documents of the second projection by id."""
    return {str(k): f"{k} {name}".encode() for k, name in version.customers.items()}


class CustomersFetcher(VersionFetcher):
    """What `Fetcher` promises for the second projection."""

    def ids_after(self, after: str | None, limit: int, need: Any) -> list[str]:
        least = int(after) if after is not None else 0
        return [str(k) for k in sorted(self._snapshot(need).customers) if k > least][:limit]

    def existing(self, ids: Sequence[str], need: Any) -> set[str]:
        if not ids:
            return set()
        return set(ids) & customer_documents(self._snapshot(need)).keys()

    def documents(self, ids: Sequence[str], need: Any) -> Any:
        if not ids:
            return Fetched({}, frozenset(), {})
        found = customer_documents(self._snapshot(need))
        there = {k: found[k] for k in ids if k in found}
        return Fetched(there, frozenset(ids) - there.keys(), {})


class MortalSink(MemorySink):
    """A sink whose process may die before or after any write; its checkpoint never goes back."""

    def __init__(self, world: DaemonWorld, store: MemoryStore) -> None:
        super().__init__(store, _TTL_S, lambda: world.now_s)
        self._world = world
        self.is_dead = False

    def apply(self, batch: Batch) -> Applied:
        self._world.may_die()
        known = self.store.checkpoint
        if known is not None and batch.position is not None and batch.fingerprint is None:
            assert batch.position.reaches(known.position), "a checkpoint went back"
        applied = super().apply(batch)
        self._world.may_die()
        return applied

    def release(self) -> None:
        if not self._world.is_crashed:
            super().release()


class ModelSource:
    """The log, as `Source` promises. Each read lets the world do something first."""

    clock_offset_s = crash_loss_s = 0.0

    def __init__(self, world: DaemonWorld) -> None:
        self._world = world
        self._began = self._read = 0

    def current(self) -> Position:
        return position(self._world.database.committed)

    visible_end = current

    def begin(self) -> Position:
        self._world.confirmed = self._world.database.committed  # the log before is let go
        return self.current()

    def learn(self, plans: Sequence[Plan], patience: Patience) -> Knowledge:
        return Knowledge(merged([w for plan in plans for w in plan.watches("db")]))

    def check(self, place: Position) -> None:
        if place.offset < max(self._world.purged, self._world.confirmed):
            raise PositionLostError("purged")

    def start(self, place: Position, watches: Sequence[Watch]) -> None:
        self.check(place)
        self._began = self._read = place.offset

    def read(self, timeout_s: float) -> Transactions | None:
        world = self._world
        world.happen()
        log = world.database.log
        last = min(len(log), self._read + world.chance.randint(1, 3))
        changes = [change for number in range(self._read, last) for change in log[number]]
        count, self._read = last - self._read, last
        is_held = world.held is not None and self._began <= world.held
        place = position(min(last, world.held or 0) if is_held else last)
        return Transactions(changes, count, place, position(last), [0.0] * count, last == len(log))

    def confirm(self, durable: Collection[Position]) -> None:
        place = min(own(each).offset for each in durable)
        for checkpoint in self._world.checkpoints_led():
            assert checkpoint.position.reaches(position(place)), "let go what is still needed"
        self._world.confirmed = max(self._world.confirmed, place)

    def wake(self) -> None: ...

    def close(self) -> None: ...


class ModelDaemon(Daemon):
    """The real daemon over the model's database."""

    world: DaemonWorld

    def _stand_by(self) -> None:
        self.world.now_s += 1.0  # nobody reads the log meanwhile
        super()._stand_by()

    def _lane(self, plan: Plan, sink: Any) -> Lane:
        kind = VersionFetcher if plan is PLAN else CustomersFetcher
        fetcher = kind(self.world.database, self.world.choose, has_barrier=True)
        return ModelLane(plan, sink, fetcher, AtOnce(), self._settings, self._known)


class DaemonWorld:
    """One history by its seed."""

    def __init__(self, seed: int, steps: int = 60) -> None:
        self.chance = random.Random(seed)
        self.database = Database()
        self.stores = [MemoryStore() for _ in PLANS]
        self.now_s = 0.0
        self.purged = self.confirmed = 0  # what lies before is in no log any more
        self.held: int | None = None  # from where on is read again: a transaction is prepared
        self.is_crashed = False
        self._left = steps
        self._quiet = 0
        self._daemon: ModelDaemon | None = None
        self._death = 0.0
        self.database.commit([("customer", 1, c) for c in CUSTOMER_IDS])
        self.database.commit([("ticket", t, 1 + t % 2) for t in TICKET_IDS])

    def choose(self, least: int, most: int) -> int:
        return self.chance.randint(least, most)

    def may_die(self) -> None:
        """The process ends here, perhaps."""
        if self._left > 0 and self.chance.random() < self._death:
            self.is_crashed = True
            raise Crash

    def happen(self) -> None:  # noqa: C901 - one arm for each thing
        """Do the next thing of the history; when all is done, wait for the daemon, and stop it."""
        assert self._daemon is not None
        self.now_s += 0.2
        for name in self._daemon._leases.held:
            self._daemon._leases._renew(name, threading.Event())
        if self._left <= 0:
            self._quiet += 1
            if self._quiet == 1 and self.chance.random() < 0.5:  # no later change mends its walk
                self.held = self.database.committed if self.held is None else self.held
                act = self.chance.choice(["truncate", "statement"])
                self.database.commit([(act, 1, self.chance.choice(CUSTOMER_IDS))])
            if self._quiet > 6:
                self.held = None
            if self._quiet > 12 and self.is_settled:
                self._daemon.stop()
            assert self._quiet < 2000, "it never ends"
            return
        self._left -= 1
        self._death = 0.15 if self.chance.random() < 0.2 else 0.0
        act = self.chance.choices(
            [
                "commit",
                "truncate",
                "statement",
                "show",
                "rest",
                "lose",
                "steal",
                "purge",
                "tamper",
                "prepare",
                "lend",
            ],
            [10, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1],
        )[0]
        match act:
            case "commit":
                self._commit()
            case "truncate" | "statement":
                self.database.commit([(act, 1, self.chance.choice(CUSTOMER_IDS))])
            case "show":
                database = self.database
                database.visible = self.choose(database.visible, database.committed)
            case "lose":
                what: Any = self.chance.choice(["request", "reply"])
                self.chance.choice(self.stores).dropped = what
            case "steal":  # somebody else had the lease for a moment
                self.chance.choice(self.stores).holder = "another"
                self.now_s += _TTL_S + 1
            case "lend":  # somebody else has it for a while, beside us
                store = self.chance.choice(self.stores)
                store.holder, store.holder_until = "another", self.now_s + 2 * _TTL_S
            case "purge":  # while the daemon is down: what is before this is in no log any more
                self._commit()
                self.purged = self.database.committed
                self._death = 0.5
                self.is_crashed = True
                raise Crash
            case "prepare":  # or its commit: until then it holds the place to restart from back
                self.held = self.database.committed if self.held is None else None
            case "tamper":
                documents = self.chance.choice(self.stores).documents
                if documents:
                    documents.pop(self.chance.choice(sorted(documents)))

    def checkpoints_led(self) -> list[Checkpoint]:
        """Return those of the stores that the daemon writes to."""
        assert self._daemon is not None
        led = self._daemon._leases.held
        stores = zip(PLANS, self.stores, strict=True)
        return [s.checkpoint for plan, s in stores if plan.name in led and s.checkpoint]

    def _commit(self) -> None:
        kinds = ["ticket", "ticket", "customer", "delete", "leave", "other"]
        self.database.commit([
            (self.chance.choice(kinds), self.chance.choice(TICKET_IDS),
             self.chance.choice(CUSTOMER_IDS))
            for _ in range(self.chance.randint(1, 3))
        ])  # fmt: skip

    @property
    def is_settled(self) -> bool:
        end = position(self.database.committed)
        return all(
            store.checkpoint is not None
            and store.checkpoint.position.reaches(end)
            and not store.debts
            and not MemorySink(store)._damage()
            for store in self.stores
        )

    def run(self, *, resync: bool = False) -> None:
        """Live the history: start a daemon, again after each crash."""
        self._quiet = 0
        while True:
            source: Any = ModelSource(self)
            sinks = [MortalSink(self, store) for store in self.stores]
            engine: Any = None
            parts = Adapters(PLANS, sinks, source, engine)
            self._daemon = ModelDaemon(model_settings(), parts, Health())
            self._daemon.world = self
            self.is_crashed = False
            try:
                self._daemon.run(resync=resync)
                return
            except Crash:
                self.now_s += _TTL_S + 1

    def check(self) -> None:
        """Every hash is the database."""
        last = self.database.versions[-1]
        assert self.stores[0].documents == last.documents()
        assert self.stores[1].documents == customer_documents(last)
