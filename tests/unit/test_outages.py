"""One failure is one line: when it begins, when it has lasted, when it is over."""

from typing import Any

import pytest

from projector.errors import DeniedError, RefusedError, TransientError
from projector.service.health import TERM, Health, State
from projector.service.outages import Outages, Passing

AWAY = TransientError("mysql", "MySQL is away (2013)")
BUSY = TransientError("mysql", "MySQL answers 1213: Deadlock", answered=True)
NO_TABLE = RefusedError("no such table", "Migrate.")
REDIS_AWAY = TransientError("redis", "connection refused")
DENIED = DeniedError("NOPERM", "Correct the ACL.")


class Log:
    """An `Outages` with a clock, and what it wants logged: level and text."""

    def __init__(self) -> None:
        self.outages, self.now = Outages("MySQL"), 0.0
        self.said: list[tuple[str, str]] = []
        self.facts: list[dict[str, Any]] = []

    def fails(self, error: Passing, who: str = TERM, *, at: float | None = None) -> None:
        self.now = self.now + 1 if at is None else at
        self._take(self.outages.failed(error, who, self.now))

    def works(self, who: str = TERM) -> None:
        self._take(self.outages.works(who, self.now))

    def answers(self, peer: str) -> None:
        self._take(self.outages.answers(peer, self.now))

    def _take(self, lines: Any) -> None:
        self.said += [(line.level, line.text) for line in lines]
        self.facts += [line.facts for line in lines]


def test_a_server_that_is_away_is_one_line_whoever_meets_it() -> None:
    """Readers, leases and terms; and one when it is back."""
    log = Log()
    for _ in range(10):
        for who in ("tickets changes", "tickets walk", TERM):
            log.fails(AWAY, who, at=log.now + 1)
    assert log.said == [("warning", "MySQL does not answer")]
    assert log.facts[0] == {"kind": "transient", "message": str(AWAY), "reader": "tickets changes"}
    log.answers("database")
    assert log.said[1:] == [("info", "MySQL answers again")]
    assert log.facts[1] == {"waited_s": 29.0}
    log.answers("database")
    assert len(log.said) == 2


@pytest.mark.parametrize("error", [AWAY, BUSY, NO_TABLE, REDIS_AWAY, DENIED])
def test_what_lasts_for_a_minute_is_an_error_once(error: Passing) -> None:
    """With the message, so with its remedy."""
    log = Log()
    for second in range(600):
        log.fails(error, at=float(second))
    assert [level for level, _ in log.said] == ["warning", "error"]
    assert log.facts[1]["lasts_s"] == 60
    assert log.facts[1]["message"] == str(error)


def test_another_message_is_a_line_a_minute_at_most() -> None:
    """Where one thing is mended and the next is missing; numbers that change fill no disk."""
    log = Log()
    for second in range(300):
        log.fails(RefusedError(f"no table {second}", "Migrate."), at=float(second))
    assert [level for level, _ in log.said] == ["warning", *["error"] * 4]


def test_another_kind_of_failure_is_a_failure_of_its_own() -> None:
    """The cause has changed; what two readers are answered is two failures."""
    log = Log()
    log.fails(AWAY)
    log.fails(NO_TABLE)
    log.fails(BUSY)
    log.fails(BUSY, "tickets walk")
    log.fails(REDIS_AWAY)
    log.fails(DENIED, "tickets lease")
    assert [text for _, text in log.said] == [
        "MySQL does not answer", "MySQL refuses", "MySQL is busy", "MySQL is busy",
        "Redis does not answer", "Redis refuses",
    ]  # fmt: skip


def test_a_success_ends_what_it_had_met_and_nothing_else() -> None:
    """Each reader its own; whoever reaches a server has it answer again for everybody."""
    log = Log()
    log.fails(BUSY, "tickets changes")
    log.fails(BUSY, "users changes")
    log.fails(AWAY, "tickets changes")
    log.fails(AWAY, "users changes")
    log.fails(REDIS_AWAY, "tickets lease")
    log.said.clear()
    log.works("tickets changes")
    assert sorted(log.said) == [("info", "MySQL answers again"), ("info", "goes on")]
    log.works("users changes")
    log.answers("database")
    assert log.said[2:] == [("info", "goes on")]
    log.answers("redis")
    assert log.said[3:] == [("info", "Redis answers again")]


def test_a_term_that_fails_again_and_again_is_one_failure() -> None:
    """It begins each time, and reaches both servers; only when all is applied it is over."""
    health = Health()
    health.update(state=State.CATCHING_UP, database_up=True, redis_up=True)
    for _ in range(5):
        health.failing(TransientError("redis", "OOM", answered=True))
        health.update(database_up=True, redis_up=True)
        health.applied(1.0, is_head=False, server_now=1.0)
    assert sum(event.text.startswith("Redis is busy") for event in health.events()) == 1
    health.counted(BUSY)
    health.applied(2.0, is_head=True, server_now=2.0)
    assert sum(event.text.startswith("goes on") for event in health.events()) == 1
