"""JSON that applications keep in the database, checked for the strictest of readers.

Digits stay as they are. Refused (ValueError) is what some reader refuses or reads differently:
what is no JSON, NaN, half of a surrogate pair, a member that stands twice in an object (MySQL's
type keeps one of them, MariaDB's and plain texts keep both), more than 100 levels (MySQL's limit),
numbers of thousands of digits.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import Any

_LEVELS_MAX = 100
_DIGITS_MAX = 4300  # Python's and Pydantic's limit
_SPACES_OUTSIDE_STRINGS = re.compile(rb'("(?:[^"\\]|\\.)*")|\s+')


def json_value(value: bytes) -> bytes:
    """Check stored JSON and take the spaces out."""
    return _checked_short(value) if len(value) <= 256 else _checked(value)


def trusted_json(value: bytes) -> bytes:
    """Take the spaces out of what is JSON without doubt."""
    return _compact_short(value) if len(value) <= 256 else _compact(value)


def _compact(value: bytes) -> bytes:
    if b"\\" in value:
        return _SPACES_OUTSIDE_STRINGS.sub(rb"\1", value)
    parts = value.split(b'"')  # outside and inside of strings by turns
    parts[::2] = [part.translate(None, b" \t\r\n") for part in parts[::2]]
    return b'"'.join(parts)


_compact_short = functools.lru_cache(maxsize=1024)(_compact)


def sorted_members(value: bytes) -> bytes:
    """Check an object and put its members in the order of their names: an aggregate function gives
    them in the order of the rows that it met."""
    said = json_value(value).decode()
    if not said.startswith("{"):
        return said.encode()
    members = sorted(_members(said))
    return b"{%b}" % ",".join(f"{encode_basestring(k)}:{v}" for k, v in members).encode()


def _members(said: str) -> Iterator[tuple[str, str]]:
    """Take compact JSON of an object apart: names, and values as they are spelled."""
    place = 1
    while said[place : place + 1] not in ("}", ""):
        name, place = json.decoder.scanstring(said, place + 1)  # type: ignore[attr-defined]
        _, end = _DECODER.raw_decode(said, place + 1)  # beyond the colon
        yield name, said[place + 1 : end]
        place = end + 1 if said[end] == "," else end


def _checked(value: bytes) -> bytes:
    try:
        said = value.decode()
        if _depth(value) > _LEVELS_MAX:
            raise ValueError(f"JSON of more than {_LEVELS_MAX} levels")
        parsed = _DECODER.decode(said)
    except UnicodeDecodeError:
        raise ValueError("bytes that are no text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg} at character {error.pos})") from None
    if b"\\u" in value:
        _refuse_halves(parsed)
    return _compact(value)


_checked_short = functools.lru_cache(maxsize=1024)(_checked)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("JSON in which a member stands twice in an object")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _short(digits: str) -> None:
    if len(digits) > _DIGITS_MAX:
        raise ValueError(f"JSON with a number of more than {_DIGITS_MAX} digits")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_short, parse_float=_short
)


def _refuse_halves(parsed: Any) -> None:
    try:
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("JSON with half of a surrogate pair") from None


def _depth(value: bytes) -> int:
    """Return the number of levels, at least where it may be above the limit."""
    if value.count(b"[") + value.count(b"{") <= _LEVELS_MAX:
        return 0
    depth = deepest = 0
    for byte in _SPACES_OUTSIDE_STRINGS.sub(b"", value):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
