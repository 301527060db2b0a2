"""What snapshots show: a commit is streamed before it can be seen.

The walsender sends a commit once it is flushed; other sessions see it once it has left the list of
running transactions, which under synchronous replication is after the standby's answer. A snapshot
says itself which transactions it shows, so the ids that are needed are compared with the text of
the very snapshot that documents are read in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

_HALF, _WHOLE = 1 << 31, 1 << 32
_MARGIN_S = 1.0  # for a busy server's WAL writer


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`pg_current_snapshot()` (PostgreSQL manual, 9.26.8 "Transaction ID and Snapshot Information
    Functions"). Ids from `xmax` on are not shown, nor are those `running`; all below `xmin` are."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read `xmin:xmax:xip,xip`. Raises ValueError."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in running.split(",") if xid))

    def shows(self, xids: Collection[int]) -> bool:
        """Return whether all of these transactions, which have committed, can be seen."""
        return self.running.isdisjoint(xids) and all(xid < self.xmax for xid in xids)

    def shows_as_much(self, other: Snapshot) -> bool:
        """Return whether everything that the other one shows can be seen."""
        return self.xmax >= other.xmax and all(
            xid in other.running for xid in self.running if xid < other.xmax
        )

    def unseen(self, xids: Collection[int]) -> frozenset[int]:
        """Return those that cannot be seen yet."""
        return frozenset(xid for xid in xids if xid >= self.xmax or xid in self.running)


def full_xid(low: int, near: int) -> int:
    """Complete the 32 bits that the stream has of a transaction's id, by an id not 2**31 away."""
    difference = (low - near) % _WHOLE
    return near + (difference - _WHOLE if difference >= _HALF else difference)


class Visibility:
    """Which of the streamed transactions no snapshot has shown yet. For one thread.

    `near`: the id that is expected next; `unseen`: what was not seen when the stream's beginning
    was written down.
    """

    def __init__(self, snapshot: Snapshot, unseen: Collection[int] = ()) -> None:
        self._near = snapshot.xmax
        self.seen = snapshot.xmin
        self.unseen = snapshot.unseen(unseen)

    def streamed(self, low_xids: Collection[int]) -> None:
        """Add transactions by the 32 bits that the stream has."""
        xids = {full_xid(low, self._near) for low in low_xids}
        self._near = max(self._near, *xids) if xids else self._near
        self.unseen |= xids

    def shown(self, snapshot: Snapshot) -> None:
        """Leave out what a snapshot of the primary shows."""
        self._near = max(self._near, snapshot.xmax)
        self.seen = max(self.seen, snapshot.xmin)
        self.unseen = snapshot.unseen(self.unseen)


def crash_loss_s(ask: Callable[[str], Sequence[Sequence[Any]]]) -> float:
    """Return for how many seconds a commit that can be read may yet be lost in a crash: with
    synchronous_commit=off it is flushed at most three times wal_writer_delay later ("Asynchronous
    Commit" in the server's manual)."""
    [[delay_ms]] = ask("SELECT setting FROM pg_settings WHERE name = 'wal_writer_delay'")
    return 3 * float(delay_ms) / 1000 + _MARGIN_S
