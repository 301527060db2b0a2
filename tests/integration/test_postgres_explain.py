"""`projector explain` on PostgreSQL, and what it and `check` say of missing indexes."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.postgres.workload import seed
from tests.postgres.world import HELPDESK
from tests.projector_process import Projector
from tests.servers import PostgresServer
from tests.servers.role import documented_role, helpdesk_role

pytestmark = pytest.mark.server


class Place:
    """A database on PostgreSQL, and the command line as the documented role."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server, self.name = server, name
        self.connection = server.connect(name)
        self.daemon = Projector(server.url(name), "redis://127.0.0.1:1/1")

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self.connection.execute(statement)

    def use(self, url: str, **settings: str) -> None:
        self.daemon.environment |= {"PROJECTOR_SOURCE__URL": url, **settings}

    def report(self, *words: str) -> dict[str, Any]:
        done = self.daemon.run("explain", *words, "--json")
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def judged(self, name: str) -> dict[str, str]:
        """What is missing by `check`: place and remedy; `explain` says the same."""
        checks = json.loads(self.daemon.run("check", "--json").stdout)
        [*found] = [c for c in checks if c["name"] == f"{name}.indexes"]
        assert found
        missing = {
            c["detail"].partition(", at each change")[0]: c["fix"]
            for c in found
            if c["status"] != "ok"
        }
        warned = {w for q in self.report()["queries"] for w in q["warnings"]}
        assert warned == {f"{detail}. {fix}" for detail, fix in missing.items()}
        return missing

    def close(self) -> None:
        self.daemon.__exit__(None)
        self.connection.close()


@pytest.fixture
def place(postgres_server: PostgresServer, fresh_postgres: str) -> Iterator[Place]:
    with contextlib.closing(Place(postgres_server, fresh_postgres)) as made:
        yield made


@pytest.fixture
def helpdesk(place: Place) -> Place:
    """The helpdesk, empty."""
    place.server.load_sql(HELPDESK, place.name)
    place.use(helpdesk_role(place.server, place.name))
    return place


def test_the_helpdesk_needs_no_further_index(helpdesk: Place) -> None:
    """Its five queries and its look-ups all seek by an index, empty or filled, and every table has
    its route."""
    for is_filled in (False, True):
        if is_filled:
            seed(helpdesk.connection, 300)
            helpdesk.execute("ANALYZE")
        report = helpdesk.report()
        assert sum(q["kind"] == "query" for q in report["queries"]) == 5
        assert [w for q in report["queries"] for w in q["warnings"]] == []
        assert all(q["plan"] for q in report["queries"])
        assert len({route["table"] for route in report["routes"]}) == 12
        assert bool(report["notes"]) is not is_filled
    text = helpdesk.daemon.run("explain").stdout
    assert "a change of organizations as tickets/departments/organizations" in text
    assert re.search(r"(?m)^    tickets: [A-Z][a-z ]+ Scan by (no index|\w+), \d+ rows\.", text)
    assert "warning" not in text


def test_a_missing_index_is_named_with_a_statement_that_helps(helpdesk: Place) -> None:
    """In empty tables, where plans say little, and in filled ones."""
    helpdesk.execute("DROP INDEX ix_ticket_comments_ticket_id", "DROP INDEX ix_users_department_id")
    for is_filled in (False, True):
        if is_filled:
            seed(helpdesk.connection, 300)
        missing = helpdesk.judged("tickets")
        assert {detail.partition(" (about")[0] for detail in missing} == {
            "public.ticket_comments is read whole",
            "public.users (as requester) is read whole",
        }
    assert 'ON "public"."ticket_comments" ("ticket_id");' in "".join(missing.values())
    assert "about 300 rows): no index begins with ticket_id" in " ".join(missing)
    for fix in set(missing.values()):
        assert fix.startswith("CREATE INDEX CONCURRENTLY ")
        helpdesk.execute(fix)
    assert helpdesk.judged("tickets") == {}


def test_what_a_row_touches_is_what_the_database_says(helpdesk: Place) -> None:
    """A user, in each role; a ticket by its own id; mistakes are explained."""
    seed(helpdesk.connection, 100)
    [(user,)] = helpdesk.connection.execute(
        "SELECT assignee_id FROM tickets WHERE assignee_id IS NOT NULL LIMIT 1"
    ).fetchall()
    counts = {
        role: helpdesk.connection.execute(sql, [user]).fetchall()[0][0]
        for role, sql in {
            "tickets/assignee": "SELECT count(*) FROM tickets WHERE assignee_id = %s",
            "tickets/requester": "SELECT count(*) FROM tickets WHERE requester_id = %s",
            "tickets/ticket_watchers/users":
                "SELECT count(DISTINCT ticket_id) FROM ticket_watchers WHERE user_id = %s",
        }.items()
    }  # fmt: skip
    touched = helpdesk.report("--table", "users", "--key", str(user))["touched"]
    assert {found["role"]: found["documents"] for found in touched} == counts
    text = helpdesk.daemon.run("explain", "--table", "tickets", "--key", "7").stdout
    assert text == "tickets as tickets: 1 documents 7\n"
    for words, said in (
        (["--table", "invoices", "--key", "1"], "reads no table invoices"),
        (["--table", "users", "--key", "999999999"], "has no row"),
        (["--table", "users", "--key", "x"], "no key"),
        (["--table", "users"], "go together"),
    ):
        done = helpdesk.daemon.run("explain", *words)
        assert done.returncode in (2, 3)
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_odd_names_keys_and_partitions_are_explained(place: Place) -> None:
    """Filled and empty: a schema of its own, UUIDs, texts, quoted names, a view of documents."""
    place.execute(
        'CREATE SCHEMA "Odd Shop"', 'SET search_path = "Odd Shop"',
        'CREATE TABLE "Customers" ("Key" varchar(20) PRIMARY KEY, "full name" text)',
        'CREATE TABLE "order" (id uuid PRIMARY KEY, "State" text, customer varchar(20),'
        " placed timestamptz, labels text[])",
        'CREATE TABLE lines ("order" uuid, nr int, month date, sku text, quantity numeric, total'
        ' numeric, PRIMARY KEY ("order", nr, month)) PARTITION BY RANGE (month)',
        "CREATE TABLE old PARTITION OF lines FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
        "CREATE TABLE new PARTITION OF lines FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    )  # fmt: skip
    module = "tests.examples.postgres_shop"
    url = documented_role(
        place.server, place.name, ["Customers", "order", "lines"], schema="Odd Shop"
    )
    place.use(url, PROJECTOR_PROJECTION=f"{module}:orders_by_id")
    statement = 'CREATE INDEX CONCURRENTLY "ix_order_customer" ON "Odd Shop"."order" ("customer");'
    missing = place.judged("orders")
    assert missing == {
        "Odd Shop.order is read whole (about 0 rows): no index begins with customer": statement
    }
    first = "00000000-0000-0000-0000-000000000001"
    place.execute(
        statement,
        "INSERT INTO \"Customers\" VALUES ('a:b', 'Ann')",
        f"INSERT INTO \"order\" VALUES ('{first}', 'open', 'a:b')",
        f"INSERT INTO lines VALUES ('{first}', 1, '2025-02-03', 'x', 1)",
    )
    assert place.judged("orders") == {}
    report = place.report()
    assert [view["name"] for view in report["views"]] == ["by_state"]
    for table, key in (
        ("Customers", "a:b"), ("order", first), ("lines", f"{first}:1:2025-02-03"),
    ):  # fmt: skip
        found = place.report("--table", table, "--key", key)["touched"]
        assert {tuple(each["ids"]) for each in found} == {(first,)}
    place.use(url, PROJECTOR_PROJECTION=f"{module}:lines_by_key")
    assert place.judged("lines") == {}
    [found] = place.report("--table", "order", "--key", first)["touched"]
    assert found["ids"] == [f"{first}:1:2025-02-03"]


def test_an_index_of_a_partitioned_table_is_advised_and_judged(
    place: Place, tmp_path: Path
) -> None:
    """Not concurrently, which PostgreSQL refuses there; partitions are read under names of their
    own. A table that is not there is said to be missing."""
    place.execute(
        "CREATE TABLE o (id int PRIMARY KEY, n int)",
        "CREATE TABLE p (id int, o int, x int, PRIMARY KEY (id, x)) PARTITION BY LIST (x)",
        "CREATE TABLE few PARTITION OF p FOR VALUES IN (1)",
        "CREATE TABLE many PARTITION OF p FOR VALUES IN (2)",
    )
    (tmp_path / f"parts_{place.name}.py").write_text(
        _PAIRS.format(kind="Integer", other="Integer", on=_ON_ID), "utf-8"
    )
    place.use(
        documented_role(place.server, place.name, ["o", "p"]),
        PROJECTOR_PROJECTION=f"parts_{place.name}:documents", PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    place.execute(
        "INSERT INTO o SELECT i, i FROM generate_series(1, 3000) i",
        "INSERT INTO p SELECT i, i % 3000, 1 + (i > 5)::int FROM generate_series(1, 20000) i",
        "ANALYZE o, p",
    )
    [fix] = place.judged("o").values()
    assert fix.startswith('CREATE INDEX "ix_p_o" ON "public"."p" ("o"); (nobody writes')
    place.execute("CREATE INDEX CONCURRENTLY ON many (o)", fix.partition(" (nobody")[0])
    assert place.judged("o") == {}
    [look_up] = [q for q in place.report()["queries"] if q["name"] == "o/p"]
    assert {step["relation"] for step in look_up["plan"]} >= {"few", "many"}
    place.execute("DROP TABLE p")
    done = place.daemon.run("explain")
    assert done.returncode == 3
    assert 'relation "p" does not exist' in done.stderr


_PAIRS = """
import sqlalchemy as sa
from projector.projection import Many, Projection
m = sa.MetaData()
o = sa.Table("o", m, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.{kind}))
p = sa.Table("p", m, sa.Column("id", sa.Integer, primary_key=True), sa.Column("o", sa.{other}),
    sa.Column("x", sa.Integer))
documents = Projection("o", o, [o.c.id], collections=[
    Many("p", p, on={on}, value=p.c.id)])
"""
_ON_ID, _ON_N = "p.c.o == o.c.id", "p.c.o == o.c.n"


@pytest.mark.parametrize(
    ("columns", "on", "indexes", "said"),
    [
        ("n int, o int", _ON_ID, ["p (o) WHERE o IS NOT NULL"], {}),
        ("n int, o int", _ON_ID, ["p (o, x)"], {}),
        ("n int, o int", _ON_ID, ["p USING hash (o)"], {}),
        ("n int, o int", _ON_ID, ["p (o) WHERE x > 5"], {"p": "CREATE INDEX"}),
        ("n int, o int", _ON_ID, ["p (x, o)"], {"p": "CREATE INDEX"}),
        ("n int, o int", _ON_ID, ["p USING brin (o)"], {"p": "CREATE INDEX"}),
        ("n int, o int", _ON_ID, ["p ((o + 1))"], {"p": "CREATE INDEX"}),
        ("n int, o int", f"sa.and_({_ON_ID}, p.c.x == 3)", ["p (x, o)"], {}),
        ("n int, o int", f"sa.and_({_ON_ID}, p.c.x == 3)", [], {"p": '("o", "x")'}),
        ("n numeric(9), o int", _ON_N, ["p (o)", "o (n)"], {"p": "same type"}),
        ("n numeric(9), o int", _ON_N, ["p (o)"], {"p": "same type", "o": 'ON "public"."o" ("n")'}),
        ("n numeric(9), o int", _ON_N, ["o (n)"], {"p": "same type"}),
        ('n text, o text COLLATE "C"', _ON_N, ["p (o)", "o (n)"], {"o": "same type and collation"}),
        ("n varchar(9), o text", _ON_N, ["p (o)", "o (n)"], {}),
        ("n int, o bigint", _ON_N, ["p (o)", "o (n)"], {}),
    ],
)
def test_an_index_is_judged_by_whether_it_serves(
    place: Place, tmp_path: Path, columns: str, on: str, indexes: list[str], said: dict[str, str]
) -> None:
    """Partial ones, those of other columns first, of other methods, types and collations; empty
    and filled alike."""
    n, o = columns.split(", ")
    place.execute(
        f"CREATE TABLE o (id int PRIMARY KEY, {n})",
        f"CREATE TABLE p (id int PRIMARY KEY, {o}, x int)",
        *(f"CREATE INDEX ON {index}" for index in indexes),
    )
    kind, other = ("Text" if "text" in each or "varchar" in each else "Integer" for each in (n, o))
    name = f"pairs_{place.name}"
    text = _PAIRS.format(kind=kind, other=other, on=on)
    (tmp_path / f"{name}.py").write_text(text, "utf-8")
    place.use(
        documented_role(place.server, place.name, ["o", "p"]),
        PROJECTOR_PROJECTION=f"{name}:documents", PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    for is_filled in (False, True):
        if is_filled:
            place.execute(
                "INSERT INTO o SELECT i, i FROM generate_series(1, 3000) i",
                "INSERT INTO p SELECT i, 1 + i % 3000, 3 FROM generate_series(1, 20000) i",
                "ANALYZE o, p",
            )
        found = {
            detail.partition(" ")[0].removeprefix("public."): fix
            for detail, fix in place.judged("o").items()
        }
        assert found.keys() == said.keys()
        for table, part in said.items():
            assert part in found[table]
