"""Tokens of the commits of SQLAlchemy's sessions. Needs SQLAlchemy 2.

Session = sessionmaker(engine)
after_commit(Session)

with Session.begin() as session:
    session.add(ticket)
tickets.get(ticket_id, after=last_token(session))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction

from projector_reader.errors import ReaderError
from projector_reader.tokens import commit_token

__all__ = ["after_commit", "last_token"]

_CONNECTIONS = "projector_reader.connections"
_TOKEN = "projector_reader.token"
_DIALECTS = ("mysql", "mariadb", "postgresql")


def after_commit(
    sessions: Any = Session, then: Callable[[Session, str], None] | None = None
) -> None:
    """Ask for the token after each commit of these sessions, on the connection that committed.

    `sessions`: a sessionmaker, a class of sessions or one session, asynchronous ones too; an
    `async_sessionmaker` without a `sync_session_class` of its own stands for all sessions. `then`
    is called with each token, for instance to put it into a cookie; `last_token` has it in any
    case.

    Costs one round trip a commit. What goes wrong in asking never makes the commit fail: it comes
    out of `last_token`, which refuses sessions on several such databases at once, too.
    """

    def began(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        if connection.dialect.name in _DIALECTS:
            found: list[Connection] = session.info.setdefault(_CONNECTIONS, [])
            if connection not in found:
                found.append(connection)

    def committed(session: Session) -> None:
        if session.in_nested_transaction():
            return  # a savepoint
        # In a transaction that the caller of the session has begun nothing is committed yet.
        begun: list[Connection] = session.info.pop(_CONNECTIONS, [])
        connections = [each for each in begun if not each.in_transaction()]
        if not connections:
            return
        session.info[_TOKEN] = _asked(connections)
        if then is not None and isinstance(session.info[_TOKEN], str):
            then(session, session.info[_TOKEN])

    def ended(session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            session.info.pop(_CONNECTIONS, None)

    target = _target(sessions)
    event.listen(target, "after_begin", began)
    event.listen(target, "after_commit", committed)
    event.listen(target, "after_transaction_end", ended)


def last_token(session: Any) -> str:
    """Return the token of the session's last commit; empty when it has committed nothing.

    Raises ReaderError when the database could not be asked; the commit stands all the same.
    """
    found = getattr(session, "sync_session", session).info.get(_TOKEN, "")
    if isinstance(found, Exception):
        raise ReaderError("the commit's token could not be asked for") from found
    return str(found)


def _asked(connections: list[Connection]) -> str | Exception:
    if len(connections) > 1:
        return ReaderError("the session has committed on several databases at once")
    try:
        return commit_token(connections[0])
    except Exception as error:
        return error


def _target(sessions: Any) -> Any:
    """Return the sessions that SQLAlchemy takes listeners for: never asynchronous ones. Their
    module is not imported: it needs greenlet, which the others do not."""
    if hasattr(sessions, "sync_session"):
        return sessions.sync_session
    own = getattr(sessions, "kw", {}).get("sync_session_class")
    made = getattr(sessions, "class_", sessions)
    return own or getattr(made, "sync_session_class", sessions)
