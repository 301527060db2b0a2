"""Answers to statements, in bytes: what a server would send."""

import itertools
import struct
from collections.abc import Iterator, Sequence

from pymysql.constants import FIELD_TYPE

from projector.projection.encoding import Promise

MORE, LARGEST = 8, 0xFFFFFF
# A type and a character set that make such a promise.
TYPES = {
    Promise.NOTHING: (FIELD_TYPE.BLOB, 63),
    Promise.WHOLE: (FIELD_TYPE.LONGLONG, 63),
    Promise.DECIMAL: (FIELD_TYPE.NEWDECIMAL, 63),
    Promise.BIT: (FIELD_TYPE.BIT, 63),
    Promise.INSTANT: (FIELD_TYPE.DATETIME, 63),
    Promise.STAMP: (FIELD_TYPE.TIMESTAMP, 63),
    Promise.DATE: (FIELD_TYPE.DATE, 63),
    Promise.JSON: (FIELD_TYPE.JSON, 63),
    Promise.TEXT: (FIELD_TYPE.VAR_STRING, 45),
}

Row = Sequence[bytes | None]
Result = tuple[Sequence[Promise], Sequence[Row]]


def length(number: int) -> bytes:
    """A length-encoded number."""
    if number < 251:
        return bytes([number])
    size = 2 if number < 1 << 16 else 3 if number < 1 << 24 else 8
    return bytes([{2: 252, 3: 253, 8: 254}[size]]) + number.to_bytes(size, "little")


def row(values: Row) -> bytes:
    """The body of a row."""
    return b"".join(b"\xfb" if v is None else length(len(v)) + v for v in values)


def definition(promise: Promise) -> bytes:
    """The body of a column's definition."""
    kind, charset = TYPES[promise]
    names = b"".join(length(len(name)) + name for name in (b"def", b"d", b"t", b"t", b"c0", b"c"))
    return names + struct.pack("<BHIBHBH", 12, charset, 1024, kind, 0, 0, 0)


def bodies(results: Sequence[Result | None], *, status: int = 2) -> Iterator[bytes]:
    """The packets' bodies: of each result, None for a statement without."""
    for number, result in enumerate(results):
        flags = status | (MORE if number < len(results) - 1 else 0)
        if result is None:
            yield b"\0" + length(300) + length(0) + struct.pack("<HH", flags, 0)
            continue
        promises, rows = result
        yield length(len(promises))
        yield from map(definition, promises)
        yield struct.pack("<BHH", 0xFE, 0, flags)
        yield from map(row, rows)
        yield struct.pack("<BHH", 0xFE, 0, flags)


def packets(said: Iterator[bytes] | Sequence[bytes]) -> bytes:
    """Number the bodies, and cut those that are too long for one packet."""
    sent, number = [], itertools.count(1)
    for body in said:
        for first in range(0, len(body) + 1, LARGEST):
            part = body[first : first + LARGEST]
            sent.append(len(part).to_bytes(3, "little") + bytes([next(number) & 0xFF]) + part)
    return b"".join(sent)
