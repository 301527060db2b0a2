"""What a lane decides: what is put off, which walk goes first, what strangers' acts are worth."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from projector import metrics, reconcile
from projector.debt import ALL, GREW, ORPHANS, REQUESTED, Debt, full, ids_debt, route_debt
from projector.errors import OperatorError
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


def walking(monkeypatch: pytest.MonkeyPatch) -> tuple[ModelLane, list[int]]:
    """A lane that walks over seven tickets, two a chunk; and the sizes of chunks that are read."""
    database = Database()
    database.commit([("ticket", ticket, 1) for ticket in range(1, 8)])
    lane, _ = opened(database, {ALL: full("truncate")})
    sizes: list[int] = []
    read = lane.walker._reader.read

    def counted(ids: list[str], *rest: Any, **more: Any) -> Any:
        sizes.append(len(ids))
        return read(ids, *rest, **more)

    monkeypatch.setattr(lane.walker._reader, "read", counted)
    monkeypatch.setattr(lane.walker, "_executor", AtOnce())
    return lane, sizes


def test_a_turn_settles_one_chunk_for_the_tail_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """And wakes who reads the log, where another one waits to be settled."""
    lane, sizes = walking(monkeypatch)
    woken: list[int] = []
    monkeypatch.setattr(lane.walker, "_on_read", lambda: woken.append(1))
    assert not lane.turn(0.0)
    assert sizes == [2, 2]
    woken.clear()
    assert lane.turn(0.0)
    assert lane.pipeline.known.debts[ALL].done == 2
    assert woken == [1, 1]  # for the chunk that waits, and for the one that was read


def test_chunks_are_small_while_there_are_live_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for the write of a chunk; a walk that nobody waits beside takes large ones."""
    monkeypatch.setattr(reconcile, "_BESIDE_CHANGES", 1)
    lane, sizes = walking(monkeypatch)
    lane.turn(0.0)
    assert sizes == [2, 2]
    monkeypatch.setattr(lane.pipeline, "_changed_at", time.monotonic())
    lane.turn(0.0)
    assert sizes == [2, 2, 1]
    monkeypatch.setattr(lane.pipeline, "_changed_at", time.monotonic() - 1.1)
    lane.turn(0.0)
    assert sizes == [2, 2, 1, 2]


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


def test_a_round_that_was_asked_for_becomes_one_that_is_owed() -> None:
    """Where another cause comes on top of it: the round may no longer be cancelled."""
    lane, store = opened(Database(), {ALL: full("truncate")})
    lane.turn(0.0)  # begins
    for request in ('{"kind": "resync"}', '{"kind": "cancel"}'):
        store.requests["1"] = request
        lane.answer_requests()
        lane.pipeline.owe({ALL: full("fanout")})
        assert lane.pipeline.known.debts[ALL].again == "fanout"


def test_a_walk_that_has_a_cursor_has_begun() -> None:
    """Also where its first chunk changed nothing that is counted, and after a restart."""
    lane, _ = opened(Database(), {ALL: full("truncate")})
    assert not lane.walker.has_begun(ALL)
    lane.pipeline.known.debts[ALL] = replace(full("truncate"), cursor="1")
    assert lane.walker.has_begun(ALL)


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


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def progress(self) -> None: ...

    def waits(self, who: str, cause: str | None) -> None: ...

    def event(self, text: str, level: str = "info", **facts: Any) -> None:
        self.events.append(text)


def test_the_end_of_a_walk_over_everything_is_told() -> None:
    """And no other's."""
    lane, _ = opened(Database())
    told = lane._listener = Told()
    for key, said in ((ORPHANS, []), ("ids:1", []), (ALL, ["resync_done"])):
        lane._note_end(key, Debt("all", REQUESTED, started_at=0.0))
        assert told.events == said


def test_a_walks_progress_is_shown_while_there_is_one() -> None:
    """As a share of what was counted; of nothing counted none."""
    lane, _ = opened(Database())
    for debt, running, share in (
        (Debt("all", "x", done=3, total=4), 1, 0.75), (Debt("all", "x", done=9, total=4), 1, 1.0),
        (Debt("all", "x", done=3), 1, 0.0),
    ):  # fmt: skip
        lane.pipeline.known.debts[ALL] = debt
        lane.show()
        assert metrics.resync_running.labels(PLAN.name)._value.get() == running
        assert metrics.resync_progress.labels(PLAN.name)._value.get() == share
    del lane.pipeline.known.debts[ALL]
    lane.show()
    assert metrics.resync_running.labels(PLAN.name)._value.get() == 0


@pytest.mark.parametrize("policy", ["resync", "stop"])
def test_documents_of_another_projection_are_made_again_or_nothing_is_done(policy: Any) -> None:
    """As the operator has it; what the other one put off means nothing to this one."""
    database = Database()
    database.commit([("ticket", 1, 1)])
    lane, store = opened(database, dict([ids_debt(["7"], "x")]))
    assert store.checkpoint is not None
    store.checkpoint = replace(store.checkpoint, fingerprint="another")
    store.debts["ids:old"] = '{"scope": "ids", "reason": "x", "ids": ["1"]}'
    settings = model_settings()
    settings = settings.model_copy(
        update={"reconcile": settings.reconcile.model_copy(update={"on_projection_change": policy})}
    )
    again = ModelLane(PLAN, lane.sink, lane._of_model, Held(), settings, KNOWN)
    checkpoint = lane.sink.load()
    assert checkpoint is not None
    if policy == "stop":
        with pytest.raises(OperatorError, match="another projection"):
            again.open(checkpoint)
        return
    again.open(checkpoint)
    assert set(store.debts) == {ALL} == set(again.pipeline.known.debts)
    assert again.is_building is False
    assert again.pipeline.known.debts[ALL].reason == "projection_changed"


def test_debts_that_nobody_can_read_become_one_walk() -> None:
    """Behind the log's end, for nobody knows their cause."""
    database = Database()
    database.commit([("ticket", 1, 1)])
    lane, store = opened(database)
    store.debts["route:x"] = "["
    store.owed = 1
    again = ModelLane(PLAN, lane.sink, lane._of_model, Held(), model_settings(), KNOWN)
    checkpoint = lane.sink.load()
    assert checkpoint is not None
    again.open(checkpoint, end=position(database.committed))
    assert set(store.debts) == {ALL}
    debt = again.pipeline.known.debts[ALL]
    assert (debt.reason, debt.barrier) == ("debts_unreadable", position(database.committed))


def test_a_place_is_written_once_a_second_and_not_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions that touch nothing move the checkpoint now and then, with their time; the same
    place is not written again."""
    monkeypatch.setattr("projector.pipeline._CHECKPOINT_EVERY_S", 0.0)
    database = Database()
    lane, store = opened(database)
    database.commit([("other", 1, 1)])
    end = position(database.committed)
    passing = Transactions(database.log[-1], 1, end, end, [7.0])
    lane.pipeline.step(passing)
    assert store.checkpoint is not None
    assert (store.checkpoint.position, store.checkpoint.committed_at) == (end, 7.0)
    stamp = store.stamp
    lane.pipeline.step(Transactions([], 0, end, end, []))
    lane.pipeline.step(Transactions([], 0, None, end, []))
    assert store.stamp == stamp
    database.commit([("ticket", 1, 1)])
    end = position(database.committed)
    lane.pipeline.step(Transactions(database.log[-1], 1, end, end, [9.0]))
    assert (store.checkpoint.position, store.checkpoint.committed_at) == (end, 9.0)
    database.commit([("other", 1, 1)])
    end = position(database.committed)
    lane.pipeline.step(Transactions(database.log[-1], 1, end, end, []))
    assert (store.checkpoint.position, store.checkpoint.committed_at) == (end, 9.0)


def test_a_place_behind_documents_is_written_soon_and_then_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Commits that touch nothing are written 30 ms after documents, then at intervals that double:
    who waits for a commit may have been told a place a little beyond it."""
    now = 100.0
    clock = SimpleNamespace(monotonic=lambda: now, perf_counter=lambda: now)
    monkeypatch.setattr("projector.pipeline.time", clock)
    database = Database()
    lane, store = opened(database)
    written = []
    for number in range(3000):
        database.commit([("ticket" if number == 0 else "other", 1, 1)])
        end = position(database.committed)
        stamp = store.stamp
        lane.pipeline.step(Transactions(database.log[-1], 1, end, end, [now]))
        if store.stamp != stamp:
            written.append(number)
        now += 0.001
    assert written[0] == 0
    assert [round(at, -1) for at in written[1:7]] == [30, 60, 120, 240, 480, 960]
    assert [later - at for at, later in itertools.pairwise(written[6:])] == [960, 1000]


def test_a_lost_hash_is_made_good_though_a_resync_is_cancelled() -> None:
    """What was asked for may be given up; what was lost in the meantime is owed for that cause."""
    lane, store = opened(Database())
    store.requests["1"] = '{"kind": "resync"}'
    lane.answer_requests()
    assert lane.pipeline.known.debts[ALL].reason == REQUESTED
    lane.check_hash(Damage.LOST)
    store.requests["2"] = '{"kind": "cancel"}'
    lane.answer_requests()
    assert lane.pipeline.known.debts[ALL].reason == "hash_changed"


def test_what_was_written_before_a_crash_is_owed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many seconds as the server may take back, documents, removals and look-ups; none where
    it takes nothing back, and none in a first term."""
    now = 100.0
    monkeypatch.setattr("projector.portion.time", SimpleNamespace(monotonic=lambda: now))
    database = Database()
    lane, store = opened(database)

    def write(*rows: tuple[str, int, int]) -> None:
        database.commit(list(rows))
        end = position(database.committed)
        lane.pipeline.step(Transactions(database.log[-1], 1, end, end, [0.0]))

    write(("ticket", 1, 1))
    lane.doubt(0.0)
    assert not store.debts
    lane.doubt(2.0)
    assert not store.debts
    write(("ticket", 2, 1))
    now += 3
    write(("ticket", 3, 1))
    now += 1
    write(("delete", 1, 1))
    write(("ticket", 4, 1))
    write(("customer", 1, 9))  # of no ticket
    now += 60  # the server is away, and nothing is written
    lane.doubt(2.0)
    route, ids = sorted(lane.pipeline.known.debts.values(), key=lambda debt: debt.ids)
    assert (ids.reason, ids.ids) == ("doubted", ("1", "3", "4"))
    assert (route.name, route.values) == (LOOK_UP, ((9,),))
