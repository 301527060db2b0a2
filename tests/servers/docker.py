"""Servers in Docker containers, through testcontainers; its reaper removes them when we die.

The server listens on the port that the host publishes, so that its address is the same inside and
outside. On Linux the container shares the host's network: servers reach each other, as in a cluster
or with a replica, by that address.
"""

import functools
import os
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

from tests.servers.flavours import ServerUnavailable


@functools.cache
def pull(image: str) -> bool:
    """Whether a Docker daemon answers and has the image, pulled now if need be."""
    client = _client()
    if client is None:
        return False
    from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]

    try:
        client.images.get(image)
    except ImageNotFound:
        print(f"servers: pulling {image}", file=sys.stderr, flush=True)
        try:
            client.images.pull(image)
        except DockerException as problem:
            print(f"servers: Docker cannot pull {image}: {problem}", file=sys.stderr, flush=True)
            return False
    return True


@functools.cache
def _client() -> Any:
    if not _daemon_listens():
        return None
    import docker  # type: ignore[import-untyped]
    from docker.errors import DockerException

    try:
        return docker.from_env(timeout=60)
    except DockerException:
        return None


def _daemon_listens() -> bool:
    """Whether someone is at Docker's address; a client that finds no one leaks its socket."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not address.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address.removeprefix("unix://")) == 0


@dataclass
class Container:
    """A server in a container, with the life of a `tests.servers.process.Process`."""

    image: str
    port: int
    arguments: list[str]
    environment: dict[str, str]
    _container: Any = field(default=None, init=False)

    def start(self) -> None:
        if self._container is None:
            self._create()
        elif not self.running:
            self._container.start()

    def terminate(self) -> None:
        self._container.stop(timeout=20)

    def kill(self) -> None:
        self._container.kill()

    def pause(self) -> None:
        self._container.pause()

    def resume(self) -> None:
        self._container.unpause()

    def discard(self) -> None:
        if self._container is not None:
            self._container.remove(force=True, v=True)

    @property
    def running(self) -> bool:
        self._container.reload()
        return bool(self._container.status in ("running", "paused"))

    @property
    def pid(self) -> int:
        self._container.reload()
        return int(self._container.attrs["State"]["Pid"])

    def log_tail(self) -> str:
        return str(self._container.logs(tail=20).decode(errors="replace"))

    def _create(self) -> None:
        from docker.errors import DockerException
        from testcontainers.core.container import DockerContainer

        container = (
            DockerContainer(self.image).with_command(self.arguments).with_envs(**self.environment)
        )
        if sys.platform == "linux":
            container = container.with_kwargs(network_mode="host")
        else:
            container = container.with_bind_ports(self.port, self.port)
        try:
            self._container = container.start().get_wrapped_container()
        except DockerException as problem:
            raise ServerUnavailable(f"Docker cannot start {self.image}: {problem}") from None
