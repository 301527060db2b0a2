"""Rows that are easy to decode wrong: rare values, images without columns, little knowledge."""

import struct
import zlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from projector.model import MISSING
from projector.mysql.binlog.damage import DamagedEventError
from projector.mysql.binlog.rows import RowsDecoder
from projector.mysql.binlog.tablemap import ColumnInfo, TableMap, Type, agrees

WRITE, UPDATE, DELETE = 30, 31, 32


def column(type_name: str, **more: Any) -> ColumnInfo:
    known = {"unsigned": False, "charset": None, "members": (), **more}
    return ColumnInfo("c", type_name, **known)


def table(*types: tuple[int, int], nullable: bool = False, **more: Any) -> TableMap:
    """A table of columns with type and metadata."""
    codes, metadata = zip(*types, strict=True)
    known = {"unsigned": None, "column_names": None, **more}
    return TableMap("s", "t", codes, metadata, (nullable,) * len(types), **known)


def event(width: int, *bitmaps: int, rows: bytes) -> bytes:
    """The body of a rows event, version 2."""
    size = (width + 7) // 8
    held = b"".join(bitmap.to_bytes(size, "little") for bitmap in bitmaps)
    return bytes(8) + b"\x02\x00" + bytes([width]) + held + rows


def value(code: int, metadata: int, info: ColumnInfo | None, data: bytes) -> Any:
    """What one column is read as."""
    decoder = RowsDecoder(table((code, metadata)), [0], [info])
    body = event(1, 1, rows=b"\x00" + data)
    _, [row], count = decoder.decode(WRITE, body, 0, len(body))
    assert count == 1
    return row[0]


DIGITS = "98765432109876543210987654321098765"


@pytest.mark.parametrize(
    ("code", "metadata", "info", "data", "expected"),
    [
        (Type.TINY, 0, column("tinyint"), b"\xff", -1),
        (Type.TINY, 0, column("tinyint", unsigned=True), b"\xff", 255),
        (Type.INT24, 0, column("mediumint"), b"\x00\x00\x80", -(2**23)),
        (Type.INT24, 0, column("mediumint", unsigned=True), b"\x00\x00\x80", 2**23),
        (Type.LONGLONG, 0, column("bigint", unsigned=True), b"\xff" * 8, 2**64 - 1),
        (Type.YEAR, 0, column("year"), b"\x00", 0),
        (Type.YEAR, 0, column("year"), b"\xff", 2155),
        (Type.VARCHAR, 20, column("varchar", charset="latin1"), b"\x02\x81\x80", "\x81€"),
        (Type.VARCHAR, 20, column("varchar", charset="koi8u"), b"\x01\x95", "•"),
        (Type.VARCHAR, 20, column("varchar", charset="utf8mb4"), b"\x01\xff", b"\xff"),
        (Type.VARCHAR, 300, column("varbinary"), b"\x02\x00a\x00", b"a\x00"),
        (Type.VARCHAR, 255, column("varbinary"), b"\x01a", b"a"),
        (Type.VARCHAR, 256, column("varbinary"), b"\x01\x00a", b"a"),
        (Type.STRING, 4, column("binary"), b"\x01a", b"a\0\0\0"),
        (Type.STRING, 16, column("uuid"), b"\x01\xe9", "e9000000-0000-0000-0000-000000000000"),
        (Type.STRING, 4, column("inet4"), b"\x01\x0a", "10.0.0.0"),
        (Type.STRING, 16, column("inet6"), bytes.fromhex("10" + "0001" + "0000" + "0002" * 6),
         "1::2:2:2:2:2:2"),
        (Type.ENUM, 1, column("enum", members=("a", "b")), b"\x02", "b"),
        (Type.ENUM, 1, column("enum", members=("a", "b")), b"\x00", ""),
        (Type.ENUM, 1, column("enum", members=("a", "b")), b"\x03", 3),
        (Type.SET, 1, column("set", members=("a", "b", "c")), b"\x05", "a,c"),
        (Type.BIT, 0x0101, column("bit"), b"\x01\x02", 258),
        (Type.TIME2, 2, column("time"), struct.pack(">I", 0x80000000 - 1)[:4], "-00:00:00.01"),
        (Type.TIME2, 0, column("time"), b"\x7f\xff\xff", "-00:00:01"),
        (Type.TIMESTAMP2, 1, column("timestamp"), b"\xff\xff\xff\xff\x32", "2106-02-07 06:28:15.5"),
        (Type.DATETIME2, 0, column("datetime"), b"\x80\0\0\0\0", "0000-00-00 00:00:00"),
        (Type.BLOB_COMPRESSED, 2, column("text", charset="ascii"), b"\x04\0\0abc", "abc"),
        (Type.BLOB_COMPRESSED, 2, column("text", charset="ascii"), b"\0\0", ""),
    ],
)  # fmt: skip
def test_values_are_what_the_column_holds(
    code: int, metadata: int, info: ColumnInfo, data: bytes, expected: object
) -> None:
    """Each value is the one that finds the row again in SQL."""
    found = value(code, metadata, info, data)
    assert (found, type(found)) == (expected, type(expected))


def test_a_decimal_keeps_all_of_its_digits() -> None:
    """65 digits are more than Python's decimals calculate with."""
    groups = [int(DIGITS[i : i + 9]) for i in range(0, 27, 9)]
    plain = b"".join(struct.pack(">I", group) for group in groups)
    positive = bytes([plain[0] ^ 0x80]) + plain[1:]
    negative = bytes(byte ^ 0xFF for byte in positive)
    info = column("decimal")
    for scale in (0, 9, 27):
        text = f"{DIGITS[: 27 - scale]}.{DIGITS[27 - scale : 27]}"
        assert value(Type.NEWDECIMAL, 27 << 8 | scale, info, positive) == Decimal(text)
        assert value(Type.NEWDECIMAL, 27 << 8 | scale, info, negative) == -Decimal(text)
    found = value(Type.NEWDECIMAL, 36 << 8, info, positive + struct.pack(">I", 123456789))
    assert str(found) == f"{DIGITS[:27]}123456789"


@pytest.mark.parametrize(
    ("code", "info"),
    [
        (Type.VARCHAR, None),
        (Type.VARCHAR, column("varchar", charset="euckr")),
        (Type.LONG, None),
        (Type.JSON, column("json")),
        (Type.GEOMETRY, column("point")),
        (20, column("what will be")),
    ],
)
def test_a_key_that_nobody_can_read_is_refused(code: int, info: ColumnInfo | None) -> None:
    """Better no decoder than keys by guess."""
    with pytest.raises(LookupError):
        RowsDecoder(table((code, 4)), [0], [info])


def test_the_log_tells_the_sign_that_the_catalog_does_not() -> None:
    """Without the catalog a number is read by the log's own word on signs."""
    mapped = table((Type.TINY, 0), unsigned=(True,))
    body = event(1, 1, rows=b"\0\xff")
    assert RowsDecoder(mapped, [0], [None]).decode(WRITE, body, 0, len(body))[1] == [(255,)]


NUMBERS = [column("int")] * 3


def numbers(columns: Sequence[int], compared: Sequence[int] | None = None) -> RowsDecoder:
    """A decoder of a table of three numbers of one byte, of which the columns are wanted."""
    mapped = table(*[(Type.TINY, 0)] * 3, nullable=True)
    return RowsDecoder(mapped, columns, NUMBERS, compared)


def test_columns_come_in_the_wanted_order_and_nulls_are_none() -> None:
    """Any order, and a column twice."""
    body = event(3, 7, rows=b"\x02\x01\x03" + b"\x00\x04\x05\x06")
    assert numbers([2, 0, 1, 2]).decode(DELETE, body, 0, len(body)) == (
        [(3, 1, None, 3), (6, 4, 5, 6)], [], 2,
    )  # fmt: skip


def test_a_column_that_the_image_lacks_is_missing() -> None:
    """Under MINIMAL the image before has the key, the image after what has changed."""
    body = event(3, 0b001, 0b110, rows=b"\x00\x01" + b"\x00\x02\x03")
    assert numbers([0, 2]).decode(UPDATE, body, 0, len(body)) == (
        [(1, MISSING)], [(MISSING, 3)], 1,
    )  # fmt: skip


def test_bits_of_no_column_do_not_count() -> None:
    """MySQL sets the unused bits of a bitmap, too (REPLACE under NOBLOB)."""
    body = event(3, 0b11111001, rows=b"\x00\x01")
    assert numbers([0, 1]).decode(WRITE, body, 0, len(body)) == ([], [(1, MISSING)], 1)


def test_a_row_of_defaults_is_a_row() -> None:
    """Under MINIMAL an INSERT of no value is logged without a byte, and still is one row."""
    body = event(3, 0, rows=b"")
    assert numbers([0]).decode(WRITE, body, 0, len(body)) == ([], [(MISSING,)], 1)


@pytest.mark.parametrize("bitmaps", [(7,), (7, 7)])
def test_rows_events_have_rows(bitmaps: tuple[int, ...]) -> None:
    """An event that ends before its first row is cut, not empty."""
    body = event(3, *bitmaps, rows=b"")
    with pytest.raises(DamagedEventError):
        numbers([0]).decode(UPDATE if len(bitmaps) > 1 else WRITE, body, 0, len(body))


def test_an_update_of_nothing_read_is_only_counted() -> None:
    """Rows whose compared columns are the same byte by byte are left out; NULL is not zero."""
    body = event(
        3, 7, 7,
        rows=b"\x00\x01\x00\x05" b"\x00\x01\x00\x06" b"\x00\x02\x00\x05" b"\x02\x02\x05",
    )  # fmt: skip
    decoded = numbers([0], compared=[0, 1]).decode(UPDATE, body, 0, len(body))
    assert decoded == ([(2,)], [(2,)], 2)
    whole = numbers([0], compared=[0, 1, 2]).decode(UPDATE, body, 0, len(body))
    assert whole == ([(1,), (2,)], [(1,), (2,)], 2)


def test_a_null_that_moves_is_a_change() -> None:
    """The same bytes in another column are another row."""
    body = event(3, 7, 7, rows=b"\x01\x05\x06" + b"\x02\x05\x06")
    decoded = numbers([2], compared=[0, 1]).decode(UPDATE, body, 0, len(body))
    assert decoded == ([(6,)], [(6,)], 1)


def test_images_with_other_columns_are_not_compared() -> None:
    """Under MINIMAL the bytes of the key before say nothing of another column's after."""
    body = event(3, 0b001, 0b010, rows=b"\x00\x05" + b"\x00\x05")
    decoded = numbers([0, 1], compared=[0, 1]).decode(UPDATE, body, 0, len(body))
    assert decoded == ([(5, MISSING)], [(MISSING, 5)], 1)


def test_rows_of_another_table_are_refused() -> None:
    """Rows of another width than their table map are never read by it."""
    body = event(2, 0b11, rows=b"\x00\x01\x02")
    with pytest.raises(DamagedEventError):
        numbers([0]).decode(WRITE, body, 0, len(body))


@pytest.mark.parametrize("said", [2, 4])
def test_a_compressed_value_has_the_length_that_it_says(said: int) -> None:
    """What decompresses to more or less is damage."""
    packed = bytes([0x81, said]) + zlib.compress(b"abc")
    data = len(packed).to_bytes(2, "little") + packed
    with pytest.raises(DamagedEventError):
        value(Type.BLOB_COMPRESSED, 2, column("text", charset="ascii"), data)
    right = bytes([0x81, 3]) + packed[2:]
    data = len(right).to_bytes(2, "little") + right
    assert value(Type.BLOB_COMPRESSED, 2, column("text", charset="ascii"), data) == "abc"


def table_map(types: bytes, metadata: bytes, size: int, rest: bytes = b"") -> bytes:
    """The body of a table map whose metadata claims to have a size."""
    nulls = bytes((len(types) + 7) // 8)
    return (
        bytes(8)
        + b"\x01s\0\x01t\0"
        + bytes([len(types)])
        + types
        + bytes([size])
        + (metadata + nulls + rest)
    )


@pytest.mark.parametrize(
    ("types", "metadata", "size"),
    [
        (b"\x0f\x03", b"\x0a\x00", 1),
        (b"\x0f\x03", b"\x0a\x00", 3),
        (b"\xfc", b"\x05", 1),
        (b"\xfc", b"\x00", 1),
        (b"\x12", b"\x07", 1),
        (b"\xfe", b"\xf7\x09", 2),
        (b"\xf6", b"\x05\x06", 2),
    ],
)
def test_metadata_that_cannot_be_is_refused(types: bytes, metadata: bytes, size: int) -> None:
    """Lengths of lengths, fractions, scales, and the size of the metadata itself are checked."""
    with pytest.raises(DamagedEventError):
        TableMap.parse(table_map(types, metadata, size))
    with pytest.raises(DamagedEventError):
        TableMap.parse(table_map(types, metadata, size, b"\x00"))


def test_the_log_gives_names_and_signs() -> None:
    """A sign for each number, the highest bit first; texts in between have none."""
    names = b"\x04\x06\x01a\x01b\x01c"
    body = table_map(b"\x01\x0f\x08", b"\x0a\x00", 2, b"\x01\x01\x40" + names)
    found = TableMap.parse(body)
    assert found.unsigned == (False, False, True)
    assert found.column_names == ("a", "b", "c")


def test_old_temporal_columns_are_stepped_over() -> None:
    """MariaDB's of before 10.1 have a size that only the catalog tells (recorded from 10.11)."""
    types = [Type.LONG, Type.TIMESTAMP, Type.DATETIME, Type.TIME, Type.DATETIME, Type.TIME,
             Type.TIMESTAMP, Type.LONG]  # fmt: skip
    digits = [0, 3, 6, 2, 0, 0, 0, 0]
    infos = [column("x", fraction=count) for count in digits]
    mapped = table(*[(code, 0) for code in types])
    row = (
        "00" "01000000" "5e0d5da502a6" "0101f350a16a6f35" "11bba5b2" "45ece7335f120000"
        "c01dfe" "a55d0d5e" "07000000"
    )  # fmt: skip
    body = event(8, 0xFF, rows=bytes.fromhex(row * 2))
    decoder = RowsDecoder(mapped, [0, 7], infos)
    assert decoder.decode(WRITE, body, 0, len(body)) == ([], [(1, 7), (1, 7)], 2)


def test_a_column_agrees_only_with_its_own_kind() -> None:
    """A number, a text and a date of the catalog are never taken for each other in the log."""
    codes = {"int": Type.LONG, "bigint": Type.LONGLONG, "varchar": Type.VARCHAR, "date": Type.DATE,
             "text": Type.BLOB, "decimal": Type.NEWDECIMAL, "enum": Type.ENUM}  # fmt: skip
    for name in codes:
        agreeing = [other for other, code in codes.items() if agrees(column(name), code, 0)]
        assert agreeing == [name]
