"""Daemons that begin with everything imported: forked off a process that has done that once.

A start then takes a few milliseconds of work instead of more than a second. What is forked is
otherwise as `python -m projector` is: a session, an environment, a log and an end of its own.
`Child` has as much of Popen as tests use.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.servers.process import launch

_ROOT = Path(__file__).resolve().parent.parent


class Child:
    """A process that the nursery forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("projector", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that forks. Ends with us, and all its children with it."""

    def __init__(self) -> None:
        self._process = launch(
            [sys.executable, "-u", "-m", "tests.nursery"], cwd=_ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._children: dict[int, Child] = {}
        self._born = threading.Semaphore(0)
        self._newest: Child | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True, name="nursery")
        self._thread.start()

    def spawn(
        self, words: Sequence[str], environment: Mapping[str, str], log: str, errors: str = ""
    ) -> Child:
        """Start `projector WORDS`; it writes to the ends of the files `log` and `errors`, or all to
        the one."""
        order = {
            "words": list(words), "environment": dict(environment),
            "log": log, "errors": errors or log,
        }  # fmt: skip
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            if not self._born.acquire(timeout=30):
                raise TimeoutError("the nursery does not answer")
            assert self._newest is not None
            return self._newest

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(10)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "born" in said:
                self._newest = self._children[said["born"]] = Child(said["born"])
                self._born.release()
            else:
                self._children.pop(said["pid"]).end(said["code"])


@functools.cache
def shared() -> Nursery:
    """The nursery of this process, begun when it is first needed."""
    nursery = Nursery()
    atexit.register(nursery.close)
    return nursery


def _serve() -> None:
    """Fork at each line of standard input; say who was born and who ended."""

    import projector.cli
    import projector.daemon  # what the command, or the projections of tests, import late

    gc.freeze()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing)
    rest = b""
    while True:
        ready, _, _ = select.select([0, reading], [], [])
        if reading in ready:
            os.read(reading, 4096)
            _reap()
        if 0 in ready:
            received = os.read(0, 1 << 20)
            if not received:
                return
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                if (pid := os.fork()) == 0:
                    _become(json.loads(line), (reading, writing))
                    projector.cli.main()
                    return
                _say({"born": pid})


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(said: Mapping[str, Any]) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


def _become(order: Mapping[str, Any], pipes: Sequence[int]) -> None:
    """Be a process of one's own, with the environment and the log that were ordered."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    os.setsid()
    for pipe in pipes:
        os.close(pipe)
    log, errors = (
        os.open(order[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT) for name in ("log", "errors")
    )
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (log, 1), (errors, 2)):
        os.dup2(old, new)
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    sys.path[:0] = [p for p in order["environment"].get("PYTHONPATH", "").split(":") if p]
    sys.argv = ["projector", *order["words"]]


if __name__ == "__main__":
    _serve()
