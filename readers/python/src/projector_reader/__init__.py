"""Read the documents that the projector keeps in Redis, and wait for one's own write.

    tickets = Reader(redis.Redis(db=1), "tickets", TicketDocument)
    tickets.get(7)
    tickets.get(7, after=token)   # once the commit that `token` names is in

`Reader` and `AsyncReader` have the same surface. `operations` holds what both do, and neither knows
how a command reaches Redis; `position` compares places in the log; `tokens` asks a database for the
token of a commit, and `sqlalchemy` does so after each commit of a session.
"""

from projector_reader.aio import AsyncReader
from projector_reader.errors import (
    ChangesLostError,
    DocumentError,
    InvalidTokenError,
    NotComparableError,
    ReaderError,
    ViewError,
    WaitTimeoutError,
)
from projector_reader.ids import DocumentId, document_id
from projector_reader.lists import Listed
from projector_reader.position import Position
from projector_reader.reader import Reader
from projector_reader.replies import Change, Checkpoint, Health, Page
from projector_reader.tokens import async_commit_token, commit_token

__all__ = [
    "AsyncReader",
    "Change",
    "ChangesLostError",
    "Checkpoint",
    "DocumentError",
    "DocumentId",
    "Health",
    "InvalidTokenError",
    "Listed",
    "NotComparableError",
    "Page",
    "Position",
    "Reader",
    "ReaderError",
    "ViewError",
    "WaitTimeoutError",
    "async_commit_token",
    "commit_token",
    "document_id",
]
