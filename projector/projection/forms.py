"""How a declared field is written: by its type, or by what wraps it."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

from projector.errors import ConfigurationError
from projector.projection import clock, shapes
from projector.projection.encoding import (
    Encoder,
    Form,
    Promise,
    any_date_time,
    any_text,
    form_of,
    text,
)
from projector.projection.jsontext import json_value, trusted_json
from projector.projection.shapes import Shape, or_null
from projector.projection.values import (
    Choice,
    Encoded,
    Field,
    Fixed,
    Flags,
    Hashed,
    Json,
    Manner,
    Moment,
    Partial,
    Passed,
    Scalar,
    require_names,
    text_of,
)

_PLAIN = Manner()
_ZERO = b"0000-00-00"
_BITS_MAX = 64
_DATED = (sa.DateTime, sa.Date, sa.Time)
_NO_BITS = (mysql.SET, sa.Enum, sa.JSON, *_DATED)  # a text may hold a number
_NO_MEMBERS = (sa.Integer, sa.Numeric, sa.Boolean, mysql.BIT, mysql.YEAR, sa.JSON, *_DATED)
_DIGITS_MAX = 65  # of a DECIMAL


def form_for(declared: Field, manner: Manner = _PLAIN) -> Form:
    """Choose the form of a declared field."""
    match declared:
        case Fixed() | Hashed() | Partial():
            form = Form(_masked(declared), _masked_shape(declared))
        case Choice():
            form = _chosen(declared.names, declared.other)
        case Flags():
            form = _flags(declared)
        case Moment():
            form = _moment(declared, manner)
        case Passed():
            form = _passed(declared, manner)
        case Encoded():
            form = Form(_decoded(declared), shapes.TEXT)
        case Json():
            form = _json(declared)
        case _:
            form = typed(declared.type, manner)
    return form


def typed(kind: TypeEngine[Any], manner: Manner = _PLAIN) -> Form:
    """Choose the form of a declared type. Raises ConfigurationError for what no server has."""
    if isinstance(kind, TypeDecorator) and not isinstance(kind, sa.Interval):
        return typed(kind.impl_instance, manner)
    if manner == _PLAIN or not isinstance(kind, sa.DateTime | sa.Date):
        return form_of(kind)
    return _dated(kind, manner)


def form_by_key(said: Any, manner: Manner) -> Form:
    """Choose the form of a text that was kept under a key: by a type or by names of values."""
    if isinstance(said, Mapping):
        require_names(said)
        return _chosen(said, None)
    kind = said() if isinstance(said, type) and issubclass(said, TypeEngine) else said
    if isinstance(kind, TypeEngine):
        return _of_a_text(typed(kind, manner))
    raise ConfigurationError(
        f"{said!r} is neither a type nor a mapping",
        'Write types={"due": sa.Date, "level": {"1": "low", "2": "high"}}.',
    )


def _of_a_text(form: Form) -> Form:
    """Have what was left blank as null, unless the type has an empty value (a text has)."""
    encode = form.checked
    try:
        encode(b"")
    except ValueError:
        return Form(
            lambda v: encode(v) if v and not v.isspace() else b"null",
            or_null(form.shape),
            form.trusted,
        )
    return form


def _masked(declared: Fixed | Hashed | Partial) -> Encoder:
    """Encode the masked text of a column."""

    def encode(value: bytes) -> bytes:
        try:
            said = value.decode()
        except UnicodeDecodeError:
            raise ValueError("bytes that are no text in UTF-8") from None
        return text(declared.mask(said).encode())

    return encode


def _masked_shape(declared: Fixed | Hashed | Partial) -> Shape:
    match declared:
        case Fixed():
            return shapes.one_of([declared.text])
        case Hashed():
            return shapes.HMAC
        case Partial():
            return shapes.TEXT


def _undecorated(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind


def _scalar(value: Scalar) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{value!r} is no name of a value", "Write a text, a number, True, False or None."
        ) from None


def _chosen(names: Mapping[Any, Scalar], other: Scalar) -> Form:
    known = {text_of(key).encode(): _scalar(name) for key, name in names.items()}
    rest, has_numbers = _scalar(other), any(isinstance(key, int) for key in names)

    def encode(value: bytes) -> bytes:
        found = known.get(value)
        if found is None and has_numbers:
            found = known.get(_as_whole(value))
        return rest if found is None else found

    def of_bits(value: bytes) -> bytes:
        return known.get(b"%d" % int.from_bytes(value, "big"), rest)

    shape = shapes.one_of([*names.values(), other])
    return Form(encode, shape, {Promise.BIT: of_bits})


def _as_whole(value: bytes) -> bytes:
    """Spell a whole number as Python does: ZEROFILL and DECIMAL have zeros around it. A text may
    say 1e999999999, of which the digits are never written down."""
    try:
        number = Decimal(value.decode())
        if number.adjusted() >= _DIGITS_MAX or number != number.to_integral_value():
            return b""
        return b"%d" % int(number)
    except (InvalidOperation, ValueError, OverflowError):
        return b""


def _flags(declared: Flags) -> Form:
    names, kind = declared.names, _undecorated(declared.column.type)
    if isinstance(kind, _NO_BITS if names is not None else _NO_MEMBERS):
        raise ConfigurationError(
            f"Flags {'with' if names is not None else 'without'} names of a {kind}",
            'Write Flags(column, {1: "read", 2: "write"}) of a number, Flags(column) of a SET.',
        )
    if names is None:
        return Form(_members, shapes.array(shapes.TEXT))
    ordered = [(bit, _scalar(names[bit])) for bit in sorted(names)]

    def write(number: int) -> bytes:
        return b"[%b]" % b",".join(name for bit, name in ordered if number & bit)

    def encode(value: bytes) -> bytes:
        try:
            return write(int(value) & (1 << _BITS_MAX) - 1)
        except ValueError:
            raise ValueError("not a whole number") from None

    return Form(
        encode,
        shapes.array(shapes.one_of(names[bit] for bit, _ in ordered)),
        {Promise.BIT: lambda value: write(int.from_bytes(value, "big"))},
    )


def _members(value: bytes) -> bytes:
    """Take a SET apart; none of its members can have a comma."""
    return b"[%b]" % b",".join(map(any_text, value.split(b","))) if value else b"[]"


def _moment(declared: Moment, manner: Manner) -> Form:
    kind = _undecorated(declared.column.type)
    if not isinstance(kind, sa.DateTime | sa.Date):
        raise ConfigurationError(
            f"a Moment of a {kind}, which is neither a DATE nor a DATETIME",
            "Declare the column's type, or give the function one: func.max(column,"
            " type_=sa.DateTime).",
        )
    return _dated(kind, manner.but(declared))


def _passed(declared: Passed, manner: Manner) -> Form:
    kind = _undecorated(declared.column.type)
    if not isinstance(kind, sa.DateTime):
        raise ConfigurationError(
            f"a Passed of a {kind}, which has no time of day",
            "Name a DATETIME or TIMESTAMP; an expression says that it is one by its type:"
            " func.timestampadd(…, type_=sa.DateTime).",
        )
    own = manner.but(declared)
    moment = _dated(kind, own)

    def come(encode: Encoder) -> Encoder:
        def encoded(value: bytes) -> bytes:
            at = clock.microseconds(encode(value)[1:-2])
            return b"null" if at is None else b"true" if at <= clock.now_us() else b"false"

        return encoded

    trusted = {promise: come(encode) for promise, encode in moment.trusted.items() if encode}
    shape = or_null(shapes.BOOLEAN) if own.zero_dates == "null" else shapes.BOOLEAN
    return Form(come(moment.checked), shape, trusted, moment)


def _dated(kind: sa.DateTime | sa.Date, manner: Manner) -> Form:
    form = form_of(kind)
    if (
        isinstance(kind, sa.DateTime)
        and not isinstance(kind, sa.TIMESTAMP)
        and manner.zone != _PLAIN.zone
    ):
        local = _local(manner.zone)
        form = Form(local, form.shape, {**form.trusted, Promise.INSTANT: local})
    if manner.zero_dates == "refuse":
        return form
    trusted = {promise: _or_null(encode) for promise, encode in form.trusted.items() if encode}
    return Form(_or_null(form.checked), or_null(form.shape), trusted)


def _or_null(encode: Encoder) -> Encoder:
    return lambda value: b"null" if value[:10] == _ZERO else encode(value)


def _local(zone: str) -> Encoder:
    """From a clock's time to RFC 3339 in UTC. Python's zones know every hour that a clock showed
    twice (the first is meant) or left out (counted from before)."""
    convert = _converter(zone)

    def encode(value: bytes) -> bytes:
        written = any_date_time(value)  # RFC 3339, as if it were UTC
        return b'"%b%b' % (convert(written[1:20]), written[20:])

    return encode


@functools.cache
def _converter(zone: str) -> Callable[[bytes], bytes]:
    clock = ZoneInfo(zone)

    @functools.lru_cache(maxsize=1 << 16)
    def convert(second: bytes) -> bytes:
        local = datetime.datetime.fromisoformat(second.decode()).replace(tzinfo=clock)
        try:
            return local.astimezone(datetime.UTC).isoformat()[:19].encode()
        except OverflowError:
            raise ValueError("a time beyond the calendar in UTC") from None

    return convert


def _decoded(declared: Encoded) -> Encoder:
    encoding, errors = declared.encoding, declared.errors.replace("refuse", "strict")

    def encode(value: bytes) -> bytes:
        try:
            return text(value.decode(encoding, errors).encode())
        except UnicodeError:
            raise ValueError(f"bytes that are no text in {encoding}") from None

    return encode


def _json(declared: Json) -> Form:
    otherwise = declared.otherwise

    def encode(value: bytes) -> bytes:
        if not value or value.isspace():
            return b"null"
        try:
            return json_value(value)
        except ValueError:
            if otherwise == "refuse":
                raise
            return b"null" if otherwise == "null" else any_text(value)

    return Form(encode, shapes.ANYTHING, {Promise.JSON: trusted_json})
