"""Values as JSON, without a server: what each reader of JSON would make of them."""

import datetime
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from projector.projection.encoding import any_date, any_date_time, any_text, whole_number
from projector.projection.jsontext import json_value, sorted_members, trusted_json
from tests.abroad.world import strict_json

_texts = st.text(st.characters(codec="utf-8"), max_size=8)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=12,
)


@given(_values, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_json_keeps_its_value_and_loses_its_spaces(
    value: object, is_ascii: bool, indent: int | str | None
) -> None:
    """However it is spelled; spaces within texts stay."""
    stored = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode()
    wanted = json.dumps(value, ensure_ascii=is_ascii, separators=(",", ":")).encode()
    assert json_value(stored) == trusted_json(stored) == wanted


@given(st.binary(max_size=12) | st.text('[]{}",:\\u0dD81e+-. ', max_size=14).map(str.encode))
def test_no_reader_refuses_what_passes(stored: bytes) -> None:
    """Whatever stands there: it is refused, or both Python's and Pydantic's parsers take it."""
    try:
        written = json_value(stored)
    except ValueError:
        return
    assert strict_json(written) == strict_json(stored)
    TypeAdapter(object).validate_json(written)


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (b'{"a": 1, "a": 1}', "twice"),
        (b'[{"b": {"a": 1, "\\u0061": 2}}]', "twice"),
        (b"[NaN]", "NaN"),
        (b"-Infinity", "Infinity"),
        (b"[" * 101 + b"]" * 101, "levels"),
        (b'{"a":' * 50000 + b"1" + b"}" * 50000, "levels"),
        (b"1" * 4301, "digits"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00x": 1}', "surrogate"),
        (b"\xef\xbb\xbf1", "no JSON"),
        ("[1]".encode("utf-16"), "UTF-8"),
        (b'"\xff"', "UTF-8"),
        (b"[1,]", "no JSON"),
        (b"", "no JSON"),
        (b'"a\nb"', "no JSON"),
    ],
)
def test_json_that_some_reader_refuses_is_refused(stored: bytes, why: str) -> None:
    """With a reason, and no value in it."""
    with pytest.raises(ValueError, match=why):
        json_value(stored)


def test_json_at_the_limits_is_written() -> None:
    """A hundred levels, however many brackets stand within texts; 4,300 digits."""
    stored = b"[" * 99 + b'"[[[[[[[{{{{' + b"\\u0041" * 60 + b'"' + b"]" * 99
    assert json_value(stored) == stored
    assert json_value(b"1" * 4300) == b"1" * 4300


@given(st.dictionaries(_texts, _values, max_size=5), st.randoms())
def test_members_are_put_in_order(members: dict[str, object], random: object) -> None:
    """The same object in any order gives the same bytes."""
    shuffled = list(members.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    written = sorted_members(json.dumps(dict(shuffled), indent=1).encode())
    assert written == sorted_members(json.dumps(members).encode())
    assert json.loads(written) == members
    assert list(json.loads(written)) == sorted(members)


@pytest.mark.parametrize("value", [b"000042", b"-0", b"0000", b"+5", b"18446744073709551615"])
def test_whole_numbers_lose_their_zeros(value: bytes) -> None:
    """ZEROFILL and YEAR have some in front."""
    assert json.loads(whole_number(value)) == int(value)


@pytest.mark.parametrize("value", [b"1_000", b" 7", b"7 ", b"7\n", b"0x7", b"7.0", b"", b"+-7"])
def test_what_only_python_calls_a_whole_number_is_refused(value: bytes) -> None:
    """Of a text that is declared a number."""
    with pytest.raises(ValueError, match="not a whole number"):
        whole_number(value)


@given(st.binary(max_size=9))
def test_bytes_are_a_text_or_refused(value: bytes) -> None:
    """What is no UTF-8 is no JSON."""
    try:
        wanted = value.decode()
    except UnicodeDecodeError:
        with pytest.raises(ValueError, match="UTF-8"):
            any_text(value)
    else:
        assert strict_json(any_text(value)) == wanted


@settings(deadline=None)
@given(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32), st.integers(0, 24))
def test_only_days_of_the_calendar_are_written(year: int, month: int, day: int, hour: int) -> None:
    """Zero dates, and with ALLOW_INVALID_DATES the 30th of February, no reader could parse."""
    date, time = f"{year:04}-{month:02}-{day:02}", f"{hour:02}:00:00"
    try:
        datetime.date(year, month, day)
    except ValueError:
        with pytest.raises(ValueError, match="does not exist"):
            any_date(date.encode())
        with pytest.raises(ValueError, match=r"."):
            any_date_time(f"{date} {time}".encode())
        return
    assert any_date(date.encode()) == f'"{date}"'.encode()
    if hour < 24:
        written = any_date_time(f"{date} {time}".encode())
        assert written == f'"{date}T{time}Z"'.encode()
