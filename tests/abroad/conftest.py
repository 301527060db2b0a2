"""Fixtures of the tests abroad: a world on each of the three servers."""

from collections.abc import Iterator

import pytest

from tests.abroad.world import MakeWorld, worlds_on
from tests.fix_servers import missing
from tests.servers import (
    DatabaseServer,
    Flavour,
    RedisServer,
    ServerUnavailable,
    start_database,
)


@pytest.fixture(params=list(Flavour), ids=str)
def anywhere(request: pytest.FixtureRequest) -> DatabaseServer:
    """The session's MariaDB, MySQL and MariaDB 11 in turn. Restrict it with `on`."""
    server: DatabaseServer = request.getfixturevalue(request.param.value)
    return server


@pytest.fixture(scope="session", params=["mysql", "mysql-files", "mariadb", "mariadb11"])
def private(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """Servers that tests may reset, one of each kind of position; `files`: without GTIDs."""
    flavour, _, how = request.param.partition("-")
    try:
        server = start_database(Flavour(flavour), gtid=how != "files")
    except ServerUnavailable as problem:
        missing(problem)
    with server:
        if server.flavour is Flavour.MYSQL:
            server.execute("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
        yield server


@pytest.fixture
def abroad(anywhere: DatabaseServer, fresh_redis: RedisServer) -> Iterator[MakeWorld]:
    """Make worlds on a session's server: `abroad(ddl, "module:attribute", **settings)`."""
    with worlds_on(anywhere, fresh_redis) as make:
        yield make
