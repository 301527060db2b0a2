"""Connections for queries, and what the server's errors mean.

Values come back as the server's own text (see `projection.encoding`), times in UTC. Never leaves a
query without a time limit.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql
import sqlalchemy as sa
from pymysql.constants import CLIENT, CR, ER
from pymysql.converters import encoders
from sqlalchemy.engine import URL, Engine

from projector.errors import OperatorError, TransientError
from projector.settings import Mysql, Tls

Rows = Sequence[Sequence[Any]]

_DENIED = {
    ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR, 1698, 1820, 3118,
}  # fmt: skip
_SCHEMA = {ER.NO_SUCH_TABLE, ER.BAD_FIELD_ERROR, ER.BAD_DB_ERROR, ER.UNKNOWN_TABLE}
# Lock wait, deadlock, killed query, too many connections, shutdown, read timeout, purged snapshot.
_BUSY = {1205, 1213, 1317, 1040, 1053, 1077, 1079, 1152, 1159, 1161, 1203, 1226, 1412, 1836, 1927,
         3024, 3169, 4031}  # fmt: skip
_CLIENT_LOST = range(2000, 2062)


def engine(url: URL, settings: Mysql) -> Engine:
    """Make an engine whose connections suit this program's queries; connects to nothing yet."""
    created = sa.create_engine(
        url.set(drivername="mysql+pymysql"),
        connect_args=connect_arguments(settings) | {"conv": dict(encoders)},
        isolation_level="AUTOCOMMIT",
        pool_size=4,
        max_overflow=4,
        pool_reset_on_return=None,
        skip_autocommit_rollback=True,
    )
    sa.event.listen(created, "connect", _prepare_session)
    return created


def connect_arguments(settings: Mysql) -> dict[str, Any]:
    """Give PyMySQL's arguments: limits, TLS, several statements in one round trip."""
    arguments: dict[str, Any] = {
        "charset": "utf8mb4",
        "connect_timeout": max(1, round(settings.connect_timeout_s)),
        "read_timeout": settings.read_timeout_s,
        "write_timeout": settings.read_timeout_s,
        "client_flag": CLIENT.MULTI_STATEMENTS,
        "program_name": "projector",
    }
    if (context := tls_context(settings.tls)) is not None:
        arguments["ssl"] = context
    return arguments


def tls_context(tls: Tls) -> ssl.SSLContext | None:
    """Give a context that verifies the server's certificate and name; None when TLS is off."""
    if not (tls.ca or tls.cert):
        return None
    try:
        context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
        if tls.cert and tls.key:
            context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise OperatorError(
            f"a TLS file of PROJECTOR_MYSQL__TLS cannot be used: {error}",
            "Name readable PEM files.",
        ) from None
    return context


def _prepare_session(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        # An empty sql_mode: no ANSI_QUOTES, and zero dates come out to be reported.
        cursor.execute("SET SESSION sql_mode='', time_zone='+00:00'")
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours, without the server's quotes of values or addresses."""
    try:
        yield
    except pymysql.err.Error as error:
        raise meaning(error) from error
    except sa.exc.TimeoutError as error:
        raise TransientError("mysql", "no free connection") from error
    except (OSError, EOFError) as error:
        raise TransientError("mysql", f"connection lost: {type(error).__name__}") from error


def meaning(error: pymysql.err.Error) -> Exception:
    """Say what must be done about an error of the server or the driver."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = str(error.args[1]) if len(error.args) > 1 else type(error).__name__
    if code in _DENIED:
        return OperatorError(f"MySQL refuses access ({code}: {text})", "Run `projector check`.")
    if code in _SCHEMA:
        return OperatorError(
            f"the projection does not fit the database ({code}: {text})",
            "Mend the projection or migrate the database; `projector check` lists what is missing.",
        )
    if code in (CR.CR_SSL_CONNECTION_ERROR,) or "certificate" in text.lower():
        return OperatorError(f"no TLS with MySQL: {text}", "Check PROJECTOR_MYSQL__TLS.")
    if code in _BUSY or code in _CLIENT_LOST or isinstance(error, pymysql.err.InterfaceError):
        return TransientError("mysql", f"MySQL is away or busy ({code}: {text})")
    if code == 0:
        return TransientError("mysql", f"connection lost: {text}")
    return error


class Connection:
    """One connection for queries, made when needed and dropped at the first error."""

    def __init__(self, source: Engine) -> None:
        self._engine = source
        self._raw: Any = None

    def query(self, *statements: str) -> list[Rows]:
        """Run statements in one round trip; give the rows of each (empty for those without).

        Raises TransientError or OperatorError; the connection is dropped then, with its snapshot.
        """
        try:
            with translated():
                if self._raw is None:
                    self._raw = self._engine.raw_connection()
                return _results(self._raw.driver_connection, ";".join(statements))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection; the next query makes a new one."""
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.invalidate()


def _results(driver: Any, sql: str) -> list[Rows]:
    results: list[Rows] = []
    with driver.cursor() as cursor:
        cursor.execute(sql)
        while True:
            results.append(cursor.fetchall() or ())
            if not cursor.nextset():
                return results
