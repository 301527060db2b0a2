"""From the server's text of a value to JSON, without a detour through Python objects.

MySQL's text protocol gives numbers, dates and decimals as the very digits that JSON wants. For
each query one function is generated that writes a row as a JSON fragment. The results equal
Pydantic v2's JSON mode. Raises ValueError for a value that has no JSON form (an invalid date).
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

Raw = str | bytes | None
Encoder = Callable[[Any], str]  # of a value that is not NULL

_BOOLEANS = {"0": "false", "1": "true"}
_SPACES_OUTSIDE_STRINGS = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')

text: Encoder = json.encoder.encode_basestring  # the C function: escapes, keeps Unicode as it is


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@functools.lru_cache(maxsize=1024)
def _short_json(value: str) -> str:
    json.loads(value, parse_constant=_no_constant)
    return _SPACES_OUTSIDE_STRINGS.sub(r"\1", value)


def json_value(value: str | bytes) -> str:
    """Check stored JSON and take the spaces out; digits stay as they are."""
    if isinstance(value, bytes):
        value = value.decode()
    if len(value) <= 256:
        return _short_json(value)
    return _short_json.__wrapped__(value)


def boolean(value: Raw) -> str:
    """Any number but zero is true."""
    return _BOOLEANS.get(value, "true")  # type: ignore[arg-type]


def date_time(value: str) -> str:
    """`2026-11-22 21:59:12.452458` to RFC 3339 in UTC."""
    date, _, time = value.partition(" ")
    time, _, fraction = time.partition(".")
    fraction = fraction.ljust(6, "0") if fraction.strip("0") else ""
    return f'"{_checked(date)}T{time}.{fraction}Z"' if fraction else f'"{_checked(date)}T{time}Z"'


def date_only(value: str) -> str:
    """A date that the calendar has."""
    return f'"{_checked(value)}"'


def _checked(date: str) -> str:
    # Zero dates and the year 0 are MySQL's own; no reader could parse them.
    if date[:4] == "0000" or date[5:7] == "00" or date[8:] == "00":
        raise ValueError(f"the date {date} does not exist")
    return date


def number_as_text(value: str) -> str:
    """Decimals are exact, so they are texts."""
    return f'"{value}"'


def floating(value: str) -> str:
    """A float the way Python and Pydantic print it."""
    return repr(float(value))


def blob(value: bytes | str) -> str:
    """Bytes in base64."""
    data = value.encode() if isinstance(value, str) else value
    return f'"{base64.b64encode(data).decode()}"'


def uuid_bytes(value: bytes) -> str:
    """BINARY(16) as a UUID."""
    return f'"{uuid.UUID(bytes=value)}"'


def bits(value: bytes) -> str:
    """BIT(n) as a number."""
    return str(int.from_bytes(value, "big"))


def encoder_of(kind: TypeEngine[Any]) -> Encoder | None:
    """Choose by the declared type; None: the server's text is JSON already (whole numbers)."""
    if isinstance(kind, sa.Boolean) or (
        isinstance(kind, mysql.TINYINT) and kind.display_width == 1
    ):
        return boolean
    if getattr(kind, "zerofill", False):
        return lambda value: str(int(value))
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

    def encode(value: str | bytes) -> str:
        return text(declared.mask(value.decode() if isinstance(value, bytes) else value))

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
) -> Callable[[Sequence[Raw]], str]:
    """Generate the function that writes columns `first`, `first + 1` … as `"name":value,…`."""
    scope: dict[str, Any] = {}
    parts = []
    for index, (name, encoder) in enumerate(zip(names, encoders, strict=True)):
        value = f"r[{first + index}]"
        if encoder is None:
            written = f"{value} or 'null'"
        else:
            scope[f"e{index}"] = encoder
            written = f"'null' if {value} is None else e{index}({value})"
        label = text(name).replace("\\", "\\\\").replace("'", "\\'")
        label = label.replace("{", "{{").replace("}", "}}")
        separator = "," if index else ""
        parts.append(f"f'{separator}{label}:' + ({written})")
    exec(f"def encode(r):\n    return {' + '.join(parts) or repr('')}\n", scope)
    encode: Callable[[Sequence[Raw]], str] = scope["encode"]
    return encode


def value_encoder(encoder: Encoder | None, column: int) -> Callable[[Sequence[Raw]], str]:
    """Give the function that writes one column as a plain JSON value."""

    def encode(row: Sequence[Any]) -> str:
        value = row[column]
        if value is None:
            return "null"
        return encoder(value) if encoder else value

    return encode
