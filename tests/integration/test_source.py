"""The source on real servers: whole transactions, in order, once; positions to restart from."""

import contextlib
import time
from collections.abc import Iterator

import pymysql
import pytest

from projector.errors import PositionLostError, TransientError
from projector.model import TableChange, TableName
from projector.mysql.binlog import BinlogSource
from projector.mysql.position import GtidSet, Position
from tests.fix_servers import missing
from tests.integration.source_reading import (
    DEADLINE_S,
    inserted,
    net,
    reading,
    settings,
    wait_until,
    watch,
)
from tests.servers import DatabaseServer, Flavour, ServerUnavailable, TcpProxy, start_database

pytestmark = pytest.mark.server


@pytest.fixture(
    scope="module",
    params=[
        "mysql",
        "mysql-files",
        "mysql-compressed",
        "mariadb",
        "mariadb-compressed",
        "mariadb11",
    ],
)
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """Each kind of log that the source reads."""
    compressed = ["--log-bin-compress=1", "--log-bin-compress-min-len=10"]
    try:
        if request.param == "mysql-files":
            found = start_database(Flavour.MYSQL, gtid=False)
        elif request.param == "mysql-compressed":
            found = start_database(Flavour.MYSQL, options=["--binlog-transaction-compression=ON"])
        elif request.param == "mariadb-compressed":
            found = start_database(Flavour.MARIADB, options=compressed)
        else:
            yield request.getfixturevalue(request.param)
            return
    except ServerUnavailable as problem:
        missing(problem)
    yield found
    found.discard()


@pytest.fixture
def schema(server: DatabaseServer) -> Iterator[str]:
    """A database with one table `t`."""
    name = "source_test"
    server.drop_database(name)
    server.create_database(name)
    server.execute(
        "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b VARCHAR(200)) ENGINE=InnoDB",
        database=name,
    )
    yield name
    server.drop_database(name)


def run(server: DatabaseServer, schema: str, *statements: str) -> None:
    """Run statements on one connection."""
    with server.connect(schema) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_changes_come_out_in_commit_order(server: DatabaseServer, schema: str) -> None:
    """Inserts, updates and deletes come with their rows before and after."""
    with reading(server, watch(schema)) as log:
        run(
            server, schema,
            "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y')",
            "UPDATE t SET a = a + 10",
            "DELETE FROM t WHERE id = 1",
        )  # fmt: skip
        log.read_to_end()
    assert net(log.changes) == [
        ("insert", [], [(1, 1), (2, 2)]),
        ("update", [(1, 1), (2, 2)], [(1, 11), (2, 12)]),
        ("delete", [(1, 11)], []),
    ]
    assert log.count == 3


def test_a_rolled_back_transaction_never_comes(server: DatabaseServer, schema: str) -> None:
    """Only what was committed comes out, savepoints taken into account."""
    with reading(server, watch(schema)) as log:
        run(
            server, schema,
            "BEGIN", "INSERT INTO t (a) VALUES (1)", "ROLLBACK",
            "BEGIN", "INSERT INTO t (a) VALUES (2)", "SAVEPOINT s", "INSERT INTO t (a) VALUES (3)",
            "ROLLBACK TO SAVEPOINT s", "INSERT INTO t (a) VALUES (4)", "COMMIT",
        )  # fmt: skip
        log.read_to_end()
    assert [row[1] for row in inserted(log.changes)] == [2, 4]
    assert log.count == 1


def test_tables_without_transactions_come_too(server: DatabaseServer, schema: str) -> None:
    """A MyISAM table's changes end in a query, not in an Xid event."""
    run(server, schema, "CREATE TABLE m (id INT PRIMARY KEY, a INT) ENGINE=MyISAM")
    with reading(server, watch(schema, "m")) as log:
        run(server, schema, "INSERT INTO m VALUES (1, 1)", "UPDATE m SET a = 2")
        log.read_to_end()
    assert net(log.changes) == [("insert", [], [(1, 1)]), ("update", [(1, 1)], [(1, 2)])]


def test_unwatched_tables_only_move_the_position(server: DatabaseServer, schema: str) -> None:
    """Transactions on other tables have no changes but are counted and passed."""
    run(server, schema, "CREATE TABLE other (id INT PRIMARY KEY)")
    with reading(server, watch(schema)) as log:
        run(server, schema, "INSERT INTO other VALUES (1), (2)")
        log.read_to_end()
    assert log.changes == []
    assert log.count == 1


def test_reading_again_from_every_transaction_end_gives_exactly_the_rest(
    server: DatabaseServer, schema: str
) -> None:
    """No place handed out loses or repeats a change, over files, definitions and engines."""
    with server.connect(schema) as connection, connection.cursor() as cursor:
        places = [BinlogSource(settings(server)).current()]
        for i in range(12):
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO t (a, b) VALUES (%s, 'x')", (i,))
            cursor.execute("UPDATE t SET a = a + 1 WHERE a = %s", (i,))
            cursor.execute("COMMIT")
            if i == 4:
                cursor.execute("FLUSH BINARY LOGS")
            if i == 6:
                cursor.execute("CREATE TABLE later (id INT)")
            places.append(BinlogSource(settings(server)).current())
    with reading(server, watch(schema), start=places[0]) as log:
        whole = log.read_to_end().changes
    assert len(whole) == 24
    for i, place in enumerate(places):
        with reading(server, watch(schema), start=place) as log:
            assert log.read_to_end().changes == whole[2 * i :], place


def test_positions_handed_out_are_places_to_go_on_from(server: DatabaseServer, schema: str) -> None:
    """The source's own positions, through their text, give exactly what had not come before."""
    with reading(server, watch(schema)) as log:
        for i in range(5):
            run(server, schema, f"INSERT INTO t (a) VALUES ({i})")
            log.read_to_end()
        parts, whole = log.parts, log.changes
    for i, part in enumerate(parts):
        seen = sum(len(p.changes) for p in parts[: i + 1])
        with reading(server, watch(schema), start=Position.parse(str(part.position))) as log:
            assert log.read_to_end().changes == whole[seen:]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("TRUNCATE TABLE t", "truncate"),
        ("DROP TABLE t", "drop"),
        ("RENAME TABLE t TO gone", "rename"),
        ("ALTER TABLE t MODIFY a BIGINT", "alter"),
        ("ALTER TABLE t ADD COLUMN c INT, ADD INDEX (a)", None),
        ("CREATE TABLE like_it LIKE t", None),
        ("CREATE VIEW v AS SELECT * FROM t", None),
    ],
)
def test_definitions_that_touch_rows_are_told(
    server: DatabaseServer, schema: str, statement: str, reason: str | None
) -> None:
    """What changes rows without saying which comes as a change of the table."""
    with reading(server, watch(schema)) as log:
        run(server, schema, "INSERT INTO t (a) VALUES (1)", statement)
        log.read_to_end()
    expected = [TableChange(TableName(schema, "t"), reason)] if reason else []
    assert log.changes[1:] == expected
    assert log.count == 2


def test_rows_are_read_by_the_table_as_it_was_defined_then(
    server: DatabaseServer, schema: str
) -> None:
    """Columns that are added before or dropped while reading do not lead to wrong values."""
    with reading(server, watch(schema)) as log:
        run(
            server, schema,
            "INSERT INTO t (a) VALUES (1)",
            "ALTER TABLE t ADD COLUMN first_one INT FIRST",
            "INSERT INTO t (first_one, a) VALUES (77, 2)",
            "ALTER TABLE t DROP COLUMN first_one",
            "INSERT INTO t (a) VALUES (3)",
        )  # fmt: skip
        log.read_to_end()
    told = {change.reason for change in log.changes if isinstance(change, TableChange)}
    assert inserted(log.changes) == [(1, 1), (2, 2), (3, 3)] or told & {"alter", "undecodable"}


def test_a_backlog_behind_a_definition_is_not_read_by_the_newer_one(
    server: DatabaseServer, schema: str
) -> None:
    """Rows logged before columns changed places come right, or the table is told to be repaired."""
    start = BinlogSource(settings(server)).current()
    run(
        server, schema,
        "INSERT INTO t (a, b) VALUES (1, 'x')",
        "ALTER TABLE t DROP COLUMN a, ADD COLUMN a INT",
        "ALTER TABLE t ADD COLUMN z INT FIRST",
        "INSERT INTO t (a, b) VALUES (2, 'x')",
    )  # fmt: skip
    with reading(server, watch(schema), start=start) as log:
        log.read_to_end()
    assert any(
        isinstance(c, TableChange) and c.reason in {"alter", "undecodable"} for c in log.changes
    )
    assert inserted(log.changes)[-1] == (2, 2)


def test_a_restart_before_a_definition_tells_what_was_read_by_the_newer_one(
    server: DatabaseServer, schema: str
) -> None:
    """Rows read by a definition that the log comes to only after a restart are mended."""
    run(server, schema, "ALTER TABLE t DROP COLUMN b, ADD COLUMN x INT NOT NULL DEFAULT 9 FIRST")
    start = BinlogSource(settings(server)).current()
    insert = "INSERT INTO t (a) VALUES " + ",".join(["(7)"] * 1500)
    run(server, schema, insert, insert, "ALTER TABLE t DROP COLUMN x")
    with reading(server, watch(schema), start=start) as log:
        position = log.read_until(lambda log: bool(inserted(log.changes))).position
    assert inserted(log.changes)[0] == (9, 1), "the newer definition was not used"
    with reading(server, watch(schema), start=position) as log:
        log.read_to_end()
    assert TableChange(TableName(schema, "t"), "alter") in log.changes


def test_bytes_that_are_no_value_of_the_newer_definition_are_told(
    server: DatabaseServer, schema: str
) -> None:
    """Columns have changed places that differ in nothing that the log tells: what is no value of
    the type that stands there by now ends nothing, and the table is told to be repaired."""
    kinds = {"VARBINARY(20)": ("0xff00", "VARCHAR(5)")}
    if server.flavour is not Flavour.MYSQL:
        kinds |= {"INET6": ("'::1'", "CHAR(8)"), "INET4": ("'10.0.0.1'", "CHAR(8)"),
                  "UUID": ("UUID()", "CHAR(8)")}  # fmt: skip
    for number, (kind, (value, beside)) in enumerate(kinds.items()):
        table, text = f"k{number}", f"{beside} CHARACTER SET utf8mb4"
        run(server, schema, f"CREATE TABLE {table} (id INT PRIMARY KEY, a {kind}, b {text})")
        start = BinlogSource(settings(server)).current()
        run(
            server, schema,
            f"INSERT INTO {table} VALUES (1, {value}, 'x')",
            f"ALTER TABLE {table} MODIFY b {text} AFTER id",
            f"INSERT INTO {table} (id, a, b) VALUES (2, {value}, 'y')",
        )  # fmt: skip
        with reading(server, watch(schema, table, ("id", "a", "b")), start=start) as log:
            log.read_to_end()
        told = [c for c in log.changes if isinstance(c, TableChange)]
        assert {c.table for c in told} == {TableName(schema, table)}, kind
        assert inserted(log.changes)[-1][::2] == (2, "y"), kind


@pytest.mark.parametrize("how", ["VIRTUAL", "STORED"])
def test_a_generated_column_that_changed_comes(
    server: DatabaseServer, schema: str, how: str
) -> None:
    """An update is told where a document reads only what is generated, in the log or not."""
    run(server, schema, f"ALTER TABLE t ADD COLUMN g INT AS (a + 1) {how}",
        "INSERT INTO t (a) VALUES (1)")  # fmt: skip
    with reading(server, watch(schema, columns=("id", "g"))) as log:
        run(server, schema, "UPDATE t SET a = 5")
        log.read_to_end()
    [(_, before, after)] = net(log.changes)
    assert [row[0] for row in before] == [row[0] for row in after] == [1]


def test_changes_logged_as_statements_are_told(server: DatabaseServer, schema: str) -> None:
    """A session with another binlog_format cannot change rows unnoticed, not even by a view."""
    run(server, schema, "INSERT INTO t (a) VALUES (1)", "CREATE VIEW v AS SELECT id, a FROM t",
        "CREATE TABLE other (id INT)")  # fmt: skip
    with reading(server, watch(schema)) as log:
        run(server, schema, "SET SESSION binlog_format = 'STATEMENT'", "UPDATE t SET a = 5",
            "UPDATE v SET a = 6", "INSERT INTO other VALUES (1)")  # fmt: skip
        log.read_to_end()
    assert log.changes == [
        TableChange(TableName(schema, "t"), "statement"),
        TableChange(None, "statement"),
    ]


def test_a_large_transaction_comes_in_pieces_without_a_position(
    server: DatabaseServer, schema: str
) -> None:
    """Thousands of rows come before the end of their transaction, the position only with it."""
    values = ",".join(f"({i}, '{'x' * 100}')" for i in range(10_000))
    with reading(server, watch(schema)) as log:
        run(server, schema, f"INSERT INTO t (a, b) VALUES {values}")
        log.read_to_end()
    pieces = [part for part in log.parts if part.changes]
    assert [row[1] for row in inserted(log.changes)] == list(range(10_000))
    assert len(pieces) > 2
    assert all(part.position is None and part.count == 0 for part in pieces[:-1])
    assert log.position.reaches(pieces[0].barrier)
    assert log.count == 1


def test_the_head_is_told_and_an_idle_server_beats(server: DatabaseServer, schema: str) -> None:
    """Without any change positions come at the heartbeat, marked as the head."""
    with reading(server, watch(schema)) as log:
        log.read_until(lambda log: len(log.parts) >= 2)
    assert all(part.is_head and part.count == 0 for part in log.parts)


def test_a_stopped_source_is_free_at_once_and_starts_again(
    server: DatabaseServer, schema: str
) -> None:
    """`close` does not wait for the server, and the same object reads on after it."""
    with reading(server, watch(schema)) as log:
        run(server, schema, "INSERT INTO t (a) VALUES (1)")
        position = log.read_to_end().position
        log.source.close()
        with pytest.raises(TransientError):
            log.source.read(0.1)
        run(server, schema, "INSERT INTO t (a) VALUES (2)")
        log.source.start(position, [watch(schema)])
        log.read_until(lambda log: len(inserted(log.changes)) >= 2)
    assert [row[1] for row in inserted(log.changes)] == [1, 2]


def test_what_may_be_seen_before_it_counts_as_executed_lies_before_the_visible_end(
    server: DatabaseServer, schema: str
) -> None:
    """MySQL's transactions on the way, each under a name of its own, with tags and without."""
    source = BinlogSource(settings(server))
    before = source.visible_end()
    assert before == source.current()
    if not isinstance(before.gtids, GtidSet):
        return
    names = [f"{'8' * 8}-71ca-11e1-9e33-c80aa942956{n}" for n in (1, 1, 2)]
    owned = [f"{name}:{number}" for number, name in enumerate(names, 1)]
    owned.append(f"{names[0]}:tagged:9")
    with contextlib.ExitStack() as stack:
        for gtid in owned:
            connection = stack.enter_context(contextlib.closing(server.connect(schema)))
            connection.cursor().execute(f"SET GTID_NEXT = '{gtid}'")
        assert source.visible_end().gtids == before.gtids | GtidSet.parse(",".join(owned))
        assert source.current() == before


def test_the_replica_shows_itself(server: DatabaseServer, schema: str) -> None:
    """`SHOW REPLICAS` names the source by its server id."""
    show = "SHOW REPLICAS" if server.flavour is Flavour.MYSQL else "SHOW SLAVE HOSTS"
    with reading(server, watch(schema), server_id=4711):
        assert 4711 in [row[0] for row in server.execute(show)]


def test_a_question_of_the_log_ends_no_stream(server: DatabaseServer, schema: str) -> None:
    """`check` asks for the log too, by the daemon's own settings, while the daemon reads."""
    with reading(server, watch(schema), server_id=4711) as log:
        asking = BinlogSource(settings(server, server_id=4711))
        position = asking.current()
        assert position.born
        asking.check(position)
        for number in range(3):
            run(server, schema, f"INSERT INTO t (a) VALUES ({number})")
            log.read_until(lambda log: len(inserted(log.changes)) > number)  # noqa: B023


def test_a_killed_stream_is_a_transient_failure(server: DatabaseServer, schema: str) -> None:
    """Killing the dump thread ends the source with what had come first; a restart goes on."""
    with reading(server, watch(schema)) as log:
        run(server, schema, "INSERT INTO t (a) VALUES (1)")
        position = log.read_to_end().position
        dumps = server.execute(
            "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%%'"
            if server.flavour is not Flavour.MYSQL
            else "SELECT id FROM performance_schema.processlist WHERE command LIKE 'Binlog Dump%%'"
        )
        for (thread,) in dumps:
            with contextlib.suppress(
                pymysql.err.OperationalError
            ):  # an earlier test's, that has just ended
                server.execute(f"KILL {thread}")
        with pytest.raises(TransientError):
            log.read_until(lambda log: False)
        run(server, schema, "INSERT INTO t (a) VALUES (2)")
        log.source.start(position, [watch(schema)])
        log.read_until(lambda log: len(inserted(log.changes)) >= 2)
    assert [row[1] for row in inserted(log.changes)] == [1, 2]


def test_a_dead_line_is_noticed_by_missing_heartbeats(server: DatabaseServer, schema: str) -> None:
    """A connection that is open and silent ends within a few heartbeats."""
    with TcpProxy("127.0.0.1", server.port) as proxy:
        url = server.url("mysql").replace(f":{server.port}/", f":{proxy.port}/")
        with reading(server, watch(schema), url=url) as log:
            log.read_until(lambda log: bool(log.parts))
            proxy.stall()
            with pytest.raises(TransientError, match="silent"):
                log.read_until(lambda log: False)


def test_purged_logs_are_a_lost_position(server: DatabaseServer, schema: str) -> None:
    """A start before the oldest log file fails at once, and says so."""
    start = BinlogSource(settings(server)).current()
    run(server, schema, "INSERT INTO t (a) VALUES (1)", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    newest = BinlogSource(settings(server)).current().file
    wait_until(lambda: _purge(server, newest) == 1, "older logs to be purged")
    with pytest.raises(PositionLostError), reading(server, watch(schema), start=start):
        pass


def _purge(server: DatabaseServer, newest: str) -> int:
    server.execute(f"PURGE BINARY LOGS TO '{newest}'")
    return len(server.execute("SHOW BINARY LOGS"))


def test_prepared_changes_come_with_their_commit(server: DatabaseServer, schema: str) -> None:
    """XA: rows come at XA COMMIT, those rolled back never."""
    with reading(server, watch(schema)) as log:
        run(server, schema, "XA START 'one'", "INSERT INTO t (a) VALUES (1)", "XA END 'one'",
            "XA PREPARE 'one'")  # fmt: skip
        run(server, schema, "XA START 'two','b',7", "INSERT INTO t (a) VALUES (2)",
            "XA END 'two','b',7", "XA PREPARE 'two','b',7")  # fmt: skip
        run(server, schema, "INSERT INTO t (a) VALUES (3)")
        log.read_until(lambda log: (3, 3) in inserted(log.changes))
        assert [row[1] for row in inserted(log.changes)] == [3]
        run(server, schema, "XA COMMIT 'one'")
        run(server, schema, "XA ROLLBACK 'two','b',7")
        run(server, schema, "XA START 'now'", "INSERT INTO t (a) VALUES (4)", "XA END 'now'",
            "XA COMMIT 'now' ONE PHASE")  # fmt: skip
        log.read_to_end()
    assert [row[1] for row in inserted(log.changes)] == [3, 1, 4]


def test_a_restart_sees_a_pending_prepare_again(server: DatabaseServer, schema: str) -> None:
    """Positions handed out while a prepare is pending lead to its rows at its commit."""
    with reading(server, watch(schema)) as log:
        run(server, schema, "XA START 'p'", "INSERT INTO t (a) VALUES (1)", "XA END 'p'",
            "XA PREPARE 'p'")  # fmt: skip
        run(server, schema, "INSERT INTO t (a) VALUES (2)")
        log.read_until(lambda log: (2, 2) in inserted(log.changes))
        pending = log.position
    with reading(server, watch(schema), start=pending) as log:
        run(server, schema, "XA COMMIT 'p'")
        log.read_to_end()
        assert (1, 1) in inserted(log.changes)
        resolved = log.position
    with reading(server, watch(schema), start=resolved) as log:
        assert log.read_to_end().changes == []


def test_the_commit_of_an_unseen_prepare_is_told(server: DatabaseServer, schema: str) -> None:
    """A prepare before the start is out of sight: its commit may have changed any table."""
    run(server, schema, "XA START 'u'", "INSERT INTO t (a) VALUES (1)", "XA END 'u'",
        "XA PREPARE 'u'")  # fmt: skip
    with reading(server, watch(schema)) as log:
        run(server, schema, "XA COMMIT 'u'")
        log.read_to_end()
    assert log.changes == [TableChange(None, "prepared")]


def test_commit_times_are_the_servers(server: DatabaseServer, schema: str) -> None:
    """Each transaction has its commit time, to the second at least."""
    with reading(server, watch(schema)) as log:
        before = float(server.execute("SELECT UNIX_TIMESTAMP(NOW(6))")[0][0])
        run(server, schema, "INSERT INTO t (a) VALUES (1)", "INSERT INTO t (a) VALUES (2)")
        log.read_to_end()
    times = [time for part in log.parts for time in part.commit_times]
    assert len(times) == log.count == 2
    assert all(before - 1.01 <= time <= before + DEADLINE_S for time in times)
    assert abs(log.source.clock_offset_s) < 1


def test_read_without_news_comes_back_in_time(server: DatabaseServer, schema: str) -> None:
    """`read` gives None when nothing came within its time."""
    with reading(server, watch(schema), heartbeat_s=20) as log:
        deadline = time.monotonic() + DEADLINE_S
        while log.source.read(0.05) is not None:  # a server may beat once at the beginning
            assert time.monotonic() < deadline
