"""Reading a server's log with the real source, in tests."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from projector.databases import Mysql
from projector.model import Change, Kind, RowsChange, TableName, Transactions, Watch
from projector.mysql.binlog import BinlogSource
from projector.mysql.position import Position
from tests.servers import DatabaseServer

DEADLINE_S = 30.0


def settings(server: DatabaseServer, **more: Any) -> Mysql:
    """Settings for a server of the tests, with quick heartbeats."""
    return Mysql(**{"url": server.url("mysql"), "heartbeat_s": 0.3, "read_timeout_s": 10, **more})


def watch(database: str, table: str = "t", columns: Sequence[str] = ("id", "a")) -> Watch:
    return Watch(TableName(database, table), tuple(columns), frozenset(columns))


@dataclass
class Log:
    """What a source gave so far."""

    source: BinlogSource
    parts: list[Transactions] = field(default_factory=list)

    @property
    def changes(self) -> list[Change]:
        return [change for part in self.parts for change in part.changes]

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def position(self) -> Position:
        return next(part.position for part in reversed(self.parts) if part.position is not None)

    def read_until(self, enough: Callable[["Log"], bool]) -> "Log":
        """Read until the condition holds; fails at the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while not enough(self):
            assert time.monotonic() < deadline, f"still waiting; so far: {self.parts[-5:]}"
            part = self.source.read(0.2)
            if part is not None:
                self.parts.append(part)
        return self

    def read_to(self, end: Position) -> "Log":
        """Read until a position has been reached."""
        return self.read_until(
            lambda log: any(p.position and p.position.reaches(end) for p in log.parts)
        )

    def read_to_end(self) -> "Log":
        """Read until the place that is the end of the server's log by now."""
        return self.read_to(self.source.current())


@contextmanager
def reading(
    server: DatabaseServer,
    *watches: Watch,
    start: Position | None = None,
    **more: Any,
) -> Iterator[Log]:
    """A started source; from the end of the log unless a position is given."""
    source = BinlogSource(settings(server, **more))
    source.start(start or source.current(), watches)
    try:
        yield Log(source)
    finally:
        source.close()


def net(changes: Sequence[Change]) -> list[tuple[str, list[Any], list[Any]]]:
    """Changes of rows in a form that is easy to compare; other changes by their reason."""
    return [
        (change.kind.value, list(change.before), list(change.after))
        if isinstance(change, RowsChange)
        else (change.reason, [], [])
        for change in changes
    ]


def inserted(changes: Sequence[Change]) -> list[Any]:
    """The rows that inserts put in, in order."""
    return [
        row
        for change in changes
        if isinstance(change, RowsChange) and change.kind is Kind.INSERT
        for row in change.after
    ]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"still waiting: {what}"
        time.sleep(0.02)
