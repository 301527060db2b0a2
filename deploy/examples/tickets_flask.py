"""The same with Flask and SQLAlchemy: a service that writes to the database and reads from Redis.

    pip install 'binlog-projector-reader[sqlalchemy]' pydantic flask pymysql
    TICKETS_REDIS_URL=redis://reader:...@localhost:6379/1 \
    TICKETS_DATABASE_URL=mysql+pymysql://app:...@localhost/helpdesk \
      flask --app deploy/examples/tickets_flask.py run

- `PATCH /tickets/7` with `{"title": ...}` writes, and answers with the document that holds it.
- `GET /tickets/7` gives a ticket; `GET /tickets` all of them, one a line, without holding them.

Whoever has just written has a cookie with the token of the commit: their next reads wait for it,
so that nobody ever misses an own write; everybody else's reads wait for nothing.
"""

import os
from collections.abc import Iterator

import redis
from flask import Flask, Response, abort, request
from projector_reader import InvalidTokenError, NotComparableError, Reader, WaitTimeoutError
from projector_reader.sqlalchemy import after_commit, last_token
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

from schema.document import TicketDocument

COOKIE = "tickets_after"

app = Flask(__name__)
client = redis.Redis.from_url(os.environ.get("TICKETS_REDIS_URL", "redis://localhost:6379/1"))
tickets = Reader(client, "tickets", TicketDocument)
sessions = sessionmaker(create_engine(os.environ["TICKETS_DATABASE_URL"], pool_pre_ping=True))
after_commit(sessions)


@app.get("/tickets/<int:ticket_id>")
def ticket(ticket_id: int) -> Response:
    """Return one ticket, with whatever this client has written."""
    return answer(ticket_id, request.cookies.get(COOKIE))


@app.patch("/tickets/<int:ticket_id>")
def change(ticket_id: int) -> Response:
    """Write the title, and return the document that holds it."""
    with sessions.begin() as session:
        session.execute(
            text("UPDATE tickets SET title = :title WHERE id = :id"),
            {"title": request.get_json()["title"], "id": ticket_id},
        )
    token = last_token(session)
    response = answer(ticket_id, token)
    # For reads of this client in the next seconds. With many servers in its history MySQL's set of
    # GTIDs may outgrow a cookie: keep it in the session's store then.
    response.set_cookie(COOKIE, token, max_age=10, httponly=True, samesite="Lax")
    return response


@app.get("/tickets")
def export() -> Response:
    """Return all tickets, one a line."""

    def lines() -> Iterator[str]:
        for _, document in tickets.scan():
            yield document.model_dump_json() + "\n"

    return Response(lines(), mimetype="application/x-ndjson")


def answer(ticket_id: int, after: str | None) -> Response:
    """Return one ticket as of a commit, 503 when that has not arrived in time."""
    try:
        document = tickets.get(ticket_id, after=after, timeout_s=2.0)
    except WaitTimeoutError:
        abort(Response("not yet\n", 503, {"Retry-After": "1"}))
    except (InvalidTokenError, NotComparableError):
        document = tickets.get(ticket_id)  # a cookie that no longer means anything
    if document is None:
        abort(404)
    return Response(document.model_dump_json(), mimetype="application/json")
