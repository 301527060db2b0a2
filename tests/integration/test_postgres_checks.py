"""`projector check` on PostgreSQL: what is wrong is told with the statement that mends it."""

from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.dialects import postgresql as pg

from projector.checks import Check
from projector.commands import check_postgres, slot
from projector.databases import Source
from projector.errors import OperatorError
from projector.postgres.dialect import POSTGRES
from projector.postgres.log import Address, PostgresLog
from projector.projection import Join, Many, Plan, Projection, View
from projector.settings import Settings
from tests.servers import PostgresServer
from tests.servers.role import documented_role, role_of

pytestmark = pytest.mark.server

_METADATA = sa.MetaData()
_PARENT = sa.Table(
    "parent", _METADATA, sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Text),
    sa.Column("d", sa.DateTime(timezone=True)),
)  # fmt: skip


def _child(name: str) -> sa.Table:
    return sa.Table(
        name, _METADATA, sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent_id", sa.Integer), sa.Column("b", pg.ARRAY(sa.Text)),
    )  # fmt: skip


def _with(child: sa.Table) -> Projection:
    """Return parents with their children, of one table or another."""
    on = child.c.parent_id == _PARENT.c.id
    children = Many("children", child, on=on, fields=[child.c.id, child.c.b])
    return Projection("parents", _PARENT, list(_PARENT.c), collections=[children])


_CHILD = _child("child")
_DOCUMENTS = _with(_CHILD)
_HALVES = _with(_child("halves"))
_SCHEMA = (
    "CREATE TABLE parent (id int PRIMARY KEY, a text, d timestamptz)",
    "CREATE TABLE child (id int PRIMARY KEY, parent_id int NOT NULL, b text[])",
)


@pytest.fixture
def place(postgres_server: PostgresServer, fresh_postgres: str) -> Any:
    """Run statements as the superuser, then check as the documented role."""
    server, name = postgres_server, fresh_postgres
    for statement in _SCHEMA:
        server.execute(statement, database=name)
    url = documented_role(server, name, ["parent", "child"], full=["child"])

    def check(*statements: str, plan: Projection = _DOCUMENTS) -> list[Check]:
        for statement in statements:
            server.execute(statement.replace("{role}", role_of(name)), database=name)
        settings = Settings(source=Source(url=url, slot=f"s_{name}"), projection="a:b")
        return check_postgres.every(settings, [Plan(plan, POSTGRES)])

    check.settings = Settings(source=Source(url=url, slot=f"s_{name}"))  # type: ignore[attr-defined]
    return check


def _failed(checks: list[Check], status: str = "failed") -> dict[str, str]:
    return {c.name: f"{c.detail} {c.fix}" for c in checks if c.status == status}


def test_what_is_documented_is_enough(place: Any) -> None:
    """No complaint of the role, its publication, the tables and the projection."""
    checks = place()
    assert _failed(checks) == {}
    assert {"postgres.publication", "postgres.replica_identity", "parents.queries"} <= {
        check.name for check in checks if check.status == "ok"
    }


@pytest.mark.parametrize(
    ("statements", "name", "said"),
    [
        (["REVOKE SELECT ON child FROM {role}"], "postgres.privileges",
         'GRANT SELECT ON "public"."child" TO "{role}"'),
        (["REVOKE USAGE ON SCHEMA public FROM {role}, PUBLIC"], "postgres.privileges",
         'GRANT USAGE ON SCHEMA "public"'),
        (["ALTER ROLE {role} NOREPLICATION"], "postgres.privileges", "REPLICATION;"),
        (["DROP PUBLICATION projector"], "postgres.publication", "CREATE PUBLICATION"),
        (["ALTER PUBLICATION projector DROP TABLE child"], "postgres.publication",
         'ADD TABLE "public"."child"'),
        (["ALTER PUBLICATION projector SET (publish = 'insert, update')"],
         "postgres.publication", "leaves out delete, truncate"),
        (["ALTER PUBLICATION projector SET TABLE parent WHERE (id > 5), child"],
         "postgres.publication", "a filter of rows"),
        (["ALTER TABLE parent REPLICA IDENTITY NOTHING"], "postgres.replica_identity",
         "the application's too"),
        (["ALTER TABLE parent DROP CONSTRAINT parent_pkey, ADD PRIMARY KEY (id) DEFERRABLE"],
         "postgres.replica_identity", "DEFERRABLE"),
        (["ALTER TABLE parent ENABLE ROW LEVEL SECURITY"], "postgres.row_security", "BYPASSRLS"),
        (["ALTER TABLE parent RENAME a TO x"], "parents.columns", "no column public.parent.a"),
        (["ALTER TABLE parent ALTER d TYPE interval USING NULL"], "parents.columns",
         "no form in JSON"),
        (["ALTER TABLE child ALTER parent_id TYPE text"], "parents.columns", "declared as INTEGER"),
    ],
)  # fmt: skip
def test_what_is_missing_is_told_with_the_statement(
    place: Any, fresh_postgres: str, statements: list[str], name: str, said: str
) -> None:
    """And stops a start, where documents would be wrong."""
    found = _failed(place(*statements))
    assert said.replace("{role}", role_of(fresh_postgres)) in found.get(name, str(found))
    unfit: list[Check] = []
    plans = [Plan(_DOCUMENTS, POSTGRES)]
    needed = check_postgres.required(place.settings, plans, unfit, lambda: None)
    assert (name in _failed(needed + unfit)) == (name != "postgres.replica_identity")


@pytest.mark.parametrize(
    ("publication", "tables"),
    [
        ("FOR ALL TABLES", ["CREATE TABLE other (id int)"]),
        ("FOR TABLES IN SCHEMA public", ["CREATE TABLE other (id int)"]),
        ("FOR TABLE parent, child, other", ["CREATE TABLE other (id int)"]),
        ("FOR TABLE parent, halves, other", ["CREATE TABLE other (id int)"]),
        ("FOR TABLE parent, halves WHERE (id > 0) WITH (publish_via_partition_root)", []),
        ("FOR TABLE parent, half (id, parent_id)", []),
        ("FOR TABLE parent, halves WITH (publish_via_partition_root)", []),
        ("FOR TABLE parent, halves WITH (publish = 'insert, update')", []),
        ("FOR TABLE half", []),
    ],
)
def test_statements_about_the_publication_are_taken(
    place: Any, postgres_server: PostgresServer, fresh_postgres: str, publication: str,
    tables: list[str],
) -> None:  # fmt: skip
    """By the server, and leave nothing to be said; whether tables are listed, or come with their
    schema or their root."""
    if "halves" in publication or "half" in publication:
        tables = [
            "ALTER TABLE child RENAME TO half", "CREATE TABLE halves (LIKE half INCLUDING ALL)"
            " PARTITION BY RANGE (id)",
            "ALTER TABLE halves ATTACH PARTITION half FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE rest PARTITION OF halves FOR VALUES FROM (10) TO (20)",
            "ALTER TABLE rest REPLICA IDENTITY FULL", "GRANT SELECT ON halves TO {role}", *tables,
        ]  # fmt: skip
    plan = _HALVES if "half" in str(tables) else _DOCUMENTS
    said = [
        check for check in place(
            "DROP PUBLICATION projector", *tables, f"CREATE PUBLICATION projector {publication}",
            plan=plan,
        ) if check.name == "postgres.publication" and check.status != "ok"
    ]  # fmt: skip
    assert said
    for _ in range(3):
        for check in said:
            for statement in check.fix.partition(": ")[2].split("; "):
                if statement.startswith(("ALTER", "DROP", "CREATE")):
                    postgres_server.execute(statement.strip(";"), database=fresh_postgres)
        said = [
            check for check in place(plan=plan)
            if check.name == "postgres.publication" and check.status != "ok"
        ]  # fmt: skip
    assert not said


@pytest.mark.parametrize(
    ("kind", "is_refused"),
    [("mood[]", False), ("d[]", False), ("ds", False), ("text[][]", False), ("parent[]", True),
     ("int4range[]", True), ("text", True)],
)  # fmt: skip
def test_arrays_are_judged_by_their_elements(place: Any, kind: str, is_refused: bool) -> None:
    """Through domains, whatever the element's type is called; composites have no form in JSON."""
    checks = place(
        "CREATE TYPE mood AS ENUM ('a')", "CREATE DOMAIN d AS text", "CREATE DOMAIN ds AS d[]",
        f"ALTER TABLE child ALTER b TYPE {kind} USING NULL",
    )  # fmt: skip
    assert ("parents.columns" in _failed(checks)) == is_refused


def test_a_view_by_a_key_that_folds_is_refused(place: Any, postgres_server: PostgresServer) -> None:
    """By `check` as by a start: nobody knows which texts are one list."""
    if not postgres_server.has_icu:
        pytest.skip("this server has deterministic collations alone")
    plan = Projection(
        "parents", _PARENT, list(_PARENT.c),
        views=[View("by_a", key=_PARENT.c.a, newest=_PARENT.c.d)],
    )  # fmt: skip
    folding = "CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2',"
    assert "parents.views" not in _failed(place(plan=plan))
    found = _failed(place(
        f"{folding} deterministic = false)",
        "ALTER TABLE parent ALTER a TYPE text COLLATE folding", plan=plan,
    ))  # fmt: skip
    assert "which texts are one value" in found["parents.views"]


def test_a_read_server_of_another_cluster_is_refused(
    place: Any, postgres15_server: PostgresServer, postgres18_server: PostgresServer
) -> None:
    """And another database of the right one: no place in the log says what they show."""
    source = place.settings.source
    for server, word in ((postgres15_server, "15"), (postgres18_server, "18")):
        stranger = source.model_copy(update={"read_url": SecretStr(server.url("postgres"))})
        settings = Settings(source=stranger, projection="a:b")
        found = _failed(check_postgres.every(settings, [Plan(_DOCUMENTS, POSTGRES)]))
        assert "leads to" in found["postgres.read_url"], word


def test_what_may_not_be_read_is_said_once(place: Any) -> None:
    """Not again by each query that the server then refuses."""
    assert set(_failed(place("REVOKE SELECT ON child FROM {role}"))) == {"postgres.privileges"}


def test_documents_are_counted_before_the_first_analyze(place: Any) -> None:
    """The server has no estimate of rows then."""
    place("INSERT INTO parent VALUES (1, 'x', now())")
    rows, mean_bytes = check_postgres.sizes(place.settings, Plan(_DOCUMENTS, POSTGRES))
    assert (rows, mean_bytes > 0) == (1, True)


def test_an_unlogged_table_is_refused(place: Any) -> None:
    """The log has no rows of it."""
    checks = place("DROP PUBLICATION projector", "ALTER TABLE child SET UNLOGGED")
    assert "is unlogged" in _failed(checks)["parents.columns"]


def test_a_view_is_refused_as_what_it_is(place: Any) -> None:
    """It cannot be published, so that nobody is told to do so; the start is refused with it."""
    view = "CREATE VIEW child AS SELECT 1 id, 1 parent_id, '{}'::text[] b"
    checks = place("DROP TABLE child", view, "GRANT SELECT ON child TO {role}")
    assert "a view" in _failed(checks)["parents.columns"]
    assert "postgres.publication" not in _failed(checks)
    unfit: list[Check] = []
    check_postgres.required(place.settings, [Plan(_DOCUMENTS, POSTGRES)], unfit, lambda: None)
    assert "a view" in _failed(unfit)["parents.columns"]


def test_a_costly_identity_is_a_warning(place: Any) -> None:
    """With the cheapest statements that end it."""
    checks = place("ALTER TABLE child REPLICA IDENTITY DEFAULT")
    said = _failed(checks, "warning")["postgres.replica_identity"]
    assert 'CREATE UNIQUE INDEX CONCURRENTLY "child_identity"' in said
    checks = place("ALTER TABLE child ALTER parent_id DROP NOT NULL")
    assert "REPLICA IDENTITY FULL" in _failed(checks, "warning")["postgres.replica_identity"]


def test_joins_that_the_server_refuses_are_told(place: Any) -> None:
    """Before a start, with its SQLSTATE."""
    odd = Projection(
        "odd", _CHILD, [_CHILD.c.id, _PARENT.c.a.label("name")],
        joins=[Join(_PARENT, _CHILD.c.parent_id == _PARENT.c.a)],
    )  # fmt: skip
    found = _failed(place(plan=odd))
    assert "42883" in found["odd.queries"]


def test_the_slot_is_shown_and_dropped(place: Any) -> None:
    """Not while somebody reads from it."""
    settings = place.settings
    with pytest.raises(OperatorError, match="there is no replication slot"):
        slot.status(settings)
    log = PostgresLog(Address(settings.source.conninfo, settings.source.slot, "projector"))
    log.start(log.begin(), [])
    try:
        found = slot.status(settings)
        assert (found["state"], found["active"]) == ("reserved", True)
        with pytest.raises(OperatorError, match="is read by process"):
            slot.drop(settings)
    finally:
        log.close()
    slot.drop(settings)
    with pytest.raises(OperatorError, match="there is no replication slot"):
        slot.status(settings)
