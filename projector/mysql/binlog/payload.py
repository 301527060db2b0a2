"""The inside of a compressed transaction (MySQL's TRANSACTION_PAYLOAD event).

Never holds more than a slice of the decompressed events, however well they were compressed.
Layout: MySQL source, `libs/mysql/binlog/event/codecs/binary.cpp` (fields of type, length, value;
numbers are length-encoded integers), then one or more zstd frames, or the plain events.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, Final, NamedTuple, Protocol, cast

import zstandard

from projector.errors import UndecodableLogError
from projector.mysql.binlog.damage import DamagedEventError

HEAD_SIZE: Final = 64  # the fields before the payload are shorter
_SLICE_BYTES: Final = 1 << 20
_COMPRESSION, _SIZE = 2, 3  # 0 ends the head
_ZSTD, _NONE = 0, 255


class Readable(Protocol):
    """Bytes to come."""

    def read(self, size: int) -> bytes:
        """Return at most so many bytes, none at the end."""
        ...


class Fields(NamedTuple):
    """What the payload's head says. `length`: of the head itself."""

    length: int
    compression: int
    size: int


def fields(head: bytes) -> Fields:
    """Read the head of a payload event's body."""
    at, compression, size = 0, _NONE, 0
    try:
        while kind := head[at]:  # kinds and lengths are numbers of one byte
            length, at = head[at + 1], at + 2
            if kind == _COMPRESSION:
                compression = head[at]
            elif kind == _SIZE:
                size = _packed(head, at)
            at += length
        return Fields(at + 1, compression, size)
    except IndexError:
        raise DamagedEventError("a transaction payload has no end of its head") from None


def whole(head: Fields, source: bytes, decompressor: zstandard.ZstdDecompressor) -> bytes | None:
    """Return the events inside if they are few; the decompressor can be used again and again."""
    if head.compression != _ZSTD or head.size > _SLICE_BYTES:
        return None
    try:
        data = decompressor.decompress(source, max_output_size=head.size)
    except zstandard.ZstdError as error:
        raise DamagedEventError(f"a transaction cannot be decompressed: {error}") from None
    return data if len(data) == head.size else None  # several frames: `slices` joins them


def slices(head: Fields, source: bytes | Readable) -> Iterator[bytes]:
    """Yield the events inside, decompressed, a slice at a time."""
    if head.compression not in (_ZSTD, _NONE):
        raise UndecodableLogError(
            f"a transaction is compressed in an unknown way ({head.compression})",
            "Set binlog_transaction_compression=OFF and update this program.",
        )
    try:
        if isinstance(source, bytes):
            source = io.BytesIO(source)
        if head.compression == _ZSTD:
            source = zstandard.ZstdDecompressor().stream_reader(
                cast("IO[bytes]", source), read_across_frames=True
            )
        while data := source.read(_SLICE_BYTES):
            yield data
    except zstandard.ZstdError as error:
        raise DamagedEventError(f"a transaction cannot be decompressed: {error}") from None


def _packed(buf: bytes, at: int) -> int:
    first = buf[at]
    if first < 0xFB:
        return first
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    return int.from_bytes(buf[at + 1 : at + 1 + size], "little")
