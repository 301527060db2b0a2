"""An API over the documents: reads Redis alone, however many tables a ticket is made of.

    pip install binlog-projector-reader pydantic fastapi uvicorn
    TICKETS_REDIS_URL=redis://reader:...@localhost:6379/1 \
      uvicorn --app-dir deploy/examples tickets_api:app

- `GET /tickets/7` gives a ticket; `GET /tickets?cursor=0` a page of them.
- `GET /lists/by_status` gives the statuses and how many tickets each has, `/lists/by_status/open`
  a page of them, the newest first (`?cursor=` goes on), `/lists/by_department_status/17/open` those
  of two values. Needs PROJECTOR_PROJECTION=schema.lists:tickets; and `by_requester_email` the same
  TICKETS_LIST_KEY as the projector.
- `GET /tickets/7?after=...` answers once a commit of one's own has arrived: `after` is its token,
  what `projector_reader.commit_token` asked the database for.
- `GET /changes` tells which tickets have changed, as server-sent events (needs
  PROJECTOR_CHANGE_FEED_MAX_LENGTH); a browser's EventSource goes on by itself where it broke off.
- `GET /health` says whether tickets are kept up to date.

`schema.document` is the model of the reference helpdesk; put your own in its place.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import redis.asyncio as redis
from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request
from fastapi.responses import StreamingResponse
from projector_reader import (
    AsyncReader,
    Change,
    ChangesLostError,
    InvalidTokenError,
    NotComparableError,
    ViewError,
    WaitTimeoutError,
)
from pydantic import BaseModel

from schema.document import TicketDocument

KEEP_ALIVE_S = 15.0  # proxies cut a line that is silent for long


class Page(BaseModel):
    """Some tickets, in no order. `cursor` asks for the next ones; 0: that was all."""

    cursor: int
    tickets: list[TicketDocument]


class ListPage(BaseModel):
    """Some tickets of a list, the newest first. `cursor` asks for the next ones; null: that was
    all. `total`: of the whole list."""

    cursor: str | None
    total: int
    tickets: list[TicketDocument]


@asynccontextmanager
async def lifespan(service: FastAPI) -> AsyncIterator[None]:
    """One pool of connections for the service's life."""
    url = os.environ.get("TICKETS_REDIS_URL", "redis://localhost:6379/1")
    client = redis.Redis.from_url(url)
    service.state.reader = AsyncReader(client, "tickets", TicketDocument)
    yield
    await client.aclose()


app = FastAPI(title="Tickets", lifespan=lifespan)


def reader(request: Request) -> AsyncReader[TicketDocument]:
    """Return the reader of the tickets."""
    found: AsyncReader[TicketDocument] = request.app.state.reader
    return found


Tickets = Annotated[AsyncReader[TicketDocument], Depends(reader)]


@app.get("/tickets/{ticket_id}", responses={404: {}, 503: {}})
async def ticket(
    ticket_id: Annotated[int, Path(ge=0)],
    tickets: Tickets,
    after: Annotated[str | None, Query(description="Token of a commit to include")] = None,
    wait_s: Annotated[float, Query(ge=0, le=10)] = 2.0,
) -> TicketDocument:
    """Return one ticket, if asked for only once a commit has arrived."""
    try:
        document = await tickets.get(ticket_id, after=after, timeout_s=wait_s)
    except WaitTimeoutError:
        raise HTTPException(503, "not yet", headers={"Retry-After": "1"}) from None
    except (InvalidTokenError, NotComparableError) as error:
        raise HTTPException(400, f"after: {error}") from None
    if document is None:
        raise HTTPException(404, "no such ticket")
    return document


@app.get("/tickets")
async def page(tickets: Tickets, cursor: int = 0, count: int = 100) -> Page:
    """Return some tickets, whatever the hash's size."""
    found = await tickets.page(cursor, min(count, 1000))
    return Page(cursor=found.cursor, tickets=list(found.documents.values()))


@app.get("/lists/{view}", responses={404: {}})
async def values(view: str, tickets: Tickets) -> dict[str, int]:
    """Return the values that have a list, and how many tickets each has."""
    try:
        return await tickets.values(view)
    except ViewError as error:
        raise HTTPException(404, str(error)) from None


@app.get("/lists/{view}/{key:path}", responses={400: {}, 404: {}})
async def listed(
    view: str,
    key: str,
    tickets: Tickets,
    cursor: Annotated[str | None, Query(description="Of the page before")] = None,
    count: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ListPage:
    """Return a page of a list; the parts of its key are separated by /."""
    try:
        found = await tickets.view(view, *key.split("/"), cursor=cursor, count=count)
    except InvalidTokenError as error:
        raise HTTPException(400, f"cursor: {error}") from None
    except ViewError as error:
        raise HTTPException(404, str(error)) from None
    documents = list(found.documents.values())
    return ListPage(cursor=found.cursor, total=found.total, tickets=documents)


@app.get("/health", responses={503: {}})
async def health(tickets: Tickets) -> dict[str, bool]:
    """Return whether tickets are kept up to date."""
    if not (await tickets.health()).is_fresh():
        raise HTTPException(503, "tickets are not kept up to date")
    return {"fresh": True}


@app.get("/changes")
async def changes(
    tickets: Tickets, last_event_id: Annotated[str | None, Header(pattern=r"^\d+-\d+$")] = None
) -> StreamingResponse:
    """Stream which tickets change from now on, or since the event that the client saw last."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = server_sent(tickets, last_event_id)
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def server_sent(
    tickets: AsyncReader[TicketDocument], last_id: str | None
) -> AsyncIterator[str]:
    """Turn changes into events; without end, until the client goes."""
    while True:
        try:
            async for change in tickets.changes(last_id, heartbeat_s=KEEP_ALIVE_S):
                if change:
                    yield event(change.id, "change", change)
                elif last_id is None:
                    yield event(change.id, "ready", change)
                else:
                    yield ": still here\n\n"
                last_id = change.id
        except ChangesLostError as lost:  # some changes are gone from the stream
            last_id = lost.resume_from
            yield event(last_id, "reload")


def event(event_id: str, kind: str, change: Change | None = None) -> str:
    """Write one server-sent event: the ids written and removed by one write of the projector."""
    ids = {"written": change.written, "removed": change.removed} if change else {}
    return f"id: {event_id}\nevent: {kind}\ndata: {json.dumps(ids)}\n\n"
