"""The example service, on the documents that a real daemon writes."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from projector_reader import commit_token
from sqlalchemy import create_engine

from schema.tables import metadata
from tests.fix_servers import missing
from tests.servers import (
    DatabaseServer,
    Flavour,
    RedisServer,
    ServerUnavailable,
    start_database,
    start_redis,
)
from tests.servers.account import documented_account, documented_url
from tests.servers.process import Process, free_port, new_folder

ROOT = Path(__file__).parents[2]
ACL = ROOT / "deploy" / "redis.acl"

pytestmark = pytest.mark.server


@dataclass
class Service:
    """The example service, its database, and a client of the service."""

    mysql: DatabaseServer
    redis: RedisServer
    client: httpx.Client
    reader_url: str

    def commit(self, sql: str) -> str:
        """Run a statement; the GTIDs that tell of its commit."""
        with self.mysql.connect("helpdesk") as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return commit_token(connection)


@pytest.fixture(scope="module", params=[Flavour.MYSQL, Flavour.MARIADB], ids=str)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """Three tickets, the daemon with a change feed, and the service with the readers' user."""
    try:
        mysql = start_database(request.param)
        redis = start_redis(options=["--aclfile", str(ACL)])
    except ServerUnavailable as problem:
        missing(problem)
    with mysql, redis:
        redis.credentials = "projector:change-me-writer@"
        _fill(mysql)
        port = free_port()
        daemon = _start(["-m", "projector", "run"], _settings(mysql, redis))
        reader = f"redis://reader:change-me-reader@{redis.host}:{redis.port}/1"
        api = [*_UVICORN, "--port", str(port)]
        server = _start(api, {"TICKETS_REDIS_URL": reader})
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
                _wait(lambda: _answers(client), lambda: daemon.log_tail() + server.log_tail())
                yield Service(mysql, redis, client, reader)
        finally:
            server.discard()
            daemon.discard()


def test_the_service_gives_tickets_as_the_model_describes_them(service: Service) -> None:
    """One ticket by id, a missing one as 404, all of them page by page."""
    assert service.client.get("/tickets/1").json()["requester_email"] == "ann@acme.example"
    assert service.client.get("/tickets/999").status_code == 404
    found, cursor = [], 0
    while True:
        page = service.client.get("/tickets", params={"cursor": cursor, "count": 2}).json()
        found += [ticket["id"] for ticket in page["tickets"]]
        if (cursor := page["cursor"]) == 0:
            break
    assert sorted(found) == [1, 2, 3]
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]
    assert "requester_email" in schemas["TicketDocument"]["properties"]


def test_the_service_lists_tickets_by_value(service: Service) -> None:
    """With the readers' user: values with their counts, pages by cursor, masked addresses in any
    spelling; what is not there is 404, a made-up cursor 400."""
    get = service.client.get
    [(status, count)] = get("/lists/by_status").json().items()
    whole = get(f"/lists/by_status/{status.upper()}").json()
    assert (whole["total"], whole["cursor"]) == (count, None)
    found: list[int] = []
    query: dict[str, str | int] = {"count": 1}
    while query.get("cursor", "") is not None:
        page = get(f"/lists/by_status/{status}", params=query).json()
        found += [ticket["id"] for ticket in page["tickets"]]
        query["cursor"] = page["cursor"]
    assert found == [ticket["id"] for ticket in whole["tickets"]]
    assert len(found) == count > 1
    mine = get("/lists/by_requester_email/ANN@acme.example").json()["tickets"]
    assert {ticket["requester_email"] for ticket in mine} == {"ann@acme.example"}
    department = mine[0]["department_id"]
    assert get(f"/lists/by_department_status/{department}/{status}").json()["total"] > 0
    assert get("/lists/by_nothing").status_code == 404
    assert get(f"/lists/by_status/{status}", params={"cursor": "x"}).status_code == 400


def test_a_writer_reads_its_own_write(service: Service) -> None:
    """With the commit's GTIDs every answer holds the commit, a hundred times in a row."""
    for number in range(100):
        title = f"edited {number}"
        gtids = service.commit(f"UPDATE tickets SET title = '{title}' WHERE id = 1")
        answer = service.client.get("/tickets/1", params={"after": gtids})
        assert answer.json()["title"] == title


def test_nobody_waits_for_ever(service: Service) -> None:
    """A commit that never comes is answered with 503, nonsense with 400."""
    mysql = service.mysql.flavour is Flavour.MYSQL
    never = "00000000-0000-0000-0000-000000000001:1-9" if mysql else "7-7-7"
    began = time.monotonic()
    answer = service.client.get("/tickets/1", params={"after": never, "wait_s": 0.2})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert time.monotonic() - began < 2
    assert service.client.get("/tickets/1", params={"after": "nonsense"}).status_code == 400


def test_browsers_hear_of_changes_and_go_on_where_they_broke_off(service: Service) -> None:
    """Events come for an update and a delete; with the last id nothing is missed or repeated."""
    with _listening(service) as events:
        first = next(events)
        assert first["event"] == "ready"
        service.commit("UPDATE tickets SET title = 'heard' WHERE id = 2")
        heard = next(events)
        assert json.loads(heard["data"]) == {"written": ["2"], "removed": []}
    service.commit("DELETE FROM tickets WHERE id = 3")
    with _listening(service, last_id=heard["id"]) as events:
        assert json.loads(next(events)["data"]) == {"written": [], "removed": ["3"]}
    assert service.client.get("/tickets/3").status_code == 404


def test_the_service_says_whether_tickets_are_fresh(service: Service) -> None:
    """With the readers' user it learns that a daemon is at work and not behind."""
    _wait(lambda: service.client.get("/health").status_code == 200, lambda: "never fresh")


def test_a_service_with_a_database_shows_its_writes(service: Service) -> None:
    """The Flask example: each answer to a write, and each read of the same client afterwards, holds
    it; the export has every ticket."""
    port = free_port()
    settings = {
        "TICKETS_REDIS_URL": service.reader_url,
        "TICKETS_DATABASE_URL": service.mysql.url("helpdesk"),
    }
    app = str(ROOT / "deploy" / "examples" / "tickets_flask.py")
    server = _start(["-m", "flask", "--app", app, "run", "--port", str(port)], settings)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            _wait(lambda: _answers(client), server.log_tail)
            for number in range(30):
                title = f"by flask {number}"
                answer = client.patch("/tickets/1", json={"title": title})
                assert answer.json()["title"] == title
                assert client.get("/tickets/1").json()["title"] == title
            assert client.get("/tickets/999").status_code == 404
            client.cookies.set("tickets_after", "nonsense")
            assert client.get("/tickets/1").status_code == 200
            lines = client.get("/tickets").text.splitlines()
            assert {json.loads(line)["id"] for line in lines} >= {1, 2}
    finally:
        server.discard()


def test_a_client_that_was_away_too_long_is_told_to_reload(service: Service) -> None:
    """An id from before the stream's first entry means that changes are gone."""
    service.commit("UPDATE tickets SET title = 'later' WHERE id = 2")
    with _listening(service, last_id="1-0") as events:
        assert next(events)["event"] == "reload"


_UVICORN = ["-m", "uvicorn", "--app-dir", str(ROOT / "deploy" / "examples"), "tickets_api:app"]


class _listening:
    """Server-sent events, read as a browser does."""

    def __init__(self, service: Service, last_id: str | None = None) -> None:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        self._stream = service.client.stream("GET", "/changes", headers=headers)

    def __enter__(self) -> Iterator[dict[str, str]]:
        return self._events(self._stream.__enter__())

    def __exit__(self, *_: object) -> None:
        self._stream.__exit__(None, None, None)

    @staticmethod
    def _events(answer: httpx.Response) -> Iterator[dict[str, str]]:
        event: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line and name:
                event[name] = value
            elif event:
                yield event
                event = {}


def _settings(mysql: DatabaseServer, redis: RedisServer) -> dict[str, object]:
    return {
        "mysql.url": documented_url(mysql, "helpdesk"),
        "redis.url": redis.url(),
        "http.port": 0,
        "change_feed_max_length": 1000,
        "projection": "schema.lists:tickets",
    }


def _start(arguments: list[str], settings: dict[str, object]) -> Process:
    """Start a program of ours; settings go by file to the daemon, by environment to the API."""
    folder = new_folder("example")
    command = ["/usr/bin/env", f"PYTHONPATH={ROOT}", "TICKETS_LIST_KEY=a key"]
    if "mysql.url" in settings:
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
        (folder / "projector.toml").write_text("".join(lines))
        arguments = [*arguments, "--config", str(folder / "projector.toml")]
    else:
        command += [f"{key}={value}" for key, value in settings.items()]
    process = Process([*command, sys.executable, *arguments], folder)
    process.start()
    return process


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/tickets/1").status_code == 200
    except httpx.TransportError:
        return False


def _wait(condition: Callable[[], bool], why: Callable[[], str], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


def _fill(mysql: DatabaseServer) -> None:
    mysql.create_database("helpdesk")
    engine = create_engine(mysql.url("helpdesk"))
    metadata.create_all(engine)
    engine.dispose()
    mysql.load_sql(
        "INSERT INTO organizations (id, name, domain) VALUES (1, 'Acme', 'acme.example');"
        "INSERT INTO departments (id, organization_id, name) VALUES (1, 1, 'Support');"
        "INSERT INTO users (id, department_id, email, full_name)"
        " VALUES (1, 1, 'ann@acme.example', 'Ann');"
        "INSERT INTO ticket_statuses (id, name) VALUES (1, 'open');"
        "INSERT INTO ticket_priorities (id, name, level) VALUES (1, 'low', 1);"
        "INSERT INTO tickets (id, title, status_id, priority_id, department_id, requester_id)"
        " VALUES (1, 'one', 1, 1, 1, 1), (2, 'two', 1, 1, 1, 1), (3, 'three', 1, 1, 1, 1)",
        "helpdesk",
    )
    documented_account(mysql, "helpdesk")
