"""`projector explain`: queries with their plans, missing indexes, what a row touches."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples import history, shop_oracle
from tests.projector_process import Projector
from tests.seed import seed
from tests.servers import DatabaseServer
from tests.servers.account import documented_account

pytestmark = pytest.mark.server

TESTS = Path(__file__).parent.parent


@pytest.fixture
def helpdesk(database: DatabaseServer, fresh_database: str) -> Iterator[tuple[Projector, Any]]:
    """A seeded helpdesk and the command line."""
    database.load_sql((TESTS / "helpdesk.sql").read_text("utf-8"), fresh_database)
    connection = database.connect(fresh_database)
    seed(connection, 300)
    daemon = Projector(documented_account(database, fresh_database), "redis://127.0.0.1:1/1")
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
    assert "(`ticket_id`)" in warned["tickets/ticket_comments"][0]
    assert "(`assignee_id`)" in warned["tickets/assignee_id"][0]
    text = daemon.run("explain").stdout
    assert ".ticket_comments is read whole" in text
    assert "warning: " in text


def test_check_and_explain_judge_alike(database: DatabaseServer, fresh_database: str) -> None:
    """In empty tables, where plans say nothing, and in filled ones; and each remedy helps."""
    database.load_sql((TESTS / "helpdesk.sql").read_text("utf-8"), fresh_database)
    connection = database.connect(fresh_database)
    url = documented_account(database, fresh_database)
    daemon = Projector(url, "redis://127.0.0.1:1/1")
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ticket_comments DROP FOREIGN KEY fk_ticket_comments_ticket_id")
        cursor.execute("ALTER TABLE ticket_comments DROP KEY ix_ticket_comments_ticket_id")
        cursor.execute("ALTER TABLE users DROP FOREIGN KEY fk_users_department_id")
        cursor.execute("SHOW INDEX FROM users WHERE Column_name = 'department_id'")
        for row in cursor.fetchall():
            cursor.execute(f"ALTER TABLE users DROP KEY `{row[2]}`")
        for is_filled in (False, True):
            if is_filled:
                seed(connection, 100)
            checked, explained = _judged(daemon)
            assert checked == explained
            assert len(checked) == 2
        for fix in {f"CREATE {warning.partition('. CREATE ')[2]}" for warning in explained}:
            cursor.execute(fix)
    assert _judged(daemon) == (set(), set())
    daemon.__exit__(None)


def _judged(daemon: Projector) -> tuple[set[str], set[str]]:
    """What is missing by `check` and by `explain`: the place and the remedy."""
    found = json.loads(daemon.run("check", "--json").stdout)
    checked = {
        f"{c['detail'].partition(' (about')[0]}. {c['fix']}"
        for c in found
        if c["name"] == "tickets.indexes" and c["status"] != "ok"
    }
    warned = [w for q in _report(daemon)["queries"] for w in q["warnings"]]
    explained = {
        f"{w.partition(' (about')[0]}. CREATE {w.partition('. CREATE ')[2]}" for w in warned
    }
    return checked, explained


def test_an_index_that_cannot_serve_is_named(
    database: DatabaseServer, fresh_database: str, tmp_path: Path
) -> None:
    """A number is sought in an index of texts."""
    (tmp_path / "mixed.py").write_text(MIXED, "utf-8")
    with database.connect(fresh_database) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE o (id INT PRIMARY KEY)")
        cursor.execute("CREATE TABLE p (id INT PRIMARY KEY, o VARCHAR(9), x INT, KEY (o))")
        cursor.execute("INSERT INTO o VALUES (1), (2), (3), (4)")
        cursor.execute("INSERT INTO p SELECT id + 9, id, 1 FROM o")
        cursor.execute(
            "INSERT INTO p SELECT a.id * 100 + b.id * 10 + c.id, a.id, 1 FROM p a, p b, p c"
        )
        connection.commit()
    daemon = Projector(
        documented_account(database, fresh_database), "redis://127.0.0.1:1/1",
        PROJECTOR_PROJECTION="mixed:documents", PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    found = json.loads(daemon.run("check", "--json").stdout)
    [said] = [c for c in found if c["name"] == "o.indexes"]
    assert said["status"] == "warning"
    assert "the index on o cannot serve" in said["detail"]
    assert "same type" in said["fix"]
    assert "the index on o cannot serve" in daemon.run("explain").stdout
    daemon.__exit__(None)


MIXED = """
import sqlalchemy as sa
from projector.projection import Many, Projection
m = sa.MetaData()
o = sa.Table("o", m, sa.Column("id", sa.Integer, primary_key=True))
p = sa.Table("p", m, sa.Column("id", sa.Integer, primary_key=True), sa.Column("o", sa.String(9)))
documents = Projection("o", o, [o.c.id],
    collections=[Many("p", p, p.c.o == o.c.id, value=p.c.id)])
"""


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
        documented_account(database, fresh_database), "redis://127.0.0.1:1/1",
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
