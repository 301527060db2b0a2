"""An API over the documents: reads Redis alone, however many tables a ticket is made of.

    pip install 'projector[examples]'
    TICKETS_REDIS_URL=redis://reader:...@localhost:6379/1 \
      uvicorn --app-dir deploy/examples tickets_api:app

- `GET /tickets/7` gives a ticket; `GET /tickets?cursor=0` a page of them.
- `GET /tickets/7?after=...` answers once a commit of one's own has arrived: `after` is what the
  database said after it: `SELECT @@GLOBAL.gtid_executed` on MySQL, `SELECT @@last_gtid` on MariaDB.
- `GET /changes` tells which tickets have changed, as server-sent events (needs
  PROJECTOR_CHANGE_FEED_MAX_LENGTH); a browser's EventSource goes on by itself where it broke off.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import redis.asyncio as redis
from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from projector.position import GtidSet, MariadbGtids, Position
from schema.document import TicketDocument

HASH, CHECKPOINT, CHANGES = "tickets", "{tickets}:checkpoint", "{tickets}:changes"
POLL_S = 0.005  # a commit arrives within milliseconds; HGET of the checkpoint costs 50 us
KEEP_ALIVE_MS = 15_000  # proxies cut a line that is silent for long


class Page(BaseModel):
    """Some tickets, in no order. `cursor` asks for the next ones; 0: that was all."""

    cursor: int
    tickets: list[TicketDocument]


@asynccontextmanager
async def lifespan(service: FastAPI) -> AsyncIterator[None]:
    """One pool of connections for the service's life."""
    url = os.environ.get("TICKETS_REDIS_URL", "redis://localhost:6379/1")
    service.state.redis = redis.Redis.from_url(url)
    yield
    await service.state.redis.aclose()


app = FastAPI(title="Tickets", lifespan=lifespan)


def store(request: Request) -> redis.Redis:
    """Give the connection pool."""
    client: redis.Redis = request.app.state.redis
    return client


Store = Annotated[redis.Redis, Depends(store)]


@app.get("/tickets/{ticket_id}", responses={404: {}, 503: {}})
async def ticket(
    ticket_id: Annotated[int, Path(ge=0)],
    client: Store,
    after: Annotated[str | None, Query(description="GTIDs that the answer must include")] = None,
    wait_s: Annotated[float, Query(ge=0, le=10)] = 2.0,
) -> TicketDocument:
    """Give one ticket, if asked for only once a commit has arrived."""
    if after is not None:
        await arrival(client, after, wait_s)
    document = await client.hget(HASH, str(ticket_id))
    if document is None:
        raise HTTPException(404, "no such ticket")
    return TicketDocument.model_validate_json(document)


@app.get("/tickets")
async def tickets(client: Store, cursor: int = 0, count: int = 100) -> Page:
    """Give some tickets: HSCAN, so that no request holds Redis up, whatever the hash's size."""
    cursor, documents = await client.hscan(HASH, cursor, count=min(count, 1000))
    return Page(
        cursor=cursor,
        tickets=[TicketDocument.model_validate_json(each) for each in documents.values()],
    )


@app.get("/changes")
async def changes(
    client: Store, last_event_id: Annotated[str | None, Header(pattern=r"^\d+-\d+$")] = None
) -> StreamingResponse:
    """Tell which tickets change from now on, or since the event that the client saw last."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = server_sent(client, last_event_id)
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def arrival(client: redis.Redis, after: str, wait_s: float) -> None:
    """Wait until the hash includes these GTIDs, else answer 503."""
    deadline = time.monotonic() + wait_s
    while True:
        text = await client.hget(CHECKPOINT, "position")
        if text is not None and includes(Position.parse(text.decode()), after):
            return
        if time.monotonic() >= deadline:
            raise HTTPException(503, "not yet", headers={"Retry-After": "1"})
        await asyncio.sleep(POLL_S)


def includes(position: Position, after: str) -> bool:
    """Whether everything that these GTIDs name is in the hash."""
    try:
        match position.gtids:
            case GtidSet() as reached:
                return reached.contains(GtidSet.parse(after))
            case MariadbGtids() as reached:
                return reached.contains(MariadbGtids.parse(after))
            case None:
                raise HTTPException(400, "this database has no GTIDs to wait for")
    except ValueError:
        raise HTTPException(400, "after: not the GTIDs of this database") from None


async def server_sent(client: redis.Redis, last_id: str | None) -> AsyncIterator[str]:
    """Turn the stream's entries into events; without end, until the client goes."""
    if last_id is None:
        newest = await client.xrevrange(CHANGES, count=1)
        last_id = newest[0][0].decode() if newest else "0-0"
        yield f"id: {last_id}\nevent: ready\ndata: {{}}\n\n"
    elif await is_trimmed(client, last_id):
        yield "event: reload\ndata: {}\n\n"  # some changes are gone from the stream
    while True:
        found = await client.xread({CHANGES: last_id}, count=500, block=KEEP_ALIVE_MS)
        if not found:
            yield ": still here\n\n"
            continue
        for entry_id, fields in found[0][1]:
            last_id = entry_id.decode()
            yield event(last_id, fields)


async def is_trimmed(client: redis.Redis, last_id: str) -> bool:
    """Whether entries after this one have left the stream."""
    oldest = await client.xrange(CHANGES, count=1)
    return not oldest or order(oldest[0][0].decode()) > order(last_id)


def order(entry_id: str) -> tuple[int, int]:
    """Make ids of a stream comparable: milliseconds and number."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def event(entry_id: str, fields: dict[bytes, bytes]) -> str:
    """Write one server-sent event: the ids written and removed by one write of the projector."""
    data = {name.decode(): json.loads(ids) for name, ids in fields.items()}
    return f"id: {entry_id}\nevent: change\ndata: {json.dumps(data)}\n\n"
