"""The server settings of deploy/: real servers started with them, users of least privilege."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
import redis

from tests.fix_servers import missing
from tests.servers import (
    DatabaseServer,
    Flavour,
    RedisKind,
    RedisServer,
    ServerUnavailable,
    start_database,
)
from tests.servers.process import Process, free_port, new_folder
from tests.servers.programs import Image, find

DEPLOY = Path(__file__).parents[2] / "deploy"
WRITER = "projector:change-me-writer@"
READER = "reader:change-me-reader@"

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=[RedisKind.REDIS, RedisKind.REDIS_8, RedisKind.VALKEY])
def deployed_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server started with redis.conf and users.acl as they are, but for port and folder."""
    try:
        program = find(request.param)
    except ServerUnavailable as problem:
        missing(problem)
    if isinstance(program, Image):
        pytest.skip("redis.conf is tried on a program of this machine, not in Docker")
    folder, port = new_folder("deployed-redis"), free_port()
    users = shutil.copy(DEPLOY / "redis.acl", folder)
    command = [*program.command, str(DEPLOY / "redis.conf"), "--aclfile", str(users)]
    command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    process = Process(command, folder)
    server = RedisServer(request.param, "127.0.0.1", port, WRITER, folder, process)
    server.start()
    yield server
    server.discard()


def test_redis_runs_with_the_settings_as_written(deployed_redis: RedisServer) -> None:
    """The server took the file: its policy, persistence and databases are what the file says."""
    info = deployed_redis.client().info()
    assert info["maxmemory_policy"] == "noeviction"
    assert info["maxmemory"] == 1 << 30
    assert info["aof_enabled"] == 1
    assert deployed_redis.client(db=15).ping()
    with pytest.raises(redis.ResponseError):
        deployed_redis.client(db=16).ping()


def test_documents_survive_a_kill_of_redis(deployed_redis: RedisServer) -> None:
    """What Redis has acknowledged stands in the append-only file, outside its process."""
    deployed_redis.client().hset("tickets", "1", "{}")
    deployed_redis.kill()
    deployed_redis.start()
    assert deployed_redis.client().hget("tickets", "1") == b"{}"
    deployed_redis.client().delete("tickets")


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "other", "1"),
        ("GET", "other"),
        ("HSET", "tickets2", "1", "1"),
        ("FLUSHDB",),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("ACL", "LIST"),
        ("SHUTDOWN", "NOSAVE"),
        ("MONITOR",),
        ("REPLICAOF", "NO", "ONE"),
        ("PUBLISH", "channel", "x"),
        ("EVAL", "return redis.call('SET', 'other', '1')", "0"),
        ("SCRIPT", "FLUSH"),
        ("CLIENT", "KILL", "TYPE", "normal"),
    ],
    ids=" ".join,
)
def test_the_projectors_user_may_do_nothing_else(
    deployed_redis: RedisServer, command: tuple[str, ...]
) -> None:
    """Other keys, other commands, other people's business: refused, in scripts too."""
    with pytest.raises(redis.ResponseError, match=r"(?i)permission|NOPERM|can't access"):
        deployed_redis.client().execute_command(*command)


def test_readers_read_and_cannot_write(deployed_redis: RedisServer) -> None:
    """The user for readers gets documents and checkpoint, and changes nothing."""
    deployed_redis.client().hset("tickets", "2", "{}")
    reader = _client_as(deployed_redis, READER)
    assert reader.hget("tickets", "2") == b"{}"
    assert reader.hgetall("{tickets}:checkpoint") == {}
    assert reader.xrange("{tickets}:changes") == []
    for refused in (
        ("HSET", "tickets", "2", "x"),
        ("HDEL", "tickets", "2"),
        ("DEL", "tickets"),
        ("GET", "{tickets}:lease"),
        ("EVAL", "return 1", "0"),
    ):
        with pytest.raises(redis.ResponseError, match=r"(?i)permission|NOPERM"):
            reader.execute_command(*refused)


def test_nobody_without_a_password_gets_in(deployed_redis: RedisServer) -> None:
    """The default user is off."""
    with pytest.raises(redis.AuthenticationError):
        _client_as(deployed_redis, "").ping()


def test_passwords_may_be_given_as_hashes(deployed_redis: RedisServer) -> None:
    """As the runbook says: the SHA-256 in place of the password, taken by ACL LOAD's format."""
    digest = hashlib.sha256(b"change-me-writer").hexdigest()
    line = (DEPLOY / "redis.acl").read_text().splitlines()[1]
    hashed = line.replace(">change-me-writer", f"#{digest}")
    assert hashed != line
    assert deployed_redis.folder is not None
    users = deployed_redis.folder / "redis.acl"
    before = users.read_text()
    users.write_text(before.replace(line, hashed))
    deployed_redis.restart()  # no user may ACL LOAD here
    assert deployed_redis.client().ping()
    users.write_text(before)
    deployed_redis.restart()


@pytest.fixture(scope="module", params=[Flavour.MYSQL, Flavour.MARIADB], ids=str)
def deployed_database(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A server with the settings of mysql.cnf or mariadb.cnf, and the reference tables."""
    settings = DEPLOY / ("mysql.cnf" if request.param is Flavour.MYSQL else "mariadb.cnf")
    options = [
        f"--{name.strip()}={value.strip()}"
        for name, value in re.findall(r"(?m)^(\w+) = (.*)$", settings.read_text())
    ]
    assert len(options) >= 8
    try:
        server = start_database(request.param, options=options)
    except ServerUnavailable as problem:
        missing(problem)
    with server:
        server.create_database("helpdesk")
        _create_tables(server)
        grants = DEPLOY / f"grants-{request.param}.sql"
        server.load_sql(grants, "helpdesk")
        yield server


def test_the_server_runs_with_the_settings_as_written(deployed_database: DatabaseServer) -> None:
    """Row format, full images with names, logs kept for a week."""
    assert _variable(deployed_database, "log_bin") == "ON"
    assert _variable(deployed_database, "binlog_format") == "ROW"
    assert _variable(deployed_database, "binlog_row_image") == "FULL"
    assert _variable(deployed_database, "binlog_row_metadata") == "FULL"
    assert _variable(deployed_database, "binlog_expire_logs_seconds") == "604800"


def test_the_grants_suffice_for_what_the_daemon_asks(deployed_database: DatabaseServer) -> None:
    """The log's end, the logs, the barrier and the catalog of all tables, as the new user."""
    is_mysql = deployed_database.flavour is Flavour.MYSQL
    with _as_projector(deployed_database) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW BINARY LOG STATUS" if is_mysql else "SHOW BINLOG STATUS")
        assert cursor.fetchone()
        cursor.execute("SHOW BINARY LOGS")
        assert cursor.fetchall()
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        if is_mysql:
            cursor.execute("SELECT WAIT_FOR_EXECUTED_GTID_SET(@@gtid_executed, 1)")
            assert cursor.fetchone() == (0,)
            cursor.execute("SELECT COUNT(*) FROM tickets FOR SHARE")
        else:
            cursor.execute("SHOW STATUS LIKE 'binlog_snapshot_%'")
            assert len(cursor.fetchall()) >= 2
        cursor.execute("COMMIT")
        cursor.execute(
            "SELECT COUNT(DISTINCT table_name) FROM information_schema.columns"
            " WHERE table_schema = 'helpdesk'"
        )
        assert cursor.fetchone() == (12,)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tickets SET title = 'x'",
        "DELETE FROM tags",
        "CREATE TABLE t (id INT)",
        "SELECT * FROM mysql.user",
        "SET GLOBAL binlog_format = 'STATEMENT'",
        "PURGE BINARY LOGS BEFORE NOW()",
        "SELECT * FROM other.secret",
        "CREATE USER x",
    ],
)
def test_the_grants_allow_nothing_else(deployed_database: DatabaseServer, statement: str) -> None:
    """No write, no other database, no administration."""
    deployed_database.load_sql(
        "CREATE DATABASE IF NOT EXISTS other; CREATE TABLE IF NOT EXISTS other.secret (id INT)",
        "helpdesk",
    )
    refused = pytest.raises(pymysql.err.MySQLError, match=r"(?i)denied|privilege")
    with _as_projector(deployed_database) as connection, connection.cursor() as cursor, refused:
        cursor.execute(statement)


def _create_tables(server: DatabaseServer) -> None:
    from sqlalchemy import create_engine

    from schema.tables import metadata

    engine = create_engine(server.url("helpdesk"))
    metadata.create_all(engine)
    engine.dispose()


def _as_projector(server: DatabaseServer) -> "pymysql.Connection[Any]":
    return server.connect("helpdesk", user="projector", password="change-me")


def _client_as(server: RedisServer, credentials: str) -> "redis.Redis":
    return redis.Redis.from_url(f"redis://{credentials}{server.host}:{server.port}/1")


def _variable(server: DatabaseServer, name: str) -> str:
    [(_, value)] = server.execute(f"SHOW GLOBAL VARIABLES LIKE '{name}'")
    return str(value)
