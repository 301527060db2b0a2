"""Server processes that never outlive ours, free ports, and throwaway folders.

A server dies with our process even when that is killed with -9 (the kernel's parent-death signal),
and the folder that a killed run left behind is removed by the next run.
"""

import atexit
import fcntl
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.servers.cache import locked
from tests.servers.flavours import ServerUnavailable

# prctl(PR_SET_PDEATHSIG, SIGKILL), then the server; a parent already gone signals no more.
_LAUNCHER = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

# The parent-death signal comes when the *thread* that forked ends (prctl(2)), so one thread that
# lives as long as we do forks.
_SPAWNER = ThreadPoolExecutor(1, thread_name_prefix="servers")

_PREFIX = "projector-servers-"


def launch(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own that ends, at the latest, when we do."""
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
    return _SPAWNER.submit(
        subprocess.Popen, [*launcher, *command], start_new_session=True, **options
    ).result()


class Running(Protocol):
    """The life of one server: a process here or a container."""

    def start(self) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def discard(self) -> None: ...
    def log_tail(self) -> str: ...
    @property
    def running(self) -> bool: ...
    @property
    def pid(self) -> int: ...


@dataclass
class Process:
    """A server process that can be started again with the same command and folder."""

    command: list[str]
    folder: Path
    _popen: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        if self.running:
            return
        with open(self.folder / "log", "ab") as log:
            self._popen = launch(
                self.command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def terminate(self) -> None:
        """SIGTERM, and SIGKILL after 20 s."""
        if self._popen is None:
            return
        self.resume()
        self._popen.terminate()
        try:
            self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def discard(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        assert self._popen is not None, "the server was never started"
        return self._popen.pid

    def log_tail(self) -> str:
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])

    def _signal(self, number: signal.Signals) -> None:
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(number)


def wait_until_ready(
    server: Running, ready: Callable[[], bool], what: str, timeout_s: float = 60
) -> None:
    """Poll `ready` until it is true.

    Raises ServerUnavailable, with the log's end, if the server dies or time is up.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if not server.running:
            raise ServerUnavailable(f"{what} ended at its start:\n{server.log_tail()}")
        if time.monotonic() > deadline:
            raise ServerUnavailable(
                f"{what} did not answer within {timeout_s:g} s:\n{server.log_tail()}"
            )
        time.sleep(0.02)


def free_port() -> int:
    """A port free on 127.0.0.1, of a range from which the kernel hands out none: still free later.

    The port 10,000 above stays free for a Redis Cluster bus.
    """
    for _ in range(200):
        port = random.randrange(15000, 22000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise ServerUnavailable("no free port on 127.0.0.1")


def new_folder(name: str) -> Path:
    """A throwaway folder for one server, removed at our exit."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_run_folder()))


@functools.cache
def _run_folder() -> Path:
    """The folder of this run; a lock held in it tells it from what a killed run left behind."""
    with locked("runs"):
        for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            _remove_if_left_behind(old)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
    atexit.register(_remove_at_exit, folder, os.getpid())
    return folder


def _remove_if_left_behind(folder: Path) -> None:
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)


def _remove_at_exit(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
