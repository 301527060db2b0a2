"""Failover with real servers under load: Sentinel, kill -9 of the primary, a cluster, no AOF.

The daemon is never restarted by hand, and in the end the hash is what hand-written SQL gives.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster

from tests.fix_servers import missing
from tests.oracle import assert_hash_equals_database
from tests.projector_process import Projector, await_checkpoint, wait_for
from tests.seed import seed
from tests.servers import (
    DatabaseServer,
    RedisServer,
    ServerUnavailable,
    start_redis,
    start_redis_cluster,
    start_sentinel,
)
from tests.servers.account import documented_account
from tests.workload import Workload

pytestmark = [pytest.mark.server, pytest.mark.slow]

HELPDESK = (Path(__file__).parent.parent / "helpdesk.sql").read_text("utf-8")
CHECKPOINT = "{tickets}:checkpoint"
WITHIN_S = 60.0


class Desk:
    """A seeded helpdesk with a workload, and the daemon that follows it into some Redis."""

    def __init__(self, server: DatabaseServer, name: str, url: str, **settings: str) -> None:
        server.load_sql(HELPDESK, name)
        self.connection = server.connect(name)
        seed(self.connection, 300)
        self.workload = Workload(lambda: server.connect(name), seed=17, cascades=False, rate=100)
        self.daemon = Projector(documented_account(server, name), url, **settings)

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """The workload goes on meanwhile."""
        self.workload.start()
        try:
            yield
        finally:
            self.workload.stop()

    def settle(self, client: Any) -> None:
        """Wait until everything committed is applied; then compare."""
        await_checkpoint(client, self.connection, self.daemon, timeout_s=WITHIN_S)
        assert assert_hash_equals_database(client, self.connection) > 0
        assert self.daemon.process is not None
        assert self.daemon.process.poll() is None


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Everything started is ended, the last first."""
    with contextlib.ExitStack() as made:
        try:
            yield made
        except ServerUnavailable as problem:
            missing(problem)


def open_desk(
    stack: contextlib.ExitStack, server: DatabaseServer, name: str, url: str, **settings: str
) -> Desk:
    desk = Desk(server, name, url, **settings)
    stack.callback(desk.connection.close)
    stack.push(desk.daemon.__exit__)
    desk.daemon.start()
    return desk


def stamp(client: Any) -> bytes | None:
    """The stamp of the last write, None when the store cannot say."""
    with contextlib.suppress(redis.RedisError):
        found: bytes | None = client.hget(CHECKPOINT, "stamp")
        return found
    return None


def writes_go_on(client: Any, daemon: Projector) -> None:
    """Wait for two writes."""
    first = wait_for(lambda: stamp(client), daemon, WITHIN_S)
    wait_for(lambda: stamp(client) not in {first, None}, daemon, WITHIN_S)


def with_replica(stack: contextlib.ExitStack) -> tuple[RedisServer, RedisServer, RedisServer]:
    """A primary, its replica, and a Sentinel that knows both."""
    primary = stack.enter_context(start_redis())
    replica = stack.enter_context(
        start_redis(options=["--replicaof", primary.host, str(primary.port)])
    )
    with replica.client(db=0) as client:
        wait_for(lambda: client.info("replication")["master_link_status"] == "up")
    sentinel = stack.enter_context(start_sentinel({"tickets": primary}))
    with sentinel.client(db=0) as watcher:
        wait_for(lambda: watcher.info("sentinel")["master0"]["slaves"] == 1, timeout_s=30)
    return primary, replica, sentinel


def test_sentinel_promotes_a_replica_after_kill_9_under_load(
    stack: contextlib.ExitStack, mysql: DatabaseServer, helpdesk: str
) -> None:
    """No AOF: what the replica lacks is written again, by the same process, within seconds."""
    primary, replica, sentinel = with_replica(stack)
    desk = open_desk(
        stack, mysql, helpdesk, sentinel.url(db=1), PROJECTOR_REDIS__SENTINEL_MASTER="tickets"
    )
    with primary.client(db=1) as client:
        desk.settle(client)
        with desk.load():
            writes_go_on(client, desk.daemon)
            primary.kill()
            with replica.client(db=1) as promoted:
                began = time.monotonic()
                wait_for(lambda: promoted.info("replication")["role"] == "master", timeout_s=30)
                writes_go_on(promoted, desk.daemon)
                assert time.monotonic() - began < 30
    with replica.client(db=1) as promoted:
        desk.settle(promoted)


def test_a_replica_that_lags_takes_documents_and_checkpoint_back_together(
    stack: contextlib.ExitStack, mysql: DatabaseServer, helpdesk: str
) -> None:
    """The replica missed the last seconds: the daemon goes on from the replica's checkpoint."""
    primary, replica, sentinel = with_replica(stack)
    desk = open_desk(
        stack, mysql, helpdesk, sentinel.url(db=1), PROJECTOR_REDIS__SENTINEL_MASTER="tickets"
    )
    with primary.client(db=1) as client, replica.client(db=1) as promoted:
        desk.settle(client)
        with desk.load():
            writes_go_on(client, desk.daemon)
            promoted.config_set("masterauth", "wrong")  # the link cannot come back
            promoted.execute_command("CLIENT", "KILL", "TYPE", "master")
            wait_for(lambda: promoted.info("replication")["master_link_status"] == "down")
            behind = stamp(promoted)
            writes_go_on(client, desk.daemon)
            assert stamp(client) != behind
            primary.kill()
            wait_for(lambda: promoted.info("replication")["role"] == "master", timeout_s=30)
            wait_for(lambda: stamp(promoted) != behind, desk.daemon, WITHIN_S)
            writes_go_on(promoted, desk.daemon)
        desk.settle(promoted)


def test_kill_9_of_redis_without_persistence_ends_in_a_new_build(
    stack: contextlib.ExitStack, mysql: DatabaseServer, helpdesk: str
) -> None:
    """It comes back empty, under load, again and again."""
    server = stack.enter_context(start_redis())
    desk = open_desk(stack, mysql, helpdesk, server.url(db=1))
    with server.client(db=1) as client:
        desk.settle(client)
        with desk.load():
            for _ in range(3):
                writes_go_on(client, desk.daemon)
                server.kill()
                server.start()
                wait_for(lambda: client.hlen("tickets") >= 250, desk.daemon, WITHIN_S)
        desk.settle(client)


def test_a_cluster_of_three_is_followed_through_restarts_of_its_node(
    stack: contextlib.ExitStack, mysql: DatabaseServer, helpdesk: str
) -> None:
    """All keys in one slot; its node is killed under load and comes back empty."""
    nodes = start_redis_cluster(3)
    for node in nodes:
        stack.callback(node.discard)
    desk = open_desk(stack, mysql, helpdesk, nodes[0].url(db=0), PROJECTOR_REDIS__CLUSTER="true")
    client: Any = RedisCluster.from_url(nodes[0].url(db=0))
    stack.callback(client.close)
    desk.settle(client)
    [home] = [n for n in nodes if n.port == client.get_node_from_key("tickets").port]
    with desk.load():
        writes_go_on(client, desk.daemon)
        home.kill()
        home.start()
        writes_go_on(client, desk.daemon)
    desk.settle(client)


def test_a_cluster_slot_that_moves_is_followed(
    stack: contextlib.ExitStack, mysql: DatabaseServer, helpdesk: str
) -> None:
    """The slot goes to another node under load; documents and checkpoint go with it."""
    nodes = start_redis_cluster(3)
    for node in nodes:
        stack.callback(node.discard)
    desk = open_desk(stack, mysql, helpdesk, nodes[0].url(db=0), PROJECTOR_REDIS__CLUSTER="true")
    client: Any = RedisCluster.from_url(nodes[0].url(db=0))
    stack.callback(client.close)
    desk.settle(client)
    with desk.load():
        writes_go_on(client, desk.daemon)
        move_slot(client.keyslot("tickets"), nodes)
        writes_go_on(client, desk.daemon)
    desk.settle(client)


def move_slot(slot: int, nodes: list[RedisServer]) -> None:
    """Move a slot to another node, as redis-cli does it."""
    with contextlib.ExitStack() as stack:
        clients: list[Any] = [stack.enter_context(node.client(db=0)) for node in nodes]
        ids = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
        [home] = [i for i, c in enumerate(clients) if c.execute_command(
            "CLUSTER", "COUNTKEYSINSLOT", slot)]  # fmt: skip
        away = (home + 1) % len(nodes)
        clients[away].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[home])
        clients[home].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[away])
        while keys := clients[home].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            target = nodes[away]
            clients[home].execute_command(
                "MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *keys
            )
        for client in [clients[away], clients[home], *clients]:
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[away])


@pytest.fixture
def helpdesk(mysql: DatabaseServer) -> Iterator[str]:
    """An empty database on MySQL."""
    name = f"failover_{time.monotonic_ns()}"
    mysql.create_database(name)
    yield name
    mysql.drop_database(name)
