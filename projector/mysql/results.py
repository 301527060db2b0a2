"""Results off the wire: rows as bytes, and what the types of columns promise of their values."""

from __future__ import annotations

import functools
import itertools
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pymysql
from pymysql.connections import MySQLResult
from pymysql.constants import COMMAND, CR, FIELD_TYPE, FLAG, SERVER_STATUS

from projector import compiled
from projector.errors import TooMuchError
from projector.projection.encoding import Promise, Promises, SentRows

RawRow = tuple[bytes | None, ...]
RawRows = Sequence[RawRow]

_BINARY = 63  # the character set of what is no text
_TEXTS = {
    FIELD_TYPE.VAR_STRING, FIELD_TYPE.STRING, FIELD_TYPE.VARCHAR, FIELD_TYPE.ENUM, FIELD_TYPE.SET,
    FIELD_TYPE.TINY_BLOB, FIELD_TYPE.BLOB, FIELD_TYPE.MEDIUM_BLOB, FIELD_TYPE.LONG_BLOB,
}  # fmt: skip
_PROMISES = {
    **dict.fromkeys(
        (FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG),
        Promise.WHOLE,
    ),
    FIELD_TYPE.NEWDECIMAL: Promise.DECIMAL,
    FIELD_TYPE.BIT: Promise.BIT,
    FIELD_TYPE.DATETIME: Promise.INSTANT,
    FIELD_TYPE.TIMESTAMP: Promise.STAMP,
    FIELD_TYPE.DATE: Promise.DATE,
    FIELD_TYPE.JSON: Promise.JSON,
}  # not YEAR, which is 0000, too
_DEFINITION = struct.Struct("<HBH")  # character set, type, flags
_BROKE_OFF = "the connection broke off within a result"
_RECEIVE_BYTES = 1 << 16
# What the compiled core says of the answers that have come (csrc/results.c).
_WANTS_MORE, _REFUSED, _TOO_MUCH, _BROKEN = 0, 2, 3, 4


def results(driver: Any, sql: str, room: float) -> tuple[list[RawRows], int]:
    """Run a text of many statements; their rows, and the status that the server ends with. Raises
    TooMuchError when the rows have no room in so many bytes."""
    driver._execute_command(COMMAND.COM_QUERY, sql)
    if compiled.core is not None:
        return _received(driver, compiled.core.Results(-1 if math.isinf(room) else int(room)))
    found: list[RawRows] = []
    while True:
        result = _Result(driver, room)
        result.read()
        found.append(result.raw_rows)
        room = result.room
        if not result.has_next:
            return found, int(result.server_status or 0)


def _received(driver: Any, answers: Any) -> tuple[list[RawRows], int]:
    """The same by the compiled core, past the driver: it reads packet by packet, and has read
    nothing beyond the last answer. Its limit for reads holds: it is the one for writes."""
    receive, state = driver._sock.recv, _WANTS_MORE
    while state == _WANTS_MORE:
        data = receive(_RECEIVE_BYTES)
        state = answers.feed(data) if data else _BROKEN
    if state == _REFUSED:
        pymysql.err.raise_mysql_exception(answers.refusal)
    if state == _TOO_MUCH:
        raise TooMuchError("mysql", "a result has no room in memory", answered=True)
    if state == _BROKEN:
        raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, _BROKE_OFF)
    found = answers.found
    for rows in found:
        if rows is not None:
            rows.promises = _promises(rows.definitions)
    return [() if rows is None else rows for rows in found], answers.status


class _Result(MySQLResult):
    """A result whose rows are split by one generated function and not converted.

    PyMySQL spends three quarters of the time of a wide query on objects for packets and columns.
    """

    def __init__(self, driver: Any, room: float) -> None:
        super().__init__(driver)
        self.room = room
        self.raw_rows: RawRows = ()
        self._promises: Promises = ()

    def _read_result_packet(self, first_packet: Any) -> None:
        # The text resultset, MySQL internals manual "Protocol::COM_QUERY Response": the number of
        # columns, a definition of each, EOF, rows, EOF.
        count = first_packet.read_length_encoded_integer()
        driver: Any = self.connection
        columns = [driver._read_packet()._data for _ in range(count)]
        driver._read_packet()
        self._promises = tuple(
            _promise(
                int.from_bytes(c[-12:-10], "little"), c[-6], int.from_bytes(c[-5:-3], "little")
            )
            for c in columns
        )
        self.raw_rows = self._split_rows(driver, _splitter(count))

    def _split_rows(self, driver: Any, split: Callable[[bytes], RawRow]) -> RawRows:
        rows = SentRows()
        rows.promises = self._promises
        read, number, room = driver._rfile.read, driver._next_seq_id, self.room
        while True:
            head = read(4)
            size = int.from_bytes(head[:3], "little")
            body = read(size)
            if len(head) < 4 or len(body) < size or head[3] != number:
                raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, _BROKE_OFF)
            number = (number + 1) & 0xFF
            while size == 0xFFFFFF:  # a packet of 16 MiB goes on in the next one
                head = read(4)
                size = int.from_bytes(head[:3], "little")
                body += read(size)
                number = (number + 1) & 0xFF
            room -= len(body)
            if room < 0:
                raise TooMuchError("mysql", "a result has no room in memory", answered=True)
            if body[0] == 0xFE and len(body) < 9:
                driver._next_seq_id, self.room = number, room
                self.server_status = int.from_bytes(body[3:5], "little")
                self.has_next = bool(self.server_status & SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS)
                return rows
            if body[0] == 0xFF:
                driver._next_seq_id = number
                pymysql.err.raise_mysql_exception(body)
            rows.append(split(body))


@functools.lru_cache(maxsize=1024)
def _promises(definitions: bytes) -> Promises:
    """Read what the compiled core keeps of the definitions of columns."""
    return tuple(itertools.starmap(_promise, _DEFINITION.iter_unpack(definitions)))


def _promise(charset: int, kind: int, flags: int) -> Promise:
    """Return what a column's definition promises of its values: it ends with character set, length,
    type, flags and decimals (MySQL internals manual, "Protocol::ColumnDefinition41")."""
    if flags & FLAG.ZEROFILL:
        return Promise.NOTHING
    if kind in _TEXTS:
        return Promise.NOTHING if charset == _BINARY else Promise.TEXT
    return _PROMISES.get(kind, Promise.NOTHING)


@functools.cache
def _splitter(count: int) -> Callable[[bytes], RawRow]:
    """Generate the function that splits a row of so many length-encoded columns."""
    lines = ["def split(b):", " p = 0"]
    for column in range(count):
        lines += [
            " n = b[p]",
            " if n < 251:",
            f"  q = p + 1 + n; c{column} = b[p + 1:q]; p = q",
            " elif n == 251:",
            f"  c{column} = None; p += 1",
            " else:",
            "  s = p + (3 if n == 252 else 4 if n == 253 else 9)",
            "  q = s + int.from_bytes(b[p + 1:s], 'little')",
            f"  c{column} = b[s:q]; p = q",
        ]
    lines.append(f" return ({''.join(f'c{column}, ' for column in range(count))})")
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    split: Callable[[bytes], RawRow] = scope["split"]
    return split
