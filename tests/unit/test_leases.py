"""The leases of several projections and the thread that keeps them, over stores in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from projector.errors import FencedError, OperatorError, TransientError
from projector.leases import Leases
from projector.model import Damage
from projector.ports import Lease
from tests.memory_sink import MemorySink, MemoryStore
from tests.projector_process import wait_for

TTL_S = 0.4
_UNHEARD = (lambda error, who: None, lambda who: None)


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
    made = Leases(sinks, TTL_S, lambda: "{}", *_UNHEARD)
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


@pytest.fixture
def lasting(
    stores: dict[str, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Leases, dict[str, FailingSink]]]:
    """Leases that outlast every test, renewed by the test alone."""
    monkeypatch.setattr(Leases, "_keep", lambda *_: None)
    sinks = {name: FailingSink(store, 60.0) for name, store in stores.items()}
    made = Leases(sinks, 60.0, lambda: "{}", *_UNHEARD)
    yield made, sinks
    made.release()


def test_a_lease_that_another_has_is_lost_at_once(
    lasting: tuple[Leases, dict[str, FailingSink]], stores: dict[str, MemoryStore]
) -> None:
    """However long it would have lasted; and it is lost until it is asked for again."""
    leases, _ = lasting
    leases.acquire()
    stores["ones"].holder, stores["ones"].holder_until = "another", time.monotonic() + 600
    leases._renew("twos", threading.Event())
    assert not leases.are_lost
    leases._renew("ones", threading.Event())
    assert leases.are_lost
    assert leases.acquire() == {"twos"}
    assert not leases.are_lost


class LateSink(FailingSink):
    """Something happens while its renewal is under way."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def renew(self, report: str = "") -> Lease:
        lease = super().renew(report)
        self.meanwhile()
        return lease


@pytest.mark.parametrize("acquires_again", [False, True])
def test_an_answer_that_comes_after_the_end_says_nothing(
    acquires_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was given up is not held by it, and a later lease not lost by it."""
    monkeypatch.setattr(Leases, "_keep", lambda *_: None)
    store = MemoryStore()
    sink = LateSink(store, 60.0)
    leases = Leases({"ones": sink}, 60.0, lambda: "{}", *_UNHEARD)
    leases.acquire()
    is_over = leases._is_over
    assert is_over is not None
    if acquires_again:
        store.holder, store.holder_until = "another", time.monotonic() + 600

    def meanwhile() -> None:
        leases.release()
        if acquires_again:
            store.holder = ""
            assert leases.acquire() == {"ones"}

    sink.meanwhile = meanwhile
    leases._renew("ones", is_over)
    assert leases.held == ({"ones"} if acquires_again else set())
    assert not leases.are_lost
    assert leases.damage() == {}
    leases.release()


def test_an_answer_about_a_lease_that_another_took_meanwhile_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop has noticed by itself, and leads the other projection on."""
    monkeypatch.setattr(Leases, "_keep", lambda *_: None)
    store = MemoryStore()
    sink = LateSink(store, 60.0)
    leases = Leases({"ones": sink, "twos": MemorySink(MemoryStore(), 60.0)}, 60.0, lambda: "{}",
                    *_UNHEARD)  # fmt: skip
    leases.acquire()
    is_over = leases._is_over
    assert is_over is not None

    def meanwhile() -> None:
        store.holder, store.holder_until = "another", time.monotonic() + 600
        assert leases.acquire() == {"twos"}

    sink.meanwhile = meanwhile
    leases._renew("ones", is_over)
    assert leases.held == {"twos"}
    assert not leases.are_lost
    leases.release()


def test_one_thread_keeps_them_and_none_where_there_is_nothing(
    leases: Leases, stores: dict[str, MemoryStore]
) -> None:
    """However often they are asked for."""

    def keepers() -> int:
        return sum("_keep" in thread.name for thread in threading.enumerate())

    before = keepers()
    for store in stores.values():
        store.holder, store.holder_until = "another", time.monotonic() + 600
    assert leases.acquire() == set()
    assert keepers() == before
    for store in stores.values():
        store.holder = ""
    for _ in range(3):
        assert leases.acquire() == {"ones", "twos"}
        assert keepers() == before + 1
    leases.release()
    wait_for(lambda: keepers() == before, timeout_s=5)


def test_a_failure_that_lasts_is_said_once(
    lasting: tuple[Leases, dict[str, FailingSink]],
) -> None:
    """And again when it comes again."""
    leases, _ = lasting
    leases.acquire()
    with capture_logs() as said:
        for _ in range(3):
            leases._note_failure("ones", ValueError("x"))
        leases._renew("ones", threading.Event())
        leases._note_failure("ones", ValueError("x"))
    assert [line["event"] for line in said] == ["lease_not_kept"] * 2
