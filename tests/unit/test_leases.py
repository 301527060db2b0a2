"""The leases of several projections and the thread that keeps them, over stores in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from projector.errors import FencedError, OperatorError, TransientError
from projector.leases import Leases
from projector.model import Damage
from projector.ports import Lease
from tests.memory_sink import MemorySink, MemoryStore
from tests.projector_process import wait_for

TTL_S = 0.4


class FailingSink(MemorySink):
    """Its renewals fail as long as the test says."""

    failure: Exception | None = None
    renewals = 0

    def renew(self, report: str = "") -> Lease:
        self.renewals += 1
        if self.failure is not None:
            raise self.failure
        return super().renew(report)


@pytest.fixture
def stores() -> dict[str, MemoryStore]:
    return {"ones": MemoryStore(), "twos": MemoryStore()}


@pytest.fixture
def sinks(stores: dict[str, MemoryStore]) -> dict[str, FailingSink]:
    return {name: FailingSink(store, TTL_S) for name, store in stores.items()}


@pytest.fixture
def leases(sinks: dict[str, FailingSink]) -> Iterator[Leases]:
    made = Leases(sinks, TTL_S, lambda: "{}")
    yield made
    made.release()


@pytest.mark.parametrize(
    "failure",
    [
        TransientError("redis", "away"), OperatorError("refused", "Do."), FencedError("x"),
        ValueError("x"), MemoryError(), RecursionError(), KeyError("x"),
    ],
    ids=lambda failure: type(failure).__name__,
)  # fmt: skip
def test_a_lease_that_cannot_be_renewed_is_lost_in_time(
    failure: Exception, leases: Leases, sinks: dict[str, FailingSink]
) -> None:
    """Whatever it fails of; and the thread goes on, so that the next is kept."""
    assert leases.acquire() == {"ones", "twos"}
    sinks["ones"].failure = failure
    assert not leases.are_lost
    wait_for(lambda: leases.are_lost, timeout_s=5)
    sinks["ones"].failure = None
    time.sleep(TTL_S)  # both have run out, but for the thread
    assert leases.acquire() == {"ones", "twos"}
    until = time.monotonic() + 3 * TTL_S
    while time.monotonic() < until:
        assert not leases.are_lost
        time.sleep(0.02)


def test_a_short_failure_loses_nothing(leases: Leases, sinks: dict[str, FailingSink]) -> None:
    """The lease outlasts it."""
    leases.acquire()
    sinks["ones"].failure = OperatorError("refused", "Do.")
    count = sinks["ones"].renewals
    wait_for(lambda: sinks["ones"].renewals > count + 1, timeout_s=5)
    sinks["ones"].failure = None
    count = sinks["ones"].renewals
    wait_for(lambda: sinks["ones"].renewals > count + 1, timeout_s=5)
    assert not leases.are_lost


def test_each_projection_is_led_for_itself(
    leases: Leases, sinks: dict[str, FailingSink], stores: dict[str, MemoryStore]
) -> None:
    """Another has one; when it lets go, that one can be had too, in a later epoch."""
    other = MemorySink(stores["ones"], 60)
    assert other.acquire()
    assert leases.acquire() == {"twos"}
    assert not leases.acquire_free()
    epoch = sinks["twos"].epoch
    other.release()
    assert leases.acquire_free()
    assert leases.acquire() == {"ones", "twos"}
    assert sinks["twos"].epoch == epoch
    assert not leases.acquire_free()


def test_a_lease_taken_away_is_noticed_and_the_others_kept(
    leases: Leases, stores: dict[str, MemoryStore], sinks: dict[str, FailingSink]
) -> None:
    """The projection that is lost is not led any more; the other's epoch stays."""
    leases.acquire()
    epoch = sinks["twos"].epoch
    stores["ones"].holder, stores["ones"].holder_until = "another", time.monotonic() + 60
    wait_for(lambda: leases.are_lost, timeout_s=5)
    assert leases.acquire() == {"twos"}
    assert sinks["twos"].epoch == epoch
    assert not leases.are_lost


def test_damage_is_told_by_projection(
    leases: Leases, stores: dict[str, MemoryStore], sinks: dict[str, FailingSink]
) -> None:
    """Once for each look, the worse of what was found."""
    leases.acquire()
    stores["ones"].stamp, stores["twos"].stamp = "s", "s"
    stores["twos"].documents["1"] = b"x"
    found: dict[str, Damage] = {}

    def is_told() -> bool:
        found.update(leases.damage())
        return found.get("twos") is Damage.GREW

    wait_for(is_told, timeout_s=5)
    assert found.get("ones", Damage.NONE) is Damage.NONE
