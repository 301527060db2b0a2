"""Made-up projections over random histories: what is followed equals what is rebuilt."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projector.databases import Mysql
from projector.fetch import Fetcher
from projector.mysql.barrier import choose
from projector.mysql.binlog import BinlogSource
from projector.mysql.columns import fitted
from projector.mysql.connection import Connection, engine
from projector.mysql.dialect import MYSQL
from projector.mysql.knowledge import merged
from projector.mysql.reader import MysqlReader
from projector.route import Router
from tests.examples import generated, history
from tests.integration.following import Follower, assert_census, follow, plans, views_of
from tests.servers import DatabaseServer
from tests.servers.account import documented_account

pytestmark = pytest.mark.server

_PROJECTIONS = 6  # follow one history, since histories take longer than projections


@dataclass
class Stage:
    """A database with the tables, a writer, and a source."""

    name: str
    connection: Any
    settings: Mysql
    source: BinlogSource
    engine: Any

    def rows(self) -> generated.Rows:
        found = {}
        with self.connection.cursor() as cursor:
            for table in generated.KEYS:
                cursor.execute(f"SELECT id, k, a, b, s FROM `{table}`")
                names = [d[0] for d in cursor.description]
                found[table] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return found

    def write(self, seed: int, transactions: int) -> None:
        history.run(self.connection, generated.HISTORY, seed, transactions)


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
    chance = random.Random(seed)
    specs = [generated.generate(chance) for _ in range(_PROJECTIONS)]
    with stage.connection.cursor() as cursor:
        for table in generated.KEYS:
            cursor.execute(f"DELETE FROM `{table}`")
    stage.write(seed, 15)
    with contextlib.ExitStack() as stack:
        _follow(stage, specs, seed, stack)


def _follow(
    stage: Stage, specs: list[generated.Spec], seed: int, stack: contextlib.ExitStack
) -> None:
    views = [views_of(random.Random(f"{seed}/{i}"), spec, MYSQL) for i, spec in enumerate(specs)]
    declared = plans(specs, views, MYSQL)
    for plan in declared:
        assert_census(plan, stage.name)
    watches = merged([watch for plan in declared for watch in plan.watches(stage.name)])
    start = stage.source.current()
    stage.source.start(start, watches)
    stack.callback(stage.source.close)
    followers = []
    for plan, spec, own in zip(declared, specs, views, strict=True):
        connection, barrier = Connection(stage.engine), choose(start, {}, is_replica=False)
        fetcher = Fetcher(fitted(plan, connection), MysqlReader(connection, barrier))
        stack.callback(fetcher.close)
        followers.append(Follower(plan, spec, Router(plan, stage.name, watches), fetcher, own))
        followers[-1].build(start)
    follow(stage, followers, seed)
