"""What systemd hears, on a real socket."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from projector.service.systemd import Notifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The end of the socket that systemd reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind(str(tmp_path / "notify"))
        reader.settimeout(5)
        yield reader


def test_systemd_hears_ready_alive_and_stopping(systemd: socket.socket) -> None:
    """Ready comes first, then one report after another, at last the end."""
    notifier = Notifier(lambda: True, _environment(systemd))
    notifier.start()
    assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    notifier.stop()
    while (last := systemd.recv(100)) == b"WATCHDOG=1":
        pass
    assert last == b"STOPPING=1"


def test_a_loop_that_stands_still_is_not_reported_alive(systemd: socket.socket) -> None:
    """The watchdog starves while the loop makes no progress, and is fed again after it."""
    asked, is_alive = threading.Semaphore(0), threading.Event()

    def answer() -> bool:
        asked.release()
        return is_alive.is_set()

    notifier = Notifier(answer, _environment(systemd))
    notifier.start()
    assert systemd.recv(100) == b"READY=1"
    for _ in range(3):
        assert asked.acquire(timeout=5)
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
    is_alive.set()
    systemd.settimeout(5)
    assert systemd.recv(100) == b"WATCHDOG=1"
    notifier.stop()


def test_abstract_sockets_are_reached() -> None:
    """A leading @ stands for the zero byte of an abstract name (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind("")  # Linux gives a free abstract name
        reader.settimeout(5)
        name = reader.getsockname()
        Notifier(lambda: True, {"NOTIFY_SOCKET": "@" + name[1:].decode()}).start()
        assert reader.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    """No socket named, or one that is gone: no error."""
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        notifier = Notifier(lambda: True, environment)
        notifier.start()
        notifier.stop()


def _environment(systemd: socket.socket) -> dict[str, str]:
    return {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "20000"}
