"""The lease: who may write, and for how long this process may believe that it is itself.

The server decides, by the token; the clock here only keeps a process from trying when it may be
too late. Never counts from a moment after the question was sent.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time

from projector.model import Damage
from projector.record import text_of
from projector.sink_redis.act import Keys
from projector.sink_redis.client import Server
from projector.sink_redis.scripts import ACQUIRE, RELEASE, RENEW
from projector.sink_redis.views import Lists

_BELIEF = 0.8  # of the lease's time


class Claim:
    """This process's claim to a lease. `renew` may come from another thread."""

    def __init__(self, server: Server, keys: Keys, ttl_s: float, lists: Lists) -> None:
        self._server = server
        self._keys = keys
        self._ttl_s = ttl_s
        self._lists = lists
        self._lock = threading.Lock()
        self.token = ""  # of this term; kept while nobody knows whether the server has it
        self.epoch = 0
        self._held_until = 0.0
        self._told = ""  # of this term: what the server has of `report`

    @property
    def is_current(self) -> bool:
        """Whether the lease cannot have run out yet, by the clock of this process."""
        return time.monotonic() < self._held_until

    def acquire(self) -> bool:
        """Take or keep the lease; False when another holds it."""
        with self._lock:
            if not self.token:
                self.token = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
            keys = [self._keys.lease, self._keys.checkpoint]
            asked = time.monotonic()
            epoch = self._server.script(ACQUIRE, keys, [self.token, self._ttl_ms, self.epoch])
            if not epoch:
                self._held_until = 0.0
                return False
            self.epoch = int(epoch)
            self._held_until = asked + self._ttl_s * _BELIEF
            self._told = ""
            return True

    def renew(self, report: str) -> tuple[bool, Damage, str, bool]:
        """Extend the lease and leave a report for `projector status`.

        Gives whether it is held, what others did to the store, its stamp, and whether lists are
        lost.
        """
        keys = self._keys
        token = self.token
        asked = time.monotonic()
        names = [keys.lease, keys.checkpoint, keys.hash, keys.debts, keys.daemon]
        given = [token, self._ttl_ms, "" if report == self._told else report]
        if self._lists.in_use:
            found = self._lists.renew(names, given)
        else:
            found = [*self._server.script(RENEW, names, given), 0]
        held, damage, stamp, are_lists_lost = found
        self._told = report
        with self._lock:
            if token == self.token:  # else the answer is about a term that is over
                self._held_until = asked + self._ttl_s * _BELIEF if held else 0.0
        return bool(held), Damage(damage), text_of(stamp), bool(are_lists_lost)

    def release(self) -> None:
        """Release the lease, if held. The token is kept where Redis may not have been told."""
        with self._lock:
            self._held_until = 0.0
            if self.token:
                self._server.script(RELEASE, [self._keys.lease], [self.token])
                self.token = ""

    @property
    def _ttl_ms(self) -> int:
        return round(self._ttl_s * 1000)
