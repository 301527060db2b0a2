"""The projector as users run it: a process of its own, told by environment variables.

    with Projector(mysql_url, redis_url) as daemon:
        daemon.wait_current()

Ends the process by its pid; keeps its log for the test's report. Under pytest it is forked off a
process that has imported everything (see `nursery`): most of a start is that.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from projector.mysql.position import GtidSet, MariadbGtids, Position, file_number
from tests.nursery import Child, Nursery, shared
from tests.servers.process import launch

ROOT = Path(__file__).resolve().parent.parent


class Projector:
    """One `projector run`, started by `start` and ended by `stop` or `kill`."""

    def __init__(self, url: str, redis_url: str, **settings: str) -> None:
        source = "SOURCE" if url.startswith("postgresql:") else "MYSQL"
        self.environment = {
            **{
                k: v
                for k, v in os.environ.items()
                if k == "PROJECTOR_COMPILED" or not k.startswith("PROJECTOR_")
            },
            f"PROJECTOR_{source}__URL": url,
            "PROJECTOR_REDIS__URL": redis_url,
            "PROJECTOR_HTTP__PORT": "0",
            "PROJECTOR_LOG__FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
            **settings,
        }
        self.folder = ROOT  # the checkout that it is started from
        self.process: subprocess.Popen[bytes] | Child | None = None
        self.nursery: Nursery | None = None  # where to begin quickly, if anywhere
        self._before = 0  # events logged by those started before
        self._log = tempfile.NamedTemporaryFile(prefix="projector-", suffix=".log")  # noqa: SIM115

    def start(self, *options: str) -> Self:
        """Start `projector run` with options."""
        assert self.process is None or self.process.poll() is not None, "still running"
        self._before = len(self.events())
        if (nursery := self._nursery()) is not None:
            self.process = nursery.spawn(["run", *options], self.environment, self._log.name)
            return self
        self.process = launch(
            [sys.executable, "-m", "projector", "run", *options],
            cwd=self.folder,
            env=self.environment,
            stdout=self._log,
            stderr=self._log,
        )
        return self

    def run(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run another command with the same settings, to its end."""
        if (nursery := self._nursery()) is not None:
            return _run(nursery, words, self.environment, timeout_s)
        return subprocess.run(
            [sys.executable, "-m", "projector", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            errors="surrogateescape",  # ids that are no UTF-8
            timeout=timeout_s,
            check=False,
        )

    def _nursery(self) -> Nursery | None:
        if self.nursery is None and "PYTEST_CURRENT_TEST" in os.environ:
            return shared()
        return self.nursery

    def stop(self, timeout_s: float = 10) -> int:
        """Send SIGTERM and give the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """Send SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def wait(self, timeout_s: float = 60) -> int:
        """Wait for the process to end by itself; give the exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def log(self) -> str:
        """Return everything that it has logged."""
        return Path(self._log.name).read_text("utf-8", "replace")

    def events(self) -> list[dict[str, Any]]:
        """Return the log lines that are JSON."""
        found = []
        for line in self.log().splitlines():
            if line.startswith("{"):
                found.append(json.loads(line))
        return found

    @property
    def http_port(self) -> int:
        """The port that it listens on, as logged."""
        found = wait_for(
            lambda: [
                event["port"]
                for event in self.events()[self._before :]
                if event.get("event") == "listening"
            ],
            self,
        )
        return int(found[0])

    def http(self, path: str) -> tuple[int, bytes]:
        """GET a path."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def metric(self, name: str, **labels: str) -> float | None:
        """Return the sum of a metric's samples that have these labels; None where there is none."""
        text = self.http("/metrics")[1].decode()
        found = [
            float(value)
            for said, value in re.findall(rf"(?m)^{name}(?:{{(.*)}})? (\S+)$", text)
            if all(f'{key}="{wanted}"' in said for key, wanted in labels.items())
        ]
        return sum(found) if found else None

    def __enter__(self) -> Self:
        return self if self.process is not None else self.start()

    def __exit__(self, kind: object, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        if kind is not None:
            sys.stderr.write(self.log()[-8000:])
        self._log.close()


def _run(
    nursery: Nursery, words: Sequence[str], environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        child = nursery.spawn(words, environment, out.name, err.name)
        try:
            code = child.wait(timeout_s)
        finally:
            child.kill()
        said = [Path(file.name).read_text("utf-8", "surrogateescape") for file in (out, err)]
        return subprocess.CompletedProcess(list(words), code, *said)


def wait_for(condition: Any, daemon: Projector | None = None, timeout_s: float = 30) -> Any:
    """Return the condition's first true value; fail with the daemon's log after the time limit."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        ended = daemon is not None and daemon.process is not None and daemon.process.poll()
        if time.monotonic() > deadline or ended:
            log = daemon.log()[-6000:] if daemon is not None else ""
            raise AssertionError(f"not within {timeout_s} s (process ended: {ended})\n{log}")
        time.sleep(0.01)


def await_checkpoint(
    redis: Any, connection: Any, daemon: Projector, name: str = "tickets", timeout_s: float = 60
) -> None:
    """Wait until everything committed by now is in the hash, and nothing is owed."""
    target = committed(connection)
    wait_for(lambda: is_settled(redis, target, name), daemon, timeout_s)


def is_settled(redis: Any, target: Any, name: str = "tickets") -> bool:
    """Whether everything up to a place of `committed` is in the hash, and nothing is owed."""
    text = redis.hget(f"{{{name}}}:checkpoint", "position")
    owed = {key.decode(errors="replace") for key in redis.hkeys(f"{{{name}}}:debts")} - {"scrub"}
    if text is None or owed:
        return False
    return position_reaches(text.decode(), target)


def put_off(redis: Any, name: str) -> list[bytes]:
    """Return the keys of look-ups that are recorded as owed."""
    return [key for key in redis.hkeys(f"{{{name}}}:debts") if key.startswith(b"route:")]


def walked(daemon: Projector) -> float:
    """Return the number of documents written by walks, not by changes as they come."""
    return daemon.metric("projector_documents_written_total", reason="resync") or 0.0


def committed(connection: Any) -> Any:
    """Return the end of the server's log as GTIDs; as file and offset where it has none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        if "MariaDB" in cursor.fetchone()[0]:
            cursor.execute("SELECT @@global.gtid_binlog_pos")
            return MariadbGtids.parse(cursor.fetchone()[0])
        cursor.execute("SHOW BINARY LOG STATUS")
        row = cursor.fetchone()
        return GtidSet.parse(row[4]) if row[4] else (row[0], int(row[1]))


def position_reaches(text: str, target: Any) -> bool:
    """Whether a checkpoint's position is at or beyond a place of `committed`."""
    position = Position.parse(text)
    if isinstance(target, tuple):
        return (file_number(position.file), position.offset) >= (file_number(target[0]), target[1])
    return position.gtids is not None and position.gtids.contains(target)
