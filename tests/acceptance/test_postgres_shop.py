"""Other people's PostgreSQL: odd names, keys and partitions, two projections, one slot; lists."""

import json
import random
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from projector.postgres.position import parse_lsn
from tests.postgres.world import is_settled
from tests.projector_process import Projector, wait_for
from tests.servers import PostgresServer, RedisServer
from tests.servers.role import documented_role

pytestmark = [pytest.mark.server]

_SCHEMA = """
CREATE SCHEMA "Odd Shop"; SET search_path = "Odd Shop";
CREATE TABLE "Customers" ("Key" varchar(20) PRIMARY KEY, "full name" text);
CREATE TABLE "order" (id uuid PRIMARY KEY, "State" text, customer varchar(20),
  placed timestamptz, labels text[]);
CREATE TABLE lines ("order" uuid, nr int, month date, sku text, quantity numeric,
  total numeric GENERATED ALWAYS AS (quantity * 2) STORED, PRIMARY KEY ("order", nr, month))
  PARTITION BY RANGE (month);
CREATE TABLE lines_old PARTITION OF lines FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE lines_new PARTITION OF lines FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
ALTER TABLE "order" REPLICA IDENTITY FULL;
"""
_MONTHS = ("2025-03-01", "2025-12-31", "2026-01-01", "2026-11-05")
_WORDS = ("a:b", "100%", "Ä", "q'\"\\", " ", "😀", "open", "Open")


class Shop:
    """The shop, and a daemon with both projections that is not started yet."""

    def __init__(self, server: PostgresServer, name: str, redis_server: RedisServer) -> None:
        self.connection = server.connect(name)
        self.connection.execute(_SCHEMA)
        url = documented_role(server, name, ["Customers", "order", "lines"], schema="Odd Shop")
        self.redis = redis_server.client(db=1)
        self.daemon = Projector(
            url, redis_server.url(db=1),
            PROJECTOR_SOURCE__SLOT=f"s_{name}",
            PROJECTOR_PROJECTION="tests.examples.postgres_shop:orders_by_id,"
            "tests.examples.postgres_shop:lines_by_key",
        )  # fmt: skip
        self.keys = [str(uuid.UUID(int=number)) for number in range(1, 40)]

    def run(self, seed: int, count: int) -> None:
        chance = random.Random(seed)
        for _ in range(count):
            key, word = chance.choice(self.keys), chance.choice(_WORDS)
            line = (key, chance.randint(1, 4), chance.choice(_MONTHS))
            sql, values = chance.choice([
                ('INSERT INTO "order" VALUES (%s, %s, %s, now(), %s) ON CONFLICT DO NOTHING',
                 (key, word, chance.choice(_WORDS), [word, None])),
                ('INSERT INTO "Customers" VALUES (%s, %s) ON CONFLICT DO NOTHING', (word, word)),
                ('UPDATE "Customers" SET "full name" = %s WHERE "Key" = %s',
                 (str(chance.random()), word)),
                ('UPDATE "Customers" SET "Key" = %s WHERE "Key" = %s',
                 (chance.choice(_WORDS) + "x", word)),
                ('UPDATE "order" SET "State" = %s WHERE id = %s', (word, key)),
                ('UPDATE "order" SET customer = %s WHERE id = %s', (word, key)),
                ('UPDATE "order" SET id = %s WHERE id = %s', (chance.choice(self.keys), key)),
                ('DELETE FROM "order" WHERE id = %s', (key,)),
                ("INSERT INTO lines VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                 (*line, word, Decimal(chance.randint(-1, 9)))),
                ("INSERT INTO lines VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                 (*line, word, Decimal("1.50"))),
                ('UPDATE lines SET quantity = %s WHERE "order" = %s', (chance.randint(-1, 5), key)),
                ('UPDATE lines SET month = %s WHERE "order" = %s AND nr = %s',
                 (chance.choice(_MONTHS), key, line[1])),  # to another partition, perhaps
                ('DELETE FROM lines WHERE "order" = %s AND nr = %s', (key, line[1])),
            ])  # fmt: skip
            try:
                self.connection.execute(sql, values)
            except Exception as error:
                if "duplicate key" not in str(error):
                    raise

    def check(self) -> None:
        """Compare both hashes and the lists with Python over the plain rows."""
        [[end]] = self.connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
        for name in ("orders", "lines"):
            wait_for(lambda name=name: is_settled(self.redis, name, parse_lsn(end)), self.daemon)  # type: ignore[misc]
        rows = {
            table: self.connection.execute(f'SELECT * FROM "Odd Shop"."{table}"').fetchall()
            for table in ("Customers", "order", "lines")
        }
        names = dict(rows["Customers"])
        states = {str(key): state for key, state, *_ in rows["order"]}
        orders: dict[str, Any] = {}
        for key, state, customer, placed, labels in rows["order"]:
            mine = [line for line in rows["lines"] if line[0] == key]
            by_key = sorted(mine, key=lambda line: (str(line[0]), line[1], line[2]))
            orders[str(key)] = {
                "id": str(key), "State": state, "full name": names.get(customer),
                "placed": placed.isoformat().replace("+00:00", "Z"), "labels": labels,
                "lines": [
                    {"nr": nr, "month": str(month), "sku": sku, "total": str(total)}
                    for _, nr, month, sku, _, total in sorted(mine, key=lambda x: (x[2], x[1]))
                ],
                "skus": ",".join(line[3] for line in by_key) if mine else None,
                "pieces": str(sum((line[4] for line in mine), Decimal(0))),
            }  # fmt: skip
        lines = {
            f"{key}:{nr}:{month}": {
                "order": str(key), "nr": nr, "month": str(month), "sku": sku,
                "State": states.get(str(key)),
            }
            for key, nr, month, sku, quantity, _ in rows["lines"] if quantity > 0
        }  # fmt: skip
        assert self._stored("orders") == orders
        assert self._stored("lines") == lines
        listed: dict[bytes, set[bytes]] = {}
        for key, state in states.items():
            if state:
                listed.setdefault(state.encode(), set()).add(key.encode())
        found = {
            key: set(self.redis.zrange(key, 0, -1))
            for key in self.redis.keys("{orders}:by:state:*")
        }
        assert sorted(map(sorted, found.values())) == sorted(map(sorted, listed.values()))

    def _stored(self, name: str) -> dict[str, Any]:
        return {k.decode(): json.loads(v) for k, v in self.redis.hgetall(name).items()}


@pytest.fixture
def shop(
    postgres_server: PostgresServer, fresh_postgres: str, fresh_redis: RedisServer
) -> Iterator[Shop]:
    made = Shop(postgres_server, fresh_postgres, fresh_redis)
    with made.connection, made.redis:
        yield made
    made.daemon.__exit__(None)


@pytest.mark.timeout(180)
def test_an_odd_shop_is_followed(shop: Shop) -> None:
    """Built, then a random history with kills; partitions made, emptied and dropped."""
    shop.run(1, 300)
    shop.daemon.start()
    shop.run(2, 300)
    shop.check()
    shop.daemon.kill()
    shop.run(3, 200)
    shop.daemon.start()
    shop.check()
    shop.connection.execute("TRUNCATE lines_old")
    shop.check()
    shop.connection.execute(
        "CREATE TABLE lines_far PARTITION OF lines FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')"
    )
    shop.connection.execute("INSERT INTO lines SELECT id, 9, '2030-05-05', 'far', 1 FROM \"order\"")
    shop.run(4, 100)
    shop.check()
    assert shop.daemon.run("verify").returncode == 0
