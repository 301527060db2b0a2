"""Connections for queries, and what the server's errors mean.

Values come back as the server's own text (see `projection.encoding`), times in UTC. Never leaves a
query without a time limit.
"""

from __future__ import annotations

import functools
import math
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql
import sqlalchemy as sa
from pymysql.constants import CLIENT, CR, ER, SERVER_STATUS
from pymysql.converters import encoders
from sqlalchemy.engine import URL, Engine

from projector.databases import Mysql, Tls
from projector.errors import (
    ConfigurationError,
    OperatorError,
    ProjectorError,
    RefusedError,
    TooMuchError,
    TransientError,
    ValueRefusedError,
)
from projector.mysql import session
from projector.mysql.errors import NAME_BY_CODE, Meaning, meaning_of
from projector.mysql.results import RawRows, results

Rows = Sequence[Sequence[Any]]
ServerError = pymysql.err.Error  # the driver's own, as the cause of ours

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
_FIT = "Mend the projection or migrate the database; `projector check` lists what is missing."
_DATABASE = "Correct the database in PROJECTOR_MYSQL__URL, or create it."
_TLS = (
    "Name the CA of the server's certificate in PROJECTOR_MYSQL__TLS__CA, and the server by a name"
    " that the certificate has; or see whether the server has TLS at all."
)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
# Seconds without a word after which the system asks whether the other side is still there, and
# between its questions: routers and balancers forget lines that are silent for a minute or more.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4}
# What may stand after the ? of a URL: the way there. Anything else would make another driver of it.
_PARAMETERS = {
    "unix_socket", "bind_address", "charset", "collation", "server_public_key", "ssl", "ssl_ca",
    "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher", "ssl_check_hostname", "ssl_disabled",
    "ssl_verify_cert", "ssl_verify_identity",
}  # fmt: skip


def engine(url: URL, settings: Mysql) -> Engine:
    """Make an engine whose connections suit this program's queries; connects to nothing yet.

    Raises ConfigurationError for parameters that the URL may not have.
    """
    _require_known(url)
    return sa.create_engine(
        url.set(drivername="mysql+pymysql"),
        creator=lambda: connect(url, settings, conv=dict(encoders)),
        isolation_level="AUTOCOMMIT",
        pool_size=4,
        max_overflow=-1,  # each projection keeps some; none waits for those of another
        pool_reset_on_return=None,
        skip_autocommit_rollback=True,
    )


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
    """Open a connection; it speaks TLS where the server does, and its session is stated (see
    `session`). Raises the driver's errors."""
    url = url.set(drivername="mysql+pymysql")
    _require_known(url)
    try:
        _, arguments = url.get_dialect()().create_connect_args(url)
        arguments.pop("client_flag", None)
        connection = _kept_alive(_Driver(**{**arguments, **connect_arguments(settings), **more}))
    except (TypeError, ValueError) as error:  # what stands after the ? is given to the driver
        if not url.query:
            raise
        raise _parameters_refused(url.query) from error
    try:
        session.state(connection)
    except BaseException:
        connection._force_close()  # type: ignore[attr-defined]
        raise
    return connection


def _kept_alive(connection: _Driver) -> _Driver:
    line = connection._sock  # type: ignore[attr-defined]
    if line.family != socket.AF_UNIX:
        for name, value in _KEEP_ALIVE.items():
            if (option := getattr(socket, name, None)) is not None:  # not every system has it
                line.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection


def _require_known(url: URL) -> None:
    if unknown := url.query.keys() - _PARAMETERS:
        raise _parameters_refused(unknown)


def _parameters_refused(names: Iterable[str]) -> ConfigurationError:
    return ConfigurationError(
        "PROJECTOR_MYSQL__URL: the driver does not take the parameters after the ?:"
        f" {', '.join(sorted(names))}",
        "Leave them out; TLS and time limits have settings of their own.",
    )


def connect_arguments(settings: Mysql) -> dict[str, Any]:
    """Return PyMySQL's arguments: limits, TLS, several statements in one round trip."""
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
    """Return a context that verifies the server's certificate and name; None when TLS is off."""
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


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours, without the server's quotes of values or addresses."""
    try:
        yield
    except pymysql.err.Error as error:
        raise meaning(error) from error
    except sa.exc.DBAPIError as error:  # of what SQLAlchemy itself asks a new server's connection
        if not isinstance(error.orig, pymysql.err.Error):
            raise
        raise meaning(error.orig) from error.orig
    except sa.exc.TimeoutError as error:
        raise TransientError("mysql", "no free connection") from error
    except TimeoutError as error:
        raise TooMuchError("mysql", _SILENT) from error
    except (OSError, EOFError) as error:
        raise TransientError("mysql", f"connection lost: {type(error).__name__}") from error


def code_of(error: Exception) -> int:
    """Return the server's number of what stands behind an error, 0 where it said nothing."""
    origin = error if isinstance(error, pymysql.err.Error) else error.__cause__
    if isinstance(origin, pymysql.err.Error) and origin.args and isinstance(origin.args[0], int):
        return origin.args[0]
    return 0


_SILENT = "MySQL does not answer within the time limit"


def meaning(error: pymysql.err.Error) -> ProjectorError:
    """Return what must be done about an error of the server or the driver."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = str(error.args[1]) if len(error.args) > 1 else type(error).__name__
    if code == CR.CR_SERVER_LOST and isinstance(error.__context__, TimeoutError):
        return TooMuchError("mysql", _SILENT)
    kind = meaning_of(code) if code else Meaning.AWAY
    if code == CR.CR_SSL_CONNECTION_ERROR or (kind is Meaning.AWAY and _is_of_tls(text)):
        return RefusedError(f"no TLS with MySQL: {text}", _TLS)
    if kind is Meaning.AWAY:
        said = f"MySQL is away ({code}: {text})" if code else f"connection lost: {text}"
        return TransientError("mysql", said)
    if kind in {Meaning.BUSY, Meaning.TOO_MUCH, Meaning.UNKNOWN}:
        return _passing(code, text, kind)
    return _refusal(code, text, kind)


def _passing(code: int, text: str, kind: Meaning) -> TransientError:
    """Return what may be otherwise in a moment; loudly if nobody knows what it is."""
    if kind is Meaning.UNKNOWN:
        said = f"MySQL answers {code}, of which nothing is known: {_masked(text)}"
        return TransientError("mysql", said, answered=True)
    hint = f". {_REMEDIES[code]}" if code in _REMEDIES else ""
    error = TooMuchError if kind is Meaning.TOO_MUCH else TransientError
    return error("mysql", f"MySQL answers {code}: {text}{hint}", answered=True)


def _refusal(code: int, text: str, kind: Meaning) -> RefusedError:
    """Return what to do about an error that hardly passes by itself."""
    if kind is Meaning.VALUE:  # its text may quote the value
        name = NAME_BY_CODE.get(code, "of a value")
        return ValueRefusedError(f"MySQL refuses a value ({code} {name})", "")
    if code == ER.BAD_DB_ERROR:
        return RefusedError(f"MySQL has no such database ({code}: {text})", _DATABASE)
    if kind is Meaning.SCHEMA:
        return RefusedError(f"the projection does not fit the database ({code}: {text})", _FIT)
    if kind is Meaning.ACCESS:
        return RefusedError(
            f"MySQL refuses access ({code}: {text})", _REMEDIES.get(code, f"{_LOGIN}; {_GRANT}")
        )
    return RefusedError(
        f"MySQL does not run a query of the projection ({code}: {_masked(text)})",
        "Correct the declaration; `projector explain` shows the queries.",
    )


def _is_of_tls(text: str) -> bool:
    return "certificate" in text.lower()


def _masked(text: str) -> str:
    """Hide what the server quotes: it may be a value."""
    return _QUOTED.sub("'...'", text)


class Connection:
    """One connection for queries, made when needed and dropped at the first error.

    `on_answer` is called after each answer: whoever waits for many sees that they come.
    """

    def __init__(self, source: Engine, on_answer: Callable[[], None] = lambda: None) -> None:
        self._engine = source
        self._on_answer = on_answer
        self._raw: Any = None
        self._keeps_snapshot = False

    def query(self, *statements: str) -> list[Rows]:
        """Run statements in one round trip; give the rows of each, as text."""
        return [
            [tuple(v.decode() if v is not None else None for v in row) for row in rows]
            for rows in self.query_raw(*statements)
        ]

    def query_raw(self, *statements: str, max_bytes: float = math.inf) -> list[RawRows]:
        """The same, with values as the bytes that the server sent (None: NULL).

        Raises TransientError or RefusedError, TooMuchError for more than `max_bytes`; the
        connection is dropped then, with its snapshot. One that has died since its last use is
        made again without a word.
        """
        sql = ";".join(statements)
        try:
            with translated():
                found = self._run(sql, max_bytes)
        except BaseException:
            self.close()
            raise
        self._on_answer()
        return found

    def close(self) -> None:
        """Drop the connection; the next query makes a new one."""
        raw, self._raw = self._raw, None
        self._keeps_snapshot = False
        if raw is not None:
            raw.invalidate()

    def _run(self, sql: str, max_bytes: float) -> list[RawRows]:
        if self._raw is not None and not self._keeps_snapshot:
            try:
                return self._send(sql, max_bytes)
            except (pymysql.err.Error, OSError) as error:
                if not _has_died(error):
                    raise
            self.close()  # by the server's wait_timeout, a KILL, a proxy that tidies up
        if self._raw is None:
            self._raw = self._engine.raw_connection()
            self._on_answer()
        return self._send(sql, max_bytes)

    def _send(self, sql: str, max_bytes: float) -> list[RawRows]:
        found, status = results(self._raw.driver_connection, sql, max_bytes)
        self._keeps_snapshot = bool(status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)
        return found


def _has_died(error: Exception) -> bool:
    """Whether a connection was closed from the other side, rather than a query refused."""
    if isinstance(error, pymysql.err.Error):
        found = meaning(error)
        return isinstance(found, TransientError) and not (
            found.answered or isinstance(found, TooMuchError)
        )
    return not isinstance(error, TimeoutError)
