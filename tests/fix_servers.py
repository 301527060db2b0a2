"""Fixtures that give tests their servers: one of each a session, an empty database for each test.

Never stop, kill or pause a session's server: start a private one with `start_database` or
`start_redis`.
"""

import os
import uuid
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.servers import (
    DatabaseServer,
    Flavour,
    PostgresFlavour,
    PostgresServer,
    RedisServer,
    ServerUnavailable,
    find_database,
    find_postgres,
    find_redis,
)
from tests.servers.role import role_of


def missing(problem: ServerUnavailable) -> NoReturn:
    """Skip for want of a server; in CI, fail."""
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(str(problem), pytrace=False)
    pytest.skip(str(problem))


@pytest.fixture(scope="session")
def mariadb() -> Iterator[DatabaseServer]:
    """MariaDB of the machine's release."""
    yield from _session_database(Flavour.MARIADB)


@pytest.fixture(scope="session")
def mysql() -> Iterator[DatabaseServer]:
    """MySQL."""
    yield from _session_database(Flavour.MYSQL)


@pytest.fixture(scope="session")
def mariadb11() -> Iterator[DatabaseServer]:
    """MariaDB 11.8 or later."""
    yield from _session_database(Flavour.MARIADB_11)


@pytest.fixture(params=[Flavour.MARIADB, Flavour.MYSQL], ids=str)
def database(request: pytest.FixtureRequest) -> DatabaseServer:
    """The session's MariaDB, then its MySQL; `fresh_database` names an empty database on it."""
    server: DatabaseServer = request.getfixturevalue(request.param.value)
    return server


@pytest.fixture
def fresh_database(database: DatabaseServer) -> Iterator[str]:
    """The name of an empty database on the `database` server, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    database.create_database(name)
    yield name
    database.drop_database(name)


@pytest.fixture(scope="session")
def postgres15_server() -> Iterator[PostgresServer]:
    """PostgreSQL of the machine's release."""
    yield from _session_postgres(PostgresFlavour.POSTGRES)


@pytest.fixture(scope="session")
def postgres18_server() -> Iterator[PostgresServer]:
    """PostgreSQL 18 or later."""
    yield from _session_postgres(PostgresFlavour.POSTGRES_18)


@pytest.fixture(params=["postgres15_server", "postgres18_server"], ids=["15", "18"])
def postgres_server(request: pytest.FixtureRequest) -> PostgresServer:
    """The session's PostgreSQL of the machine's release, then its newest."""
    server: PostgresServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def fresh_postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of an empty database on `postgres_server`, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres_server.create_database(name)
    yield name
    postgres_server.drop_database(name)
    postgres_server.execute(f"DROP ROLE IF EXISTS {role_of(name)}")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Redis."""
    try:
        server = find_redis()
    except ServerUnavailable as problem:
        missing(problem)
    yield server
    server.discard()


@pytest.fixture
def fresh_redis(redis_server: RedisServer) -> RedisServer:
    """The session's Redis with an empty database 1, the default of the projector."""
    with redis_server.client(db=1) as client:
        client.flushdb()
    return redis_server


def _session_database(flavour: Flavour) -> Iterator[DatabaseServer]:
    try:
        server = find_database(flavour)
    except ServerUnavailable as problem:
        missing(problem)
    yield server
    server.discard()


def _session_postgres(flavour: PostgresFlavour) -> Iterator[PostgresServer]:
    try:
        server = find_postgres(flavour)
    except ServerUnavailable as problem:
        missing(problem)
    yield server
    server.discard()
