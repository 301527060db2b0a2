"""HTTP: what each address answers, and that it always answers."""

import fcntl
import http.client
import json
import os
import re
import socket
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from projector.errors import ConfigurationError
from projector.service import http as projector_http
from projector.service.health import Health, State
from projector.service.http import Server
from projector.settings import Http

INTERFACE = """
row_changes_total transactions_total documents_written_total documents_removed_total lag_seconds
commit_to_redis_seconds stage_seconds batch_documents documents is_leader reconnects_total
errors_total resync_running resync_progress_ratio differences checkpoint_timestamp_seconds mysql_up
redis_up redis_memory_bytes redis_memory_limit_bytes quarantined_documents build_info
""".split()


@pytest.fixture
def health() -> Health:
    return Health(("tickets",))


@pytest.fixture
def server(health: Health) -> Iterator[Server]:
    server = Server(Http(port=0), health)
    server.start()
    yield server
    server.stop()


def ask(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_metrics_have_every_name_of_the_interface(server: Server) -> None:
    """Prometheus' own parser finds each metric."""
    response, body = ask(server, "/metrics")
    families = {family.name for family in text_string_to_metric_families(body.decode())}
    missing = [n for n in INTERFACE if f"projector_{n.removesuffix('_total')}" not in families]
    assert response.status == 200
    assert missing == []
    assert b"_created" not in body


def test_metrics_speak_openmetrics_when_asked(server: Server) -> None:
    """The scraper's Accept header chooses the format."""
    response, body = ask(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (response.headers["Content-Type"] or "").startswith("application/openmetrics-text")
    assert any(family.name == "projector_lag_seconds" for family in openmetrics(body.decode()))


def test_readyz_is_503_until_the_process_can_be_relied_on(server: Server, health: Health) -> None:
    """The body says the state and why."""
    response, body = ask(server, "/readyz")
    assert response.status == 503
    assert json.loads(body)["why"] == "starting"
    health.update(state=State.LEADING)
    health.applied(time.time(), True, time.time())
    response, body = ask(server, "/readyz")
    answer = json.loads(body)
    assert response.status == 200
    assert (answer["state"], answer["lag_s"]) == ("leading", 0.0)


def test_livez_does_not_fail_for_dead_servers(server: Server, health: Health) -> None:
    """A restart would not bring MySQL or Redis back."""
    health.update(database_up=False, redis_up=False)
    assert ask(server, "/livez")[0].status == 200
    assert ask(server, "/readyz")[0].status == 503


def test_livez_fails_when_the_loop_stands_still(health: Health) -> None:
    """The limit is a setting."""
    server = Server(Http(port=0, live_timeout_s=0.01), health)
    server.start()
    time.sleep(0.02)  # the loop's silence itself is under test
    response, body = ask(server, "/livez")
    server.stop()
    assert response.status == 503
    assert "has not gone round" in json.loads(body)["why"]


@pytest.fixture
def log_pipe() -> Iterator[int]:
    """The reading end of a pipe that is the log."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as pipe, os.fdopen(reader, "rb"):
        structlog.configure(logger_factory=lambda *_: structlog.WriteLogger(pipe))
        yield reader
        structlog.reset_defaults()


def test_probes_answer_while_nobody_reads_the_log(
    log_pipe: int, server: Server, health: Health
) -> None:
    """The log is a full pipe: the loop and the samples wait for it, no answer does."""
    health.update(state=State.LEADING)
    enough = threading.Event()
    teller = threading.Thread(target=_tell_until, args=(health, enough))
    teller.start()
    while not (before := _unread_bytes(log_pipe)) or _grows_beyond(before, log_pipe):
        pass
    is_stuck = teller.is_alive()
    health.applied(0.0, False, 60.0)  # a minute behind: the next sample tells, and waits too
    deadline = time.monotonic() + 5
    while health.snapshot().state is State.LEADING and time.monotonic() < deadline:
        time.sleep(0.01)
    answers = [ask(server, path)[0].status for path in ("/livez", "/metrics", "/status.json")]
    enough.set()
    while teller.is_alive():
        os.read(log_pipe, 65536)
        teller.join(0.01)
    server.stop()
    assert is_stuck
    assert health.snapshot().state is State.CATCHING_UP
    assert answers == [200, 200, 200]


def _tell_until(health: Health, enough: threading.Event) -> None:
    while not enough.is_set():
        health.update(database_up=False)
        health.update(database_up=True)


def _unread_bytes(reader: int) -> int:
    return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)


def _grows_beyond(before: int, reader: int) -> bool:
    time.sleep(0.2)
    return _unread_bytes(reader) > before


def test_status_gives_samples_after_a_number(server: Server, health: Health) -> None:
    """The page asks for what it lacks; the server takes samples by itself."""
    deadline = time.monotonic() + 10
    while not health.samples(after=1):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    everything = json.loads(ask(server, "/status.json")[1])
    later = json.loads(ask(server, "/status.json?after=1")[1])
    assert everything["samples"][0][0] == 1
    assert later["samples"][0][0] == 2
    assert json.loads(ask(server, "/status.json?after=%27--")[1])["samples"][0][0] == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_only_get_and_head_are_answered(server: Server, method: str) -> None:
    """Everything else is 405 and says what would do."""
    response, _ = ask(server, "/livez", method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz", "/status.json", "/nothing"])
def test_every_answer_has_safe_headers(server: Server, path: str) -> None:
    """Also an error; HEAD says the same as GET without the body."""
    for method in ("GET", "HEAD"):
        response, body = ask(server, path, method)
        headers = response.headers
        assert "default-src 'none'" in (headers["Content-Security-Policy"] or "")
        assert "unsafe" not in (headers["Content-Security-Policy"] or "")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "projector"
        assert bool(body) is (method == "GET")


def test_head_sends_no_body(server: Server) -> None:
    """The headers end the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"HEAD /livez HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"\r\n\r\n")


def test_an_unknown_address_is_not_repeated(server: Server) -> None:
    """The error holds nothing of the request."""
    response, body = ask(server, "/<script>geheim</script>")
    assert (response.status, body) == (404, b"Not Found\n")


def test_the_page_is_one_file_without_outside_addresses() -> None:
    """No link or source but to this server itself."""
    page = Path(projector_http.__file__).with_name("status.html").read_text()
    addresses = set(re.findall(r"(?:https?:)?//[a-z][^\"'\s<>]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_a_port_in_use_names_the_setting(server: Server, health: Health) -> None:
    """The message says which setting to change."""
    with pytest.raises(
        ConfigurationError, match=r"PROJECTOR_HTTP__PORT: cannot listen on .*in use"
    ):
        Server(Http(port=server.port), health).start()


def test_a_foreign_address_names_the_setting(health: Health) -> None:
    """An address that this machine does not have is the host's fault, not the port's."""
    with pytest.raises(ConfigurationError, match="PROJECTOR_HTTP__HOST"):
        Server(Http(host="192.0.2.1", port=0), health).start()


def test_ipv6_is_an_address_too(health: Health) -> None:
    """`::1` listens on IPv6's loopback."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    server = Server(Http(host="::1", port=0), health)
    server.start()
    with socket.create_connection(("::1", server.port), timeout=5) as client:
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 200")
    server.stop()


def test_a_probe_gets_through_however_many_clients_say_nothing(server: Server) -> None:
    """The oldest connections make room, so their number stays bounded and a probe never waits."""
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=3) for _ in range(40)]
    assert ask(server, "/livez")[0].status == 200
    for client in idle[:24]:
        assert client.recv(1) == b""  # hung up on
    deadline = time.monotonic() + 10
    while threading.active_count() >= 30:  # 16 of them at most are requests
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for client in idle:
        client.close()


def test_a_client_that_says_nothing_is_hung_up_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread is free again after the time of a request."""
    monkeypatch.setattr(projector_http, "_REQUEST_TIMEOUT_S", 0.5)
    with socket.create_connection(("127.0.0.1", server.port), timeout=4) as client:
        assert client.recv(1) == b""


def test_a_request_in_drops_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for the whole request, so a byte now and then does not keep a thread."""
    monkeypatch.setattr(projector_http, "_REQUEST_TIMEOUT_S", 0.5)
    started = time.monotonic()
    is_dropped = False
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        while not is_dropped and time.monotonic() - started < 10:
            try:
                client.sendall(b"G")
                time.sleep(0.02)  # the drops themselves
            except OSError:  # broken pipe or reset, as the kernel likes
                is_dropped = True
    assert is_dropped
    assert time.monotonic() - started < 4
