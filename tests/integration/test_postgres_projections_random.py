"""Made-up projections over random histories on PostgreSQL: what is followed is what is meant."""

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from projector.fetch import Fetcher
from projector.model import Watch
from projector.ports import FOR_EVER
from projector.position import Position
from projector.postgres.dialect import POSTGRES
from projector.postgres.log import PostgresLog
from projector.postgres.reader import PostgresDatabase
from projector.projection import Plan
from projector.projection.dialect import Dialect
from tests.examples import generated
from tests.examples.history import between, one_of
from tests.integration.following import follow
from tests.integration.postgres_reading import Tables, made
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.server

_DDL = [
    f'CREATE TABLE "{table}" (id int{" NOT NULL" if "id" in key else ""}, k int NOT NULL, a int,'
    f' b int, s varchar(5) COLLATE "C" NOT NULL, PRIMARY KEY ({", ".join(key)}))'
    for table, key in generated.KEYS.items()
]
_TEXTS = one_of("'p'", "'P'", "'q'", "'r'")


@dataclass
class _Stage:
    """The four tables, whose old rows are logged."""

    tables: Tables
    connection: "psycopg.Connection[Any]"
    source: PostgresLog
    name: str = "public"
    dialect: Dialect = POSTGRES
    takes_numbers: bool = False

    def rows(self) -> generated.Rows:
        found = generated.NullsGreatest()
        for table in generated.KEYS:
            cursor = self.connection.execute(f'SELECT id, k, a, b, s FROM "{table}"')  # type: ignore[arg-type]
            names = [column.name for column in cursor.description or ()]
            found[table] = [dict(zip(names, row, strict=True)) for row in cursor]
        return found

    def clear(self) -> None:
        for table in generated.KEYS:
            self.connection.execute(f'DELETE FROM "{table}"')  # type: ignore[arg-type]

    def write(self, seed: int, transactions: int) -> None:
        """Commit so many transactions of one to four statements; some are rolled back."""
        chance = random.Random(seed)
        for _ in range(transactions):
            with self.connection.transaction(force_rollback=chance.random() < 0.1):
                for _ in range(chance.choice([1, 1, 2, 4])):
                    statement = _statement(chance)
                    with (
                        contextlib.suppress(psycopg.errors.UniqueViolation),
                        self.connection.transaction(),
                    ):
                        self.connection.execute(statement)  # type: ignore[arg-type]

    def start(self, plans: Sequence[Plan]) -> tuple[Position, Sequence[Watch]]:
        start = self.source.begin()
        watches = self.source.learn(plans, FOR_EVER).watches
        self.source.start(start, watches)
        return start, watches

    def fetcher(self, plan: Plan, start: Position) -> Fetcher:
        database = PostgresDatabase(self.tables.address().open)
        return Fetcher(database.fitted(plan), database.readers(start, {}, FOR_EVER)())


def _statement(chance: random.Random) -> str:
    table = chance.choice(list(generated.KEYS))
    key = generated.KEYS[table]
    values = {
        "id": between(1, 6, 0 if "id" in key else 0.2), "k": between(1, 2),
        "a": between(1, 6, 0.2), "b": between(1, 6, 0.2), "s": _TEXTS,
    }  # fmt: skip
    names = list(values)
    kind = chance.choices(["insert", "replace", "update", "delete"], [6, 1, 8, 2])[0]
    if kind in {"insert", "replace"}:
        row = ", ".join(values[name](chance) for name in names)
        changed = ", ".join(f"{name} = excluded.{name}" for name in names)
        conflict = (
            f"({', '.join(key)}) DO UPDATE SET {changed}" if kind == "replace" else "DO NOTHING"
        )
        return f'INSERT INTO "{table}" ({", ".join(names)}) VALUES ({row}) ON CONFLICT {conflict}'
    chosen = chance.choice([*key, *key, *names])
    where = f"{chosen} IS NOT DISTINCT FROM {values[chosen](chance)}"
    some = f'ctid IN (SELECT ctid FROM "{table}" WHERE {where} LIMIT 4)'
    if kind == "delete":
        return f'DELETE FROM "{table}" WHERE {some}'
    new = ", ".join(
        f"{c} = {values[c](chance)}" for c in chance.sample(names, chance.choice([1, 2]))
    )
    return f'UPDATE "{table}" SET {new} WHERE {some}'


@pytest.fixture
def stage(postgres_server: PostgresServer, fresh_postgres: str) -> Iterator[_Stage]:
    tables = made(postgres_server, fresh_postgres, *_DDL, full=list(generated.KEYS))
    connection = postgres_server.connect(fresh_postgres)
    yield _Stage(tables, connection, PostgresLog(tables.address()))
    connection.close()


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(seed=14)  # first and last rows by a column with NULL, which sorts behind everything here
@given(seed=st.integers(0, 10**6))
def test_what_is_followed_equals_what_is_made_anew(stage: _Stage, seed: int) -> None:
    """Any projection, any history: each document as evaluated row by row, and no other; and it
    stands in the lists that its rows say."""
    follow(stage, seed)
