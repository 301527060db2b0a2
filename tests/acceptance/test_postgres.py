"""The helpdesk on PostgreSQL: built, followed, and right after every fault, by its own oracle."""

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.postgres.world import PostgresWorld
from tests.projector_process import wait_for
from tests.servers import PostgresServer, RedisServer, start_postgres, start_redis
from tests.servers.flavours import PostgresFlavour

pytestmark = [pytest.mark.server]


@pytest.fixture
def world(
    postgres_server: PostgresServer, fresh_postgres: str, fresh_redis: RedisServer
) -> Iterator[PostgresWorld]:
    """A helpdesk on the session's server."""
    with PostgresWorld(postgres_server, fresh_postgres, fresh_redis) as world:
        yield world


@pytest.mark.timeout(180)
def test_a_random_workload_is_followed(world: PostgresWorld) -> None:
    """All twelve tables, cascades, savepoints and rollbacks; while it is built, too."""
    workload = world.workload(seed=11)
    workload.start()
    world.daemon.start()
    time.sleep(8)
    workload.stop()
    assert workload.stats["transactions"] > 100
    world.check()
    assert world.daemon.run("verify").returncode == 0
    assert world.daemon.stop() == 0


def test_the_command_sets_up_what_the_daemon_needs(
    postgres_server: PostgresServer, fresh_postgres: str, fresh_redis: RedisServer
) -> None:
    """The statements alone on standard output; then `check` has no failure, and a daemon works."""
    with PostgresWorld(postgres_server, fresh_postgres, fresh_redis, is_bare=True) as world:
        daemon = world.daemon
        assert daemon.run("setup").returncode == 3, "nobody is there to connect as"
        daemon.environment["PROJECTOR_SOURCE__OWNER_URL"] = postgres_server.url(fresh_postgres)
        planned, made = daemon.run("setup", "--dry-run"), daemon.run("setup")
        assert (planned.returncode, made.returncode) == (0, 0)
        assert planned.stdout == made.stdout
        assert all(line.startswith(("CREATE", "GRANT", "ALTER")) for line in
                   made.stdout.splitlines())  # fmt: skip
        again = daemon.run("setup")
        assert (again.stdout, again.stderr) == ("", "nothing is missing\n")
        del daemon.environment["PROJECTOR_SOURCE__OWNER_URL"]
        assert daemon.run("check").returncode == 0
        daemon.start()
        world.check()


@pytest.mark.timeout(180)
def test_kills_lose_nothing(world: PostgresWorld) -> None:
    """The daemon and its connections are killed under load; it goes on from its checkpoint."""
    chance = random.Random(5)
    world.daemon.start()
    world.check()
    workload = world.workload(seed=12)
    workload.start()
    for _ in range(4):
        time.sleep(chance.uniform(0.5, 2))
        if chance.random() < 0.5:
            world.daemon.kill()
            world.daemon.start()
        else:
            world.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <>"
                f" pg_backend_pid() AND usename = 'p_{world.name}'"
            )
    workload.stop()
    world.check()
    events = [event.get("event") for event in world.daemon.events()]
    assert events.count("resync_needed") == 1, "the build alone"


def test_truncate_and_definitions_are_followed(world: PostgresWorld) -> None:
    """What the stream does not spell out row by row becomes a walk."""
    world.daemon.start()
    world.check()
    world.execute("TRUNCATE ticket_watchers")
    world.check()
    world.execute("TRUNCATE tags CASCADE", "INSERT INTO tags (id, name) VALUES (1, 'new')")
    world.check()
    world.execute(
        "ALTER TABLE ticket_statuses ALTER name TYPE text USING upper(name)",
        "UPDATE tickets SET title = 'after' WHERE id = 1",
        "UPDATE ticket_statuses SET is_closed = is_closed",
    )
    world.check()


def test_a_dropped_slot_costs_a_walk(world: PostgresWorld) -> None:
    """What was committed meanwhile is found by comparing everything."""
    world.daemon.start()
    world.check()
    world.daemon.kill()
    world.execute(
        "UPDATE tickets SET title = 'while nobody looked'", "DELETE FROM tickets WHERE id < 9"
    )
    world.execute(
        f"SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
        f" WHERE slot_name = '{world.slot}' AND active",
        f"SELECT pg_drop_replication_slot('{world.slot}')",
    )
    world.daemon.start()
    world.check()
    assert _walks(world) == ["initial_build", "position_lost"]


def test_the_slot_of_a_daemon_that_leads_is_not_dropped(world: PostgresWorld) -> None:
    """Also where nobody reads from it at the moment; a store that is away stops nobody."""
    world.daemon.start()
    world.check()
    world.daemon.stop()
    world.redis.set("{tickets}:lease", "elsewhere:17:abc")
    said = world.daemon.run("slot", "drop")
    assert (said.returncode, said.stdout) == (3, "")
    assert "elsewhere:17 leads tickets" in said.stderr
    world.daemon.environment["PROJECTOR_REDIS__URL"] = "redis://127.0.0.1:1/1"
    said = world.daemon.run("slot", "drop")
    assert (said.returncode, said.stdout) == (0, f"dropped {world.slot}\n")
    assert "not known whether a daemon leads tickets" in said.stderr


@pytest.mark.parametrize("is_running", [True, False])
def test_a_publication_without_a_table_for_a_while_costs_a_walk(
    world: PostgresWorld, is_running: bool
) -> None:
    """What was changed meanwhile is in no stream, whether the daemon runs or is down."""
    world.daemon.start()
    world.check()
    if not is_running:
        world.daemon.kill()
    world.execute(
        "ALTER PUBLICATION projector DROP TABLE tickets",
        "UPDATE tickets SET title = 'while nobody looked'",
        "ALTER PUBLICATION projector ADD TABLE tickets",
    )
    if not is_running:
        world.daemon.start()
    wait_for(lambda: len(_walks(world)) == 2, world.daemon)
    world.check()
    assert _walks(world) == ["initial_build", "position_lost"]


def _walks(world: PostgresWorld) -> list[str | None]:
    return [e.get("reason") for e in world.daemon.events() if e.get("event") == "resync_needed"]


@pytest.mark.timeout(240)
def test_a_server_that_crashes_is_followed_again() -> None:
    """Immediate shutdowns and kills of PostgreSQL under load, and a Redis that is gone a while."""
    with start_postgres() as server, start_redis() as redis_server:
        server.create_database("helpdesk")
        with PostgresWorld(server, "helpdesk", redis_server) as world:
            world.daemon.start()
            world.check()
            workload = world.workload(seed=13)
            workload.start()
            for number in range(3):
                time.sleep(1.5)
                if number % 2:
                    server.kill()
                else:
                    server.stop_immediately()
                server.start()
            time.sleep(1.5)
            workload.stop()
            world.reconnect()
            world.check()
            assert workload.stats["connections lost"] > 0


@pytest.mark.timeout(240)
def test_crashes_that_take_commits_back_are_followed() -> None:
    """Under load without synchronous_commit, while a walk reads what is not flushed; nothing is
    written after a crash that would mend."""
    options = ["--wal-writer-delay=1s"]
    with start_postgres(options=options) as server, start_redis() as redis_server:
        server.create_database("helpdesk")
        with PostgresWorld(server, "helpdesk", redis_server, tickets=40) as world:
            world.daemon.start()
            world.check()
            for number in range(4):
                workload = world.workload(seed=number, rate=400, is_durable=False)
                workload.start()
                time.sleep(0.5)
                world.daemon.run("resync", "--no-wait")
                server.kill()
                workload.stop()
                server.start()
                world.reconnect()
                world.check()


@pytest.mark.parametrize("flavour", list(PostgresFlavour))
def test_what_a_crash_takes_back_is_taken_back(flavour: PostgresFlavour) -> None:
    """A commit with synchronous_commit=off can be read before it is durable, and no stream ever
    tells that it was lost: what was read of late is read again."""
    with start_postgres(flavour) as server, start_redis() as redis_server:
        server.create_database("helpdesk")
        with PostgresWorld(server, "helpdesk", redis_server, tickets=20) as world:
            world.daemon.start()
            world.check()
            [[writer]] = world.connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
            ).fetchall()
            os.kill(writer, signal.SIGSTOP)
            world.execute(
                "SET synchronous_commit = off",
                "UPDATE tickets SET title = 'taken back' WHERE id = 3",
                "DELETE FROM tickets WHERE id = 5",
            )
            world.daemon.run("resync", "--ids", "3,5")
            assert b"taken back" in (world.redis.hget("tickets", "3") or b"")
            assert not world.redis.hexists("tickets", "5")
            server.kill()
            server.start()
            world.reconnect()
            world.check()
            assert world.redis.hexists("tickets", "5")


@pytest.mark.parametrize("flavour", list(PostgresFlavour))
def test_who_was_not_found_before_a_crash_is_found_after_it(flavour: PostgresFlavour) -> None:
    """A look-up that sees what is not durable may pass a document over, for good: it is made
    again."""
    with start_postgres(flavour) as server, start_redis() as redis_server:
        server.create_database("helpdesk")
        with PostgresWorld(server, "helpdesk", redis_server, tickets=20) as world:
            world.execute(
                "DELETE FROM ticket_tags", "INSERT INTO ticket_tags VALUES (3, 1), (4, 1)"
            )
            world.daemon.start()
            world.check()
            world.daemon.stop()
            world.daemon.start()  # which has written nothing of late
            world.check()
            [[writer]] = world.connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
            ).fetchall()
            os.kill(writer, signal.SIGSTOP)
            assert world.daemon.process is not None
            os.kill(world.daemon.process.pid, signal.SIGSTOP)
            world.execute(
                "UPDATE tags SET name = 'renamed' WHERE id = 1",
                "SET synchronous_commit = off",
                "DELETE FROM ticket_tags WHERE ticket_id = 3",
            )
            os.kill(world.daemon.process.pid, signal.SIGCONT)
            wait_for(lambda: b"renamed" in world.redis.hget("tickets", "4"), world.daemon)
            server.kill()
            server.start()
            world.reconnect()
            world.check()
            assert b"renamed" in (world.redis.hget("tickets", "3") or b"")
