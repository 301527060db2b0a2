"""The leases of the projections, each for itself, and the thread that keeps them.

Whatever a renewal fails of, the thread goes on; a lease that could not be renewed in time counts as
lost. Never gives up the lease of one projection because of another's.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping

import structlog

from projector.errors import ProjectorError, RefusedError, TransientError
from projector.model import Damage
from projector.ports import Sink

log = structlog.get_logger()


class Leases:
    """Which projections this process leads. `report` says what the holder says of itself;
    `on_failure` takes what a renewal fails of and whose, `on_success` whose works again."""

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        ttl_s: float,
        report: Callable[[], str],
        on_failure: Callable[[TransientError | RefusedError, str], None],
        on_success: Callable[[str], None],
    ) -> None:
        self._sinks = sinks
        self._ttl_s = ttl_s
        self._report = report
        self._on_failure, self._on_success = on_failure, on_success
        self._lock = threading.Lock()
        self._renewed_at: dict[str, float] = {}  # of those held, by our clock
        self._lost: set[str] = set()
        self._damage: dict[str, Damage] = {}
        self._lost_lists: set[str] = set()
        self._failing: set[str] = set()
        self._is_over: threading.Event | None = None  # of the thread at work

    @property
    def held(self) -> frozenset[str]:
        """Names of the projections that this process leads."""
        with self._lock:
            return frozenset(self._renewed_at)

    @property
    def are_lost(self) -> bool:
        """Whether, since `acquire`, a lease was lost or not renewed in time, or its store is not
        the one known."""
        with self._lock:
            oldest = min(self._renewed_at.values(), default=math.inf)
            return bool(self._lost) or time.monotonic() - oldest > self._ttl_s

    def acquire(self) -> frozenset[str]:
        """Take every lease that is free, keep those held; return the names of all held now."""
        for name, sink in self._sinks.items():
            asked = time.monotonic()
            is_held = sink.acquire()
            with self._lock:
                self._lost.discard(name)
                if is_held:
                    self._renewed_at[name] = asked
                else:
                    self._renewed_at.pop(name, None)
        if self._renewed_at and self._is_over is None:
            self._is_over = threading.Event()
            threading.Thread(target=self._keep, args=(self._is_over,), daemon=True).start()
        return self.held

    def acquire_free(self) -> bool:
        """Take leases that others left; True when there was one."""
        free = [sink for name, sink in self._sinks.items() if name not in self._renewed_at]
        return sum(sink.acquire() for sink in free) > 0

    def damage(self) -> dict[str, Damage]:
        """Return what others did to the stores, by projection, as found since the last call."""
        with self._lock:
            found, self._damage = self._damage, {}
        return found

    def lost_lists(self) -> set[str]:
        """Return the projections whose lists are not as written, found since the last call."""
        with self._lock:
            found, self._lost_lists = self._lost_lists, set()
        return found

    def release(self) -> None:
        """Release all leases, as far as Redis answers; the others run out by themselves."""
        if self._is_over is not None:
            self._is_over.set()
        self._is_over = None
        with self._lock:
            self._renewed_at.clear()
            self._lost.clear()
            self._damage.clear()
            self._lost_lists.clear()
        for name, sink in self._sinks.items():
            try:
                sink.release()
            except ProjectorError as error:
                self._note_failure(name, error)
                return  # nor would the others be

    def _keep(self, is_over: threading.Event) -> None:
        """Renew; beside the loop, which may wait long for a commit to show."""
        while not is_over.is_set():  # at once, too: a term may end before its first quarter
            for name in self.held:
                try:
                    self._renew(name, is_over)
                except Exception as error:  # whatever it is: without renewal the lease is lost
                    self._note_failure(name, error)
            is_over.wait(self._ttl_s / 4)

    def _renew(self, name: str, is_over: threading.Event) -> None:
        asked = time.monotonic()
        lease = self._sinks[name].renew(self._report())
        if name in self._failing:
            self._failing.discard(name)
            self._on_success(_lease_of(name))
        with self._lock:
            if is_over.is_set() or name not in self._renewed_at:
                return
            if not lease.held:
                self._lost.add(name)
                return
            self._renewed_at[name] = max(asked, self._renewed_at[name])
            self._damage[name] = self._damage.get(name, Damage.NONE).and_then(lease.damage)
            if lease.are_lists_lost:
                self._lost_lists.add(name)

    def _note_failure(self, name: str, error: Exception) -> None:
        """Report it; the loop meets the same failure, or the lease outlasts it."""
        is_new = name not in self._failing
        self._failing.add(name)
        if isinstance(error, TransientError | RefusedError):
            self._on_failure(error, _lease_of(name))
        elif is_new:
            log.warning("lease_not_kept", projection=name, error=str(error))


def _lease_of(name: str) -> str:
    return f"{name} lease"
