"""The main job: what is committed stands in Redis, complete, whatever happens meanwhile."""

import contextlib
import json
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schema.document import TicketDocument
from tests.acceptance.worlds import HelpdeskWorld
from tests.oracle import assert_hash_equals_database
from tests.projector_process import Projector, await_checkpoint, wait_for
from tests.servers import DatabaseServer, Flavour, RedisServer
from tests.servers.proxy import TcpProxy
from tests.workload import Workload

pytestmark = pytest.mark.server


@pytest.fixture
def world(
    database: DatabaseServer, fresh_database: str, fresh_redis: RedisServer
) -> Iterator[HelpdeskWorld]:
    """A world on MariaDB, then one on MySQL."""
    with HelpdeskWorld(database, fresh_database, fresh_redis) as made:
        yield made


def test_the_hash_is_built_and_follows(world: HelpdeskWorld) -> None:
    """A build, then changes of every kind, each in the document moments later."""
    world.daemon.start()
    world.check()
    value = world.redis.hget("tickets", world.one("SELECT MIN(id) FROM tickets"))
    assert TicketDocument.model_validate_json(value).title
    world.execute("UPDATE ticket_statuses SET name = CONCAT(name, '!')")
    world.execute("UPDATE departments SET organization_id = (SELECT MIN(id) FROM organizations)")
    world.execute("UPDATE ticket_comments SET ticket_id = (SELECT MIN(id) FROM tickets)")
    world.execute("UPDATE tickets SET title = 'Ünï😀\"\\\\', custom_fields = '{\"a\": [1, null]}'")
    world.check()


def test_a_random_workload_ends_equal(world: HelpdeskWorld) -> None:
    """Four connections, 300 transactions a second over all twelve tables, at server defaults."""
    world.daemon.start()
    workload = Workload(
        lambda: world.database.connect(world.name), seed=11, cascades=False, rate=300
    )
    workload.run(30)
    assert workload.stats["transactions"] > 1000
    world.check()


def test_kill_9_at_any_moment_loses_nothing(world: HelpdeskWorld) -> None:
    """A workload goes on while the daemon is killed and started again and again."""
    workload = Workload(
        lambda: world.database.connect(world.name), seed=5, cascades=False, rate=200
    )
    moments = random.Random(3)
    workload.start()
    try:
        for _ in range(6):
            world.daemon.start()
            time.sleep(moments.uniform(0.3, 2.5))
            world.daemon.kill()
    finally:
        workload.stop()
    world.daemon.start()
    world.check()


def test_sigterm_ends_cleanly_within_two_seconds(world: HelpdeskWorld) -> None:
    """Exit status 0, the lease given up, the checkpoint where the documents are."""
    world.daemon.start()
    world.settle()
    began = time.monotonic()
    assert world.daemon.stop(timeout_s=5) == 0
    assert time.monotonic() - began < 2
    assert world.redis.get("{tickets}:lease") is None
    world.execute("UPDATE tickets SET title = 'while down'")
    world.daemon.start()
    world.check()


@pytest.mark.parametrize("silent", ["mysql", "redis"])
def test_sigterm_ends_as_soon_where_a_server_is_silent(
    world: HelpdeskWorld, fresh_redis: RedisServer, silent: str
) -> None:
    """Before anything was read, and in the midst; a lease that can be given up is given up."""
    with (
        TcpProxy(world.database.host, world.database.port) as to_mysql,
        TcpProxy(fresh_redis.host, fresh_redis.port) as to_redis,
    ):
        silenced = {"mysql": to_mysql, "redis": to_redis}[silent]
        urls = world.daemon.environment
        for name, server, proxy in (
            ("MYSQL", world.database, to_mysql), ("REDIS", fresh_redis, to_redis)
        ):  # fmt: skip
            key = f"PROJECTOR_{name}__URL"
            urls[key] = urls[key].replace(f":{server.port}/", f":{proxy.port}/")
        world.daemon.start()
        world.check()
        silenced.stall()
        world.execute("UPDATE tickets SET title = 'unheard'")
        _ends_soon(world.daemon)
        assert silent == "redis" or world.redis.get("{tickets}:lease") is None
        accepted = silenced.connections
        world.daemon.start()
        wait_for(lambda: silenced.connections > accepted, world.daemon)
        _ends_soon(world.daemon)
        silenced.heal()
        world.daemon.start()
        world.check()


def _ends_soon(daemon: Projector) -> None:
    began = time.monotonic()
    assert daemon.stop(timeout_s=60) == 0
    assert time.monotonic() - began < 2


def test_a_wrong_word_is_answered_with_one_line(world: HelpdeskWorld) -> None:
    """Parameters that the driver does not know, a projection that is not set: exit 2."""
    assert world.daemon.run("status", "--projection", "nope").returncode == 2
    world.daemon.environment["PROJECTOR_MYSQL__URL"] += "?nonsense=1"
    for words in (["run"], ["scaffold", "tickets"], ["explain"]):
        said = world.daemon.run(*words)
        assert (said.returncode, said.stderr.count("\n")) == (2, 1), said.stderr
        assert "nonsense" in said.stderr


def test_status_tells_lag_and_the_last_error(world: HelpdeskWorld) -> None:
    """As the daemon sees them, also while it has no lease because MySQL is away."""
    with TcpProxy(world.database.host, world.database.port) as to_mysql:
        urls = world.daemon.environment
        urls["PROJECTOR_MYSQL__URL"] = urls["PROJECTOR_MYSQL__URL"].replace(
            f":{world.database.port}/", f":{to_mysql.port}/"
        )
        world.daemon.start()
        world.settle()
        wait_for(lambda: _status(world)["lag_s"] == 0, world.daemon)
        assert _status(world)["last_error"] is None
        threads = len(os.listdir(_proc(world, "task")))
        for _ in range(3):
            to_mysql.cut()
            wait_for(lambda: "MySQL" in (_status(world)["last_error"] or ""), world.daemon)
            to_mysql.heal()
            world.settle()
        wait_for(lambda: _status(world)["lag_s"] == 0, world.daemon)
        # Each attempt's keeper of the lease has ended with it.
        wait_for(lambda: len(os.listdir(_proc(world, "task"))) <= threads, world.daemon)


def _status(world: HelpdeskWorld) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(world.daemon.run("status", "--json").stdout)
    return said


def _proc(world: HelpdeskWorld, name: str) -> str:
    assert world.daemon.process is not None
    return f"/proc/{world.daemon.process.pid}/{name}"


def test_an_idle_daemon_costs_next_to_nothing(world: HelpdeskWorld) -> None:
    """Ten seconds of nothing: at most the clock asked of the database; of Redis the lease, requests
    and memory; all threads together wake 20 times a second, and take under one percent of a core.

    A virtual machine that was idle for a tenth of a second can take 20 to 100 times as long for
    what follows (its processor sleeps, and others have used its caches). The share of the core is
    that of a machine where a little work of 0.05 ms then takes up to 0.2 ms, and grows with it.
    """
    world.daemon.start()
    world.settle()
    time.sleep(2)  # what follows a start: the first background chunks
    world.redis.config_resetstat()
    before = _selects(world), _cpu_s(world.daemon), _wakes(world)
    work_s = _ten_seconds_of_little()
    after = _selects(world), _cpu_s(world.daemon), _wakes(world)
    stats = world.redis.info("commandstats")
    asked = {name.removeprefix("cmdstat_") for name in stats}
    assert stats.get("cmdstat_set", {"calls": 0})["calls"] <= 3  # its report, if the clock stood
    assert after[0] - before[0] <= 1
    assert after[1] - before[1] < 0.1 * max(1, work_s / 0.0002)
    assert after[2] - before[2] < 200
    assert asked <= {"config|resetstat", "evalsha", "get", "pexpire", "hmget", "hlen", "hgetall",
                     "info", "set"}  # fmt: skip
    assert world.redis.info("stats")["total_commands_processed"] < 100


def _selects(world: HelpdeskWorld) -> int:
    return int(world.database.execute("SHOW GLOBAL STATUS LIKE 'Com_select'")[0][1])


def _cpu_s(daemon: Projector) -> float:
    assert daemon.process is not None
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wakes(world: HelpdeskWorld) -> int:
    """Return how often the daemon's threads have waited for something."""
    lines = [Path(_proc(world, f"task/{task}/status")).read_text()
             for task in os.listdir(_proc(world, "task"))]  # fmt: skip
    return sum(int(re.findall(r"\nvoluntary_ctxt_switches:\t(\d+)", text)[0]) for text in lines)


def _ten_seconds_of_little() -> float:
    """Return the CPU seconds that 0.05 ms of work take here after a wait of a tenth of a second."""
    document = {str(number): [number] * 5 for number in range(50)}
    before = time.thread_time()
    for _ in range(100):
        time.sleep(0.1)
        json.loads(json.dumps(document))
    return (time.thread_time() - before) / 100


def test_until_current_stops_by_itself(world: HelpdeskWorld) -> None:
    """Everything committed before its start is in Redis when it ends."""
    world.daemon.start("--until-current")
    assert world.daemon.wait(60) == 0
    assert_hash_equals_database(world.redis, world.connection)
    world.execute("UPDATE tickets SET title = 'again'")
    world.daemon.start("--until-current")
    assert world.daemon.wait(60) == 0
    assert_hash_equals_database(world.redis, world.connection)


def test_one_bad_document_never_stops_the_rest(world: HelpdeskWorld) -> None:
    """A date that does not exist goes to quarantine, is retried when the row changes."""
    ticket = world.one("SELECT MIN(id) FROM tickets")
    world.daemon.start()
    world.settle()
    world.execute("SET SESSION sql_mode = ''")
    world.execute(f"UPDATE tickets SET due_at = '0000-00-00 00:00:00' WHERE id = {ticket}")
    world.execute("UPDATE tickets SET title = 'others go on' WHERE due_at IS NULL")
    world.settle()
    reason = world.redis.hget("{tickets}:quarantine", ticket)
    assert reason is not None
    assert b"0000-00-00" in reason
    world.execute(f"UPDATE tickets SET due_at = NULL WHERE id = {ticket}")
    world.check()
    assert not world.redis.hlen("{tickets}:quarantine")


def test_commands_tell_and_mend(world: HelpdeskWorld) -> None:
    """status, document, verify, verify --repair, resync, against a running daemon."""
    assert world.daemon.run("status").returncode == 3
    assert world.daemon.run("resync").returncode == 3
    world.daemon.start()
    world.check()
    ids = [row.decode() for row in world.redis.hkeys("tickets")]
    assert world.daemon.run("verify").returncode == 0
    assert world.daemon.run("document", ids[0]).returncode == 0
    damaged = world.redis.hget("tickets", ids[0]).replace(b'"title":"', b'"title":"x')
    world.redis.hset("tickets", mapping={ids[0]: damaged})
    world.redis.hset("tickets", "999999999", b"{}")
    world.redis.hdel("tickets", ids[1])
    assert world.daemon.run("document", ids[0]).returncode == 1
    found = world.daemon.run("verify", "--repair", "--json")
    assert found.returncode == 0, found.stdout + found.stderr
    assert world.daemon.run("resync", "--ids", ids[2]).returncode == 0
    assert world.daemon.run("resync").returncode == 0
    assert world.daemon.run("status", "--json").returncode == 0
    world.check()


def test_a_lost_hash_is_rebuilt(world: HelpdeskWorld) -> None:
    """Deleted under a live checkpoint, and everything flushed."""
    world.daemon.start()
    world.check()
    world.redis.delete("tickets")
    wait_for(lambda: world.redis.hlen("tickets") >= 250, world.daemon)
    world.check()
    world.redis.flushdb()
    wait_for(lambda: world.redis.hlen("tickets") >= 250, world.daemon)
    world.check()


def test_two_daemons_one_writes(world: HelpdeskWorld, fresh_redis: RedisServer) -> None:
    """The other stands by, and takes over within seconds of the first one's death."""
    world.daemon.start()
    world.settle()
    with Projector(world.url, fresh_redis.url(db=1)) as second:
        wait_for(lambda: json.loads(second.http("/status.json")[1])["leader"], second)
        world.execute("UPDATE tickets SET title = 'first'")
        world.settle()
        said = json.loads(second.http("/status.json")[1])
        leader = said["leader"]
        assert said["state"] == "standby"
        assert leader["name"] == f"{socket.gethostname()}:{world.daemon.process.pid}"
        assert leader["age_s"] < 60
        world.daemon.kill()
        world.execute("UPDATE tickets SET title = 'second'")
        await_checkpoint(world.redis, world.connection, second, timeout_s=15)
        assert_hash_equals_database(world.redis, world.connection)


def test_truncate_and_renames_of_tables_are_followed(world: HelpdeskWorld) -> None:
    """What the log does not spell out row by row becomes a walk."""
    world.daemon.start()
    world.settle()
    world.execute("TRUNCATE TABLE ticket_watchers")
    world.check()
    world.execute("CREATE TABLE new_tags LIKE ticket_tags")
    world.execute("RENAME TABLE ticket_tags TO old_tags, new_tags TO ticket_tags")
    world.check()


def test_a_definition_behind_a_pending_prepare_is_learned_once(world: HelpdeskWorld) -> None:
    """A forgotten XA transaction, which may hold the checkpoint back, does not keep the daemon
    starting over."""
    world.daemon.start()
    world.check()
    with contextlib.closing(world.database.connect(world.name)) as other:
        cursor = other.cursor()
        cursor.execute("XA START 'pending'")
        cursor.execute("UPDATE tags SET name = CONCAT(name, '?') ORDER BY id LIMIT 1")
        cursor.execute("XA END 'pending'")
        cursor.execute("XA PREPARE 'pending'")
    before = world.redis.hget("{tickets}:checkpoint", "epoch")
    world.execute("TRUNCATE TABLE ticket_watchers")
    world.execute(
        "ALTER TABLE ticket_watchers ADD CONSTRAINT another FOREIGN KEY (user_id)"
        " REFERENCES users (id) ON DELETE CASCADE"
    )
    for number in range(30):
        world.execute(f"UPDATE tickets SET title = 'n{number}' ORDER BY id LIMIT 1")
        wanted = f'"title":"n{number}"'.encode()
        ticket = world.one("SELECT MIN(id) FROM tickets")
        wait_for(lambda w=wanted, t=ticket: w in world.redis.hget("tickets", t), world.daemon)
    begun = [e for e in world.daemon.events() if e["event"].startswith("catching up, was")]
    world.execute("XA COMMIT 'pending'")
    world.check()
    assert 1 <= len(begun) <= 3  # the first, and one that knows the key; or the truncation, too
    assert world.redis.hget("{tickets}:checkpoint", "epoch") == before  # under one lease


def test_flavours_are_what_they_say(database: DatabaseServer) -> None:
    """The suite runs on both."""
    version = database.execute("SELECT VERSION()")[0][0]
    assert ("MariaDB" in version) == (database.flavour is Flavour.MARIADB)
