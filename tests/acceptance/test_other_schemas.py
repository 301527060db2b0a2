"""Three more schemas in the shape of real applications, followed under load and kills."""

from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.acceptance.worlds import ExampleWorld, Oracle
from tests.examples import desk, forum, places
from tests.servers import DatabaseServer, RedisServer

pytestmark = pytest.mark.server

EXAMPLES: dict[str, tuple[ModuleType, dict[str, Oracle]]] = {
    "desk": (desk, {"desk": desk.documents}),
    "forum": (forum, {"forum": forum.documents}),
    "places": (
        places, {"machines": places.machine_documents, "places": places.place_documents}
    ),
}  # fmt: skip


@pytest.fixture(params=list(EXAMPLES))
def world(
    request: pytest.FixtureRequest,
    database: DatabaseServer,
    fresh_database: str,
    fresh_redis: RedisServer,
) -> Iterator[ExampleWorld]:
    """Each example on either server."""
    name = request.param
    module, oracles = EXAMPLES[name]
    database.load_sql(f"SET SESSION sql_mode='';{module.DDL}", fresh_database)
    with ExampleWorld(
        database, fresh_database, fresh_redis, module.TABLES, oracles,
        ",".join(f"tests.examples.{name}:{hash_}" for hash_ in oracles),
        sql_mode="",  # as such applications do: zero dates
        one_by_one=module is forum,
        PROJECTOR_RECONCILE__SCRUB_INTERVAL_S="0",
    ) as made:  # fmt: skip
        yield made


def test_an_application_is_followed_through_load_and_kills(world: ExampleWorld) -> None:
    """Built, followed, killed between and during changes: each hash equals its oracle."""
    world.run(1, 200)
    world.daemon.start()
    counts = [world.check()]
    world.run(10, 200)
    counts.append(world.check())
    world.daemon.kill()
    world.run(20, 100)
    world.daemon.start()
    world.run(30, 100)
    world.daemon.kill()
    world.daemon.start()
    world.run(40, 100)
    counts.append(world.check())
    assert sum(counts) > 12
    for name in world.oracles:
        assert world.daemon.run("verify", "--projection", name).returncode == 0
