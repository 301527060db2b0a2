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

from projector.binlog.damage import DamagedEventError
from projector.errors import UndecodableLogError

HEAD_SIZE: Final = 64  # the fields before the payload are shorter
_SLICE_BYTES: Final = 1 << 20
_HEADER_END, _COMPRESSION, _SIZE = 0, 2, 3
_ZSTD, _NONE = 0, 255


class Readable(Protocol):
    """Bytes to come."""

    def read(self, size: int) -> bytes:
        """Give at most so many bytes, none at the end."""
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
        while True:
            kind, at = _packed(head, at)
            if kind == _HEADER_END:
                return Fields(at, compression, size)
            length, at = _packed(head, at)
            value, _ = _packed(head, at)
            if kind == _COMPRESSION:
                compression = value
            elif kind == _SIZE:
                size = value
            at += length
    except IndexError:
        raise DamagedEventError("a transaction payload has no end of its head") from None


def slices(
    head: Fields, source: bytes | Readable, one_shot: zstandard.ZstdDecompressor
) -> Iterator[bytes]:
    """Give the events inside, decompressed, a slice at a time; `one_shot` is for short ones."""
    if head.compression not in (_ZSTD, _NONE):
        raise UndecodableLogError(
            f"a transaction is compressed in an unknown way ({head.compression})",
            "Set binlog_transaction_compression=OFF and update this program.",
        )
    try:
        if isinstance(source, bytes):
            if head.compression == _ZSTD and head.size <= _SLICE_BYTES:
                yield one_shot.decompress(source, max_output_size=head.size)
                return
            source = io.BytesIO(source)
        if head.compression == _ZSTD:
            source = zstandard.ZstdDecompressor().stream_reader(
                cast("IO[bytes]", source), read_across_frames=True
            )
        while data := source.read(_SLICE_BYTES):
            yield data
    except zstandard.ZstdError as error:
        raise DamagedEventError(f"a transaction cannot be decompressed: {error}") from None


def _packed(buf: bytes, at: int) -> tuple[int, int]:
    first = buf[at]
    if first < 0xFB:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    return int.from_bytes(buf[at + 1 : at + 1 + size], "little"), at + 1 + size
