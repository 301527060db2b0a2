"""The TCP proxy of the fault suite does to connections what its methods say."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers import TcpProxy


@pytest.fixture
def echo_port() -> Iterator[int]:
    """The port of a server that sends everything back."""

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                pass  # the proxy broke the connection, as it was told

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    acceptor.join(5)


@pytest.fixture
def proxy(echo_port: int) -> Iterator[TcpProxy]:
    """A healthy proxy in front of the echo server."""
    with TcpProxy("127.0.0.1", echo_port) as proxy:
        yield proxy


def connected(proxy: TcpProxy) -> socket.socket:
    """A connection through the proxy over which one byte has gone to and fro."""
    connection = socket.create_connection((proxy.host, proxy.port), timeout=5)
    connection.sendall(b"?")
    assert connection.recv(1) == b"?"
    return connection


def test_bytes_pass_both_ways_and_are_counted(proxy: TcpProxy) -> None:
    """A megabyte comes back unchanged."""
    sent = bytes(range(256)) * 4096
    with connected(proxy) as connection:
        threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
        received = b""
        while len(received) < len(sent):
            received += connection.recv(65536)
    assert received == sent
    assert (proxy.connections, proxy.bytes_to_server) == (1, len(sent) + 1)
    assert proxy.bytes_to_client == len(sent) + 1


def test_cut_ends_connections_and_refuses_new_ones_until_heal(proxy: TcpProxy) -> None:
    """After cut the old connection is at its end and the port refuses; after heal it accepts."""
    with connected(proxy) as connection:
        proxy.cut()
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, proxy.port), timeout=5)
    proxy.heal()
    connected(proxy).close()


def test_stall_holds_bytes_back_and_heal_delivers_them(proxy: TcpProxy) -> None:
    """A stalled connection stays open without a byte; the byte arrives after heal."""
    with connected(proxy) as connection:
        proxy.stall()
        connection.sendall(b"!")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        proxy.heal()
        connection.settimeout(5)
        assert connection.recv(1) == b"!"


def test_a_stalled_connection_can_be_cut(proxy: TcpProxy) -> None:
    """Cut wins over stall."""
    with connected(proxy) as connection:
        proxy.stall()
        connection.sendall(b"!")
        proxy.cut()
        assert connection.recv(1) == b""


def test_delay_holds_back_each_way(proxy: TcpProxy) -> None:
    """There and back takes twice the delay."""
    with connected(proxy) as connection:
        proxy.delay(0.1)
        begun = time.monotonic()
        connection.sendall(b"!")
        assert connection.recv(1) == b"!"
        assert time.monotonic() - begun >= 0.2


def test_reset_breaks_connections_and_new_ones_work(proxy: TcpProxy) -> None:
    """The client sees RST, not an orderly end."""
    with connected(proxy) as connection:
        proxy.reset_connections()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    connected(proxy).close()


def test_a_dead_target_ends_the_connection(proxy: TcpProxy) -> None:
    """Without a server behind it the proxy accepts and closes, and lives on."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with (
        TcpProxy("127.0.0.1", port) as dead,
        socket.create_connection((dead.host, dead.port), 5) as connection,
    ):
        connection.settimeout(5)
        assert connection.recv(1) == b""
