"""The queue between the thread that reads the log and whoever applies it, bounded in rows,
bytes and entries; and the window in which lone changes gather.

Alone a change costs the database many times what it costs among others: one round of queries each.
So while changes keep coming, the first of a few waits a moment for others. Never longer than the
window after it came, whatever it waited for; never where enough have come, or after a quiet time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from projector.errors import TransientError
from projector.model import Transactions

ROWS_AT_ONCE: Final = 2000  # row changes in one Transactions, if transactions can be cut so
_QUEUE_ROWS: Final = 5 * ROWS_AT_ONCE
_QUEUE_ENTRIES: Final = 1000
_QUEUE_BYTES: Final = 64 << 20
_TICK_S: Final = 1.0  # of a writer that has something to do while it waits
_ENOUGH_ROWS: Final = 8  # among so many a change costs the database a fifth of a lone one
_PACE: Final = 0.25  # the weight of the latest interval between changes
_LONG_INTERVALS: Final = 4.0  # windows: longer ones count as so long


class Queue:
    """Transactions between the two threads. `gather_s`: the window; 0: none. `peer`: whose log."""

    def __init__(self, peer: str, gather_s: float = 0.0) -> None:
        self._peer, self._gather_s = peer, gather_s
        self._interval_s = self._longest_s = _LONG_INTERVALS * gather_s
        self._came_at = self._first_at = 0.0
        self._is_gathering = False
        self._entries: deque[tuple[Transactions, int, int]] = deque()
        self._rows = self._bytes = 0
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        self._is_woken = False
        self.is_closed = False

    def put(
        self,
        transactions: Transactions,
        rows: int,
        size_bytes: int = 0,
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        """Add; waits while the queue is full, and calls `on_tick` each second meanwhile. Raises
        TransientError when closed, and what `on_tick` does."""
        with self._changed:
            while not self._has_room(None if on_tick is None else _TICK_S):
                assert on_tick is not None
                on_tick()
            if self.is_closed:
                raise TransientError(self._peer, "the source has been closed")
            self._note_pace(rows)
            self._entries.append((transactions, rows, size_bytes))
            self._rows += rows
            self._bytes += size_bytes
            if not self._is_gathering or self._rows >= _ENOUGH_ROWS:
                self._changed.notify_all()

    def get(self, timeout_s: float) -> Transactions | None:
        """Take what is there, as one; wait for something at most so long."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._entries or self._failure or self._is_woken, timeout_s
            )
            self._gather()
            self._is_woken = False
            if not self._entries:
                if self._failure is not None:
                    raise self._failure
                return None
            taken = self._take()
            self._changed.notify_all()
        return taken

    def wake(self) -> None:
        """Let a waiting `get` go."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def fail(self, failure: Exception) -> None:
        """Nothing comes any more."""
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def close(self) -> None:
        """Let a waiting `put` go."""
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def is_empty(self) -> bool:
        """Return whether whoever takes is waiting, or would be."""
        return not self._entries

    def _has_room(self, timeout_s: float | None) -> bool:
        return self._changed.wait_for(lambda: self.is_closed or not self._is_full(), timeout_s)

    def _note_pace(self, rows: int) -> None:
        now = time.monotonic()
        if not self._entries:
            self._first_at = now
        if rows:
            interval_s = min(now - self._came_at, self._longest_s)
            self._interval_s += (interval_s - self._interval_s) * _PACE
            self._came_at = now

    def _gather(self) -> None:
        """Let others come while it is worth while."""
        if not 0 < self._rows < _ENOUGH_ROWS or self._interval_s > self._gather_s:
            return
        left_s = self._first_at + self._gather_s - time.monotonic()
        if left_s <= 0:
            return
        self._is_gathering = True
        self._changed.wait_for(
            lambda: self._rows >= _ENOUGH_ROWS or self._failure or self._is_woken or self.is_closed,
            left_s,
        )
        self._is_gathering = False

    def _is_full(self) -> bool:
        is_full = self._rows >= _QUEUE_ROWS or self._bytes >= _QUEUE_BYTES
        return is_full or len(self._entries) >= _QUEUE_ENTRIES

    def _take(self) -> Transactions:
        """Take the first entry, with those behind it while they can be one."""
        first, rows, size_bytes = self._entries.popleft()
        parts = [first]
        while first.position is not None and self._entries:
            following, more, more_bytes = self._entries[0]
            if following.position is None or rows + more > ROWS_AT_ONCE:
                break
            self._entries.popleft()
            parts.append(following)
            rows += more
            size_bytes += more_bytes
        self._rows -= rows
        self._bytes -= size_bytes
        return first if len(parts) == 1 else _joined(parts)


def _joined(parts: Sequence[Transactions]) -> Transactions:
    last = parts[-1]
    return Transactions(
        [change for part in parts for change in part.changes],
        sum(part.count for part in parts),
        last.position,
        last.barrier,
        [time for part in parts for time in part.commit_times],
        last.is_head,
        any(part.has_undone for part in parts),
    )
