"""Positions: offsets count within one server's one file, and each projection's place is its own."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from projector.projection import Many, Projection
from tests.abroad.world import MakeWorld, World, worlds_on
from tests.projector_process import wait_for
from tests.servers import (
    DatabaseServer,
    Flavour,
    RedisServer,
    start_database,
    start_replica,
    wait_for_replica,
)

pytestmark = pytest.mark.server

_metadata = sa.MetaData()
_root = sa.Table(
    "root", _metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", sa.String(20))
)
_child = sa.Table(
    "child", _metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("pid", sa.Integer)
)
roots = Projection("roots", root=_root, fields=[_root.c.id, _root.c.v])
others = Projection("others", root=_root, fields=[_root.c.id, _root.c.v])
parents = Projection(
    "parents",
    root=_root,
    fields=[_root.c.id],
    collections=[Many("children", _child, on=_child.c.pid == _root.c.id, value=_child.c.id)],
)
ROOTS, BOTH = (
    f"{__name__}:roots",
    f"{__name__}:roots,{__name__}:others",
)
DDL = (
    "CREATE TABLE root (id INT PRIMARY KEY, v VARCHAR(20), pad LONGTEXT);"
    "INSERT INTO root (id, v) VALUES (1, 'a'), (2, 'b');"
    "CREATE TABLE other (id INT PRIMARY KEY)"
)
HEARTBEAT = {"PROJECTOR_MYSQL__HEARTBEAT_S": "0.3"}


def on(*names: str) -> pytest.MarkDecorator:
    """Restrict `private`."""
    return pytest.mark.parametrize("private", names, indirect=True, scope="session")


@pytest.fixture
def make(private: DatabaseServer, fresh_redis: RedisServer) -> Iterator[MakeWorld]:
    """Make worlds on a private server."""
    with worlds_on(private, fresh_redis, **HEARTBEAT) as one:
        yield one


def truth(world: World) -> dict[str, Any]:
    """The documents of `roots` and `others`, in SQL of its own."""
    return {str(i): {"id": i, "v": v} for i, v in world.execute("SELECT id, v FROM root")}


def eventually(world: World, expected: Mapping[str, Any], name: str | None = None) -> None:
    """Wait for documents where no number tells whether all is applied."""
    try:
        wait_for(lambda: world.documents(name) == expected, world.daemon, 60)
    except AssertionError as error:
        raise AssertionError(f"{world.documents(name)} is not {expected}\n{error}") from None


def reset(world: World) -> None:
    """Forget the log and all numbers of transactions; the server's name stays."""
    mysql = world.database.flavour is Flavour.MYSQL
    world.execute("RESET BINARY LOGS AND GTIDS" if mysql else "RESET MASTER")


@contextlib.contextmanager
def prepared(server: DatabaseServer, schema: str, *names: str) -> Iterator[None]:
    """Transactions of a table that nobody watches, prepared and left so."""
    for number, name in enumerate(names, 100):
        with server.connect(schema) as connection, connection.cursor() as cursor:
            cursor.execute(f"XA START '{name}'")
            cursor.execute(f"INSERT INTO other VALUES ({number})")
            cursor.execute(f"XA END '{name}'")
            cursor.execute(f"XA PREPARE '{name}'")
    try:
        yield
    finally:
        for name in names:
            server.execute(f"XA ROLLBACK '{name}'")


@pytest.mark.parametrize("anywhere", list(Flavour), indirect=True, ids=str)
def test_a_place_before_the_checkpoint_is_no_place_4_gb_later(abroad: MakeWorld) -> None:
    """With prepared transactions the log is read again from before the checkpoint: a definition
    that follows is still later than the rows before it."""
    world = abroad(
        "CREATE TABLE root (id INT PRIMARY KEY, v VARCHAR(20)); INSERT INTO root VALUES (1, 'a'),"
        " (2, 'b'); CREATE TABLE child (id INT PRIMARY KEY, x INT, pid INT);"
        "INSERT INTO child VALUES (7, 5, 1); CREATE TABLE other (id INT PRIMARY KEY)",
        f"{__name__}:parents",
        **HEARTBEAT,
    )
    with prepared(world.database, world.schema, "p1", "p2"):
        world.daemon.start()
        eventually(world, {"1": {"id": 1, "children": [7]}, "2": {"id": 2, "children": []}})
        world.execute("INSERT INTO child VALUES (8, 5, 2)")
        eventually(world, {"1": {"id": 1, "children": [7]}, "2": {"id": 2, "children": [8]}})
        world.daemon.stop()
        world.execute("UPDATE child SET pid = 2 WHERE id = 7")
        world.execute("ALTER TABLE child DROP COLUMN x, ADD COLUMN z INT")
        world.daemon.start()
        eventually(world, {"1": {"id": 1, "children": []}, "2": {"id": 2, "children": [7, 8]}})


@pytest.mark.parametrize("anywhere", list(Flavour), indirect=True, ids=str)
def test_a_prepared_transaction_keeps_nobody_waiting(abroad: MakeWorld) -> None:
    """It is not committed: `--until-current` ends, and so does `verify` beside a daemon."""
    world = abroad(DDL, ROOTS, **HEARTBEAT)
    with prepared(world.database, world.schema, "u1"):
        world.daemon.start("--until-current")
        assert world.daemon.wait(20) == 0
        assert world.documents() == truth(world)
        world.execute("UPDATE root SET v = 'c' WHERE id = 1")
        world.daemon.start("--until-current")
        assert world.daemon.wait(20) == 0
        assert world.documents() == truth(world)
        world.daemon.start()
        world.execute("UPDATE root SET v = 'd' WHERE id = 2")
        eventually(world, truth(world))
        assert world.daemon.run("verify", timeout_s=25).returncode == 0


def test_a_log_that_was_reset_is_another_one(make: MakeWorld) -> None:
    """Numbers, file and offset are all given out again, and reach beyond the checkpoint."""
    world = make(DDL, ROOTS)
    reset(world)
    world.start()
    world.execute(*[f"INSERT INTO root (id, v) VALUES ({i}, 'x')" for i in range(10, 14)])
    world.settle()
    world.daemon.stop()
    time.sleep(1.1)  # no file is created twice in one second: see Position.born
    reset(world)
    world.execute("UPDATE root SET v = 'lost' WHERE id = 1", "DELETE FROM root WHERE id = 10")
    world.execute(*[f"INSERT INTO root (id, v) VALUES ({i}, 'y')" for i in range(20, 50)])
    world.daemon.start()
    eventually(world, truth(world))


def test_a_log_that_ends_before_the_checkpoint_is_another_one(make: MakeWorld) -> None:
    """The numbers of transactions have passed the checkpoint's, but its file does not exist yet."""
    world = make(DDL, ROOTS)
    reset(world)
    world.execute("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    world.start()
    world.execute("INSERT INTO root (id, v) VALUES (9, 'x')")
    world.settle()
    world.daemon.stop()
    reset(world)
    world.execute("UPDATE root SET v = 'lost' WHERE id = 1")
    world.execute(*[f"INSERT INTO root (id, v) VALUES ({i}, 'y')" for i in range(20, 40)])
    world.daemon.start()
    eventually(world, truth(world))


def test_a_crash_between_two_new_checkpoints_loses_neither(make: MakeWorld) -> None:
    """The first projection has begun again in the new log, the second is still in the old one."""
    world = make(DDL, BOTH)
    world.start()
    world.execute("INSERT INTO root (id, v) VALUES (3, 'x')")
    world.settle()
    world.daemon.stop()
    old = {key: world.redis.dump(key) for key in world.redis.scan_iter("*others*")}
    reset(world)
    world.execute("UPDATE root SET v = 'lost' WHERE id = 1")
    world.daemon.start()
    for name in ("roots", "others"):
        eventually(world, truth(world), name)
    world.daemon.stop()
    world.redis.delete(*world.redis.scan_iter("*others*"))
    for key, value in old.items():
        world.redis.restore(key, 0, value)
    world.daemon.start()
    for name in ("roots", "others"):
        eventually(world, truth(world), name)


def test_a_projection_ahead_of_the_other_passes_nothing_new(make: MakeWorld) -> None:
    """Behind a prepared transaction all has one place to restart from, the place that it stands at:
    that it is done says nothing of what follows."""
    world = make(DDL, BOTH)
    world.start()
    world.daemon.stop()
    old = {key: world.redis.dump(key) for key in world.redis.scan_iter("*others*")}
    world.execute("INSERT INTO root (id, v) VALUES (3, 'x')")
    world.start()
    world.daemon.stop()
    world.redis.delete(*world.redis.scan_iter("*others*"))
    for key, value in old.items():  # as after a crash between two checkpoints
        world.redis.restore(key, 0, value)
    name = f"x{uuid.uuid4().hex[:8]}"
    with prepared(world.database, world.schema, name):
        world.execute("UPDATE root SET v = 'behind' WHERE id = 1")
        world.daemon.start()
        for each in ("roots", "others"):
            eventually(world, truth(world), each)


@pytest.mark.parametrize("which", ["roots", "others"])
def test_a_checkpoint_of_another_server_beside_a_good_one(make: MakeWorld, which: str) -> None:
    """Positions that cannot be compared are no bug: whose is not this log's begins again."""
    world = make(DDL, BOTH)
    world.start()
    world.daemon.stop()
    foreign = "mariadb|elsewhere/1/1|binlog.000009|9000|0-1-999,5-1-3"
    if world.database.flavour is not Flavour.MYSQL:
        foreign = "mysql|11111111-1111-1111-1111-111111111111|binlog.000001|4|-"
    world.redis.hset(f"{{{which}}}:checkpoint", "position", foreign)
    world.redis.hset(which, "1", '{"id": 1, "v": "of elsewhere"}')
    world.execute("UPDATE root SET v = 'new' WHERE id = 2")
    world.daemon.start()
    for name in ("roots", "others"):
        eventually(world, truth(world), name)


@on("mariadb", "mariadb11")
def test_another_masters_lower_number_is_not_skipped(make: MakeWorld) -> None:
    """In a ring of two masters with one domain numbers fall; the log's own order counts."""
    world = make(DDL, BOTH)
    world.start()
    world.execute("UPDATE root SET v = 'first' WHERE id = 1")
    world.settle()

    def from_the_other(number: int, statement: str) -> None:
        world.execute(
            "SET SESSION server_id = 99", f"SET SESSION gtid_seq_no = {number}", statement,
            f"SET SESSION server_id = {world.database.port}",
        )  # fmt: skip

    from_the_other(2, "UPDATE root SET v = 'of the other' WHERE id = 2")
    for name in ("roots", "others"):
        eventually(world, truth(world), name)
    world.daemon.stop()
    from_the_other(3, "UPDATE root SET v = 'later' WHERE id = 2")
    world.daemon.start()
    for name in ("roots", "others"):
        eventually(world, truth(world), name)
    world.daemon.stop()
    world.execute("UPDATE root SET v = 'own' WHERE id = 1")
    from_the_other(4, "UPDATE root SET v = 'latest' WHERE id = 2")
    world.daemon.start("--until-current")
    assert world.daemon.wait(20) == 0
    assert world.documents("roots") == world.documents("others") == truth(world)
    assert "position_lost" not in world.daemon.log()


@pytest.mark.parametrize("flavour", [Flavour.MARIADB, Flavour.MYSQL], ids=str)
def test_a_replica_whose_file_has_the_same_name_and_is_shorter(
    flavour: Flavour, fresh_redis: RedisServer
) -> None:
    """After a failover the checkpoint's offset says nothing, whatever the files are called."""
    mariadb = flavour is not Flavour.MYSQL
    options = ["--skip-replicate-annotate-row-events"] if mariadb else []
    with start_database(flavour) as primary, start_replica(primary, options=options) as replica:
        primary.create_database("shop")
        primary.load_sql(DDL, "shop")
        if not mariadb:
            primary.execute("SET GLOBAL binlog_rows_query_log_events = ON")
        world = World(primary, "shop", fresh_redis, ROOTS, **HEARTBEAT)
        try:
            world.start()
            comment = f"/* {'x' * 100_000} */"
            world.execute(f"{comment} UPDATE root SET v = 'long' WHERE id = 1")
            world.settle()
            world.daemon.stop()
            wait_for_replica(primary, replica)
            replica.execute("STOP SLAVE" if mariadb else "STOP REPLICA")
            replica.execute("UPDATE root SET v = 'promoted' WHERE id = 2", database="shop")
            world.daemon.environment["PROJECTOR_MYSQL__URL"] = replica.url("shop")
            world.daemon.start()
            eventually(world, {"1": {"id": 1, "v": "long"}, "2": {"id": 2, "v": "promoted"}})
            replica.execute("TRUNCATE TABLE root", database="shop")
            eventually(world, {})
            assert "position_lost" not in world.daemon.log()
        finally:
            world.close()
