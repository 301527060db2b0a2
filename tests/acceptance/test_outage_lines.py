"""What an outage writes to the log: one line when it begins, one when it is over."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from tests.acceptance.worlds import HelpdeskWorld
from tests.postgres.world import PostgresWorld
from tests.projector_process import wait_for
from tests.servers import DatabaseServer, PostgresServer, RedisServer
from tests.servers.proxy import TcpProxy

pytestmark = pytest.mark.server


@contextlib.contextmanager
def _between(world: Any, variable: str) -> Iterator[TcpProxy]:
    """Put a proxy before the server that a variable names."""
    url = make_url(world.daemon.environment[variable])
    with contextlib.closing(TcpProxy(str(url.host), int(url.port or 0))) as proxy:
        through = url.set(host=proxy.host, port=proxy.port)
        world.daemon.environment[variable] = through.render_as_string(hide_password=False)
        yield proxy


def _look(world: Any, variable: str, name: str) -> None:
    """Cut the way for some seconds, with a change under way; then look at all lines."""
    with _between(world, variable) as proxy:
        world.daemon.start()
        world.check()
        proxy.cut()
        world.execute("UPDATE tickets SET title = 'meanwhile'")
        down = "redis_up" if name == "Redis" else "database_up"
        wait_for(lambda: f'"{down}": false' in _status(world), world.daemon)
        tries = world.daemon.metric("projector_reconnects_total", peer=_PEERS[name]) or 0.0
        wait_for(
            lambda: (
                (world.daemon.metric("projector_reconnects_total", peer=_PEERS[name]) or 0)
                >= tries + 3
            ),
            world.daemon,
        )
        proxy.heal()
        world.check()
        wait_for(lambda: _lines(world, "info", f"{name} answers again"), world.daemon)
        assert world.daemon.stop() == 0
    loud = [e for e in world.daemon.events() if e["level"] in {"warning", "error"}]
    assert [(e["event"], e["kind"]) for e in loud] == [(f"{name} does not answer", "transient")]
    assert len(_lines(world, "info", f"{name} answers again")) == 1


_PEERS = {"Redis": "redis", "MySQL": "mysql", "PostgreSQL": "postgres"}


def _status(world: Any) -> str:
    return str(world.daemon.http("/status.json")[1].decode())


def _lines(world: Any, level: str, text: str) -> list[dict[str, Any]]:
    return [e for e in world.daemon.events() if (e["level"], e["event"]) == (level, text)]


@pytest.mark.parametrize("name", ["MySQL", "Redis"])
def test_an_outage_beside_mysql(
    database: DatabaseServer, fresh_database: str, fresh_redis: RedisServer, name: str
) -> None:
    """Of the database, and of Redis: its lease cannot be renewed meanwhile."""
    with HelpdeskWorld(database, fresh_database, fresh_redis) as world:
        variable = "PROJECTOR_REDIS__URL" if name == "Redis" else "PROJECTOR_MYSQL__URL"
        _look(world, variable, name)


@pytest.mark.parametrize("name", ["PostgreSQL", "Redis"])
def test_an_outage_beside_postgres(
    postgres_server: PostgresServer, fresh_postgres: str, fresh_redis: RedisServer, name: str
) -> None:
    """The same."""
    with PostgresWorld(postgres_server, fresh_postgres, fresh_redis) as world:
        variable = "PROJECTOR_REDIS__URL" if name == "Redis" else "PROJECTOR_SOURCE__URL"
        _look(world, variable, name)
