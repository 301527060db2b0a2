"""Both readers behind a real daemon on PostgreSQL: a writer reads its own write."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from projector_reader import (
    NotComparableError,
    Position,
    Reader,
    ReaderError,
    async_commit_token,
    commit_token,
)
from projector_reader.sqlalchemy import after_commit, last_token
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from projector.postgres.position import parse_lsn
from tests.fix_servers import missing
from tests.projector_process import Projector, wait_for
from tests.readers.node import run_node
from tests.readers.test_live import Note, _load, _measured, _measured_async, commit
from tests.readers.world import POSTGRES_DDL
from tests.servers import (
    PostgresServer,
    RedisServer,
    ServerUnavailable,
    start_postgres,
    start_standby,
)
from tests.servers.role import documented_role, role_of

pytestmark = pytest.mark.server

_UPDATE = sa.text("UPDATE notes SET text = :text WHERE id = 2")
_PAGE, _HEAD = 8192, 24


class PostgresNotes:
    """Notes with labels in a database that a daemon follows, and a table that nobody reads."""

    def __init__(self, server: PostgresServer, redis_server: RedisServer) -> None:
        self.database, self.redis_server = server, redis_server
        self.schema = f"readers_{uuid.uuid4().hex[:10]}"
        server.create_database(self.schema)
        server.load_sql(POSTGRES_DDL, self.schema)
        with redis_server.client(db=1) as client:
            client.flushdb()
        self.daemon = Projector(
            documented_role(server, self.schema, ["labels", "notes"]),
            redis_server.url(db=1),
            PROJECTOR_SOURCE__SLOT=f"s_{self.schema}",
            PROJECTOR_PROJECTION="tests.readers.world:notes",
            PROJECTOR_FANOUT_MAX_DOCUMENTS="10",
        )

    def close(self) -> None:
        self.daemon.__exit__(None, None, None)
        self.database.drop_database(self.schema)
        self.database.execute(f"DROP ROLE IF EXISTS {role_of(self.schema)}")

    def connect(self, **settings: Any) -> psycopg.Connection[Any]:
        return self.database.connect(self.schema, **{"autocommit": False, **settings})

    def url(self) -> str:
        return self.database.url(self.schema).replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture(scope="module", params=["postgres15_server", "postgres18_server"])
def world(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Any]:
    """The daemon on the session's PostgreSQL and PostgreSQL 18 in turn."""
    world = PostgresNotes(request.getfixturevalue(request.param), redis_server)
    try:
        world.daemon.start()
        with redis_server.client() as client:
            reader = Reader(client, "notes", Note)
            wait_for(lambda: reader.count() == 4000 and reader.health().is_fresh(), world.daemon)
        yield world
    finally:
        world.close()


@pytest.fixture
def reader(world: Any) -> Iterator[Reader[Note]]:
    with world.redis_server.client() as client:
        yield Reader(client, "notes", Note)


def test_a_write_is_there_after_its_wait(world: Any, reader: Reader[Note]) -> None:
    """Inserted, updated, deleted: the read after the wait finds it so, a hundred times."""
    with world.connect() as connection:
        for number in range(100):
            sql = "INSERT INTO notes VALUES (9001, 1, %s)"
            found = reader.get(9001, after=commit(connection, sql, str(number)))
            assert found is not None
            assert found.text == str(number)
            token = commit(connection, "DELETE FROM notes WHERE id = 9001")
            assert reader.get_many([9001], after=token) == {}


def test_own_writes_are_read_under_load(
    world: Any, reader: Reader[Note], capsys: pytest.CaptureFixture[str]
) -> None:
    """With 300 changes a second beside it, every write is there after its wait; blocking and
    asynchronous."""
    with _load(world) as rate, world.connect() as connection:

        def write(number: int) -> str:
            return commit(connection, "UPDATE notes SET text = %s WHERE id = 3", str(number))

        _measured(write, lambda token: reader.get(3, after=token, timeout_s=10), 150)
        asyncio.run(_measured_async(world, write, 150))
    assert rate() > 75  # a machine that others use, too


def test_commits_that_nobody_reads_do_not_delay(world: Any, reader: Reader[Note]) -> None:
    """Where others write tables that are not published, the place that a commit is told lies beyond
    it as often as not, and is reached soon all the same."""
    with world.connect() as other, world.connect() as connection:

        def write(number: int) -> str:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE notes SET text = %s WHERE id = 4", (str(number),))
            connection.commit()
            other.execute("UPDATE others SET text = %s WHERE id = 1", (number,))
            other.commit()
            return commit_token(connection)

        found = _measured(write, lambda token: reader.get(4, after=token, timeout_s=10), 30)
    assert sorted(found)[-4] < 400, found  # milliseconds; a second or more with heartbeats alone


def test_any_connection_names_the_commit(world: Any, reader: Reader[Note]) -> None:
    """Behind a pooler another connection answers; and a commit that is not flushed when it returns
    (synchronous_commit=off) is waited for, too."""
    with world.connect() as connection, world.connect(autocommit=True) as another:
        for number in range(40):
            with connection.cursor() as cursor:
                if number % 2:
                    cursor.execute("SET LOCAL synchronous_commit = off")
                cursor.execute("UPDATE notes SET text = %s WHERE id = 5", (str(number),))
            connection.commit()
            found = reader.get(5, after=commit_token(another), timeout_s=10)
            assert found is not None
            assert found.text == str(number)


def test_a_commit_that_ends_at_a_page_is_waited_for(world: Any, reader: Reader[Note]) -> None:
    """The function that tells the end of the log has passed the next page's head then, where no
    checkpoint gets to before another commit: the token is the end of the commit."""
    with world.connect(autocommit=True) as connection:

        def emit(size: int) -> int:
            connection.execute("SELECT pg_logical_emit_message(true, '', repeat('x', %s))", (size,))
            [[end]] = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
            return parse_lsn(end)

        begin = emit(8)
        usual = emit(8) - begin
        for _ in range(20_000):
            left = -emit(8) % _PAGE
            if usual <= left <= usual + 160 and emit(8 + left - usual) % _PAGE == _HEAD:
                break
        token = commit_token(connection)
        assert parse_lsn(token.split("|")[3]) % _PAGE == 0
        reader.wait(token, 5)


def test_a_session_that_wrote_nothing_waits_for_nothing(world: Any, reader: Reader[Note]) -> None:
    """The token of a connection without a commit is one that is there soon."""
    with world.connect() as connection:
        reader.wait(commit_token(connection), 5)


def test_wide_changes_are_waited_for_while_they_are_owed(world: Any, reader: Reader[Note]) -> None:
    """A renamed label is worked off behind the checkpoint; after the wait every note has it."""
    with world.connect() as connection:
        for name in ("new", "newer"):
            token = commit(connection, "UPDATE labels SET name = %s WHERE id = 1", name)
            reader.wait(token, 30)
            assert {note.label for _, note in reader.scan()} == {name}


def test_connections_are_left_as_they_were(world: Any) -> None:
    """The question neither begins a transaction nor ends one; rows may be dictionaries."""
    idle, in_transaction = psycopg.pq.TransactionStatus.IDLE, psycopg.pq.TransactionStatus.INTRANS
    with world.connect(row_factory=psycopg.rows.dict_row) as connection:
        assert commit_token(connection).startswith("postgres|")
        assert (connection.info.transaction_status, connection.autocommit) == (idle, False)
        connection.execute("SELECT 1")
        assert commit_token(connection).startswith("postgres|")
        assert connection.info.transaction_status == in_transaction

    class Wrapped:
        """A driver by another name, which is asked what it is."""

        def __init__(self, connection: Any) -> None:
            self.cursor = connection.cursor

    with world.connect(autocommit=True) as connection:
        assert commit_token(Wrapped(connection)).startswith("postgres|")


def test_asynchronous_drivers_have_tokens(world: Any, reader: Reader[Note]) -> None:
    """psycopg's connections that are awaited, and those that fetch rows by themselves (asyncpg)."""

    class Fetching:
        def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
            self._connection = connection

        async def fetchrow(self, sql: str) -> Any:
            return await (await self._connection.execute(sql)).fetchone()  # type: ignore[arg-type]

    async def commits() -> list[str]:
        url = world.database.url(world.schema)
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("UPDATE notes SET text = 'awaited' WHERE id = 6")
            await connection.commit()
            token = await async_commit_token(connection)
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            assert not connection.autocommit
            return [token, await async_commit_token(Fetching(connection))]

    for token in asyncio.run(commits()):
        found = reader.get(6, after=token)
        assert found is not None
        assert found.text == "awaited"


def test_sessions_of_sqlalchemy_know_their_commits(world: Any, reader: Reader[Note]) -> None:
    """After each commit the session has the token; not after a rollback."""

    class Own(Session):
        """So that no other test's sessions are listened to."""

    engine = sa.create_engine(world.url(), pool_size=1)
    sessions = sessionmaker(engine, class_=Own)
    told: list[str] = []
    after_commit(sessions, lambda session, token: told.append(token))
    for number in range(20):
        with sessions.begin() as session:
            session.execute(_UPDATE, {"text": f"session {number}"})
        found = reader.get(2, after=last_token(session))
        assert found is not None
        assert found.text == f"session {number}"
    with sessions() as session:
        session.execute(_UPDATE, {"text": "taken back"})
        session.rollback()
        assert last_token(session) == ""
    assert len(set(told)) == 20
    with engine.connect() as connection:
        connection.execute(_UPDATE, {"text": "plain"})
        connection.commit()
        found = reader.get(2, after=commit_token(connection))
        assert found is not None
        assert found.text == "plain"
        assert not connection.in_transaction()
        raw: Any = connection.connection.dbapi_connection
        assert raw.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    engine.dispose()


def test_asynchronous_sessions_of_sqlalchemy_know_their_commits(
    world: Any, reader: Reader[Note]
) -> None:
    """The same of an AsyncSession."""

    class Own(Session):
        """So that no other test's sessions are listened to."""

    async def commits() -> None:
        engine = create_async_engine(world.url(), pool_size=1)
        sessions = async_sessionmaker(engine, sync_session_class=Own)
        after_commit(sessions)
        for number in range(5):
            async with sessions.begin() as session:
                await session.execute(_UPDATE, {"text": f"awaited {number}"})
            found = await asyncio.to_thread(reader.get, 2, after=last_token(session))
            assert found is not None
            assert found.text == f"awaited {number}"
        await engine.dispose()

    asyncio.run(commits())


def test_the_typescript_reader_reads_its_own_writes(world: Any) -> None:
    """The same in Node, by node-postgres, under the same load."""
    with _load(world):
        said = run_node(
            "postgres.test.js",
            REDIS_URL=world.redis_server.url(),
            POSTGRES_URL=world.database.url(world.schema),
        )
    assert "# fail 0" in said


def test_standbys_are_refused_and_promotions_noticed() -> None:
    """A standby has no token; a promoted one's is of another timeline, which is neither taken for
    reached by a checkpoint from before, nor compared with a token from before."""
    try:
        server = start_postgres()
    except ServerUnavailable as problem:
        missing(problem)
    with server, contextlib.ExitStack() as stack:
        try:
            standby = stack.enter_context(start_standby(server))
        except ServerUnavailable as problem:
            missing(problem)
        with server.connect() as connection:
            before = commit_token(connection)
        with standby.connect() as connection:
            with pytest.raises(ReaderError, match="standby"):
                commit_token(connection)
            connection.execute("SELECT pg_promote()")
            after = commit_token(connection)
        assert before.split("|")[1] == after.split("|")[1]
        assert not Position.parse(before).includes(after)
        with pytest.raises(NotComparableError, match="promoted"):
            Position.parse(after).includes(before)
