"""The whole daemon in random histories: two projections, crashes between any two writes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from projector import daemon, lane, leases, pipeline, waiting
from projector.daemon import Adapters, Daemon
from projector.debt import ALL, Debt, full
from projector.errors import TransientError
from projector.model import Kind, RowsChange, TableChange
from projector.service.health import Health, State
from tests.memory_sink import MemorySink, MemoryStore
from tests.unit.model_daemon import PLANS, DaemonWorld
from tests.unit.model_database import TICKETS, Database
from tests.unit.model_world import model_settings
from tests.unit.test_lane import opened

SEEDS = int(os.environ.get("MODEL_DAEMON_SEEDS", "60"))


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon attends to everything at each turn, and waits for nothing."""
    monkeypatch.setattr(daemon, "_REQUESTS_EVERY_S", 0.0)
    monkeypatch.setattr(waiting, "_TERM_MOST_S", 0.0)
    monkeypatch.setattr(waiting, "_MOST_S", 0.0)
    monkeypatch.setattr(daemon, "_BETWEEN_TERMS_S", 0.0)
    monkeypatch.setattr(daemon, "_STANDBY_S", 0.0)
    monkeypatch.setattr(leases.Leases, "_keep", lambda *_: None)  # the world renews
    monkeypatch.setattr(lane, "_GREW_REST_S", 0.0)
    monkeypatch.setattr(pipeline, "_CHECKPOINT_EVERY_S", 0.0)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_hash_is_the_database_in_the_end(seed: int) -> None:
    """Whatever crashed, was lost, purged or taken away meanwhile."""
    world = DaemonWorld(seed)
    world.run()
    world.check()


def test_a_resync_that_the_command_line_asks_for_is_owed_once() -> None:
    """To each projection, whatever crashes and ends meanwhile: not again after each reconnect."""
    world = DaemonWorld(3, steps=0)
    world.run()
    for store in world.stores:
        store.documents["1"] = b"of a stranger"
        store.recorded = len(store.documents)
    world.run(resync=True)
    world.check()


def _idle() -> tuple[Daemon, Health]:
    health, nothing = Health(), None
    source: Any = nothing
    engine: Any = nothing
    parts = Adapters(PLANS, [MemorySink(MemoryStore()) for _ in PLANS], source, engine)
    return Daemon(model_settings(), parts, health), health


def test_who_leads_some_says_for_which_it_stands_by() -> None:
    """Who leads none stands by for all, and need not name them."""
    idle, health = _idle()
    names = tuple(plan.name for plan in PLANS)
    for led, waiting_for in ((names[:1], names[1:]), (names, ()), ((), ())):
        idle._tell_led(frozenset(led))
        assert health.snapshot().standby_for == waiting_for


def test_what_failed_in_a_term_is_over_for_who_stands_by() -> None:
    """Where it leads again later and fails, that is a failure of its own."""
    idle, health = _idle()
    idle._parts.sinks[0].acquire()  # another's
    for _ in range(2):
        health.failing(TransientError("mysql", "MySQL answers 1205", answered=True))
        idle._stand_by()
    texts = [event.text.partition(",")[0] for event in reversed(health.events())]
    assert [text for text in texts if "standby" not in text] == ["MySQL is busy", "goes on"] * 2


@pytest.mark.parametrize(
    ("debts", "state"),
    [
        ({ALL: full("initial_build")}, State.BUILDING), ({ALL: full("position_lost")},
        State.BUILDING), ({ALL: full("requested")}, State.CATCHING_UP), ({}, State.CATCHING_UP),
    ],
)  # fmt: skip
def test_documents_may_be_missing_while_one_projection_is_built(
    debts: dict[str, Debt], state: State
) -> None:
    """Not during a resync: every document is there."""
    idle, health = _idle()
    lanes: list[Any] = [opened(Database())[0], opened(Database(), debts)[0]]
    health.update(state=State.CATCHING_UP)
    idle._show(lanes)
    assert health.snapshot().state is state
    idle._show(lanes[:1])
    assert health.snapshot().state is State.CATCHING_UP


def test_definitions_are_read_again_after_those_that_change_them() -> None:
    """A row, or all rows gone, are none."""
    for reason, is_one in (("alter", True), ("drop", True), ("rename", True), ("truncate", False)):
        assert daemon._is_definition(TableChange(TICKETS, reason)) is is_one
    assert not daemon._is_definition(RowsChange(TICKETS, Kind.INSERT, [], [(1,)], 1))
