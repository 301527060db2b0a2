"""Waits at the barrier: how they end, and who is told of them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from projector.errors import TransientError
from projector.model import Need
from projector.mysql import barrier
from projector.ports import Patience
from tests.unit.model_database import Database, position
from tests.unit.test_lane import opened


class Late:
    """A barrier that is reached at one of the attempts."""

    def __init__(self, reached_at: int) -> None:
        self._left = reached_at

    def opening(self, need: Need, before: Any = ()) -> list[str]:
        return [f"WAIT {self._left}", "BEGIN"]

    def reached(self, need: Need, results: Any) -> bool:
        self._left -= 1
        return self._left <= 0

    def can_keep(self, need: Need) -> bool:
        return True


@pytest.fixture(autouse=True)
def _each_attempt_takes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = SimpleNamespace(monotonic=itertools.count().__next__)
    monkeypatch.setattr(barrier, "time", clock)


def wait(reached_at: int, patience: Patience) -> tuple[list[Any], int]:
    """Read once the barrier is reached; return the rows, and how often it was not."""
    connection: Any = SimpleNamespace(
        query_raw=lambda *statements, max_bytes: [[(text,)] for text in statements]
    )
    again: list[None] = []
    rows = barrier.behind(
        Late(reached_at), connection, Need(position(1)), patience, ["SELECT 1"],
        on_again=lambda: again.append(None),
    )  # fmt: skip
    return rows, len(again)


@pytest.mark.parametrize(("reached_at", "told"), [(1, []), (3, []), (5, ["cause", None])])
def test_a_long_wait_is_told_and_a_short_one_is_not(reached_at: int, told: list[Any]) -> None:
    """Once, after two seconds, and that it is over."""
    heard: list[str | None] = []
    patience = Patience(on_wait=lambda cause: heard.append(cause and "cause"))
    assert wait(reached_at, patience) == ([[("SELECT 1",)]], reached_at - 1)
    assert heard == told


@pytest.mark.parametrize(
    "patience", [Patience(lambda: True), Patience(seconds=3)], ids=["stops", "ends"]
)
def test_a_wait_ends_with_its_patience(patience: Patience) -> None:
    """What stops, or has waited long enough, gets an error that passes."""
    heard: list[str | None] = []
    with pytest.raises(TransientError, match="stopped while waiting"):
        wait(99, Patience(patience.is_stopping, patience.seconds, heard.append))
    assert heard[-1:] in ([], [None])


def test_a_lane_waits_as_long_as_its_term_and_says_so() -> None:
    """Its end ends the wait; `waiting_for` names the projection."""
    lane, _ = opened(Database())
    given: list[Patience] = []
    ended, heard = False, list[Any]()
    database: Any = SimpleNamespace(
        readers=lambda place, keys, patience, on: given.append(patience)
    )
    listener: Any = SimpleNamespace(
        progress=lambda: None, waits=lambda *said: heard.append(said), event=lambda *_, **__: None
    )
    lane._database, lane._listener, lane._is_stopping = database, listener, lambda: ended
    checkpoint = lane.sink.load()
    assert checkpoint is not None
    lane.open(checkpoint)
    [patience] = given
    assert not patience.is_stopping()
    ended = True
    assert patience.is_stopping()
    patience.on_wait("a commit")
    assert heard == [("tickets at the barrier", "a commit")]
