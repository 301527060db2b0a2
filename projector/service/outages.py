"""What fails at this moment and is tried again, and which lines of the log that is worth.

One failure is one line, named by its cause: a warning when it begins, an error with its remedy once
it has lasted for a minute, and a word when it is over. What the same readers run into meanwhile is
the same failure; another message of it is a line, once a minute at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from projector.errors import RefusedError, TransientError

LASTS_S = 60.0
KINDS = {"transient": "does not answer", "busy": "is busy", "refused": "refuses"}  # as counted

Passing = TransientError | RefusedError
_Cause = tuple[str, str | None]


class Line(NamedTuple):
    """What to log."""

    level: str
    text: str
    facts: dict[str, Any]


@dataclass(slots=True)
class _Outage:
    """One failure. `who`: those that have met it."""

    text: str
    began: float
    said: float
    message: str
    who: set[str]
    end: str  # what to log when it is over
    is_error: bool = False


class Outages:
    """The failures of one process. `brand`: what the database is called. Not for two threads."""

    def __init__(self, brand: str) -> None:
        self._brand = brand
        self._by_cause: dict[_Cause, _Outage] = {}

    def failed(self, error: Passing, who: str, now: float) -> list[Line]:
        """Take a failure that `who` has met; return what to log."""
        kind, message, name = kind_of(error), str(error), self._name(error.peer)
        # who is away is away for everybody; what a server answers is one reader's
        cause = (name, None if kind == "transient" else who)
        text, known = f"{name} {KINDS[kind]}", self._by_cause.get(cause)
        if known is None or known.text != text:
            began = now if known is None else known.began
            end = f"{name} answers again" if kind == "transient" else "goes on"
            self._by_cause[cause] = _Outage(text, began, now, message, {who}, end)
            return [Line("warning", text, {"kind": kind, "message": message, "reader": who})]
        known.who.add(who)
        if now - known.said < LASTS_S or (known.is_error and message == known.message):
            return []
        known.said, known.message, known.is_error = now, message, True
        lasts_s = round(now - known.began)
        facts = {"kind": kind, "message": message, "reader": who, "lasts_s": lasts_s}
        return [Line("error", text, facts)]

    def works(self, who: str, now: float) -> list[Line]:
        """Take a success of `who`: what it had met is over. Return what to log."""
        return self._end({c for c, outage in self._by_cause.items() if who in outage.who}, now)

    def answers(self, peer: str, now: float) -> list[Line]:
        """Take an answer of `redis` or the database: it is not away. Return what to log."""
        cause: _Cause = (self._name(peer), None)
        return self._end({cause} & self._by_cause.keys(), now)

    def _end(self, causes: set[_Cause], now: float) -> list[Line]:
        over = [self._by_cause.pop(cause) for cause in causes]
        return [Line("info", o.end, {"waited_s": round(now - o.began, 2)}) for o in over]

    def _name(self, peer: str) -> str:
        return "Redis" if peer == "redis" else self._brand


def kind_of(error: Passing) -> str:
    """Return the kind under which an error is counted."""
    if isinstance(error, RefusedError):
        return "refused"
    return "busy" if error.answered else "transient"
