"""Values of key columns, as a look-up in SQL wants them.

Layouts: MySQL's manual "Date and Time Data Type Representation", strings/decimal.cc; the log's
versions of them are big-endian where the record's are.
"""

from __future__ import annotations

import datetime
import struct
import zlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from projector.binlog.tablemap import ColumnInfo, Type

_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)

# Python's names of the server's character sets, where they differ or there is no such codec.
_CODECS = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "latin1": "cp1252",
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be", "binary": None,
    "latin2": "iso8859-2", "latin5": "iso8859-9", "latin7": "iso8859-13", "greek": "iso8859-7",
    "hebrew": "iso8859-8", "cp850": "cp850", "koi8r": "koi8-r", "koi8u": "koi8-u", "ujis": "euc-jp",
    "eucjpms": "euc-jp", "sjis": "shift-jis", "cp932": "cp932", "gbk": "gbk", "gb2312": "gb2312",
    "gb18030": "gb18030", "big5": "big5", "euckr": "euc-kr", "tis620": "tis-620", "ascii": "ascii",
}  # fmt: skip


def decimal_size(metadata: int) -> int:
    """Bytes of a DECIMAL."""
    precision, scale = metadata >> 8, metadata & 0xFF
    whole = precision - scale
    return whole // 9 * 4 + _DIGIT_BYTES[whole % 9] + scale // 9 * 4 + _DIGIT_BYTES[scale % 9]


def decimal_value(data: bytes, metadata: int) -> Decimal:
    """Decode a DECIMAL: groups of nine digits in four bytes, the sign's bit inverted."""
    precision, scale = metadata >> 8, metadata & 0xFF
    is_positive = bool(data[0] & 0x80)
    raw = bytearray(data)
    raw[0] ^= 0x80
    if not is_positive:
        raw = bytearray(byte ^ 0xFF for byte in raw)
    whole, at = precision - scale, 0
    digits = []
    sizes = [whole % 9, *[9] * (whole // 9), *[9] * (scale // 9), scale % 9]
    for count in sizes:
        size = _DIGIT_BYTES[count]
        if size:
            digits.append(str(int.from_bytes(raw[at : at + size], "big")).zfill(count))
        at += size
    text = "".join(digits) or "0"
    number = Decimal(text).scaleb(-scale)
    return number if is_positive else -number


def date_value(data: bytes) -> str:
    """DATE, as text: zero dates have no Python value."""
    number = int.from_bytes(data, "little")
    return f"{number >> 9:04d}-{number >> 5 & 15:02d}-{number & 31:02d}"


def datetime2_value(data: bytes, digits: int) -> str:
    """DATETIME with a fraction of so many digits, as text."""
    packed = int.from_bytes(data[:5], "big") - 0x8000000000
    months, days = packed >> 22, packed >> 17 & 31
    hours, minutes, seconds = packed >> 12 & 31, packed >> 6 & 63, packed & 63
    text = (
        f"{months // 13:04d}-{months % 13:02d}-{days:02d} {hours:02d}:{minutes:02d}:{seconds:02d}"
    )
    return text + _fraction(int.from_bytes(data[5:], "big"), digits)


def timestamp2_value(data: bytes, digits: int) -> str:
    """TIMESTAMP in UTC, as text."""
    seconds = int.from_bytes(data[:4], "big")
    if seconds == 0:
        return "0000-00-00 00:00:00"
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" + _fraction(int.from_bytes(data[4:], "big"), digits)


def time2_value(data: bytes, digits: int) -> str:
    """TIME, as text."""
    size = len(data)
    packed = int.from_bytes(data, "big") - (0x800000 << 8 * (size - 3))
    sign, packed = ("-", -packed) if packed < 0 else ("", packed)
    fraction = packed & ((1 << 8 * (size - 3)) - 1)
    whole = packed >> 8 * (size - 3)
    text = f"{sign}{whole >> 12 & 1023:02d}:{whole >> 6 & 63:02d}:{whole & 63:02d}"
    return text + _fraction(fraction, digits)


def _fraction(value: int, digits: int) -> str:
    if not digits:
        return ""
    stored = (digits + 1) // 2 * 2
    return "." + str(value).zfill(stored)[:digits]


def text_decoder(info: ColumnInfo | None) -> Callable[[bytes], Any]:
    """Choose how the bytes of a text or binary column are read. Raises LookupError for a character
    set without a codec."""
    charset = info.charset if info is not None else "utf8mb4"
    if charset is None:
        return bytes
    codec = _CODECS[charset]
    return bytes if codec is None else lambda data: data.decode(codec)


def uncompressed(data: bytes) -> bytes:
    """A value of a column that MariaDB compresses by itself (sql/field_comp.cc)."""
    if not data or not data[0]:
        return data[1:]
    return zlib.decompress(data[1 + (data[0] & 7) :], wbits=-15 if data[0] & 8 else 15)


_SIMPLE: dict[int, Callable[[bytes], Any]] = {
    Type.FLOAT: lambda data: struct.unpack("<f", data)[0],
    Type.DOUBLE: lambda data: struct.unpack("<d", data)[0],
    Type.DATE: date_value,
    Type.NEWDATE: date_value,
    Type.YEAR: lambda data: 1900 + data[0] if data[0] else 0,
    Type.BIT: lambda data: int.from_bytes(data, "big"),
    Type.SET: lambda data: int.from_bytes(data, "little"),
}
_BY_METADATA: dict[int, Callable[[bytes, int], Any]] = {
    Type.NEWDECIMAL: decimal_value,
    Type.DATETIME2: datetime2_value,
    Type.TIMESTAMP2: timestamp2_value,
    Type.TIME2: time2_value,
}
_NO_KEYS = {
    Type.TIMESTAMP, Type.TIME, Type.DATETIME, Type.JSON, Type.GEOMETRY, Type.VECTOR, Type.NULL,
}  # fmt: skip


def reader(code: int, metadata: int, info: ColumnInfo | None) -> Callable[[bytes], Any]:
    """Choose the decoder of a wanted column that is no whole number. Raises LookupError for types
    that cannot be a key, or of which the log does not show the value (MariaDB's UUID, INET)."""
    name = info.type_name if info is not None else ""
    if code in _NO_KEYS or name in {"uuid", "inet4", "inet6"}:
        raise LookupError(name)
    if code in _SIMPLE:
        return _SIMPLE[code]
    if code in _BY_METADATA:
        decode_with = _BY_METADATA[code]
        return lambda data: decode_with(data, metadata)
    if code == Type.ENUM:
        members = info.members if info is not None else ()
        return lambda data: _member(int.from_bytes(data, "little"), members)
    decode = text_decoder(info)
    if code in (Type.VARCHAR_COMPRESSED, Type.BLOB_COMPRESSED):
        return lambda data: decode(uncompressed(data))
    if code == Type.STRING and name == "binary":
        # The log leaves trailing zeros out; the column has them.
        return lambda data: data.ljust(metadata, b"\0")
    return decode


def _member(number: int, members: tuple[str, ...]) -> str | int:
    return members[number - 1] if 0 < number <= len(members) else number
