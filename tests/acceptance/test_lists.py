"""Lists beside the tickets, from both databases: always what the database's rows say."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from projector_reader import Reader, ViewError

from tests.acceptance.worlds import HelpdeskWorld
from tests.list_oracle import SECRET, assert_lists_equal_database
from tests.projector_process import Projector, await_checkpoint, wait_for
from tests.servers import DatabaseServer, RedisServer
from tests.workload import Workload

pytestmark = pytest.mark.server

_LISTS = {
    "PROJECTOR_PROJECTION": "schema.lists:tickets,schema.lists:users",
    "TICKETS_LIST_KEY": SECRET,
    "PROJECTOR_RECONCILE__SCRUB_INTERVAL_S": "0",
    "PROJECTOR_REDIS__LEASE_TTL_S": "2",
}


class ListWorld(HelpdeskWorld):
    """A helpdesk whose daemon keeps lists, and a reader of them."""

    def __init__(self, database: DatabaseServer, name: str, redis_server: RedisServer) -> None:
        super().__init__(database, name, redis_server, **_LISTS)
        self.reader: Reader[Any] = Reader(
            self.redis, "tickets", secrets={"TICKETS_LIST_KEY": SECRET}
        )

    def check(self) -> None:
        """Wait until all is applied; compare documents and lists with hand-written SQL."""
        super().check()
        assert assert_lists_equal_database(self.redis, self.connection) > 0


@pytest.fixture
def world(
    database: DatabaseServer, fresh_database: str, fresh_redis: RedisServer
) -> Iterator[ListWorld]:
    """A world on MariaDB, then one on MySQL."""
    with ListWorld(database, fresh_database, fresh_redis) as made:
        yield made


@pytest.mark.timeout(240)
def test_lists_follow_and_are_mended(world: ListWorld) -> None:
    """Through a workload with kills, renamed values, losses, and views given up and taken up."""
    world.daemon.start()
    workload = Workload(lambda: world.database.connect(world.name), 23, cascades=True, rate=150)
    workload.start()
    time.sleep(3)
    world.daemon.kill()
    world.daemon.start()
    time.sleep(3)
    workload.stop()
    world.check()
    world.execute("UPDATE ticket_statuses SET name = CONCAT('Größe ', name) WHERE id % 2 = 0")
    world.execute("UPDATE tags SET name = CONCAT(UPPER(name), ' ') WHERE id % 3 = 0")
    world.execute("UPDATE users SET email = UPPER(email) WHERE id % 2 = 0")
    world.execute("UPDATE ticket_statuses SET is_closed = 1 - is_closed")
    world.execute("DELETE FROM ticket_tags WHERE ticket_id % 2 = 0")
    world.check()
    verified(world)
    lost(world)
    other_views(world)


def verified(world: ListWorld) -> None:
    """`verify` finds nothing; `status`, metrics and `explain` know the views."""
    report = json.loads(world.daemon.run("verify", "--json", "--projection", "tickets").stdout)
    assert (report["missing"], report["stale"], report["orphan"]) == (0, 0, 0), report
    said = json.loads(world.daemon.run("status", "--json", "--projection", "tickets").stdout)
    members = world.rows("SELECT COUNT(*) FROM tickets")[0][0]
    assert said["views"]["by_status"]["members"] == members
    shown = world.daemon.run("explain", "--projection", "tickets").stdout
    assert "view by_department_status: a list for each tickets.department_id|" in shown
    wait_for(
        lambda: world.daemon.metric("projector_view_members", view="by_status") == members,
        world.daemon,
    )
    assert world.daemon.run("verify", "--projection", "users").returncode == 0


def lost(world: ListWorld) -> None:
    """What strangers do to lists is noticed and mended without a restart; `verify` sees it."""
    [(name,)] = world.rows("SELECT LOWER(name) FROM ticket_statuses WHERE id = 1")
    before = world.redis.zcard(f"{{tickets}}:by:status:{name}")
    assert before > 0
    world.redis.delete(f"{{tickets}}:by:status:{name}")
    wait_for(lambda: world.redis.zcard(f"{{tickets}}:by:status:{name}") == before, world.daemon)
    world.check()
    world.redis.delete("{tickets}:listed")
    wait_for(lambda: world.redis.hlen("{tickets}:listed") == world.redis.hlen("tickets"))
    world.check()
    assert world.daemon.metric("projector_recoveries_total", reason="lists_changed") >= 2
    world.daemon.stop()
    world.redis.zadd(f"{{tickets}}:by:status:{name}", {"stranger": 1})
    world.redis.zrem("{tickets}:by:assignee:" + _some_assignee(world), *_members(world))
    verify = ("verify", "--projection", "tickets")
    assert world.daemon.run(*verify).returncode == 1
    assert world.daemon.run(*verify, "--repair").returncode == 0
    assert assert_lists_equal_database(world.redis, world.connection) > 0
    world.daemon.start()


def _some_assignee(world: ListWorld) -> str:
    [(found,)] = world.rows("SELECT MIN(assignee_id) FROM tickets")
    return str(found)


def _members(world: ListWorld) -> list[bytes]:
    found: list[bytes] = world.redis.zrange("{tickets}:by:assignee:" + _some_assignee(world), 0, 0)
    return found


def other_views(world: ListWorld) -> None:
    """A daemon without views takes the lists away, one with views fills them again; no document
    is written for that."""
    world.daemon.stop()
    documents = world.redis.hgetall("tickets")
    plain = Projector(world.url, world.redis_url)
    with plain:
        wait_for(lambda: not list(world.redis.scan_iter("{tickets}:by:*")), plain)
        await_checkpoint(world.redis, world.connection, plain)
        assert not world.redis.exists("{tickets}:listed", "{tickets}:lists:status")
        plain.stop()
    world.daemon.start()
    wait_for(lambda: world.redis.hlen("{tickets}:listed") == len(documents), world.daemon)
    world.check()
    assert world.redis.hgetall("tickets") == documents
    assert world.daemon.metric("projector_documents_written_total", reason="resync") == 0


@pytest.mark.timeout(120)
def test_a_frontend_needs_redis_alone(world: ListWorld) -> None:
    """From an e-mail address to its department, that department's tickets, and their attachments;
    page after page, while tickets move to the front."""
    world.daemon.start()
    world.check()
    [(email, shouted)] = world.rows(
        "SELECT u.email, UPPER(u.email) FROM users u JOIN tickets t ON t.requester_id = u.id"
        " GROUP BY u.id, u.email ORDER BY COUNT(*) DESC LIMIT 1"
    )
    mine = world.reader.view("by_requester_email", shouted)
    assert {document["requester_email"] for document in mine.documents.values()} == {email}
    department = next(iter(mine.documents.values()))["department_id"]
    keys = [value for value in world.reader.values("by_department_status")
            if value.startswith(f"{department}|")]  # fmt: skip
    statuses = [key.partition("|")[2] for key in keys]
    pages = [world.reader.view("by_department_status", department, status) for status in statuses]
    attachments = [
        each["id"] for page in pages for document in page.documents.values()
        for each in document["attachments"]
    ]  # fmt: skip
    assert attachments
    total = sum(page.total for page in pages)
    [(expected,)] = world.rows(f"SELECT COUNT(*) FROM tickets WHERE department_id = {department}")
    assert total == expected
    paged(world)
    with pytest.raises(ViewError):
        world.reader.view("by_nothing", 1)
    with pytest.raises(ViewError):
        world.reader.view("by_department_status", 1)
    assert world.reader.view("by_status", "no such status").documents == {}
    users_have_their_tickets(world)


def users_have_their_tickets(world: ListWorld) -> None:
    """The list as a document: one HGET gives a user's newest tickets, also none."""
    await_checkpoint(world.redis, world.connection, world.daemon, "users")
    found = {
        int(k): [ticket["id"] for ticket in json.loads(value)["tickets"]]
        for k, value in world.redis.hgetall("users").items()
    }
    wanted: dict[int, list[int]] = {k: [] for (k,) in world.rows("SELECT id FROM users")}
    order = "SELECT requester_id, id FROM tickets ORDER BY requester_id, updated_at DESC, id DESC"
    for requester, ticket in world.rows(order):
        wanted[requester].append(ticket)
    assert found == {k: ids[:200] for k, ids in wanted.items()}
    scaffold = world.daemon.run("scaffold", "users")
    assert scaffold.returncode == 0
    assert "tickets" in scaffold.stdout


def paged(world: ListWorld) -> None:
    """No ticket is met twice and none that stands still is left out, while others are touched."""
    [(status, count)] = world.rows(
        "SELECT s.name, COUNT(*) FROM tickets t JOIN ticket_statuses s ON s.id = t.status_id"
        " GROUP BY s.name ORDER BY 2 DESC LIMIT 1"
    )
    whole = world.reader.view("by_status", status, count=1000)
    assert (len(whole.documents), whole.total, whole.cursor) == (count, count, None)
    seen: list[str] = []
    cursor: str | None = None
    touched: set[str] = set()
    while True:
        page = world.reader.view("by_status", status, cursor=cursor, count=7)
        seen += page.documents
        cursor = page.cursor
        if cursor is None:
            break
        [(ticket,)] = world.rows(
            f"SELECT MIN(t.id) FROM tickets t JOIN ticket_statuses s ON s.id = t.status_id"
            f" WHERE s.name = '{status}' AND t.id > {len(touched)}"
        )
        touched.add(str(ticket))
        world.execute(f"UPDATE tickets SET title = CONCAT(title, '.') WHERE id = {ticket}")
        await_checkpoint(world.redis, world.connection, world.daemon)
    assert len(seen) == len(set(seen))
    assert set(whole.documents) - touched <= set(seen)
    assert [k for k in whole.documents if k not in touched] == [k for k in seen if k not in touched]
