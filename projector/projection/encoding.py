"""From the server's text of a value to JSON, without a detour through Python objects.

MySQL's text protocol gives numbers, dates and decimals as the very digits that JSON wants, texts as
UTF-8: bytes go in and bytes come out. What is declared need not be what the server sends: an
expression, or a table altered since, may give anything. Each result says of which types its columns
are (`promises`): what a type promises is not looked at again, everything else is. For each query
functions are generated that write a row as a JSON fragment. The results equal Pydantic v2's JSON
mode. Raises ValueError for a value that has no such form.
"""

from __future__ import annotations

import base64
import datetime
import functools
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import Enum, auto
from json.encoder import encode_basestring
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.sql.elements import _anonymous_label
from sqlalchemy.types import TypeDecorator, TypeEngine

from projector.errors import ConfigurationError
from projector.projection import shapes
from projector.projection.jsontext import json_value, trusted_json
from projector.projection.shapes import Shape
from projector.projection.values import Field, expression_of

Raw = bytes | None  # a column as the server sent it
Encoder = Callable[[bytes], bytes]  # of a value that is not NULL
RowEncoder = Callable[[Sequence[Raw]], bytes]

_ESCAPED = re.compile(rb'[\x00-\x1f"\\]').search
_WHOLE = re.compile(rb"[-+]?[0-9]+").fullmatch
_INSTANT = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
).fullmatch
_DATE = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_TIME = re.compile(rb"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?").fullmatch


class Promise(Enum):
    """What the server says of the form of all values of a column of a result."""

    NOTHING = auto()
    WHOLE = auto()  # a whole number without superfluous zeros
    DECIMAL = auto()  # digits with a fraction of fixed length
    BIT = auto()  # bytes, most significant first
    INSTANT = auto()  # a date and a time of day
    STAMP = auto()  # the same, of a TIMESTAMP: the server keeps it in UTC
    DATE = auto()
    JSON = auto()  # MySQL's own type: valid, no member twice, not too deep
    TEXT = auto()  # in UTF-8


Promises = tuple[Promise, ...]


class SentRows(list[tuple[Raw, ...]]):
    """Rows of a result, and what the server promises of its columns (nothing said: nothing)."""

    promises: Promises = ()


@dataclass(frozen=True, slots=True)
class Form:
    """How values of a declared type are written: `checked` takes whatever the server may send,
    `trusted` what it has promised (None: the server's text is JSON already). `shape` says of both
    what they write. `moment`: where time alone changes what is written, the form of the moment at
    which it does."""

    checked: Encoder
    shape: Shape
    trusted: Mapping[Promise, Encoder | None] = field(default_factory=dict)
    moment: Form | None = None

    def encoder(self, promise: Promise) -> Encoder | None:
        """Choose by what the server has promised."""
        return self.trusted.get(promise, self.checked)


def text(value: bytes) -> bytes:
    """A string: Unicode stays as it is."""
    if _ESCAPED(value) is None:
        return b'"%b"' % value
    return encode_basestring(value.decode()).encode()


def any_text(value: bytes) -> bytes:
    """A string of bytes that need not be UTF-8."""
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError:
            raise ValueError("bytes that are no text in UTF-8") from None
    return text(value)


def whole_number(value: bytes) -> bytes:
    """A whole number; YEAR and ZEROFILL come with zeros in front."""
    if _WHOLE(value) is None:
        raise ValueError("not a whole number")
    return b"%d" % int(value)


def boolean(value: bytes) -> bytes:
    """Of a whole number: any but zero is true."""
    return b"false" if value == b"0" else b"true"


def bits_boolean(value: bytes) -> bytes:
    """Of BIT(n): any bit makes it true."""
    return b"true" if any(value) else b"false"


def any_boolean(value: bytes) -> bytes:
    """Of a text: any number but zero is true."""
    return b"false" if _number(value) == 0 else b"true"


def _number(value: bytes) -> Decimal:
    try:
        number = Decimal(value.decode())
    except (InvalidOperation, UnicodeDecodeError):
        raise ValueError("not a number") from None
    if not number.is_finite() or b"_" in value:
        raise ValueError("not a number")
    return number


@functools.lru_cache(maxsize=4096)
def _day(date: bytes) -> bytes:
    """Check a date against the calendar: zero dates and the year 0 are MySQL's own, and with
    ALLOW_INVALID_DATES February has 31 days; no reader could parse them."""
    try:
        datetime.date(int(date[:4]), int(date[5:7]), int(date[8:]))
    except ValueError:
        raise ValueError(f"the date {date.decode()} does not exist") from None
    return date


def date_time(value: bytes) -> bytes:
    """`2026-11-22 21:59:12.452458` to RFC 3339 in UTC."""
    time = value[11:]
    return b'"%bT%bZ"' % (_day(value[:10]), time if len(time) == 8 else _fraction(time))


def _fraction(time: bytes) -> bytes:
    """Six digits, or none."""
    fraction = time[9:]
    return time[:9] + fraction.ljust(6, b"0") if fraction.strip(b"0") else time[:8]


def any_date_time(value: bytes) -> bytes:
    """The same of a text."""
    if _INSTANT(value) is None:
        if _DATE(value):
            _day(value)
        raise ValueError("not a date with a time of day")
    return date_time(value)


def date_only(value: bytes) -> bytes:
    """A date that the calendar has."""
    return b'"%b"' % _day(value)


def any_date(value: bytes) -> bytes:
    """The same of a text."""
    if _DATE(value) is None:
        raise ValueError("not a date")
    return date_only(value)


def time_of_day(value: bytes) -> bytes:
    """A time of a day; TIME also holds durations of up to 839 hours, before zero too."""
    if _TIME(value) is None:
        raise ValueError("not a time of day; declare a String to have durations as texts")
    return b'"%b"' % _fraction(value)


def number_as_text(value: bytes) -> bytes:
    """Decimals are exact, so they are texts."""
    return b'"%b"' % value


def any_number_as_text(value: bytes) -> bytes:
    """The same of a text; ZEROFILL comes with zeros in front."""
    return b'"%b"' % str(_number(value)).encode()


def floating(value: bytes) -> bytes:
    """A float the way Python and Pydantic print it."""
    try:
        number = float(value)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(number) or b"_" in value:
        raise ValueError("not a number that a float can hold")
    return repr(number).encode()


def blob(value: bytes) -> bytes:
    """Bytes in base64."""
    return b'"%b"' % base64.b64encode(value)


def uuid_bytes(value: bytes) -> bytes:
    """BINARY(16) as a UUID."""
    if len(value) != 16:
        raise ValueError("not the 16 bytes of a UUID")
    return b'"%b"' % str(uuid.UUID(bytes=value)).encode()


def uuid_text(value: bytes) -> bytes:
    """A UUID, with or without dashes."""
    try:
        return b'"%b"' % str(uuid.UUID(value.decode())).encode()
    except ValueError:
        raise ValueError("not a UUID") from None


def bits(value: bytes) -> bytes:
    """BIT(n) as a number."""
    return b"%d" % int.from_bytes(value, "big")


_WHOLE_NUMBER = Form(whole_number, shapes.WHOLE, {Promise.WHOLE: None})
_BOOLEAN = Form(any_boolean, shapes.BOOLEAN, {Promise.WHOLE: boolean, Promise.BIT: bits_boolean})
_DECIMAL = Form(any_number_as_text, shapes.DECIMAL, {Promise.DECIMAL: number_as_text})
_INSTANTS = {Promise.INSTANT: date_time, Promise.STAMP: date_time}
_UUID = Form(uuid_bytes, shapes.UUID)
_BLOB = Form(blob, shapes.BASE64)
_TEXT = Form(any_text, shapes.TEXT, {Promise.TEXT: text})
_BY_TYPE: Sequence[tuple[type[TypeEngine[Any]], Form]] = (
    (sa.Boolean, _BOOLEAN),
    (sa.Integer, _WHOLE_NUMBER),
    (mysql.YEAR, _WHOLE_NUMBER),
    (mysql.BIT, Form(whole_number, shapes.WHOLE, {Promise.BIT: bits})),
    (sa.Float, Form(floating, shapes.FLOATING)),
    (sa.Numeric, _DECIMAL),
    (sa.DateTime, Form(any_date_time, shapes.INSTANT, _INSTANTS)),
    (sa.Date, Form(any_date, shapes.DATE, {Promise.DATE: date_only})),
    (sa.Time, Form(time_of_day, shapes.TIME)),
    (sa.Uuid, Form(uuid_text, shapes.UUID)),
    (sa.JSON, Form(json_value, shapes.ANYTHING, {Promise.JSON: trusted_json})),
)

# Those that the compiled core has, too, under their names (csrc/values.c).
_COMPILED: Mapping[Encoder | None, str] = {
    encode: encode.__name__
    for encode in (
        text, any_text, whole_number, boolean, bits_boolean, any_boolean, date_time, any_date_time,
        date_only, any_date, time_of_day, number_as_text, any_number_as_text, floating, blob,
        uuid_bytes, uuid_text, bits, json_value, trusted_json,
    )
}  # fmt: skip


def form_of(kind: TypeEngine[Any]) -> Form:
    """Choose by the declared type. Raises ConfigurationError for what has no form."""
    if isinstance(kind, sa.Interval):
        raise ConfigurationError(
            "Interval is a type without a form in JSON",
            "Declare the type that the column has, or cast it to a text.",
        )
    if isinstance(kind, sa.ARRAY):
        return _array(form_of(kind.item_type))
    if isinstance(kind, TypeDecorator):
        return form_of(kind.impl_instance)
    if isinstance(kind, mysql.TINYINT) and kind.display_width == 1:
        return _BOOLEAN
    for known, form in _BY_TYPE:
        if isinstance(kind, known):
            return form
    if isinstance(kind, sa.types._Binary):
        return _UUID if kind.length == 16 and isinstance(kind, sa.BINARY) else _BLOB
    return _TEXT


def _array(element: Form) -> Form:
    """Of an array that comes as JSON: texts as the server writes them, nulls, arrays within."""
    encode = element.checked

    def written(part: Any) -> bytes:
        if part is None:
            return b"null"
        if isinstance(part, str):
            return encode(part.encode())
        return b"[%b]" % b",".join(map(written, part))

    def encode_array(value: bytes) -> bytes:
        try:
            parts = json.loads(value)
        except ValueError:
            raise ValueError("not an array") from None
        if not isinstance(parts, list):
            raise ValueError("not an array")
        return written(parts)

    # How deep it goes no type says: items are of the element's shape, or arrays.
    return Form(encode_array, shapes.array(shapes.ANYTHING))


def name_of(declared: Field) -> str:
    """Return the field's name in the document, its label or the column's name; "" where it has
    none. SQLAlchemy's own numbering is none: it is another in each process."""
    expression = expression_of(declared)
    name = getattr(expression, "key", None) or getattr(expression, "name", "")
    return "" if isinstance(name, _anonymous_label) else str(name)


@dataclass(frozen=True, slots=True)
class RowWriter:
    """Writes columns `first`, `first + 1` … of a row: as `"name":value,…`, or as a plain value
    (`is_plain`). `path`: where the rows stand in the document."""

    names: tuple[str, ...]
    forms: tuple[Form, ...]
    first: int
    path: str = ""
    is_plain: bool = False
    _made: dict[Promises, RowEncoder] = field(default_factory=dict, compare=False)

    def encoder(self, promises: Promises) -> RowEncoder:
        """Return the function that writes a row of a result with these promises."""
        made = self._made.get(promises)
        if made is None:
            encoders = self._encoders(promises)
            make = _value_encoder if self.is_plain else _row_encoder
            made = self._made[promises] = make(self.names, encoders, self.first)
        return made

    def reason(self, row: Sequence[Raw], promises: Promises) -> str:
        """Name the column of a row that cannot be written, and say why; "" where all can."""
        for index, encode in enumerate(self._encoders(promises)):
            value = row[self.first + index]
            try:
                if value is not None and encode is not None:
                    encode(value)
            except ValueError as error:
                name = "" if self.is_plain else self.names[index]
                return f"{'.'.join(filter(None, (self.path, name)))}: {error}"
        return ""

    def spelled(self, promises: Promises) -> tuple[tuple[bytes, str, Encoder | None], ...]:
        """Return, for the compiled core, of each column: what stands before the value, the core's
        name for its encoder, "" where it has none, and the encoder."""
        labels = [text(name.encode()) + b":" for name in self.names]
        return tuple(
            (b"," + label if index else label, _COMPILED.get(encoder, ""), encoder)
            for index, (label, encoder) in enumerate(
                zip(labels, self._encoders(promises), strict=True)
            )
        )

    def _encoders(self, promises: Promises) -> list[Encoder | None]:
        end = self.first + len(self.forms)
        mine = promises[self.first : end] or (Promise.NOTHING,) * len(self.forms)
        return [form.encoder(p) for form, p in zip(self.forms, mine, strict=True)]


def _row_encoder(
    names: Sequence[str], encoders: Sequence[Encoder | None], first: int
) -> RowEncoder:
    scope: dict[str, Any] = {"null": b"null"}
    parts = []
    for index, (name, encoder) in enumerate(zip(names, encoders, strict=True)):
        value = f"r[{first + index}]"
        label = text(name.encode()) + b":"
        parts.append(repr(b"," + label if index else label))
        if encoder is None:  # never empty: it is a number
            parts.append(f"{value} or null")
        else:
            scope[f"e{index}"] = encoder
            parts.append(f"null if {value} is None else e{index}({value})")
    exec(f"def encode(r, join=b''.join):\n    return join(({', '.join(parts)},))\n", scope)
    encode: RowEncoder = scope["encode"]
    return encode


def _value_encoder(
    names: Sequence[str], encoders: Sequence[Encoder | None], first: int
) -> RowEncoder:
    [encoder] = encoders

    def encode(row: Sequence[Raw]) -> bytes:
        value = row[first]
        if value is None:
            return b"null"
        return encoder(value) if encoder else value

    return encode
