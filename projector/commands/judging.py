"""Looking at servers: what stops one from looking is a finding, too."""

from __future__ import annotations

from collections.abc import Callable

from redis import RedisError

from projector.checks import Check, failed, reason, way_there
from projector.errors import OperatorError, TransientError

Look = Callable[[], list[Check]]
Errors = type[Exception] | tuple[type[Exception], ...]


def guarded(name: str, setting: str, look_at: Look, unforeseen: Errors = RedisError) -> list[Check]:
    """Look; what stops it from looking becomes a failed check. `setting` names the server,
    `unforeseen` what its driver raises beside our own errors."""
    try:
        return look_at()
    except TransientError as error:
        text = reason(error)
        return [failed(name, text, way_there(text, setting))]
    except OperatorError as error:
        return [failed(name, error.message, error.remedy)]
    except unforeseen as error:
        return [_unforeseen(name, error)]


def failures(look_at: Look, unforeseen: Errors = RedisError) -> list[Check]:
    """Look; return what must be mended first. A server that is away is nothing of that kind."""
    try:
        return [check for check in look_at() if check.status == "failed"]
    except TransientError:
        return []
    except unforeseen as error:
        return [_unforeseen("server", error)]


def _unforeseen(name: str, error: Exception) -> Check:
    return failed(name, f"the server answers: {error}", "See its manual and log.")
