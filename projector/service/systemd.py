"""Tell systemd that this process is ready, alive, stopping (sd_notify(3)); silent without systemd.

Never says "alive" for a loop that stands still: that is what the watchdog is for.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping


class Notifier:
    """Reports to the socket that systemd names in NOTIFY_SOCKET, half as often as WATCHDOG_USEC.

    The two variables are systemd's own protocol, not settings.
    """

    def __init__(
        self, is_alive: Callable[[], bool], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._is_alive = is_alive
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._interval_s = int(environment.get("WATCHDOG_USEC") or 0) / 1e6 / 2
        self._stopped = threading.Event()

    def start(self) -> None:
        """Say that the process is ready: it leads or stands by, and needs nobody to do so."""
        self._send("READY=1")
        if self._address and self._interval_s:
            threading.Thread(target=self._keep_alive, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Say that the process ends as asked."""
        self._stopped.set()
        self._send("STOPPING=1")

    def _keep_alive(self) -> None:
        while not self._stopped.is_set():
            if self._is_alive():
                self._send("WATCHDOG=1")
            self._stopped.wait(self._interval_s)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as peer:
            try:
                peer.sendto(message.encode(), self._address)
            except OSError:  # systemd restarts itself: the next report comes
                return
