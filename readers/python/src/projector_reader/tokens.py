"""The token of a commit: what its database calls it, asked on the connection that committed."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping
from typing import Any

from projector_reader.errors import ReaderError

# One question for both: MariaDB passes over comments for MySQL 5.7 and later, MySQL over `/*M!`.
# - MySQL: everything committed by now, our commit included; no driver of Python's shows the one
#   GTID that session_track_gtids=OWN_GTID tells of.
# - MariaDB: the last transaction that this very session has committed.
TOKEN_SQL = (
    "SELECT /*!80000 @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed */"
    " /*M!100200 'MariaDB', @@last_gtid */"
)
_SERVER_SQL = "SELECT @@server_uuid, VERSION()"
_SINCE = (8, 2)  # of MySQL: SHOW BINARY LOG STATUS; SHOW MASTER STATUS is gone since 8.4

Question = Generator[str, tuple[Any, ...], str]


def commit_token(connection: Any) -> str:
    """Return the token for what was committed last on this connection, to be asked for right after
    the commit. Empty where nothing was committed: nothing is waited for then.

    `connection`: of a PEP 249 driver (PyMySQL, mysqlclient, MySQL Connector, MariaDB Connector), or
    SQLAlchemy's `Connection`. For a `Session` see `projector_reader.sqlalchemy`: its connection is
    back in the pool after the commit, and MariaDB answers for the connection alone.

    MySQL without GTIDs: file and offset, which needs the privilege REPLICATION CLIENT.
    """
    raw = _driver_connection(connection)
    question = _question()
    sql = next(question)
    try:
        while True:
            cursor = raw.cursor()
            try:
                cursor.execute(sql)
                row = cursor.fetchone()
            finally:
                cursor.close()
            sql = question.send(_values(row))
    except StopIteration as done:
        return str(done.value)


async def async_commit_token(connection: Any) -> str:
    """Return the same of an asynchronous driver's connection (aiomysql, asyncmy)."""
    question = _question()
    sql = next(question)
    try:
        while True:
            cursor = connection.cursor()
            if inspect.isawaitable(cursor):
                cursor = await cursor
            try:
                await cursor.execute(sql)
                row = await cursor.fetchone()
            finally:
                closing = cursor.close()
                if inspect.isawaitable(closing):
                    await closing
            sql = question.send(_values(row))
    except StopIteration as done:
        return str(done.value)


def _question() -> Question:
    """Ask, without knowing how: yields SQL, takes rows, returns the token."""
    mode, gtids = yield TOKEN_SQL
    if mode in ("ON", "MariaDB"):
        return "".join(gtids.split())
    server, version = yield _SERVER_SQL
    is_new = tuple(int(part) for part in version.split(".")[:2]) >= _SINCE
    row = yield "SHOW BINARY LOG STATUS" if is_new else "SHOW MASTER STATUS"
    if not row:
        raise ReaderError("this server writes no binlog: there is nothing to wait for")
    return f"mysql|{server}|{row[0]}|{row[1]}|-"


def _driver_connection(connection: Any) -> Any:
    if hasattr(connection, "exec_driver_sql"):  # SQLAlchemy's; its own would begin a transaction
        return connection.connection
    if hasattr(connection, "cursor"):
        return connection
    raise TypeError(
        "commit_token needs the connection that committed;"
        " for a Session use projector_reader.sqlalchemy.after_commit"
    )


def _values(row: Any) -> tuple[Any, ...]:
    if row is None:
        return ()
    found = row.values() if isinstance(row, Mapping) else row
    return tuple(v.decode() if isinstance(v, bytes | bytearray) else v for v in found)
