"""Whether a server can give its log from a position: asked before the stream begins.

Never lets a stream begin in another history: a server restored from a backup, or whose log was
reset, would give the wrong transactions without a complaint.
"""

from __future__ import annotations

from typing import Any

import pymysql

from projector.binlog.connection import Server, ask
from projector.errors import PositionLostError
from projector.position import GtidSet, MariadbGtids, Position


def check(connection: pymysql.Connection[Any], server: Server, position: Position) -> None:
    """Raise PositionLostError when the log cannot be read on from `position`."""
    if position.flavour is not server.flavour:
        raise PositionLostError(
            f"the checkpoint is {position.flavour}'s, the server is {server.flavour}"
        )
    if isinstance(position.gtids, MariadbGtids):
        _check_mariadb(connection, server, position, position.gtids)
    elif isinstance(position.gtids, GtidSet) and server.gtids_on:
        _check_mysql(connection, position.gtids)
    else:
        _check_file(connection, server, position)


def _check_mysql(connection: pymysql.Connection[Any], gtids: GtidSet) -> None:
    sql = "SELECT GTID_SUBSET(%s, @@global.gtid_executed), GTID_SUBTRACT(@@global.gtid_purged, %s)"
    is_known, purged = ask(connection, sql, str(gtids), str(gtids))[0]
    if not int(is_known or 0):
        raise PositionLostError(
            "the server has not executed all transactions of the checkpoint: it was reset, restored"
            " from a backup, or is another server"
        )
    if purged:
        raise PositionLostError(f"the server has purged transactions that are needed: {purged}")


def _check_file(connection: pymysql.Connection[Any], server: Server, position: Position) -> None:
    if position.server != server.name:
        raise PositionLostError("the checkpoint without GTIDs is another server's")
    sizes = {row[0]: int(row[1]) for row in ask(connection, "SHOW BINARY LOGS")}
    size = sizes.get(position.file)
    if size is None:
        raise PositionLostError(f"the server has no log file {position.file} any more")
    if position.offset > size:
        raise PositionLostError(
            f"{position.file} is shorter than the checkpoint: the log was reset"
        )
    if position.offset >= 1 << 32:
        raise PositionLostError("no place beyond 4 GB in a log file can be asked for without GTIDs")


def _check_mariadb(
    connection: pymysql.Connection[Any], server: Server, position: Position, gtids: MariadbGtids
) -> None:
    known = MariadbGtids.parse(ask(connection, "SELECT @@global.gtid_current_pos")[0][0] or "")
    binlog = MariadbGtids.parse(ask(connection, "SELECT @@global.gtid_binlog_pos")[0][0] or "")
    if not (known.contains(gtids) or binlog.contains(gtids)):
        raise PositionLostError(
            "the server's log ends before the checkpoint: it was reset, restored from a backup, or"
            " is another server"
        )
    if position.server != server.name or not position.file:
        return
    sizes = {row[0]: int(row[1]) for row in ask(connection, "SHOW BINARY LOGS")}
    if position.file not in sizes:
        return  # purged: the GTIDs alone decide, and the server refuses them if they are gone
    place = (position.file, position.offset)
    text = ask(connection, "SELECT BINLOG_GTID_POS(%s, %s)", *place)[0][0]
    if text is None or MariadbGtids.parse(text) != gtids:
        raise PositionLostError("the server's log holds another history at the checkpoint's place")
