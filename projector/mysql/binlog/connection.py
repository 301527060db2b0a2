"""The connections to the server: one for questions, one that the log comes down.

PyMySQL does the handshake, TLS and authentication; the log itself is read off its socket. Never
waits without a limit: an idle server sends heartbeats, so silence means that the line is dead.
"""

from __future__ import annotations

import functools
import random
import select
import socket
import ssl
import struct
import uuid
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.constants import COMMAND

from projector.databases import Mysql
from projector.errors import PositionLostError, RefusedError, TransientError
from projector.mysql import connection as database
from projector.mysql.binlog.damage import DamagedEventError
from projector.mysql.connection import meaning, translated
from projector.mysql.position import Flavour, GtidSet, MariadbGtids, Position

RECEIVE_BYTES = 1 << 18
HEARTBEATS_MISSED = 3  # so many without a byte: the line is dead
_ER_MASTER_FATAL_ERROR_READING_BINLOG = 1236
_NOT_LOST = ("not open", "memory", "misconfigured")
_SAME_REPLICA = "same server"  # in the text of either server, under different numbers

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Server:
    """What the stream has to know of a server."""

    flavour: Flavour
    name: str  # MySQL: the server's UUID; MariaDB has none: host, port and server id
    gtids_on: bool
    folds_names: bool  # lower_case_table_names is not 0: names of tables ignore case
    checksum: str


@dataclass(frozen=True, slots=True)
class Replica:
    """Who asks for the log. A server drops the older of two streams that are of one replica: of one
    UUID (MySQL) or of one server id (MariaDB)."""

    server_id: int
    uuid: str

    @staticmethod
    def daemon(settings: Mysql) -> Replica:
        """Return this process: a stream of it whose end the server has not seen yet is dropped."""
        return Replica(settings.replica_server_id, _process_uuid())

    @staticmethod
    def visitor() -> Replica:
        """Return one that nobody else is, for a question: a stream under way goes on."""
        return Replica(random.randrange(1 << 31, 1 << 32), str(uuid.uuid4()))


@functools.cache
def _process_uuid() -> str:
    return str(uuid.uuid4())


def connect(settings: Mysql) -> pymysql.Connection[Any]:
    """Open a connection for questions. Raises TransientError or OperatorError."""
    with translated():
        return database.connect(settings.parsed_url, settings, autocommit=True)


def ask(connection: pymysql.Connection[Any], sql: str, *values: object) -> Rows:
    """Run one statement; its rows. Raises TransientError or OperatorError."""
    with translated(), connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return list(cursor.fetchall())


def identify(connection: pymysql.Connection[Any]) -> Server:
    """Ask a server who it is."""
    version = str(connection.get_server_info())  # type: ignore[no-untyped-call]
    is_mariadb = "mariadb" in version.lower()
    name = "CONCAT(@@hostname, '/', @@port, '/', @@server_id)" if is_mariadb else "@@server_uuid"
    gtids = "'ON'" if is_mariadb else "@@gtid_mode"
    sql = f"SELECT {name}, {gtids}, @@lower_case_table_names, @@global.binlog_checksum, @@log_bin"
    who, mode, folds, checksum, logs = ask(connection, sql)[0]
    if not int(logs):
        raise RefusedError(
            "the server writes no binary log", "Set log_bin and restart it; see `projector check`."
        )
    flavour = Flavour.MARIADB if is_mariadb else Flavour.MYSQL
    return Server(flavour, who, mode == "ON", int(folds) != 0, checksum)


def log_end(connection: pymysql.Connection[Any]) -> tuple[str, int, str]:
    """Ask for file, offset and executed GTID set (MySQL) of the log's end."""
    try:
        row = ask(connection, "SHOW BINARY LOG STATUS")[0]  # MySQL 8.2, MariaDB 12
    except RefusedError:  # unknown to an older server
        row = ask(connection, "SHOW MASTER STATUS")[0]
    return row[0], int(row[1]), (row[4] if len(row) > 4 else "").replace("\n", "")


class Wire:
    """A connection that the server sends its log down."""

    def __init__(
        self, settings: Mysql, server: Server, position: Position, replica: Replica
    ) -> None:
        self._connection = connect(settings)
        try:
            self._prepare(settings, server, position, replica)
            self._register(replica)
            self._request(position, replica)
        except BaseException:
            self._connection.close()
            raise
        self._socket: Any = self._connection._sock  # type: ignore[attr-defined]
        self._socket.settimeout(max(HEARTBEATS_MISSED * settings.heartbeat_s, 3.0))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._pending = self._socket.pending if isinstance(self._socket, ssl.SSLSocket) else None

    def receive(self) -> bytes:
        """Wait for some bytes. Raises TransientError when the line is silent or closed."""
        try:
            data: bytes = self._socket.recv(RECEIVE_BYTES)
            if self._pending is not None and not self.is_idle():
                data += self._more(RECEIVE_BYTES - len(data))
        except TimeoutError:
            raise TransientError("mysql", "the log has gone silent: no heartbeat") from None
        except OSError as error:
            raise TransientError("mysql", f"the log's line broke: {error.strerror}") from error
        if not data:
            raise TransientError("mysql", "the server closed the log's line")
        return data

    def _more(self, size: int) -> bytes:
        """Receive what is there already: TLS gives 16 KB at a time."""
        parts = []
        while size > 0 and not self.is_idle():
            part = self._socket.recv(size)
            parts.append(part)
            size = size - len(part) if part else 0
        return b"".join(parts)

    def is_idle(self) -> bool:
        """Return whether nothing more can be received at this moment."""
        if self._pending is not None and self._pending():
            return False
        return not self._poll.poll(0)

    def close(self) -> None:
        """End the stream; a thread that waits in `receive` returns at once."""
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was faster
        self._connection._force_close()  # type: ignore[attr-defined]

    def _prepare(
        self, settings: Mysql, server: Server, position: Position, replica: Replica
    ) -> None:
        period_ns = round(settings.heartbeat_s * 1e9)
        variables: dict[str, object] = {
            "master_heartbeat_period": period_ns,
            "master_binlog_checksum": server.checksum,
        }
        if server.flavour is Flavour.MYSQL:
            variables |= {
                "source_heartbeat_period": period_ns,
                "source_binlog_checksum": server.checksum,
                "slave_uuid": replica.uuid,
                "replica_uuid": replica.uuid,
            }
        else:
            variables["mariadb_slave_capability"] = 4  # MARIA_SLAVE_CAPABILITY_GTID
            if position.gtids is not None:
                variables |= {
                    "slave_connect_state": str(position.gtids),
                    "slave_gtid_strict_mode": 0,
                    "slave_gtid_ignore_duplicates": 0,
                }
        assignments = ", ".join(f"@{name} = %s" for name in variables)
        ask(self._connection, f"SET {assignments}", *variables.values())

    def _register(self, replica: Replica) -> None:
        """Appear in SHOW REPLICAS (COM_REGISTER_SLAVE)."""
        host = socket.gethostname().encode()[:60]
        body = struct.pack("<IB", replica.server_id, len(host)) + host
        self._send(COMMAND.COM_REGISTER_SLAVE, body + struct.pack("<BBHII", 0, 0, 0, 0, 0))
        with translated():
            self._connection._read_ok_packet()  # type: ignore[attr-defined]

    def _request(self, position: Position, replica: Replica) -> None:
        """Ask for the log from the position on (COM_BINLOG_DUMP, COM_BINLOG_DUMP_GTID)."""
        gtids, server_id = position.gtids, replica.server_id
        if isinstance(gtids, GtidSet):
            known = gtids.encode()
            body = struct.pack("<HIIQI", 0, server_id, 0, 4, len(known)) + known
            self._send(COMMAND.COM_BINLOG_DUMP_GTID, body)
        elif isinstance(gtids, MariadbGtids):
            self._send(COMMAND.COM_BINLOG_DUMP, struct.pack("<IHI", 4, 0, server_id))
        else:
            body = struct.pack("<IHI", position.offset, 0, server_id) + position.file.encode()
            self._send(COMMAND.COM_BINLOG_DUMP, body)

    def _send(self, command: int, body: bytes) -> None:
        with translated():
            self._connection._execute_command(command, body)  # type: ignore[attr-defined]


def refusal(packet: bytes) -> Exception:
    """Return what a packet means that is no event: the end of the log, or an error."""
    if packet[:1] == b"\xfe":
        return TransientError("mysql", "the server ended the log: it is shutting down")
    if packet[:1] != b"\xff":
        return DamagedEventError(f"a packet that is no event and no answer ({packet[0]})")
    code = int.from_bytes(packet[1:3], "little")
    return _meaning(code, packet[9 if packet[3:4] == b"#" else 3 :].decode("utf-8", "replace"))


def _meaning(code: int, text: str) -> Exception:
    if _SAME_REPLICA in text:
        return TransientError(
            "mysql",
            "the server dropped the log's line for another replica with our server id: each needs a"
            " PROJECTOR_MYSQL__SERVER_ID of its own, or none",
        )
    if code == _ER_MASTER_FATAL_ERROR_READING_BINLOG:
        if "not open" in text or "misconfigured" in text:
            return RefusedError(f"the server gives no log: {text}", "Run `projector check`.")
        if any(word in text for word in _NOT_LOST):
            return TransientError("mysql", f"the server ended the log: {text}")
        return PositionLostError(f"the server cannot give the log from here: {text}")
    return meaning(pymysql.err.OperationalError(code, text))
