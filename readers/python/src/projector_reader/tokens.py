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
# PostgreSQL takes both for comments and answers with a row of nothing.
TOKEN_SQL = (
    "SELECT /*!80000 @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed */"
    " /*M!100200 'MariaDB', @@last_gtid */"
)
_SERVER_SQL = "SELECT @@server_uuid, VERSION()"
_SINCE = (8, 2)  # of MySQL: SHOW BINARY LOG STATUS; SHOW MASTER STATUS is gone since 8.4

# PostgreSQL: the end of what is written, which our commit lies before, also where it is not flushed
# (synchronous_commit=off); NULL on a standby. At the beginning of a page, or of a segment, the
# function has passed the head of 24 or 40 bytes (src/include/access/xlog_internal.h), which no
# record ends in: no checkpoint would get there before another commit. The name of the log's file
# begins with the timeline; pg_control_checkpoint() has the former one for a while.
POSTGRES_TOKEN_SQL = (
    "SELECT 'postgres|' || system_identifier || '|'"
    " || ('x' || left(pg_walfile_name(lsn), 8))::bit(32)::bigint || '|'"
    " || lsn - CASE WHEN mod(lsn - '0/0', segment) = 40 THEN 40"
    " WHEN mod(lsn - '0/0', page) = 24 THEN 24 ELSE 0 END || '|'"
    " FROM pg_control_system(), (SELECT"
    " CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END AS lsn,"
    " current_setting('wal_block_size')::int AS page,"
    " pg_size_bytes(current_setting('wal_segment_size')) AS segment) AS log"
)
_POSTGRES = ("psycopg", "psycopg2", "pg8000", "asyncpg")

Question = Generator[str, tuple[Any, ...], str]


def commit_token(connection: Any) -> str:
    """Return the token for what was committed last on this connection, to be asked for right after
    the commit. Empty where nothing was committed: nothing is waited for then.

    `connection`: of a PEP 249 driver (PyMySQL, mysqlclient, MySQL Connector, MariaDB Connector,
    psycopg, psycopg2), or SQLAlchemy's `Connection`. For a `Session` see
    `projector_reader.sqlalchemy`: its connection is back in the pool after the commit, and MariaDB
    answers for the connection alone.

    MySQL without GTIDs: file and offset, which needs the privilege REPLICATION CLIENT. PostgreSQL:
    any connection to the server does; raises ReaderError on a standby.
    """
    raw = _driver_connection(connection)
    question = _question(is_postgres=_is_postgres(connection, raw))
    sql = next(question)
    begins = _begins_transaction(connection, raw)
    try:
        if begins:
            raw.autocommit = True
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
    finally:
        if begins:
            raw.autocommit = False


async def async_commit_token(connection: Any) -> str:
    """Return the same of an asynchronous driver's connection (aiomysql, asyncmy, psycopg,
    asyncpg)."""
    question = _question(is_postgres=_is_postgres(connection, connection))
    sql = next(question)
    begins = _begins_transaction(connection, connection)
    try:
        if begins:
            await connection.set_autocommit(True)
        while True:
            sql = question.send(_values(await _fetched(connection, sql)))
    except StopIteration as done:
        return str(done.value)
    finally:
        if begins:
            await connection.set_autocommit(False)


async def _fetched(connection: Any, sql: str) -> Any:
    if hasattr(connection, "fetchrow"):  # asyncpg has no cursors of this kind
        return await connection.fetchrow(sql)
    cursor = connection.cursor()
    if inspect.isawaitable(cursor):
        cursor = await cursor
    try:
        await cursor.execute(sql)
        return await cursor.fetchone()
    finally:
        closing = cursor.close()
        if inspect.isawaitable(closing):
            await closing


def _question(*, is_postgres: bool) -> Question:
    """Ask, without knowing how: yields SQL, takes rows, returns the token."""
    row = () if is_postgres else (yield TOKEN_SQL)
    if not row:
        [token] = yield POSTGRES_TOKEN_SQL
        if token is None:
            raise ReaderError("this server is a standby: ask the primary, where the commit is")
        return str(token)
    mode, gtids = row
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
        return connection.connection.dbapi_connection
    if hasattr(connection, "cursor"):
        return getattr(connection, "dbapi_connection", connection)
    raise TypeError(
        "commit_token needs the connection that committed;"
        " for a Session use projector_reader.sqlalchemy.after_commit"
    )


def _is_postgres(connection: Any, raw: Any) -> bool:
    """Return whether this is known to be one of PostgreSQL, to save a question."""
    if hasattr(connection, "exec_driver_sql"):
        return bool(connection.dialect.name == "postgresql")
    return raw.__class__.__module__.partition(".")[0] in _POSTGRES


def _begins_transaction(connection: Any, raw: Any) -> bool:
    """Return whether the driver would begin a transaction before a question: PostgreSQL's do, and
    nobody would end it."""
    if hasattr(connection, "exec_driver_sql"):
        is_idle = connection.dialect.name == "postgresql" and not connection.in_transaction()
    else:
        info = getattr(raw, "info", None)
        is_idle = getattr(info, "transaction_status", None) == 0  # libpq's PQTRANS_IDLE
    return is_idle and not getattr(raw, "autocommit", True)


def _values(row: Any) -> tuple[Any, ...]:
    if row is None:
        return ()
    found = row.values() if isinstance(row, Mapping) else row
    return tuple(v.decode() if isinstance(v, bytes | bytearray) else v for v in found)
