"""Rows that foreign keys change behind the log's back: every cascade of the reference schema."""

import signal
import uuid
from collections.abc import Iterator

import pytest

from tests.acceptance.worlds import HelpdeskWorld
from tests.projector_process import wait_for
from tests.servers import DatabaseServer, Flavour, RedisServer, start_database
from tests.workload import Workload

pytestmark = pytest.mark.server

HIDING = ["mariadb", "mariadb11", "mysql-native"]
on_hiding_servers = pytest.mark.parametrize("server", HIDING, indirect=True)


@pytest.fixture(scope="module", params=[*HIDING, "mysql"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """MariaDB never logs cascades; MySQL 9.7 does, unless InnoDB carries them out by itself."""
    options = ["--innodb-native-foreign-keys=ON"] if request.param == "mysql-native" else []
    with start_database(Flavour(request.param.partition("-")[0]), options=options) as found:
        yield found


@pytest.fixture
def helpdesk(server: DatabaseServer, fresh_redis: RedisServer) -> Iterator[HelpdeskWorld]:
    """A seeded helpdesk with a daemon that has built its hash."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server.create_database(name)
    with HelpdeskWorld(server, name, fresh_redis) as made:
        made.daemon.start()
        made.check()
        yield made


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM tickets WHERE id = (SELECT * FROM (SELECT MIN(id) FROM tickets) t)",
        "DELETE FROM ticket_comments ORDER BY id LIMIT 3",
        "DELETE FROM tags WHERE id = (SELECT tag_id FROM ticket_tags LIMIT 1)",
        "DELETE FROM categories WHERE id = (SELECT category_id FROM tickets"
        " WHERE category_id IS NOT NULL LIMIT 1)",
        "UPDATE users SET department_id = NULL; UPDATE tickets SET department_id ="
        " (SELECT MIN(id) FROM departments); DELETE FROM departments ORDER BY id DESC LIMIT 1",
    ],
)
def test_a_cascade_is_followed(helpdesk: HelpdeskWorld, sql: str) -> None:
    """The hash equals the database again by itself, within seconds."""
    for statement in sql.split(";"):
        helpdesk.execute(statement)
    helpdesk.check()


def test_a_deleted_user_takes_tickets_comments_and_watching_along(helpdesk: HelpdeskWorld) -> None:
    """Requester, assignee, watcher and author at once."""
    requester = helpdesk.one("SELECT requester_id FROM tickets ORDER BY id LIMIT 1")
    author = helpdesk.one("SELECT author_id FROM ticket_comments ORDER BY id DESC LIMIT 1")
    helpdesk.execute(f"DELETE FROM users WHERE id = {author}")
    helpdesk.check()
    helpdesk.execute(f"DELETE FROM users WHERE id = {requester}")
    helpdesk.check()


def _found(world: HelpdeskWorld, how: str) -> float:
    """How many steps found a cascade's documents in this way."""
    text = world.daemon.http("/metrics")[1].decode()
    for line in text.splitlines():
        if line.startswith(f'projector_cascades_total{{found="{how}"}}'):
            return float(line.split()[1])
    return 0.0


def _keep_snapshot(world: HelpdeskWorld) -> None:
    """Delete users until the daemon follows a cascade without a walk."""
    world.settle()
    before = _found(world, "snapshot")

    def is_kept() -> bool:
        world.execute(
            "INSERT INTO users (email, full_name) VALUES ('short-lived@example.org', 'short')"
        )
        world.execute("DELETE FROM users WHERE email = 'short-lived@example.org'")
        world.settle()
        return _found(world, "snapshot") > before

    wait_for(is_kept, world.daemon)


@pytest.fixture
def hiding(helpdesk: HelpdeskWorld) -> HelpdeskWorld:
    """A helpdesk on a server that does not log cascades, with a snapshot kept."""
    _keep_snapshot(helpdesk)
    return helpdesk


@on_hiding_servers
def test_a_cascade_costs_no_walk(hiding: HelpdeskWorld) -> None:
    """Requester, assignee, author and watcher: found by index in the snapshot kept."""
    walks, resync = _found(hiding, "walk"), hiding.redis.hgetall("{tickets}:resync")
    before = _found(hiding, "snapshot")
    for column in ("requester_id", "assignee_id"):
        hiding.execute(f"DELETE FROM users WHERE id = (SELECT MIN({column}) FROM tickets)")
        hiding.check()
    assert _found(hiding, "snapshot") == before + 2
    assert _found(hiding, "walk") == walks
    assert hiding.redis.hgetall("{tickets}:resync") == resync


@on_hiding_servers
def test_what_came_to_hang_on_a_row_after_the_snapshot_is_found(hiding: HelpdeskWorld) -> None:
    """Assigned, then deleted, at once: the snapshot has never seen it so."""
    for _ in range(10):
        user = hiding.one("SELECT MAX(id) FROM users")
        hiding.execute(
            "INSERT INTO users (department_id, email, full_name) VALUES"
            f" (NULL, 'late-{uuid.uuid4().hex}@example.org', 'late')"
        )
        user = hiding.one("SELECT MAX(id) FROM users")
        hiding.execute(f"UPDATE tickets SET assignee_id = {user} ORDER BY RAND() LIMIT 1")
        hiding.execute(
            f"INSERT INTO ticket_watchers (ticket_id, user_id) SELECT MAX(id), {user} FROM tickets"
        )
        hiding.execute(f"DELETE FROM users WHERE id = {user}")
        hiding.check()


@on_hiding_servers
def test_what_goes_with_a_row_by_a_column_that_no_document_reads_is_found(
    hiding: HelpdeskWorld,
) -> None:
    """A comment's author changes, and is deleted at once: the ticket counts one comment less."""
    walks = _found(hiding, "walk")
    for _ in range(5):
        hiding.execute(
            "INSERT INTO users (email, full_name) VALUES"
            f" ('late-{uuid.uuid4().hex}@example.org', 'late')"
        )
        user = hiding.one("SELECT MAX(id) FROM users")
        hiding.execute(f"UPDATE ticket_comments SET author_id = {user} ORDER BY RAND() LIMIT 1")
        hiding.execute(f"DELETE FROM users WHERE id = {user}")
        hiding.check()
    assert _found(hiding, "walk") == walks


@on_hiding_servers
def test_what_was_put_off_since_is_put_off_again(hiding: HelpdeskWorld) -> None:
    """A fan-out beyond the limit is not among the documents noted: what came to belong to a row by
    it may have been read before the row went."""
    assert hiding.daemon.stop() == 0
    hiding.daemon.environment["PROJECTOR_FANOUT_MAX_DOCUMENTS"] = "5"
    hiding.daemon.environment["PROJECTOR_RECONCILE__CHUNK_DOCUMENTS"] = "2"
    hiding.daemon.start()
    _keep_snapshot(hiding)
    walks = _found(hiding, "walk")
    organization = hiding.one("SELECT MIN(id) FROM organizations")
    user = hiding.one(
        "SELECT requester_id FROM tickets GROUP BY requester_id ORDER BY COUNT(*) DESC LIMIT 1"
    )
    for _ in range(10):
        hiding.execute(
            f"INSERT INTO departments (organization_id, name) VALUES ({organization}, 'late')"
        )
        department = hiding.one("SELECT MAX(id) FROM departments")
        hiding.execute(f"UPDATE users SET department_id = {department} WHERE id = {user}")
        hiding.execute(f"DELETE FROM departments WHERE id = {department}")
        hiding.check()
    assert _found(hiding, "walk") == walks


@on_hiding_servers
def test_a_cascade_over_many_documents_is_worked_off_behind_newer_changes(
    hiding: HelpdeskWorld,
) -> None:
    """Those documents alone are owed, not a walk over everything."""
    assert hiding.daemon.stop() == 0
    hiding.daemon.environment["PROJECTOR_FANOUT_MAX_DOCUMENTS"] = "5"
    hiding.daemon.start()
    _keep_snapshot(hiding)
    walks, resync = _found(hiding, "walk"), hiding.redis.hgetall("{tickets}:resync")
    tag = hiding.one(
        "SELECT tag_id FROM ticket_tags GROUP BY tag_id ORDER BY COUNT(*) DESC LIMIT 1"
    )
    hiding.execute(f"DELETE FROM tags WHERE id = {tag}")
    hiding.check()
    assert _found(hiding, "walk") == walks
    assert hiding.redis.hgetall("{tickets}:resync") == resync


@on_hiding_servers
def test_a_table_altered_since_the_snapshot_is_walked(hiding: HelpdeskWorld) -> None:
    """The server refuses the old snapshot of it, and no document is lost."""
    hiding.execute("ALTER TABLE ticket_watchers ADD COLUMN extra INT")
    hiding.execute("DELETE FROM users WHERE id = (SELECT MIN(requester_id) FROM tickets)")
    hiding.check()


@on_hiding_servers
def test_a_key_added_meanwhile_is_followed(hiding: HelpdeskWorld) -> None:
    """Even if rows go with their parent in the very batch that begins with the new key."""
    name = "fk_ticket_watchers_user_id"
    drop = f"ALTER TABLE ticket_watchers DROP FOREIGN KEY {name}"
    add = (
        f"ALTER TABLE ticket_watchers ADD CONSTRAINT {name} FOREIGN KEY (user_id)"
        " REFERENCES users (id) ON DELETE CASCADE"
    )

    def watcher() -> int:
        hiding.execute(
            f"INSERT INTO users (email, full_name) VALUES ('{uuid.uuid4().hex}@example.org', 'w')"
        )
        user: int = hiding.one("SELECT MAX(id) FROM users")
        hiding.execute(f"INSERT INTO ticket_watchers SELECT id, {user} FROM tickets LIMIT 5")
        return user

    hiding.execute(drop)
    first, second = watcher(), watcher()
    hiding.check()
    assert hiding.daemon.process is not None
    hiding.daemon.process.send_signal(signal.SIGSTOP)
    hiding.execute(add)
    hiding.execute(f"DELETE FROM users WHERE id = {first}")
    hiding.daemon.process.send_signal(signal.SIGCONT)
    hiding.check()
    hiding.execute(f"DELETE FROM users WHERE id = {second}")
    hiding.check()


@on_hiding_servers
def test_an_alter_does_not_wait_for_the_snapshot(hiding: HelpdeskWorld) -> None:
    """What was looked up in the snapshot is not kept locked."""
    hiding.execute("DELETE FROM users WHERE id = (SELECT MIN(assignee_id) FROM tickets)")
    hiding.settle()
    hiding.execute("SET SESSION lock_wait_timeout = 1")
    hiding.execute("ALTER TABLE ticket_watchers ADD COLUMN extra INT, ALGORITHM=COPY")
    hiding.check()


@on_hiding_servers
def test_random_cascades_under_load_are_followed_without_a_walk(hiding: HelpdeskWorld) -> None:
    """Users, tags, categories and tickets go at any time, while all else changes."""
    walks = _found(hiding, "walk")
    workload = Workload(
        lambda: hiding.database.connect(hiding.name), seed=17, cascades=True, rate=200
    )
    workload.run(8, until=lambda: _found(hiding, "snapshot") > 20)
    hiding.check()
    assert _found(hiding, "snapshot") > 20
    assert _found(hiding, "walk") == walks
