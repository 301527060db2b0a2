"""What of a projection outlives the terms of leadership.

How much is read at once: less after a read that was too much, more again while reads are easy, so
that a size that no server bears is tried once, not in each term. And what was done of late.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from projector.route import Values
from projector.settings import Settings

_FIRST_CHUNK = 20  # documents: they may be large
_CHUNK_TARGET_S = 0.25
_STEP_TARGET_S = 5.0
_NAMES = 2000
_NAMES_TARGET_S = 1.0
_TARGET_BYTES = 16 << 20  # of documents in one read


class Portion:
    """A number of documents, from one to `limit`. `target_s`: what one read may well take.

    For any thread: whoever reads tells, whoever cuts asks.
    """

    def __init__(self, limit: int, first: int, target_s: float) -> None:
        self._limit = limit
        self._target_s = target_s
        self.size = max(1, min(limit, first))

    def took(self, count: int, seconds: float, size_bytes: int) -> None:
        """Adapt to a read of so many documents: at most twice as many next time."""
        if count == 0:
            return
        by_time = self._target_s / max(seconds, 0.001)
        by_size = _TARGET_BYTES / max(size_bytes, 1)
        if count < self.size and by_time > 1.0 and by_size > 1.0:
            return  # a small one says little about large ones
        factor = min(2.0, max(0.5, by_time))
        fitting = round(min(self.size * factor, count * by_size))
        self.size = max(1, min(self._limit, fitting))

    def too_much(self, count: int) -> None:
        """A read of so many documents was too much."""
        self.size = max(1, min(self.size, count) // 2)


@dataclass(slots=True)
class Recent:
    """Documents written and look-ups made in the last `keep_s` seconds before the last of them: a
    crash of the database may take back what they have seen. For one thread."""

    keep_s: float = 0.0
    _done: deque[tuple[float, tuple[str, ...], Mapping[str, Iterable[Values]]]] = field(
        default_factory=deque
    )

    def note(self, ids: Iterable[str], look_ups: Mapping[str, Iterable[Values]]) -> None:
        """Note what is about to be written, or what has been looked up (values by name)."""
        now = time.monotonic()
        if self.keep_s > 0:
            self._done.append((now, tuple(ids), look_ups))
        while self._done and self._done[0][0] < now - self.keep_s:
            self._done.popleft()

    def ids(self) -> frozenset[str]:
        """Return the documents."""
        return frozenset(i for _, ids, _ in self._done for i in ids)

    def look_ups(self) -> Mapping[str, set[Values]]:
        """Return the look-ups, values by name."""
        found: dict[str, set[Values]] = {}
        for _, _, look_ups in self._done:
            for name, values in look_ups.items():
                found.setdefault(name, set()).update(values)
        return found


@dataclass(frozen=True, slots=True)
class Portions:
    """Those of one projection: of a step, of a walk, and of names alone; and what is recent."""

    tail: Portion
    walk: Portion
    names: Portion
    recent: Recent = field(default_factory=Recent)

    @classmethod
    def of(cls, settings: Settings) -> Portions:
        """Begin with what the settings allow, but for documents of a size not known yet."""
        batch, chunk = settings.batch_max_documents, settings.reconcile.chunk_documents
        return cls(
            Portion(batch, batch, _STEP_TARGET_S),
            Portion(chunk, _FIRST_CHUNK, _CHUNK_TARGET_S),
            Portion(_NAMES, _NAMES, _NAMES_TARGET_S),
        )
