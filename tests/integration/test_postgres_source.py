"""PostgreSQL's log on a real server: whole transactions, in order, once; places to restart from."""

import time

import pytest

from projector.errors import PositionLostError
from projector.model import MISSING
from tests.integration.postgres_reading import Tables, made, net, reading, watch
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
    from dataclasses import replace

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
