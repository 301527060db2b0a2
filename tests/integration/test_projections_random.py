"""Made-up projections over random histories: what is followed equals what is rebuilt."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projector.databases import Mysql
from projector.fetch import Fetcher
from projector.model import Watch
from projector.mysql.barrier import choose
from projector.mysql.binlog import BinlogSource
from projector.mysql.columns import fitted
from projector.mysql.connection import Connection, engine
from projector.mysql.dialect import MYSQL
from projector.mysql.knowledge import merged
from projector.mysql.reader import MysqlReader
from projector.position import Position
from projector.projection import Plan
from projector.projection.dialect import Dialect
from tests.examples import generated, history
from tests.integration.following import follow
from tests.servers import DatabaseServer
from tests.servers.account import documented_account

pytestmark = pytest.mark.server


@dataclass
class Stage:
    """A database with the tables, a writer, and a source."""

    name: str
    connection: Any
    settings: Mysql
    source: BinlogSource
    engine: Any
    dialect: Dialect = MYSQL
    takes_numbers: bool = True

    def rows(self) -> generated.Rows:
        found = {}
        with self.connection.cursor() as cursor:
            for table in generated.KEYS:
                cursor.execute(f"SELECT id, k, a, b, s FROM `{table}`")
                names = [d[0] for d in cursor.description]
                found[table] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return found

    def clear(self) -> None:
        with self.connection.cursor() as cursor:
            for table in generated.KEYS:
                cursor.execute(f"DELETE FROM `{table}`")

    def write(self, seed: int, transactions: int) -> None:
        history.run(self.connection, generated.HISTORY, seed, transactions)

    def start(self, plans: Sequence[Plan]) -> tuple[Position, Sequence[Watch]]:
        watches = merged([watch for plan in plans for watch in plan.watches(self.name)])
        start = self.source.current()
        self.source.start(start, watches)
        return start, watches

    def fetcher(self, plan: Plan, start: Position) -> Fetcher:
        connection, barrier = Connection(self.engine), choose(start, {}, is_replica=False)
        return Fetcher(fitted(plan, connection), MysqlReader(connection, barrier))


@pytest.fixture
def stage(database: DatabaseServer, fresh_database: str) -> Iterator[Stage]:
    """The four tables on either server."""
    database.load_sql(generated.DDL, fresh_database)
    mysql = Mysql(url=documented_account(database, fresh_database), heartbeat_s=0.2)
    made = Stage(
        fresh_database, database.connect(fresh_database), mysql, BinlogSource(mysql),
        engine(mysql.parsed_url, mysql),
    )  # fmt: skip
    yield made
    made.source.close()
    made.connection.close()
    made.engine.dispose()


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**6))
def test_what_is_followed_equals_what_is_made_anew(stage: Stage, seed: int) -> None:
    """Any projection, any history: each document as evaluated row by row, and no other; and it
    stands in the lists that its rows say."""
    follow(stage, seed)
