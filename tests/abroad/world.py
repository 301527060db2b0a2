"""Somebody else's tables, the daemon that follows them as the documented account, and its hashes.

    world = abroad(DDL, "tests.abroad.test_joins:tickets_with_forms")
    world.start()
    world.execute("UPDATE …")
    world.expect({"1": {"id": 1, …}})

Statements of the test run as root; only the daemon is the documented account. What is expected is
written by hand or asked of the server in SQL that shares nothing with the projection.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tests.projector_process import Projector, await_checkpoint
from tests.servers import DatabaseServer, RedisServer
from tests.servers.account import documented_account

Documents = dict[str, Any]

_QUIET = {"PROJECTOR_RECONCILE__SCRUB_INTERVAL_S": "0"}  # it would mend what a fault broke


class World:
    """One schema on one server. `settings` are the daemon's environment variables."""

    def __init__(
        self,
        database: DatabaseServer,
        schema: str,
        redis_server: RedisServer,
        projections: str,
        *,
        tables: Iterable[str] | None = None,
        grants: Iterable[str] = (),
        **settings: str,
    ) -> None:
        self.database, self.schema = database, schema
        self.names = [_name(setting) for setting in projections.split(",")]
        self.connection = database.connect(schema)
        self.redis = redis_server.client(db=1)
        self.redis_server = redis_server
        self.url = documented_account(database, schema, tables, grants=grants)
        self.daemon = Projector(
            self.url,
            redis_server.url(db=1),
            **{"PROJECTOR_PROJECTION": projections, **_QUIET, **settings},
        )

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as root, one after the other; return the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
        return rows

    def start(self, *options: str) -> None:
        """Start the daemon and wait until everything committed by now is applied."""
        self.daemon.start(*options)
        self.settle()

    def settle(self, timeout_s: float = 60) -> None:
        """Wait until everything committed by now is in every hash, and nothing is owed."""
        for name in self.names:
            await_checkpoint(self.redis, self.connection, self.daemon, name, timeout_s)

    def documents(self, name: str | None = None) -> Documents:
        """Return the parsed documents by id. Fails on what a strict JSON parser refuses."""
        found = self.redis.hgetall(name or self.names[0])
        return {key.decode(): strict_json(value) for key, value in found.items()}

    def quarantined(self, name: str | None = None) -> dict[str, str]:
        """Return the reasons by id of documents that could not be written."""
        found = self.redis.hgetall(f"{{{name or self.names[0]}}}:quarantine")
        return {key.decode(): value.decode() for key, value in found.items()}

    def expect(self, expected: Mapping[str, Any], name: str | None = None) -> None:
        """Wait until all is applied, and compare the whole hash, types and order of lists too."""
        self.settle()
        found = self.documents(name)
        assert _exact(found) == _exact(dict(expected))

    def close(self) -> None:
        """End the daemon and drop the account."""
        self.daemon.__exit__(None, None, None)
        with contextlib.suppress(Exception):
            self.connection.close()
        self.redis.close()
        user = self.url.split("//")[1].split(":")[0]
        with contextlib.suppress(Exception):  # a test may have ended the server
            self.database.execute(f"DROP USER IF EXISTS '{user}'@'%'")


def strict_json(text: bytes) -> Any:
    """Parse JSON as RFC 8259 has it: UTF-8, no NaN, no member twice."""
    return json.loads(text.decode(), parse_constant=_refuse, object_pairs_hook=_members)


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    assert len(members) == len(pairs), f"a member stands twice: {pairs}"
    return members


def _exact(documents: Documents) -> dict[str, str]:
    """`True` is not 1, and 1.0 is not 1: compare as text."""
    return {key: json.dumps(value, sort_keys=True) for key, value in documents.items()}


MakeWorld = Callable[..., World]


@contextlib.contextmanager
def worlds_on(
    server: DatabaseServer, redis_server: RedisServer, **usual: Any
) -> Iterator[MakeWorld]:
    """Make worlds on a server, each in a schema of its own: `make(ddl, projections, **settings)`,
    where not said otherwise with the `usual` settings. All are closed and dropped in the end."""
    with contextlib.ExitStack() as stack:

        def make(ddl: str, projections: str, **settings: Any) -> World:
            schema = f"abroad_{uuid.uuid4().hex[:10]}"
            server.create_database(schema)
            stack.callback(server.drop_database, schema)
            server.load_sql(ddl, schema)
            world = World(server, schema, redis_server, projections, **{**usual, **settings})
            stack.callback(world.close)
            return world

        yield make


def _name(setting: str) -> str:
    module, _, attribute = setting.strip().partition(":")
    name: str = getattr(importlib.import_module(module), attribute).name
    return name
