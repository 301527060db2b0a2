"""What each SQLSTATE of PostgreSQL means to a program that only reads: sorted once, by class.

Codes: PostgreSQL manual, Appendix A "PostgreSQL Error Codes". Texts are never looked at: they are
translated. Never sorts a code to the bold side: what is not named here may pass.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from projector.errors import (
    ProjectorError,
    RefusedError,
    TooMuchError,
    TransientError,
    ValueRefusedError,
)

PEER: Final = "postgres"
SILENT: Final = "PostgreSQL does not answer within the time limit"
MISSING_OBJECT: Final = "42704"  # of a slot, or of a publication
IN_USE: Final = "55006"
NOT_READY: Final = "55000"  # of a slot: lost, or a standby's copy

_LOGIN = "Correct user, password and database in PROJECTOR_SOURCE__URL"
_GRANT = "`projector check` names the GRANT that is missing."
_FIT = "Mend the projection or migrate the database; `projector check` lists what is missing."
_DECLARATION = "Correct the declaration; `projector explain` shows the queries."


class Meaning(StrEnum):
    """What to do about an error, whoever made the mistake."""

    AWAY = "away"  # nobody there, or this connection is over: open another
    BUSY = "busy"  # the server answers: not now. The same again, a little later
    TOO_MUCH = "too_much"  # takes too long or too much room: less at once may do
    ACCESS = "access"  # the account may not
    SCHEMA = "schema"  # a table or column is not there (now)
    STATEMENT = "statement"  # the query is none that this server runs
    VALUE = "value"  # a row's value makes it fail: one document's own, where it can be found
    UNKNOWN = "unknown"  # as BUSY, and loudly: never skipped, never the end


# Exact codes, and classes: their first two digits. The longer one counts.
_CODES: Final = {
    Meaning.AWAY: "08 57P01 57P02 57P03 57P04 57P05 25P03 25P04 53300 3B",
    Meaning.BUSY: "40 53 55 58 XX F0 25P02 57 72",
    Meaning.TOO_MUCH: "57014 53100 53200 53400 54",
    Meaning.ACCESS: "28 42501 3D000 0L 0P",
    Meaning.SCHEMA: "42P01 42703 3F000 42704 42P10 42883 42809",
    Meaning.STATEMENT: "42 0A 25 26 34 2B 2D 09 20 0B 44",
    Meaning.VALUE: "22 21000 23 38 39 2F P0",
}
_MEANING_BY_CODE: Final = {
    code: meaning for meaning, codes in _CODES.items() for code in codes.split()
}


class ServerError(Exception):
    """What the server said, as the cause of our error. `state`: its SQLSTATE."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(f"{message} ({state})")
        self.state = state


def meaning_of(state: str) -> Meaning:
    """Return the class of a SQLSTATE; "" is the client's own: the line broke off."""
    if not state:
        return Meaning.AWAY
    return _MEANING_BY_CODE.get(state) or _MEANING_BY_CODE.get(state[:2], Meaning.UNKNOWN)


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE of what stands behind an error, "" where the server said nothing."""
    cause = error.__cause__
    return cause.state if isinstance(cause, ServerError) else ""


def refusal(state: str, text: str) -> ProjectorError:
    """Return what must be done about an error of the server's, with its cause."""
    error = _refusal(meaning_of(state), state, text)
    error.__cause__ = ServerError(state, text)
    return error


def _refusal(meaning: Meaning, state: str, text: str) -> ProjectorError:
    said = f"{state}: {text}" if state else text
    if meaning is Meaning.AWAY:
        return TransientError(PEER, f"PostgreSQL is away ({said})")
    if meaning is Meaning.TOO_MUCH:
        return TooMuchError(PEER, f"PostgreSQL answers {said}", answered=True)
    if meaning is Meaning.VALUE:  # its text may quote the value
        return ValueRefusedError(f"PostgreSQL refuses a value ({state})", "")
    if meaning in _REFUSALS:
        what, remedy = _REFUSALS[meaning]
        return RefusedError(f"{what} ({said})", remedy)
    nothing = ", of which nothing is known" if meaning is Meaning.UNKNOWN else ""
    return TransientError(PEER, f"PostgreSQL answers {said}{nothing}", answered=True)


_REFUSALS: Final = {
    Meaning.ACCESS: ("PostgreSQL refuses access", f"{_LOGIN}; or {_GRANT}"),
    Meaning.SCHEMA: ("the projection does not fit the database", _FIT),
    Meaning.STATEMENT: ("PostgreSQL does not run a query of the projection", _DECLARATION),
}
