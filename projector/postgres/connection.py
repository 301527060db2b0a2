"""Connections to PostgreSQL. The only module that imports psycopg.

By libpq itself (psycopg's `pq`): rows come as the server's own text, several statements travel in
one message, and the replication stream is read without a detour. Never waits without a time limit.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product, starmap
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from projector.errors import ConfigurationError, RefusedError, TooMuchError, TransientError
from projector.postgres.errors import PEER, SILENT, refusal
from projector.postgres.results import Kinds
from projector.projection.encoding import Raw, SentRows

NAME: Final = "projector"  # the application's
_CHUNK_ROWS = 64  # come together, and may be too much together

# Stated on every connection, so that no setting of the server, the database or the role changes
# what a query returns or whether it runs.
_SESSION: Final = {
    "client_encoding": "UTF8",
    "datestyle": "ISO,YMD",
    "timezone": "UTC",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "xmloption": "content",
    "row_security": "off",  # an error instead of rows left out in silence
    "transform_null_equals": "off",
    "array_nulls": "on",
    "xmlbinary": "base64",
    "gin_fuzzy_search_limit": "0",
    "default_transaction_isolation": "repeatable read",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "60s",
    "idle_in_transaction_session_timeout": "0",
    "jit": "off",
    "synchronous_commit": "local",  # of what is told in the log, see `PostgresLog`
}
_TLS = "Correct sslmode and the files of certificates after the ? of PROJECTOR_SOURCE__URL."
_LOGIN = "Correct user, password and database in PROJECTOR_SOURCE__URL, and pg_hba.conf."


def connect(
    conninfo: str,
    patience_s: float = 30.0,
    *,
    schema: str = "public",
    is_replication: bool = False,
    connect_timeout_s: float | None = None,
) -> Session:
    """Open a connection, to read tables of `schema` or as a replica; `patience_s`: the longest
    silence in an answer. Raises TransientError, ConfigurationError or RefusedError."""
    with translated():
        raw = _opened(_arguments(conninfo, patience_s, schema, is_replication=is_replication),
                      patience_s if connect_timeout_s is None else connect_timeout_s)  # fmt: skip
    session = Session(raw, patience_s)
    if (raw.parameter_status(b"server_encoding") or b"") == b"SQL_ASCII":
        session.close()
        raise RefusedError(
            "the database's encoding is SQL_ASCII: nobody knows what its texts say",
            "Move the tables to a database with an encoding, best UTF8.",
        )
    return session


def _arguments(conninfo: str, patience_s: float, schema: str, *, is_replication: bool) -> bytes:
    spelled = schema.replace('"', '""')
    settings = {**_SESSION, "search_path": f'"{spelled}"'}
    if is_replication:
        settings["lock_timeout"] = "0"  # a slot is made once all who write have ended
    parameters: dict[str, Any] = {
        "options": " ".join(f"-c {name}={_escaped(value)}" for name, value in settings.items()),
        "application_name": NAME,
        "client_encoding": "UTF8",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": round(patience_s * 1000),
    }
    if is_replication:
        parameters["replication"] = "database"
    try:
        return make_conninfo(conninfo, **parameters).encode()
    except psycopg.ProgrammingError as error:  # libpq's, which quotes names of parameters at most
        raise ConfigurationError(
            f"PROJECTOR_SOURCE__URL cannot be read: {_message(str(error).encode())}",
            "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
        ) from None


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _opened(arguments: bytes, timeout_s: float) -> Any:
    """Connect step by step: nothing else of the process stands still meanwhile."""
    raw = pq.PGconn.connect_start(arguments)
    deadline = time.monotonic() + timeout_s
    waiting: int = pq.PollingStatus.WRITING
    while raw.status != pq.ConnStatus.BAD:
        if waiting == pq.PollingStatus.OK:
            raw.nonblocking = 1
            return raw
        event = select.POLLIN if waiting == pq.PollingStatus.READING else select.POLLOUT
        if not _ready(raw.socket, event, deadline):
            raw.finish()
            raise TransientError(PEER, "PostgreSQL does not accept a connection in time")
        waiting = raw.connect_poll()
    message = _message(raw.get_error_message().encode())
    raw.finish()
    raise _unopened(message)


def _ready(file: int, event: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(file, event)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _unopened(message: str) -> Exception:
    """Say what is wrong before there is a session. libpq tells no SQLSTATE of that, and where the
    server's texts are translated it is all the same: try again, and say so."""
    lowered = message.lower()
    if any(part in lowered for part in ("certificate", "ssl error", "does not support ssl")):
        return RefusedError(f"no TLS with PostgreSQL: {message}", _TLS)
    is_login = any(
        part in lowered
        for part in (
            "authentication failed", "no pg_hba.conf entry", "no password supplied",
            "is not permitted to log in", "permission denied",
        )
    )  # fmt: skip
    is_missing = "does not exist" in lowered and ("database" in lowered or "role" in lowered)
    if is_login or is_missing or "must be superuser or replication role" in lowered:
        return RefusedError(f"PostgreSQL refuses access: {message}", _LOGIN)
    return TransientError(PEER, f"PostgreSQL is away or busy: {message}")


def _message(raw: bytes) -> str:
    return " ".join(raw.decode("utf-8", "replace").split())


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise TransientError(PEER, f"connection lost: {_message(str(error).encode())}") from error
    except OSError as error:
        raise TransientError(PEER, f"connection lost: {type(error).__name__}") from error


class Answer(list[tuple[Raw, ...]]):
    """The rows of one statement, as the server's text, and the OIDs of their types."""

    oids: tuple[int, ...] = ()


class Session:
    """One connection. For one thread. Unusable after an error."""

    def __init__(self, raw: Any, patience_s: float) -> None:
        self.raw = raw
        self.kinds = Kinds()
        self._patience_s = patience_s

    def run(
        self,
        *statements: str,
        max_bytes: float = math.inf,
        on_tick: Callable[[], None] | None = None,
    ) -> list[Answer]:
        """Run statements in one message; return the rows of each.

        `on_tick` is called now and then, and the wait has no other end. Raises TransientError,
        RefusedError, TooMuchError for more than `max_bytes`, and what `on_tick` does.
        """
        with translated():
            self.raw.send_query(";".join(statements).encode())
            self._flush()
            self._stream_rows()
            return self._answers(max_bytes, on_tick)

    def ask(self, statement: str, on_tick: Callable[[], None] | None = None) -> list[list[Any]]:
        """Run one statement; return its rows as the server's texts, None for NULL."""
        [rows] = self.run(statement, on_tick=on_tick)
        return [[None if v is None else v.decode() for v in row] for row in rows]

    def rows(self, *statements: str, max_bytes: float = math.inf) -> list[SentRows]:
        """Run statements in one message; return the rows of each, as encoders want them."""
        answers = self.run(*statements, max_bytes=max_bytes)
        self.kinds.need({oid for answer in answers for oid in answer.oids}, self.ask)
        return [self.kinds.fixed(answer, answer.oids) for answer in answers]

    def begin_copy(self, statement: str) -> None:
        """Run what makes the server send its log. Raises what `run` raises."""
        with translated():
            self.raw.send_query(statement.encode())
            self._flush()
            result = self._result(None)
            if result is None or result.status != pq.ExecStatus.COPY_BOTH:
                raise _refused(result) if result else TransientError(PEER, "no answer")

    def end_of_copy(self) -> Exception:
        """Return why the server has ended its log."""
        try:
            with translated():
                result = self._result(None)
        except TransientError as error:
            return error
        if result is None or result.status != pq.ExecStatus.FATAL_ERROR:
            return TransientError(PEER, "the server ended the stream of its log")
        return _refused(result)

    def cancel(self) -> None:
        """Ask the server to give up what it does for this connection."""
        try:
            with translated():
                self.raw.get_cancel().cancel()
        except TransientError:
            pass  # it ends with the connection, or with what it waits for

    def close(self) -> None:
        """Drop the connection."""
        self.raw.finish()

    def read(self) -> None:
        """Take what has come. Raises TransientError where the line broke off."""
        with translated():
            self.raw.consume_input()

    def _stream_rows(self) -> None:
        """Have rows handed over as they come, few at a time."""
        try:
            self.raw.set_chunked_rows_mode(_CHUNK_ROWS)
        except psycopg.NotSupportedError:  # libpq before 17
            self.raw.set_single_row_mode()

    def _answers(self, max_bytes: float, on_tick: Callable[[], None] | None) -> list[Answer]:
        found: list[Answer] = []
        failure: Exception | None = None
        answer: Answer | None = None
        while (result := self._result(on_tick)) is not None:
            status = result.status
            if status in _ROWS:
                answer = Answer() if answer is None else answer
                max_bytes -= _take(answer, result)
                if max_bytes < 0:
                    raise TooMuchError(PEER, "a result has no room in memory", answered=True)
                if status != pq.ExecStatus.TUPLES_OK:
                    continue
            elif status == pq.ExecStatus.FATAL_ERROR:
                failure = failure or _refused(result)
            found.append(Answer() if answer is None else answer)
            answer = None
        if failure is not None:
            raise failure
        return found

    def _result(self, on_tick: Callable[[], None] | None) -> Any:
        deadline = time.monotonic() + self._patience_s
        while self.raw.is_busy():
            until = deadline if on_tick is None else time.monotonic() + _TICK_S
            if _ready(self.raw.socket, select.POLLIN, until):
                self.raw.consume_input()
            elif on_tick is not None:
                on_tick()
            else:
                raise TooMuchError(PEER, SILENT)
        return self.raw.get_result()

    def _flush(self) -> None:
        deadline = time.monotonic() + self._patience_s
        while self.raw.flush() == 1:
            if not _ready(self.raw.socket, select.POLLIN | select.POLLOUT, deadline):
                raise TransientError(PEER, "PostgreSQL does not take a query")
            self.raw.consume_input()


_TICK_S = 0.1
_ROWS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.SINGLE_TUPLE, pq.ExecStatus.TUPLES_CHUNK)


def _take(answer: Answer, result: Any) -> int:
    """Add rows; return how many bytes they have."""
    columns = range(result.nfields)
    if not answer.oids:
        answer.oids = tuple(map(result.ftype, columns))
    values = list(starmap(result.get_value, product(range(result.ntuples), columns)))
    answer.extend(zip(*[iter(values)] * len(columns), strict=True))
    return sum(map(len, filter(None, values)))


def _refused(result: Any) -> Exception:
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    text = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
    return refusal(state, _message(text or result.get_error_message().encode()))
