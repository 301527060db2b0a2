"""What somebody waits for, for how long until the next attempt, and who is told.

What is worth a line of the log `service.outages` decides. What lasts is counted as an error, again
each minute, and stands in the status until it is over. Never counts a server's answer as its
absence.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from projector import metrics
from projector.errors import RefusedError, TransientError
from projector.service.health import Health
from projector.service.outages import Passing, kind_of

_LEAST_S = 0.05
_MOST_S = 2.0
_TERM_LEAST_S = 0.1
_TERM_MOST_S = 5.0
_LOUD_AFTER_S = 5.0
_LOUD_EVERY_S = 60.0
_SILENT_ATTEMPTS = 2  # then the lease is better given up: another process may reach the server

GIVE_UP_S = 60.0  # of refusals, where nobody sees a process wait
_NAP_S = 0.2  # between two looks whether the term ends


class Waiting:
    """One reader's wait for the database. `who` names it in the log and in the status."""

    def __init__(
        self, health: Health, who: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._health = health
        self._who = who
        self._clock = clock
        self._began: float | None = None  # None: nothing is waited for
        self._failures = 0
        self._silent = 0
        self._broken: Passing | None = None  # how a connection broke off, while it may be that one
        self._loud_at = 0.0

    @property
    def seconds(self) -> float:
        """Return since when it has been waited, without a success."""
        return 0.0 if self._began is None else self._clock() - self._began

    def failed(self, error: Passing) -> float:
        """Return the seconds until the next attempt. Raises the error where the server does not
        answer at all, or is not the database."""
        if error.peer == "redis":
            raise error
        self._silent = self._silent + 1 if kind_of(error) == "transient" else 0
        if self._silent > _SILENT_ATTEMPTS:
            self._silent, self._broken = 0, None
            raise error
        now = self._clock()
        if self._began is None:
            self._began, self._loud_at = now, now + _LOUD_AFTER_S
        delay_s: float = min(_MOST_S, _LEAST_S * 2 ** min(self._failures, 10)) * random.uniform(
            0.5, 1.0
        )
        self._failures += 1
        self._say(error, now)
        return delay_s

    def succeeded(self) -> None:
        """It is over."""
        if self._began is not None:
            self._began, self._failures, self._silent = None, 0, 0
            self._health.waits(self._who, None)
            self._health.works(self._who)
            if self._broken is not None:
                message, self._broken = str(self._broken), None
                self._health.event("connected again", reader=self._who, message=message)

    def _say(self, error: Passing, now: float) -> None:
        self._health.waits(self._who, str(error))
        if self._silent:
            self._broken = error
        else:
            self._health.failing(error, self._who)
        if now >= self._loud_at:
            self._loud_at = now + _LOUD_EVERY_S
            self._health.counted(error)


class Waitings:
    """Everybody's waits in one process; they outlive the terms, for they may be for the same.

    `give_up_s`: longer refusals are raised. For one thread.
    """

    def __init__(self, health: Health, is_ending: Callable[[], bool]) -> None:
        self.give_up_s = math.inf
        self._health = health
        self._is_ending = is_ending
        self._by_name: dict[str, Waiting] = {}

    def insist(self, who: str, act: Callable[[], None]) -> None:
        """Do it, again and again until it is done. Raises what does not pass, or when the term
        ends meanwhile."""
        waiting = self._of(who)
        while True:
            try:
                act()
            except (TransientError, RefusedError) as error:
                delay_s = waiting.failed(error)
                if waiting.seconds > self.give_up_s or not self._rest(delay_s):
                    raise
            else:
                waiting.succeeded()
                return

    def attempt(
        self, who: str, act: Callable[[], bool], on_failure: Callable[[Passing, float], None]
    ) -> bool:
        """Do it; tell what failed, and the seconds until the next attempt. True when something was
        done."""
        waiting = self._of(who)
        try:
            is_done = act()
        except (TransientError, RefusedError) as error:
            on_failure(error, waiting.failed(error))
            if waiting.seconds > self.give_up_s:
                raise
            return False
        if is_done:
            waiting.succeeded()
        return is_done

    def end(self, who: str) -> None:
        """There is nothing left to wait for."""
        self._of(who).succeeded()

    def _of(self, who: str) -> Waiting:
        return self._by_name.setdefault(who, Waiting(self._health, who))

    def _rest(self, seconds: float) -> bool:
        """Wait, with the loop alive; False when the term ends meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._is_ending():
            self._health.progress()
            time.sleep(min(left, _NAP_S))
        return not self._is_ending()


class Terms:
    """Between the terms of leadership: pauses that grow while nothing is achieved."""

    def __init__(self, health: Health) -> None:
        self.give_up_s = math.inf
        self._health = health
        self._failures = 0
        self._refused_since = time.monotonic()

    def failed(self, error: Passing, *, has_worked: bool) -> float:
        """Return the seconds until the next term. Raises what is refused for `give_up_s`."""
        now = time.monotonic()
        if has_worked or not isinstance(error, RefusedError):
            self._refused_since = now
        if now - self._refused_since > self.give_up_s:
            raise error
        self._failures = 0 if has_worked else self._failures + 1
        metrics.reconnects.labels(error.peer).inc()
        self._health.counted(error)
        self._health.failing(error)
        self._health.lost(error.peer)
        self._health.progress()
        growing_s = _TERM_LEAST_S * 2 ** min(self._failures, 10)
        delay_s: float = min(_TERM_MOST_S, growing_s) * random.uniform(0.5, 1.0)
        return delay_s
