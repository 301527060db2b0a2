"""PostgreSQL's values without a server: places in its log, snapshots, texts of types, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projector.errors import (
    PositionLostError,
    RefusedError,
    TooMuchError,
    TransientError,
    ValueRefusedError,
)
from projector.postgres.errors import refusal, state_of
from projector.postgres.log import Confirmations
from projector.postgres.position import Position, lsn_text, parse_lsn
from projector.postgres.results import Kinds, moment, moment_of_zone
from projector.postgres.visibility import Snapshot, Visibility, full_xid
from projector.projection.encoding import Promise, any_date_time, date_time

IDS = st.frozensets(st.integers(3, 2**40), max_size=4)
POSITIONS = st.builds(
    Position, st.just("7"), st.integers(1, 3), st.integers(0, 2**64 - 1), IDS, st.just(0)
)


@given(POSITIONS)
def test_a_position_is_what_its_text_says(place: Position) -> None:
    """Also where a later version has appended to it."""
    assert Position.parse(str(place)) == place
    assert Position.parse(f"{place}|more") == place
    assert parse_lsn(lsn_text(place.lsn)) == place.lsn


@pytest.mark.parametrize("text", ["", "mysql|a|b|4|-", "postgres|1|x|0/0|", "postgres|1|1|77|"])
def test_what_is_no_position_is_refused(text: str) -> None:
    """Another server's, and what somebody wrote by hand."""
    with pytest.raises(ValueError, match=r".+"):
        Position.parse(text)


@given(POSITIONS, POSITIONS)
def test_positions_have_an_order_and_forget_nothing(one: Position, other: Position) -> None:
    """The earlier and the later of two know what neither snapshot had shown, in their timeline."""
    low, high = one.earlier(other), one.later(other)
    assert low.lsn == min(one.lsn, other.lsn)
    assert high.lsn == max(one.lsn, other.lsn)
    assert one.surely_reaches(low)
    assert high.surely_reaches(one)
    last = max(one.timeline, other.timeline)
    unseen = {xid for p in (one, other) if p.timeline == last for xid in p.unseen}
    assert low.unseen == high.unseen == unseen


def test_what_has_been_seen_meanwhile_is_left_out() -> None:
    """Or a place that is joined again and again would grow without end."""
    old = Position("7", 1, 10, frozenset({5, 8}))
    new = Position("7", 1, 20, frozenset({9}), seen=8)
    assert old.later(new).unseen == {8, 9}


def test_another_clusters_position_cannot_be_compared() -> None:
    """It is passed by now, or lost."""
    here, there = Position("7", 1, 10), Position("8", 1, 20)
    assert not here.surely_reaches(there)
    assert here.later(there) is here
    with pytest.raises(PositionLostError):
        here.earlier(there)


def test_a_snapshot_shows_what_has_ended() -> None:
    """Neither those that run nor those that began after it."""
    snapshot = Snapshot.parse("10:20:10,15")
    assert snapshot.shows({9, 11, 19})
    assert not snapshot.shows({15})
    assert not snapshot.shows({20})
    assert snapshot.unseen({9, 10, 15, 19, 25}) == {10, 15, 25}
    assert Snapshot.parse("20:20:").shows({19})


@pytest.mark.parametrize(
    ("now", "is_enough"),
    [
        ("10:20:10", True),
        ("10:20:10,15", False),
        ("10:19:10", False),
        ("10:30:10,25", True),
        ("30:30:", True),
    ],
)
def test_a_plain_snapshot_shows_as_much_as_a_slots(now: str, is_enough: bool) -> None:
    """What runs in both, or began later, need not be waited for."""
    assert Snapshot.parse(now).shows_as_much(Snapshot.parse("10:20:10")) is is_enough


@given(st.integers(2**31, 2**40), st.integers(-(2**31) + 1, 2**31 - 1))
def test_ids_are_completed_where_their_halves_wrap(near: int, apart: int) -> None:
    """The stream has 32 bits of them."""
    assert full_xid((near + apart) & 0xFFFF_FFFF, near) == near + apart


def test_what_is_streamed_is_unseen_until_it_is_shown() -> None:
    """Also beyond the place where the lower halves begin again."""
    wrap = 1 << 32
    known = Visibility(Snapshot(wrap - 2, wrap - 1, frozenset()), {wrap - 2, 5})
    known.streamed([0xFFFF_FFFF, 1])
    assert known.unseen == {wrap - 1, wrap + 1}
    known.shown(Snapshot(wrap + 1, wrap + 2, frozenset({wrap + 1})))
    assert known.unseen == {wrap + 1}
    assert known.seen == wrap + 1


def test_confirmations_wait_for_their_time_or_for_others() -> None:
    """What is durable for long, or far behind, may be let go; never what is not."""
    waiting = Confirmations(60.0, 1000)
    waiting.add(100, 0.0)
    waiting.add(200, 30.0)
    waiting.add(150, 31.0)
    assert waiting.due(59.0) == 0
    assert waiting.due(60.0) == 100
    assert waiting.due(61.0) == 0
    waiting.add(1200, 62.0)
    assert waiting.due(62.0) == 200


ROWS = {
    "bool": (16, b"t", b"1", 1, Promise.WHOLE),
    "int8": (20, b"-5", b"-5", -5, Promise.WHOLE),
    "bytea": (17, rb"\x00ff", b"\x00\xff", b"\x00\xff", Promise.NOTHING),
    "text": (25, "ü".encode(), "ü".encode(), "ü", Promise.TEXT),
    "numeric": (1700, b"NaN", b"NaN", "NaN", Promise.NOTHING),
    "timestamptz": (1184, b"2026-11-22 19:59:12.4+00", b"2026-11-22 19:59:12.4",
                    "2026-11-22 19:59:12.4+00", Promise.STAMP),
    "infinity": (1184, b"infinity", b"!infinity", "infinity", Promise.STAMP),
    "timestamp": (1114, b"2026-11-22 19:59:12", b"2026-11-22 19:59:12", "2026-11-22 19:59:12",
                  Promise.INSTANT),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_values_have_a_form_in_rows_and_one_in_the_log(kind: str) -> None:
    """The text that encoders know, and the value that a look-up is made with."""
    oid, sent, form, value, promise = ROWS[kind]
    kinds = Kinds()
    rows = kinds.fixed([(sent, None), (None, sent)], [oid, oid])
    assert list(rows) == [(form, None), (None, form)]
    assert rows.promises == (promise, promise)
    assert kinds.reader(oid)(sent) == value


@pytest.mark.parametrize(
    "text", [b"infinity", b"-infinity", b"0044-03-15 12:00:00", b"12026-01-01 00:00:00"]
)
def test_moments_without_a_form_are_refused_by_each_encoder(text: bytes) -> None:
    """Also by those that trust the server."""
    sent = text + b" BC" if text.startswith(b"0044") else text
    zoned = text if text.endswith(b"y") else text + b"+00" + sent[len(text) :]
    for value in (moment(sent), moment_of_zone(zoned)):
        for encode in (date_time, any_date_time):
            with pytest.raises(ValueError, match=r".+"):
                encode(value)


def catalog(rows: dict[int, list[str]]) -> Any:
    """What answers a look-up of types: OID, base, element, and whether it is a text."""
    asked: list[str] = []

    def ask(sql: str) -> list[list[str | None]]:
        asked.append(sql)
        listed = sql.rpartition("(")[2].rstrip(")").split(",")
        return [[oid, *rows[int(oid)]] for oid in listed if int(oid) in rows]

    return ask, asked


@pytest.mark.parametrize(
    ("element", "sent", "expected"),
    [
        (23, b"{1,NULL,-3}", ["1", None, "-3"]),
        (23, b"{}", []),
        (23, b"[2:3]={7,8}", ["7", "8"]),
        (23, b"{{1,2},{3,4}}", [["1", "2"], ["3", "4"]]),
        (25, rb'{"a \"b\\ c",NULL,"NULL","",x}', ['a "b\\ c', None, "NULL", "", "x"]),
        (25, '{"{,}","ü "}'.encode(), ["{,}", "ü "]),
        (16, b"{t,f,NULL}", ["1", "0", None]),
        (17, rb'{"\\xdead"}', ["dead"]),
        (1184, b'{"2026-11-22 19:59:12+00",infinity}', ["2026-11-22 19:59:12", "!infinity"]),
    ],
)
def test_arrays_are_written_as_json(element: int, sent: bytes, expected: Any) -> None:
    """With elements in the form that encoders know."""
    ask, _ = catalog({9000: ["0", str(element), "f"]})
    kinds = Kinds()
    kinds.need([9000], ask)
    assert json.loads(kinds.fixed([(sent,)], [9000])[0][0]) == expected
    assert kinds.reader(9000)(sent) == sent.decode()


def test_types_of_others_are_looked_up_once_down_to_their_bases() -> None:
    """Domains, of domains and of arrays; enums are texts; what has gone is nothing known."""
    ask, asked = catalog({
        9001: ["9002", "0", "f"], 9002: ["16", "0", "f"], 9003: ["9004", "0", "f"],
        9004: ["0", "9001", "f"], 9005: ["0", "0", "t"],
    })  # fmt: skip
    kinds = Kinds()
    for _ in range(2):
        kinds.need([9001, 9003, 9005, 9006, 23], ask)
    assert kinds.reader(9001)(b"t") == 1
    assert kinds.reader(9003)(b"{t,f}") == "{t,f}"
    assert kinds.fixed([(b"{t,f}",)], [9003])[0][0] == b'["1","0"]'
    assert kinds.promises([9005, 9006, 9001]) == (Promise.TEXT, Promise.NOTHING, Promise.WHOLE)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("state", "kind", "is_answered"),
    [
        ("", TransientError, False),
        ("57P01", TransientError, False),
        ("08006", TransientError, False),
        ("53300", TransientError, False),
        ("40001", TransientError, True),
        ("55P03", TransientError, True),
        ("XX000", TransientError, True),
        ("99999", TransientError, True),
        ("57014", TooMuchError, True),
        ("53200", TooMuchError, True),
        ("42501", RefusedError, None),
        ("28P01", RefusedError, None),
        ("42P01", RefusedError, None),
        ("42601", RefusedError, None),
        ("22012", ValueRefusedError, None),
        ("P0001", ValueRefusedError, None),
    ],
)
def test_errors_are_sorted_by_their_code(state: str, kind: type, is_answered: bool | None) -> None:
    """Their texts are translated; that of a value may quote it."""
    error = refusal(state, "geheim")
    assert type(error) is kind
    assert state_of(error) == state
    assert getattr(error, "answered", None) is is_answered
    assert kind is not ValueRefusedError or "geheim" not in str(error)
