"""Whether a server can give its log from a position: asked before the stream begins.

Never lets a stream begin in another history: a server restored from a backup, or whose log was
reset, would give the wrong transactions without a complaint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pymysql

from projector.databases import Mysql
from projector.errors import PositionLostError
from projector.mysql.binlog.connection import Replica, Server, Wire, ask, refusal
from projector.mysql.binlog.events import HEADER_SIZE, Event, header
from projector.mysql.position import GtidSet, MariadbGtids, Position, file_number

_FIRST_EVENT: Final = 4
_PACKET_HEADER: Final = 4
_WAS_RESET: Final = "it was reset, restored from a backup, or is another server"


def check(
    connection: pymysql.Connection[Any], settings: Mysql, server: Server, position: Position
) -> None:
    """Raise PositionLostError when the log cannot be read on from `position`."""
    if position.flavour is not server.flavour:
        raise PositionLostError(
            f"the checkpoint is {position.flavour}'s, the server is {server.flavour}"
        )
    sizes = {row[0]: int(row[1]) for row in ask(connection, "SHOW BINARY LOGS")}
    if position.server == server.name and position.file:
        _check_place(settings, server, position, sizes)
    if isinstance(position.gtids, MariadbGtids):
        _check_mariadb(connection, server, position, position.gtids, sizes)
    elif isinstance(position.gtids, GtidSet) and server.gtids_on:
        _check_mysql(connection, position.gtids)
    else:
        _check_file(server, position, sizes)


def born(settings: Mysql, server: Server, file: str) -> int:
    """Return when a file of the log was created: the time of its format description, which the
    server sends whatever place is asked for. Raises TransientError or PositionLostError."""
    place = Position(server.flavour, server.name, file, _FIRST_EVENT, None)
    wire, buf = Wire(settings, server, place, Replica.visitor()), b""
    try:
        while True:
            buf += wire.receive()
            while len(buf) > _PACKET_HEADER + HEADER_SIZE:
                size = int.from_bytes(buf[:3], "little")
                if buf[_PACKET_HEADER]:
                    raise refusal(buf[_PACKET_HEADER : _PACKET_HEADER + size])
                created_at, kind, *_ = header(buf, _PACKET_HEADER + 1)
                if kind == Event.FORMAT_DESCRIPTION:
                    return int(created_at)
                if len(buf) < _PACKET_HEADER + size:
                    break
                buf = buf[_PACKET_HEADER + size :]
    finally:
        wire.close()


def _check_place(
    settings: Mysql, server: Server, position: Position, sizes: Mapping[str, int]
) -> None:
    """Compare the place with the files of this very server: numbers of transactions are given out
    again after a reset, but a file is not created twice in one second."""
    size = sizes.get(position.file)
    if size is None:
        stem = position.file.rpartition(".")[0]
        last = max((file_number(f) for f in sizes if f.rpartition(".")[0] == stem), default=None)
        if last is not None and last < file_number(position.file):
            raise PositionLostError(f"the server's log ends before the checkpoint: {_WAS_RESET}")
        return  # purged, or the log has another name now
    if position.offset > size:
        raise PositionLostError(
            f"{position.file} is shorter than the checkpoint: the log was reset"
        )
    if position.born and born(settings, server, position.file) != position.born:
        raise PositionLostError(
            f"{position.file} is another file than the checkpoint's: the log was reset"
        )


def _check_mysql(connection: pymysql.Connection[Any], gtids: GtidSet) -> None:
    sql = "SELECT GTID_SUBSET(%s, @@global.gtid_executed), GTID_SUBTRACT(@@global.gtid_purged, %s)"
    is_known, purged = ask(connection, sql, str(gtids), str(gtids))[0]
    if not int(is_known or 0):
        raise PositionLostError(
            f"the server has not executed all transactions of the checkpoint: {_WAS_RESET}"
        )
    if purged:
        raise PositionLostError(f"the server has purged transactions that are needed: {purged}")


def _check_file(server: Server, position: Position, sizes: Mapping[str, int]) -> None:
    if position.server != server.name:
        raise PositionLostError("the checkpoint without GTIDs is another server's")
    if position.file not in sizes:
        raise PositionLostError(f"the server has no log file {position.file} any more")
    if position.offset >= 1 << 32:
        raise PositionLostError("no place beyond 4 GB in a log file can be asked for without GTIDs")


def _check_mariadb(
    connection: pymysql.Connection[Any],
    server: Server,
    position: Position,
    gtids: MariadbGtids,
    sizes: Mapping[str, int],
) -> None:
    current, state = ask(
        connection, "SELECT @@global.gtid_current_pos, @@global.gtid_binlog_state"
    )[0]
    if not (MariadbGtids.parse(current or "").contains(gtids) or _is_logged(state or "", gtids)):
        raise PositionLostError(f"the server's log ends before the checkpoint: {_WAS_RESET}")
    if position.server != server.name or position.file not in sizes:
        return  # purged: the GTIDs alone decide, and the server refuses them if they are gone
    place = (position.file, position.offset)
    text = ask(connection, "SELECT BINLOG_GTID_POS(%s, %s)", *place)[0][0]
    if text is None or MariadbGtids.parse(text) != gtids:
        raise PositionLostError("the server's log holds another history at the checkpoint's place")


def _is_logged(state: str, gtids: MariadbGtids) -> bool:
    """Return whether the log has had these. `state` names the last transaction of every server in
    every domain: the last of a domain alone may be another server's, with a lower number."""
    last: dict[tuple[int, int], int] = {}
    for part in filter(None, "".join(state.split()).split(",")):
        domain, server, sequence = map(int, part.split("-"))
        last[domain, server] = sequence
    return all(
        last.get((domain, server), -1) >= sequence
        for domain, (server, sequence) in gtids.by_domain.items()
    )
