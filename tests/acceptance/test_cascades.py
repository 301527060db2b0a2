"""Rows that foreign keys change behind the log's back: every cascade of the reference schema."""

import contextlib
import uuid
from collections.abc import Iterator

import pytest

from tests.acceptance.test_live import World
from tests.servers import DatabaseServer, Flavour, RedisServer, start_database

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=["mariadb", "mariadb11", "mysql", "mysql-native"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """MariaDB never logs cascades; MySQL 9.7 does, unless InnoDB carries them out by itself."""
    options = ["--innodb-native-foreign-keys=ON"] if request.param == "mysql-native" else []
    with start_database(Flavour(request.param.partition("-")[0]), options=options) as found:
        yield found


@pytest.fixture
def helpdesk(server: DatabaseServer, fresh_redis: RedisServer) -> Iterator[World]:
    """A seeded helpdesk with a daemon that has built its hash."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server.create_database(name)
    made = World(server, name, fresh_redis)
    with contextlib.ExitStack() as stack:
        stack.callback(made.connection.close)
        stack.callback(made.redis.close)
        stack.push(made.daemon.__exit__)
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
def test_a_cascade_is_followed(helpdesk: World, sql: str) -> None:
    """The hash equals the database again by itself, within seconds."""
    for statement in sql.split(";"):
        helpdesk.execute(statement)
    helpdesk.check()


def test_a_deleted_user_takes_tickets_comments_and_watching_along(helpdesk: World) -> None:
    """Requester, assignee, watcher and author at once."""
    requester = helpdesk.one("SELECT requester_id FROM tickets ORDER BY id LIMIT 1")
    author = helpdesk.one("SELECT author_id FROM ticket_comments ORDER BY id DESC LIMIT 1")
    helpdesk.execute(f"DELETE FROM users WHERE id = {author}")
    helpdesk.check()
    helpdesk.execute(f"DELETE FROM users WHERE id = {requester}")
    helpdesk.check()
