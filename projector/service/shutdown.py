"""The end that was asked for: soon, also while a server keeps this process waiting.

A read from a silent MySQL or Redis blocks for its whole time limit. Nothing is lost by ending there
and then: documents and checkpoint are one atomic write, and the lease is given up first where Redis
answers, so that another process need not wait for it to run out. Never cuts off an end that comes
by itself within the time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import structlog

from projector.errors import ExitCode

_PATIENCE_S = 1.2  # for the batch under way
_LAST_ACT_S = 0.5  # for giving up the lease

log = structlog.get_logger()


class Ending:
    """Until `done`, ends the process some time after `ask`.

    `stop` asks for an end that comes by itself; `last_act` is what must not be left out.
    """

    def __init__(self, stop: Callable[[], None], last_act: Callable[[], None]) -> None:
        self._stop = stop
        self._last_act = last_act
        self._is_asked = threading.Event()
        self._is_done = threading.Event()
        threading.Thread(target=self._watch, name="ending", daemon=True).start()

    def ask(self) -> None:
        """End soon. Safe to call from a signal handler."""
        self._stop()
        self._is_asked.set()

    def done(self) -> None:
        """The end has come by itself."""
        self._is_done.set()

    def _watch(self) -> None:
        self._is_asked.wait()
        if self._is_done.wait(_PATIENCE_S):
            return
        act = threading.Thread(target=self._last_act, daemon=True)
        act.start()
        act.join(_LAST_ACT_S)
        if not self._is_done.is_set():
            log.warning("stopped while a server kept it waiting")
            os._exit(ExitCode.OK)
