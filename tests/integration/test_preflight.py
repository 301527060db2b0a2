"""`projector check`, and what `run` refuses at its start: real servers in each such state."""

import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from projector.checks import Check
from projector.commands.check import require, run_checks
from projector.databases import Mysql
from projector.errors import ConfigurationError, ExitCode, OperatorError
from projector.mysql.checks import log
from projector.mysql.checks.asking import Facts
from projector.mysql.dialect import MYSQL
from projector.mysql.position import Flavour as LogFlavour
from projector.mysql.position import Position
from projector.projection import Hashed, Join, Many, Plan, Projection
from projector.settings import Reconcile, Redis, Settings
from projector.sink_redis import RedisInfo, RedisSink
from projector.sink_redis import checks as store
from schema.projection import tickets
from tests.servers import (
    DatabaseServer,
    Flavour,
    RedisKind,
    RedisServer,
    start_database,
    start_redis,
    start_replica,
    start_sentinel,
)

pytestmark = pytest.mark.server

HELPDESK = Path(__file__).parents[1] / "helpdesk.sql"
ACL = Path(__file__).parents[2] / "deploy" / "redis.acl"
TABLES = sorted({node.table.name for node in Plan(tickets, MYSQL).all_nodes()})
PASSWORD = "p/w s%cret"
NO_REDIS = "redis://127.0.0.1:1/1"


@pytest.fixture
def helpdesk(database: DatabaseServer, fresh_database: str) -> str:
    """A database with the helpdesk's tables."""
    database.load_sql(HELPDESK, fresh_database)
    return fresh_database


@pytest.fixture
def account(database: DatabaseServer) -> Iterator[str]:
    """A user without any privilege."""
    name = f"p{uuid.uuid4().hex[:8]}"
    database.execute(f"CREATE USER {name}@'%%' IDENTIFIED BY %s", PASSWORD)
    yield name
    database.execute(f"DROP USER {name}@'%'")


def settings(mysql_url: str, redis_url: str = NO_REDIS, **sections: Any) -> Settings:
    """Return settings; `sections` are fields of sections, and further settings."""
    of_mysql = {"url": SecretStr(mysql_url), **sections.pop("mysql", {})}
    of_redis = {"url": SecretStr(redis_url), **sections.pop("redis", {})}
    return Settings(mysql=Mysql(**of_mysql), redis=Redis(**of_redis), _env_file=None, **sections)  # type: ignore[call-arg]


def found(checks: Sequence[Check], name: str) -> Check:
    """The one check of that name; of several the worst."""
    order = ["failed", "warning", "skipped", "ok"]
    named = sorted((c for c in checks if c.name == name), key=lambda c: order.index(c.status))
    assert named, [check.name for check in checks]
    return named[0]


def check(name: str, chosen: Settings, *projections: Projection) -> Check:
    return found(run_checks(chosen, [Plan(p, MYSQL) for p in projections or (tickets,)]), name)


def refusal(chosen: Settings, *projections: Projection) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        require(chosen, [Plan(p, MYSQL) for p in projections or (tickets,)])
    return caught.value


@contextmanager
def a_server(flavour: Flavour, *options: str) -> Iterator[DatabaseServer]:
    with start_database(flavour, options=options) as server:
        server.create_database("helpdesk")
        server.load_sql(HELPDESK, "helpdesk")
        yield server


def grant_all(database: DatabaseServer, schema: str, account: str) -> None:
    database.execute(f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {account}@'%'")
    for table in TABLES:
        database.execute(f"GRANT SELECT ON {schema}.{table} TO {account}@'%'")


# -- a server as it should be


def test_nothing_fails_on_a_server_at_its_defaults(
    database: DatabaseServer, helpdesk: str, fresh_redis: RedisServer
) -> None:
    """Every check passes or recommends, none fails, and the start is not refused."""
    chosen = settings(database.url(helpdesk), fresh_redis.url())
    checks = run_checks(chosen, [Plan(tickets, MYSQL)])
    assert [c for c in checks if c.status == "failed"] == []
    assert all(c.fix for c in checks if c.status == "warning")
    assert found(checks, "mysql.clock").status == "ok"
    assert found(checks, "tickets.indexes").status == "ok"
    require(chosen, [Plan(tickets, MYSQL)])


def test_least_privilege_is_enough_to_check_everything(
    database: DatabaseServer, helpdesk: str, account: str, fresh_redis: RedisServer
) -> None:
    """With the grants of deploy/ alone, no check fails or loses sight of a table."""
    grant_all(database, helpdesk, account)
    url = database.url(helpdesk, user=account, password=PASSWORD)
    checks = run_checks(settings(url, fresh_redis.url()), [Plan(tickets, MYSQL)])
    assert [c for c in checks if c.status == "failed"] == []
    assert found(checks, "mysql.privileges").status == "ok"
    cascades = found(checks, "tickets.cascades")
    assert cascades.status == "ok"
    assert "13 foreign keys" in cascades.detail or cascades.detail.count(" ON DELETE ") == 13


def test_checking_writes_nothing(
    database: DatabaseServer, helpdesk: str, fresh_redis: RedisServer
) -> None:
    """After a check Redis is as empty as before, and a stored document is untouched."""
    chosen = settings(database.url(helpdesk), fresh_redis.url())
    with fresh_redis.client() as client:
        run_checks(chosen, [Plan(tickets, MYSQL)])
        assert client.keys() == []
        client.hset("tickets", "x", "kept")
        client.set("{tickets}:lease", "somebody")
        run_checks(chosen, [Plan(tickets, MYSQL)])
        assert client.hgetall("tickets") == {b"x": b"kept"}
        assert client.get("{tickets}:lease") == b"somebody"
        assert client.ttl("{tickets}:lease") == -1
        assert sorted(client.keys()) == [b"tickets", b"{tickets}:lease"]


# -- reaching MySQL


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "words", "fix"),
    [("127.0.0.1", "Connection refused", "nothing listens"), ("no.invalid", "", "DNS")],
)
def test_an_unreachable_mysql_is_said_with_the_way_there(host: str, words: str, fix: str) -> None:
    """A closed port and an unknown name each give a clear line; the start is not refused."""
    chosen = settings(f"mysql+pymysql://u:{'s3cret'}@{host}:{closed_port()}/helpdesk")
    line = check("mysql.reachable", chosen)
    assert line.status == "failed"
    assert words in line.detail
    assert fix in line.fix
    assert "PROJECTOR_MYSQL__URL" in line.fix
    assert "s3cret" not in f"{line}"
    require(chosen, [Plan(tickets, MYSQL)])


def test_a_wrong_password_is_said_without_it(database: DatabaseServer, helpdesk: str) -> None:
    """Check and start both name the setting, and never the password."""
    chosen = settings(database.url(helpdesk, user="root", password="wr0ng"))
    line = check("mysql.reachable", chosen)
    assert (line.status, "1045" in line.detail) == ("failed", True)
    error = refusal(chosen)
    assert error.exit_code == ExitCode.REFUSED
    assert "PROJECTOR_MYSQL__URL" in str(error)
    assert "wr0ng" not in f"{line} {error}"


def test_a_locked_account_is_said(database: DatabaseServer, helpdesk: str, account: str) -> None:
    """The remedy of a login that the server refuses is the one for that very reason."""
    database.execute(f"ALTER USER {account}@'%' ACCOUNT LOCK")
    chosen = settings(database.url(helpdesk, user=account, password=PASSWORD))
    assert "ACCOUNT UNLOCK" in refusal(chosen).remedy


def test_an_unknown_database_is_said(database: DatabaseServer) -> None:
    """A URL that names a database which is not there: the remedy says so."""
    error = refusal(settings(database.url("no_such_database")))
    assert "no such database" in str(error)
    assert "create it" in error.remedy


# -- what the log must be


@pytest.mark.parametrize("flavour", [Flavour.MARIADB, Flavour.MYSQL])
def test_a_server_without_a_log_is_refused(flavour: Flavour) -> None:
    """log_bin=OFF fails the check and the start, naming the setting."""
    with a_server(flavour, "--skip-log-bin") as server:
        chosen = settings(server.url())
        assert check("mysql.log_bin", chosen).status == "failed"
        assert "Set log_bin=binlog" in refusal(chosen).remedy


def test_a_statement_only_server_is_refused(helpdesk: str, database: DatabaseServer) -> None:
    """binlog_format=STATEMENT fails, MIXED warns, ROW is well."""
    with a_server(database.flavour, "--binlog-format=STATEMENT") as server:
        chosen = settings(server.url())
        assert check("mysql.binlog_format", chosen).status == "failed"
        assert "binlog_format=ROW" in refusal(chosen).remedy
        server.execute("SET GLOBAL binlog_format=MIXED")
        assert check("mysql.binlog_format", chosen).status == "warning"
        server.execute("SET GLOBAL binlog_format=ROW")
        assert check("mysql.binlog_format", chosen).status == "ok"


def test_poor_settings_of_mysql_are_warned_of() -> None:
    """Each recommendation of deploy/mysql.cnf that is not followed is one line with its fix."""
    options = [
        "--binlog-row-image=MINIMAL", "--binlog-expire-logs-seconds=3600",
        "--max-allowed-packet=1M", "--default-time-zone=+02:00", "--binlog-order-commits=OFF",
        "--innodb-native-foreign-keys=ON", "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF",
    ]  # fmt: skip
    with a_server(Flavour.MYSQL, *options) as server:
        checks = run_checks(settings(server.url()), [Plan(tickets, MYSQL)])
    for name, fix in {
        "binlog_row_image": "binlog_row_image=FULL",
        "gtid_mode": "enforce_gtid_consistency=ON",
        "log_retention": "binlog_expire_logs_seconds=604800",
        "max_allowed_packet": "max_allowed_packet=67108864",
        "time_zone": "time_zone='+00:00'",
        "binlog_order_commits": "binlog_order_commits=ON",
        "durability": "sync_binlog=1",
    }.items():
        line = found(checks, f"mysql.{name}")
        assert line.status == "warning", line
        assert fix in line.fix
    cascades = found(checks, "tickets.cascades")
    assert cascades.status == "ok"
    assert "snapshot" in cascades.detail
    assert "fk_ticket_comments_ticket_id ON DELETE CASCADE" in cascades.detail


def test_a_server_id_of_zero_or_ours_is_refused() -> None:
    """A server without an id serves no replica; one with ours would throw us out."""
    with a_server(Flavour.MYSQL, "--server-id=0") as server:
        assert "server_id is 0" in refusal(settings(server.url())).message
        server.execute("SET GLOBAL server_id=77")
        same = settings(server.url(), mysql={"server_id": 77})
        assert "PROJECTOR_MYSQL__SERVER_ID is 77" in refusal(same).message
        require(settings(server.url(), mysql={"server_id": 78}), [Plan(tickets, MYSQL)])


@pytest.mark.parametrize("option", ["--binlog-ignore-db=helpdesk", "--binlog-do-db=other"])
def test_a_filter_that_hides_the_schema_is_refused(option: str, database: DatabaseServer) -> None:
    """Changes that are kept out of the log would be missed without a word."""
    with a_server(database.flavour, option) as server:
        chosen = settings(server.url())
        assert check("mysql.binlog_filters", chosen).status == "failed"
        assert "helpdesk are kept out" in refusal(chosen).message


def test_a_replica_that_does_not_log_what_it_gets_fails(database: DatabaseServer) -> None:
    """Reading a replica's log needs log_slave_updates there."""
    with a_server(database.flavour) as primary:
        off = "--log-replica-updates=OFF" if database.flavour is Flavour.MYSQL else (
            "--log-slave-updates=OFF")  # fmt: skip
        with start_replica(primary, options=[off]) as replica:
            line = check("mysql.log_replica_updates", settings(replica.url()))
    assert line.status == "failed"


@pytest.mark.parametrize(
    ("flavour", "number", "status"),
    [
        (LogFlavour.MYSQL, (5, 7, 44), "failed"), (LogFlavour.MYSQL, (8, 0, 11), "ok"),
        (LogFlavour.MARIADB, (10, 4, 34), "failed"), (LogFlavour.MARIADB, (10, 5, 1), "ok"),
    ],
)  # fmt: skip
def test_old_servers_are_refused(flavour: LogFlavour, number: tuple[int, ...], status: str) -> None:
    """MySQL before 8.0 and MariaDB before 10.5 fail: there are none to run here."""
    variables = {"log_bin": "ON", "server_id": "1"}
    facts = Facts(flavour, ".".join(map(str, number)), number, variables, "'p'@'%'")
    checks = log.required(facts, Mysql(url=SecretStr("mysql://u@h/d")))
    assert found(checks, "mysql.version").status == status


# -- privileges


@pytest.mark.parametrize("has_one", [True, False])
def test_each_missing_privilege_is_named_as_a_grant_that_mends_it(
    database: DatabaseServer, helpdesk: str, account: str, has_one: bool
) -> None:
    """The fix is SQL that mends it, also for an account that may not even enter the database."""
    for table in ["tickets"] if has_one else []:
        database.execute(f"GRANT SELECT ON {helpdesk}.{table} TO {account}@'%'")
    chosen = settings(database.url(helpdesk, user=account, password=PASSWORD))
    line = check("mysql.privileges", chosen)
    assert line.status == "failed"
    assert (f"`{helpdesk}`.`tickets` " in line.fix) == (not has_one)
    error = refusal(chosen)
    assert error.exit_code == ExitCode.REFUSED
    grants = [part.strip() for part in error.remedy.split(";") if part.strip().startswith("GRANT")]
    assert len(grants) == 2 + len(TABLES) - has_one
    for grant in grants:
        database.execute(grant)
    assert check("mysql.privileges", chosen).status == "ok"
    require(chosen, [Plan(tickets, MYSQL)])


def test_privileges_of_roles_and_of_whole_databases_count(
    database: DatabaseServer, helpdesk: str, account: str
) -> None:
    """A default role's REPLICATION SLAVE and a wildcard over databases are seen."""
    role = f"r{account}"
    database.execute(f"CREATE ROLE {role}")
    try:
        database.execute(f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {role}")
        database.execute(f"GRANT SELECT ON `test\\_%`.* TO {account}@'%'")
        database.execute(f"GRANT {role} TO {account}@'%'")
        chosen = settings(database.url(helpdesk, user=account, password=PASSWORD))
        assert "REPLICATION SLAVE" in check("mysql.privileges", chosen).detail
        word = "TO" if database.flavour is Flavour.MYSQL else "FOR"
        database.execute(f"SET DEFAULT ROLE {role} {word} {account}@'%'")
        assert check("mysql.privileges", chosen).status == "ok"
    finally:
        database.execute(f"DROP ROLE {role}")


# -- the projection and its tables


def small(**changes: Any) -> Projection:
    """Tickets with their status and comments, of tables declared here."""
    meta = sa.MetaData()
    big = sa.BigInteger
    status = sa.Table(
        "ticket_statuses", meta, sa.Column("id", sa.SmallInteger, primary_key=True),
        sa.Column("name", changes.get("name_type", sa.String(40))),
    )  # fmt: skip
    ticket = sa.Table(
        changes.get("root", "tickets"), meta, sa.Column("id", big, primary_key=True),
        sa.Column("status_id", sa.SmallInteger),
        sa.Column(changes.get("column", "title"), changes.get("title_type", sa.String(200))),
        sa.Column("description", sa.Text, nullable=changes.get("nullable", True)),
    )  # fmt: skip
    comment = sa.Table(
        "ticket_comments", meta, sa.Column("id", big, primary_key=True),
        sa.Column("ticket_id", big), sa.Column("body", sa.Text),
    )  # fmt: skip
    field = ticket.c[changes.get("column", "title")]
    return Projection(
        name="small", root=ticket,
        fields=[ticket.c.id, changes.get("mask", lambda c: c)(field), ticket.c.description,
                changes.get("expression", status.c.name).label("status")],
        joins=[Join(status, ticket.c.status_id == status.c[changes.get("join_by", "id")])],
        collections=[Many("comments", comment, comment.c.ticket_id == ticket.c.id,
                          fields=[comment.c.body])],
    )  # fmt: skip


def test_a_projection_that_fits_is_well(database: DatabaseServer, helpdesk: str) -> None:
    """The small projection of the following tests is sound in itself."""
    checks = run_checks(settings(database.url(helpdesk)), [Plan(small(), MYSQL)])
    mine = [c for c in checks if c.name.startswith("small.") and c.name != "small.cascades"]
    assert {c.status for c in mine} == {"ok"}
    assert {"small.columns", "small.queries", "small.keys", "small.indexes", "small.engines"} <= {
        c.name for c in mine
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"column": "titel"}, "tickets.titel"),
        ({"root": "tikets"}, "tikets"),
        ({"title_type": sa.BigInteger()}, "title is varchar(200), declared as BIGINT"),
        ({"title_type": sa.DateTime()}, "declared as DATETIME"),
        ({"title_type": sa.LargeBinary()}, "declared as BLOB"),
        ({"expression": sa.func.no_such_function(sa.literal(1))}, "no_such_function"),
    ],
)
def test_a_projection_that_does_not_fit_is_refused(
    database: DatabaseServer, helpdesk: str, changes: dict[str, Any], words: str
) -> None:
    """An unknown table or column, a type of another family, a query that the server cannot run."""
    chosen = settings(database.url(helpdesk))
    error = refusal(chosen, small(**changes))
    assert isinstance(error, ConfigurationError)
    assert error.exit_code == ExitCode.USAGE
    assert words.lower() in error.message.lower()
    assert error.remedy
    failing = [
        c for c in run_checks(chosen, [Plan(small(**changes), MYSQL)]) if c.status == "failed"
    ]
    assert any(words.lower() in c.detail.lower() for c in failing)


def test_what_makes_documents_doubtful_is_warned_of(
    database: DatabaseServer, helpdesk: str
) -> None:
    """NULLs that are not declared, a join that is not unique, MyISAM, a missing index."""
    chosen = settings(database.url(helpdesk))
    line = check("small.columns", chosen, small(nullable=False))
    assert (line.status, "may be NULL" in line.detail) == ("warning", True)
    for statement in (
        "DROP TABLE ticket_attachments",
        "DROP TABLE ticket_comments",
        "CREATE TABLE ticket_comments (id BIGINT PRIMARY KEY, ticket_id BIGINT, body TEXT)"
        " ENGINE=MyISAM",
    ):
        database.execute(statement, database=helpdesk)
    checks = run_checks(chosen, [Plan(small(), MYSQL)])
    engine, index = found(checks, "small.engines"), found(checks, "small.indexes")
    assert (engine.status, "MyISAM" in engine.detail) == ("warning", True)
    assert index.status == "warning"
    database.execute(index.fix)
    assert check("small.indexes", chosen, small()).status == "ok"
    database.execute("ALTER TABLE ticket_statuses ADD COLUMN code SMALLINT", database=helpdesk)
    line = check("small.keys", chosen, joined_by_a_plain_column())
    assert (line.status, "not unique" in line.detail) == ("warning", True)


def joined_by_a_plain_column() -> Projection:
    meta = sa.MetaData()
    status = sa.Table(
        "ticket_statuses", meta, sa.Column("id", sa.SmallInteger, primary_key=True),
        sa.Column("code", sa.SmallInteger),
    )  # fmt: skip
    ticket = sa.Table(
        "tickets", meta, sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("status_id", sa.SmallInteger),
    )  # fmt: skip
    join = Join(status, ticket.c.status_id == status.c.code)
    return Projection(
        name="small", root=ticket, joins=[join],
        fields=[ticket.c.id, status.c.id.label("status")],
    )  # fmt: skip


def test_a_key_that_the_table_does_not_have_fails(database: DatabaseServer, helpdesk: str) -> None:
    """Documents named by a column that repeats would overwrite each other."""
    meta = sa.MetaData()
    comment = sa.Table(
        "ticket_comments", meta, sa.Column("ticket_id", sa.BigInteger, primary_key=True),
        sa.Column("body", sa.Text),
    )  # fmt: skip
    wrong = Projection(name="wrong", root=comment, fields=[comment.c.body])
    line = check("wrong.keys", settings(database.url(helpdesk)), wrong)
    assert (line.status, "(id)" in line.detail) == ("failed", True)


def test_a_mask_without_its_key_is_refused(
    database: DatabaseServer, helpdesk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hashed column needs its variable before the first document."""
    masked = small(mask=lambda column: Hashed(column, "PII_KEY_OF_THIS_TEST"))
    chosen = settings(database.url(helpdesk))
    assert "PII_KEY_OF_THIS_TEST is not set" in refusal(chosen, masked).message
    monkeypatch.setenv("PII_KEY_OF_THIS_TEST", "k")
    require(chosen, [Plan(masked, MYSQL)])


# -- the server to read from


def test_a_server_to_read_from_must_be_a_replica(database: DatabaseServer) -> None:
    """A replica is well, one that has stopped fails; on MariaDB the primary itself fails, too."""
    with a_server(database.flavour) as primary, start_replica(primary) as replica:

        def line(url: str) -> Check:
            chosen = settings(primary.url(), mysql={"read_url": SecretStr(url)})
            return check("mysql.read_url", chosen)

        assert line(replica.url()).status == "ok"
        primary_itself = line(primary.url())
        is_mysql = database.flavour is Flavour.MYSQL
        assert primary_itself.status == ("ok" if is_mysql else "failed")
        primary.execute("DELETE FROM helpdesk.tags")
        replica.execute("STOP REPLICA" if is_mysql else "STOP SLAVE")
        primary.execute("INSERT INTO helpdesk.tags (name) VALUES ('new')")
        assert line(replica.url()).status == "failed"


# -- Redis


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    """A Redis whose settings these tests change."""
    with start_redis() as server:
        yield server


@pytest.fixture
def mysql_url(mysql: DatabaseServer) -> Iterator[str]:
    """A MySQL with the helpdesk's tables, for the tests of Redis."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    mysql.create_database(name)
    mysql.load_sql(HELPDESK, name)
    yield mysql.url(name)
    mysql.drop_database(name)


def test_an_unreachable_redis_is_said_and_waited_for(mysql_url: str) -> None:
    """A closed port fails the check with the way there; the start is not refused."""
    chosen = settings(mysql_url, f"redis://:s3cret@127.0.0.1:{closed_port()}/1")
    line = check("redis.reachable", chosen)
    assert line.status == "failed"
    assert "refused" in line.detail
    assert "PROJECTOR_REDIS__URL" in line.fix
    assert "s3cret" not in f"{line}"
    require(chosen, [Plan(tickets, MYSQL)])


def test_a_wrong_redis_password_is_said_without_it(mysql_url: str) -> None:
    """Check and start name the setting, and never the password."""
    with start_redis(options=["--requirepass", "right"]) as server:
        chosen = settings(mysql_url, f"redis://:wr0ng@127.0.0.1:{server.port}/1")
        line, error = check("redis.reachable", chosen), refusal(chosen)
    assert line.status == "failed"
    assert "PROJECTOR_REDIS__URL" in line.fix
    assert error.exit_code == ExitCode.REFUSED
    assert "wr0ng" not in f"{line} {error}"


def test_a_redis_that_evicts_the_hash_fails(mysql_url: str, own_redis: RedisServer) -> None:
    """allkeys-* fails, volatile-* warns, and persistence and a limit are recommended."""
    chosen = settings(mysql_url, own_redis.url())
    with own_redis.client() as client:
        for policy, status in {"allkeys-lru": "failed", "volatile-ttl": "warning",
                               "noeviction": "ok"}.items():  # fmt: skip
            client.config_set("maxmemory-policy", policy)
            assert check("redis.maxmemory_policy", chosen).status == status
        assert check("redis.persistence", chosen).status == "warning"
        client.config_set("save", "900 1")
        assert check("redis.persistence", chosen).status == "ok"
        assert check("redis.memory", chosen).status == "warning"
        client.config_set("maxmemory", "64mb")
        assert check("redis.memory", chosen).status == "ok"


def test_a_read_only_redis_fails_and_is_waited_for(mysql_url: str, own_redis: RedisServer) -> None:
    """A replica fails the check; the start is not refused, for a failover may be under way."""
    with start_redis(options=["--replicaof", own_redis.host, str(own_redis.port)]) as replica:
        chosen = settings(mysql_url, replica.url())
        assert check("redis.role", chosen).status == "failed"
        require(chosen, [Plan(tickets, MYSQL)])


def test_a_database_that_redis_does_not_have_is_refused(
    mysql_url: str, own_redis: RedisServer
) -> None:
    """Database 99 of 16: a wrong setting, named."""
    error = refusal(settings(mysql_url, own_redis.url(db=99)))
    assert isinstance(error, ConfigurationError)
    assert "PROJECTOR_REDIS__URL" in str(error)


@pytest.mark.parametrize("key", ["tickets", "{tickets}:checkpoint", "{tickets}:debts"])
def test_a_key_that_holds_something_else_is_refused(
    mysql_url: str, fresh_redis: RedisServer, key: str
) -> None:
    """Somebody's text under our key is named, and left alone."""
    with fresh_redis.client() as client:
        client.set(key, "somebody's")
        error = refusal(settings(mysql_url, fresh_redis.url()))
        assert client.get(key) == b"somebody's"
    assert f"the key {key} holds something" in error.message
    assert "RENAME" in error.remedy


@pytest.mark.parametrize("kind", list(RedisKind))
def test_the_rules_that_an_acl_lacks_are_named(mysql_url: str, kind: RedisKind) -> None:
    """The fix is a command: run as it stands, it leaves nothing to complain of."""
    with start_redis(kind) as server, server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "p", "on", ">x", "~tickets", "-@all", "+evalsha", "+eval", "+info",
            "+select", "+client", "+hello", "+ping", "+hget", "+hlen",
        )  # fmt: skip
        chosen = settings(mysql_url, f"redis://p:x@127.0.0.1:{server.port}/1",
                          change_feed_max_length=10)  # fmt: skip
        line = check("redis.permissions.tickets", chosen)
        assert line.status == "failed"
        refusal(chosen)
        for _ in range(2):  # a key is refused only once its command is allowed
            line = check("redis.permissions.tickets", chosen)
            if line.status == "failed":
                rules = line.fix.partition(" (")[0].replace("'", "").split()[2:]
                client.execute_command("ACL", "SETUSER", *rules)
        assert check("redis.permissions.tickets", chosen).status == "ok"
        require(chosen, [Plan(tickets, MYSQL)])
        assert client.execute_command("EXISTS", "tickets") == 0


def test_a_redis_that_is_too_old_is_refused(
    mysql_url: str, fresh_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no Redis before 6.2 to run here, so this one is called too old."""
    assert store._version(redis_info("6.0.16")).status == "failed"
    assert store._version(redis_info("6.2.0")).status == "ok"
    monkeypatch.setitem(store._LEAST, "redis", (99, 1))
    error = refusal(settings(mysql_url, fresh_redis.url()))
    assert "is too old" in error.message
    assert "99.1 or later" in error.remedy


def redis_info(version: str) -> RedisInfo:
    return RedisInfo("redis", version, "master", 1, 0, "noeviction", False, False)


def test_a_cluster_that_is_not_declared_is_refused(mysql_url: str) -> None:
    """And the other way round: a cluster that is declared and is none."""
    with start_redis(cluster=True) as node:
        error = refusal(settings(mysql_url, node.url(db=0)))
        assert "PROJECTOR_REDIS__CLUSTER=true" in error.remedy
    with start_redis() as single:
        chosen = settings(mysql_url, single.url(db=0), redis={"cluster": True})
        line = check("redis.reachable", chosen)
        assert (line.status, "PROJECTOR_REDIS__CLUSTER" in line.detail) == ("failed", True)


def test_a_sentinel_is_not_taken_for_a_redis(mysql_url: str, own_redis: RedisServer) -> None:
    """A Sentinel without the master's name, and one that does not know the name."""
    with start_sentinel({"docs": own_redis}) as sentinel:
        error = refusal(settings(mysql_url, sentinel.url(db=0)))
        assert "PROJECTOR_REDIS__SENTINEL_MASTER" in error.remedy
        chosen = settings(mysql_url, sentinel.url(), redis={"sentinel_master": "other"})
        assert "PROJECTOR_REDIS__SENTINEL_MASTER" in check("redis.reachable", chosen).fix
        chosen = settings(mysql_url, sentinel.url(), redis={"sentinel_master": "docs"})
        assert check("redis.permissions.tickets", chosen).status == "ok"


def test_the_acl_of_deploy_is_enough(mysql_url: str, fresh_redis: RedisServer) -> None:
    """With exactly that user's rules nothing fails; without EVAL or INFO the check does."""
    [rules] = [line.split()[1:] for line in ACL.read_text().splitlines()
               if line.startswith("user projector ")]  # fmt: skip
    with fresh_redis.client() as client:
        client.execute_command("ACL", "SETUSER", *rules)
        url = f"redis://projector:change-me-writer@127.0.0.1:{fresh_redis.port}/1"
        try:
            chosen = settings(mysql_url, url, change_feed_max_length=10)
            checks = run_checks(chosen, [Plan(tickets, MYSQL)])
            assert [c for c in checks if c.status == "failed"] == []
            for command in ("info", "eval", "evalsha"):
                client.execute_command("ACL", "SETUSER", "projector", f"-{command}")
                line = check("redis.reachable", chosen)
                assert (line.status, f"'{command}'" in line.detail) == ("failed", True)
                client.execute_command("ACL", "SETUSER", "projector", f"+{command}")
        finally:
            client.execute_command("ACL", "DELUSER", "projector")


def test_documents_that_will_not_fit_are_foreseen(
    mysql: DatabaseServer, fresh_redis: RedisServer
) -> None:
    """The mean size of some documents and the server's count of rows are held against the limit."""
    plan = Plan(tickets, MYSQL)
    info = RedisInfo("redis", "7.0.0", "master", 10_000_000, 100_000_000, "noeviction", True, True)
    assert store.needs(info, plan, 0, 50_000, 1000).status == "ok"
    assert store.needs(info, plan, 0, 100_000, 1000).status == "warning"
    assert store.needs(info, plan, 90_000, 100_000, 1000).status == "ok"


# -- what is stored


def test_what_the_stored_checkpoint_means_is_said(
    database: DatabaseServer, helpdesk: str, fresh_redis: RedisServer
) -> None:
    """Another projection's documents, a lost position, and what the settings make of them."""
    url, redis_url = database.url(helpdesk), fresh_redis.url()
    flavour = "mysql" if database.flavour is Flavour.MYSQL else "mariadb"
    gtids = f"{uuid.uuid4()}:1-9" if flavour == "mysql" else "7-7-7"
    with fresh_redis.client() as client:
        client.hset("{tickets}:checkpoint", mapping={
            "position": f"{flavour}|elsewhere|binlog.000001|4|{gtids}", "stamp": "s",
            "fingerprint": "another"})  # fmt: skip
    checks = run_checks(settings(url, redis_url), [Plan(tickets, MYSQL)])
    assert found(checks, "tickets.position").status == "warning"
    assert "rebuilt" in found(checks, "tickets.fingerprint").detail
    stopping = settings(url, redis_url, mysql={"on_position_lost": "stop"},
                        reconcile=Reconcile(on_projection_change="stop"))  # fmt: skip
    checks = run_checks(stopping, [Plan(tickets, MYSQL)])
    assert found(checks, "tickets.position").status == "failed"
    assert found(checks, "tickets.fingerprint").status == "failed"
    RedisSink(stopping.redis, "tickets", Position.parse).close()
