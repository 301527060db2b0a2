"""Definitions that change what documents show: the stream tells of none, the source of each."""

import time

import pytest

from projector.model import TableChange, TableName, Watch
from projector.postgres.position import Position
from tests.integration.postgres_reading import DEADLINE_S, Log, Tables, made, reading, watch
from tests.servers import PostgresFlavour, PostgresServer

pytestmark = pytest.mark.server

_TABLES = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE DOMAIN temper AS mood",
    "CREATE TABLE t (id int PRIMARY KEY, a int, b int, m temper, ms mood[], x text,"
    " g int GENERATED ALWAYS AS (a * 2) STORED)",
    "INSERT INTO t VALUES (1, 10, 100, 'ok', '{ok}'), (2, 20, 200, 'sad', NULL)",
    "CREATE TABLE p (id int, a int, PRIMARY KEY (id, a)) PARTITION BY RANGE (a)",
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
    "INSERT INTO p VALUES (1, 1), (2, 12)",
    'CREATE TABLE "odd.""name" (id int PRIMARY KEY, a int)',
    'INSERT INTO "odd.""name" VALUES (1, 1)',
)
_ODD = Watch(TableName("public", 'odd."name'), ("id", "a"), frozenset(("id", "a")))
_WATCHES = [
    watch("t", ("id", "a", "b", "m", "ms", "x", "g")), watch("p"), _ODD,
]  # fmt: skip
# What leaves no row of it in the stream, by the table whose documents it changes.
_SILENT: dict[str, tuple[str, tuple[str, ...]]] = {
    "detached": ("p", ("ALTER TABLE p DETACH PARTITION p1",)),
    "dropped": ("p", ("DROP TABLE p1",)),
    "attached": ("p", (
        "CREATE TABLE p3 (LIKE p INCLUDING ALL)", "INSERT INTO p3 VALUES (3, 25)",
        "ALTER TABLE p ATTACH PARTITION p3 FOR VALUES FROM (20) TO (30)",
    )),
    "a tree attached": ("p", (
        "CREATE TABLE q (LIKE p INCLUDING ALL) PARTITION BY RANGE (a)",
        "CREATE TABLE q1 PARTITION OF q FOR VALUES FROM (20) TO (30)",
        "INSERT INTO q VALUES (3, 25)",
        "ALTER TABLE p ATTACH PARTITION q FOR VALUES FROM (20) TO (40)",
    )),
    "swapped": ("t", (
        "CREATE TABLE n (LIKE t INCLUDING ALL)", "INSERT INTO n VALUES (1, 11, 100, 'ok')",
        "BEGIN", "ALTER TABLE t RENAME TO old", "ALTER TABLE n RENAME TO t", "COMMIT",
    )),
    "made again": ("t", (
        "DROP TABLE t",
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int, m temper, ms mood[], x text, g int)",
    )),
    "computed": ("t", ("ALTER TABLE t ALTER b TYPE int USING b + 1",)),
    "of another type": ("t", ("ALTER TABLE t ALTER b TYPE bigint USING b + 1",)),
    "in another order": ("t", ('ALTER TABLE t ALTER x TYPE text COLLATE "C"',)),
    "by another expression": ("t", ("ALTER TABLE t ALTER g SET EXPRESSION AS (a * 3)",)),
    "columns swapped": ("t", (
        "BEGIN", "ALTER TABLE t RENAME a TO c", "ALTER TABLE t RENAME b TO a",
        "ALTER TABLE t RENAME c TO b", "COMMIT",
    )),
    "a column anew": ("t", ("ALTER TABLE t DROP b, ADD b int DEFAULT 5",)),
    "a label renamed": ("t", ("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",)),
    "an odd name": ('odd."name', ('ALTER TABLE "odd.""name" ALTER a TYPE int USING a + 1',)),
    "a schema renamed": ("t", (
        "CREATE SCHEMA other", "CREATE TABLE other.t (LIKE t INCLUDING ALL)",
        "BEGIN", "ALTER SCHEMA public RENAME TO away", "ALTER SCHEMA other RENAME TO public",
        "COMMIT",
    )),
}  # fmt: skip
# What changes no document: files written anew, and columns defined anew.
_HARMLESS = (
    ("VACUUM FULL t", "CLUSTER t USING t_pkey", "ALTER TABLE t ADD c int DEFAULT random()",
     "ANALYZE t", "VACUUM t", "REINDEX TABLE t", "GRANT SELECT ON t TO PUBLIC",
     "CREATE INDEX ON t (a)", "ALTER TABLE t REPLICA IDENTITY FULL", "COMMENT ON TABLE t IS 'x'",
     "ALTER TABLE t SET (fillfactor = 70)", "CREATE TABLE u (id int)"),
    ("GRANT SELECT (a) ON t TO PUBLIC", "ALTER TABLE t ALTER a SET STATISTICS 7",
     "ALTER TABLE t ALTER b SET DEFAULT 4", "ALTER TABLE t DROP c",
     "ALTER TYPE mood ADD VALUE 'so so' BEFORE 'ok'",
     "CREATE TABLE p9 PARTITION OF p FOR VALUES FROM (90) TO (99)"),
)  # fmt: skip


@pytest.fixture
def tables(postgres_server: PostgresServer, fresh_postgres: str) -> Tables:
    here = made(postgres_server, fresh_postgres, *_TABLES)
    here.run("DROP PUBLICATION projector", "CREATE PUBLICATION projector FOR ALL TABLES")
    return here


# As far as versions before 17 can.
_OLDER = {
    "by another expression": ("ALTER TABLE t DROP g, ADD g int GENERATED ALWAYS AS (a * 3) STORED",)
}


def _statements(tables: Tables, name: str) -> tuple[str, ...]:
    is_older = tables.server.flavour is PostgresFlavour.POSTGRES
    return _OLDER.get(name, _SILENT[name][1]) if is_older else _SILENT[name][1]


def _told(log: Log) -> set[str]:
    """Return the tables of which something was told that the stream does not show."""
    told = [change for change in log.changes if isinstance(change, TableChange)]
    return {change.table.name for change in told if change.table is not None}


def _read_until_told(log: Log, table: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while table not in _told(log):
        assert time.monotonic() < deadline, f"nothing told of {table}: {log.parts[-5:]}"
        part = log.source.read(0.2)
        if part is not None:
            log.parts.append(part)


@pytest.mark.parametrize("name", _SILENT)
def test_what_changes_silently_is_told(tables: Tables, name: str) -> None:
    """Within a second or two, at a place behind it; and not again."""
    table, statements = _SILENT[name][0], _statements(tables, name)
    with reading(tables, *_WATCHES) as log:
        log.read_to_end()
        before = log.source.current()
        tables.run(*statements)
        _read_until_told(log, table)
        assert log.parts[-1].barrier.surely_reaches(before)
        count = len(log.changes)
        time.sleep(1.5)  # longer than it takes to look again
        log.read_to_end()
        told = [c for c in log.changes[count:] if isinstance(c, TableChange)]
        assert told == []


@pytest.mark.parametrize("name", _SILENT)
def test_what_changed_while_nobody_looked_is_told(tables: Tables, name: str) -> None:
    """The checkpoint says what had been seen: the next start finds the difference."""
    with reading(tables, *_WATCHES) as log:
        tables.run("INSERT INTO t VALUES (3, 1)")
        log.read_to_end()
        text = str(log.position)
    table, statements = _SILENT[name][0], _statements(tables, name)
    tables.run(*statements)
    with reading(tables, *_WATCHES, start=Position.parse(text)) as log:
        _read_until_told(log, table)
        log.read_to_end()
        text = str(log.position)
    with reading(tables, *_WATCHES, start=Position.parse(text)) as log:
        log.read_to_end()
        assert _told(log) == set()


@pytest.mark.parametrize("change", ["DELETE FROM away WHERE id = 1", "TRUNCATE away"])
def test_changes_of_a_table_under_another_name_are_told(tables: Tables, change: str) -> None:
    """A table is away for a moment, and back before anybody looks."""
    with reading(tables, *_WATCHES) as log:
        log.read_to_end()
        tables.run("ALTER TABLE t RENAME TO away", change, "ALTER TABLE away RENAME TO t")
        _read_until_told(log, "t")


def test_what_changes_no_document_is_not_told(tables: Tables) -> None:
    """A walk over all documents after each VACUUM FULL would be one too many."""
    with reading(tables, *_WATCHES) as log:
        for statements in _HARMLESS:
            tables.run(*statements)
            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline:
                if (part := log.source.read(0.2)) is not None:
                    log.parts.append(part)
        log.read_to_end()
        assert _told(log) == set()


def test_a_position_of_another_projection_is_compared_with_nothing() -> None:
    """What two checkpoints saw of definitions is the same, or it is not known."""
    one = Position("1", 1, 10, published=5, defined="a.b.c")
    other = Position("1", 1, 20, published=5, defined="a.b.d")
    assert one.earlier(one).defined == "a.b.c"
    assert one.earlier(other).defined not in ("", "a.b.c", "a.b.d")
    assert Position.parse(str(one)).defined == "a.b.c"
    assert Position.parse("postgres|1|1|0/A||5").defined == ""
