"""Private Redis and Valkey servers: single, with Sentinel, as a cluster.

A server keeps nothing on disk unless its options ask for it (`--save 60 1`, `--appendonly yes`);
then its folder survives stop(), kill() and start().
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import redis

from tests.servers.docker import Container
from tests.servers.flavours import RECIPES, RedisKind, ServerUnavailable
from tests.servers.process import Process, Running, free_port, new_folder, wait_until_ready
from tests.servers.programs import Image, find

_SLOTS = 16384


@dataclass
class RedisServer:
    """One server; `process` is None for a server that is not ours, named in the environment."""

    kind: RedisKind
    host: str
    port: int
    credentials: str
    folder: Path | None
    process: Running | None

    def url(self, db: int = 1) -> str:
        return f"redis://{self.credentials}{self.host}:{self.port}/{db}"

    def client(self, db: int = 1, **settings: Any) -> "redis.Redis":
        """A new client that returns bytes; the settings are redis-py's."""
        return redis.Redis.from_url(self.url(db), **settings)

    def start(self) -> None:
        """Start again after stop() or kill() on the same port. Returns once it answers."""
        own = self._own()
        own.start()
        wait_until_ready(own, self._answers, f"{RECIPES[self.kind].title} on port {self.port}")

    def stop(self) -> None:
        """Shut down cleanly (SIGTERM: data is saved where persistence is on)."""
        self._own().terminate()

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        self._own().kill()

    def pause(self) -> None:
        self._own().pause()

    def resume(self) -> None:
        self._own().resume()

    def discard(self) -> None:
        """Kill the server, if it is ours, and remove its data."""
        if self.process is not None:
            self.process.discard()

    @property
    def pid(self) -> int:
        return self._own().pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def _own(self) -> Running:
        if self.process is None:
            raise ServerUnavailable(
                f"{RECIPES[self.kind].environment} names a server that is not ours to control"
            )
        return self.process

    def _answers(self) -> bool:
        try:
            with self.client(db=0, socket_timeout=2, retry=None) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True  # up, with a password that the options set
        except redis.RedisError:
            return False


def find_redis(kind: RedisKind = RedisKind.REDIS) -> RedisServer:
    """The server that the environment names for this kind, otherwise a new private one."""
    variable = RECIPES[kind].environment
    address = os.environ.get(variable) if variable else None
    if not address:
        return start_redis(kind)
    parts = urlsplit(address)
    credentials = parts.netloc.rpartition("@")[0]
    return RedisServer(
        kind,
        parts.hostname or "127.0.0.1",
        parts.port or 6379,
        f"{credentials}@" if credentials else "",
        folder=None,
        process=None,
    )


def start_redis(
    kind: RedisKind = RedisKind.REDIS,
    *,
    options: Sequence[str] = (),
    cluster: bool = False,
    config: Path | None = None,
) -> RedisServer:
    """A new private server that answers.

    The options are the server's own (`--maxmemory`, `50mb`), and win over ours.
    `config` is a redis.conf that is read first (a deployment's, for instance); not with Docker.
    Raises ServerUnavailable.
    """
    arguments = ["--save", "", "--appendonly", "no"]
    if cluster:
        arguments += ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
    return _launch(kind, [str(config)] if config else [], [*arguments, *options])


def start_sentinel(
    primaries: Mapping[str, RedisServer],
    *,
    kind: RedisKind = RedisKind.REDIS,
    quorum: int = 1,
    down_after_ms: int = 1000,
) -> RedisServer:
    """A new Sentinel that watches these primaries by name.

    A replica to promote: `start_redis(options=["--replicaof", host, port])`.
    """
    folder = new_folder("sentinel-config")
    lines = []
    for name, primary in primaries.items():
        lines.append(f"sentinel monitor {name} {primary.host} {primary.port} {quorum}")
        lines.append(f"sentinel down-after-milliseconds {name} {down_after_ms}")
        lines.append(f"sentinel failover-timeout {name} {down_after_ms * 3}")
    config = folder / "sentinel.conf"
    config.write_text("\n".join([*lines, ""]))
    return _launch(kind, [str(config), "--sentinel"], [])


def start_redis_cluster(nodes: int = 3, *, kind: RedisKind = RedisKind.REDIS) -> list[RedisServer]:
    """A new Redis Cluster of primaries that share all slots; each node has found it whole."""
    servers = [start_redis(kind, cluster=True) for _ in range(nodes)]
    clients: list[Any] = [server.client(db=0) for server in servers]
    for index, client in enumerate(clients):
        first, last = index * _SLOTS // nodes, (index + 1) * _SLOTS // nodes - 1
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for other in servers[:index]:
            client.execute_command("CLUSTER", "MEET", other.host, other.port)
    for server, client in zip(servers, clients, strict=True):
        assert server.process is not None
        wait_until_ready(server.process, _whole_cluster(client, nodes), "Redis Cluster")
        client.close()
    return servers


def _whole_cluster(client: Any, nodes: int) -> Callable[[], bool]:
    def seen() -> bool:
        info = client.execute_command("CLUSTER INFO")
        return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(nodes))

    return seen


def _launch(kind: RedisKind, first: list[str], options: list[str]) -> RedisServer:
    program = find(kind)
    port = free_port()
    arguments = [*first, "--port", str(port), *options]
    folder = None
    if isinstance(program, Image):
        if first:
            raise ServerUnavailable(
                f"{RECIPES[kind].title} with a configuration file is not made in Docker; install it"
            )
        command = [RECIPES[kind].runs_as, *arguments, "--protected-mode", "no"]
        process: Running = Container(program.name, port, command, {})
    else:
        folder = new_folder(kind.value)
        command = [
            *program.command,
            *arguments,
            "--bind",
            "127.0.0.1",
            "--dir",
            str(folder),
            "--daemonize",
            "no",
        ]
        process = Process(command, folder)
    server = RedisServer(kind, "127.0.0.1", port, "", folder, process)
    server.start()
    return server
