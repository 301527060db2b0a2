"""The source on what few logs hold: tags, huge events, TLS, servers that were set back."""

import resource
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from projector.errors import OperatorError, PositionLostError
from projector.model import MISSING
from projector.mysql.binlog import BinlogSource
from projector.mysql.position import GtidSet
from tests.fix_servers import missing
from tests.integration.source_reading import inserted, net, reading, settings, watch
from tests.servers import DatabaseServer, Flavour, ServerUnavailable, start_database

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=[Flavour.MYSQL, Flavour.MARIADB], ids=str)
def private(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A server of each flavour that this module may treat roughly."""
    try:
        server = start_database(request.param, options=["--max-allowed-packet=256M"])
    except ServerUnavailable as problem:
        missing(problem)
    yield server
    server.discard()


@pytest.fixture
def schema(private: DatabaseServer) -> str:
    """A database with one table `t`."""
    name = "special"
    private.drop_database(name)
    private.create_database(name)
    private.execute(
        "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b LONGTEXT) ENGINE=InnoDB",
        database=name,
    )
    return name


@pytest.fixture
def table_on_mysql(mysql: DatabaseServer) -> Iterator[str]:
    """A database with one table `t` on the shared MySQL."""
    name = "special_shared"
    mysql.create_database(name)
    mysql.execute(
        "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b LONGTEXT)", database=name
    )
    yield name
    mysql.drop_database(name)


def test_tagged_transactions_are_read_and_kept_in_the_position(
    mysql: DatabaseServer, table_on_mysql: str
) -> None:
    """Tagged GTIDs (MySQL 8.3+) come, are in the set, and a restart goes on behind them."""
    schema = table_on_mysql
    with reading(mysql, watch(schema)) as log:
        with mysql.connect(schema) as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION gtid_next = 'AUTOMATIC:blue_1'")
            cursor.execute("INSERT INTO t (a) VALUES (1)")
            cursor.execute("INSERT INTO t (a) VALUES (2)")
            cursor.execute("SET SESSION gtid_next = 'AUTOMATIC'")
            cursor.execute("INSERT INTO t (a) VALUES (3)")
        position = log.read_to_end().position
    assert isinstance(position.gtids, GtidSet)
    assert "blue_1" in str(position.gtids)
    assert position.gtids == GtidSet.parse(mysql.execute("SELECT @@global.gtid_executed")[0][0])
    assert [row[1] for row in inserted(log.changes)] == [1, 2, 3]
    assert all(time > 1e9 for part in log.parts for time in part.commit_times)
    mysql.execute("INSERT INTO t (a) VALUES (4)", database=schema)
    with reading(mysql, watch(schema), start=position) as log:
        log.read_to_end()
    assert [row[1] for row in inserted(log.changes)] == [4]


def test_a_tag_ends_with_the_prepare_that_it_names(
    mysql: DatabaseServer, table_on_mysql: str
) -> None:
    """Transactions after an XA PREPARE under a tagged GTID are counted under their own names."""
    schema = table_on_mysql
    with reading(mysql, watch(schema)) as log:
        with mysql.connect(schema) as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION gtid_next = 'AUTOMATIC:green'")
            for statement in ("START", "INSERT INTO t (a) VALUES (1)", "END", "PREPARE"):
                cursor.execute(f"XA {statement} 't'" if " " not in statement else statement)
        mysql.execute("INSERT INTO t (a) VALUES (2)", database=schema)
        mysql.execute("XA COMMIT 't'")
        position = log.read_to_end().position
    assert [row[1] for row in inserted(log.changes)] == [2, 1]
    assert position.gtids == GtidSet.parse(mysql.execute("SELECT @@global.gtid_executed")[0][0])


def test_a_generated_invisible_key_counts_as_a_column(
    mysql: DatabaseServer, table_on_mysql: str
) -> None:
    """Rows come right where the server hides a key that the log has (show_gipk_… OFF)."""
    hidden = "show_gipk_in_create_table_and_information_schema"
    mysql.execute(f"SET GLOBAL {hidden} = OFF")
    try:
        with mysql.connect(table_on_mysql) as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_generate_invisible_primary_key = ON")
            cursor.execute("CREATE TABLE g (a BIGINT UNSIGNED, b BIGINT UNSIGNED)")
            with reading(mysql, watch(table_on_mysql, "g", ("a", "b"))) as log:
                cursor.execute("INSERT INTO g (a, b) VALUES (7, 8)")
                log.read_to_end()
    finally:
        mysql.execute(f"SET GLOBAL {hidden} = ON")
    assert inserted(log.changes) == [(7, 8)]


_EXPLICIT = (
    "ALTER TABLE t ADD COLUMN began TIMESTAMP(6) GENERATED ALWAYS AS ROW START,"
    " ADD COLUMN ended TIMESTAMP(6) GENERATED ALWAYS AS ROW END,"
    " ADD PERIOD FOR SYSTEM_TIME(began, ended), ADD SYSTEM VERSIONING"
)


@pytest.mark.parametrize("metadata", ["NO_LOG", "FULL"])
@pytest.mark.parametrize("versioning", ["ALTER TABLE t ADD SYSTEM VERSIONING", _EXPLICIT])
@pytest.mark.parametrize("private", [Flavour.MARIADB], indirect=True)
def test_a_deleted_row_of_a_versioned_table_comes(
    private: DatabaseServer, schema: str, versioning: str, metadata: str
) -> None:
    """MariaDB logs it as an update of the column that ends the row, which no document reads."""
    private.execute(f"SET GLOBAL binlog_row_metadata = {metadata}")
    private.execute(versioning, database=schema)
    private.execute("INSERT INTO t (a) VALUES (1), (2)", database=schema)
    with reading(private, watch(schema)) as log:
        private.execute("DELETE FROM t WHERE a = 2", database=schema)
        log.read_to_end()
    private.execute("SET GLOBAL binlog_row_metadata = NO_LOG")
    assert net(log.changes) == [("update", [(2, 2)], [(2, 2)])]


def test_rows_that_cannot_be_read_and_only_lead_to_others_are_told(
    private: DatabaseServer, schema: str
) -> None:
    """Without a value: whoever follows keys through their table must know that they came."""
    private.execute("ALTER TABLE t ADD COLUMN g GEOMETRY", database=schema)
    between = replace(watch(schema, columns=("id", "g")), is_read=False)
    with reading(private, between) as log:
        private.execute("INSERT INTO t (a) VALUES (1)", database=schema)
        log.read_to_end()
    assert net(log.changes) == [("insert", [], [(MISSING, MISSING)])]


@pytest.mark.parametrize("is_undone", [False, True])
@pytest.mark.parametrize("private", [Flavour.MARIADB], indirect=True)
def test_what_was_undone_and_logged_is_told(
    private: DatabaseServer, schema: str, is_undone: bool
) -> None:
    """A table without transactions keeps its rows, so the server logs all that was done."""
    private.execute("CREATE TABLE m (id INT PRIMARY KEY) ENGINE=MyISAM", database=schema)
    statements = [
        "BEGIN",
        "SAVEPOINT s",
        "INSERT INTO t (a) VALUES (1)",
        "INSERT INTO m VALUES (1)",
    ]
    statements += ["ROLLBACK TO SAVEPOINT s"] if is_undone else []
    with (
        reading(private, watch(schema)) as log,
        private.connect(schema) as connection,
        connection.cursor() as cursor,
    ):
        for statement in (*statements, "COMMIT"):
            cursor.execute(statement)
        log.read_to_end()
        assert inserted(log.changes)
        assert any(part.has_undone for part in log.parts) is is_undone
        cursor.execute("INSERT INTO t (a) VALUES (2)")
        log.parts.clear()
        log.read_to_end()
        assert not any(part.has_undone for part in log.parts)


@pytest.mark.parametrize(
    ("private", "compressed"),
    [(Flavour.MYSQL, False), (Flavour.MYSQL, True), (Flavour.MARIADB, False)],
    indirect=["private"],
)
def test_an_event_of_several_packets_is_read(
    private: DatabaseServer, schema: str, compressed: bool
) -> None:
    """A row of more than 16 MB, which no single packet holds, comes like any other."""
    size = 34_000_000
    with reading(private, watch(schema)) as log:
        with private.connect(schema) as connection, connection.cursor() as cursor:
            if compressed:
                cursor.execute("SET SESSION binlog_transaction_compression = ON")
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO t (a, b) VALUES (1, 'small')")
            cursor.execute(
                "INSERT INTO t (a, b) VALUES (2, HEX(RANDOM_BYTES(1024))),"
                f" (3, REPEAT('x', {size}))"
            )
            cursor.execute("UPDATE t SET a = 30 WHERE a = 3")
            cursor.execute("COMMIT")
            cursor.execute("INSERT INTO t (a, b) VALUES (4, 'next')")
        log.read_to_end()
    assert [row[1] for row in inserted(log.changes)] == [1, 2, 3, 4]
    assert log.count == 2


_READ_ALL = """
import resource, sys
from projector.mysql.binlog import BinlogSource
from projector.model import TableName, Watch
from projector.mysql.position import Position
from projector.databases import Mysql
source = BinlogSource(Mysql(url=sys.argv[1]))
end = source.current()
watch = Watch(TableName(sys.argv[3], "t"), ("id", "a"), frozenset({"id", "a"}))
source.start(Position.parse(sys.argv[2]), [watch])
before, rows = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
while True:
    part = source.read(20)
    rows += sum(change.row_count for change in part.changes)
    if part.position is not None and part.position.reaches(end):
        break
source.close()
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("private", "compressed"),
    [(Flavour.MYSQL, False), (Flavour.MYSQL, True), (Flavour.MARIADB, False)],
    indirect=["private"],
)
def test_a_million_rows_in_one_transaction_pass_in_bounded_memory(
    private: DatabaseServer, schema: str, compressed: bool
) -> None:
    """Memory does not grow with the transaction, also where all of it is one compressed event."""
    start = BinlogSource(settings(private)).current()
    with private.connect(schema) as connection, connection.cursor() as cursor:
        if compressed:
            cursor.execute("SET SESSION binlog_transaction_compression = ON")
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO t (a, b) SELECT 1, REPEAT('x', 40) FROM " + _thousand("x"))
        for _ in range(10):
            cursor.execute("INSERT INTO t (a, b) SELECT a + 1, UUID() FROM t")
        cursor.execute("COMMIT")
        cursor.execute("SELECT COUNT(*) FROM t")
        (expected,) = cursor.fetchone() or (0,)
    done = subprocess.run(
        [sys.executable, "-c", _READ_ALL, private.url("mysql"), str(start), schema],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    rows, grown_kb = (int(word) for word in done.stdout.split())
    assert rows == expected > 1_000_000
    assert grown_kb < 40_000


def _thousand(name: str) -> str:
    digits = " UNION ALL SELECT ".join(str(i) for i in range(10))
    tables = ", ".join(f"(SELECT {digits}) {name}{i}" for i in range(3))
    return tables


def test_a_server_whose_log_was_reset_is_another_history(
    private: DatabaseServer, schema: str
) -> None:
    """After RESET the old position is lost, even where the new log has grown beyond it."""
    private.execute("INSERT INTO t (a) VALUES (1)", database=schema)
    position = BinlogSource(settings(private)).current()
    mysql = private.flavour is Flavour.MYSQL
    private.execute("RESET BINARY LOGS AND GTIDS" if mysql else "RESET MASTER")
    with pytest.raises(PositionLostError), reading(private, watch(schema), start=position):
        pass
    if not mysql:  # the same GTIDs are given out once more
        for i in range(60):
            private.execute("INSERT INTO t (a) VALUES (%s)", i, database=schema)
        with pytest.raises(PositionLostError), reading(private, watch(schema), start=position):
            pass


@pytest.mark.parametrize("private", [Flavour.MYSQL], indirect=True)
def test_a_server_restored_from_a_backup_is_another_history(
    mysql: DatabaseServer, private: DatabaseServer, schema: str
) -> None:
    """A position of transactions that the server never had is lost."""
    position = BinlogSource(settings(mysql)).current()
    with pytest.raises(PositionLostError), reading(private, watch(schema), start=position):
        pass


def test_a_user_without_the_privilege_needs_an_operator(
    private: DatabaseServer, schema: str
) -> None:
    """Without REPLICATION SLAVE the source says that somebody has to act."""
    private.execute("CREATE USER IF NOT EXISTS poor@'%%' IDENTIFIED BY 'poor'")
    private.execute("GRANT SELECT ON *.* TO poor@'%%'")
    admin = BinlogSource(settings(private)).current()
    url = private.url("mysql", user="poor", password="poor")
    with pytest.raises(OperatorError), reading(private, watch(schema), start=admin, url=url):
        pass


def test_the_log_comes_over_tls_and_without_it_with_a_hashed_password(
    mysql: DatabaseServer, table_on_mysql: str, tmp_path: Path
) -> None:
    """caching_sha2_password works in clear (RSA) and with a verified certificate."""
    schema = table_on_mysql
    mysql.execute(
        "CREATE USER IF NOT EXISTS hashed@'%%' IDENTIFIED WITH caching_sha2_password BY 'h'"
    )
    mysql.execute("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO hashed@'%%'")
    folder = Path(mysql.execute("SELECT @@datadir")[0][0])
    authority = folder / "ca.pem"
    url = mysql.url("mysql", user="hashed", password="h")
    with reading(mysql, watch(schema), url=url) as log:
        mysql.execute("INSERT INTO t (a) VALUES (1)", database=schema)
        log.read_to_end()
    assert len(inserted(log.changes)) == 1
    if not authority.exists():
        pytest.skip("the server's certificate is not within reach")
    with (
        pytest.raises((OperatorError, ssl.SSLError)),
        reading(mysql, watch(schema), url=url, tls={"ca": str(_other_authority(tmp_path))}),
    ):
        pass


def _other_authority(folder: Path) -> Path:
    file = folder / "other.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other",
         "-keyout", str(folder / "other.key"), "-out", str(file), "-days", "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    return file


def test_no_thread_or_memory_is_left_behind(private: DatabaseServer, schema: str) -> None:
    """Starting and closing many times leaves nothing that grows."""
    import threading

    threads = threading.active_count()
    for _ in range(20):
        with reading(private, watch(schema)):
            pass
    assert threading.active_count() == threads
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_000_000


@pytest.mark.parametrize("private", [Flavour.MYSQL], indirect=True)
def test_more_than_the_queue_holds_may_come_with_the_first_bytes(
    private: DatabaseServer, schema: str
) -> None:
    """`start` returns although a well compressed backlog fills the queue before the first read."""
    start = BinlogSource(settings(private)).current()
    with private.connect(schema) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_transaction_compression = ON")
        for _ in range(40):
            cursor.execute(f"INSERT INTO t (a) SELECT 1 FROM {_thousand('x')}")
    with reading(private, watch(schema), start=start) as log:
        assert len(inserted(log.read_to_end().changes)) == 40_000


@pytest.mark.parametrize("private", [Flavour.MARIADB], indirect=True)
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SET STATEMENT max_statement_time = 100 FOR TRUNCATE TABLE t", "truncate"),
        ("TRUNCATE TABLE .t", "truncate"),
        ("ALTER TABLE t NOWAIT DROP COLUMN a", "alter"),
        ("ALTER TABLE p CONVERT TABLE t TO PARTITION q VALUES LESS THAN (9)", "rename"),
        ("CREATE OR REPLACE DATABASE special", "drop"),
        ("SET STATEMENT binlog_format = STATEMENT FOR DELETE FROM t", "statement"),
    ],
)
def test_what_only_mariadb_says_is_told(
    private: DatabaseServer, schema: str, statement: str, reason: str
) -> None:
    """Spellings of its own for statements that leave no rows in the log."""
    columns = "(id INT NOT NULL PRIMARY KEY AUTO_INCREMENT, a INT, b LONGTEXT)"
    private.execute(
        f"CREATE TABLE p {columns} PARTITION BY RANGE (id) (PARTITION o VALUES LESS THAN (1))",
        database=schema,
    )
    private.execute("INSERT INTO t (a) VALUES (1)", database=schema)
    with reading(private, watch(schema)) as log:
        private.execute(statement, database=schema)
        log.read_to_end()
    assert [change.reason for change in log.changes] == [reason]  # type: ignore[union-attr]


def test_a_view_made_behind_a_comment_or_renamed_is_known(
    private: DatabaseServer, schema: str
) -> None:
    """A statement through it is told, however late the view came and whatever it is called."""
    with (
        reading(private, watch(schema)) as log,
        private.connect(schema) as connection,
        connection.cursor() as cursor,
    ):
        for statement in (
            "CREATE TABLE other (id INT)", "SET SESSION binlog_format = 'STATEMENT'",
            "INSERT INTO other VALUES (1)", "/* one */ CREATE VIEW v AS SELECT id, a FROM t",
        ):  # fmt: skip
            cursor.execute(statement)
        log.read_to_end()
        cursor.execute("UPDATE v SET a = 6")
        log.read_to_end()
        assert len(log.changes) == 1
        cursor.execute("RENAME TABLE v TO w")
        cursor.execute("UPDATE w SET a = 7")
        log.read_to_end()
    assert len(log.changes) == 2
