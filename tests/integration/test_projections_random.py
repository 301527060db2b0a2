"""Made-up projections over random histories: what is followed equals what is rebuilt."""

import contextlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projector.databases import Mysql
from projector.errors import ConfigurationError
from projector.fetch import Fetcher
from projector.model import Need, TableName, Transactions
from projector.mysql.barrier import choose
from projector.mysql.binlog import BinlogSource
from projector.mysql.columns import fitted
from projector.mysql.connection import Connection, engine
from projector.mysql.dialect import MYSQL
from projector.mysql.knowledge import merged
from projector.mysql.position import Position
from projector.mysql.reader import MysqlReader
from projector.projection import Plan
from projector.route import Router
from tests.examples import generated, history
from tests.memory_sink import entries
from tests.schema_check import assert_as_said
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


@dataclass
class Follower:
    """A hash that is kept by the daemon's parts."""

    plan: Plan
    spec: generated.Spec
    router: Router
    fetcher: Fetcher
    views: list[generated.ViewSpec]
    documents: dict[str, bytes] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def build(self, position: Position) -> None:
        need = Need(position)
        self.apply(set(self.fetcher.ids_after(None, 10_000, need)), need)

    def step(self, transactions: Transactions) -> None:
        affected = self.router.route(transactions.changes)
        need = Need(transactions.barrier, transactions.changes)
        found = self.fetcher.look_up(affected.look_ups, need, 100_000)
        assert not affected.repairs
        assert not found.deferred
        if affected.ids or found.ids:
            self.apply(affected.ids | found.ids, need)

    def apply(self, ids: set[str], need: Need) -> None:
        fetched = self.fetcher.documents(sorted(ids), need)
        assert not fetched.failed
        self.documents.update(fetched.documents)
        self.places.update(fetched.places)
        for gone in fetched.gone:
            self.documents.pop(gone, None)
            self.places.pop(gone, None)


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
    history.run(stage.connection, generated.HISTORY, seed, 15)
    with contextlib.ExitStack() as stack:
        _follow(stage, specs, seed, stack)


def _follow(
    stage: Stage, specs: list[generated.Spec], seed: int, stack: contextlib.ExitStack
) -> None:
    views = [_views(random.Random(f"{seed}/{i}"), spec) for i, spec in enumerate(specs)]
    plans = [
        Plan(generated.projection(spec, f"p{i}", own), MYSQL)
        for i, (spec, own) in enumerate(zip(specs, views, strict=True))
    ]
    for plan in plans:
        _assert_census(plan, stage.name)
    watches = merged([watch for plan in plans for watch in plan.watches(stage.name)])
    start = stage.source.current()
    stage.source.start(start, watches)
    stack.callback(stage.source.close)
    followers = []
    for plan, spec, own in zip(plans, specs, views, strict=True):
        connection, barrier = Connection(stage.engine), choose(start, {}, is_replica=False)
        fetcher = Fetcher(fitted(plan, connection), MysqlReader(connection, barrier))
        stack.callback(fetcher.close)
        followers.append(Follower(plan, spec, Router(plan, stage.name, watches), fetcher, own))
        followers[-1].build(start)
    for part in range(3):
        history.run(stage.connection, generated.HISTORY, seed + part, 10)
        _catch_up(stage.source, followers)
        rows = stage.rows()
        for follower in followers:
            expected = generated.documents(follower.spec, rows)
            assert generated.parsed(follower.documents) == expected, follower.spec
            stored = [json.loads(document) for document in follower.documents.values()]
            assert_as_said(follower.plan, stored)
            listed = {k: entries(place) for k, place in follower.places.items()}
            expected = generated.places(follower.spec, follower.views, rows)
            assert listed == expected, (follower.spec, follower.views)


def _views(chance: random.Random, spec: generated.Spec) -> list[generated.ViewSpec]:
    """Make up views that may be declared: a column shown in two collections is no key."""
    while True:
        views = generated.generate_views(chance, spec)
        try:
            Plan(generated.projection(spec, "p", views), MYSQL)
        except ConfigurationError as error:
            if "several places" not in str(error):
                raise
        else:
            return views


def _catch_up(source: BinlogSource, followers: list[Follower]) -> None:
    end, deadline = source.current(), time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline
        transactions = source.read(0.5)
        if transactions is None:
            continue
        for follower in followers:
            follower.step(transactions)
        if transactions.position is not None and transactions.position.reaches(end):
            return


def _assert_census(plan: Plan, schema: str) -> None:
    """Every table in every role has a route, and every table of a query is watched."""
    assert {id(r.node) for r in plan.routes} == {id(n) for n in plan.all_nodes()}
    watched = {watch.table for watch in plan.watches(schema)}
    assert watched == {TableName(schema, n.table.name) for n in plan.all_nodes()}
    for level in plan.levels:
        for name in generated.KEYS:
            if f" {name} " in level.sql.replace("\n", " ") + " ":
                assert TableName(schema, name) in watched
    routed = [x for r in plan.routes for x in (r.look_up, r.by_key) if x is not None]
    for look_up in routed:
        known = plan.look_ups[look_up.name]
        assert (known.sql, known.column_names) == (look_up.sql, look_up.column_names)
