"""Table maps: what the log says of a table before rows of it.

Layout: MySQL's libs/mysql/binlog/event/rows_event.h (Table_map_event), the same on MariaDB. Raises
DamagedEventError for what does not parse; never reads beyond the event.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from projector.mysql.binlog.damage import DamagedEventError


class Type(IntEnum):
    """Column types in the log (include/field_types.h; 140 and 141 are MariaDB's)."""

    DECIMAL = 0
    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    NULL = 6
    TIMESTAMP = 7
    LONGLONG = 8
    INT24 = 9
    DATE = 10
    TIME = 11
    DATETIME = 12
    YEAR = 13
    NEWDATE = 14
    VARCHAR = 15
    BIT = 16
    TIMESTAMP2 = 17
    DATETIME2 = 18
    TIME2 = 19
    BLOB_COMPRESSED = 140
    VARCHAR_COMPRESSED = 141
    VECTOR = 242
    JSON = 245
    NEWDECIMAL = 246
    ENUM = 247
    SET = 248
    TINY_BLOB = 249
    MEDIUM_BLOB = 250
    LONG_BLOB = 251
    BLOB = 252
    VAR_STRING = 253
    STRING = 254
    GEOMETRY = 255


_TWO_BYTES = {Type.VARCHAR, Type.VARCHAR_COMPRESSED, Type.BIT, Type.VAR_STRING}
_TWO_BYTES_TYPED = {Type.STRING, Type.ENUM, Type.SET, Type.NEWDECIMAL}
_ONE_BYTE = {
    Type.FLOAT, Type.DOUBLE, Type.BLOB, Type.TINY_BLOB, Type.MEDIUM_BLOB, Type.LONG_BLOB,
    Type.BLOB_COMPRESSED, Type.GEOMETRY, Type.JSON, Type.VECTOR, Type.TIME2, Type.DATETIME2,
    Type.TIMESTAMP2,
}  # fmt: skip
_ANY = range(1 << 16)
_METADATA: dict[int, range] = {
    **dict.fromkeys((Type.TIME2, Type.DATETIME2, Type.TIMESTAMP2), range(7)),
    **dict.fromkeys((Type.ENUM, Type.SET), range(1, 9)),
    **dict.fromkeys(
        (Type.BLOB, Type.TINY_BLOB, Type.MEDIUM_BLOB, Type.LONG_BLOB, Type.BLOB_COMPRESSED,
         Type.GEOMETRY, Type.JSON, Type.VECTOR),
        range(1, 5),
    ),
}  # fmt: skip
_NUMERIC = {
    Type.TINY, Type.SHORT, Type.INT24, Type.LONG, Type.LONGLONG, Type.NEWDECIMAL, Type.FLOAT,
    Type.DOUBLE, Type.YEAR,
}  # fmt: skip

# Optional metadata (rows_event.h, Optional_metadata_field_type): the kinds used here.
_SIGNEDNESS, _COLUMN_NAME = 1, 4


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """What the catalog knows of a column.

    `type_name` is DATA_TYPE in lower case, `fraction` DATETIME_PRECISION. `ends_row`: a row of a
    system-versioned table (MariaDB) is deleted by an update of this column.
    """

    name: str
    type_name: str
    unsigned: bool
    charset: str | None
    members: tuple[str, ...]
    fraction: int = 0
    ends_row: bool = False


@dataclass(frozen=True, slots=True)
class TableMap:
    """A table as the log describes it.

    `types` are real types (an ENUM is logged as a STRING with its type in the metadata).
    `metadata` is a whole number a column: for STRING, ENUM and SET the length in bytes, for
    NEWDECIMAL `precision << 8 | scale`, for BIT `bytes << 8 | bits`, else as logged.
    `unsigned` and `column_names` are None where the log does not say.
    """

    schema: str
    name: str
    types: tuple[int, ...]
    metadata: tuple[int, ...]
    nullable: tuple[bool, ...]
    unsigned: tuple[bool, ...] | None
    column_names: tuple[str, ...] | None

    @classmethod
    def parse(cls, body: bytes) -> TableMap:
        """Parse the event's body, from the table id on, without checksum."""
        try:
            return _parse(body)
        except (IndexError, ValueError) as error:
            raise DamagedEventError(f"a table map that does not parse: {error}") from error


def _parse(body: bytes) -> TableMap:
    schema, at = _name(body, 8)
    name, at = _name(body, at)
    count, at = length_encoded(body, at)
    codes = body[at : at + count]
    at += count
    size, at = length_encoded(body, at)
    end = at + size
    types, metadata = [], []
    for code in codes:
        kind, value, at = _metadata(body, at, code)
        if value not in _METADATA.get(kind, _ANY):
            raise DamagedEventError(f"a column of type {kind} with the metadata {value}")
        types.append(kind)
        metadata.append(value)
    nulls = body[end : end + (count + 7) // 8]
    if at != end or len(types) != count or len(nulls) != (count + 7) // 8:
        raise DamagedEventError("a table map whose lengths disagree")
    said = dict(_optional(body, end + len(nulls)))
    return TableMap(
        schema, name, tuple(types), tuple(metadata),
        tuple(bool(nulls[i // 8] >> (i % 8) & 1) for i in range(count)),
        _unsigned(said.get(_SIGNEDNESS), types),
        _names(said.get(_COLUMN_NAME), count),
    )  # fmt: skip


def length_encoded(buf: bytes, at: int) -> tuple[int, int]:
    """Read a length-encoded integer; give it with the place after it."""
    first = buf[at]
    if first < 0xFB:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    if size is None or at + 1 + size > len(buf):
        raise DamagedEventError("a length that does not parse")
    return int.from_bytes(buf[at + 1 : at + 1 + size], "little"), at + 1 + size


def _name(body: bytes, at: int) -> tuple[str, int]:
    size = body[at]
    end = at + 1 + size
    if body[end] != 0:
        raise DamagedEventError("a name that does not end")
    return body[at + 1 : end].decode(), end + 1


def _metadata(body: bytes, at: int, code: int) -> tuple[int, int, int]:
    if code in _ONE_BYTE:
        return code, body[at], at + 1
    if code in _TWO_BYTES:
        return code, body[at] | body[at + 1] << 8, at + 2
    if code not in _TWO_BYTES_TYPED:
        return code, 0, at
    first, second = body[at], body[at + 1]
    if code == Type.NEWDECIMAL:
        if second > first:
            raise DamagedEventError("a decimal with more digits behind the point than in all")
        return code, first << 8 | second, at + 2
    # A CHAR over 255 bytes has the high bits of its size in the type, inverted
    # (Field_string::do_save_field_metadata).
    if first and (first & 0x30) != 0x30:
        return first | 0x30, second | ((first & 0x30) ^ 0x30) << 4, at + 2
    return first or code, second, at + 2


def _optional(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at < len(body):
        kind = body[at]
        size, at = length_encoded(body, at + 1)
        if at + size > len(body):
            raise DamagedEventError("optional metadata longer than its event")
        yield kind, body[at : at + size]
        at += size


def _unsigned(bits: bytes | None, types: Sequence[int]) -> tuple[bool, ...] | None:
    if bits is None:
        return None
    found, number = [], 0
    for kind in types:
        if kind in _NUMERIC:
            byte = bits[number // 8] if number // 8 < len(bits) else 0
            found.append(bool(byte >> (7 - number % 8) & 1))
            number += 1
        else:
            found.append(False)
    return tuple(found)


def _names(said: bytes | None, count: int) -> tuple[str, ...] | None:
    if said is None:
        return None
    names, at = [], 0
    while at < len(said):
        size, at = length_encoded(said, at)
        names.append(said[at : at + size].decode())
        at += size
    return tuple(names) if len(names) == count else None


_CODES: dict[str, set[int]] = {
    "tinyint": {Type.TINY}, "smallint": {Type.SHORT}, "mediumint": {Type.INT24},
    "int": {Type.LONG}, "bigint": {Type.LONGLONG}, "decimal": {Type.NEWDECIMAL},
    "float": {Type.FLOAT}, "double": {Type.DOUBLE}, "bit": {Type.BIT}, "year": {Type.YEAR},
    "date": {Type.DATE, Type.NEWDATE}, "datetime": {Type.DATETIME, Type.DATETIME2},
    "timestamp": {Type.TIMESTAMP, Type.TIMESTAMP2}, "time": {Type.TIME, Type.TIME2},
    "char": {Type.STRING}, "binary": {Type.STRING}, "enum": {Type.ENUM}, "set": {Type.SET},
    "varchar": {Type.VARCHAR, Type.VAR_STRING, Type.VARCHAR_COMPRESSED},
    "varbinary": {Type.VARCHAR, Type.VAR_STRING, Type.VARCHAR_COMPRESSED},
    "json": {Type.JSON, Type.BLOB},
}  # fmt: skip
_BLOBS = {Type.BLOB, Type.TINY_BLOB, Type.MEDIUM_BLOB, Type.LONG_BLOB, Type.BLOB_COMPRESSED}
_REST = _BLOBS | {Type.STRING, Type.VARCHAR, Type.GEOMETRY, Type.VECTOR}


def agrees(info: ColumnInfo, code: int, metadata: int) -> bool:
    """Return whether a column of the catalog may be this column of the log."""
    if info.type_name.endswith(("text", "blob")):
        return code in _BLOBS
    return code in _CODES.get(info.type_name, _REST)
