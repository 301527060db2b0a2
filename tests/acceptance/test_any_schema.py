"""Other people's tables: two databases unlike the helpdesk, followed without a line changed."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from projector.mysql.dialect import MYSQL
from projector.projection import load_projections
from tests.acceptance.worlds import ExampleWorld
from tests.examples import company_oracle, shop_oracle
from tests.projector_process import await_checkpoint, wait_for, walked
from tests.servers import DatabaseServer, RedisServer

pytestmark = pytest.mark.server

SHOP = (Path(__file__).parent.parent / "examples" / "shop.sql").read_text("utf-8")


@pytest.fixture
def shop(
    database: DatabaseServer, fresh_database: str, fresh_redis: RedisServer
) -> Iterator[ExampleWorld]:
    """The shop with three projections in one daemon."""
    database.load_sql(SHOP, fresh_database)
    module = "tests.examples.shop"
    world = ExampleWorld(
        database, fresh_database, fresh_redis, shop_oracle.TABLES,
        {
            "orders": shop_oracle.orders,
            "products": shop_oracle.products,
            "stock": shop_oracle.stock,
        },
        f"{module}:orders_by_id,{module}:products_by_sku,{module}:stock_by_shelf",
        SHOP_MASK_KEY=shop_oracle.MASK_KEY,
    )  # fmt: skip
    with world:
        yield world


@pytest.fixture
def company(
    database: DatabaseServer, fresh_database: str, fresh_redis: RedisServer
) -> Iterator[ExampleWorld]:
    """The company's three databases."""
    with contextlib.ExitStack() as stack:
        for name in company_oracle.DATABASES:
            database.drop_database(name)
            database.create_database(name)
            stack.callback(database.drop_database, name)
        database.load_sql(company_oracle.EMPLOYEES, fresh_database)
        database.load_sql(company_oracle.HR, "example_hr")
        database.load_sql(company_oracle.ASSETS, "example_assets")
        world = ExampleWorld(
            database, fresh_database, fresh_redis, company_oracle.TABLES,
            {"employees": company_oracle.employees}, "tests.examples.company:employees_by_id",
            grants=[f"GRANT SELECT ON {t} TO {{user}}" for t in company_oracle.OTHER_TABLES],
        )  # fmt: skip
        yield stack.enter_context(world)


def test_a_shop_is_followed(shop: ExampleWorld) -> None:
    """Composite, string and UUID keys, three levels, links, aggregates, masks, filters, limits."""
    shop.run(1, 300)
    shop.daemon.start()
    shop.check()
    counts = []
    for round_ in range(4):
        shop.run(10 + round_, 300)
        counts.append(shop.check())
    assert sum(counts) > 20
    assert [e for e in shop.daemon.events() if "kind" in e] == []


def test_a_company_is_followed(company: ExampleWorld) -> None:
    """Several databases, self-references, one table in eight roles."""
    company.run(2, 300)
    company.daemon.start()
    company.check()
    counts = []
    for round_ in range(4):
        company.run(20 + round_, 300)
        counts.append(company.check())
    assert sum(counts) > 20


def test_a_shop_survives_kills(shop: ExampleWorld) -> None:
    """kill -9 between and during changes: each hash goes on from its own checkpoint."""
    for round_ in range(3):
        shop.daemon.start()
        shop.run(30 + round_, 100)
        shop.daemon.kill()
    shop.daemon.start()
    shop.check()


def test_a_wide_fan_out_of_a_string_key_is_put_off_and_done(shop: ExampleWorld) -> None:
    """The values of a look-up and the place in it survive a restart, whatever their type."""
    shop.daemon.environment["PROJECTOR_FANOUT_MAX_DOCUMENTS"] = "2"
    shop.daemon.environment["PROJECTOR_RECONCILE__CHUNK_DOCUMENTS"] = "1"
    shop.run(3, 200)
    shop.daemon.start()
    shop.check()
    by_walks = walked(shop.daemon)
    with shop.connection.cursor() as cursor:
        cursor.execute("UPDATE products SET title = CONCAT(title, '!')")
    shop.check()
    assert walked(shop.daemon) > by_walks
    for _ in range(3):
        with shop.connection.cursor() as cursor:
            cursor.execute("UPDATE products SET title = CONCAT(title, '+')")
            cursor.execute("UPDATE customers SET full_name = CONCAT(full_name, '+')")
        shop.daemon.kill()
        shop.daemon.start()
    shop.check()


def test_a_resync_of_one_projection_leaves_the_others_alone(shop: ExampleWorld) -> None:
    """Damage in two hashes: the resync of one mends that one alone."""
    shop.run(4, 100)
    shop.daemon.environment["PROJECTOR_RECONCILE__SCRUB_INTERVAL_S"] = "0"
    shop.daemon.start()
    shop.check()
    for name in ("products", "stock"):
        damaged = shop.redis.hkeys(name)[0]
        shop.redis.hset(name, damaged, b"{}")
    assert shop.daemon.run("resync", "--projection", "products").returncode == 0
    assert b"{}" not in shop.redis.hvals("products")
    assert b"{}" in shop.redis.hvals("stock")
    assert not shop.redis.hgetall("{stock}:resync").get(b"reason", b"").startswith(b"requested")
    assert shop.daemon.run("verify", "--projection", "stock").returncode == 1
    assert shop.daemon.run("verify", "--projection", "stock", "--repair").returncode == 0
    wait_for(lambda: b"{}" not in shop.redis.hvals("stock"), shop.daemon)
    shop.check()


def test_commands_cover_all_projections_at_once(shop: ExampleWorld) -> None:
    """Without a name: the verdict of each, a comparison of each, a resync of each; ids need one."""
    shop.run(5, 60)
    shop.daemon.start()
    shop.check()
    names = [
        plan.name
        for plan in load_projections(shop.daemon.environment["PROJECTOR_PROJECTION"], MYSQL)
    ]
    said = json.loads(shop.daemon.run("status", "--json").stdout)
    assert [each["projection"] for each in said] == names
    assert {each["verdict"] for each in said} <= {"current", "owing"}
    shown = shop.daemon.run("status").stdout.splitlines()
    assert [line.split()[1] for line in shown[: len(names)]] == names
    shop.redis.hset("stock", shop.redis.hkeys("stock")[0], b"{}")
    found = shop.daemon.run("verify", "--json")
    left = {each["projection"]: each["stale"] for each in json.loads(found.stdout)}
    assert (found.returncode, left) == (1, {name: int(name == "stock") for name in names})
    assert shop.daemon.run("verify", "--ids", "1").returncode == 2
    assert shop.daemon.run("resync").returncode == 0
    assert shop.daemon.run("verify").returncode == 0
    again = json.loads(shop.daemon.run("status", "--json").stdout)
    assert {each["resync"]["reason"] for each in again} == {"requested"}


def test_documents_leave_the_hash_when_time_alone_passes(shop: ExampleWorld) -> None:
    """A filter over the clock: nothing is written any more, and the document goes in its time."""
    shop.daemon.environment["PROJECTOR_PROJECTION"] = "tests.examples.shop:recent_orders"
    shop.daemon.environment["PROJECTOR_RECONCILE__SCRUB_INTERVAL_S"] = "0"
    with shop.connection.cursor() as cursor:
        cursor.execute("SET SESSION time_zone = '+00:00'")
        for key, age_s in ((1, 48), (2, 0), (3, 100)):
            cursor.execute(
                "INSERT INTO orders (id, state, net, tax_percent, placed_at)"
                f" VALUES (0x{key:02}, 'open', 1, 0, NOW(3) - INTERVAL {age_s} SECOND)"
            )
    shop.daemon.start()
    await_checkpoint(shop.redis, shop.connection, shop.daemon, "recent")
    ids = [f"{key:02}000000-0000-0000-0000-000000000000" for key in (1, 2)]
    assert sorted(shop.redis.hkeys("recent")) == [i.encode() for i in ids]
    wait_for(lambda: not shop.redis.hexists("recent", ids[0]), shop.daemon, timeout_s=30)
    assert shop.redis.hexists("recent", ids[1])
    assert shop.daemon.run("verify").returncode == 0
