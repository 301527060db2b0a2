"""The servers that tests start are what they say, on every flavour."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pymysql
import pytest
import redis
from redis.sentinel import MasterNotFoundError

from tests.fix_servers import missing
from tests.servers import (
    DatabaseServer,
    Flavour,
    RedisKind,
    RedisServer,
    ServerUnavailable,
    TcpProxy,
    find_database,
    find_redis,
    start_database,
    start_redis,
    start_redis_cluster,
    start_replica,
    start_sentinel,
    wait_for_replica,
)

pytestmark = pytest.mark.server

Server = TypeVar("Server")


@pytest.fixture(scope="module", params=[*Flavour], ids=str)
def private(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A server of each flavour that tests may kill."""
    with _started(lambda: start_database(request.param)) as server:
        server.create_database("helpdesk")
        server.execute("CREATE TABLE helpdesk.notes (id INT PRIMARY KEY)")
        yield server


@pytest.fixture(params=[*RedisKind], ids=str)
def kind(request: pytest.FixtureRequest) -> RedisKind:
    """Each kind of Redis."""
    found: RedisKind = request.param
    return found


def _started(start: Callable[[], Server]) -> Server:
    try:
        return start()
    except ServerUnavailable as problem:
        missing(problem)


def _wait_for(happened: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_server_logs_rows_at_its_own_defaults(private: DatabaseServer) -> None:
    """Binlog on, ROW, full images, and the metadata that the server logs unless told otherwise."""
    version, *found = private.execute(
        "SELECT VERSION(), @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata"
    )[0]
    mysql = private.flavour is Flavour.MYSQL
    assert found == [1, "ROW", "FULL", "MINIMAL" if mysql else "NO_LOG"]
    assert ("MariaDB" in version) is not mysql
    if private.flavour is Flavour.MARIADB_11:
        assert version.startswith(("11.", "12."))


def test_a_new_server_starts_with_an_empty_binlog(private: DatabaseServer) -> None:
    """The first transaction of a new server is the test's own."""
    with start_database(private.flavour) as server:
        name = "gtid_executed" if server.flavour is Flavour.MYSQL else "gtid_binlog_pos"
        assert server.execute(f"SELECT @@global.{name}") == [("",)]
        server.create_database("first")
        gtid = server.execute(f"SELECT @@global.{name}")[0][0]
        assert gtid.endswith((":1", "-1"))
        assert server.execute("SELECT @@server_id") != private.execute("SELECT @@server_id")


def test_options_win(private: DatabaseServer) -> None:
    """An option of the test's replaces the one of ours."""
    with start_database(private.flavour, options=["--sync-binlog=1", "--server-id=77"]) as server:
        assert server.execute("SELECT @@sync_binlog, @@server_id") == [(1, 77)]


def test_kill_keeps_what_was_committed_on_the_same_port(private: DatabaseServer) -> None:
    """After SIGKILL and start the row is there, under the same address."""
    address, first = private.url(), private.pid
    private.execute("INSERT INTO helpdesk.notes VALUES (1)")
    private.kill()
    with pytest.raises(pymysql.err.OperationalError):
        private.connect()
    private.start()
    assert private.execute("SELECT id FROM helpdesk.notes WHERE id = 1") == [(1,)]
    assert private.url() == address
    assert private.pid != first


def test_a_paused_server_answers_after_resume(private: DatabaseServer) -> None:
    """A statement waits for as long as the server is stopped, and no longer."""
    answers: list[object] = []
    with private.connect() as connection, connection.cursor() as cursor:
        private.pause()
        asking = threading.Thread(target=lambda: answers.append(cursor.execute("SELECT 1")))
        asking.start()
        asking.join(0.3)
        assert answers == []
        private.resume()
        asking.join(10)
    assert answers == [1]


def test_scripts_of_many_statements_load(private: DatabaseServer, tmp_path: Path) -> None:
    """A file and a text both run to their last statement; a failing one raises."""
    (tmp_path / "a.sql").write_text("CREATE TABLE a (id INT); INSERT INTO a VALUES (1), (2);")
    private.load_sql(tmp_path / "a.sql", "helpdesk")
    private.load_sql("INSERT INTO a VALUES (3); DELETE FROM a WHERE id = 1", "helpdesk")
    assert private.execute("SELECT id FROM helpdesk.a ORDER BY id") == [(2,), (3,)]
    with pytest.raises(pymysql.err.ProgrammingError):
        private.load_sql("SELECT 1; SELECT * FROM nowhere", "helpdesk")


def test_a_user_of_the_test_reaches_the_server_by_its_url(private: DatabaseServer) -> None:
    """Accounts made in a test log in over TCP; the URL escapes what must be."""
    private.execute("CREATE USER 'reader'@'%%' IDENTIFIED BY %s", "p@ss/word")
    assert "reader:p%40ss%2Fword@127.0.0.1" in private.url(user="reader", password="p@ss/word")
    private.connect(user="reader", password="p@ss/word").close()


def test_a_silent_replica_holds_a_commit_for_the_semi_sync_timeout(private: DatabaseServer) -> None:
    """A replica catches up; while it is paused a commit of the primary waits."""
    with start_database(private.flavour) as primary:
        primary.create_database("helpdesk")
        with start_replica(primary, semi_sync=True, semi_sync_timeout_s=0.7) as replica:
            primary.execute("CREATE TABLE helpdesk.t (id INT PRIMARY KEY)")
            primary.execute("INSERT INTO helpdesk.t VALUES (1)")
            wait_for_replica(primary, replica)
            assert replica.execute("SELECT id FROM helpdesk.t") == [(1,)]
            replica.pause()
            begun = time.monotonic()
            primary.execute("INSERT INTO helpdesk.t VALUES (2)")
            assert time.monotonic() - begun >= 0.7
            replica.resume()


def test_a_database_is_reached_through_the_proxy(private: DatabaseServer) -> None:
    """A cut breaks a standing session, and heal lets the next one in."""
    with TcpProxy(private.host, private.port) as proxy:
        connection = private.connect(port=proxy.port)
        proxy.cut()
        with pytest.raises(pymysql.err.OperationalError):
            connection.ping(reconnect=False)
        proxy.heal()
        private.connect(port=proxy.port).close()


def test_an_address_in_the_environment_is_used_and_left_alone(
    database: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The named server is the one found; it cannot be killed and survives discard."""
    variable = f"PROJECTOR_TEST_{database.flavour.value.upper()}_URL"
    monkeypatch.setenv(variable, database.url(None))
    found = find_database(database.flavour)
    assert found.execute("SELECT @@server_id") == database.execute("SELECT @@server_id")
    with pytest.raises(ServerUnavailable, match="not ours"):
        found.kill()
    found.discard()
    database.connect().close()


def test_a_redis_address_in_the_environment_keeps_its_password(
    fresh_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials of the address go into the URLs handed out."""
    address = f"redis://default:any@{fresh_redis.host}:{fresh_redis.port}"
    monkeypatch.setenv("PROJECTOR_TEST_REDIS_URL", address)
    found = find_redis()
    assert found.url(1) == f"{address}/1"
    found.discard()
    with fresh_redis.client() as client:
        assert client.dbsize() == 0


def test_a_fresh_database_is_empty(database: DatabaseServer, fresh_database: str) -> None:
    """The session's servers give every test a database of its own."""
    with database.connect(fresh_database) as connection, connection.cursor() as cursor:
        assert cursor.execute("SHOW TABLES") == 0
        cursor.execute("CREATE TABLE t (id INT)")


def test_redis_is_of_its_kind(kind: RedisKind) -> None:
    """Redis 7 or later, 8 or later, and Valkey; nothing is saved unless asked for."""
    with _started(lambda: start_redis(kind)) as server, server.client() as client:
        info = client.info("server")
        assert ("valkey_version" in info) is (kind is RedisKind.VALKEY)
        assert int(info["redis_version"].split(".")[0]) >= (8 if kind is RedisKind.REDIS_8 else 7)
        assert client.config_get("save") == {"save": ""}
        assert client.connection_pool.connection_kwargs["db"] == 1


def test_redis_keeps_data_over_a_kill_if_its_options_say_so(kind: RedisKind) -> None:
    """With an append-only file a written key is there after SIGKILL and start."""
    options = ["--appendonly", "yes", "--appendfsync", "always"]
    with _started(lambda: start_redis(kind, options=options)) as server, server.client() as client:
        client.set("kept", "yes")
        server.kill()
        server.start()
        assert client.get("kept") == b"yes"


def test_redis_reads_a_configuration_file(tmp_path: Path) -> None:
    """A redis.conf is read, and the address stays ours."""
    config = tmp_path / "redis.conf"
    config.write_text("maxmemory 50mb\nport 1\n")
    with _started(lambda: start_redis(config=config)) as server, server.client() as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(50 * 2**20)}


def test_a_cluster_spreads_keys_and_finds_them(kind: RedisKind) -> None:
    """Three nodes share the slots; a cluster client reads what it wrote."""
    nodes = _started(lambda: start_redis_cluster(3, kind=kind))
    try:
        with redis.RedisCluster(host=nodes[0].host, port=nodes[0].port) as client:
            for number in range(30):
                client.set(f"key-{number}", number)
            assert client.get("key-7") == b"7"
        sizes = [node.client(db=0).dbsize() for node in nodes]
        assert sum(sizes) == 30
        assert min(sizes) > 0
    finally:
        for node in nodes:
            node.discard()


def test_sentinel_promotes_a_replica_when_the_primary_dies() -> None:
    """Clients that ask Sentinel find the new primary."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(_started(start_redis))
        follow = ["--replicaof", primary.host, str(primary.port)]
        replica = stack.enter_context(start_redis(options=follow))
        watcher = stack.enter_context(start_sentinel({"tickets": primary}, down_after_ms=300))
        _wait_for(lambda: _known_replicas(watcher) == [replica.port])
        primary.kill()
        _wait_for(lambda: _known_primary(watcher) == replica.port)


def _known_replicas(watcher: RedisServer) -> list[int]:
    """The replicas that Sentinel could promote."""
    client: Any
    with watcher.client(db=0) as client:
        found = client.sentinel_slaves("tickets")
        return [each["port"] for each in found if each["master-link-status"] == "ok"]


def _known_primary(watcher: RedisServer) -> int | None:
    """The primary's port; None while a failover is under way."""
    untyped: Any = redis.Sentinel
    sentinel = untyped([(watcher.host, watcher.port)])
    try:
        return int(sentinel.discover_master("tickets")[1])
    except MasterNotFoundError:
        return None
    finally:
        for client in sentinel.sentinels:
            client.close()
