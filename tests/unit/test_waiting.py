"""Waiting for the database: how long, how loudly, and until when."""

import pytest
from prometheus_client import REGISTRY

from projector.errors import RefusedError, TooMuchError, TransientError
from projector.portion import Portion
from projector.service.health import Health
from projector.waiting import Waiting, Waitings

DEADLOCK = TransientError("mysql", "MySQL answers 1213: Deadlock", answered=True)
AWAY = TransientError("mysql", "MySQL is away (2013)")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_success_ends_the_pause_and_the_cause() -> None:
    """Pauses grow while one thing fails, and begin small for the next."""
    health, clock = Health(), Clock()
    waiting = Waiting(health, "tickets changes", clock)
    delays = [waiting.failed(DEADLOCK) for _ in range(10)]
    assert delays[0] <= 0.05
    assert 1.0 <= delays[-1] <= 2.0
    assert "1213" in (health.snapshot().waiting_for or "")
    waiting.succeeded()
    assert health.snapshot().waiting_for is None
    assert waiting.failed(DEADLOCK) <= 0.05


def test_what_passes_soon_is_no_error_and_what_lasts_is() -> None:
    """After five seconds it counts as an error, and again each minute."""
    health, clock = Health(), Clock()
    waiting = Waiting(health, "tickets changes", clock)
    before, errors = _counted(), []
    for second in range(130):
        clock.now = float(second)
        waiting.failed(DEADLOCK)
        errors.append(_counted() - before)
    assert (errors[4], errors[5], errors[64], errors[65], errors[129]) == (0, 1, 1, 2, 3)


def _counted() -> float:
    return REGISTRY.get_sample_value("projector_errors_total", {"kind": "busy"}) or 0.0


def test_a_silent_server_ends_the_term_and_an_answering_one_does_not() -> None:
    """Another process may reach a server that is silent here."""
    waiting = Waiting(Health(), "tickets changes", Clock())
    for _ in range(50):
        waiting.failed(DEADLOCK)
        waiting.failed(RefusedError("no such table", "Migrate."))
    waiting.failed(AWAY)
    waiting.failed(TooMuchError("mysql", "no answer in time"))
    with pytest.raises(TransientError, match="away"):
        waiting.failed(AWAY)
    with pytest.raises(TransientError, match="Redis"):
        waiting.failed(TransientError("redis", "Redis is away", answered=True))


def test_a_connection_that_broke_off_alone_is_a_word_and_no_warning() -> None:
    """The server is not called away for it; where it is away, the term says so."""
    health = Health()
    waiting = Waiting(health, "tickets changes", Clock())
    waiting.failed(AWAY)
    waiting.failed(AWAY)
    assert health.events() == []
    waiting.succeeded()
    assert [(e.level, e.text.partition(",")[0]) for e in health.events()] == [
        ("info", "connected again")
    ]


def test_the_last_error_is_forgotten_when_all_is_well_again() -> None:
    """Not before everything is applied and nobody waits."""
    health = Health()
    health.failed("busy", "MySQL answers 1213")
    health.waits("walk", "1213")
    health.applied(1.0, is_head=True, server_now=1.0)
    assert health.snapshot().last_error is not None
    health.waits("walk", None)
    health.applied(2.0, is_head=False, server_now=2.0)
    assert health.snapshot().last_error is not None
    health.applied(None, is_head=True, server_now=3.0)
    assert health.snapshot().last_error is None


def test_it_is_done_until_it_is_done_and_given_up_where_nobody_waits() -> None:
    """A daemon insists; `--until-current` ends after its patience."""
    waitings = Waitings(Health(), lambda: False)
    answers = [DEADLOCK, RefusedError("no such table", ""), DEADLOCK]

    def act() -> None:
        if answers:
            raise answers.pop()

    waitings.insist("changes", act)
    assert answers == []
    waitings.give_up_s = 0.0

    def never() -> None:
        raise RefusedError("no such table", "")

    with pytest.raises(RefusedError):
        waitings.insist("changes", never)


def test_a_portion_comes_down_to_one_and_up_again() -> None:
    """Halved by each read that was too much; doubled, at most, by one that was easy."""
    portion = Portion(500, 500, target_s=1.0)
    sizes = []
    while portion.size > 1:
        portion.too_much(portion.size)
        sizes.append(portion.size)
    assert sizes == [250, 125, 62, 31, 15, 7, 3, 1]
    portion.too_much(1)
    assert portion.size == 1
    for _ in range(9):
        portion.took(portion.size, 0.01, 1000)
    assert portion.size == 500


def test_a_portion_of_large_documents_is_small() -> None:
    """So many that some megabytes are read at once, whatever the time."""
    portion = Portion(1000, 20, target_s=10.0)
    portion.took(20, 0.01, 20 * 2_000_000)
    assert portion.size == 8
    portion.took(8, 0.01, 8 * 2_000_000)
    assert portion.size == 8
    portion.took(8, 0.01, 8 * 2_000)
    assert portion.size == 16
