"""From the server's text of a value to JSON, without a detour through Python objects.

MySQL's text protocol gives numbers, dates and decimals as the very digits that JSON wants, texts as
UTF-8: bytes go in and bytes come out. For each query one function is generated that writes a row
as a JSON fragment. The results equal Pydantic v2's JSON mode. Raises ValueError for a value that
has no JSON form (an invalid date).
"""

from __future__ import annotations

import base64
import functools
import json
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from projector.projection.declaration import Field, Fixed, Hashed, Partial, expression_of

Raw = bytes | None  # a column as the server sent it
Encoder = Callable[[bytes], bytes]  # of a value that is not NULL

_SPACES_OUTSIDE_STRINGS = re.compile(rb'("(?:[^"\\]|\\.)*")|\s+')
_ESCAPED = re.compile(rb'[\x00-\x1f"\\]').search


def text(value: bytes) -> bytes:
    """A string: Unicode stays as it is."""
    if _ESCAPED(value) is None:
        return b'"%b"' % value
    return json.encoder.encode_basestring(value.decode()).encode()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _compact_json(value: bytes) -> bytes:
    json.loads(value, parse_constant=_no_constant)
    return _SPACES_OUTSIDE_STRINGS.sub(rb"\1", value)


_compact_short_json = functools.lru_cache(maxsize=1024)(_compact_json)


def json_value(value: bytes) -> bytes:
    """Check stored JSON and take the spaces out; digits stay as they are."""
    return _compact_short_json(value) if len(value) <= 256 else _compact_json(value)


def boolean(value: bytes) -> bytes:
    """Any number but zero is true."""
    return b"false" if value == b"0" else b"true"


def date_time(value: bytes) -> bytes:
    """`2026-11-22 21:59:12.452458` to RFC 3339 in UTC."""
    date, time = value[:10], value[11:]
    if len(time) > 8:
        fraction = time[9:]
        time = time[:8] if fraction.strip(b"0") == b"" else time[:9] + fraction.ljust(6, b"0")
    if date[5:7] == b"00" or date[8:] == b"00" or date[:4] == b"0000":
        _refuse(date)
    return b'"%bT%bZ"' % (date, time)


def date_only(value: bytes) -> bytes:
    """A date that the calendar has."""
    if value[5:7] == b"00" or value[8:] == b"00" or value[:4] == b"0000":
        _refuse(value)
    return b'"%b"' % value


def _refuse(date: bytes) -> None:
    # Zero dates and the year 0 are MySQL's own; no reader could parse them.
    raise ValueError(f"the date {date.decode()} does not exist")


def number_as_text(value: bytes) -> bytes:
    """Decimals are exact, so they are texts."""
    return b'"%b"' % value


def floating(value: bytes) -> bytes:
    """A float the way Python and Pydantic print it."""
    return repr(float(value)).encode()


def blob(value: bytes) -> bytes:
    """Bytes in base64."""
    return b'"%b"' % base64.b64encode(value)


def uuid_bytes(value: bytes) -> bytes:
    """BINARY(16) as a UUID."""
    return b'"%b"' % str(uuid.UUID(bytes=value)).encode()


def bits(value: bytes) -> bytes:
    """BIT(n) as a number."""
    return b"%d" % int.from_bytes(value, "big")


def encoder_of(kind: TypeEngine[Any]) -> Encoder | None:
    """Choose by the declared type; None: the server's text is JSON already (whole numbers)."""
    if isinstance(kind, sa.Boolean) or (
        isinstance(kind, mysql.TINYINT) and kind.display_width == 1
    ):
        return boolean
    if getattr(kind, "zerofill", False):
        return lambda value: b"%d" % int(value)
    by_type: Sequence[tuple[type[TypeEngine[Any]], Encoder | None]] = (
        (sa.Integer, None),
        (mysql.YEAR, None),
        (mysql.BIT, bits),
        (sa.Float, floating),
        (sa.Numeric, number_as_text),
        (sa.DateTime, date_time),
        (sa.Date, date_only),
        (sa.JSON, json_value),
    )
    for known, encoder in by_type:
        if isinstance(kind, known):
            return encoder
    if isinstance(kind, sa.types._Binary):
        return uuid_bytes if kind.length == 16 and isinstance(kind, sa.BINARY) else blob
    return text


def masked(declared: Fixed | Hashed | Partial) -> Encoder:
    """Encode the masked text of a column."""

    def encode(value: bytes) -> bytes:
        return text(declared.mask(value.decode()).encode())

    return encode


def encoder_for(declared: Field) -> Encoder | None:
    """Choose the encoder of a declared field."""
    if isinstance(declared, Fixed | Hashed | Partial):
        return masked(declared)
    return encoder_of(declared.type)


def name_of(declared: Field) -> str:
    """Give the field's name in the document: its label or the column's name."""
    expression = expression_of(declared)
    return str(getattr(expression, "key", None) or getattr(expression, "name", ""))


def row_encoder(
    names: Sequence[str], encoders: Sequence[Encoder | None], first: int
) -> Callable[[Sequence[Raw]], bytes]:
    """Generate the function that writes columns `first`, `first + 1` … as `"name":value,…`."""
    scope: dict[str, Any] = {"null": b"null"}
    parts = []
    for index, (name, encoder) in enumerate(zip(names, encoders, strict=True)):
        value = f"r[{first + index}]"
        label = text(name.encode()) + b":"
        parts.append(repr(b"," + label if index else label))
        if encoder is None:
            parts.append(f"{value} or null")
        else:
            scope[f"e{index}"] = encoder
            parts.append(f"null if {value} is None else e{index}({value})")
    exec(f"def encode(r, join=b''.join):\n    return join(({', '.join(parts)},))\n", scope)
    encode: Callable[[Sequence[Raw]], bytes] = scope["encode"]
    return encode


def value_encoder(encoder: Encoder | None, column: int) -> Callable[[Sequence[Raw]], bytes]:
    """Give the function that writes one column as a plain JSON value."""

    def encode(row: Sequence[Raw]) -> bytes:
        value = row[column]
        if value is None:
            return b"null"
        return encoder(value) if encoder else value

    return encode
