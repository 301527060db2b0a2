"""What a lane decides: what is put off, which walk goes first, what strangers' acts are worth."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from projector.debt import ALL, GREW, ORPHANS, REQUESTED, Debt, full, ids_debt, route_debt
from projector.model import Damage, Transactions
from tests.memory_sink import MemoryStore
from tests.unit.model_database import PLAN, Database, VersionFetcher, position
from tests.unit.model_world import (
    KNOWN,
    AtOnce,
    ModelLane,
    Process,
    RuledSink,
    Rules,
    World,
    model_settings,
)

LOOK_UP = next(iter(PLAN.look_ups))


class Held(AtOnce):
    """Reads nothing until it is let go."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return Future()


def opened(
    database: Database, debts: dict[str, Debt] | None = None
) -> tuple[ModelLane, MemoryStore]:
    """A lane whose hash is the database's now, with these debts; nothing is read for walks."""
    store = MemoryStore()
    sink = RuledSink(store)
    assert sink.acquire()
    fetcher = VersionFetcher(database, lambda _least, most: most, has_barrier=True)
    lane = ModelLane(PLAN, sink, fetcher, Held(), model_settings(), KNOWN)
    sink.load()
    checkpoint = lane.first(position(database.committed), "initial_build")
    lane.open(checkpoint)
    lane.pipeline.strike({ALL: None}, frozenset(), {})
    if debts:
        lane.pipeline.owe(debts)
    return lane, store


def test_many_look_ups_put_off_become_one_walk() -> None:
    """The seventeenth is not recorded by itself: one walk over everything is less work."""
    database = Database()
    customers = range(1, 19)
    database.commit([("customer", 1, customer) for customer in customers])
    tickets = [("ticket", 3 * c + i, c) for c in customers for i in range(3)]
    database.commit(tickets)  # three documents of each: more than the limit
    lane, store = opened(database)
    recorded = []
    for customer in customers:
        database.commit([("customer", 1, customer)])
        end = position(database.committed)
        lane.pipeline.step(Transactions(database.log[-1], 1, end, end, [0.0]))
        recorded.append(set(store.debts))
    assert [len(keys) for keys in recorded[:16]] == list(range(1, 17))
    assert all(ALL not in keys for keys in recorded[:16])
    assert recorded[16] == {ALL}
    assert recorded[17] >= {ALL}


@pytest.mark.parametrize(
    ("owed", "first"),
    [
        ([REQUESTED, "route"], "route"),
        (["truncate", "route"], ALL),
        ([REQUESTED, "ids"], "ids"),
        (["truncate", "ids"], "ids"),
        (["route", "ids"], "ids"),
        ([GREW, "route"], "route"),
    ],
)
def test_the_walk_that_is_waited_for_most_goes_first(owed: list[str], first: str) -> None:
    """Certain ids, then everything where it is owed for cause, then look-ups, then what somebody
    merely asked for."""
    debts: dict[str, Debt] = {}
    for what in owed:
        if what == "route":
            debts |= [route_debt(LOOK_UP, [(1,)])]
        elif what == "ids":
            debts |= [ids_debt(["1"], "x")]
        elif what == GREW:
            debts[ORPHANS] = Debt("all", GREW, phase="orphans")
        else:
            debts[ALL] = full(what)
    lane, _ = opened(Database(), debts)
    lane.turn(0.0)
    [flight, *_] = lane.walker._flights
    assert flight.key.partition(":")[0] == first


def test_a_resync_asked_for_during_a_walk_adds_a_round() -> None:
    """Documents already passed are made again; before the first is read it joins the walk."""
    world = World(lambda _least, most: most, Rules())
    world.commit([("ticket", ticket, 1) for ticket in range(1, 8)])
    world.settle()
    process = world.processes[-1]
    world.ask({"kind": "resync"})
    process.attend()
    world.ask({"kind": "resync"})
    process.attend()
    assert process.pipeline.known.debts[ALL].again == ""
    process.walk(2)
    assert process.pipeline.known.debts[ALL].done > 0
    world.store.documents["1"] = b"changed by a stranger"
    world.ask({"kind": "resync"})
    process.attend()
    process.attend()
    assert process.pipeline.known.debts[ALL].again == REQUESTED
    world.store.documents["1"] = b"changed by a stranger"
    world.floor["1"] = 0
    _walk_on(process)
    assert world.store.documents == world.database.versions[-1].documents()


def _walk_on(process: Process) -> None:
    for _ in range(100):
        if process.walker.is_idle:
            return
        process.walk(1)
    raise AssertionError("it never ends")


def test_a_cancelled_resync_gives_up_the_round_that_was_added_for_it() -> None:
    """And not the walk that is owed for cause."""
    lane, store = opened(Database(), {ALL: full("truncate")})
    lane.turn(0.0)  # begins
    store.requests["1"] = '{"kind": "resync"}'
    lane.answer_requests()
    assert lane.pipeline.known.debts[ALL].again == REQUESTED
    store.requests["2"] = '{"kind": "cancel"}'
    lane.answer_requests()
    assert (lane.pipeline.known.debts[ALL].again, lane.pipeline.known.debts[ALL].reason) == (
        "",
        "truncate",
    )
    assert store.requests == {}


def test_what_is_asked_for_is_no_lag() -> None:
    """What commits wait for is."""
    for reason, is_lag in ((REQUESTED, False), ("truncate", True), ("initial_build", True)):
        lane, _ = opened(Database(), {ALL: full(reason)})
        assert (lane.owed_since() is not None) is is_lag
    lane, _ = opened(Database(), dict([ids_debt(["1"], "repair")]))
    assert lane.owed_since() is None
    lane, _ = opened(Database(), dict([route_debt(LOOK_UP, [(1,)])]))
    assert lane.owed_since() is not None


@pytest.mark.parametrize(("removed", "damage"), [(2, Damage.NONE), (3, Damage.LOST)])
def test_more_orphans_than_growth_are_a_loss(removed: int, damage: Damage) -> None:
    """Three strangers and one document gone look like two strangers, until they are looked for."""
    database = Database()
    database.commit([("ticket", 1, 1)])
    lane, store = opened(database)
    for number in range(2):
        store.documents[f"stranger {number}"] = b"{}"
    lane.check_hash(Damage.GREW)
    lane.pipeline.strike({ORPHANS: None}, frozenset(), {})
    lane._note_end(ORPHANS, Debt("all", GREW, started_at=0.0, removed=removed))
    assert lane.pipeline.known.damage is damage


def test_growth_is_looked_through_again_after_a_rest_only() -> None:
    """A loss is made good at once, whatever rests."""
    database = Database()
    database.commit([("ticket", 1, 1)])
    lane, store = opened(database)
    lane.check_hash(Damage.GREW)
    assert set(store.debts) == {ORPHANS}
    lane.check_hash(Damage.GREW)
    lane.pipeline.strike({ORPHANS: None}, frozenset(), {})
    lane._note_end(ORPHANS, Debt("all", GREW, started_at=0.0))
    lane.check_hash(Damage.GREW)
    assert store.debts == {}
    assert lane.pipeline.known.damage is Damage.GREW  # not forgotten
    lane.check_hash(Damage.LOST)
    assert set(store.debts) == {ALL}
