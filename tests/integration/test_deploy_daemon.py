"""The daemon as deploy/ runs it: secrets by file, least privilege, the shipped settings."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from schema.tables import metadata
from tests.fix_servers import missing
from tests.servers import (
    DatabaseServer,
    Flavour,
    RedisKind,
    RedisServer,
    ServerUnavailable,
    start_database,
    start_redis,
)

DEPLOY = Path(__file__).parents[2] / "deploy"
SAMPLE = """
INSERT INTO organizations (id, name, domain) VALUES (1, 'Acme', 'acme.example');
INSERT INTO departments (id, organization_id, name) VALUES (1, 1, 'Support');
INSERT INTO users (id, department_id, email, full_name) VALUES (1, 1, 'ann@acme.example', 'Ann');
INSERT INTO ticket_statuses (id, name) VALUES (1, 'open');
INSERT INTO ticket_priorities (id, name, level) VALUES (1, 'low', 1);
INSERT INTO tickets (id, title, status_id, priority_id, department_id, requester_id)
  VALUES (1, 'first', 1, 1, 1, 1), (2, 'second', 1, 1, 1, 1);
INSERT INTO tags (id, name) VALUES (1, 'new');
INSERT INTO ticket_tags (ticket_id, tag_id) VALUES (1, 1);
"""

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=[Flavour.MYSQL, Flavour.MARIADB], ids=str)
def granted(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A helpdesk with two tickets, and the user that the shipped grants make."""
    try:
        server = start_database(request.param)
    except ServerUnavailable as problem:
        missing(problem)
    with server:
        server.create_database("helpdesk")
        engine = create_engine(server.url("helpdesk"))
        metadata.create_all(engine)
        engine.dispose()
        server.load_sql(SAMPLE, "helpdesk")
        server.load_sql(DEPLOY / f"grants-{_brand(request.param)}.sql", "helpdesk")
        yield server


@pytest.fixture(params=[RedisKind.REDIS, RedisKind.VALKEY], ids=str)
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server with the shipped ACL; its client is an administrator, who reads the refusals."""
    users = tmp_path / "users.acl"
    shipped = (DEPLOY / "redis.acl").read_text()
    users.write_text(shipped + "user administrator on >secret ~* &* +@all\n")
    try:
        server = start_redis(request.param, options=["--aclfile", str(users)])
    except ServerUnavailable as problem:
        missing(problem)
    with server:
        server.credentials = "administrator:secret@"
        yield server


@pytest.fixture
def environment(granted: DatabaseServer, guarded: RedisServer, tmp_path: Path) -> dict[str, str]:
    """The daemon's environment: a folder of secrets, laid out as Kubernetes mounts it."""
    data = tmp_path / "secrets" / "..2026_01_01"
    data.mkdir(parents=True)
    (data.parent / "..data").symlink_to(data.name)
    mysql = granted.url("helpdesk", user="projector", password="change-me")
    redis = f"redis://projector:change-me-writer@{guarded.host}:{guarded.port}/1"
    for name, secret in {"PROJECTOR_MYSQL__URL": mysql, "PROJECTOR_REDIS__URL": redis}.items():
        (data / name).write_text(f"{secret}\n")
        (data.parent / name).symlink_to(f"..data/{name}")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PROJECTOR_")}
    return {
        **own,
        "PROJECTOR_SECRETS_DIR": str(data.parent),
        "PROJECTOR_CONFIG": str(DEPLOY / "kubernetes" / "projector.toml"),
        "PROJECTOR_HTTP__PORT": "0",
        "PROJECTOR_CHANGE_FEED_MAX_LENGTH": "1000",
    }


def test_the_daemon_needs_no_more_than_the_shipped_grants_and_acl(
    environment: dict[str, str], granted: DatabaseServer, guarded: RedisServer
) -> None:
    """It builds, goes on from its checkpoint and verifies, and Redis refuses it nothing."""
    _run(environment, "run", "--until-current")
    stored = guarded.client().hgetall("tickets")
    assert {key: json.loads(value)["title"] for key, value in stored.items()} == {
        b"1": "first",
        b"2": "second",
    }
    granted.execute("UPDATE tickets SET title = 'renamed' WHERE id = 1", database="helpdesk")
    granted.execute("DELETE FROM tickets WHERE id = 2", database="helpdesk")
    try:
        _run(environment, "run", "--until-current")
        stored = guarded.client().hgetall("tickets")
        assert [json.loads(value)["title"] for value in stored.values()] == ["renamed"]
        _run(environment, "verify")
        _run(environment, "check")
        _run(environment, "status")
        assert _refused(guarded) == []
    finally:
        granted.execute("DELETE FROM tickets", database="helpdesk")
        granted.execute("DELETE FROM tags", database="helpdesk")
        granted.load_sql(SAMPLE[SAMPLE.index("INSERT INTO tickets") :], "helpdesk")


def test_no_command_of_the_acl_is_there_for_nothing(
    environment: dict[str, str], guarded: RedisServer
) -> None:
    """Each command that the projector's user may give stands in the program that gives it."""
    line = (DEPLOY / "redis.acl").read_text().splitlines()[1]
    allowed = {word[1:].split("|")[0] for word in line.split() if word.startswith("+")}
    by_driver = {"auth", "hello", "ping", "select", "client"}
    root = DEPLOY.parent / "projector"
    program = "\n".join(path.read_text() for path in root.glob("sink_redis/*.py"))
    unused = {name for name in allowed - by_driver if name not in program.lower()}
    assert unused == set()


def _run(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "projector", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "change-me" not in said


def _refused(server: RedisServer) -> list[tuple[str, str]]:
    """What the ACL refused, by the server's own log, but for two questions that may be refused.

    The driver tells its version (CLIENT SETINFO, which Redis 7.0 does not know), and the sink asks
    for the largest value (CONFIG GET, which would show passwords too).
    """
    asked = [(entry["reason"], entry["object"]) for entry in server.client().acl_log()]
    return [each for each in asked if each[1] not in ("client|setinfo", "config|get")]


def _brand(flavour: Flavour) -> str:
    return "mysql" if flavour is Flavour.MYSQL else "mariadb"
