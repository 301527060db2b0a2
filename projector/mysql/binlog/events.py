"""The events of the log that are not rows: their types, and what each says.

Layouts: MySQL's `libs/mysql/binlog/event/*.h` ("Binary Log Event Structure" in its source
documentation), MariaDB's "Replication Protocol" in its Knowledge Base. Every function takes the
whole buffer with the place of the event's 19 byte header and its end without checksum, and raises
DamagedEventError for anything that does not fit.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import Final, NamedTuple

from projector.model import Kind
from projector.mysql.binlog.damage import DamagedEventError

HEADER_SIZE: Final = 19
CHECKSUM_SIZE: Final = 4
IGNORABLE_FLAG: Final = 0x80  # LOG_EVENT_IGNORABLE_F
ARTIFICIAL_FLAG: Final = 0x20  # LOG_EVENT_ARTIFICIAL_F: made for the stream, not in the file

# Timestamp, type, server id, size, end position (modulo 2**32; 0 where unknown), flags.
header = struct.Struct("<IBIIIH").unpack_from


class Event(IntEnum):
    """The event types that are told apart."""

    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    RAND = 13
    USER_VAR = 14
    FORMAT_DESCRIPTION = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_CONTEXT = 36
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE_ROWS = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_V2 = 41
    GTID_TAGGED = 42
    ANNOTATE_ROWS = 160
    BINLOG_CHECKPOINT = 161
    MARIADB_GTID = 162
    GTID_LIST = 163
    START_ENCRYPTION = 164
    QUERY_COMPRESSED = 165
    WRITE_ROWS_COMPRESSED_V1 = 166
    UPDATE_ROWS_COMPRESSED_V1 = 167
    DELETE_ROWS_COMPRESSED_V1 = 168
    WRITE_ROWS_COMPRESSED = 169
    UPDATE_ROWS_COMPRESSED = 170
    DELETE_ROWS_COMPRESSED = 171


KIND_BY_TYPE: Final[dict[int, Kind]] = {
    Event.WRITE_ROWS_V1: Kind.INSERT,
    Event.WRITE_ROWS: Kind.INSERT,
    Event.WRITE_ROWS_COMPRESSED_V1: Kind.INSERT,
    Event.WRITE_ROWS_COMPRESSED: Kind.INSERT,
    Event.UPDATE_ROWS_V1: Kind.UPDATE,
    Event.UPDATE_ROWS: Kind.UPDATE,
    Event.PARTIAL_UPDATE_ROWS: Kind.UPDATE,
    Event.UPDATE_ROWS_COMPRESSED_V1: Kind.UPDATE,
    Event.UPDATE_ROWS_COMPRESSED: Kind.UPDATE,
    Event.DELETE_ROWS_V1: Kind.DELETE,
    Event.DELETE_ROWS: Kind.DELETE,
    Event.DELETE_ROWS_COMPRESSED_V1: Kind.DELETE,
    Event.DELETE_ROWS_COMPRESSED: Kind.DELETE,
}


class Gtid(NamedTuple):
    """A transaction's name on MySQL. `committed_at`: on this server; 0 before MySQL 8.0."""

    sid: bytes
    tag: str
    gno: int
    committed_at: float


class Query(NamedTuple):
    """A statement with the default schema that it ran in. `charset`: number of a collation of the
    client's character set, `mode`: the SQL mode; None where the event does not say."""

    schema: str
    text: bytes
    charset: int | None = None
    mode: int | None = None


# UUID, number, commit time (seven bytes and one more, see below).
gtid_at = struct.Struct("<x16sq17xQ").unpack_from
_gtid_old = struct.Struct("<x16sq").unpack_from
_query = struct.Struct("<IIBHH").unpack_from
_mariadb_gtid = struct.Struct("<QIB").unpack_from
_STATUS_MODE: Final = 1
_STATUS_CHARSET: Final = 4
_STATUS_SIZES: Final = {0: 4, _STATUS_MODE: 8, 3: 4, _STATUS_CHARSET: 6}
_STATUS_TEXTS: Final = {2: 1, 5: 0, 6: 0}  # a length, the text, and what follows: a catalog's 0
GTID_SIZE: Final = 50  # with a commit time, which the transaction's length always follows
MICROSECONDS_MASK: Final = (1 << 55) - 1  # bit 55: an original timestamp follows
_MARIADB_STANDALONE: Final = 1
_MARIADB_PREPARED_XA: Final = 64

# Flags of row events (rows_event.h): foreign_key_checks=0, so that no key acts; and what keys do is
# carried out by SQL and logged (MySQL 9.6). They stand behind the event's header and table id.
ENDS_STATEMENT: Final = 1
_WITHOUT_KEYS: Final = 2
_BY_SQL: Final = 16
DUMMY_TABLE: Final = b"\xff\xff\xff\x00\x00\x00"  # ends a statement without rows


def shown(*, is_mariadb: bool) -> int:
    """Return the flags of rows whose consequences are in the log, or are none."""
    return _WITHOUT_KEYS if is_mariadb else _WITHOUT_KEYS | _BY_SQL


def may_act(buf: bytes, at: int, end: int, shown: int) -> bool:
    """Return whether a foreign key may have acted on these rows without a word in the log."""
    if end - at < HEADER_SIZE + 8:
        raise DamagedEventError("a row event that is too short")
    is_insert = KIND_BY_TYPE[buf[at + 4]] is Kind.INSERT
    return not (is_insert or buf[at + 25] & shown)


def gtid(buf: bytes, at: int, end: int) -> Gtid:
    """Read a GTID or an anonymous GTID event."""
    body = at + HEADER_SIZE
    if end - body >= GTID_SIZE:
        sid, gno, micros = gtid_at(buf, body)
        return Gtid(sid, "", gno, (micros & MICROSECONDS_MASK) / 1e6)
    if end - body < 25:
        raise DamagedEventError("a GTID event is too short")
    sid, gno = _gtid_old(buf, body)
    return Gtid(sid, "", gno, 0.0)


def tagged_gtid(buf: bytes, at: int, end: int) -> Gtid:
    """Read a tagged GTID event: numbered fields of variable length (`mysql::serialization`)."""
    fields = _Fields(buf, at + HEADER_SIZE, end)
    _version, _size, _last_needed = fields.unsigned(), fields.unsigned(), fields.unsigned()
    sid, tag, gno, micros = b"", "", 0, 0
    while fields.at < end:
        field = fields.unsigned()
        if field == 1:  # the UUID, byte by byte
            sid = bytes(fields.unsigned() & 0xFF for _ in range(16))
        elif field == 2:
            gno = fields.signed()
        elif field == 3:
            tag = fields.text()
        elif field in (4, 5):
            fields.signed()
        elif field == 6:
            micros = fields.unsigned()
            break  # the fields come in the order of their numbers; nothing behind is of use
        else:
            fields.unsigned()
    if len(sid) != 16 or gno < 1:
        raise DamagedEventError("a tagged GTID event names no transaction")
    return Gtid(sid, tag, gno, micros / 1e6)


class _Fields:
    """Numbers and texts of `mysql::serialization` (mysql/serialization/variable_length_integers.h).

    The count of low one bits in the first byte is the count of bytes that follow it.
    """

    def __init__(self, buf: bytes, at: int, end: int) -> None:
        self._buf, self.at, self._end = buf, at, end

    def unsigned(self) -> int:
        if self.at >= self._end:
            raise DamagedEventError("an event ends inside a field")
        first = self._buf[self.at]
        more = (~first & (first + 1)).bit_length() - 1  # the count of low one bits
        stop = self.at + 1 + more
        if stop > self._end:
            raise DamagedEventError("an event ends inside a field")
        value = int.from_bytes(self._buf[self.at : stop], "little") >> min(more + 1, 8)
        self.at = stop
        return value

    def signed(self) -> int:
        value = self.unsigned()
        return -(value >> 1) - 1 if value & 1 else value >> 1

    def text(self) -> str:
        size = self.unsigned()
        stop = self.at + size
        if stop > self._end:
            raise DamagedEventError("an event ends inside a text")
        value = self._buf[self.at : stop].decode("ascii", "replace")
        self.at = stop
        return value


def mariadb_gtid(buf: bytes, at: int, end: int) -> tuple[int, int, int, bool, bool]:
    """Read domain, server and sequence number; whether it is a lone statement, and XA prepare."""
    if end - at < HEADER_SIZE + 13:
        raise DamagedEventError("a GTID event is too short")
    sequence, domain, flags = _mariadb_gtid(buf, at + HEADER_SIZE)
    server = int.from_bytes(buf[at + 5 : at + 9], "little")
    lone, prepared = bool(flags & _MARIADB_STANDALONE), bool(flags & _MARIADB_PREPARED_XA)
    return domain, server, sequence, lone, prepared


def query(buf: bytes, at: int, end: int, *, load: bool = False) -> Query:
    """Read a statement. `load`: an EXECUTE_LOAD_QUERY."""
    body = at + HEADER_SIZE
    fixed = 13 + (13 if load else 0)
    if end - body < fixed:
        raise DamagedEventError("a query event is too short")
    _thread, _seconds, schema_size, _error, status_size = _query(buf, body)
    schema = body + fixed + status_size
    text = schema + schema_size + 1
    if text > end:
        raise DamagedEventError("a query event is too short for its schema")
    charset, mode = _session(buf[body + fixed : schema])
    return Query(buf[schema : text - 1].decode("utf-8", "replace"), buf[text:end], charset, mode)


def _session(status: bytes) -> tuple[int | None, int | None]:
    """Read character set and SQL mode from status variables, which come in the order of their
    numbers as far as these (Query_log_event::write, sql/log_event.cc)."""
    charset = mode = None
    at = 0
    while at < len(status):
        kind, at = status[at], at + 1
        if kind == _STATUS_MODE:
            mode = int.from_bytes(status[at : at + 8], "little")
        elif kind == _STATUS_CHARSET:
            charset = int.from_bytes(status[at : at + 2], "little")
        size = _STATUS_SIZES.get(kind)
        if size is None:
            if kind not in _STATUS_TEXTS or at >= len(status):
                break
            size = 1 + status[at] + _STATUS_TEXTS[kind]
        at += size
    return charset, mode


def decompress(data: bytes) -> bytes:
    """Return the text of a MariaDB compressed query (`query_event_uncompress`, log_event.cc)."""
    size_length = data[0] & 0x07 if data else 0
    if size_length not in (1, 2, 3, 4) or len(data) <= 1 + size_length or data[0] & 0x70:
        raise DamagedEventError("a compressed query has a header of an unknown kind")
    size = int.from_bytes(data[1 : 1 + size_length], "big")
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data[1 + size_length :], size + 1)
    except zlib.error as error:
        raise DamagedEventError(f"a compressed query cannot be decompressed: {error}") from None
    if len(text) != size:
        raise DamagedEventError("a compressed query has not the length that it states")
    return text


def rotate(buf: bytes, at: int, end_with_checksum: int) -> tuple[str, int]:
    """Read the next file's name and the offset in it.

    Whether a rotate event made for the stream carries a checksum cannot be known before the first
    format description: the checksum itself decides.
    """
    end = end_with_checksum
    if end - at < HEADER_SIZE + 9:
        raise DamagedEventError("a rotate event is too short")
    if zlib.crc32(buf[at : end - 4]) == int.from_bytes(buf[end - 4 : end], "little"):
        end -= CHECKSUM_SIZE
    body = at + HEADER_SIZE
    offset = int.from_bytes(buf[body : body + 8], "little")
    return buf[body + 8 : end].decode("utf-8", "replace"), offset


def has_checksum(buf: bytes, end_with_checksum: int) -> bool:
    """Read from a format description whether the file's events end in a CRC32."""
    algorithm = buf[end_with_checksum - CHECKSUM_SIZE - 1]
    if algorithm not in (0, 1):
        raise DamagedEventError(f"an unknown checksum algorithm: {algorithm}")
    return algorithm == 1


def prepared_xid(buf: bytes, at: int, end: int) -> tuple[str, bool]:
    """Read an XA PREPARE's xid, spelled as in XA COMMIT, and whether it commits at once."""
    body = at + HEADER_SIZE
    if end - body < 13:
        raise DamagedEventError("an XA PREPARE event is too short")
    one_phase, kind, first, second = struct.unpack_from("<BiII", buf, body)
    data = buf[body + 13 : body + 13 + first + second]
    if len(data) != first + second or body + 13 + first + second > end:
        raise DamagedEventError("an XA PREPARE event is too short for its xid")
    return f"X'{data[:first].hex()}',X'{data[first:].hex()}',{kind}".upper(), bool(one_phase)


def xid_text(rest: bytes) -> str:
    """Spell the xid behind XA COMMIT or XA ROLLBACK like `prepared_xid` does."""
    text = rest.split(b" ONE PHASE")[0]
    return text.decode("ascii", "replace").replace(" ", "").strip().upper()
