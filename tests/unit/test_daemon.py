"""The whole daemon in random histories: two projections, crashes between any two writes."""

from __future__ import annotations

import os

import pytest

from projector import daemon, lane, leases, pipeline, waiting
from tests.unit.model_daemon import DaemonWorld

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
