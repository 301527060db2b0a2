"""Game day: for each alert, the fault that should raise it does, and the remedy clears it.

A real Prometheus scrapes a real daemon once a second, with the shipped rules. Only their patience
is shortened: minutes become seconds, and gigabytes of a log megabytes. Each fault is made as an
accident makes it.
"""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest
import yaml
from sqlalchemy import create_engine

from schema.tables import metadata
from tests import tools
from tests.fix_servers import missing
from tests.postgres.workload import seed
from tests.postgres.world import HELPDESK
from tests.servers import (
    DatabaseServer,
    Flavour,
    PostgresServer,
    RedisServer,
    ServerUnavailable,
    TcpProxy,
    start_database,
    start_postgres,
    start_redis,
)
from tests.servers.account import documented_account, documented_url
from tests.servers.process import Process, free_port, new_folder
from tests.servers.role import helpdesk_role, role_url
from tests.tools import ensure_tools

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
TICKETS = 12

pytestmark = [pytest.mark.server, pytest.mark.gameday, pytest.mark.timeout(180)]


@dataclass(kw_only=True)
class Deployment:
    """One running deployment and its alerts. `settings`: where the database is, through the
    proxy."""

    redis: RedisServer
    to_database: TcpProxy
    to_redis: TcpProxy
    folder: Path
    documents: int
    settings: dict[str, Any]
    prometheus_port: int = field(default_factory=free_port)
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    daemons: dict[int, Process] = field(default_factory=dict)

    def start_daemon(self, which: int = 0, redis_url: str | None = None) -> None:
        """Start the first or the second projector; returns at once."""
        settings = {
            "fanout_max_documents": 2,
            **self.settings,
            "redis.url": redis_url or f"redis://127.0.0.1:{self.to_redis.port}/1",
            "http.port": self.ports[which],
            "log.format": "json",
            "reconcile.scrub_interval_s": 4,
            "http.live_timeout_s": 150,
        }
        folder = self.folder / f"daemon-{which}"
        folder.mkdir(exist_ok=True)
        config = folder / "projector.toml"
        config.write_text("".join(f"{key} = {json.dumps(it)}\n" for key, it in settings.items()))
        command = ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "projector"]
        command += ["run", "--config", str(config)]
        self.daemons[which] = Process(command, folder)
        self.daemons[which].start()

    def command(self, *words: str) -> None:
        """Return a command with the first daemon's settings, as an operator does."""
        config = self.folder / "daemon-0" / "projector.toml"
        subprocess.run(
            [sys.executable, "-m", "projector", *words, "--config", config],
            check=True, capture_output=True, cwd=ROOT,
        )  # fmt: skip

    def kill_daemon(self, which: int = 0) -> None:
        """SIGKILL, as the kernel does it to the greedy."""
        self.daemons[which].kill()

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        answer = _get(f"http://127.0.0.1:{self.prometheus_port}/api/v1/alerts")
        alerts = json.loads(answer)["data"]["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def metric(self, name: str) -> float | None:
        """The first value of a metric of the first daemon; None while it does not answer."""
        try:
            text = _get(f"http://127.0.0.1:{self.ports[0]}/metrics")
        except OSError:
            return None
        found = re.search(rf"(?m)^{name}(?:{{.*}})? (.*)$", text)
        return float(found[1]) if found else None

    def expect(self, *alerts: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until these alerts fire; `meanwhile` is done again and again."""

        def do_fire() -> bool:
            meanwhile()
            return set(alerts) <= self.firing()

        self._wait(do_fire, f"{alerts} to fire")

    def expect_only(self, *alerts: str, for_s: float = 12) -> None:
        """Nothing but these fires, for as long as all others would have had the time to."""
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            assert self.firing() <= set(alerts), self.firing()
            time.sleep(0.5)

    def expect_calm(self, *alerts: str) -> None:
        """Wait until none of these alerts fires; without any named, none at all."""
        self._wait(
            lambda: not (self.firing() & set(alerts) if alerts else self.firing()),
            f"{alerts or 'all alerts'} to clear",
        )

    def expect_leader(self) -> None:
        """Wait until the first daemon leads and has caught up."""
        self._wait(
            lambda: (
                self.metric("projector_is_leader") == 1
                and self.metric("projector_lag_seconds") == 0
                and self.metric("projector_documents") == self.documents
            ),
            "a leader that has caught up",
        )

    def expect_verified(self) -> None:
        """Wait until a background pass has ended in this life of the first daemon."""
        name = "projector_verified_timestamp_seconds"
        self._wait(lambda: (self.metric(name) or 0) > 0, "a verification")

    def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                log = self.daemons[0].log_tail() if self.daemons else ""
                raise AssertionError(f"waited for {what}; firing: {self.firing()}\n{log}")
            time.sleep(0.2)


@dataclass(kw_only=True)
class Game(Deployment):
    """One that reads MySQL, and MySQL's faults."""

    mysql: DatabaseServer

    def sql(self, *statements: str) -> None:
        """Run statements as the application."""
        for statement in statements:
            self.mysql.execute(statement, database="helpdesk")

    def kill_readers(self) -> None:
        """KILL who reads the binlog, as administrators do to what they do not know."""
        readers = self.mysql.execute(
            "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        )
        for (number,) in readers:
            with suppress(pymysql.err.OperationalError):  # ended by itself
                self.mysql.execute(f"KILL {number}")

    @contextmanager
    def waiting_migration(self) -> Iterator[None]:
        """An ALTER waits behind somebody's open transaction, and every reader behind the ALTER."""
        with self.mysql.connect("helpdesk") as forgotten, self.mysql.connect("helpdesk") as alter:
            with forgotten.cursor() as cursor:
                cursor.execute("BEGIN")
                cursor.execute("SELECT * FROM tags")
            migration = threading.Thread(target=_alter, args=(alter,))
            migration.start()
            try:
                yield
            finally:
                self.sql(f"KILL QUERY {alter.thread_id()}")
                migration.join()


@dataclass(kw_only=True)
class PostgresGame(Deployment):
    """One that reads PostgreSQL, and PostgreSQL's faults."""

    postgres: PostgresServer

    @contextmanager
    def forgotten_transaction(self, log_mib: int) -> Iterator[None]:
        """Somebody's transaction stays open while the server writes so much of its log."""
        with self.postgres.connect("helpdesk") as forgotten:
            forgotten.execute("BEGIN")
            forgotten.execute("INSERT INTO tags (id, name) VALUES (1000, 'forgotten')")
            self.postgres.execute("CHECKPOINT")
            for _ in range(log_mib):
                self.postgres.execute(
                    "SELECT pg_logical_emit_message(false, 'game', repeat('x', 1 << 20))",
                    database="helpdesk",
                )
            yield
            forgotten.execute("ROLLBACK")
        self.postgres.execute("CHECKPOINT")  # so that the log says which transactions are left

    def limit_slot(self, mib: int) -> None:
        """Set how much of its log the server keeps for a slot; -1: all of it."""
        self.postgres.execute(f"ALTER SYSTEM SET max_slot_wal_keep_size = {mib}")
        self.postgres.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def deployment() -> Iterator[Game]:
    """MySQL, Redis, Prometheus and one projector that leads."""
    prometheus = ensure_tools().prometheus
    if not isinstance(prometheus, tuple):
        tools.missing(prometheus)
    try:
        mysql, redis = start_database(Flavour.MYSQL), start_redis()
    except ServerUnavailable as problem:
        missing(problem)
    to_mysql, to_redis = (TcpProxy("127.0.0.1", server.port) for server in (mysql, redis))
    game = Game(
        mysql=mysql, redis=redis, to_database=to_mysql, to_redis=to_redis,
        folder=new_folder("gameday"), documents=TICKETS,
        settings={
            "mysql.url": _through(to_mysql, documented_url(mysql, "helpdesk"), mysql.port),
            "mysql.read_timeout_s": 90,
        },
    )  # fmt: skip
    with mysql, redis, to_mysql, to_redis:
        _fill(mysql)
        with _watched(game, prometheus):
            yield game


@pytest.fixture(scope="module")
def postgres_deployment() -> Iterator[PostgresGame]:
    """The same with PostgreSQL."""
    prometheus = ensure_tools().prometheus
    if not isinstance(prometheus, tuple):
        tools.missing(prometheus)
    try:
        postgres, redis = start_postgres(), start_redis()
    except ServerUnavailable as problem:
        missing(problem)
    to_postgres, to_redis = (TcpProxy("127.0.0.1", server.port) for server in (postgres, redis))
    with postgres, redis, to_postgres, to_redis:
        postgres.create_database("helpdesk")
        postgres.load_sql(HELPDESK, "helpdesk")
        with postgres.connect("helpdesk") as connection:
            seed(connection)
            [[tickets]] = connection.execute("SELECT count(*) FROM tickets").fetchall()
        helpdesk_role(postgres, "helpdesk")
        game = PostgresGame(
            postgres=postgres, redis=redis, to_database=to_postgres, to_redis=to_redis,
            folder=new_folder("gameday"), documents=tickets,
            settings={
                "source.url": _through(to_postgres, role_url(postgres, "helpdesk"), postgres.port),
                "source.confirm_after_s": 1,
            },
        )  # fmt: skip
        with _watched(game, prometheus):
            yield game


def _through(proxy: TcpProxy, url: str, port: int) -> str:
    return url.replace(f":{port}/", f":{proxy.port}/")


@contextmanager
def _watched(game: Deployment, prometheus: tuple[str, ...]) -> Iterator[None]:
    watcher = Process(_prometheus(prometheus, game), game.folder)
    watcher.start()
    game.start_daemon()
    try:
        yield
    finally:
        for process in [watcher, *game.daemons.values()]:
            process.kill()


@pytest.fixture
def game(deployment: Game) -> Game:
    """The deployment in good health: one leader, caught up, no alert."""
    _expect_health(deployment)
    return deployment


@pytest.fixture
def postgres_game(postgres_deployment: PostgresGame) -> PostgresGame:
    """The same with PostgreSQL."""
    _expect_health(postgres_deployment)
    return postgres_deployment


def _expect_health(game: Deployment) -> None:
    if not game.daemons[0].running:
        game.start_daemon()
    game._wait(lambda: _answers(game.prometheus_port), "Prometheus")
    game.expect_leader()
    game.expect_calm()


def test_a_dead_projector_is_missed_until_it_is_started_again(game: Game) -> None:
    """ProjectorDown: `kill -9`, then a start."""
    game.kill_daemon()
    game.expect("ProjectorDown")
    game.start_daemon()
    game.expect_calm("ProjectorDown")


def test_a_lease_that_nobody_serves_is_noticed(game: Game) -> None:
    """ProjectorNoLeader: the lease is somebody else's, until that somebody is gone."""
    client = game.redis.client()
    client.set("{tickets}:lease", "a process that nobody knows", xx=True)
    game.expect("ProjectorNoLeader")
    client.delete("{tickets}:lease")
    game.expect_calm("ProjectorNoLeader")


def test_two_leaders_are_noticed_while_redis_is_moved(game: Game) -> None:
    """ProjectorSeveralLeaders: a second projector writes to another Redis, then the move ends."""
    with start_redis() as other:
        game.start_daemon(1, other.url())
        game.expect("ProjectorSeveralLeaders")
        game.daemons[1].terminate()
        game.expect_calm("ProjectorSeveralLeaders")


def test_a_projector_that_starts_again_and_again_is_noticed(game: Game) -> None:
    """ProjectorRestarting: five lives in a row, then a long one."""
    for _ in range(5):
        before = game.metric("process_start_time_seconds")
        game.kill_daemon()
        game.start_daemon()
        game._wait(
            lambda before=before: game.metric("process_start_time_seconds") not in (None, before),  # type: ignore[misc]
            "the next life",
        )
        time.sleep(1.1)  # so that a scrape sees this life
    game.expect("ProjectorRestarting")
    game.expect_calm("ProjectorRestarting")


def test_a_lost_mysql_is_noticed_until_it_is_back(game: Game) -> None:
    """ProjectorMysqlDown, and nothing else: one cause, one page, also afterwards."""
    game.to_database.cut()
    game.expect("ProjectorMysqlDown")
    game.expect_only("ProjectorMysqlDown")
    game.to_database.heal()
    game.expect_calm("ProjectorMysqlDown")
    game.expect_only()


def test_connections_that_somebody_kills_again_and_again_are_noticed(game: Game) -> None:
    """ProjectorReconnecting, ProjectorErrors: an administrator's KILLs, until they end."""
    game.expect("ProjectorReconnecting", "ProjectorErrors", meanwhile=game.kill_readers)
    game.expect_calm("ProjectorReconnecting", "ProjectorErrors")


def test_a_lost_redis_is_noticed_until_it_is_back(game: Game) -> None:
    """ProjectorRedisDown, and nothing else: one cause, one page, also afterwards."""
    game.to_redis.cut()
    game.expect("ProjectorRedisDown")
    game.expect_only("ProjectorRedisDown")
    game.to_redis.heal()
    game.expect_calm("ProjectorRedisDown")
    game.expect_only()


def test_a_waiting_migration_makes_documents_old(game: Game) -> None:
    """ProjectorLagHigh, ProjectorLagCritical while it waits; then ProjectorLatencyHigh."""
    with game.waiting_migration():
        game.sql("UPDATE tickets SET title = CONCAT(title, '!') WHERE id = 1")
        game.expect("ProjectorLagHigh", "ProjectorLagCritical")
    game.expect("ProjectorLatencyHigh")
    game.expect_calm("ProjectorLagHigh", "ProjectorLagCritical", "ProjectorLatencyHigh")


def test_a_background_pass_that_does_not_end_is_noticed(game: Game) -> None:
    """ProjectorNotVerified: a waiting migration holds the scrub up."""
    game.expect_verified()
    with game.waiting_migration():
        game.expect("ProjectorNotVerified")
    game.expect_calm("ProjectorNotVerified")


def test_work_that_does_not_get_on_is_noticed(game: Game) -> None:
    """ProjectorResyncStuck, ProjectorDebtsOld: a resync and wide work meet a migration."""
    with game.waiting_migration():
        game.command("resync", "--no-wait")
        game.sql("UPDATE ticket_statuses SET name = CONCAT(name, '.') WHERE id = 1")
        game.expect("ProjectorDebtsOld", "ProjectorResyncStuck")
    game.expect_calm("ProjectorDebtsOld", "ProjectorResyncStuck")


def test_a_redis_that_fills_up_is_noticed_before_it_refuses(game: Game) -> None:
    """ProjectorRedisMemoryHigh: little room is left, then `maxmemory` is raised."""
    client = game.redis.client()
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.1))
    game.expect("ProjectorRedisMemoryHigh")
    client.config_set("maxmemory", 1 << 30)
    game.expect_calm("ProjectorRedisMemoryHigh")
    client.config_set("maxmemory", 0)


def test_a_mass_delete_is_noticed(game: Game) -> None:
    """ProjectorDocumentsLost: most tickets go, then they are put back."""
    game.sql("CREATE TABLE saved AS SELECT * FROM tickets", "DELETE FROM tickets WHERE id > 3")
    game.expect("ProjectorDocumentsLost")
    game.sql("INSERT INTO tickets SELECT * FROM saved WHERE id > 3", "DROP TABLE saved")
    game.expect_calm("ProjectorDocumentsLost")


def test_a_document_altered_by_hand_is_found_and_mended(game: Game) -> None:
    """ProjectorScrubFound: the background pass finds it, mends it, and tells."""
    game.redis.client().hset("tickets", "1", b'{"altered": true}')
    game.expect("ProjectorScrubFound")
    assert b"altered" not in game.redis.client().hget("tickets", "1")
    game.expect_calm("ProjectorScrubFound")


def test_differences_of_the_last_verification_are_shown_until_the_next(game: Game) -> None:
    """ProjectorDifferences: one pass finds an altered document, the next is clean."""
    game.redis.client().hset("tickets", "1", b'{"altered": true}')
    game.expect("ProjectorDifferences")
    game.expect_calm("ProjectorDifferences")


def test_a_document_that_cannot_be_made_is_noticed_until_its_row_is_mended(game: Game) -> None:
    """ProjectorQuarantine: a date that does not exist, then one that does."""
    before = game.mysql.execute("SELECT created_at FROM tickets WHERE id = 2", database="helpdesk")
    with game.mysql.connect("helpdesk") as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("UPDATE tickets SET created_at = '0000-00-00 00:00:00' WHERE id = 2")
    game.expect("ProjectorQuarantine")
    game.mysql.execute(
        "UPDATE tickets SET created_at = %s WHERE id = 2", before[0][0], database="helpdesk"
    )
    game.expect_calm("ProjectorQuarantine")


def test_a_recovery_is_told(game: Game) -> None:
    """ProjectorRecovered: the hash is deleted and comes back by itself."""
    game.redis.client().delete("tickets")
    game.expect("ProjectorRecovered")
    game.expect_leader()
    game.expect_calm("ProjectorRecovered")


def test_a_lost_postgres_is_noticed_until_it_is_back(postgres_game: PostgresGame) -> None:
    """ProjectorPostgresDown, and nothing else: one cause, one page, also afterwards."""
    game = postgres_game
    game.postgres.stop()
    game.expect("ProjectorPostgresDown")
    game.expect_only("ProjectorPostgresDown")
    game.postgres.start()
    game.expect_calm("ProjectorPostgresDown")
    game.expect_only()


def test_a_postgres_slot_that_fills_the_disk_is_noticed(postgres_game: PostgresGame) -> None:
    """ProjectorSlotGrowing, ProjectorSlotLarge: a forgotten transaction, until it ends."""
    game = postgres_game
    with game.forgotten_transaction(log_mib=25):
        game.expect("ProjectorSlotGrowing", "ProjectorSlotLarge")
    game.expect_calm("ProjectorSlotGrowing", "ProjectorSlotLarge")


def test_a_postgres_slot_near_its_limit_is_noticed(postgres_game: PostgresGame) -> None:
    """ProjectorSlotAtRisk: a forgotten transaction where the server sets a limit."""
    game = postgres_game
    game.limit_slot(64)
    with game.forgotten_transaction(log_mib=45):
        game.expect("ProjectorSlotAtRisk")
    game.expect_calm("ProjectorSlotAtRisk")
    game.limit_slot(-1)


def test_every_alert_has_its_game() -> None:
    """Each alert of the shipped rules is expected to fire, and to clear, in a game above."""
    alerts = {rule["alert"] for rule in _rules()["groups"][0]["rules"]}
    text = Path(__file__).read_text("utf-8")
    raised = " ".join(re.findall(r"game\.expect\(([^)]*)\)", text))
    cleared = " ".join(re.findall(r"game\.expect_calm\(([^)]*)\)", text))
    assert set(re.findall(r"Projector\w+", raised)) == alerts
    assert set(re.findall(r"Projector\w+", cleared)) == alerts


def _rules() -> dict[str, Any]:
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text())
    return rules


def _hurried() -> dict[str, Any]:
    """The shipped rules with minutes as seconds; what they compare is untouched."""
    rules = _rules()
    for rule in rules["groups"][0]["rules"]:
        expression = re.sub(r"\[\d+[mhd]\]", "[20s]", rule["expr"])
        expression = re.sub(r"offset \d+[mhd]", "offset 20s", expression)
        expression = expression.replace("1024^3", "1024^2")  # of the log: MiB for GiB
        expression = re.sub(r"(projector_lag_seconds > )(\d+)", _tenth, expression)
        rule["expr"] = expression.replace("2.5 * 86400", "12")
        if "for" in rule:
            rule["for"] = "2s"
    return rules


def _tenth(found: re.Match[str]) -> str:
    return f"{found[1]}{int(found[2]) / 30:g}"


def _prometheus(command: tuple[str, ...], game: Deployment) -> list[str]:
    (game.folder / "rules.yaml").write_text(json.dumps(_hurried()))
    targets = [f"127.0.0.1:{port}" for port in game.ports]
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "projector", "static_configs": [{"targets": targets}]}],
    }
    (game.folder / "prometheus.yml").write_text(json.dumps(settings))
    return [
        *command,
        f"--config.file={game.folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={game.folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{game.prometheus_port}",
    ]


def _fill(mysql: DatabaseServer) -> None:
    mysql.create_database("helpdesk")
    engine = create_engine(mysql.url("helpdesk"))
    metadata.create_all(engine)
    engine.dispose()
    rows = ", ".join(f"({i}, 'ticket {i}', 1, 1, 1, 1)" for i in range(1, TICKETS + 1))
    mysql.load_sql(
        "INSERT INTO organizations (id, name, domain) VALUES (1, 'Acme', 'acme.example');"
        "INSERT INTO departments (id, organization_id, name) VALUES (1, 1, 'Support');"
        "INSERT INTO users (id, department_id, email, full_name) VALUES (1, 1, 'a@b.example', 'A');"
        "INSERT INTO ticket_statuses (id, name) VALUES (1, 'open');"
        "INSERT INTO ticket_priorities (id, name, level) VALUES (1, 'low', 1);"
        "INSERT INTO tickets (id, title, status_id, priority_id, department_id, requester_id)"
        f" VALUES {rows}",
        "helpdesk",
    )
    documented_account(mysql, "helpdesk")


def _alter(connection: "pymysql.Connection[Any]") -> None:
    interrupted = pytest.raises(pymysql.err.OperationalError, match="interrupted")
    with connection.cursor() as cursor, interrupted:
        cursor.execute("ALTER TABLE tags ADD COLUMN colour INT")


def _answers(port: int) -> bool:
    try:
        _get(f"http://127.0.0.1:{port}/-/ready")
    except OSError:
        return False
    return True


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
    return text
