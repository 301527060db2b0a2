"""Large documents and slow servers: work is bounded by bytes, and slow is not dead."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from projector.mysql.position import Position
from projector.projection import Projection
from projector.settings import Redis as RedisSettings
from projector.sink_redis import RedisSink
from tests.abroad.world import MakeWorld, World
from tests.projector_process import wait_for
from tests.servers import Flavour, RedisKind, RedisServer, ServerUnavailable, TcpProxy, start_redis

pytestmark = pytest.mark.server

_text = sa.Table(
    "texts", sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("body", sa.Text),
)  # fmt: skip
texts = Projection("texts", root=_text, fields=[_text.c.id, _text.c.body])
DDL = "CREATE TABLE texts (id INT PRIMARY KEY, body LONGTEXT)"
NAME = "tests.abroad.test_large:texts"


@pytest.fixture(params=list(RedisKind), ids=str)
def any_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server that has HSCAN NOVALUES, and those that have not."""
    try:
        server = start_redis(request.param)
    except ServerUnavailable as problem:
        pytest.skip(str(problem))
    with server:
        yield server


def _slowest_ms(server: RedisServer) -> float:
    """Return the longest command since the last reset of the slow log, in milliseconds."""
    with server.client() as client:
        return max((entry["duration"] / 1000 for entry in client.slowlog_get(1000)), default=0.0)


def test_names_and_comparisons_never_hold_a_server_up(any_redis: RedisServer) -> None:
    """300 documents of 2 MB among small ones: all names are found, no command takes a good part of
    what moving them all takes, and the server's memory stays what the documents take."""
    with any_redis.client() as client:
        client.config_set("slowlog-log-slower-than", 1000)
        client.config_set("slowlog-max-len", 1000)
        large = b"x" * 2_000_000
        for number in range(300):
            client.hset("texts", str(number), large)
        client.hset("texts", mapping={str(number): b"small" for number in range(1000, 6000)})
        client.slowlog_reset()
        sink = RedisSink(RedisSettings(url=any_redis.url()), "texts", Position.parse)
        cursor, seen = 0, set()
        while True:
            cursor, ids = sink.scan(cursor, 2000)
            seen |= set(ids)
            if cursor == 0:
                break
        assert len(seen) == 5300
        documents = {str(number): large for number in range(40)} | {
            "9999": b"new",
            "1000": b"smali",
        }
        found = sink.compare(documents, ["5", "1001", "77777"])
        assert (found.missing, found.stale, found.orphan) == ({"9999"}, {"1000"}, {"5", "1001"})
        assert len(sink.read([*map(str, range(40)), "1000", "none"])) == 41
        sink.close()
        ours = _slowest_ms(any_redis)
        info = client.info("memory")
        assert info["used_memory_peak"] < 1.35 * info["used_memory"]
        client.slowlog_reset()
        with any_redis.client(socket_timeout=100) as patient:
            patient.eval("return #redis.call('HSCAN', KEYS[1], 0, 'COUNT', 20000)[2]", 1, "texts")
        assert ours < max(100, _slowest_ms(any_redis) / 3)  # a busy machine is slow at both


@pytest.mark.parametrize("anywhere", [Flavour.MYSQL, Flavour.MARIADB], indirect=True, ids=str)
def test_documents_of_two_megabytes_are_built_changed_and_scrubbed(abroad: MakeWorld) -> None:
    """The daemon's memory stays within bounds, and what is read back is no difference."""
    count = 40
    world = abroad(DDL, NAME, PROJECTOR_RECONCILE__SCRUB_INTERVAL_S="3")
    for number in range(count):
        world.execute(f"INSERT INTO texts VALUES ({number}, REPEAT('{number % 10}', 2000000))")
    world.start()
    world.execute("UPDATE texts SET body = CONCAT(body, '!')")
    world.settle()
    assert world.redis.hlen("texts") == count
    assert int(world.redis.hget("{texts}:resync", "total")) == count  # as both servers count
    verified = 'projector_verified_timestamp_seconds{projection="texts"}'
    wait_for(lambda: _metric(world, verified) > 0, world.daemon, 60)
    assert "scrub_found_differences" not in {e["event"] for e in world.daemon.events()}
    expected = {str(n): f"{n % 10}" * 2_000_000 + "!" for n in range(count)}
    for number, body in expected.items():
        assert json.loads(world.redis.hget("texts", number))["body"] == body
    assert world.daemon.process is not None
    peak = _peak_bytes(world.daemon.process.pid)
    assert peak < 350 << 20, peak


slow_texts = Projection(
    "slow",
    root=_text,
    fields=[_text.c.id, _text.c.body, sa.func.sleep(0.2, type_=sa.Integer).label("slept")],
)


@pytest.mark.parametrize("anywhere", [Flavour.MYSQL], indirect=True, ids=str)
def test_what_takes_too_long_is_tried_with_less(abroad: MakeWorld) -> None:
    """A chunk of the build and a slice of a step that no read limit bears: both get done."""
    world = abroad(DDL, "tests.abroad.test_large:slow_texts", PROJECTOR_MYSQL__READ_TIMEOUT_S="1")
    world.execute("INSERT INTO texts VALUES " + ", ".join(f"({n}, 'x')" for n in range(22)))
    world.start()
    world.expect({str(n): {"id": n, "body": "x", "slept": 0} for n in range(22)})
    world.execute("UPDATE texts SET body = 'y'")
    world.expect({str(n): {"id": n, "body": "y", "slept": 0} for n in range(22)})


def _metric(world: World, name: str) -> float:
    for line in world.daemon.http("/metrics")[1].decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return 0.0


def _peak_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def _slowed(world: World, to_mysql: TcpProxy) -> None:
    url = make_url(world.url).set(host=to_mysql.host, port=to_mysql.port)
    world.daemon.environment |= {
        "PROJECTOR_MYSQL__URL": url.render_as_string(False),
        "PROJECTOR_MYSQL__CONNECT_TIMEOUT_S": "3",
        "PROJECTOR_MYSQL__READ_TIMEOUT_S": "4",
        "PROJECTOR_HTTP__LIVE_TIMEOUT_S": "7.5",
        "PROJECTOR_BATCH_MAX_DOCUMENTS": "1",
    }


def _always_alive(world: World, until: Any) -> None:
    """Ask the probe all the time until something has happened."""
    deadline = time.monotonic() + 60
    while not until():
        code, said = world.daemon.http("/livez")
        assert code == 200, said
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("anywhere", [Flavour.MARIADB_11], indirect=True, ids=str)
def test_a_step_of_many_slow_answers_is_progress(abroad: MakeWorld) -> None:
    """A step lasts for longer than the limit of the probe; each answer in it counts."""
    world = abroad(DDL, NAME)
    with TcpProxy(world.database.host, world.database.port) as to_mysql:
        _slowed(world, to_mysql)
        world.start()
        to_mysql.delay(0.35)
        world.execute("INSERT INTO texts VALUES " + ", ".join(f"({n}, 'x')" for n in range(24)))
        _always_alive(world, lambda: world.redis.hlen("texts") == 24)
        to_mysql.heal()
        world.expect({str(n): {"id": n, "body": "x"} for n in range(24)})


@pytest.mark.parametrize("anywhere", [Flavour.MARIADB], indirect=True, ids=str)
def test_waiting_for_a_commit_to_show_is_progress_and_is_said(abroad: MakeWorld) -> None:
    """Semi-sync without a replica that acknowledges: the change shows after its whole time-out."""
    world = abroad(DDL, NAME)
    with TcpProxy(world.database.host, world.database.port) as to_mysql:
        _slowed(world, to_mysql)
        world.start()
        switches = {
            "enabled": "ON",
            "wait_no_slave": "ON",
            "timeout": 11000,
            "wait_point": "AFTER_SYNC",
        }
        for name, value in switches.items():
            world.execute(f"SET GLOBAL rpl_semi_sync_master_{name} = {value}")
        try:
            writing = threading.Thread(
                target=lambda: world.database.execute(
                    "INSERT INTO texts VALUES (1, 'x')", database=world.schema
                )
            )
            writing.start()
            _always_alive(world, lambda: "to show" in world.daemon.http("/readyz")[1].decode())
            assert "texts at the barrier" in world.daemon.http("/status.json")[1].decode()
            _always_alive(world, lambda: world.redis.hlen("texts") == 1)
            writing.join()
        finally:
            world.execute("SET GLOBAL rpl_semi_sync_master_enabled = OFF")
        world.expect({"1": {"id": 1, "body": "x"}})
        events = world.daemon.events()
        assert not [e for e in events if "message" in e]
