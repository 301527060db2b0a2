"""Reading a PostgreSQL server's log with the real source, in tests."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from projector.model import Change, Need, RowsChange, TableName, Transactions, Watch
from projector.ports import FOR_EVER
from projector.position import Position
from projector.postgres.log import Address, PostgresLog
from projector.postgres.position import Position as PostgresPosition
from projector.postgres.reader import PostgresDatabase, PostgresReader
from tests.servers.postgres import PostgresServer
from tests.servers.role import documented_role

DEADLINE_S = 30.0


@dataclass
class Tables:
    """A database with tables that the documented role may read, and their publication."""

    server: PostgresServer
    database: str
    url: str

    def run(self, *statements: str) -> None:
        """Run statements of one session, each on its own."""
        with self.server.connect(self.database) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[arg-type]

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self.server.execute(sql, database=self.database)

    def address(self, **more: Any) -> Address:
        """The source's, with quick heartbeats."""
        arguments = {"heartbeat_s": 0.2, "patience_s": 20.0, **more}
        return Address(self.url, f"s_{self.database}", "projector", **arguments)

    def readers(self) -> Callable[[], PostgresReader]:
        """What makes readers of documents' rows."""
        place: Any = None
        return PostgresDatabase(self.address().open).readers(place, {}, FOR_EVER)

    def rows(self, sql: str, place: Position) -> list[tuple[bytes | None, ...]]:
        """Rows as a reader gives them that has waited for a place."""
        reader = self.readers()()
        try:
            return list(reader.rows([sql], Need(place))[0])
        finally:
            reader.close()


def made(
    server: PostgresServer, database: str, *statements: str, full: Collection[str] = ()
) -> Tables:
    """Make tables, by statements, and all that is documented for them."""
    here = Tables(server, database, "")
    here.run(*statements)
    tables = here.ask(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1"
    )
    here.url = documented_role(server, database, [name for [name] in tables], full=full)
    return here


def watch(table: str = "t", columns: Sequence[str] = ("id", "a")) -> Watch:
    return Watch(TableName("public", table), tuple(columns), frozenset(columns))


@dataclass
class Log:
    """What a source gave so far."""

    source: PostgresLog
    parts: list[Transactions] = field(default_factory=list)

    @property
    def changes(self) -> list[Change]:
        return [change for part in self.parts for change in part.changes]

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def position(self) -> Any:
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

    def read_to(self, end: PostgresPosition) -> "Log":
        """Read until a position has been reached."""
        return self.read_until(
            lambda log: any(p.position and p.position.reaches(end) for p in log.parts)
        )

    def read_to_end(self) -> "Log":
        """Read until the place that is the end of the server's log by now."""
        return self.read_to(self.source.current())


@contextmanager
def reading(
    tables: Tables, *watches: Watch, start: Position | None = None, **more: Any
) -> Iterator[Log]:
    """A started source; a new slot unless a position is given."""
    source = PostgresLog(tables.address(**more))
    source.start(source.begin() if start is None else start, watches or [watch()])
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
