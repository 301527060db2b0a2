"""Connections for queries, and what the server's errors mean.

Values come back as the server's own text (see `projection.encoding`), times in UTC. Never leaves a
query without a time limit.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql
import sqlalchemy as sa
from pymysql.connections import MySQLResult
from pymysql.constants import CLIENT, COMMAND, CR, ER, SERVER_STATUS
from pymysql.converters import encoders
from sqlalchemy.engine import URL, Engine

from projector.errors import ConfigurationError, OperatorError, TransientError
from projector.settings import Mysql, Tls

Rows = Sequence[Sequence[Any]]
RawRow = tuple[bytes | None, ...]
RawRows = Sequence[RawRow]
ServerError = pymysql.err.Error  # one that `meaning` has nothing to say about

_LOGIN = "Correct user and password in PROJECTOR_MYSQL__URL"
_UNLOCK = "The account is locked: ALTER USER ... ACCOUNT UNLOCK."
_GRANT = "`projector check` names the GRANT that is missing."
# What to do about each error that waiting does not help against.
_REMEDIES = {
    ER.ACCESS_DENIED_ERROR: f"{_LOGIN}; the account must be allowed from this machine, too, and one"
    " that requires TLS needs PROJECTOR_MYSQL__TLS__CA.",
    1698: f"{_LOGIN}: this account has no password login.",
    1251: f"{_LOGIN}, or the account's authentication plugin (caching_sha2_password works).",
    CR.CR_AUTH_PLUGIN_CANNOT_LOAD: "Give the account another authentication plugin"
    " (caching_sha2_password or mysql_native_password works).",
    1820: "The account's password has expired: ALTER USER ... IDENTIFIED BY ...",
    1862: "The account's password has expired: ALTER USER ... IDENTIFIED BY ...",
    3118: _UNLOCK,
    4151: _UNLOCK,
    1129: "The server blocks this machine after failed connections: FLUSH HOSTS there.",
    1130: "Allow the account from this machine: CREATE USER ...@'host'.",
    3159: "The server wants TLS: set PROJECTOR_MYSQL__TLS__CA.",
    ER.DBACCESS_DENIED_ERROR: f"Correct the database in PROJECTOR_MYSQL__URL; or {_GRANT}",
    ER.TABLEACCESS_DENIED_ERROR: _GRANT,
    ER.COLUMNACCESS_DENIED_ERROR: f"GRANT SELECT on the whole table; {_GRANT}",
    ER.SPECIFIC_ACCESS_DENIED_ERROR: _GRANT,
}
_SCHEMA = {ER.NO_SUCH_TABLE, ER.BAD_FIELD_ERROR, ER.UNKNOWN_TABLE}
# Lock wait, deadlock, killed query, too many connections, shutdown, read timeout, purged snapshot.
_BUSY = {1205, 1213, 1317, 1040, 1053, 1077, 1079, 1152, 1159, 1161, 1203, 1226, 1412, 1836, 1927,
         3024, 3169, 4031}  # fmt: skip
_CLIENT_LOST = range(2000, 2062)


def engine(url: URL, settings: Mysql) -> Engine:
    """Make an engine whose connections suit this program's queries; connects to nothing yet."""
    created = sa.create_engine(
        url.set(drivername="mysql+pymysql"),
        creator=lambda: connect(url, settings, conv=dict(encoders)),
        isolation_level="AUTOCOMMIT",
        pool_size=4,
        max_overflow=-1,  # each projection keeps some; none waits for those of another
        pool_reset_on_return=None,
        skip_autocommit_rollback=True,
    )
    sa.event.listen(created, "connect", _prepare_session)
    return created


class _Driver(pymysql.Connection):
    """PyMySQL's connection, with one TLS context for all that verify nothing: each new one loads
    the system's certificates for 20 ms."""

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        pymysqls: Any = super()
        context: ssl.SSLContext = pymysqls._create_ssl_ctx(sslp) if sslp else _unverified()
        return context


@functools.cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(url: URL, settings: Mysql, **more: Any) -> pymysql.Connection[Any]:
    """Open a connection; it speaks TLS where the server does. Raises the driver's errors."""
    url = url.set(drivername="mysql+pymysql")
    try:
        _, arguments = url.get_dialect()().create_connect_args(url)
        arguments.pop("client_flag", None)
        return _Driver(**{**arguments, **connect_arguments(settings), **more})
    except (TypeError, ValueError) as error:  # what stands after the ? is given to the driver
        if not url.query:
            raise
        raise ConfigurationError(
            "PROJECTOR_MYSQL__URL: the driver does not take the parameters after the ?:"
            f" {', '.join(url.query)}",
            "Leave them out; TLS and time limits have settings of their own.",
        ) from error


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
            f"a TLS file of PROJECTOR_MYSQL__TLS cannot be used: {error} ("
            f"{', '.join(str(path) for path in (tls.ca, tls.cert, tls.key) if path)})",
            "Name PEM files that this user may read.",
        ) from None
    return context


def _prepare_session(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        # An empty sql_mode: no ANSI_QUOTES, and zero dates come out to be reported. Quotes in
        # SHOW CREATE TABLE, by which foreign keys are found.
        cursor.execute("SET SESSION sql_mode='', time_zone='+00:00', sql_quote_show_create=1")
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


def code_of(error: Exception) -> int:
    """Return the server's number of what stands behind an error, 0 where it said nothing."""
    origin = error if isinstance(error, pymysql.err.Error) else error.__cause__
    if isinstance(origin, pymysql.err.Error) and origin.args and isinstance(origin.args[0], int):
        return origin.args[0]
    return 0


def meaning(error: pymysql.err.Error) -> Exception:
    """Say what must be done about an error of the server or the driver."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = str(error.args[1]) if len(error.args) > 1 else type(error).__name__
    if (refusal := _refusal(code, text)) is not None:
        return refusal
    if code in _BUSY or code in _CLIENT_LOST or isinstance(error, pymysql.err.InterfaceError):
        return TransientError("mysql", f"MySQL is away or busy ({code}: {text})")
    if code == 0:
        return TransientError("mysql", f"connection lost: {text}")
    return error


def _refusal(code: int, text: str) -> OperatorError | None:
    """Say what to do about an error that waiting does not help against."""
    if code in _REMEDIES:
        return OperatorError(f"MySQL refuses access ({code}: {text})", _REMEDIES[code])
    if code == ER.BAD_DB_ERROR:
        return OperatorError(
            f"MySQL has no such database ({code}: {text})",
            "Correct the database in PROJECTOR_MYSQL__URL, or create it.",
        )
    if code in _SCHEMA:
        return OperatorError(
            f"the projection does not fit the database ({code}: {text})",
            "Mend the projection or migrate the database; `projector check` lists what is missing.",
        )
    if code == CR.CR_SSL_CONNECTION_ERROR or "certificate" in text.lower():
        return OperatorError(
            f"no TLS with MySQL: {text}",
            "Name the CA of the server's certificate in PROJECTOR_MYSQL__TLS__CA, and the server by"
            " a name that the certificate has; or see whether the server has TLS at all.",
        )
    return None


class Connection:
    """One connection for queries, made when needed and dropped at the first error."""

    def __init__(self, source: Engine) -> None:
        self._engine = source
        self._raw: Any = None

    def query(self, *statements: str) -> list[Rows]:
        """Run statements in one round trip; give the rows of each, as text."""
        return [
            [tuple(v.decode() if v is not None else None for v in row) for row in rows]
            for rows in self.query_raw(*statements)
        ]

    def query_raw(self, *statements: str) -> list[RawRows]:
        """The same, with values as the bytes that the server sent (None: NULL).

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


def _results(driver: Any, sql: str) -> list[RawRows]:
    driver._execute_command(COMMAND.COM_QUERY, sql)
    results: list[RawRows] = []
    while True:
        result = _Result(driver)
        result.read()
        results.append(result.raw_rows)
        if not result.has_next:
            return results


class _Result(MySQLResult):
    """A result whose rows are split by one generated function and not converted.

    PyMySQL spends three quarters of the time of a wide query on objects for packets and columns.
    """

    def __init__(self, driver: Any) -> None:
        super().__init__(driver)
        self.raw_rows: RawRows = ()

    def _read_result_packet(self, first_packet: Any) -> None:
        # The text resultset, MySQL internals manual "Protocol::COM_QUERY Response": the number of
        # columns, a definition of each, EOF, rows, EOF.
        count = first_packet.read_length_encoded_integer()
        driver: Any = self.connection
        for _ in range(count + 1):
            driver._read_packet()
        self.raw_rows = self._split_rows(driver, _splitter(count))

    def _split_rows(self, driver: Any, split: Callable[[bytes], RawRow]) -> RawRows:
        rows: list[RawRow] = []
        read, number = driver._rfile.read, driver._next_seq_id
        while True:
            head = read(4)
            size = int.from_bytes(head[:3], "little")
            body = read(size)
            if len(head) < 4 or len(body) < size or head[3] != number:
                raise pymysql.err.OperationalError(
                    CR.CR_SERVER_LOST, "the connection broke off within a result"
                )
            number = (number + 1) & 0xFF
            while size == 0xFFFFFF:  # a packet of 16 MiB goes on in the next one
                head = read(4)
                size = int.from_bytes(head[:3], "little")
                body += read(size)
                number = (number + 1) & 0xFF
            if body[0] == 0xFE and len(body) < 9:
                driver._next_seq_id = number
                self.has_next = bool(body[3] & SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS)
                return rows
            if body[0] == 0xFF:
                driver._next_seq_id = number
                pymysql.err.raise_mysql_exception(body)
            rows.append(split(body))


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
