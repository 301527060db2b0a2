"""Databases with a daemon beside them: the helpdesk, and the examples that are not ours."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from tests.examples import history
from tests.examples.history import Tables
from tests.oracle import Documents, assert_hash_equals_database, compare
from tests.projector_process import Projector, await_checkpoint
from tests.seed import seed
from tests.servers import DatabaseServer, RedisServer
from tests.servers.account import documented_account

HELPDESK = (Path(__file__).parent.parent / "helpdesk.sql").read_text("utf-8")
_PASSING = (1205, 1213, 1020)  # lock wait timeout, deadlock, changed since the snapshot

Oracle = Callable[[Any], Documents]


class World:
    """A database, an empty Redis and a daemon that is not started yet.

    `settings` are the daemon's environment variables; `grants` as `documented_account` takes them.
    """

    def __init__(
        self,
        database: DatabaseServer,
        name: str,
        redis_server: RedisServer,
        grants: Iterable[str] = (),
        **settings: str,
    ) -> None:
        self.database, self.name = database, name
        self.connection = database.connect(name)
        self.redis = redis_server.client(db=1)
        self.redis_url = redis_server.url(db=1)
        self.url = documented_account(database, name, grants=grants)
        self.daemon = Projector(self.url, self.redis_url, **settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        """End the daemon; its log is shown where the test has failed."""
        self.daemon.__exit__(*failure)
        self.redis.close()
        self.connection.close()

    def execute(self, sql: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)

    def rows(self, sql: str) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def one(self, sql: str) -> Any:
        return self.rows(sql)[0][0]


class HelpdeskWorld(World):
    """A helpdesk of 300 tickets."""

    def __init__(
        self, database: DatabaseServer, name: str, redis_server: RedisServer, **settings: str
    ) -> None:
        database.load_sql(HELPDESK, name)
        with contextlib.closing(database.connect(name)) as connection:
            seed(connection, 300)
        super().__init__(database, name, redis_server, **settings)

    def settle(self) -> None:
        """Wait until everything committed is applied."""
        await_checkpoint(self.redis, self.connection, self.daemon)

    def check(self) -> None:
        """Wait, then compare the whole hash with hand-written SQL."""
        self.settle()
        assert assert_hash_equals_database(self.redis, self.connection) > 0


class ExampleWorld(World):
    """An example's tables, loaded already, their random history, and the oracle of each hash.

    `sql_mode`: of those who write, where not the server's. `one_by_one`: as `history.run` takes it.
    """

    def __init__(
        self,
        database: DatabaseServer,
        name: str,
        redis_server: RedisServer,
        tables: Tables,
        oracles: Mapping[str, Oracle],
        projections: str,
        *,
        grants: Iterable[str] = (),
        sql_mode: str | None = None,
        one_by_one: bool = False,
        **settings: str,
    ) -> None:
        settings["PROJECTOR_PROJECTION"] = projections
        super().__init__(database, name, redis_server, grants, **settings)
        self.tables, self.oracles = tables, oracles
        self._sql_mode, self._one_by_one = sql_mode, one_by_one

    def run(self, seed: int, transactions: int) -> None:
        """Two writers at once, as far as locks let them."""
        with contextlib.closing(self.database.connect(self.name)) as other:
            second = threading.Thread(target=self._write, args=(other, seed + 1000, transactions))
            second.start()
            self._write(self.connection, seed, transactions)
            second.join()

    def _write(self, connection: Any, seed: int, transactions: int) -> None:
        """Deadlocks are part of life; the history goes on with other numbers."""
        if self._sql_mode is not None:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION sql_mode = %s", (self._sql_mode,))
        for part in range(0, transactions, 20):
            try:
                history.run(connection, self.tables, seed + part, 20, one_by_one=self._one_by_one)
            except Exception as error:
                if error.args[0] not in _PASSING:
                    raise
                connection.rollback()

    def check(self) -> int:
        """Compare each hash with its oracle once everything committed is in it; their sizes."""
        count = 0
        for name, oracle in self.oracles.items():
            await_checkpoint(self.redis, self.connection, self.daemon, name)
            expected = oracle(self.connection)
            differences = compare(self.redis.hgetall(name), expected)
            shown = "\n".join(map(str, differences[:5]))
            assert not differences, f"{name}: {len(differences)} of {len(expected)}\n{shown}"
            count += len(expected)
        return count
