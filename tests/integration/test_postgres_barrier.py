"""What is read on PostgreSQL is never older than the change that asked for it."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from projector.commands import check_postgres
from projector.databases import Source
from projector.errors import (
    OperatorError,
    RefusedError,
    TooMuchError,
    TransientError,
    ValueRefusedError,
)
from projector.model import Need
from projector.ports import Patience
from projector.postgres.connection import connect
from projector.postgres.log import PostgresLog
from projector.postgres.position import Position
from projector.postgres.reader import PostgresDatabase
from projector.postgres.slot import synchronous_error
from projector.settings import Settings
from tests.fix_servers import missing
from tests.integration.postgres_reading import DEADLINE_S, Tables, made, net, reading, watch
from tests.servers import ServerUnavailable
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.standby import start_standby

pytestmark = pytest.mark.server

T = "CREATE TABLE t (id int PRIMARY KEY, a int)"
NOWHERE = Position("", 1, 0)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server whose settings a test may change."""
    try:
        server = start_postgres()
    except ServerUnavailable as problem:
        missing(problem)
    yield server
    server.discard()


@pytest.fixture
def tables(own_server: PostgresServer) -> Iterator[Tables]:
    """A database with one table `t`."""
    name = f"barrier_{time.monotonic_ns()}"
    own_server.create_database(name)
    yield made(own_server, name, T, "INSERT INTO t VALUES (1, 0)")
    own_server.drop_database(name)


@contextlib.contextmanager
def synchronous(tables: Tables, name: str = "ghost") -> Iterator[None]:
    """Let commits wait for a standby that there is not."""
    tables.run(f"ALTER SYSTEM SET synchronous_standby_names = {name}", "SELECT pg_reload_conf()")
    _until(lambda: tables.ask("SHOW synchronous_standby_names") == [(name,)])
    try:
        yield
    finally:
        tables.run("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        _until(lambda: tables.ask("SHOW synchronous_standby_names") == [("",)])


def _until(condition: object) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def hanging_commit(tables: Tables, statement: str) -> Iterator[int]:
    """A commit that waits for the standby until the block ends; the process of its session."""
    connection = tables.server.connect(tables.database)
    [pid] = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    thread = threading.Thread(target=lambda: connection.execute(statement.encode()))
    thread.start()
    _until(
        lambda: tables.ask(
            f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'SyncRep'"
        )
    )
    try:
        yield pid
    finally:
        tables.ask(f"SELECT pg_cancel_backend({pid})")
        thread.join()
        connection.close()


def test_a_read_waits_for_a_commit_that_is_streamed_and_not_shown(tables: Tables) -> None:
    """While a commit waits for a synchronous standby, others read what was before it; who goes on
    from a position knows of it, too."""
    with reading(tables) as log, synchronous(tables):
        with hanging_commit(tables, "UPDATE t SET a = 1"):
            log.read_until(lambda log: bool(log.changes))
            place = Position.parse(str(log.position))
            assert len(place.unseen) == 1
            tables.ask("SELECT pg_current_xact_id()")  # a later one ends before it
            assert tables.rows("SELECT a FROM t", NOWHERE) == [(b"0",)]
            seen: list[list[tuple[bytes | None, ...]]] = []
            reader = threading.Thread(
                target=lambda: seen.append(tables.rows("SELECT a FROM t", place))
            )
            reader.start()
            reader.join(0.5)
            assert reader.is_alive()
            log.source.close()
            log.source.start(place, [watch()])
            log.parts.clear()
            log.read_until(lambda log: bool(log.parts))
            assert log.position.unseen == place.unseen
        reader.join(DEADLINE_S)
        assert seen == [[(b"1",)]]
        log.read_until(lambda log: not log.position.unseen)


def test_a_wait_is_told_and_ends_with_the_patience(tables: Tables) -> None:
    """Whoever waits for long says what for, and that it is over."""
    told: list[str | None] = []
    is_over = threading.Event()
    patience = Patience(is_over.is_set, on_wait=told.append)
    never = replace(PostgresLog(tables.address()).current(), unseen=frozenset({1 << 40}))
    reader = PostgresDatabase(tables.address().open).readers(never, {}, patience)()
    threading.Timer(2.5, is_over.set).start()
    with pytest.raises(TransientError, match="stopped while waiting"):
        reader.rows(["SELECT a FROM t"], Need(never))
    reader.close()
    assert len(told) == 2
    assert told[0]
    assert told[1] is None


def test_a_slot_begins_once_everything_before_it_is_shown(tables: Tables) -> None:
    """A commit that waits while the slot is made is never streamed: its rows must be visible to
    plain snapshots before a build begins."""
    source = PostgresLog(tables.address())
    begun: list[Position] = []
    making = threading.Thread(target=lambda: begun.append(source.begin()))
    with synchronous(tables), _writing(tables) as second, _writing(tables) as first:
        first.begin()
        making.start()
        _until(lambda: _awaits(tables, first.xid))
        second.begin()  # after the first phase of the slot's making
        first.end()
        _until(lambda: _awaits(tables, second.xid))
        with hanging_commit(tables, "UPDATE t SET a = 1"):  # within its second phase
            second.end()
            slot = tables.address().slot
            where = f"slot_name = '{slot}' AND confirmed_flush_lsn IS NOT NULL"
            _until(lambda: tables.ask(f"SELECT 1 FROM pg_replication_slots WHERE {where}"))
            making.join(0.5)
            assert making.is_alive()
            assert tables.ask("SELECT a FROM t") == [(0,)]
        making.join(DEADLINE_S)
    [start] = begun
    with reading(tables, start=start) as log:
        log.read_to_end()
    assert net(log.changes) == []  # else this test shows nothing
    assert tables.rows("SELECT a FROM t", start) == [(b"1",)]


class _Writing:
    """A transaction that has an id and does nothing."""

    def __init__(self, tables: Tables) -> None:
        self._connection = tables.server.connect(tables.database)
        self.xid = ""

    def begin(self) -> None:
        self._connection.execute("BEGIN")
        [self.xid] = self._connection.execute("SELECT pg_current_xact_id()::text").fetchone() or ()

    def end(self) -> None:
        self._connection.execute("ROLLBACK")


@contextlib.contextmanager
def _writing(tables: Tables) -> Iterator[_Writing]:
    one = _Writing(tables)
    try:
        yield one
    finally:
        one._connection.close()


def _awaits(tables: Tables, xid: str) -> bool:
    return bool(
        tables.ask(f"SELECT 1 FROM pg_locks WHERE NOT granted AND transactionid::text = '{xid}'")
    )


def test_the_end_of_the_log_holds_what_is_seen_and_not_flushed(tables: Tables) -> None:
    """With synchronous_commit=off others see a commit before it is on disk."""
    source = PostgresLog(tables.address())
    for number in range(20):
        tables.run("SET synchronous_commit = off", f"INSERT INTO t VALUES ({100 + number})")
        [[written]] = tables.ask("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        assert source.current().lsn >= written - 40


def test_reads_on_a_standby_wait_until_it_has_come_so_far(tables: Tables) -> None:
    """Its snapshots list no running transactions: what counts is how far it has replayed."""
    standby = start_standby(tables.server)
    try:
        there = Tables(standby, tables.database, "")
        there.url = tables.url.replace(f":{tables.server.port}/", f":{standby.port}/")
        with reading(tables) as log:
            standby.execute("SELECT pg_wal_replay_pause()")
            tables.run("UPDATE t SET a = 5")
            log.read_until(lambda log: bool(log.changes))
        threading.Timer(0.5, standby.execute, ["SELECT pg_wal_replay_resume()"]).start()
        started = time.monotonic()
        assert there.rows("SELECT a FROM t", log.position) == [(b"5",)]
        assert time.monotonic() - started > 0.3
    finally:
        standby.discard()


def test_refusals_say_what_must_be_done(tables: Tables) -> None:
    """A value's, a query's, too much; afterwards the reader goes on."""
    reader = tables.readers()()
    need = Need(NOWHERE)
    with pytest.raises(ValueRefusedError) as refused:
        reader.rows(["SELECT 1 / a FROM t"], need)
    assert "22012" in str(refused.value)
    with pytest.raises(ValueRefusedError) as refused:
        reader.rows(["SELECT ('secret' || a)::int FROM t"], need)
    assert "secret" not in str(refused.value)
    for query in ("SELECT x FROM t", "SELECT * FROM nothing", "SELECT FROM WHERE"):
        with pytest.raises(RefusedError):
            reader.rows([query], need)
    with pytest.raises(TooMuchError):
        reader.rows(["SELECT repeat('x', 1000) FROM generate_series(1, 1000)"], need, 100_000)
    found = reader.rows(["SELECT a FROM t", "SELECT 2 AS b"], need)
    assert list(map(list, found)) == [[(b"0",)], [(b"2",)]]
    where = f"usename = 'p_{tables.database}'"
    tables.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {where}")
    assert list(map(list, reader.rows(["SELECT a FROM t"], need))) == [[(b"0",)]]
    reader.close()
    database = PostgresDatabase(tables.address().open)
    assert database.count("SELECT count(*) FROM t") == 1
    assert database.count("SELECT count(*) FROM nothing") == 0


def test_a_server_of_another_cluster_is_refused(
    tables: Tables, postgres18_server: PostgresServer
) -> None:
    """Its places and ids say nothing of ours: it would show rows at once, and wrong ones."""
    place = PostgresLog(tables.address()).current()
    stranger = PostgresDatabase(lambda: connect(postgres18_server.url("postgres")))
    reader = stranger.readers(place, {}, Patience(5.0))()
    with pytest.raises(RefusedError, match="another cluster"):
        reader.rows(["SELECT 1"], Need(replace(place, lsn=0)))


@pytest.mark.parametrize(
    ("names", "is_taken"),
    [("", False), ("*", True), ("ghost", False), ("ANY 1 (ghost, Projector)", True),
     ('FIRST 1 ("projector", b)', True), ("projector2", False)],
)  # fmt: skip
def test_a_reader_that_commits_would_wait_for_is_refused(names: str, is_taken: bool) -> None:
    """We confirm late: each commit would hang for a minute."""
    assert (synchronous_error(names) is not None) == is_taken


def test_check_says_that_commits_would_wait(tables: Tables) -> None:
    """As a start does."""
    source = Source(url=tables.url, slot=f"s_{tables.database}")
    with synchronous(tables, "projector"):
        checks = check_postgres.required(
            Settings(source=source, projection="a:b"), [], [], lambda: None
        )
        with pytest.raises(OperatorError, match="synchronous"), reading(tables):
            pass
    [found] = [c for c in checks if c.name == "postgres.synchronous_standby_names"]
    assert found.status == "failed"
