"""What Redis answers, as values: checkpoint, health, changes; whatever form the client gives it.

redis-py's forms depend on its version, on RESP2 or RESP3, and on `decode_responses`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar

from projector_reader.position import Position

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Up to where the documents are complete.

    `committed_at`: when the last commit that was applied took place; on an idle database it stays.
    `updated_at`: when the checkpoint was last written. `owed`: pieces of work recorded beside it,
    of which those in the background concern nobody. `is_lost`: documents are gone by other hands,
    and will be written again.
    """

    position: Position
    committed_at: datetime | None
    updated_at: datetime | None
    owed: int
    is_lost: bool

    def age_s(self, now: float | None = None) -> float | None:
        """Return the seconds since `committed_at`: documents cannot be older than that, and are
        current all the same on a database where nothing has been committed since."""
        if self.committed_at is None:
            return None
        now = time.time() if now is None else now
        return max(0.0, now - self.committed_at.timestamp())


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the documents are kept up to date.

    `is_led`: a projector holds the lease now. `lag_s`: what it said of its lag last. Both are None
    where this user may not read them (deploy/redis.acl has a user who may).
    """

    checkpoint: Checkpoint | None
    documents: int
    is_led: bool | None
    lag_s: float | None

    def is_fresh(self, max_lag_s: float = 5.0) -> bool:
        """Return whether a projector is at work and at most so far behind."""
        is_behind = self.lag_s is None or self.lag_s > max_lag_s
        return self.checkpoint is not None and bool(self.is_led) and not is_behind


@dataclass(frozen=True, slots=True)
class Change:
    """One write of the projector: the ids of documents written and removed. `id` is the place to
    go on from. False when it has no ids: a heartbeat."""

    id: str
    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.written or self.removed)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some documents by id, in no order. `cursor` asks for the next ones; 0: that was all."""

    cursor: int
    documents: dict[str, T]


CHECKPOINT_FIELDS = ("position", "committed_at", "updated_at", "owed", "lost")


def checkpoint(values: Sequence[Any]) -> Checkpoint | None:
    """Read the values of `CHECKPOINT_FIELDS`; None when there is no checkpoint."""
    position, committed_at, updated_at, owed, lost = (value and text(value) for value in values)
    if not position:
        return None
    return Checkpoint(
        _position(position),
        _moment(committed_at),
        _moment(updated_at),
        int(owed or 0),
        lost == "1",
    )


def lag(report: Any) -> float | None:
    """Read the lag out of the daemon's report on itself."""
    try:
        found = json.loads(text(report)).get("lag_s")
    except (ValueError, AttributeError, TypeError):
        return None
    return float(found) if isinstance(found, int | float) else None


def changes(reply: Any) -> list[Change]:
    """Read what XREAD says of one stream."""
    if not reply:
        return []
    entries: Any = next(iter(reply.values())) if isinstance(reply, Mapping) else reply[0][1]
    if entries and not isinstance(entries[0][0], bytes | str):
        entries = entries[0]  # a list of lists, with RESP3
    return [_change(*entry[:2]) for entry in entries]


def entry_ids(reply: Any) -> list[str]:
    """Read the ids of what XRANGE or XREVRANGE found."""
    return [text(entry[0]) for entry in reply or ()]


def pairs(payload: Any) -> dict[str, bytes]:
    """Read the fields and values of an HSCAN."""
    items = payload.items() if isinstance(payload, Mapping) else zip(*[iter(payload)] * 2)  # noqa: B905
    return {text(key): content(value) for key, value in items}


def text(value: Any) -> str:
    """Return a reply as text; a field that is no UTF-8 was not written by a projector, and is let
    through as os.fsdecode does."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    return str(value)


def content(value: Any) -> bytes:
    """Return a reply as bytes."""
    return value.encode() if isinstance(value, str) else bytes(value)


def _change(entry_id: Any, fields: Any) -> Change:
    if not isinstance(fields, Mapping):
        fields = dict(zip(*[iter(fields or ())] * 2))  # noqa: B905
    found = {text(name): json.loads(text(ids)) for name, ids in fields.items()}
    return Change(text(entry_id), tuple(found.get("written", ())), tuple(found.get("removed", ())))


@lru_cache(maxsize=64)
def _position(found: str) -> Position:
    """Read a position; who waits reads the same one again and again."""
    return Position.parse(found)


def _moment(seconds: str | None) -> datetime | None:
    return datetime.fromtimestamp(float(seconds), UTC) if seconds else None
