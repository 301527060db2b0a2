"""The barrier of owed work: a walk sees the change that it is owed for, however long that takes.

Under semi-sync AFTER_SYNC without an acknowledgement a commit stands in the log long before other
connections can see it. A statement has no rows in the log, so nothing but a walk can find them.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from projector.projection import Projection
from tests.abroad.test_positions import prepared
from tests.abroad.world import World
from tests.projector_process import wait_for
from tests.servers import DatabaseServer, Flavour, RedisServer

pytestmark = pytest.mark.server

ACK_TIMEOUT_S = 1.5
_root = sa.Table(
    "root",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("v", sa.String(20)),
)
roots = Projection("roots", root=_root, fields=[_root.c.id, _root.c.v])
ROOTS = f"{__name__}:roots"
DDL = (
    "CREATE TABLE root (id INT PRIMARY KEY, v VARCHAR(20));"
    "INSERT INTO root (id, v) VALUES (1, 'a'), (2, 'b');"
    "CREATE TABLE other (id INT PRIMARY KEY)"
)
UPDATED = {"1": {"id": 1, "v": "new"}, "2": {"id": 2, "v": "new"}}
UPDATE = "UPDATE root SET v = 'new'"
STATEMENT = "SET SESSION binlog_format = 'STATEMENT'"


@pytest.fixture
def world(private: DatabaseServer, fresh_redis: RedisServer) -> Iterator[World]:
    """A table of two rows."""
    schema = f"owed_{uuid.uuid4().hex[:10]}"
    private.create_database(schema)
    private.load_sql(DDL, schema)
    found = World(private, schema, fresh_redis, ROOTS, PROJECTOR_MYSQL__HEARTBEAT_S="0.3")
    yield found
    found.close()
    private.drop_database(schema)


@contextlib.contextmanager
def unseen(world: World, *statements: str, timeout_s: float = ACK_TIMEOUT_S) -> Iterator[None]:
    """Commit statements that stand in the log and are not to be seen before the time is up."""
    name, none = "rpl_semi_sync_master", "slave"
    if world.database.flavour is Flavour.MYSQL:
        name, none = "rpl_semi_sync_source", "replica"
    settings = {
        "enabled = 0": "",
        f"timeout = {round(timeout_s * 1000)}": "",
        "wait_point = 'AFTER_SYNC'": "",
        f"wait_no_{none} = 1": "",
        "enabled = 1": "",
    }
    for setting in settings:
        world.database.execute(f"SET GLOBAL {name}_{setting}")

    def commit() -> None:
        with world.database.connect(world.schema) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    before = _log_end(world.database)
    writer = threading.Thread(target=commit)
    writer.start()
    try:
        wait_for(lambda: _log_end(world.database) != before)
        yield
    finally:
        writer.join()
        world.database.execute(f"SET GLOBAL {name}_enabled = 0")


def _log_end(server: DatabaseServer) -> tuple[Any, ...]:
    mysql = server.flavour is Flavour.MYSQL
    return server.execute("SHOW BINARY LOG STATUS" if mysql else "SHOW MASTER STATUS")[0][:2]


@pytest.mark.parametrize("log_bytes", [1 << 30, 4096])
def test_a_walk_waits_for_the_statement_that_it_is_owed_for(world: World, log_bytes: int) -> None:
    """The statement fills its log file, too, where files are small."""
    world.start()
    world.database.execute(f"SET GLOBAL max_binlog_size = {log_bytes}")
    try:
        with unseen(world, STATEMENT, f"/* {'x' * 5000} */ {UPDATE}"):
            pass
        world.expect(UPDATED)
    finally:
        world.database.execute(f"SET GLOBAL max_binlog_size = {1 << 30}")


def test_it_waits_while_a_prepared_transaction_holds_the_position_back(world: World) -> None:
    """The place to restart from lies before the statement; the debt's own barrier does not."""
    world.start()
    with prepared(world.database, world.schema, "h1"):
        world.execute("UPDATE root SET v = 'between' WHERE id = 1")
        wait_for(lambda: world.documents()["1"]["v"] == "between", world.daemon)
        with unseen(world, STATEMENT, UPDATE):
            wait_for(lambda: b"all" in world.redis.hkeys("{roots}:debts"), world.daemon)
        wait_for(lambda: not world.redis.hkeys("{roots}:debts"), world.daemon)
        assert world.documents() == UPDATED


def test_it_waits_after_a_restart(world: World) -> None:
    """The debt says itself what must be seen: nobody has met the statement since."""
    world.start()
    with (
        prepared(world.database, world.schema, "r1"),
        unseen(world, STATEMENT, UPDATE, timeout_s=6),
    ):
        wait_for(lambda: b"all" in world.redis.hkeys("{roots}:debts"), world.daemon)
        world.daemon.kill()
        world.redis.delete("{roots}:lease")
        world.daemon.start()
    wait_for(lambda: not world.redis.hkeys("{roots}:debts"), world.daemon)
    assert world.documents() == UPDATED


def test_a_build_waits_for_what_stands_in_the_log_before_its_beginning(world: World) -> None:
    """The log is read from its end on: what comes before will never be met."""
    with unseen(world, f"/* {'x' * 5000} */ {UPDATE}"):
        world.daemon.start()
    world.expect(UPDATED)
