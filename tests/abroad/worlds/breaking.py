"""A daemon killed at a write of our choice: before Redis has it, or after and before the answer."""

from __future__ import annotations

from random import Random

from tests.projector_process import Projector
from tests.servers import TcpProxy

_WRITE = b"EVALSHA"  # the one command by which documents and checkpoints are written


class Breaker:
    """Stands between daemon and Redis, and kills the daemon at the n-th write from now."""

    def __init__(self, proxy: TcpProxy, daemon: Projector, random: Random) -> None:
        self._daemon, self._random = daemon, random
        self._left = 0
        self._is_passed_on = False
        self.is_spent = True
        proxy.gate = self._judge

    def arm(self) -> None:
        """Break at one of the next writes."""
        self._left = self._random.choice([1, 2, 3, 5, 8, 13])
        self._is_passed_on = self._random.random() < 0.5
        self.is_spent = False

    def restart(self) -> None:
        """Start the daemon again after the break, which may come a moment later than it is seen."""
        assert self._daemon.process is not None
        self._daemon.process.wait(10)
        self._daemon.start()
        self.is_spent = True
        self._left = 0

    def disarm(self) -> None:
        """Break no more."""
        self._left, self.is_spent = 0, True

    @property
    def has_struck(self) -> bool:
        return not self.is_spent and self._left <= 0

    def _judge(self, chunk: bytes) -> bool:
        if self._left <= 0 or _WRITE not in chunk:
            return True
        self._left -= 1
        if self._left > 0:
            return True
        if self._daemon.process is not None:
            self._daemon.process.kill()
        return self._is_passed_on  # what a dead daemon sent may still arrive
