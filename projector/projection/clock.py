"""The clock that says whether a moment has come, and moments as numbers.

A document that shows whether a moment has come, and the entry that says when it has to be made
again, are made of one reading of the clock (`held`): otherwise the moment could come in between,
and nobody would look again.
"""

from __future__ import annotations

import datetime
import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_DAY_US = 86_400_000_000
_START = datetime.datetime(1970, 1, 1)
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_held = threading.local()


def now_us() -> int:
    """Return the time, in microseconds since 1970 in UTC."""
    held: int | None = getattr(_held, "at", None)
    return time.time_ns() // 1000 if held is None else held


@contextmanager
def held() -> Iterator[None]:
    """Within, the clock stands still for this thread."""
    _held.at = now_us()
    try:
        yield
    finally:
        _held.at = None


def microseconds(value: bytes) -> int | None:
    """Return a date, or a date with a time of day (`2026-11-22 21:59:12.45`, or with a T), in
    microseconds since 1970; None for a date that no calendar has."""
    try:
        since = datetime.datetime.fromisoformat(value.decode()) - _START
    except ValueError:
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@functools.lru_cache(maxsize=4096)
def day_us(date: bytes) -> int | None:
    """Return a date in microseconds since 1970; None for one that no calendar has."""
    try:
        day = datetime.date(int(date[:4]), int(date[5:7]), int(date[8:10]))
    except ValueError:
        return None
    return (day.toordinal() - _EPOCH) * _DAY_US
