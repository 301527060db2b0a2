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
    day = day_us(value[:10])
    if day is None or len(value) <= 10:
        return day
    seconds = int(value[11:13]) * 3600 + int(value[14:16]) * 60 + int(value[17:19])
    fraction = value[20:26]
    return day + seconds * 1_000_000 + int(fraction.ljust(6, b"0"))


@functools.lru_cache(maxsize=4096)
def day_us(date: bytes) -> int | None:
    """Return a date in microseconds since 1970; None for one that no calendar has."""
    try:
        day = datetime.date(int(date[:4]), int(date[5:7]), int(date[8:10]))
    except ValueError:
        return None
    return (day.toordinal() - _EPOCH) * _DAY_US
