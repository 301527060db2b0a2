"""Cascades through tables that no document reads, on servers that do not log them."""

import contextlib
import itertools
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.examples import depots
from tests.oracle import compare
from tests.projector_process import Projector, await_checkpoint, wait_for
from tests.servers import DatabaseServer, Flavour, RedisServer, start_database
from tests.servers.account import documented_account

pytestmark = pytest.mark.server


class World:
    """Three regions with three depots each, three shelves a depot; 81 parcels of 27 orders."""

    def __init__(self, database: DatabaseServer, name: str, redis_server: RedisServer) -> None:
        self.connection = database.connect(name)
        self.redis = redis_server.client(db=1)
        self._new = itertools.count(1000)
        for statement in depots.SQL.split(";"):
            self.execute(statement)
        self.daemon = Projector(
            documented_account(database, name),
            redis_server.url(db=1),
            PROJECTOR_PROJECTION="tests.examples.depots:orders_by_id",
            PROJECTOR_FANOUT_MAX_DOCUMENTS="5",
            PROJECTOR_RECONCILE__CHUNK_DOCUMENTS="3",
        )
        for order in range(27):
            self.execute(f"INSERT INTO orders VALUES ({order}, 'o')")
        for region in range(3):
            self.add_region(region, range(region * 3, region * 3 + 3))

    def add_region(self, region: int, its: Any) -> None:
        self.execute(f"INSERT INTO regions VALUES ({region})")
        for depot in its:
            self.execute(f"INSERT INTO depots VALUES ({depot}, {region})")
            for shelf in range(3):
                self.execute(f"INSERT INTO shelves VALUES ({depot}, {shelf})")
                for _ in range(3):
                    parcel = self.new()
                    values = f"{parcel}, {parcel % 27}, {depot}, {shelf}"
                    self.execute(f"INSERT INTO parcels VALUES ({values})")

    def new(self) -> int:
        return next(self._new)

    def execute(self, sql: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
        self.connection.commit()

    def one(self, sql: str) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0]

    def found(self, how: str) -> float:
        """How many steps found a cascade's documents in this way."""
        text = self.daemon.http("/metrics")[1].decode()
        line = f'projector_cascades_total{{found="{how}"}}'
        return sum(float(x.split()[1]) for x in text.splitlines() if x.startswith(line))

    def settle(self) -> None:
        await_checkpoint(self.redis, self.connection, self.daemon, "orders")

    def check(self) -> None:
        self.settle()
        differences = compare(self.redis.hgetall("orders"), depots.orders(self.connection))
        assert not differences, differences

    def keep_snapshot(self) -> None:
        """Delete regions until the daemon follows a cascade without a walk."""
        before = self.found("snapshot")

        def is_kept() -> bool:
            self.execute("INSERT INTO regions VALUES (-1)")
            self.execute("DELETE FROM regions WHERE id = -1")
            self.settle()
            return self.found("snapshot") > before

        wait_for(is_kept, self.daemon)


@pytest.fixture(scope="module", params=["mariadb", "mysql-native"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A server that logs no cascades."""
    options = ["--innodb-native-foreign-keys=ON"] if request.param == "mysql-native" else []
    with start_database(Flavour(request.param.partition("-")[0]), options=options) as found:
        yield found


@pytest.fixture
def hiding(server: DatabaseServer, fresh_redis: RedisServer) -> Iterator[World]:
    """Orders whose daemon keeps a snapshot."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server.create_database(name)
    made = World(server, name, fresh_redis)
    with contextlib.ExitStack() as stack:
        stack.callback(made.connection.close)
        stack.callback(made.redis.close)
        stack.push(made.daemon.__exit__)
        made.daemon.start()
        made.check()
        made.keep_snapshot()
        yield made


def test_what_hangs_on_a_row_that_came_to_hang_elsewhere_is_found(hiding: World) -> None:
    """A depot changes its region, which then goes: the parcels have not moved by themselves."""
    walks = hiding.found("walk")
    for depot in range(9):
        region = hiding.new()
        hiding.execute(f"INSERT INTO regions VALUES ({region})")
        hiding.execute(f"UPDATE depots SET region_id = {region} WHERE id = {depot}")
        hiding.execute(f"DELETE FROM regions WHERE id = {region}")
        hiding.check()
    assert hiding.found("walk") == walks


def test_what_hangs_on_a_changed_key_is_found_under_its_old_one(hiding: World) -> None:
    """A key changes, and with it where others hang; then the row goes."""
    walks = hiding.found("walk")
    for table, old in [("depots", 0), ("depots", 3), ("depots", 6), ("regions", 1), ("regions", 2)]:
        new = hiding.new()
        hiding.execute(f"UPDATE {table} SET id = {new} WHERE id = {old}")
        hiding.execute(f"DELETE FROM {table} WHERE id = {new}")
        hiding.check()
    assert hiding.found("walk") == walks


def test_what_was_put_off_when_a_key_changed_is_read_again_when_the_row_goes(
    hiding: World,
) -> None:
    """The walk that was owed for the key may be done before the row goes."""
    walks = hiding.found("walk")
    for depot in range(9):
        new = hiding.new()
        hiding.execute(f"UPDATE depots SET id = {new} WHERE id = {depot}")
        time.sleep(0.02 * depot)  # somewhere within the walk
        hiding.execute(f"DELETE FROM depots WHERE id = {new}")
        hiding.check()
    assert hiding.found("walk") == walks
