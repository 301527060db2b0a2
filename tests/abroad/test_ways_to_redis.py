"""Ways to a Redis that others have: Sentinels at addresses of IPv6, and with a password."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from projector.errors import OperatorError
from projector.settings import Redis
from projector.sink_redis.client import Server
from tests.servers import RedisServer, start_redis, start_sentinel

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def primary() -> Iterator[RedisServer]:
    """A Redis, and its password."""
    with start_redis() as server:
        yield server


@pytest.fixture(scope="module")
def sentinel(primary: RedisServer) -> Iterator[RedisServer]:
    """A Sentinel that watches it."""
    with start_sentinel({"docs": primary}) as server:
        yield server


@contextlib.contextmanager
def _password(*servers: RedisServer) -> Iterator[None]:
    """Have these servers want the password `secret`."""
    for server in servers:
        with server.client(db=0) as client:
            client.execute_command("ACL SETUSER default resetpass >secret")
    try:
        yield
    finally:
        for server in servers:
            with server.client(db=0, password="secret") as client:
                client.execute_command("ACL SETUSER default nopass")


@contextlib.contextmanager
def _over_ipv6(port: int) -> Iterator[int]:
    """Listen on ::1, and pass everything on to the port on 127.0.0.1."""

    def relay(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        source.close()

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=relay, args=pair, daemon=True).start()

    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _version(url: str) -> str:
    server = Server(Redis(url=SecretStr(url), sentinel_master="docs"))
    try:
        server.call("SET", "here", "1")
        return server.info("here").role
    finally:
        server.close()


def test_sentinels_are_found_by_ipv6(primary: RedisServer, sentinel: RedisServer) -> None:
    """In brackets, one of several, with and without the others."""
    with _over_ipv6(sentinel.port) as port:
        assert _version(f"redis://[::1]:{port}/1") == "master"
        assert _version(f"redis://[::1]:1,[::1]:{port},127.0.0.1:1/1") == "master"


def test_a_sentinel_may_want_a_password(primary: RedisServer, sentinel: RedisServer) -> None:
    """The URL's password is the master's; it is shown to Sentinels only where they ask for one."""
    url = f"redis://:secret@127.0.0.1:{sentinel.port}/1"
    with _password(primary):
        assert _version(url) == "master"
    with _password(primary, sentinel):
        assert _version(url) == "master"
        for other, said in (("", "wants a password"), (":wrong@", "refuses the password")):
            with pytest.raises(OperatorError, match=said):
                _version(f"redis://{other}127.0.0.1:{sentinel.port}/1")
