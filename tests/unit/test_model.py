"""The model, explored: the promise holds in every history, and breaking any rule shows."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from projector import lane, pipeline, reconcile
from projector.debt import ALL, Debt, full
from tests.unit.model_database import CUSTOMER_IDS, TICKET_IDS
from tests.unit.model_world import Broken, Process, Rules, World

WRITES = st.tuples(
    st.sampled_from(["ticket"] * 4 + ["customer"] * 3 + ["delete", "leave", "truncate", "other"]),
    st.sampled_from(TICKET_IDS),
    st.sampled_from(CUSTOMER_IDS),
)
SMALL = st.integers(0, 2)
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "200"))
SEARCHED = 50_000  # at most: the search ends with the first history that breaks the promise


class Machine(RuleBasedStateMachine):
    """Any order of what can happen."""

    rules_in_force = Rules()

    lucks: tuple[str, ...] = (
        "good", "dead processes", "old stores", "any", "thieves", "strangers",
    )  # fmt: skip
    luck = ""

    @initialize(has_scrub=st.booleans(), is_built=st.booleans(), data=st.data())
    def begin(self, has_scrub: bool, is_built: bool, data: st.DataObject) -> None:
        self.luck = data.draw(st.sampled_from(self.lucks))

        def choose(least: int, most: int) -> int:
            return data.draw(st.integers(least, most)) if least < most else least

        self.world = World(choose, self.rules_in_force, has_scrub=has_scrub)
        customers = [("customer", 1, customer) for customer in CUSTOMER_IDS]
        tickets = [("ticket", ticket, 1 + ticket % 2) for ticket in TICKET_IDS]
        self.world.commit(customers + tickets)
        if is_built:
            self.world.settle()

    @rule(writes=st.lists(WRITES, min_size=1, max_size=3))
    def commit(self, writes: list[tuple[str, int, int]]) -> None:
        self.world.commit(writes)

    @rule()
    def show(self) -> None:
        self.world.show()

    @rule(writes=st.lists(WRITES, min_size=1, max_size=2))
    def commit_and_step(self, writes: list[tuple[str, int, int]]) -> None:
        self.world.commit(writes)
        self.world.run(-1, lambda process: process.step(99))

    @rule(number=SMALL, most=st.integers(1, 3))
    def step(self, number: int, most: int) -> None:
        self.world.run(number, lambda process: process.step(most))

    @rule(number=SMALL)
    def step_piece(self, number: int) -> None:
        self.world.run(number, Process.step_piece)

    @rule(number=SMALL)
    def turn(self, number: int) -> None:
        self.world.run(number, Process.turn)

    @rule(number=SMALL, flight=SMALL)
    def fly(self, number: int, flight: int) -> None:
        self.world.run(number, lambda process: process.threads.advance(flight))

    @rule(number=SMALL, turns=st.integers(1, 4))
    def walk(self, number: int, turns: int) -> None:
        self.world.run(number, lambda process: process.walk(turns))

    @rule(number=SMALL)
    def flush(self, number: int) -> None:
        self.world.run(number, lambda process: process.pipeline.flush())

    @precondition(lambda self: self.luck in {"dead processes", "any"})
    @rule()
    def take_over(self) -> None:
        self.world.take_over()

    @precondition(lambda self: self.luck in {"dead processes", "any"})
    @rule()
    def crash(self) -> None:
        self.world.crash()

    @precondition(lambda self: self.luck in {"dead processes", "any"})
    @rule(dropped=st.sampled_from(["request", "reply"]))
    def lose(self, dropped: str) -> None:
        self.world.lose(dropped)

    @precondition(lambda self: self.luck in {"old stores", "any"})
    @rule()
    def copy_store(self) -> None:
        self.world.copy_store()

    @precondition(lambda self: self.luck in {"old stores", "any"})
    @rule(number=st.integers(-2, 0))
    def promote(self, number: int) -> None:
        self.world.promote(number)

    @rule(kind=st.sampled_from(["resync", "cancel"]))
    def ask(self, kind: str) -> None:
        self.world.ask({"kind": kind})

    @rule(number=SMALL)
    def attend(self, number: int) -> None:
        self.world.run(number, Process.attend)

    @precondition(lambda self: self.luck in {"thieves", "strangers"})
    @rule(number=st.integers(0, 3), ticket=st.sampled_from(TICKET_IDS))
    def meddle_with_lists(self, number: int, ticket: int) -> None:
        if self.luck == "thieves":
            self.world.steal_list(number)
        else:
            self.world.litter_list(str(ticket))

    @precondition(lambda self: self.luck == "thieves")
    @rule(ticket=st.sampled_from(TICKET_IDS))
    def steal(self, ticket: int) -> None:
        self.world.steal(str(ticket))

    @precondition(lambda self: self.luck == "strangers")
    @rule(number=SMALL)
    def litter(self, number: int) -> None:
        self.world.litter(number)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()


class OldStores(Machine):
    """Nothing dies; the store is set back."""

    lucks = ("old stores",)


class Strangers(Machine):
    """Somebody else writes to the store."""

    lucks = ("strangers",)


# Where a broken rule shows soonest; any other shows soon in any kind of history.
KINDS: dict[str, type[Machine]] = {"stamp": OldStores, "whole": Strangers}


def explore(
    rules: Rules,
    examples: int,
    phases: tuple[Phase, ...],
    kind: type[RuleBasedStateMachine] = Machine,
) -> None:
    """Explore histories with these rules in force."""
    machine = type("Explored", (kind,), {"rules_in_force": rules})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=60, derandomize=True, deadline=None,
            database=None, phases=phases, report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint alone is written when the model says so."""
    monkeypatch.setattr(pipeline, "_CHECKPOINT_EVERY_S", float("inf"))
    monkeypatch.setattr(pipeline, "_CHECKPOINT_SOON_S", float("inf"))
    monkeypatch.setattr(lane, "_GREW_REST_S", 0.0)
    monkeypatch.setattr(lane, "_GREW_REST_RATIO", 0.0)


def test_the_promise_holds_in_every_history() -> None:
    """Crashes, lost requests and replies, two leaders, a store set back: explored at random."""
    explore(Rules(), EXAMPLES, (Phase.generate, Phase.shrink))


APART = {"lease"}  # has a test of its own


@pytest.mark.parametrize(
    "broken", [f.name for f in dataclasses.fields(Rules) if f.name not in APART]
)
def test_a_broken_rule_shows(broken: str) -> None:
    """Without it there is a history in which a document is stale, lost or set back."""
    with pytest.raises(Broken):
        explore(Rules(**{broken: False}), SEARCHED, (Phase.generate,), KINDS.get(broken, Machine))


def test_without_the_lease_a_deposed_leader_shows() -> None:
    """One history, for a search for it takes long: two leaders, of whom the one that lost the lease
    goes on with its comparison after everything was deleted and its successor has written."""

    def history(rules: Rules) -> None:
        world = World(min, rules, has_scrub=True)
        world.commit([("ticket", ticket, 1) for ticket in TICKET_IDS])
        world.settle()
        world.take_over()
        world.take_over()
        world.commit([("truncate", 1, 1)])
        world.commit([("ticket", 1, 1)])
        world.run(-1, lambda process: process.step(99))
        world.run(0, lambda process: process.walk(2))
        world.settle()

    history(Rules())
    with pytest.raises(Broken):
        history(Rules(lease=False, stamp=False))


def test_a_walk_that_overwrites_what_was_written_meanwhile_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rule of the low watermark: what was touched since the chunk was read is left alone."""
    monkeypatch.setattr(reconcile, "_without", lambda fetched, _touched: fetched)
    with pytest.raises(Broken):
        explore(Rules(), SEARCHED, (Phase.generate,))


def test_a_walk_that_forgets_to_begin_again_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A debt met again while it is worked off needs another round."""
    monkeypatch.setattr(
        pipeline.Pipeline, "_again", lambda self, key, debt: self.known.debts.get(key, debt)
    )
    with pytest.raises(Broken):
        explore(Rules(), SEARCHED, (Phase.generate,))


def test_a_walk_without_its_second_phase_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents that the database no longer has are found in the store alone."""
    whole = reconcile._following

    def without(debt: Debt, *, has_lists: bool) -> Debt | None:
        phase = "orphans" if debt.phase == "write" else debt.phase
        return whole(dataclasses.replace(debt, phase=phase), has_lists=has_lists)

    monkeypatch.setattr(reconcile, "_following", without)
    with pytest.raises(Broken):
        explore(Rules(), SEARCHED, (Phase.generate,))


def test_a_walk_without_its_last_phase_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What strangers put into lists is found in the lists alone."""
    whole = reconcile._following
    monkeypatch.setattr(
        reconcile, "_following", lambda debt, *, has_lists: whole(debt, has_lists=False)
    )
    with pytest.raises(Broken):
        explore(Rules(), SEARCHED, (Phase.generate,), Strangers)


def cancel(process: Process) -> None:
    """Somebody cancels a resync."""
    process.sink.store.requests["cancel"] = '{"kind": "cancel"}'
    process.attend()


def test_a_cancelled_resync_leaves_what_a_truncate_owes() -> None:
    """The log's own repair, met while a resync runs, is not given up with it."""
    world = World(lambda _least, most: most, Rules())
    world.commit([("ticket", ticket, 1) for ticket in TICKET_IDS])
    world.settle()
    process = world.processes[-1]
    process.pipeline.owe({ALL: full("requested")})
    world.commit([("truncate", 1, 1)])
    process.step(1)
    cancel(process)
    world.check()
    world.settle()


def test_a_walk_begun_after_a_cancelled_one_begins_at_the_beginning() -> None:
    """What was being read for the old walk is not taken for the new one's."""
    world = World(lambda _least, most: most, Rules())
    world.commit([("ticket", ticket, 1) for ticket in TICKET_IDS])
    world.settle()
    process = world.processes[-1]
    process.pipeline.owe({ALL: full("requested")})
    process.turn()
    for number in (0, 0, 1, 1):
        process.threads.advance(number)
    cancel(process)
    process.pipeline.owe({ALL: full("requested")})
    process.walker.turn(99.0, 1.0)  # settles, reads nothing ahead
    assert process.pipeline.known.debts[ALL].cursor is None
