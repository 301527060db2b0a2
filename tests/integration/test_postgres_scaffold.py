"""`projector scaffold TABLE` on PostgreSQL: what it prints runs as printed."""

import contextlib
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from projector.postgres.dialect import POSTGRES
from projector.projection import Plan
from tests.oracle import parse
from tests.postgres.oracle import oracle_documents
from tests.postgres.workload import seed
from tests.postgres.world import HELPDESK
from tests.projector_process import Projector
from tests.servers import PostgresServer, RedisServer
from tests.servers.role import documented_role, helpdesk_role, role_of, role_url

pytestmark = pytest.mark.server

_ODD = """
CREATE SCHEMA "Odd Shop"; CREATE SCHEMA other;
SET search_path = "Odd Shop";
CREATE DOMAIN amount AS numeric(10,2); CREATE DOMAIN price AS amount CHECK (VALUE >= 0);
CREATE TYPE mood AS ENUM ('sad', 'it''s ok'); CREATE TYPE pair AS (a int, b int);
CREATE TABLE other.country (code char(2) PRIMARY KEY, name text);
CREATE TABLE "Customers" ("Key" varchar(20) PRIMARY KEY, "full name" text, api_token text,
  country char(2) REFERENCES other.country);
CREATE TABLE "order" (id uuid PRIMARY KEY, "State" mood, price price, "class" int, "keys" int,
  customer varchar(20) NOT NULL REFERENCES "Customers", placed timestamptz, local timestamp,
  day date, at time, labels text[], grid int[][], doc jsonb, raw json, ip inet, net cidr,
  mac macaddr, bits bit(4), varied varbit, photo bytea, ok boolean, f4 real, f8 float8, big bigint,
  small smallint, doubled bigint GENERATED ALWAYS AS (big * 2) STORED, n numeric, letter "char",
  span interval, cash money, ranged int4range, pair pair, moods mood[], words tsvector, tz timetz);
COMMENT ON COLUMN "order".customer IS E'who has\\nordered it';
CREATE TABLE lines (id bigint GENERATED ALWAYS AS IDENTITY, "order" uuid REFERENCES "order",
  sku text, month date, PRIMARY KEY (id, month)) PARTITION BY RANGE (month);
CREATE TABLE lines_1 PARTITION OF lines FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE lines_2 PARTITION OF lines FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE other.lines (no serial PRIMARY KEY, o uuid REFERENCES "Odd Shop"."order", said text);
CREATE TABLE prices (at timestamptz, ip inet, price price, PRIMARY KEY (at, ip));
CREATE TABLE migrated (id numeric(10) PRIMARY KEY, "order" uuid REFERENCES "order");
CREATE TABLE "Dotted.Name" (id int PRIMARY KEY);
CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
CREATE TABLE keyless (id int);
CREATE VIEW seen AS SELECT id FROM "order";
INSERT INTO other.country VALUES ('de', 'Germany');
INSERT INTO "Customers" VALUES ('ann', 'Ann', 'secret', 'de');
INSERT INTO "order" (id, "State", price, "class", customer, placed, labels, grid, doc, raw, ip,
  bits, ok, f8, big, photo, letter, local) VALUES ('00000000-0000-0000-0000-000000000001',
  'it''s ok', 9.5, 3, 'ann', '2026-01-02T03:04:05Z', '{a,NULL,"b c"}', '{{1,2},{3,4}}',
  '{"a": [1]}', '{"b": 1.0}', '10.0.0.1', '0101', true, 0.1, 21, 'x', 'c', '2026-01-02T03:04:05');
INSERT INTO lines ("order", sku, month) SELECT id, 'a-1', d::date FROM "order",
  unnest('{2025-02-03,2026-02-03}'::text[]) d;
INSERT INTO other.lines (o, said) SELECT id, 'hm' FROM "order";
INSERT INTO migrated SELECT 7, id FROM "order";
INSERT INTO prices VALUES ('2026-01-02T03:04:05Z', '10.0.0.1', 1.5);
"""
_PREFIXED = """
CREATE TABLE ost_ticket (ticket_id int PRIMARY KEY, user_id int, dept_id int, passwd varchar(9));
CREATE INDEX ON ost_ticket (user_id);
CREATE TABLE ost_user (id int PRIMARY KEY, name varchar(20), api_token varchar(9));
CREATE TABLE ost_department (id int PRIMARY KEY, name varchar(20));
CREATE TABLE ost_thread (id int PRIMARY KEY, ticket_id int, mail varchar(20));
CREATE INDEX ON ost_thread (ticket_id);
CREATE TABLE ost_mail (id int PRIMARY KEY, address varchar(20), owner int);
CREATE VIEW ost_seen AS SELECT * FROM ost_user;
INSERT INTO ost_user VALUES (7, 'Ann', 'x'); INSERT INTO ost_department VALUES (3, 'Support');
INSERT INTO ost_ticket VALUES (1, 7, 3, 'secret'); INSERT INTO ost_thread VALUES (5, 1, 'a@x');
INSERT INTO ost_mail VALUES (1, 'a@x', 10), (2, 'a@x', 20);
"""


class Place:
    """A database on PostgreSQL, the documented role there, an empty Redis, and the command line."""

    def __init__(
        self, server: PostgresServer, name: str, redis_server: RedisServer, folder: Path
    ) -> None:
        self.server, self.name, self.folder = server, name, folder
        self.redis = redis_server.client(db=1)
        self.connection = server.connect(name)
        self.daemon = Projector(
            server.url(name),
            redis_server.url(db=1),
            PYTHONPATH=str(folder),
            PROJECTOR_SOURCE__SLOT=f"s_{name}",
        )
        self.use(server.url(name))

    def use(self, url: str, schema: str = "public") -> None:
        self.daemon.environment["PROJECTOR_SOURCE__URL"] = url
        self.daemon.environment["PROJECTOR_SOURCE__SEARCH_SCHEMA"] = schema

    def scaffold(self, table: str, *options: str) -> str:
        """Print the module, and make it the projection."""
        printed = self.daemon.run("scaffold", table, *options)
        assert printed.returncode == 0, printed.stderr
        name = f"made_{uuid.uuid4().hex}"
        (self.folder / f"{name}.py").write_text(printed.stdout, "utf-8")
        self.daemon.environment["PROJECTOR_PROJECTION"] = f"{name}:documents"
        return printed.stdout

    def documents(self, key: str) -> dict[str, Any]:
        """Check, then run until everything is there; also compare it with the database."""
        checked = self.daemon.run("check", "--json")
        failed = [c for c in json.loads(checked.stdout) if c["status"] == "failed"]
        assert not failed
        self.daemon.start("--until-current")
        assert self.daemon.wait(60) == 0, self.daemon.log()
        assert self.daemon.run("verify").returncode == 0
        return {k.decode(): parse(v) for k, v in self.redis.hgetall(key).items()}

    def close(self) -> None:
        self.daemon.__exit__(None)
        self.connection.close()
        self.redis.close()
        self.server.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name = %s",
            f"s_{self.name}",
            database=self.name,
        )


@pytest.fixture
def place(
    postgres_server: PostgresServer, fresh_postgres: str, fresh_redis: RedisServer, tmp_path: Path
) -> Iterator[Place]:
    with contextlib.closing(Place(postgres_server, fresh_postgres, fresh_redis, tmp_path)) as made:
        yield made


def test_a_ticket_is_scaffolded_whole(place: Place) -> None:
    """Foreign keys followed, roles told apart, children as lists, true JSON: what hand-written SQL
    says of the same tickets."""
    place.server.load_sql(HELPDESK, place.name)
    seed(place.connection, 60)
    place.use(helpdesk_role(place.server, place.name))
    place.scaffold("tickets", "--model")
    documents = place.documents("tickets")
    expected = oracle_documents(place.connection)
    assert documents.keys() == expected.keys()
    same = ["title", "description", "status_name", "estimated_hours", "custom_fields", "due_at",
            "created_at", "category_name", "requester_email", "assignee_email"]  # fmt: skip
    names = {"organization_name": "department_organization_name",
             "requester_name": "requester_full_name", "assignee_name": "assignee_full_name",
             "parent_category_name": "category_parent_name",
             "is_closed": "status_is_closed"}  # fmt: skip
    for key, document in documents.items():
        wanted = expected[key]
        assert {name: document[name] for name in same} == {name: wanted[name] for name in same}
        for own, name in names.items():
            assert document[name] == wanted[own]
        assert sorted(t["tag_name"] for t in document["ticket_tags"]) == sorted(wanted["tags"])
        assert len(document["ticket_comments"]) == wanted["comment_count"]
        watchers = [(w["user_id"], w["user_full_name"]) for w in document["ticket_watchers"]]
        assert watchers == [(w["user_id"], w["name"]) for w in wanted["watchers"]]


def test_every_table_of_the_helpdesk_can_be_scaffolded(place: Place) -> None:
    """Whatever refers to whatever, also to itself: the server takes all queries."""
    place.server.load_sql(HELPDESK, place.name)
    place.use(helpdesk_role(place.server, place.name))
    tables = place.connection.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    ).fetchall()
    assert len(tables) == 12
    for (table,) in tables:
        place.scaffold(table)
        checks = json.loads(place.daemon.run("check", "--json").stdout)
        failed = {c["name"]: c["detail"] for c in checks if c["status"] == "failed"}
        assert not failed
        assert f"{table}.queries" in {c["name"] for c in checks}


def test_types_schemas_and_odd_names_are_scaffolded(place: Place) -> None:
    """Domains, enums, arrays, JSON, generated columns; keys from and to other schemas; what has no
    form in JSON is left out; a comment stands beside its column."""
    role = _odd(place)
    text = place.scaffold("order", "--model")
    assert re.findall(r"# (\w+): its type", text) == [
        "span", "cash", "ranged", "pair", "words", "tz",
    ]  # fmt: skip
    assert "sa.Column('moods', postgresql.ARRAY(sa.Text()))" in text
    assert "sa.Column('customer', sa.String(20)),  # who has ordered it" in text
    assert "sa.Enum('sad', \"it's ok\", name='mood')" in text
    assert "sa.Column('price', sa.Numeric(10, 2))" in text
    assert "# Customers.c.api_token" in text
    assert "# order.c.photo,  # a file?" in text
    place.use(role, "Odd Shop")
    [document] = place.documents("order").values()
    expected = {
        "id": "00000000-0000-0000-0000-000000000001", "State": "it's ok", "price": "9.50",
        "class": 3, "keys": None, "customer": "ann", "placed": "2026-01-02T03:04:05Z",
        "local": "2026-01-02T03:04:05Z", "labels": ["a", None, "b c"], "grid": [[1, 2], [3, 4]],
        "doc": {"a": [1]}, "raw": {"b": {"number": "1.0"}}, "ip": "10.0.0.1", "bits": "0101",
        "ok": True, "f8": {"number": "0.1"}, "big": 21, "doubled": 42, "letter": "c", "small": None,
        "customer_full name": "Ann", "customer_country": "de", "customer_country_name": "Germany",
        "lines": [{"id": 1, "sku": "a-1", "month": "2025-02-03"},
                  {"id": 2, "sku": "a-1", "month": "2026-02-03"}],
        "lines_rows": [{"no": 1, "said": "hm"}],
    }  # fmt: skip
    assert {name: document[name] for name in expected} == expected
    assert not {"span", "photo", "api_token", "customer_api_token"} & document.keys()
    model: dict[str, Any] = {"__name__": "made_with_a_model"}
    exec(text, model)
    shown = model["OrderDocument"].model_validate_json(place.redis.hget("order", document["id"]))
    assert shown.labels == ["a", None, "b c"]
    assert shown.id == uuid.UUID(int=1)
    assert shown.big == 21


def test_a_key_of_dates_and_addresses_names_documents_by_its_text(place: Place) -> None:
    """One of decimals without a fraction is a whole number. A table of another schema has
    its own there; each can be named by either."""
    place.use(_odd(place), "Odd Shop")
    place.scaffold("prices")
    assert place.documents("prices") == {
        "2026-01-02 03%3A04%3A05:10.0.0.1": {
            "at": "2026-01-02 03:04:05", "ip": "10.0.0.1", "price": "1.50"
        }
    }  # fmt: skip
    text = place.scaffold("migrated")
    assert place.documents("migrated")["7"]["id"] == 7
    assert "sa.Column('id', sa.BigInteger(), primary_key=True)" in text
    for name in ("lines", '"Odd Shop".lines', "Odd Shop.lines"):
        assert "schema=" not in place.scaffold(name).split("order = ")[0]
    assert "schema='other'" in place.scaffold("other.lines").split("order = ")[0]
    assert "'Dotted.Name'" in place.scaffold("Dotted.Name")
    assert "'order'" in place.scaffold('"order"')


def test_two_tables_of_one_name_stand_in_one_document(place: Place) -> None:
    """Of two schemas: one goes by an alias, and changes of both are followed."""
    place.connection.execute(
        "CREATE SCHEMA other;"
        "CREATE TABLE person (id int PRIMARY KEY, boss int REFERENCES person, name text);"
        "CREATE TABLE other.person (id int PRIMARY KEY, p int REFERENCES person);"
        "INSERT INTO person VALUES (1, NULL, 'Ann'), (2, 1, 'Bob');"
        "INSERT INTO other.person VALUES (5, 2)"
    )
    url = documented_role(place.server, place.name, ["person"], full=["person"])
    for statement in (
        "GRANT USAGE ON SCHEMA other TO {role}",
        "GRANT SELECT ON other.person TO {role}",
        "ALTER PUBLICATION projector ADD TABLE other.person",
    ):
        place.connection.execute(statement.replace("{role}", role_of(place.name)))
    place.use(url)
    place.scaffold("other.person")
    expected = {"id": 5, "p": 2, "p_boss": 1, "p_name": "Bob", "p_boss_boss": None}
    assert place.documents("person") == {"5": expected | {"p_boss_name": "Ann"}}
    assert place.daemon.run("explain").returncode == 0
    place.connection.execute("UPDATE person SET name = 'Anna' WHERE id = 1")
    assert place.documents("person") == {"5": expected | {"p_boss_name": "Anna"}}


def test_a_schema_without_foreign_keys_is_scaffolded(place: Place) -> None:
    """Proposals to follow, a partner picked, secrets out."""
    place.connection.execute(_PREFIXED)
    tables = ["ost_ticket", "ost_user", "ost_department", "ost_thread", "ost_mail"]
    place.use(documented_role(place.server, place.name, tables))
    proposed = re.findall(r"#   --follow '(.*)'", place.scaffold("ost_ticket"))
    assert proposed == [
        "ost_thread.ticket_id=ost_ticket.ticket_id", "ost_ticket.user_id=ost_user.id",
    ]  # fmt: skip
    more = ["dept_id=ost_department.id", "mail=ost_mail.address"]
    place.scaffold("ost_ticket", *(x for said in [*proposed, *more] for x in ("--follow", said)))
    assert place.documents("ost_ticket") == {
        "1": {
            "ticket_id": 1, "user_id": 7, "dept_id": 3, "user_name": "Ann", "dept_name": "Support",
            "ost_thread": [{"id": 5, "mail": "a@x", "mail_id": 1, "mail_owner": 10}],
        }
    }  # fmt: skip


def test_several_tables_are_scaffolded_at_once(place: Place) -> None:
    """One module, a projection each, with models."""
    _odd(place)
    tables = ["order", "Customers", "lines", "other.country", "prices"]
    done = place.daemon.run("scaffold", *tables, "--model")
    assert done.returncode == 0, done.stderr
    scope: dict[str, Any] = {"__name__": "made_of_several"}
    exec(done.stdout, scope)
    plans = [Plan(p, POSTGRES) for name, p in scope.items() if name.endswith("_documents")]
    assert [plan.name for plan in plans] == ["order", "Customers", "lines", "country", "prices"]


def test_what_cannot_be_scaffolded_is_said(place: Place) -> None:
    """Views, partitions, what has no key or no rows in the log; near names for wrong ones; a
    server that is not there."""
    _odd(place)
    for arguments, status, said in (
        (("seen",), 3, "seen is a view: the log has no rows of it"),
        (("lines_1",), 3, "lines_1 is a partition"),
        (("fast",), 3, "fast is an unlogged table"),
        (("keyless",), 3, "keyless has no primary key"),
        (("customers",), 2, "no table customers in Odd Shop; did you mean Customers?"),
        (("other.county",), 2, "no table county in other; did you mean country?"),
        (("nowhere.x",), 2, "there is no table x in nowhere"),
        (("order", "--follow", "nobody=lines.id"), 3, "no column nobody to follow from"),
        (("order", "--follow", "customer"), 2, "cannot be read"),
    ):
        done = place.daemon.run("scaffold", *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
        assert said in " ".join(done.stderr.split())
    place.use("postgresql://u:secret@127.0.0.1:1/d")
    done = place.daemon.run("scaffold", "nothing")
    assert done.returncode == 3
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def _odd(place: Place) -> str:
    """Make the odd shop, and look at it as its owner; return the documented role's URL."""
    place.connection.execute(_ODD)
    tables = ["order", "Customers", "lines", "prices", "migrated"]
    documented_role(place.server, place.name, tables, schema="Odd Shop")
    for statement in (
        "GRANT USAGE ON SCHEMA other TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA other TO {role}",
        "ALTER PUBLICATION projector ADD TABLES IN SCHEMA other",
    ):
        place.connection.execute(statement.replace("{role}", role_of(place.name)))
    place.use(place.server.url(place.name), "Odd Shop")
    return role_url(place.server, place.name)
