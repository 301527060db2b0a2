"""The TypeScript reader: its vectors, and every kind of client on a hash made by hand."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.fix_servers import missing
from tests.projector_process import wait_for
from tests.readers.node import PACKAGE, packed, run_node
from tests.readers.test_store import Store
from tests.servers import (
    RedisServer,
    ServerUnavailable,
    start_redis,
    start_redis_cluster,
    start_sentinel,
)

pytestmark = pytest.mark.server

VECTORS = Path(__file__).parent / "vectors.json"


@pytest.fixture
def cluster_port() -> Iterator[str]:
    try:
        nodes = start_redis_cluster(3)
    except ServerUnavailable as problem:
        missing(problem)
    yield str(nodes[0].port)
    for node in nodes:
        node.discard()


def test_the_vectors_hold_in_typescript() -> None:
    """The shared cases of positions, tokens and ids come out as written down."""
    assert "# fail 0" in run_node("vectors.test.js", VECTORS=str(VECTORS))


def test_every_kind_of_client(fresh_redis: RedisServer, cluster_port: str) -> None:
    """ioredis and node-redis: alone, with RESP2, Cluster, Sentinel."""
    with start_sentinel({"documents": fresh_redis}) as sentinel:
        said = run_node(
            "store.test.js",
            REDIS_URL=fresh_redis.url(),
            CLUSTER_PORT=cluster_port,
            SENTINEL_PORT=str(sentinel.port),
        )
    assert "# fail 0" in said


def test_redis_dies_under_waiting_readers() -> None:
    """Killed and started again with its data under a wait and a feed, of both clients; then gone:
    the wait ends in time, and the feed when its patience does."""
    try:
        server = start_redis(options=["--appendonly", "yes", "--appendfsync", "always"])
    except ServerUnavailable as problem:
        missing(problem)
    with server, ThreadPoolExecutor(1) as executor:
        for client in ("ioredis", "node-redis"):
            asked = {"REDIS_URL": server.url(), "CLIENT": client}
            running = executor.submit(run_node, "away.test.js", **asked)
            for word in ("revive", "kill"):
                wait_for(partial(_asks_for, server, word, running))
                if not running.done():
                    server.kill()
                if word == "revive":
                    server.start()
                    store = Store(server.client(), "notes")
                    store.reach(5)
                    store.change("2")
                    store.redis.close()
            running.result()
            server.start()


def _asks_for(server: RedisServer, word: str, running: Future[str]) -> bool:
    with server.client() as client:
        return running.done() or client.getdel("please") == word.encode()


def test_the_package_holds_its_modules_alone() -> None:
    """What npm would publish: code, types, licence, README; no dependency, no address locked."""
    modules = [path.stem for path in (PACKAGE / "src").glob("*.ts")]
    expected = [f"dist/{name}{end}" for name in modules for end in (".js", ".d.ts")]
    assert packed() == sorted([*expected, "LICENSE", "README.md", "package.json"])
    assert "dependencies" not in json.loads((PACKAGE / "package.json").read_text("utf-8"))
    packages = json.loads((PACKAGE / "package-lock.json").read_text("utf-8"))["packages"]
    assert all("resolved" not in package for package in packages.values())
