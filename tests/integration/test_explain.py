"""`projector explain`: queries with their plans, missing indexes, what a row touches."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples import history, shop_oracle
from tests.projector_process import Projector
from tests.seed import seed
from tests.servers import DatabaseServer

pytestmark = pytest.mark.server

TESTS = Path(__file__).parent.parent


@pytest.fixture
def helpdesk(database: DatabaseServer, fresh_database: str) -> Iterator[tuple[Projector, Any]]:
    """A seeded helpdesk and the command line."""
    database.load_sql((TESTS / "helpdesk.sql").read_text("utf-8"), fresh_database)
    connection = database.connect(fresh_database)
    seed(connection, 300)
    daemon = Projector(database.url(fresh_database), "redis://127.0.0.1:1/1")
    yield daemon, connection
    daemon.__exit__(None)
    connection.close()


def _report(daemon: Projector, *words: str) -> dict[str, Any]:
    done = daemon.run("explain", *words, "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_the_helpdesk_needs_no_further_index(helpdesk: tuple[Projector, Any]) -> None:
    """Its five queries and its look-ups all seek by an index, and every table has its route."""
    report = _report(helpdesk[0])
    assert sum(q["kind"] == "query" for q in report["queries"]) == 5
    assert [w for q in report["queries"] for w in q["warnings"]] == []
    assert all(q["plan"] for q in report["queries"])
    assert len({route["table"] for route in report["routes"]}) == 12
    text = helpdesk[0].run("explain").stdout
    assert "a change of organizations as tickets/departments/organizations" in text
    assert "warning" not in text


def test_a_missing_index_is_named(helpdesk: tuple[Projector, Any]) -> None:
    """Without its index the comments are read whole, by the query and by no look-up."""
    daemon, connection = helpdesk
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ticket_comments DROP FOREIGN KEY fk_ticket_comments_ticket_id")
        cursor.execute("ALTER TABLE ticket_comments DROP KEY ix_ticket_comments_ticket_id")
        cursor.execute("ALTER TABLE tickets DROP FOREIGN KEY fk_tickets_assignee_id")
        cursor.execute("ALTER TABLE tickets DROP KEY ix_tickets_assignee_id")
    warned = {q["name"]: q["warnings"] for q in _report(daemon)["queries"] if q["warnings"]}
    assert set(warned) == {"tickets/ticket_comments", "tickets/assignee_id"}
    assert "(ticket_id)" in warned["tickets/ticket_comments"][0]
    assert "(assignee_id)" in warned["tickets/assignee_id"][0]
    assert "warning: ticket_comments is read whole" in daemon.run("explain").stdout


def test_what_a_row_touches_is_what_the_database_says(helpdesk: tuple[Projector, Any]) -> None:
    """A user, in each role; a ticket by its own id."""
    daemon, connection = helpdesk
    with connection.cursor() as cursor:
        cursor.execute("SELECT assignee_id FROM tickets WHERE assignee_id IS NOT NULL LIMIT 1")
        [user] = cursor.fetchone()
        counts = {}
        for role, sql in {
            "tickets/assignee": "SELECT COUNT(*) FROM tickets WHERE assignee_id = %s",
            "tickets/requester": "SELECT COUNT(*) FROM tickets WHERE requester_id = %s",
            "tickets/ticket_watchers/users":
                "SELECT COUNT(DISTINCT ticket_id) FROM ticket_watchers WHERE user_id = %s",
        }.items():  # fmt: skip
            cursor.execute(sql, [user])
            counts[role] = cursor.fetchone()[0]
        cursor.execute("SELECT MAX(id) FROM tickets")
        [ticket] = cursor.fetchone()
    touched = _report(daemon, "--table", "users", "--key", str(user))["touched"]
    assert {found["role"]: found["documents"] for found in touched} == counts
    [own] = _report(daemon, "--table", "tickets", "--key", str(ticket))["touched"]
    assert own["ids"] == [str(ticket)]
    text = daemon.run("explain", "--table", "tickets", "--key", str(ticket)).stdout
    assert text == f"tickets as tickets: 1 documents {ticket}\n"


def test_mistakes_are_explained(helpdesk: tuple[Projector, Any]) -> None:
    """Another table, another row, half of the options."""
    daemon = helpdesk[0]
    for words, said in (
        (["--table", "invoices", "--key", "1"], "reads no table invoices"),
        (["--table", "users", "--key", "999999999"], "has no row"),
        (["--table", "users", "--key", "x"], "no key"),
        (["--table", "users"], "go together"),
    ):
        done = daemon.run("explain", *words)
        assert done.returncode in (2, 3)
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_strings_and_composite_keys_are_explained(
    database: DatabaseServer, fresh_database: str
) -> None:
    """The shop, filled and empty: UUIDs, collations, three levels."""
    database.load_sql((TESTS / "examples" / "shop.sql").read_text("utf-8"), fresh_database)
    module = "tests.examples.shop"
    daemon = Projector(
        database.url(fresh_database), "redis://127.0.0.1:1/1",
        PROJECTOR_PROJECTION=f"{module}:orders_by_id,{module}:products_by_sku,"
        f"{module}:stock_by_shelf",
        SHOP_MASK_KEY="x",
    )  # fmt: skip
    with database.connect(fresh_database) as connection, connection.cursor() as cursor:
        for _ in range(2):
            for name in ("orders", "products", "stock"):
                report = _report(daemon, "--projection", name)
                assert all(q["plan"] for q in report["queries"])
            history.run(connection, shop_oracle.TABLES, 5, 60)
        cursor.execute("DELETE FROM products")
        cursor.execute("INSERT INTO products (sku) VALUES ('b')")
        cursor.execute("REPLACE INTO stock VALUES ('c:1', 'B', 7, 1)")
    [found] = _report(daemon, "--projection", "stock", "--table", "stock", "--key", "c%3A1:B:7")[
        "touched"
    ]
    assert found["ids"] == ["c%3A1:B:7"]
    [found] = _report(daemon, "--projection", "stock", "--table", "products", "--key", "b")[
        "touched"
    ]
    assert "c%3A1:B:7" in found["ids"]
    daemon.__exit__(None)
