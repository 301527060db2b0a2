"""PostgreSQL's log on a real server: whole transactions, in order, once; places to restart from."""

import re
import time
from dataclasses import replace

import pytest

from projector.errors import OperatorError, PositionLostError, RefusedError, TransientError
from projector.model import MISSING, Kind, RowsChange, TableChange, TableName
from projector.postgres.dialect import literal
from projector.postgres.log import PostgresLog
from projector.postgres.position import Position as PostgresPosition
from tests.integration.postgres_reading import DEADLINE_S, Log, Tables, made, net, reading, watch
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.server

T = "CREATE TABLE t (id int PRIMARY KEY, a int, b text)"


@pytest.fixture
def tables(postgres_server: PostgresServer, fresh_postgres: str) -> Tables:
    """A database with one table `t` whose old rows are logged."""
    return made(postgres_server, fresh_postgres, T, full=["t"])


def test_changes_come_out_in_commit_order(tables: Tables) -> None:
    """Inserts, updates and deletes come with their rows before and after."""
    with reading(tables) as log:
        tables.run(
            "INSERT INTO t VALUES (1, 10, 'x'), (2, 20, 'y')",
            "UPDATE t SET a = 11 WHERE id = 1",
            "DELETE FROM t WHERE id = 2",
            "BEGIN", "INSERT INTO t VALUES (9)", "ROLLBACK",
            "UPDATE t SET id = 3 WHERE id = 1",
        )  # fmt: skip
        log.read_to_end()
    assert net(log.changes) == [
        ("insert", [], [(1, 10), (2, 20)]),
        ("update", [(1, 10)], [(1, 11)]),
        ("delete", [(2, 20)], []),
        ("update", [(1, 11)], [(3, 11)]),
    ]
    assert log.count == 4
    assert all(abs(at - time.time()) < 60 for part in log.parts for at in part.commit_times)


def test_reading_goes_on_from_any_position(tables: Tables) -> None:
    """After each transaction, with neither the one before nor a gap."""
    with reading(tables) as log:
        for number in range(5):
            tables.run(f"INSERT INTO t VALUES ({number}, 0)")
            log.read_to_end()
    places = [part.position for part in log.parts if part.count]
    assert len(places) == 5
    for done, place in enumerate(places, start=1):
        with reading(tables, start=place) as again:
            again.read_to_end()
        assert net(again.changes) == [("insert", [], [(n, 0)]) for n in range(done, 5)]


def test_old_values_outside_of_the_identity_are_not_known(
    postgres_server: PostgresServer, fresh_postgres: str
) -> None:
    """With the default identity the key alone is: what else is NULL on the wire is no value."""
    tables = made(postgres_server, fresh_postgres, T)
    with reading(tables) as log:
        tables.run(
            "INSERT INTO t VALUES (1, 10)",
            "UPDATE t SET a = 11",
            "UPDATE t SET id = 2",
            "DELETE FROM t",
        )
        log.read_to_end()
    assert net(log.changes) == [
        ("insert", [], [(1, 10)]),
        ("update", [(1, MISSING)], [(1, 11)]),
        ("update", [(1, MISSING)], [(2, 11)]),
        ("delete", [(2, MISSING)], []),
    ]


def test_a_place_that_is_lost_is_refused(tables: Tables) -> None:
    """Let go, beyond the log's end, of another cluster, or with the slot that is gone."""
    with reading(tables, confirm_after_s=0.0) as log:
        tables.run("INSERT INTO t VALUES (1, 0)")
        log.read_to_end()
        first = log.position
        tables.run("INSERT INTO t VALUES (2, 0)")
        log.read_to_end()
        log.source.confirm([log.position])
        log.source.confirm([log.position])
        _until_confirmed(tables, log.position.lsn)
    source, last = log.source, log.position
    source.check(last)
    for lost in (first, replace(last, lsn=last.lsn + (1 << 32)), replace(last, system="1"),
                 replace(last, timeline=99)):  # fmt: skip
        with pytest.raises(PositionLostError):
            source.check(lost)
        with pytest.raises(PositionLostError):
            source.start(lost, [watch()])
    tables.ask(f"SELECT pg_drop_replication_slot('{tables.address().slot}')")
    with pytest.raises(PositionLostError, match="gone"):
        source.check(last)


def _until_confirmed(tables: Tables, lsn: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        [[confirmed]] = tables.ask(
            "SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots"
            f" WHERE slot_name = '{tables.address().slot}'"
        )
        if confirmed >= lsn:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_reader_that_stands_still_is_not_thrown_out(tables: Tables) -> None:
    """While nobody takes what has come, the server still hears of the reader; its queue is bounded,
    and nothing is lost."""
    tables.run(f"ALTER ROLE p_{tables.database} SET wal_sender_timeout = '3s'")
    rows = 100_000
    with reading(tables) as log:
        tables.run("INSERT INTO t SELECT n, 0 FROM generate_series(0, 9) n")
        tables.run(f"INSERT INTO t SELECT n, 0 FROM generate_series(10, {rows - 1}) n")
        time.sleep(7)
        assert log.source._run is not None
        assert log.source._run.queue._rows <= 12_000
        log.read_to_end()
    assert [row[0] for c in log.changes if isinstance(c, RowsChange) for row in c.after] == list(
        range(rows)
    )
    first, *pieces = [part for part in log.parts if part.changes]
    assert first.position is not None
    assert len(pieces) == 50
    assert {part.barrier.lsn for part in pieces[:-1]} == {log.parts[0].barrier.lsn}  # type: ignore[attr-defined]
    assert [part.position is None for part in pieces] == [True] * 49 + [False]
    assert [part.count for part in pieces] == [0] * 49 + [1]


def test_the_log_of_another_database_moves_the_position(
    tables: Tables, postgres_server: PostgresServer
) -> None:
    """While the own tables are at rest, places still come, and what is kept is let go."""
    with reading(tables, confirm_after_s=0.0) as log:
        before = log.read_to_end().position
        postgres_server.execute("CREATE TABLE elsewhere AS SELECT generate_series(1, 10000)")
        postgres_server.execute("DROP TABLE elsewhere")
        log.read_to_end()
        assert log.position.lsn > before.lsn + 100_000
        assert log.changes == []
        assert log.parts[-1].is_head
        for _ in range(2):
            log.source.confirm([log.position])
        _until_confirmed(tables, log.position.lsn)


def test_commits_that_nobody_reads_are_told_soon(tables: Tables) -> None:
    """That the log has moved by a commit of other tables is told long before the next heartbeat:
    somebody may wait for a place just behind it."""
    tables.run("CREATE TABLE u (id int PRIMARY KEY, a int)")
    with reading(tables, heartbeat_s=30.0) as log:
        log.read_to_end()
        began = time.monotonic()
        for number in range(5):
            tables.run(f"INSERT INTO t VALUES ({number}, 1)", f"INSERT INTO u VALUES ({number}, 1)")
            log.read_to_end()
        assert time.monotonic() - began < 10
        assert log.count == 5


def test_definitions_that_change_are_told(tables: Tables) -> None:
    """Where the next row shows it, or an event trigger says so; rows then come as they are now."""
    with reading(tables) as log:
        tables.run("INSERT INTO t VALUES (1, 1)")
        log.read_to_end()
        tables.run("ALTER TABLE t ALTER a TYPE bigint", "INSERT INTO t VALUES (2, 2)")
        tables.run("ALTER TABLE t ADD c int", "INSERT INTO t VALUES (3, 3)")
        log.read_to_end()
        tables.run("SELECT pg_logical_emit_message(true, 'projector:ddl', 'public.t')")
        log.read_to_end()
        tables.run("TRUNCATE t")
        log.read_to_end()
    t = TableName("public", "t")
    assert [c.reason if isinstance(c, TableChange) else c.after for c in log.changes] == [
        [(1, 1)], "alter", [(2, 2)], [(3, 3)], "alter", "truncate"
    ]  # fmt: skip
    assert {c.table for c in log.changes} == {t}


def test_partitions_are_their_table(postgres_server: PostgresServer, fresh_postgres: str) -> None:
    """Rows of a leaf, of one that came later, and its TRUNCATE, are the partitioned table's."""
    tables = made(
        postgres_server, fresh_postgres,
        "CREATE TABLE t (id int, a int, PRIMARY KEY (id, a)) PARTITION BY RANGE (a)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t2 (junk text, a int NOT NULL, id int NOT NULL)",
        "ALTER TABLE t2 DROP junk",
        "ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (10) TO (20)",
    )  # fmt: skip
    with reading(tables) as log:
        tables.run(
            "INSERT INTO t VALUES (1, 1), (2, 11)",
            "UPDATE t SET a = 12 WHERE id = 1",
            "CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (20) TO (30)",
            "INSERT INTO t VALUES (3, 21)",
            "TRUNCATE t2",
        )
        log.read_to_end()
    assert net(log.changes) == [
        ("insert", [], [(1, 1), (2, 11)]),
        ("delete", [(1, 1)], []),
        ("insert", [], [(1, 12)]),
        ("insert", [], [(3, 21)]),
        ("truncate", [], []),
    ]
    assert {c.table for c in log.changes} == {TableName("public", "t")}


def test_a_publication_without_a_table_is_refused(tables: Tables) -> None:
    """With the statement that mends it; its loss and late birth cost a walk, no more."""
    with reading(tables) as log:
        place, source = log.read_to_end().position, log.source
    tables.run("CREATE TABLE u (id int PRIMARY KEY, a int)")
    with pytest.raises(RefusedError, match=re.escape('ADD TABLE "public"."u"')):
        source.start(place, [watch(), watch("u")])
    tables.run("ALTER PUBLICATION projector SET TABLE t WHERE (id > 3)")
    with pytest.raises(RefusedError, match="not all columns"):
        source.start(place, [watch()])
    tables.run("ALTER PUBLICATION projector SET TABLE t (id)")
    with pytest.raises(RefusedError, match="not all columns"):
        source.start(place, [watch()])
    tables.run(
        "ALTER PUBLICATION projector SET TABLE t",
        "ALTER PUBLICATION projector SET (publish = 'insert')",
    )
    with pytest.raises(RefusedError, match="leaves out delete, truncate, update"):
        source.start(place, [watch()])
    tables.run("DROP PUBLICATION projector")
    with pytest.raises(RefusedError, match="CREATE PUBLICATION"):
        source.start(place, [watch()])
    tables.run("INSERT INTO t VALUES (1, 1)", "CREATE PUBLICATION projector FOR TABLE t")
    with pytest.raises(PositionLostError, match="publication"):
        source.start(place, [watch()])
    source.close()


@pytest.mark.parametrize(
    ("away", "back"),
    [
        ("ALTER PUBLICATION projector DROP TABLE t", "ALTER PUBLICATION projector ADD TABLE t"),
        ("DROP PUBLICATION projector", "CREATE PUBLICATION projector FOR TABLE t"),
        ("ALTER PUBLICATION projector SET (publish = 'insert')",
         "ALTER PUBLICATION projector SET (publish = 'insert, update, delete, truncate')"),
    ],
)  # fmt: skip
def test_a_publication_that_was_away_costs_a_walk(tables: Tables, away: str, back: str) -> None:
    """What was changed meanwhile is in no stream: whether somebody reads, or nobody does."""
    tables.run("INSERT INTO t VALUES (1, 1)")
    meanwhile = "UPDATE t SET a = 2"
    with reading(tables) as log:
        place, source = log.read_to_end().position, log.source
    tables.run(away, meanwhile, back)
    with pytest.raises(PositionLostError, match="publication"):
        source.start(PostgresPosition.parse(str(place)), [watch()])
    place = source.begin()
    source.start(place, [watch()])
    tables.run("CREATE TABLE u (id int PRIMARY KEY)", "ALTER PUBLICATION projector ADD TABLE u")
    place = Log(source).read_to_end().position
    source.start(place, [watch()])  # another table is no loss
    tables.run(away, meanwhile, back)
    # Before PostgreSQL 18 the stream ends where it finds no publication, maybe before another.
    with pytest.raises((PositionLostError, RefusedError), match="publication"):
        _read_on(source)
    source.close()


def _read_on(source: PostgresLog) -> None:
    """Read until it ends."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        source.read(0.2)


def test_one_reads_a_slot_at_a_time(tables: Tables) -> None:
    """Another one is told so, and may try again; a third program's slot is never touched."""
    with reading(tables) as log:
        place = log.read_to_end().position
        with pytest.raises(TransientError, match="read by another"), reading(tables, start=place):
            pass
        with pytest.raises(TransientError, match="read by another"), reading(tables):
            pass
    with reading(tables, start=place) as log:
        log.read_to_end()
    slot = tables.address().slot
    tables.ask(f"SELECT pg_drop_replication_slot('{slot}')")
    tables.ask(f"SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')")
    for start in (None, place):
        with pytest.raises(OperatorError, match="another program's"), reading(tables, start=start):
            pass


def test_an_end_of_the_stream_is_told_and_reading_goes_on(tables: Tables) -> None:
    """Whoever ended it: the next start goes on where the last one was."""
    with reading(tables) as log:
        tables.run("INSERT INTO t VALUES (1, 1)")
        log.read_to_end()
        tables.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE usename = 'p_{tables.database}'"
        )
        with pytest.raises(TransientError):
            _read_on(log.source)
        tables.run("INSERT INTO t VALUES (2, 2)")
        log.source.start(log.position, [watch()])
        log.read_to_end()
    assert net(log.changes) == [("insert", [], [(1, 1)]), ("insert", [], [(2, 2)])]


def test_reading_ends_at_once(tables: Tables) -> None:
    """By a wake, or by the end of everything."""
    with reading(tables, heartbeat_s=30.0) as log:
        log.source.read(0.5)
        began = time.monotonic()
        log.source.wake()
        assert log.source.read(20) is None
        log.source.close()
        assert time.monotonic() - began < 2


def test_values_find_their_row(postgres_server: PostgresServer, fresh_postgres: str) -> None:
    """As a literal of its type, whatever the type; where ids are made of it, it is the value that a
    query gives."""
    values = {
        "bool": "true", "int8": "-5", "text": "'a\\b ''ü'", "bytea": "'\\xde00'",
        "timestamptz": "'2026-11-22 21:59:12.4+02'", "timestamp": "'2026-11-22 21:59:12'",
        "date": "'2026-11-22'", "uuid": "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        "char(5)": "'x'", "numeric": "12.50", "mood": "'sad'", "yes": "true", "float8": "1e16",
        "int4[]": "'{1,NULL}'", "mood[]": "'{sad}'",
        "timestamptz[]": "'{2026-11-22 21:59:12+02,NULL}'", "timestamp(3)": "'-infinity'",
        "date[]": "'{0044-03-15 BC}'",
    }  # fmt: skip
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(values))
    tables = made(
        postgres_server, fresh_postgres, "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE DOMAIN yes AS bool", f"CREATE TABLE t (id int PRIMARY KEY, {columns})",
    )  # fmt: skip
    names = [f"c{n}" for n in range(len(values))]
    with reading(tables, watch(columns=names)) as log:
        tables.run(f"INSERT INTO t VALUES (1, {', '.join(values.values())})")
        log.read_to_end()
    [[row]] = [change.after for change in log.changes if isinstance(change, RowsChange)]
    kinds = dict(zip(names, values, strict=True))
    wheres = [f"{name} = {literal(v)}::{kinds[name]}" for name, v in zip(names, row, strict=True)]
    for where in wheres:
        assert tables.rows(f"SELECT id FROM t WHERE {where}", log.position) == [(b"1",)], where
    of_ids = ["int8", "text", "bytea", "uuid", "char(5)", "mood"]
    chosen = [f"c{list(values).index(kind)}" for kind in of_ids]
    [read] = tables.rows(f"SELECT {', '.join(chosen)} FROM t", log.position)
    found = [row[names.index(name)] for name in chosen]
    assert [v if isinstance(v, bytes) else str(v).encode() for v in found] == list(read)
    assert row[:4] == (1, -5, "a\\b 'ü", b"\xde\x00")


def test_columns_out_of_line_are_taken_from_the_row_before(tables: Tables) -> None:
    """What is large and has not changed is not sent again; with the default identity it is not
    known."""
    tables.run("ALTER TABLE t ALTER b SET STORAGE EXTERNAL")
    large = "repeat('x', 10000)"
    with reading(tables, watch(columns=("id", "a", "b"))) as log:
        tables.run(f"INSERT INTO t VALUES (1, 1, {large})", "UPDATE t SET a = 2")
        tables.run("UPDATE t SET a = 2", "ALTER TABLE t REPLICA IDENTITY DEFAULT",
                   "UPDATE t SET a = 3")  # fmt: skip
        log.read_to_end()
    changes = [c for c in log.changes if isinstance(c, RowsChange) and c.kind is Kind.UPDATE]
    assert changes[0].after == [(1, 2, "x" * 10000)]
    assert changes[1].after == []  # nothing that is read has changed
    assert changes[1].row_count == 1
    assert changes[2].before == [(1, MISSING, MISSING)]
    assert changes[2].after == [(1, 3, MISSING)]
