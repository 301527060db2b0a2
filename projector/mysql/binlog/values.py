"""Values of key columns, as a look-up in SQL wants them.

Layouts: MySQL's manual "Date and Time Data Type Representation", strings/decimal.cc; the log's
versions of them are big-endian where the record's are.
"""

from __future__ import annotations

import datetime
import re
import socket
import struct
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any, Final
from uuid import UUID

from projector.mysql.binlog.damage import DamagedEventError
from projector.mysql.binlog.tablemap import ColumnInfo, Type

_LARGEST_INFLATED: Final = 1 << 30  # max_allowed_packet
_DIGIT_BYTES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)

# Character sets for which Python has a codec that agrees with the server on every character
# (compared with CONVERT(… USING utf8mb4) on MySQL 9.7 and MariaDB 10.11), but for those of
# `_OTHER_CHARACTERS`. With the rest (eucjpms, ujis, sjis, euckr, big5, tis620, gb18030 and some of
# eight bits) a text cannot be a key.
_CODECS: Final = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "ascii": "ascii",
    "ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be",
    "latin1": "cp1252", "latin2": "iso8859-2", "latin5": "iso8859-9", "latin7": "iso8859-13",
    "greek": "iso8859-7", "hebrew": "iso8859-8", "koi8r": "koi8-r", "koi8u": "koi8-u",
    "cp850": "cp850", "cp852": "cp852", "cp932": "cp932", "cp1250": "cp1250", "cp1251": "cp1251",
    "cp1256": "cp1256", "cp1257": "cp1257", "macroman": "mac-roman", "macce": "mac-latin2",
    "hp8": "hp-roman8", "gbk": "gbk", "gb2312": "gb2312",
}  # fmt: skip
_OTHER_CHARACTERS: Final = {
    "greek": {ord("‘"): "ʽ", ord("’"): "ʼ"},
    "hebrew": {ord("¯"): "‾"},
    "koi8u": {ord("∙"): "•"},
}


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
    text = "".join(digits).zfill(1)
    # No arithmetic: Python's would round to 28 digits.
    sign = "" if is_positive else "-"
    return Decimal(f"{sign}{text[: len(text) - scale]}.{text[len(text) - scale :]}")


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
    set that is not known or has no codec."""
    if info is None:
        raise LookupError("a text of an unknown character set")
    if info.charset is None or info.charset == "binary":
        return bytes
    codec, others = _CODECS[info.charset], _OTHER_CHARACTERS.get(info.charset)

    def decode(data: bytes) -> str | bytes:
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            if codec == "cp1252":  # the server's has the five characters that Python's lacks
                return "".join(map(_latin1_character, data))
            return data  # equal to the column byte by byte
        return text.translate(others) if others else text

    return decode


def _latin1_character(byte: int) -> str:
    return bytes([byte]).decode("cp1252", "ignore") or chr(byte)


def inflated(data: bytes) -> bytes:
    """Decompress what MariaDB compressed: rows, or a value of a COMPRESSED column.

    A byte that holds the size of the length, and whether zlib's header is left out (columns only);
    the length; the data (sql/log_event.cc: binlog_buf_uncompress, sql/field_comp.cc). Never gives
    more than that length. Raises DamagedEventError or zlib.error.
    """
    start = 1 + (data[0] & 7)
    size = int.from_bytes(data[1:start], "big")
    if data[0] & 0xF0 != 0x80 or size > _LARGEST_INFLATED:
        raise DamagedEventError("data compressed in an unknown way")
    unpacker = zlib.decompressobj(wbits=-15 if data[0] & 8 else 15)
    inside = unpacker.decompress(data[start:], size + 1)
    if len(inside) != size or not unpacker.eof or unpacker.unused_data:
        raise DamagedEventError("compressed data of another length than it says")
    return inside


def _column_inflated(data: bytes) -> bytes:
    return inflated(data) if data and data[0] else data[1:]


_SIMPLE: dict[int, Callable[[bytes], Any]] = {
    Type.FLOAT: lambda data: struct.unpack("<f", data)[0],
    Type.DOUBLE: lambda data: struct.unpack("<d", data)[0],
    Type.DATE: date_value,
    Type.NEWDATE: date_value,
    Type.YEAR: lambda data: 1900 + data[0] if data[0] else 0,
    Type.BIT: lambda data: int.from_bytes(data, "big"),
}
_BY_METADATA: dict[int, Callable[[bytes, int], Any]] = {
    Type.NEWDECIMAL: decimal_value,
    Type.DATETIME2: datetime2_value,
    Type.TIMESTAMP2: timestamp2_value,
    Type.TIME2: time2_value,
}


def _member(number: int, members: Sequence[str]) -> str | int:
    """ENUM; 0 is the empty text that the server puts for a wrong value. In SQL the number without
    a known member equals the column as well."""
    if number > len(members):
        return number
    return members[number - 1] if number else ""


def _members(bits: int, members: Sequence[str]) -> str | int:
    """SET."""
    if bits >> len(members):
        return bits
    return ",".join(member for i, member in enumerate(members) if bits >> i & 1)


_NAMED: Final = {Type.ENUM: _member, Type.SET: _members}
_NO_KEYS: Final = {
    Type.TIMESTAMP, Type.TIME, Type.DATETIME, Type.JSON, Type.GEOMETRY, Type.VECTOR, Type.NULL,
}  # fmt: skip


def reader(code: int, metadata: int, info: ColumnInfo | None) -> Callable[[bytes], Any]:
    """Choose the decoder of a wanted column that is no whole number. Raises LookupError for types
    that cannot be a key, and where too little is known of the column."""
    name = info.type_name if info is not None else ""
    if code in _NO_KEYS:
        raise LookupError(f"a key of column type {code}")
    if code in _SIMPLE:
        return _SIMPLE[code]
    if code in _BY_METADATA:
        decode_with = _BY_METADATA[code]
        return lambda data: decode_with(data, metadata)
    if code in _NAMED:
        name_of, members = _NAMED[Type(code)], info.members if info is not None else ()
        return lambda data: name_of(int.from_bytes(data, "little"), members)
    if code == Type.STRING and name in _PADDED:
        # The log leaves trailing zeros out; the column has them.
        decode_padded = _PADDED[name]
        return lambda data: decode_padded(data.ljust(metadata, b"\0"))
    decode = text_decoder(info)
    if code in (Type.VARCHAR_COMPRESSED, Type.BLOB_COMPRESSED):
        return lambda data: decode(_column_inflated(data))
    return decode


def _inet6(data: bytes) -> str:
    text = socket.inet_ntop(socket.AF_INET6, data)
    # Unlike RFC 5952 the server shortens a single group of zeros, too.
    return text if "::" in text else re.sub(r"(^|:)0(:|$)", "::", text, count=1)


_PADDED: Final[dict[str, Callable[[bytes], Any]]] = {
    "binary": bytes,
    "uuid": lambda data: str(UUID(bytes=data)),
    "inet4": lambda data: str(IPv4Address(data)),
    "inet6": _inet6,
}
