"""Damaged and cut events give a clear error or what they say, never a crash, a hang or a wrong row.

What a changed byte of a value says nobody can tell without its checksum: with one, see
tests/integration/test_source_damage.py.
"""

import ast
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projector.errors import UndecodableLogError
from projector.model import Row
from projector.mysql.binlog import events, payload
from projector.mysql.binlog.damage import DamagedEventError
from projector.mysql.binlog.tablemap import TableMap
from tests.unit.recorded_rows import Recorded, recorded

LOGS = ("mysql", "mariadb", "mariadb11")
LIMIT_S = 1.0  # an event takes well under a millisecond


@pytest.fixture(scope="module", params=LOGS)
def log(request: pytest.FixtureRequest) -> Recorded:
    """Rows of many types of each server."""
    return recorded(request.param)


@contextmanager
def quickly() -> Iterator[None]:
    """Fail when something takes as long as a hang."""
    begun = time.process_time()
    yield
    assert time.process_time() - begun < LIMIT_S


def changed(random: Random, data: bytes) -> bytes:
    """The same with some bytes changed, left out or put in."""
    broken, at = bytearray(data), random.randrange(len(data))
    match random.randrange(6):
        case 0:
            del broken[at : at + random.choice([1, 2, 30])]
        case 1:
            broken[at:at] = random.randbytes(random.choice([1, 2, 30]))
        case 2:
            broken[at : at + 4] = random.choice([b"\0" * 4, b"\xff" * 4])
        case _:
            for _ in range(random.choice([1, 1, 2, 8])):
                broken[random.randrange(len(broken))] = random.randrange(256)
    return bytes(broken)


def test_what_was_recorded_is_read_as_it_was(log: Recorded) -> None:
    """The same bytes give the same rows as when they were compared with the library's."""
    decoder = log.decoder()
    assert [repr(decoder.decode(kind, body, 0, len(body))) for kind, body in log.events] == list(
        log.rows
    )


def test_neighbours_in_the_buffer_are_never_read(log: Recorded) -> None:
    """An event somewhere in a buffer of others gives the same rows."""
    decoder = log.decoder()
    for (kind, body), rows in zip(log.events, log.rows, strict=True):
        buf = b"\xff" * 33 + body + b"\x01" * 33
        assert repr(decoder.decode(kind, buf, 33, 33 + len(body))) == rows


def test_a_cut_event_is_an_error_or_has_whole_rows(log: Recorded) -> None:
    """Cut anywhere: an error, or at the end of a row the rows up to there; also with the rest of
    the event still behind it in the buffer."""
    decoder = log.decoder()
    for kind, body in log.events:
        before, after, _ = decoder.decode(kind, body, 0, len(body))
        for end in range(8, len(body), 1 if len(body) < 1500 else 11):
            for buf in (body[:end], body):
                try:
                    cut_before, cut_after, count = decoder.decode(kind, buf, 0, end)
                except DamagedEventError:
                    continue
                assert same(cut_before, before[: len(cut_before)])
                assert same(cut_after, after[: len(cut_after)])
                assert 0 < count < max(len(before), len(after))


def same(rows: list[Row], others: list[Row]) -> bool:
    return repr(rows) == repr(others)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_rows_are_an_error_or_rows(log: Recorded, seed: int) -> None:
    """Whatever is changed: DamagedEventError or rows of the right width, in no time."""
    random, decoder = Random(seed), log.decoder()
    refused = 0
    for _ in range(1500):
        kind, body = random.choice(log.events)
        broken = changed(random, body)
        with quickly():
            try:
                before, after, count = decoder.decode(kind, broken, 0, len(broken))
            except DamagedEventError:
                refused += 1
                continue
        assert all(len(row) == len(log.wanted) for row in (*before, *after))
        assert max(len(before), len(after)) == count
    assert refused > 500


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_table_map_is_an_error_or_a_table(log: Recorded, seed: int) -> None:
    """A damaged table map is refused, or is one whose rows are refused or have its width."""
    random = Random(seed)
    for _ in range(400):
        with quickly():
            try:
                decoder = log.decoder(changed(random, log.table_map))
            except (DamagedEventError, LookupError):
                continue
            for kind, body in log.events[:3]:
                try:
                    before, after, _ = decoder.decode(kind, body, 0, len(body))
                except DamagedEventError:
                    continue
                assert all(len(row) == len(log.wanted) for row in (*before, *after))


def test_every_cut_of_a_table_map_is_told(log: Recorded) -> None:
    """A cut table map is refused; only its optional part may end early, between two entries."""
    whole = TableMap.parse(log.table_map)
    for end in range(8, len(log.table_map)):
        try:
            found = TableMap.parse(log.table_map[:end])
        except DamagedEventError:
            continue
        assert (found.types, found.metadata, found.nullable) == (
            whole.types, whole.metadata, whole.nullable,
        )  # fmt: skip


def test_bits_of_no_column_do_not_loop(log: Recorded) -> None:
    """Rows after a bitmap without a column are an error, not rows without end."""
    kind = 31
    width = len(TableMap.parse(log.table_map).types)
    size = (width + 7) // 8
    for unused in (b"\0" * size, b"\0" * (size - 1) + bytes([0xFF << width % 8 & 0xFF])):
        body = bytes(8) + b"\x02\0" + bytes([width]) + unused * 2 + b"rows"
        for rows_kind, rows in ((kind, body), (30, body[: 11 + size] + b"rows")):
            with quickly(), pytest.raises(DamagedEventError):
                log.decoder().decode(rows_kind, rows, 0, len(rows))


PARSERS: dict[str, Callable[[bytes], object]] = {
    "GTID": lambda buf: events.gtid(buf, 0, len(buf)),
    "tagged GTID": lambda buf: events.tagged_gtid(buf, 0, len(buf)),
    "MariaDB GTID": lambda buf: events.mariadb_gtid(buf, 0, len(buf)),
    "query": lambda buf: events.query(buf, 0, len(buf)),
    "load query": lambda buf: events.query(buf, 0, len(buf), load=True),
    "compressed query": events.decompress,
    "rotate": lambda buf: events.rotate(buf, 0, len(buf)),
    "XA prepare": lambda buf: events.prepared_xid(buf, 0, len(buf)),
    "table map": TableMap.parse,
    "payload head": payload.fields,
}


@pytest.mark.parametrize("parser", PARSERS)
@given(data=st.binary(max_size=200) | st.binary(max_size=40).map(lambda tail: bytes(19) + tail))
@example(data=b"")
@example(data=bytes(19))
@example(data=b"\xff" * 200)
def test_any_bytes_are_an_event_or_an_error(parser: str, data: bytes) -> None:
    """No bytes do worse to a parser than DamagedEventError."""
    with quickly():
        try:
            PARSERS[parser](data)
        except DamagedEventError:
            pass


@given(st.binary(max_size=300), st.integers(0, 2**64), st.sampled_from([0, 255]))
def test_any_payload_is_events_or_an_error(data: bytes, size: int, compression: int) -> None:
    """What does not decompress, or to another size than it says, is an error."""
    head = payload.Fields(0, compression, size)
    with quickly():
        try:
            for _ in payload.slices(head, data):
                pass
        except (DamagedEventError, UndecodableLogError):
            pass


def test_recorded_rows_hold_what_they_should() -> None:
    """The recordings have every kind of rows event that servers write, and rows in each."""
    kinds = {kind for name in LOGS for kind, _ in recorded(name).events}
    assert kinds >= {23, 24, 30, 31, 32, 39, 166, 167, 168}
    for name in LOGS:
        for text in recorded(name).rows:
            assert ast.literal_eval(text.rpartition(", ")[2].rstrip(")")) > 0
