"""Both readers behind a real daemon, on each database: a writer reads its own write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis.asyncio
import sqlalchemy as sa
from projector_reader import AsyncReader, Change, Reader, async_commit_token, commit_token
from projector_reader.sqlalchemy import after_commit, last_token
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from tests.abroad.world import World
from tests.fix_servers import missing
from tests.projector_process import wait_for
from tests.readers.node import run_node
from tests.readers.world import DDL, PROJECTIONS
from tests.servers import (
    DatabaseServer,
    Flavour,
    RedisServer,
    ServerUnavailable,
    start_database,
    start_redis,
)

pytestmark = pytest.mark.server

RATE = 300  # changes a second
THINGS = "odd things|%: ü"


class Note(BaseModel):
    id: int
    text: str | None
    label: str | None


def _followed(database: DatabaseServer, redis_server: RedisServer) -> Iterator[World]:
    schema = f"readers_{uuid.uuid4().hex[:10]}"
    database.create_database(schema)
    database.load_sql(DDL, schema)
    with redis_server.client(db=1) as client:
        client.flushdb()
    settings = {
        "PROJECTOR_CHANGE_FEED_MAX_LENGTH": "100000",
        "PROJECTOR_FANOUT_MAX_DOCUMENTS": "10",
    }
    world = World(database, schema, redis_server, PROJECTIONS, **settings)
    try:
        world.start()
        yield world
    finally:
        world.close()
        database.drop_database(schema)


@pytest.fixture(scope="module", params=list(Flavour), ids=str)
def world(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[World]:
    """The daemon on the session's MariaDB, MySQL and MariaDB 11 in turn."""
    yield from _followed(request.getfixturevalue(request.param.value), redis_server)


busy = pytest.mark.parametrize(
    "world", [Flavour.MARIADB, Flavour.MYSQL], ids=str, indirect=True, scope="module"
)


@pytest.fixture
def reader(world: World) -> Iterator[Reader[Note]]:
    with world.redis_server.client() as client:
        yield Reader(client, "notes", Note)


def commit(connection: Any, sql: str, *values: Any) -> str:
    """Commit a statement; return its token."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
    connection.commit()
    return commit_token(connection)


def test_a_write_is_there_after_its_wait(world: World, reader: Reader[Note]) -> None:
    """Inserted, updated, deleted: the read after the wait finds it so, a hundred times."""
    with world.database.connect(world.schema, autocommit=False) as connection:
        for number in range(100):
            token = commit(connection, "INSERT INTO notes VALUES (1001, 1, %s)", str(number))
            found = reader.get(1001, after=token)
            assert found is not None
            assert found.text == str(number)
            token = commit(connection, "DELETE FROM notes WHERE id = 1001")
            assert reader.get_many([1001], after=token) == {}


def test_a_session_that_wrote_nothing_waits_for_nothing(world: World, reader: Reader[Note]) -> None:
    """The token of a connection without a commit is one that is there already."""
    with world.database.connect(world.schema) as connection:
        reader.wait(commit_token(connection), 2)


def test_wide_changes_are_waited_for_while_they_are_owed(
    world: World, reader: Reader[Note]
) -> None:
    """A renamed label is worked off behind the checkpoint; after the wait every note has it."""
    with world.database.connect(world.schema) as connection:
        for name in ("new", "newer", "newest"):
            token = commit(connection, "UPDATE labels SET name = %s WHERE id = 1", name)
            reader.wait(token, 20)
            assert {note.label for _, note in reader.scan()} == {name}


def test_binary_keys_under_an_odd_name(world: World) -> None:
    """A composite key with bytes is found by its columns' values, under any projection's name."""
    key = (b"\x00:%\xff" + bytes(12), "a:b%")
    with world.redis_server.client() as client:
        things: Reader[dict[str, Any]] = Reader(client, THINGS, json.loads)
        with world.database.connect(world.schema) as connection:
            token = commit(connection, "REPLACE INTO things VALUES (%s, %s, 7)", *key)
            assert things.get(key, after=token, timeout_s=5) == {"kind": "a:b%", "v": 7}
        assert things.get(next(things.changes("0")).written[0]) == {"kind": "a:b%", "v": 7}


def test_changes_tell_of_every_write(world: World, reader: Reader[Note]) -> None:
    """Each id comes once the document is there; what was deleted comes as removed."""
    changes = reader.changes(heartbeat_s=0.5)
    assert not next(changes)
    with world.database.connect(world.schema) as connection:
        commit(connection, "REPLACE INTO notes VALUES (18446744073709551615, 1, 'last')")
        found = _next(changes)
        assert found.written == ("18446744073709551615",)
        last = reader.get(2**64 - 1)
        assert last is not None
        assert last.text == "last"
        commit(connection, "DELETE FROM notes WHERE id = 18446744073709551615")
        assert _next(changes).removed == ("18446744073709551615",)


def _next(changes: Iterator[Change]) -> Change:
    return next(change for change in changes if change)


def test_health_follows_the_daemon(world: World, reader: Reader[Note]) -> None:
    """Fresh while the daemon runs; not once it has ended; the documents stay readable."""
    wait_for(lambda: reader.health().is_fresh(), world.daemon)
    checkpoint = reader.health().checkpoint
    assert checkpoint is not None
    age_s = checkpoint.age_s()
    assert age_s is not None
    assert age_s < 3600
    world.daemon.stop()
    assert reader.health().is_led is False
    assert not reader.health().is_fresh()
    assert reader.get(1) is not None
    world.start()
    wait_for(lambda: reader.health().is_fresh(), world.daemon)


def test_sessions_of_sqlalchemy_know_their_commits(world: World, reader: Reader[Note]) -> None:
    """After each commit the session has the token, whatever became of its connection; not after a
    savepoint or a rollback, and never in the way of the commit itself."""
    engine = sa.create_engine(world.database.url(world.schema), pool_size=1)
    sessions = sessionmaker(engine)
    told: list[str] = []
    after_commit(sessions, lambda session, token: told.append(token))
    for number in range(20):
        with sessions.begin() as session:
            _write(session, number)
            with session.begin_nested():
                _write(session, number)
        found = reader.get(2, after=last_token(session))
        assert found is not None
        assert found.text == f"session {number}"
    assert len(told) == 20
    with sessions() as session:
        _write(session, 99)
        session.rollback()
        assert last_token(session) == ""
        session.commit()
        assert last_token(session) == ""
    with engine.connect() as connection, connection.begin():
        with sessions(bind=connection) as session:
            _write(session, 100)
            session.commit()  # not the transaction's own
        assert last_token(session) == ""
    assert len(told) == 20
    with engine.connect() as connection:
        connection.execute(sa.text("UPDATE notes SET text = 'plain' WHERE id = 2"))
        connection.commit()
        found = reader.get(2, after=commit_token(connection))
        assert found is not None
        assert found.text == "plain"
        assert not connection.in_transaction()
    with sessions() as session, pytest.raises(TypeError, match="after_commit"):
        commit_token(session)
    engine.dispose()


def test_asynchronous_sessions_of_sqlalchemy_know_their_commits(
    world: World, reader: Reader[Note]
) -> None:
    """The same of an AsyncSession, over a driver that is awaited: the token is asked for on the
    connection that committed, and belongs to that commit."""

    class Own(Session):
        """So that no other test's sessions are listened to."""

    told: list[str] = []

    async def commits() -> list[str]:
        url = world.database.url(world.schema).replace("+pymysql", "+aiomysql")
        engine = create_async_engine(url, pool_size=1)
        sessions = async_sessionmaker(engine, sync_session_class=Own)
        after_commit(sessions, lambda session, token: told.append(token))
        tokens = []
        for number in range(5):
            async with sessions.begin() as session:
                await session.execute(_UPDATE, {"text": f"awaited {number}"})
                async with session.begin_nested():
                    await session.execute(_UPDATE, {"text": f"awaited {number}!"})
            tokens.append(last_token(session))
            found = await asyncio.to_thread(reader.get, 2, after=tokens[-1])
            assert found is not None
            assert found.text == f"awaited {number}!"
        async with sessions() as session:
            await session.execute(_UPDATE, {"text": "taken back"})
            await session.rollback()
            assert last_token(session) == ""
        await engine.dispose()
        return tokens

    assert asyncio.run(commits()) == told
    assert len(set(told)) == 5


_UPDATE = sa.text("UPDATE notes SET text = :text WHERE id = 2")


def _write(session: Session, number: int) -> None:
    session.execute(
        sa.text("UPDATE notes SET text = :text WHERE id = 2"), {"text": f"session {number}"}
    )


@busy
def test_own_writes_are_read_under_load(
    world: World, reader: Reader[Note], capsys: pytest.CaptureFixture[str]
) -> None:
    """With 300 changes a second beside it, every write is there after its wait; blocking and
    asynchronous; how long that took is printed."""
    with _load(world) as rate, world.database.connect(world.schema) as connection:

        def write(number: int) -> str:
            return commit(connection, "UPDATE notes SET text = %s WHERE id = 3", str(number))

        blocking = _measured(write, lambda token: reader.get(3, after=token, timeout_s=10), 150)
        latencies = asyncio.run(_measured_async(world, write, 150))
    with capsys.disabled():
        for kind, found in (("blocking", blocking), ("async", latencies)):
            cuts = statistics.quantiles(found, n=100)
            print(
                f"\n{world.database.flavour} {kind}: own write readable after"
                f" p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms at {rate():.0f} changes/s",
                end="",
            )
    assert rate() > RATE / 4  # a machine that others use, too


def _measured(
    write: Callable[[int], str], read: Callable[[str], Note | None], times: int
) -> list[float]:
    """Return how many milliseconds each read waited for its write."""
    found = []
    for number in range(times):
        token = write(number)
        began = time.perf_counter()
        note = read(token)
        found.append(1000 * (time.perf_counter() - began))
        assert note is not None
        assert note.text == str(number)
    return found


async def _measured_async(world: World, write: Callable[[int], str], times: int) -> list[float]:
    client = redis.asyncio.Redis.from_url(world.redis_server.url(), decode_responses=True)
    reader = AsyncReader(client, "notes", Note)
    found = []
    for number in range(times):
        token = await asyncio.to_thread(write, number)
        began = time.perf_counter()
        note = await reader.get(3, after=token, timeout_s=10)
        found.append(1000 * (time.perf_counter() - began))
        assert note is not None
        assert note.text == str(number)
    await client.aclose()
    return found


@contextlib.contextmanager
def _load(world: World) -> Iterator[Callable[[], float]]:
    """Change notes 300 times a second beside the test; gives the rate that was reached."""
    stop = threading.Event()
    began = time.monotonic()
    done = [0, 0]

    def change(worker: int) -> None:
        with world.database.connect(world.schema) as connection, connection.cursor() as cursor:
            while not stop.is_set():
                note = 100 + 2 * (done[worker] % 100) + worker
                cursor.execute("UPDATE notes SET text = %s WHERE id = %s", (done[worker], note))
                done[worker] += 1
                due = began + done[worker] * len(done) / RATE
                stop.wait(max(0.0, due - time.monotonic()))

    workers = [threading.Thread(target=change, args=(n,)) for n in range(len(done))]
    for worker in workers:
        worker.start()
    ended: list[float] = []
    try:
        yield lambda: sum(done) / ((ended or [time.monotonic()])[0] - began)
    finally:
        ended.append(time.monotonic())
        stop.set()
        for worker in workers:
            worker.join()


@busy
def test_the_typescript_reader_reads_its_own_writes(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same in Node: tokens of mysql2, MySQL's OWN_GTID included, under the same load."""
    with _load(world) as rate:
        said = run_node(
            "live.test.js",
            REDIS_URL=world.redis_server.url(),
            MYSQL_HOST=world.database.host,
            MYSQL_PORT=str(world.database.port),
            MYSQL_USER=world.database.user,
            MYSQL_PASSWORD=world.database.password,
            MYSQL_DATABASE=world.schema,
            FLAVOUR=world.database.flavour.value,
        )
    with capsys.disabled():
        for line in said.splitlines():
            if "own write readable" in line:
                flavour = world.database.flavour
                print(f"\n{flavour} {line.lstrip('# ')} at {rate():.0f} changes/s", end="")


def test_asynchronous_drivers_have_tokens(world: World, reader: Reader[Note]) -> None:
    """A driver whose cursor is awaited, in either of its forms, is asked the same question."""

    class Cursor:
        def __init__(self, cursor: Any) -> None:
            self._cursor = cursor

        async def execute(self, sql: str) -> None:
            self._cursor.execute(sql)

        async def fetchone(self) -> Any:
            return self._cursor.fetchone()

        async def close(self) -> None:
            self._cursor.close()

    class Connection:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        async def cursor(self) -> Cursor:
            return Cursor(self._connection.cursor())

    with world.database.connect(world.schema) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE notes SET text = 'awaited' WHERE id = 4")
        token = asyncio.run(async_commit_token(Connection(connection)))
        found = reader.get(4, after=token)
        assert found is not None
        assert found.text == "awaited"


def test_mysql_without_gtids() -> None:
    """File and offset are the token there; DictCursor or not."""
    import pymysql.cursors

    try:
        off = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]  # on by default since MySQL 9
        server, store = start_database(Flavour.MYSQL, gtid=False, options=off), start_redis()
    except ServerUnavailable as problem:
        missing(problem)
    with server, store, contextlib.contextmanager(_followed)(server, store) as world:
        kinds = (pymysql.cursors.Cursor, pymysql.cursors.DictCursor)
        with store.client() as client:
            reader = Reader(client, "notes", Note)
            for number in range(20):
                cursors = kinds[number % 2]
                with server.connect(world.schema, cursorclass=cursors) as connection:
                    token = commit(
                        connection, "UPDATE notes SET text = %s WHERE id = 3", str(number)
                    )
                    assert token.startswith("mysql|")
                    found = reader.get(3, after=token)
                    assert found is not None
                    assert found.text == str(number)
                    server.execute("FLUSH BINARY LOGS")
