"""Walks: resync, verify, repair and scrub while the tail goes on."""

import json
import signal
import threading

import pytest

from tests.acceptance.test_live import world  # noqa: F401 (a fixture)
from tests.acceptance.worlds import HelpdeskWorld
from tests.oracle import assert_hash_equals_database
from tests.projector_process import put_off, wait_for
from tests.workload import Workload

pytestmark = pytest.mark.server


def _damage(world: HelpdeskWorld) -> dict[str, int]:  # noqa: F811
    """Put every kind of damage into the hash; give the counts that verify must find."""
    ids = sorted(world.redis.hkeys("tickets"), key=int)
    document = json.loads(world.redis.hget("tickets", ids[0]))
    del document["tags"]
    altered = {**json.loads(world.redis.hget("tickets", ids[1])), "title": "altered"}
    world.redis.hset("tickets", ids[0], json.dumps(document, separators=(",", ":")))
    world.redis.hset("tickets", ids[1], json.dumps(altered, separators=(",", ":")))
    world.redis.hset("tickets", ids[2], b"not JSON")
    world.redis.hset("tickets", mapping={b"900000001": b"{}", b"invented": b"{}"})
    world.redis.hdel("tickets", *ids[3:7], ids[8])
    return {"stale": 3, "orphan": 2, "missing": 5}


def _quiet(world: HelpdeskWorld) -> None:  # noqa: F811
    """Let neither the scrub nor a lost hash's own repair come first."""
    world.daemon.environment["PROJECTOR_RECONCILE__SCRUB_INTERVAL_S"] = "0"


def test_damage_is_found_exactly_and_mended(world: HelpdeskWorld) -> None:  # noqa: F811
    """verify without a daemon counts; verify --repair mends, without and with one."""
    _quiet(world)
    world.daemon.start()
    world.check()
    assert world.daemon.stop() == 0
    expected = _damage(world)
    found = world.daemon.run("verify", "--json")
    report = json.loads(found.stdout)
    assert found.returncode == 1
    assert {kind: report[kind] for kind in expected} == expected
    fields = {entry["id"]: entry["fields"] for entry in report["sample"]}
    assert ["tags"] in fields.values()
    assert ["title"] in fields.values()
    repaired = world.daemon.run("verify", "--repair", "--json")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert json.loads(repaired.stdout)["repaired"] == sum(expected.values())
    assert_hash_equals_database(world.redis, world.connection)
    world.daemon.start()
    world.settle()
    world.redis.hset("tickets", sorted(world.redis.hkeys("tickets"))[0], b"{}")
    assert world.daemon.run("verify", "--repair").returncode == 0
    world.check()


def test_the_scrub_alone_mends_altered_documents(world: HelpdeskWorld) -> None:  # noqa: F811
    """A pass takes its interval; what it finds is counted and logged as an error."""
    world.daemon.environment["PROJECTOR_RECONCILE__SCRUB_INTERVAL_S"] = "4"
    world.daemon.start()
    world.check()
    ids = sorted(world.redis.hkeys("tickets"))
    world.redis.hset("tickets", mapping={ids[0]: b"{}", ids[-1]: b"{}"})

    def mended() -> bool:
        return b"{}" not in world.redis.hmget("tickets", [ids[0], ids[-1]])

    wait_for(mended, world.daemon, timeout_s=30)
    world.check()
    assert any(e["event"] == "scrub_found_differences" for e in world.daemon.events())
    counted = 'projector_scrub_differences_total{kind="stale",projection="tickets"} 2.0'
    assert counted in world.daemon.http("/metrics")[1].decode()


def test_verify_raises_no_false_alarm_under_traffic(world: HelpdeskWorld) -> None:  # noqa: F811
    """While 200 transactions a second change everything."""
    world.daemon.start()
    world.settle()
    workload = Workload(
        lambda: world.database.connect(world.name), seed=2, cascades=False, rate=200
    )
    workload.start()
    try:
        for _ in range(3):
            found = world.daemon.run("verify", "--json")
            assert found.returncode == 0, found.stdout + found.stderr
    finally:
        workload.stop()
    world.check()


def test_a_build_goes_on_where_it_was_killed(world: HelpdeskWorld) -> None:  # noqa: F811
    """kill -9 in the middle; the next process begins at the last finished chunk; live writes go on
    meanwhile and no ticket that stands in the hash vanishes."""
    world.execute(
        "INSERT INTO tickets (title, status_id, priority_id, department_id, requester_id)"
        " SELECT t.title, t.status_id, t.priority_id, t.department_id, t.requester_id"
        " FROM tickets t JOIN (SELECT id FROM tickets LIMIT 60) many"
    )
    world.daemon.environment["PROJECTOR_RECONCILE__CHUNK_DOCUMENTS"] = "100"
    workload = Workload(
        lambda: world.database.connect(world.name), seed=3, cascades=False, rate=100
    )
    workload.start()
    try:
        world.daemon.start()
        wait_for(lambda: world.redis.hlen("tickets") > 3000, world.daemon)
        world.daemon.kill()
        kept = json.loads(world.redis.hget("{tickets}:debts", "all"))
        seen = world.redis.hlen("tickets")
        world.daemon.start()
        wait_for(lambda: world.redis.hlen("tickets") > seen + 1000, world.daemon)
    finally:
        # Before it settles: on MariaDB each deleted user owes one more walk.
        workload.stop()
    assert kept["reason"] == "initial_build"  # killed within it
    world.settle()
    state = world.redis.hgetall("{tickets}:resync")
    assert state[b"state"] == b"done"
    world.check()


@pytest.mark.parametrize(("left", "phase"), [({}, b"write"), ({"999999": "of old"}, b"orphans")])
def test_a_build_looks_for_orphans_where_documents_stood(
    world: HelpdeskWorld,  # noqa: F811
    left: dict[str, str],
    phase: bytes,
) -> None:
    """A first build removes what another program left in the hash; an empty hash is only filled."""
    for field, value in left.items():
        world.redis.hset("tickets", field, value)
    world.daemon.start()
    world.settle()
    assert world.redis.hget("{tickets}:resync", "phase") == phase
    world.check()


def test_a_resync_asked_for_twice_runs_once_and_can_be_cancelled(
    world: HelpdeskWorld,  # noqa: F811
) -> None:
    """The second one joins the first while that has not begun; a cancelled one ends in the
    middle."""
    _quiet(world)
    world.daemon.environment["PROJECTOR_RECONCILE__CHUNK_DOCUMENTS"] = "1"
    for _ in range(2):  # a walk lasts longer than it takes to look for requests
        world.execute(
            "INSERT INTO tickets (title, status_id, priority_id, department_id, requester_id)"
            " SELECT title, status_id, priority_id, department_id, requester_id FROM tickets"
        )
    world.daemon.start()
    world.settle()
    _ask_paused(world, ["resync"], ["resync"])
    assert _walks(world) == ["initial_build", "requested"]
    world.redis.hset("{tickets}:requests", "mine", '{"kind": "resync"}')
    wait_for(lambda: not world.redis.hlen("{tickets}:requests"), world.daemon)
    _ask_paused(world, ["resync", "--cancel"])  # in the middle
    assert world.redis.hget("{tickets}:resync", "state") == b"cancelled"
    assert world.redis.hlen("{tickets}:debts") == 0
    assert _walks(world) == ["initial_build", "requested"]
    assert any(e["event"] == "resync_cancelled" for e in world.daemon.events())
    world.check()


def _ask_paused(world: HelpdeskWorld, *commands: list[str]) -> None:  # noqa: F811
    """Run commands whose requests the daemon finds all at once."""
    results: list[int] = []
    asking = [
        threading.Thread(target=lambda c=c: results.append(world.daemon.run(*c).returncode))
        for c in commands
    ]
    assert world.daemon.process is not None
    world.daemon.process.send_signal(signal.SIGSTOP)
    try:
        for thread in asking:
            thread.start()
        wait_for(lambda: world.redis.hlen("{tickets}:requests") == len(commands))
    finally:
        world.daemon.process.send_signal(signal.SIGCONT)
    for thread in asking:
        thread.join()
    assert results == [0] * len(commands)


def _walks(world: HelpdeskWorld) -> list[str]:  # noqa: F811
    """The reasons of the walks over everything that have ended."""
    return [e["reason"] for e in world.daemon.events() if e["event"] == "resync_done"]


def test_a_wide_fan_out_is_put_off_and_done(world: HelpdeskWorld) -> None:  # noqa: F811
    """Beyond the limit ids are worked off behind newer changes; a kill loses none of it."""
    world.daemon.environment["PROJECTOR_FANOUT_MAX_DOCUMENTS"] = "20"
    world.daemon.environment["PROJECTOR_RECONCILE__CHUNK_DOCUMENTS"] = "10"
    world.daemon.start()
    world.settle()
    world.execute("UPDATE ticket_statuses SET name = CONCAT('renamed ', id)")
    wait_for(lambda: put_off(world.redis, "tickets"), world.daemon)
    world.daemon.kill()
    assert put_off(world.redis, "tickets")
    world.daemon.start()
    world.check()


def test_a_build_ends_while_wide_changes_go_on(world: HelpdeskWorld) -> None:  # noqa: F811
    """More is put off than can be worked off: the build is not kept waiting, and takes it along."""
    world.execute(
        "INSERT INTO tickets (title, status_id, priority_id, department_id, requester_id)"
        " SELECT t.title, t.status_id, t.priority_id, t.department_id, t.requester_id"
        " FROM tickets t JOIN (SELECT id FROM tickets LIMIT 20) many"
    )
    world.daemon.environment["PROJECTOR_FANOUT_MAX_DOCUMENTS"] = "20"
    world.daemon.environment["PROJECTOR_RECONCILE__CHUNK_DOCUMENTS"] = "100"
    stopped = threading.Event()

    def rename() -> None:
        connection = world.database.connect(world.name)
        number = 0
        while not stopped.wait(0.002):
            number += 1
            with connection.cursor() as cursor:
                for table in ("ticket_statuses", "ticket_priorities", "tags"):
                    chosen = number % 50 + 1
                    cursor.execute(f"UPDATE {table} SET name = '{number}' WHERE id = {chosen}")
                    chosen = number % 4 + 1
                    cursor.execute(f"UPDATE {table} SET name = '- {number}' WHERE id = {chosen}")
        connection.close()

    renaming = threading.Thread(target=rename)
    renaming.start()
    try:
        world.daemon.start()
        count = world.one("SELECT COUNT(*) FROM tickets")
        wait_for(lambda: world.redis.hlen("tickets") == count, world.daemon)
        debts = world.redis.hkeys("{tickets}:debts")
    finally:
        stopped.set()
        renaming.join()
    assert len(debts) <= 17
    world.check()


def test_a_changed_projection_rebuilds_or_stops(world: HelpdeskWorld) -> None:  # noqa: F811
    """The fingerprint beside the checkpoint tells; the setting decides."""
    world.daemon.start()
    world.check()
    assert world.daemon.stop() == 0
    world.redis.hset("{tickets}:checkpoint", "fingerprint", "another")
    ids = sorted(world.redis.hkeys("tickets"))
    world.redis.hset("tickets", ids[0], b"{}")
    world.daemon.environment["PROJECTOR_RECONCILE__ON_PROJECTION_CHANGE"] = "stop"
    world.daemon.start()
    assert world.daemon.wait(20) == 3
    assert "another projection" in world.daemon.log()
    world.daemon.start("--resync")  # no way round it
    assert world.daemon.wait(20) == 3
    world.daemon.environment["PROJECTOR_RECONCILE__ON_PROJECTION_CHANGE"] = "resync"
    world.daemon.start()
    name = "fingerprint"
    wait_for(lambda: world.redis.hget("{tickets}:checkpoint", name) != b"another", world.daemon)
    world.check()
