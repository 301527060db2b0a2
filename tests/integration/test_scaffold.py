"""`projector scaffold TABLE`: what it prints runs as printed."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from projector.mysql.dialect import MYSQL
from projector.projection import Plan
from tests.projector_process import Projector
from tests.seed import seed
from tests.servers import DatabaseServer, RedisServer
from tests.servers.account import documented_account

pytestmark = pytest.mark.server

TESTS = Path(__file__).parent.parent


class CommandLine(Projector):
    """A daemon that need not run."""

    def close(self) -> None:
        self.__exit__(None)


class Scaffolded:
    """A module as printed, and the command line with it as its projection."""

    def __init__(self, url: str, redis_url: str, table: str, folder: Path, *options: str) -> None:
        with contextlib.closing(CommandLine(url, redis_url)) as first:
            printed = first.run("scaffold", table, *options)
        assert printed.returncode == 0, printed.stderr
        self.text = printed.stdout
        name = f"made_of_{table.replace('.', '_')}"
        (folder / f"{name}.py").write_text(self.text, "utf-8")
        self.daemon = CommandLine(
            url, redis_url, PROJECTOR_PROJECTION=f"{name}:documents", PYTHONPATH=str(folder)
        )

    def close(self) -> None:
        self.daemon.close()

    def documents(self, redis: Any, key: str) -> dict[str, Any]:
        """Run until everything is there; also compare it with the database."""
        self.daemon.start("--until-current")
        assert self.daemon.wait(60) == 0, self.daemon.log()
        assert self.daemon.run("verify").returncode == 0
        return {k.decode(): json.loads(v) for k, v in redis.hgetall(key).items()}


def test_a_ticket_is_scaffolded_whole(
    database: DatabaseServer, fresh_database: str, fresh_redis: RedisServer, tmp_path: Path
) -> None:
    """Foreign keys followed, roles told apart, children as collections, true JSON."""
    database.load_sql((TESTS / "helpdesk.sql").read_text("utf-8"), fresh_database)
    with database.connect(fresh_database) as connection, fresh_redis.client(db=1) as redis:
        seed(connection, 60)
        made = Scaffolded(
            documented_account(database, fresh_database), fresh_redis.url(db=1), "tickets", tmp_path
        )
        with contextlib.closing(made):
            documents = made.documents(redis, "tickets")
        nested = _attachments_by_comment(connection)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT t.id, t.title, s.name, o.name, u.full_name, t.custom_fields,"
                " (SELECT COUNT(*) FROM ticket_comments c WHERE c.ticket_id = t.id)"
                " FROM tickets t JOIN ticket_statuses s ON s.id = t.status_id"
                " JOIN departments d ON d.id = t.department_id"
                " JOIN organizations o ON o.id = d.organization_id"
                " JOIN users u ON u.id = t.requester_id"
            )
            rows = list(cursor.fetchall())
    assert len(documents) == len(rows) > 50
    for key, title, status, organization, requester, custom, comments in rows:
        document = documents[str(key)]
        assert document["title"] == title
        assert document["status_name"] == status
        assert document["department_organization_name"] == organization
        assert document["requester_full_name"] == requester
        assert len(document["ticket_comments"]) == comments
        assert document["custom_fields"] == (None if custom is None else json.loads(custom))
    assert any(isinstance(d["custom_fields"], dict) for d in documents.values())
    assert any(d["ticket_tags"] and "tag_name" in d["ticket_tags"][0] for d in documents.values())
    shown = {c["id"]: c for d in documents.values() for c in d["ticket_comments"]}
    assert any(nested.values())
    assert {key: [a["id"] for a in c["ticket_attachments"]] for key, c in shown.items()} == nested


def _attachments_by_comment(connection: Any) -> dict[int, list[int]]:
    """For comments without attachments, too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM ticket_comments")
        found: dict[int, list[int]] = {key: [] for (key,) in cursor.fetchall()}
        cursor.execute(
            "SELECT comment_id, id FROM ticket_attachments WHERE comment_id IS NOT NULL ORDER BY id"
        )
        for comment, attachment in cursor.fetchall():
            found[comment].append(attachment)
    return found


def test_every_table_of_the_helpdesk_can_be_scaffolded(
    mysql: DatabaseServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Whatever refers to whatever, also to itself: the server takes all queries."""
    name = "scaffolded_helpdesk"
    mysql.drop_database(name)
    mysql.create_database(name)
    mysql.load_sql((TESTS / "helpdesk.sql").read_text("utf-8"), name)
    url = documented_account(mysql, name)
    for (table,) in mysql.execute("SHOW TABLES", database=name):
        made = Scaffolded(url, redis_server.url(db=1), table, tmp_path)
        with contextlib.closing(made):
            explained = made.daemon.run("explain", "--json")
        assert explained.returncode == 0, made.text + explained.stderr
        assert json.loads(explained.stdout)["queries"]
    mysql.drop_database(name)


def test_keys_of_every_kind_are_scaffolded(
    database: DatabaseServer, fresh_database: str, fresh_redis: RedisServer, tmp_path: Path
) -> None:
    """UUIDs, strings, composite foreign keys, reserved words, a type without JSON."""
    database.load_sql((TESTS / "examples" / "shop.sql").read_text("utf-8"), fresh_database)
    with database.connect(fresh_database) as connection, connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE orders ADD COLUMN `class` POINT NULL, ADD COLUMN `keys` INT NULL,"
            " ADD COLUMN `strange name` INT NULL,"
            " ADD FOREIGN KEY (customer_id) REFERENCES customers (id)"
        )
        cursor.execute("ALTER TABLE order_lines ADD FOREIGN KEY (order_id) REFERENCES orders (id)")
        cursor.execute(
            "ALTER TABLE shipments"
            " ADD FOREIGN KEY (order_id, line_no) REFERENCES order_lines (order_id, line_no)"
        )
        cursor.execute("INSERT INTO customers (id, full_name) VALUES (0x01, 'Ann')")
        cursor.execute(
            "INSERT INTO orders (id, customer_id, state, net, tax_percent, `keys`)"
            " VALUES (0x02, 0x01, 'open', 10, 7, 5)"
        )
        cursor.execute("INSERT INTO order_lines VALUES (0x02, 1, 'a', 3, 0)")
        cursor.execute("INSERT INTO shipments VALUES (9, 0x02, 1, 'post')")
    url, redis_url = documented_account(database, fresh_database), fresh_redis.url(db=1)
    with fresh_redis.client(db=1) as redis:
        made = Scaffolded(url, redis_url, "orders", tmp_path)
        with contextlib.closing(made):
            [document] = made.documents(redis, "orders").values()
        assert document["id"].startswith("02000000-")
        assert document["customer_full_name"] == "Ann"
        assert document["gross"] == "10.70"
        assert document["keys"] == 5
        assert document["strange name"] is None
        assert "class" not in document
        assert document["order_lines"] == [
            {
                "line_no": 1,
                "sku": "a",
                "quantity": 3,
                "is_removed": False,
                "shipments": [{"id": 9, "carrier": "post"}],
            }
        ]
        lines = Scaffolded(url, redis_url, f"{fresh_database}.order_lines", tmp_path)
        with contextlib.closing(lines):
            [document] = lines.documents(redis, "order_lines").values()
        assert document["shipments"] == [{"id": 9, "carrier": "post"}]


def test_mariadbs_own_types_are_scaffolded(
    mariadb11: DatabaseServer, fresh_redis: RedisServer, tmp_path: Path
) -> None:
    """Keys that SQLAlchemy knows (UUID) and does not (INET6, INET4)."""
    name = "scaffolded_native"
    mariadb11.drop_database(name)
    mariadb11.create_database(name)
    mariadb11.load_sql(
        "CREATE TABLE hosts (ip INET6 PRIMARY KEY, old INET4);"
        "CREATE TABLE visits (id UUID PRIMARY KEY, ip INET6,"
        " FOREIGN KEY (ip) REFERENCES hosts (ip));"
        "INSERT INTO hosts VALUES ('::1', '10.0.0.1');"
        "INSERT INTO visits VALUES ('a0eebc99-9c0b-4ef8-8b6d-6bb9bd380a11', '::1');",
        name,
    )
    url, redis_url = mariadb11.url(name), fresh_redis.url(db=1)
    with fresh_redis.client(db=1) as redis:
        hosts = Scaffolded(url, redis_url, "hosts", tmp_path)
        with contextlib.closing(hosts):
            assert hosts.documents(redis, "hosts") == {
                "::1": {
                    "ip": "::1",
                    "old": "10.0.0.1",
                    "visits": [{"id": "a0eebc99-9c0b-4ef8-8b6d-6bb9bd380a11"}],
                }
            }
        visits = Scaffolded(url, redis_url, "visits", tmp_path)
        with contextlib.closing(visits):
            [document] = visits.documents(redis, "visits").values()
    assert document["ip_old"] == "10.0.0.1"
    mariadb11.drop_database(name)


def test_the_example_of_the_manual_is_a_projection() -> None:
    """What docs/projection.md shows can be copied."""
    text = (TESTS.parent / "docs" / "projection.md").read_text("utf-8")
    [code] = re.findall(r"```python\n(import .*?)```", text, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(code, scope)
    plan = Plan(scope["documents"], MYSQL)
    assert plan.name == "orders"
    assert len(plan.levels) == 3


def test_a_view_is_said_to_be_one(
    database: DatabaseServer, fresh_database: str, redis_server: RedisServer
) -> None:
    """No key that it could be given would help: the log has no rows of it."""
    database.load_sql("CREATE TABLE t (id INT PRIMARY KEY)", fresh_database)
    database.load_sql("CREATE VIEW seen AS SELECT id FROM t", fresh_database)
    url = documented_account(database, fresh_database)
    with contextlib.closing(CommandLine(url, redis_server.url(db=1))) as daemon:
        for name in ("seen", f"{fresh_database}.seen"):
            done = daemon.run("scaffold", name)
            assert done.returncode == 3
            assert "seen is a view" in done.stderr
            assert "Scaffold the table" in done.stderr


def test_mistakes_are_explained(mysql: DatabaseServer, redis_server: RedisServer) -> None:
    """A table that is not there; a server that is not there."""
    with contextlib.closing(CommandLine(mysql.url("mysql"), redis_server.url(db=1))) as daemon:
        done = daemon.run("scaffold", "nothing")
        assert done.returncode != 0
        assert "there is no table nothing" in done.stderr
        daemon.environment["PROJECTOR_MYSQL__URL"] = "mysql+pymysql://u:secret@127.0.0.1:1/d"
        done = daemon.run("scaffold", "nothing")
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "secret" not in done.stderr


_PREFIXED = """
CREATE TABLE ost_ticket (ticket_id INT PRIMARY KEY, user_id INT, dept_id INT, `number` VARCHAR(20),
  created DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00', passwd VARCHAR(9), `copy` INT,
  photo BLOB, KEY (user_id), KEY (dept_id)) ENGINE=MyISAM;
CREATE TABLE ost_user (id INT PRIMARY KEY, name VARCHAR(20), api_token VARCHAR(9));
CREATE TABLE ost_department (id INT PRIMARY KEY, name VARCHAR(20));
CREATE TABLE ost_thread (id INT PRIMARY KEY, ticket_id INT, mail VARCHAR(20), KEY (ticket_id));
CREATE TABLE ost_entry (id INT PRIMARY KEY, thread_id INT, user_id INT, body TEXT,
  KEY (thread_id), KEY (user_id));
CREATE TABLE ost_mail (id INT PRIMARY KEY, address VARCHAR(20), owner INT);
CREATE VIEW ost_seen AS SELECT * FROM ost_user;
INSERT INTO ost_user VALUES (7, 'Ann', 'x'); INSERT INTO ost_department VALUES (3, 'Support');
INSERT INTO ost_ticket (ticket_id, user_id, dept_id, passwd) VALUES (1, 7, 3, 'secret');
INSERT INTO ost_thread VALUES (5, 1, 'a@x'); INSERT INTO ost_entry VALUES (6, 5, 7, 'Hello');
INSERT INTO ost_mail VALUES (1, 'a@x', 10), (2, 'a@x', 20)
"""


def test_a_schema_without_foreign_keys_is_scaffolded(
    database: DatabaseServer, fresh_database: str, fresh_redis: RedisServer, tmp_path: Path
) -> None:
    """Proposals to follow, a partner picked, secrets and files out, zero dates, models."""
    database.load_sql(f"SET SESSION sql_mode='';{_PREFIXED}", fresh_database)
    url, redis_url = documented_account(database, fresh_database), fresh_redis.url(db=1)
    first = Scaffolded(url, redis_url, "ost_ticket", tmp_path)
    first.close()
    proposed = re.findall(r"#   --follow '(.*)'", first.text)
    assert proposed == [
        "ost_thread.ticket_id=ost_ticket.ticket_id", "ost_ticket.user_id=ost_user.id",
    ]  # fmt: skip
    more = ["dept_id=ost_department.id", "thread_id=ost_thread.id", "mail=ost_mail.address",
            "ost_entry.user_id=ost_user.id"]  # fmt: skip
    options = [part for said in [*proposed, *more] for part in ("--follow", said)]
    with fresh_redis.client(db=1) as redis:
        made = Scaffolded(url, redis_url, "ost_ticket", tmp_path, *options, "--model")
        with contextlib.closing(made):
            documents = made.documents(redis, "ost_ticket")
            assert made.daemon.run("schema").returncode == 0
    assert "secret" not in json.dumps(documents)
    for column in ("passwd", "photo", "api_token"):
        assert re.search(rf"^ +# \w+\.c\.{column}\b", made.text, re.MULTILINE), column
    assert documents == {
        "1": {
            "ticket_id": 1, "user_id": 7, "dept_id": 3, "number": None, "created": None,
            "copy": None, "user_name": "Ann", "dept_name": "Support",
            "ost_thread": [
                {"id": 5, "mail": "a@x", "mail_id": 1, "mail_owner": 10,
                 "ost_entry": [{"id": 6, "user_id": 7, "body": "Hello", "user_name": "Ann"}]}
            ],
        }
    }  # fmt: skip


def test_several_tables_are_scaffolded_at_once(
    database: DatabaseServer, fresh_database: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """One module, a projection each; every table of every example, with models."""
    database.load_sql(f"SET SESSION sql_mode='';{_PREFIXED}", fresh_database)
    database.load_sql((TESTS / "examples" / "shop.sql").read_text("utf-8"), fresh_database)
    with database.connect(fresh_database) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
        tables = [row[0] for row in cursor.fetchall() if row[0] != "scans"]  # its key has a time
    url = database.url(fresh_database)
    with contextlib.closing(CommandLine(url, redis_server.url(db=1))) as daemon:
        done = daemon.run("scaffold", *tables, "--model")
    assert done.returncode == 0, done.stderr
    scope: dict[str, Any] = {"__name__": "made_of_several"}
    exec(done.stdout, scope)
    plans = [Plan(p, MYSQL) for name, p in scope.items() if name.endswith("_documents")]
    assert sorted(plan.name for plan in plans) == sorted(tables)
    assert all(plan.projection.document is not None for plan in plans)


def test_what_cannot_be_followed_is_said(
    database: DatabaseServer, fresh_database: str, redis_server: RedisServer
) -> None:
    """A near name for a wrong one; a column that is not there; what cannot be read."""
    database.load_sql(f"SET SESSION sql_mode='';{_PREFIXED}", fresh_database)
    url = database.url(fresh_database)
    with contextlib.closing(CommandLine(url, redis_server.url(db=1))) as daemon:
        for arguments, status, said in (
            (("ticket",), 2, "did you mean ost_ticket?"),
            (("ost_tikcet",), 2, "did you mean ost_ticket"),
            (("ost_ticket", "--follow", "user_id=ost_user.no"), 3, "no column ost_user.no"),
            (("ost_ticket", "--follow", "nobody=ost_user.id"), 3, "no column nobody to follow"),
            (("ost_ticket", "--follow", "user_id"), 2, "cannot be read"),
        ):  # fmt: skip
            done = daemon.run("scaffold", *arguments)
            assert (done.returncode, "Traceback" in done.stderr) == (status, False)
            assert said in " ".join(done.stderr.split())
