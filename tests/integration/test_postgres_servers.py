"""The PostgreSQL servers that tests start are what they say, on every flavour."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.fix_servers import missing
from tests.servers import (
    PostgresFlavour,
    PostgresServer,
    ServerUnavailable,
    find_postgres,
    start_postgres,
    start_standby,
    wait_for_standby,
)
from tests.servers.role import documented_role

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=[*PostgresFlavour], ids=str)
def private(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server of each flavour that tests may kill."""
    try:
        server = start_postgres(request.param)
    except ServerUnavailable as problem:
        missing(problem)
    with server:
        server.create_database("helpdesk")
        server.execute("CREATE TABLE notes (id int PRIMARY KEY)", database="helpdesk")
        yield server


def notes(server: PostgresServer) -> list[int]:
    rows = server.execute("SELECT id FROM notes ORDER BY id", database="helpdesk")
    return [row[0] for row in rows]


def test_a_server_decodes_its_log(private: PostgresServer) -> None:
    """Logical decoding is on, in the version asked for."""
    said = private.execute(
        "SELECT current_setting('wal_level'), current_setting('server_version_num')::int / 10000"
    )
    assert said[0][0] == "logical"
    assert said[0][1] >= (18 if private.flavour is PostgresFlavour.POSTGRES_18 else 14)


def test_options_win(private: PostgresServer) -> None:
    """An option of the test's replaces the one of ours."""
    with start_postgres(private.flavour, options=["--max-replication-slots=3"]) as server:
        assert server.execute("SHOW max_replication_slots") == [("3",)]


@pytest.mark.parametrize("end", ["kill", "stop_immediately", "stop"])
def test_what_was_committed_is_there_after_each_end(private: PostgresServer, end: str) -> None:
    """The row, the address and the slot survive a kill and both ways to shut down."""
    address, first, before = private.url(), private.pid, len(notes(private))
    private.execute("INSERT INTO notes VALUES (%s)", before, database="helpdesk")
    getattr(private, end)()
    with pytest.raises(psycopg.OperationalError):
        private.connect()
    private.start()
    assert len(notes(private)) == before + 1
    assert private.url() == address
    assert private.pid != first


def test_a_paused_server_answers_after_resume(private: PostgresServer) -> None:
    """Neither a new session nor a standing one gets through while it is paused."""
    with private.connect() as connection:
        private.pause()
        with pytest.raises(psycopg.OperationalError):
            private.connect(connect_timeout=2)
        connection.pgconn.send_query(b"SELECT 1")
        assert connection.pgconn.is_busy()
        private.resume()
        assert connection.pgconn.get_result() is not None
        assert connection.pgconn.get_result() is None


def test_a_standby_follows_and_can_be_promoted(private: PostgresServer) -> None:
    """It has what the primary committed, and writes once it is promoted."""
    with start_standby(private) as standby:
        private.execute("INSERT INTO notes VALUES (100)", database="helpdesk")
        wait_for_standby(private, standby)
        assert 100 in notes(standby)
        assert standby.execute("SELECT pg_is_in_recovery()") == [(True,)]
        standby.execute("SELECT pg_promote()")
        standby.execute("INSERT INTO notes VALUES (101)", database="helpdesk")
        assert 101 in notes(standby)
    assert 101 not in notes(private)


def test_the_documented_role_reads_the_log_of_its_tables(private: PostgresServer) -> None:
    """It may create a slot and read the tables named, and no other."""
    private.create_database("granted")
    private.load_sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int)", "granted")
    url = documented_role(private, "granted", ["a"], full=["a"])
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("SELECT pg_create_logical_replication_slot('granted', 'pgoutput')")
        assert session.execute("SELECT * FROM a").fetchall() == []
        published = session.execute("SELECT pubname, tablename FROM pg_publication_tables")
        assert published.fetchall() == [("projector", "a")]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("SELECT * FROM b")
    private.drop_database("granted")  # its slot goes, too


def test_an_address_in_the_environment_is_used_and_left_alone(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The named server is the one found; it cannot be killed and survives discard."""
    monkeypatch.setenv("PROJECTOR_TEST_POSTGRES_URL", postgres_server.url(""))
    found = find_postgres()
    identifier = "SELECT system_identifier FROM pg_control_system()"
    assert found.execute(identifier) == postgres_server.execute(identifier)
    with pytest.raises(ServerUnavailable, match="not ours"):
        found.kill()
    found.discard()
    postgres_server.connect().close()


def test_a_fresh_database_is_empty(postgres_server: PostgresServer, fresh_postgres: str) -> None:
    """The session's server gives every test a database of its own."""
    count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert postgres_server.execute(count, database=fresh_postgres) == [(0,)]
