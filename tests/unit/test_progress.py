"""Where the stream stands: offsets count in the file that is read, whatever the checkpoint says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projector.debt import Debt, full
from projector.errors import TransientError
from projector.model import MISSING, Kind, Need, RowsChange, TableChange, TableName
from projector.mysql.barrier import LockedRows, MariadbSnapshot, awaited
from projector.mysql.binlog.events import Gtid
from projector.mysql.binlog.progress import Progress
from projector.mysql.position import Flavour, GtidSet, MariadbGtids, Position

SID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
WRAP = 1 << 32
FILE = "binlog.000007"


def mysql(numbers: str, offset: int, server: str = "a") -> Position:
    return Position(Flavour.MYSQL, server, FILE, offset, GtidSet.parse(f"{SID}:{numbers}"), 50)


def mariadb(number: int, offset: int, server: str = "a", file: str = FILE) -> Position:
    return Position(Flavour.MARIADB, server, file, offset, MariadbGtids({0: (1, number)}), 50)


def test_an_offset_before_the_checkpoints_is_before_it() -> None:
    """MySQL gives again what was prepared before the checkpoint: no log has grown by 4 GB."""
    progress = Progress(mysql("1-9", 900), "a")
    progress.open(FILE, 4)
    progress.describe(50)
    progress.move(300)
    assert (progress.here().offset, progress.here().born) == (300, 50)
    assert mysql("1-9", 900).reaches(progress.here())


def test_another_servers_file_of_the_same_name_is_another() -> None:
    """After a failover places are the new server's, or unknown: at its log's end at most."""
    progress = Progress(mariadb(9, 900), "b", ("binlog.000002", 700))
    assert progress.restart().file == ""
    assert (progress.here().file, progress.here().offset) == ("binlog.000002", 700)
    progress.open(FILE, 4)
    progress.describe(60)
    progress.count_in(0, 2, 10)
    progress.move(300)
    assert progress.here() == progress.restart()
    assert (progress.here().server, progress.here().offset, progress.here().born) == ("b", 300, 60)


@given(st.lists(st.integers(20, WRAP - 1), min_size=1, max_size=6), st.booleans())
def test_a_file_beyond_4_gb_is_followed(sizes: list[int], resumes: bool) -> None:
    """Ends are given modulo 2**32; MariaDB's stream goes on behind the checkpoint's place."""
    offset = 5 * WRAP if resumes else 4
    progress = Progress(mariadb(1, offset), "a")
    progress.open(FILE, 4)
    for size in sizes:
        offset += size
        progress.move(offset % WRAP or WRAP)
        if offset % WRAP:
            assert progress.here().offset == offset


def test_a_prepared_transaction_holds_back_only_the_place_to_restart_from() -> None:
    """It counts as met: nobody who waits for the log's end waits for its commit."""
    progress = Progress(mysql("1-4", 400), "a")
    progress.open(FILE, 400)
    gtid = Gtid(bytes.fromhex(SID.replace("-", "")), "", 5, 0.0)
    progress.hold("x", gtid)
    progress.move(500)
    assert str(progress.here().gtids) == f"{SID}:1-5"
    assert str(progress.restart().gtids) == f"{SID}:1-4"
    progress.release("x")
    assert str(progress.restart().gtids) == f"{SID}:1-5"
    files = Progress(Position(Flavour.MYSQL, "a", FILE, 400, None), "a")
    files.open(FILE, 400)
    files.hold("x", None)
    files.move(500)
    assert (files.here().offset, files.restart().offset) == (500, 400)


def test_numbers_that_fall_are_ordered_by_the_log() -> None:
    """Two masters in one domain: on one server its file and offset count."""
    first = mariadb(9, 400)
    second = Position(Flavour.MARIADB, "a", FILE, 500, MariadbGtids({0: (2, 3)}), 50)
    assert second.reaches(first)
    assert not first.reaches(second)
    elsewhere = Position(Flavour.MARIADB, "b", FILE, 4, MariadbGtids({0: (2, 3)}))
    with pytest.raises(ValueError, match="order"):
        first.reaches(elsewhere)
    assert not first.surely_reaches(elsewhere)
    rotated = mariadb(9, 4, file="binlog.000008")
    assert first.reaches(rotated)  # nothing lies between
    assert rotated.reaches(first)


def test_the_same_file_created_again_is_another() -> None:
    """A log that was reset gives out its names once more."""
    old = Position(Flavour.MYSQL, "a", FILE, 400, None, 50)
    new = Position(Flavour.MYSQL, "a", FILE, 500, None, 90)
    assert not new.surely_reaches(old)
    assert Position.parse(str(new)).born == 90
    assert Position.parse(f"mysql|a|{FILE}|500|-").born == 0


def test_a_debt_keeps_the_barrier_that_lies_behind() -> None:
    """Merged with a cause met again after a restart, it still waits for the later one."""
    early, late = mariadb(4, 400), mariadb(9, 900)
    assert early.later(late) == late.later(early) == late
    new = mariadb(2, 200, server="b")
    assert new.later(late) == new
    first, second = mysql("1-4", 400), mysql("1-2:6", 300)
    assert str(second.later(first).gtids) == f"{SID}:1-4:6"
    debt = Debt.from_json(full("truncate").to_json(), Position.parse)
    assert debt.barrier is None
    owed = Debt("all", "statement", barrier=late)
    assert Debt.from_json(owed.to_json(), Position.parse) == owed


TABLE = TableName("shop", "goods")
KEYS = {TABLE: ((0, "id"),)}
STATEMENT = [TableChange(TABLE, "statement")]
ROWS = [RowsChange(TABLE, Kind.INSERT, [], [(1,)], 1)]
FRESH = [(b"binlog_snapshot_file", b"binlog.000008"), (b"binlog_snapshot_position", b"400")]
FAR = [(b"binlog_snapshot_file", b"binlog.000007"), (b"binlog_snapshot_position", b"99999")]


def test_a_files_beginning_is_doubted_also_where_no_row_is_known() -> None:
    """Whatever is read is locked then, unless the snapshot is to be kept."""
    barrier, place = MariadbSnapshot(KEYS), mariadb(9, 900)
    owed = Need(place, is_unspelled=True)
    assert not barrier.reached(owed, [[], FRESH])
    locking = barrier.opening(owed, [[], FRESH])
    assert "SERIALIZABLE" in locking[0]
    assert barrier.reached(owed, [[], []])
    assert barrier.reached(owed, [[], FAR])
    assert not barrier.reached(Need(place, STATEMENT), [[], FRESH])
    assert barrier.reached(Need(place), [[], FRESH])  # nothing is owed
    rows = Need(place, ROWS)
    assert "LOCK IN SHARE MODE" in barrier.opening(rows, [[], FRESH])[0]


def test_a_snapshot_is_kept_only_where_what_was_met_last_can_be_waited_for() -> None:
    """Behind a statement, or rows whose keys the log lacks, nothing that can be locked shows."""
    unkeyed = [RowsChange(TABLE, Kind.INSERT, [], [(MISSING,)], 1)]
    assert awaited([*STATEMENT, *ROWS], KEYS)
    assert not awaited([*ROWS, *STATEMENT], KEYS)
    assert not awaited([*ROWS, *unkeyed], KEYS)
    assert not awaited([*ROWS, ROWS[0]._replace(table=TableName("shop", "keyless"))], KEYS)

    known, unknown = Need(mariadb(9, 900), ROWS, is_kept=True), Need(mariadb(9, 900), is_kept=True)
    barrier = MariadbSnapshot(KEYS)
    assert "LOCK IN SHARE MODE" in barrier.opening(known, [[], FRESH])[0]
    assert barrier.reached(known, [[], [], FRESH])
    assert barrier.reached(unknown, [[], FAR])
    with pytest.raises(TransientError):
        barrier.reached(unknown, [[], FRESH])
    assert barrier.can_keep(unknown)
    assert not barrier.can_keep(Need(mariadb(9, 4), is_kept=True))
    assert barrier.can_keep(Need(mariadb(9, 4), ROWS, is_kept=True))
    assert LockedRows(KEYS).can_keep(known)
    assert not LockedRows(KEYS).can_keep(unknown)


def test_without_gtids_a_walk_locks_what_it_reads() -> None:
    """Nobody can tell how far the reading connection sees; rows of a statement are not known."""
    barrier, place = LockedRows(KEYS), Position(Flavour.MYSQL, "a", FILE, 400, None)
    assert "SERIALIZABLE" in barrier.opening(Need(place, is_unspelled=True))[0]
    assert "SERIALIZABLE" not in barrier.opening(Need(place))[0]
    assert "SERIALIZABLE" not in barrier.opening(Need(place, is_unspelled=True, is_kept=True))[0]
