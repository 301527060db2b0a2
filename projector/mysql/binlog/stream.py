"""From the bytes of the log to events: packets, large events, compressed transactions.

Never makes an object of an event that nobody wants, and never holds more of a large one than it
must. Packets: MySQL source documentation, "Protocol Basics"; each event's packet begins with a 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from struct import Struct
from typing import Final

import zstandard

from projector.mysql.binlog import payload
from projector.mysql.binlog.connection import Wire, refusal
from projector.mysql.binlog.damage import DamagedEventError
from projector.mysql.binlog.events import HEADER_SIZE, Event, header
from projector.mysql.binlog.transactions import Assembler

LARGE_BYTES: Final = 1 << 20  # an event that is larger is received by itself
_PACKET_HEADER: Final = 4
_FULL_PACKET: Final = 0xFFFFFF
_CUT_PAYLOAD: Final = "a compressed transaction ends inside an event"
_PAYLOAD: Final = int(Event.TRANSACTION_PAYLOAD)
_GTIDS: Final = frozenset({int(Event.GTID), int(Event.MARIADB_GTID)})
# Packet length (and sequence number), status, [time], type, [server id], event size.
_packet = Struct("<IB4xB4xI").unpack_from
_event = Struct("<4xB4xI").unpack_from


class Stream:
    """Reads one connection's log to its end, which is always an exception."""

    def __init__(self, wire: Wire, assembler: Assembler) -> None:
        self._wire, self._assembler = wire, assembler
        self._decompressor = zstandard.ZstdDecompressor()

    def run(self, begun: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        """Read and assemble; `begun` is called once, `is_wanted` says if somebody waits.

        Ends with TransientError, PositionLostError, OperatorError or DamagedEventError.
        """
        buf, at, wire, assembler = b"", 0, self._wire, self._assembler
        while True:
            is_idle = wire.is_idle()
            if is_idle or is_wanted():
                assembler.flush(is_head=is_idle)
            if assembler.has_begun:
                begun()
            data = wire.receive()
            buf = buf[at:] + data if at < len(buf) else data
            at = self._take_packets(buf)
            while _whole_size(buf, at) > LARGE_BYTES:
                buf = self._take_large(buf, at)
                at = self._take_packets(buf)

    def _take_packets(self, buf: bytes) -> int:
        """Take the whole packets; where the first that is not whole begins."""
        at, size, assembler, handlers = 0, len(buf), self._assembler, self._assembler.handlers
        take_plain = assembler.take_plain
        while size - at >= _PACKET_HEADER + 1 + HEADER_SIZE:
            length, status, kind, event_size = _packet(buf, at)
            start = at + _PACKET_HEADER + 1
            stop = start + event_size
            if stop > size or status or length & _FULL_PACKET != event_size + 1:
                break
            if kind in _GTIDS and (taken := take_plain(buf, at)):
                at = taken
                continue
            handler = handlers[kind]
            if handler is not None:
                handler(buf, start, stop - assembler.checksum_size)
            elif kind == _PAYLOAD:
                self._take_payload(buf, start, stop - assembler.checksum_size)
            at = stop
        self._check_rest(buf, at)
        return at

    def _check_rest(self, buf: bytes, at: int) -> None:
        """Tell the beginning of a packet from one that is no event, or not what it says."""
        length = int.from_bytes(buf[at : at + 3], "little")
        start, stop, size = at + _PACKET_HEADER, at + _PACKET_HEADER + length, len(buf)
        if start < size and buf[start]:
            if stop <= size:
                raise refusal(buf[start:stop])
        elif size - start > HEADER_SIZE and _FULL_PACKET > length != _packet(buf, at)[3] + 1:
            raise DamagedEventError("an event's size is not its packet's")

    def _take_payload(self, buf: bytes, at: int, end: int) -> None:
        """Take the events inside a compressed transaction that has come as a whole."""
        checksum_size = self._assembler.checksum_size
        assembler = self._assembler
        assembler.verify(buf, at, end)
        body = at + HEADER_SIZE
        head = payload.fields(buf[body : body + payload.HEAD_SIZE])
        source = buf[body + head.length : end]
        inside = payload.whole(head, source, self._decompressor)
        if inside is None:
            self._take_inner(buf[at:body], head, source, checksum_size)
            return
        assembler.begin_payload(buf, at)
        if self._take_events(inside):
            raise DamagedEventError(_CUT_PAYLOAD)
        assembler.end_payload(checksum_size)

    def _take_inner(
        self, event: bytes, head: payload.Fields, source: bytes | payload.Readable,
        checksum_size: int,
    ) -> None:  # fmt: skip
        assembler, left = self._assembler, b""
        assembler.begin_payload(event, 0)
        for data in payload.slices(head, source):
            left = self._take_events(left + data if left else data)
        if left:
            raise DamagedEventError(_CUT_PAYLOAD)
        assembler.end_payload(checksum_size)

    def _take_events(self, buf: bytes) -> bytes:
        """Take the whole events out of a slice (they have no packets); what is left."""
        at, size, handlers = 0, len(buf), self._assembler.handlers
        while size - at >= HEADER_SIZE:
            kind, event_size = _event(buf, at)
            stop = at + event_size
            if stop > size:
                break
            if event_size < HEADER_SIZE:
                raise DamagedEventError("an event is smaller than its header")
            handler = handlers[kind]
            if handler is not None:
                handler(buf, at, stop)
            at = stop
        return buf[at:]

    def _take_large(self, buf: bytes, at: int) -> bytes:
        """Take one large event, of one or more packets; what was received behind it."""
        assembler = self._assembler
        body = _Body(self._wire, buf, at)
        event = body.read_exactly(HEADER_SIZE)
        _, kind, _, size, _, _ = header(event, 0)
        checksum_size = assembler.checksum_size
        body.limit = size - HEADER_SIZE - checksum_size
        if kind == Event.TRANSACTION_PAYLOAD:
            body.crc = zlib.crc32(event)
            rest = body.read_exactly(payload.HEAD_SIZE)
            head = payload.fields(rest)
            body.unread(rest[head.length :])
            self._take_inner(event, head, body, checksum_size)
            while body.read(LARGE_BYTES):
                pass
            crc, body.limit = body.crc, checksum_size
            checksum = body.read_exactly(checksum_size)
            if checksum and crc != int.from_bytes(checksum, "little"):
                raise DamagedEventError("an event's checksum is wrong")
            return body.end()
        body.limit += checksum_size
        whole = event + body.read_exactly(size - HEADER_SIZE)
        handler = assembler.handlers[kind]
        if handler is not None:
            handler(whole, 0, size - checksum_size)
        return body.end()


def _whole_size(buf: bytes, at: int) -> int:
    """The size of the event that begins here, 0 if that cannot be told yet."""
    if len(buf) - at < _PACKET_HEADER + 1 + HEADER_SIZE:
        return 0
    size: int = _packet(buf, at)[3]
    return size


class _Body:
    """The bytes of one event, packet after packet, as they are received."""

    def __init__(self, wire: Wire, buf: bytes, at: int) -> None:
        self._wire, self._buf, self._at = wire, buf, at
        self._in_packet, self._another = 0, True
        self._again = b""
        self.crc, self.limit = 0, HEADER_SIZE
        self._next_packet()
        self._raw(1)  # the status

    def read(self, size: int) -> bytes:
        """Return some bytes, at most `size` and not beyond `limit`; none there."""
        if self._again:
            data, self._again = self._again[:size], self._again[size:]
            return data
        data = self._raw(min(size, self.limit))
        self.limit -= len(data)
        self.crc = zlib.crc32(data, self.crc)
        return data

    def read_exactly(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        parts, missing = [], size
        while missing:
            data = self.read(missing)
            if not data:
                raise DamagedEventError("an event is shorter than it says")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def unread(self, data: bytes) -> None:
        """Let these bytes be read again first."""
        self._again = data

    def end(self) -> bytes:
        """Check that the event's packets end here; what was received behind them."""
        if self._in_packet == 0 and self._another:
            self._next_packet()
        if self._in_packet or self._another:
            raise DamagedEventError("an event's size is not its packets'")
        return self._buf[self._at :]

    def _raw(self, size: int) -> bytes:
        while size and not self._in_packet:
            if not self._another:
                return b""
            self._next_packet()
        size = min(size, self._in_packet)
        if size and self._at >= len(self._buf):
            self._buf, self._at = self._wire.receive(), 0
        data = self._buf[self._at : self._at + size]
        self._at += len(data)
        self._in_packet -= len(data)
        return data

    def _next_packet(self) -> None:
        while len(self._buf) - self._at < _PACKET_HEADER:
            self._buf, self._at = self._buf[self._at :] + self._wire.receive(), 0
        self._in_packet = int.from_bytes(self._buf[self._at : self._at + 3], "little")
        self._at += _PACKET_HEADER
        self._another = self._in_packet == _FULL_PACKET
