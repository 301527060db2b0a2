"""HTTP: metrics, health and the status page, for probes, Prometheus and people.

Answers GET and HEAD and nothing else, reads only `Health` and `metrics` (so a dead MySQL or Redis
never makes it wait), shows no secret, and stays bounded whatever connects: so many requests at
once, so long a request.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from projector import __version__, compiled, metrics
from projector.errors import ConfigurationError
from projector.service.health import Health, HealthState
from projector.service.probes import Verdict, live, ready
from projector.service.rates import latest, total
from projector.settings import Http

_REQUESTS_AT_ONCE = 16
_REQUEST_TIMEOUT_S = 10.0  # whole request: a scrape takes milliseconds
_TICK_S = 0.25

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def status(health: Health, settings: Http, after: int = 0) -> dict[str, Any]:
    """Return what the status page shows; samples only with a number above `after`."""
    state = health.snapshot()
    latency = health.latency()
    return {
        "version": __version__,
        "now": time.time(),
        "started_at": health.started_at,
        "live": asdict(live(state, settings)),
        "ready": asdict(ready(state, settings)),
        "ready_max_lag_s": settings.ready_max_lag_s,
        **_numbers(state),
        "latency": latency._asdict() if latency else None,
        "samples": [list(sample) for sample in health.samples(after)],
        "events": [event._asdict() for event in health.events()],
    }


def _numbers(state: HealthState) -> dict[str, Any]:
    walk = state.resync
    verified_at = latest(metrics.verified_timestamp)
    return asdict(state) | {
        "leads": state.state.leads,
        "mysql_up": state.database_up,
        "resync": walk and {**asdict(walk), "ratio": walk.ratio, "left_s": walk.left_s},
        "documents": int(total(metrics.documents)) if state.state.leads else None,
        "quarantined": int(total(metrics.quarantined)),
        "debts": int(total(metrics.debts)),
        "differences": int(total(metrics.differences)) if verified_at else None,
        "verified_at": verified_at or None,
        "views": _views(),
        "redis_memory_bytes": int(total(metrics.redis_memory)) or None,
        "redis_memory_limit_bytes": int(total(metrics.redis_memory_limit)) or None,
    }


def _views() -> list[dict[str, Any]]:
    """Return how much each view holds, as last asked of Redis."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    gauges = {
        "members": metrics.view_members, "lists": metrics.view_lists, "bytes": metrics.view_bytes
    }  # fmt: skip
    for name, gauge in gauges.items():
        for family in gauge.collect():
            for sample in family.samples:
                key = (sample.labels["projection"], sample.labels["view"])
                found.setdefault(key, {"projection": key[0], "view": key[1]})
                found[key][name] = int(sample.value)
    return [found[key] for key in sorted(found)]


class Server:
    """The HTTP server, in threads of its own."""

    def __init__(self, settings: Http, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None
        self._sampler: threading.Thread | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Listen. Raises ConfigurationError when the address cannot be had."""
        metrics.build_info.labels(__version__).set(1)
        metrics.compiled_core.set(compiled.core is not None)
        self._listener = _listen(self._settings, self._health)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(_TICK_S,), name="http", daemon=True
        )
        self._thread.start()
        self._sampler = threading.Thread(target=self._keep_sampling, name="samples", daemon=True)
        self._sampler.start()

    def stop(self) -> None:
        """Stop listening; requests under way are not waited for."""
        self._stopped.set()
        if self._sampler is not None:
            self._sampler.join(_TICK_S)  # not longer: it may wait for the log
        if self._listener is not None and self._thread is not None:
            self._listener.shutdown()
            self._thread.join()
            self._listener.server_close()
            self._listener = None

    @property
    def port(self) -> int:
        """The port listened on; the configured one before `start`."""
        return self._listener.server_port if self._listener else self._settings.port

    def _keep_sampling(self) -> None:
        """Beside the listener, because a sample may write to a log that nobody reads."""
        while not self._stopped.wait(_TICK_S):
            self._health.sample()


def _listen(settings: Http, health: Health) -> _Listener:
    try:
        return _Listener(settings, health)
    except OSError as error:
        address = f"{settings.host} port {settings.port}"
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise ConfigurationError(
                f"PROJECTOR_HTTP__PORT: cannot listen on {address}: {error.strerror}",
                "Choose a free port above 1023, or 0 for any.",
            ) from None
        raise ConfigurationError(
            f"PROJECTOR_HTTP__HOST: cannot listen on {address}: {error.strerror}",
            "Name an address of this machine.",
        ) from None


class _Listener(ThreadingHTTPServer):
    """Bounds requests in number and in time."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, settings: Http, health: Health) -> None:
        self.settings = settings
        self.health = health
        self.page = _Page()
        self._open: dict[socket.socket, float] = {}  # since when, by time.monotonic
        self._open_lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        super().__init__((settings.host, settings.port), _Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name, which waits for DNS."""
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = self.settings.host, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for the request; with too many open the oldest makes room, so that a
        probe gets its answer whoever else holds connections open."""
        with self._open_lock:
            if len(self._open) >= _REQUESTS_AT_ONCE:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the request and close its connection."""
        with self._open_lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End requests that dawdle: their threads then see a closed socket."""
        with self._open_lock:
            for request, since in self._open.items():
                if time.monotonic() - since > _REQUEST_TIMEOUT_S:
                    _hang_up(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client went away in the middle of its own request."""


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # gone already


class _Page:
    """The status page, and the policy that lets run just its own style and script."""

    def __init__(self) -> None:
        self.body = files("projector.service").joinpath("status.html").read_bytes()
        self.policy = (
            f"default-src 'none'; style-src {_hash(self.body, b'style')};"
            f" script-src {_hash(self.body, b'script')}; connect-src 'self'; img-src data:;"
            " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


def _hash(page: bytes, tag: bytes) -> str:
    found = re.search(rb"<%s>(.*?)</%s>" % (tag, tag), page, re.DOTALL)
    digest = hashlib.sha256(found[1] if found else b"").digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


class _Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    server: _Listener
    timeout = 5.0  # for each read
    server_version = "projector"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer by path."""
        answers: dict[str, Callable[[], None]] = {
            "/": self._page,
            "/status.json": self._status,
            "/metrics": self._metrics,
            "/livez": partial(self._probe, live),
            "/readyz": partial(self._probe, ready),
        }
        answer = answers.get(urlsplit(self.path).path)
        if answer:
            answer()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer in one plain line that repeats nothing of the request."""
        if code == HTTPStatus.NOT_IMPLEMENTED:  # what the library says to an unknown method
            code = HTTPStatus.METHOD_NOT_ALLOWED
        headers = {"Allow": "GET, HEAD"} if code == HTTPStatus.METHOD_NOT_ALLOWED else {}
        text = f"{HTTPStatus(code).phrase}\n".encode()
        self._send(code, "text/plain; charset=utf-8", text, headers)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep no access log: probes would fill it."""

    def version_string(self) -> str:
        """Name the program, not its version."""
        return self.server_version

    def _page(self) -> None:
        page = self.server.page
        policy = {"Content-Security-Policy": page.policy}
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", page.body, policy)

    def _status(self) -> None:
        after = parse_qs(urlsplit(self.path).query).get("after", ["0"])[0]
        number = int(after) if re.fullmatch(r"[0-9]{1,12}", after) else 0
        self._send_json(HTTPStatus.OK, status(self.server.health, self.server.settings, number))

    def _metrics(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._send(HTTPStatus.OK, content_type, encode(REGISTRY))

    def _probe(self, judge: Callable[[HealthState, Http], Verdict]) -> None:
        state = self.server.health.snapshot()
        verdict = judge(state, self.server.settings)
        code = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
        self._send_json(code, asdict(verdict) | _numbers(state))

    def _send_json(self, code: int, value: dict[str, Any]) -> None:
        self._send(code, "application/json", json.dumps(value, allow_nan=False).encode() + b"\n")

    def _send(
        self, code: int, content_type: str, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(code)
        own = {"Content-Type": content_type, "Content-Length": str(len(body))}
        for name, value in (_HEADERS | own | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
