"""Server processes end with their owner, and what cannot be had is one clear message."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import RedisKind, ServerUnavailable, programs
from tests.servers.process import Process, free_port, new_folder, wait_until_ready

_OWNER = """
import sys, threading, time
from tests.servers.process import Process, new_folder
server = Process(["/bin/sleep", "300"], new_folder("sleeper"))
starter = threading.Thread(target=server.start)
starter.start()
starter.join()
time.sleep(0.3)
print(server.pid if server.running else 0, server.folder.parent, flush=True)
time.sleep(300)
"""


def _gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def _run_owner() -> tuple[subprocess.Popen[str], int, Path]:
    """A process that owns a server, the server's pid, and the owner's run folder."""
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid, folder = owner.stdout.readline().split()
    return owner, int(pid), Path(folder)


def test_a_server_dies_with_its_owner_killed_but_not_with_the_thread_that_started_it() -> None:
    """Kill -9 of the owner ends the server; its folder goes when the next owner starts."""
    owner, pid, folder = _run_owner()
    assert pid, "the server ended with the thread that started it"
    assert not _gone(pid)
    owner.kill()
    owner.communicate()
    deadline = time.monotonic() + 10
    while not _gone(pid):
        assert time.monotonic() < deadline, "the server outlived its owner"
        time.sleep(0.02)
    assert folder.is_dir()
    second, _, _ = _run_owner()
    second.kill()
    second.communicate()
    assert not folder.is_dir()


def test_the_folder_of_a_living_run_is_left_alone() -> None:
    """A second owner removes only what nobody holds."""
    first, _, folder = _run_owner()
    second, _, _ = _run_owner()
    assert folder.is_dir()
    for owner in (first, second):
        owner.kill()
        owner.communicate()


def test_a_process_stops_continues_and_starts_again() -> None:
    """pause, resume, kill and start act on the process itself."""
    server = Process(["/bin/sleep", "300"], new_folder("sleeper"))
    server.start()
    first = server.pid
    server.pause()
    assert os.waitpid(first, os.WUNTRACED)[1] == (signal.SIGSTOP << 8 | 0x7F)
    server.resume()
    server.kill()
    assert _gone(first)
    server.start()
    assert server.pid != first
    assert not _gone(server.pid)
    server.discard()
    assert not server.folder.exists()


def test_a_server_that_ends_at_its_start_is_reported_with_its_log() -> None:
    """The reason stands in the message, at once and not after the time-out."""
    server = Process(["/bin/sh", "-c", "echo no such option; exit 1"], new_folder("failing"))
    server.start()
    with pytest.raises(ServerUnavailable, match="no such option"):
        wait_until_ready(server, lambda: False, "the server", 30)
    server.discard()


def test_ports_leave_room_for_a_cluster_bus() -> None:
    """A Redis Cluster bus is 10,000 above the port, and both are below the ephemeral range."""
    assert all(free_port() + 10000 < 32768 for _ in range(20))


def test_a_server_that_cannot_be_had_is_one_message_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without Docker, program and apt the remedy names all ways out."""
    monkeypatch.setenv("PROJECTOR_SERVERS_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_present", lambda kind: None)
    with pytest.raises(ServerUnavailable) as caught:
        programs.find(RedisKind.REDIS)
    message = str(caught.value)
    for word in ("apt-get", "redis-server", "Docker", "PROJECTOR_TEST_REDIS_URL"):
        assert word in message
