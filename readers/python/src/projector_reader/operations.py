"""What both readers do, without knowing how: generators that ask for commands and pauses.

An operation yields `Call`s and `Pause`s, gets replies (or the client's exceptions) sent in, and
returns its result. `Reader` runs the steps with a blocking client, `AsyncReader` with an
asynchronous one; nothing else differs between them.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
)

from projector_reader import lists, replies
from projector_reader.errors import (
    ChangesLostError,
    DocumentError,
    InvalidTokenError,
    ViewError,
    WaitTimeoutError,
)
from projector_reader.ids import DocumentId, document_id
from projector_reader.position import parse_token
from projector_reader.replies import Change, Checkpoint, Health, Page

T = TypeVar("T")
R = TypeVar("R")
Id = TypeVar("Id", bound=DocumentId)

_MANY = 500  # documents an HMGET
_FIRST_PAUSE_S = 0.001  # a commit arrives within milliseconds; a look at the checkpoint costs 50 us
_PAUSE_S = 0.01
_BLOCK_S = 2.0  # a blocked XREAD looks up so often, to notice a stream that was lost
_ID = 2**64
_VIEWS_S = 60.0  # a view's declaration is read again then
# What no document waits for: walks in the background, and those that fill lists.
_BACKGROUND = frozenset({"scrub", "refresh", "lists"})


class PydanticModel(Protocol):
    """A Pydantic model, or whatever else reads itself from JSON."""

    @classmethod
    def model_validate_json(cls, json_data: bytes, /) -> Self:
        """Read a document."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """A command for Redis. `until`: the time.monotonic() at which its answer is of no use."""

    command: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A rest."""

    seconds: float


Operation = Generator[Call | Pause, Any, R]


def is_away(error: RedisError) -> bool:
    """Return whether the server may answer again by itself: restart, failover, busy, loading."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False  # redis-py has them among its ConnectionErrors
    if isinstance(error, BusyLoadingError | ClusterDownError | MasterDownError):
        return True
    if isinstance(error, ResponseError):
        return str(error).startswith(("LOADING", "MASTERDOWN", "CLUSTERDOWN", "UNBLOCKED", "BUSY"))
    return isinstance(error, ConnectionError | TimeoutError | RedisClusterException)


@dataclass(slots=True)
class Walk:
    """A scan on its way. `count` adapts to the size of what comes."""

    max_count: int
    max_bytes: int
    cursor: int = 0
    count: int = 16
    is_done: bool = False

    def __post_init__(self) -> None:
        if self.max_count < 1 or self.max_bytes < 1:
            raise ValueError("max_count and max_bytes must be at least 1")
        self.count = min(self.count, self.max_count)

    def adapt(self, documents: int, size: int) -> None:
        """Ask for as many next time as should fit; at most four times as many as now."""
        fitting = self.max_bytes * documents // size if size else self.max_count
        self.count = max(1, min(fitting, 4 * self.count, self.max_count))


@dataclass(slots=True)
class Feed:
    """A reading of the change stream on its way. Times are of time.monotonic()."""

    last_id: str
    count: int
    block_s: float
    heartbeat_s: float | None
    patience_s: float
    beat_at: float
    away_since: float | None = None


class Operations(Generic[T]):
    """The operations on the documents of one projection."""

    def __init__(
        self,
        name: str,
        model: type[Any] | Callable[[bytes], T] | None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        if not name:
            raise ValueError("the projection's name is empty")
        self.name = name
        validate = getattr(model, "model_validate_json", None)
        self._parse: Callable[[bytes], Any] = validate or model or json.loads
        # The braces put the keys into the cluster slot of the hash.
        self._checkpoint_key = f"{{{name}}}:checkpoint"
        self._changes_key = f"{{{name}}}:changes"
        self._debts_key = f"{{{name}}}:debts"
        self._lease_key = f"{{{name}}}:lease"
        self._daemon_key = f"{{{name}}}:daemon"
        self._has_novalues = True
        self._prefix = f"{{{name}}}:"
        self._secrets = dict(secrets or {})
        self._views: dict[str, tuple[float, list[dict[str, Any]]]] = {}  # until when they count
        self._foldings: dict[str, lists.Folding] = {}

    # -- documents

    def get(self, key: DocumentId, after: str | None, timeout_s: float) -> Operation[T | None]:
        """Read one document."""
        name = document_id(key)
        if after is not None:
            yield from self.wait(after, timeout_s, is_complete=True)
        value = yield Call(("HGET", self.name, name))
        return None if value is None else self._parsed(name, value)

    def get_many(
        self, keys: Iterable[Id], after: str | None, timeout_s: float
    ) -> Operation[dict[Id, T]]:
        """Read some documents; those that do not exist are left out."""
        names = {key: document_id(key) for key in keys}
        if after is not None:
            yield from self.wait(after, timeout_s, is_complete=True)
        found: dict[Id, T] = {}
        for some in _chunked(names.items(), _MANY):
            values = yield Call(("HMGET", self.name, *(name for _, name in some)))
            for (key, name), value in zip(some, values, strict=True):
                if value is not None:
                    found[key] = self._parsed(name, value)
        return found

    def count(self) -> Operation[int]:
        """Count the documents."""
        return int((yield Call(("HLEN", self.name))))

    def page(self, cursor: int, count: int) -> Operation[Page[T]]:
        """Read some documents from a cursor of HSCAN on."""
        following, found = yield from self._scan(cursor, count)
        parsed = {name: self._parsed(name, value) for name, value in found.items()}
        return Page(following, parsed)

    def next_documents(self, walk: Walk) -> Operation[dict[str, T]]:
        """Read the next documents of a walk; none is no sign of its end."""
        walk.cursor, found = yield from self._scan(walk.cursor, walk.count)
        walk.is_done = walk.cursor == 0
        walk.adapt(len(found), sum(map(len, found.values())))
        return {name: self._parsed(name, value) for name, value in found.items()}

    def next_ids(self, walk: Walk) -> Operation[list[str]]:
        """Read the next ids of a walk; without the documents, where Redis can (7.4, Valkey 8)."""
        if self._has_novalues:
            try:
                following, found = yield Call(
                    ("HSCAN", self.name, walk.cursor, "COUNT", walk.max_count, "NOVALUES"),
                    {"no_values": True},
                )
                walk.cursor = int(following)
                walk.is_done = walk.cursor == 0
                return [replies.text(name) for name in found]
            except ResponseError as error:
                if "syntax" not in str(error).lower():
                    raise
                self._has_novalues = False
        walk.cursor, documents = yield from self._scan(walk.cursor, walk.count)
        walk.is_done = walk.cursor == 0
        walk.adapt(len(documents), sum(map(len, documents.values())))
        return list(documents)

    def _scan(self, cursor: int, count: int) -> Operation[tuple[int, dict[str, bytes]]]:
        following, payload = yield Call(("HSCAN", self.name, cursor, "COUNT", count))
        return int(following), replies.pairs(payload)

    def _parsed(self, name: str, value: Any) -> T:
        try:
            parsed: T = self._parse(replies.content(value))
        except Exception as error:
            raise DocumentError(self.name, name) from error
        return parsed

    # -- lists

    def view(
        self, view: str, values: Sequence[lists.Value], cursor: str | None, count: int
    ) -> Operation[lists.Listed[T]]:
        """Read a page of a list."""
        parts = yield from self._parts(view)
        score, last = lists.read_cursor(cursor)
        name = lists.list_name(view, values, parts, self._foldings, self._secrets)
        keys = (2, f"{self._prefix}by:{name}", self.name)
        asked = (*keys, score, last, max(1, min(count, lists.MOST)))
        total, has_more, entries, documents = yield from self._script(asked)
        found: dict[str, T] = {}
        for entry, value in zip(entries[::2], documents, strict=True):
            if value is not None:
                found[replies.text(entry)] = self._parsed(replies.text(entry), value)
        following = None
        if has_more and entries:
            following = f"{replies.text(entries[-1])}:{replies.text(entries[-2])}"
        return lists.Listed(found, following, int(total))

    def values(self, view: str, count: int) -> Operation[dict[str, int]]:
        """Read the values that have a list, and how long these are."""
        yield from self._parts(view)
        found: dict[str, int] = {}
        cursor = 0
        while True:
            key = f"{self._prefix}lists:{lists.short(view)}"
            following, payload = yield Call(("HSCAN", key, cursor, "COUNT", 500))
            for value, size in replies.pairs(payload).items():
                found[value] = int(size.split(b" ")[0])
            cursor = int(following)
            if cursor == 0 or len(found) >= count:
                return dict(itertools.islice(found.items(), count))

    def _parts(self, view: str) -> Operation[list[dict[str, Any]]]:
        """Read what a view's keys are made of; now and then, for it may be redeclared."""
        known = self._views.get(view)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        key = f"{self._prefix}views"
        said = yield Call(("HGET", key, lists.short(view)))
        if said is None:
            raise ViewError(f"{self.name!r} has no view {view!r}")
        parts: list[dict[str, Any]] = json.loads(replies.text(said))["parts"]
        for name in {part["fold"] for part in parts if "fold" in part} - self._foldings.keys():
            packed = yield Call(("HGET", key, f"fold:{name}"))
            if packed is None:  # views are being redeclared at this moment
                raise ViewError(f"{self.name!r} has no folding {name!r}")
            self._foldings[name] = lists.Folding.parse(replies.content(packed))
        self._views[view] = time.monotonic() + _VIEWS_S, parts
        return parts

    def _script(self, given: tuple[Any, ...]) -> Operation[Any]:
        """Run the script of a page, which writes nothing. Redis before 7 knows no such scripts."""
        for by_name, by_text in (("EVALSHA_RO", "EVAL_RO"), ("EVALSHA", "EVAL")):
            try:
                return (yield Call((by_name, lists.PAGE_SHA, *given)))
            except NoScriptError:
                return (yield Call((by_text, lists.PAGE, *given)))
            except RedisError as error:
                said = str(error).lower()  # by the server, or by a cluster's client
                is_unknown = "unknown command" in said or "doesn't exist in redis" in said
                if by_name == "EVALSHA" or not is_unknown:
                    raise
        raise AssertionError("unreachable")

    # -- the checkpoint

    def checkpoint(self, until: float | None = None) -> Operation[Checkpoint | None]:
        """Read the checkpoint."""
        command = ("HMGET", self._checkpoint_key, *replies.CHECKPOINT_FIELDS)
        return replies.checkpoint((yield Call(command, until=until)))

    def health(self) -> Operation[Health]:
        """Read what tells whether the documents are kept up to date."""
        checkpoint = yield from self.checkpoint()
        documents = yield from self.count()
        is_led: bool | None = None
        lag_s: float | None = None
        try:
            is_led = bool((yield Call(("EXISTS", self._lease_key))))
            report = yield Call(("GET", self._daemon_key))
            lag_s = replies.lag(report) if is_led else None
        except NoPermissionError:
            pass  # a user who may read documents alone
        return Health(checkpoint, documents, is_led, lag_s)

    def wait(self, token: str, timeout_s: float, *, is_complete: bool) -> Operation[Checkpoint]:
        """Wait until the documents include what the token names."""
        wanted = parse_token(token)
        deadline = time.monotonic() + timeout_s
        pause_s = _FIRST_PAUSE_S
        is_reached = False
        reason = "there is no checkpoint: does a projector run for this name?"
        while True:
            try:
                found = yield from self.checkpoint(deadline)
                if found is not None:
                    is_reached = found.position.includes(wanted)
                    if is_reached and (not is_complete or (yield from self._is_whole(found))):
                        return found
                    reason = (
                        "documents are still owed" if is_reached else "the checkpoint is before it"
                    )
            except RedisError as error:
                if not is_away(error):
                    raise
                reason = f"Redis is away: {type(error).__name__}"
            left_s = deadline - time.monotonic()
            if not left_s > 0:
                raise WaitTimeoutError(
                    f"the commit is not in {self.name!r} after {timeout_s:g} s: {reason}",
                    is_reached=is_reached,
                )
            yield Pause(min(pause_s, left_s))
            pause_s = min(1.6 * pause_s, _PAUSE_S)

    def _is_whole(self, checkpoint: Checkpoint) -> Operation[bool]:
        """Whether nothing before the checkpoint is owed. What is recorded as owed later, or done
        by now, does not concern it: hence the debts may be read after it."""
        if checkpoint.is_lost:
            return False
        if not checkpoint.owed:
            return True
        debts = yield Call(("HKEYS", self._debts_key))
        return all(replies.text(debt) in _BACKGROUND for debt in debts)

    # -- changes

    def feed(
        self,
        after: str | None,
        count: int,
        heartbeat_s: float | None,
        patience_s: float,
        socket_timeout_s: float | None,
    ) -> Operation[Feed]:
        """Find where to begin."""
        if after is None:
            newest = yield Call(("XREVRANGE", self._changes_key, "+", "-", "COUNT", 1))
            last_id = (*replies.entry_ids(newest), "0-0")[0]
        else:
            last_id = "{}-{}".format(*_entry_id(after))
        limits = [_BLOCK_S, *([heartbeat_s] if heartbeat_s else [])]
        if socket_timeout_s:
            limits.append(socket_timeout_s / 2)  # else the client takes silence for an absence
        block_s = max(0.001, min(limits))
        beat_at = time.monotonic()
        return Feed(last_id, count, block_s, heartbeat_s, patience_s, beat_at)

    def listen(self, feed: Feed) -> Operation[list[Change]]:
        """Wait for the next changes, a heartbeat, or nothing, for a while. Raises
        ChangesLostError; the client's error when Redis has been away for longer than patience."""
        now = time.monotonic()
        if feed.heartbeat_s is not None and now >= feed.beat_at:
            feed.beat_at = now + feed.heartbeat_s
            return [Change(feed.last_id)]
        try:
            found = yield from self._read(feed)
        except RedisError as error:
            if feed.away_since is None:
                feed.away_since = now
            away_s = time.monotonic() - feed.away_since
            if not is_away(error) or away_s >= feed.patience_s:
                raise
            yield Pause(min(1.0, 0.05 + away_s / 2))
            return []
        feed.away_since = None
        if found:
            feed.last_id = found[-1].id
            if feed.heartbeat_s is not None:
                feed.beat_at = time.monotonic() + feed.heartbeat_s
        return found

    def _read(self, feed: Feed) -> Operation[list[Change]]:
        block_ms = max(1, round(1000 * feed.block_s))
        command = ("XREAD", "COUNT", feed.count, "BLOCK", block_ms, "STREAMS")
        reply = yield Call((*command, self._changes_key, feed.last_id))
        found = replies.changes(reply)
        if feed.last_id == "0-0":
            return found  # everything that is kept was asked for
        # Read after the changes: whatever was trimmed before them, the first entry is later now.
        oldest = replies.entry_ids((yield Call(self._edge("XRANGE", "-", "+"))))
        is_lost = not oldest or _entry_id(oldest[0]) > _entry_id(feed.last_id)
        if not is_lost and not found:
            newest = replies.entry_ids((yield Call(self._edge("XREVRANGE", "+", "-"))))
            is_lost = not newest or _entry_id(newest[0]) < _entry_id(feed.last_id)
        if is_lost:
            newest = replies.entry_ids((yield Call(self._edge("XREVRANGE", "+", "-"))))
            raise ChangesLostError(
                f"changes of {self.name!r} after {feed.last_id} are no longer in the stream",
                last_id=feed.last_id,
                resume_from=(*newest, "0-0")[0],
            )
        return found

    def _edge(self, command: str, first: str, last: str) -> tuple[Any, ...]:
        return (command, self._changes_key, first, last, "COUNT", 1)


def _entry_id(text: str) -> tuple[int, int]:
    """Read the id of a stream's entry, for comparison. Raises InvalidTokenError."""
    milliseconds, _, number = text.partition("-")
    number = number or "0"
    if all(
        part.isascii() and part.isdigit() and len(part) <= 20 for part in (milliseconds, number)
    ):
        found = int(milliseconds), int(number)
        if max(found) < _ID:
            return found
    raise InvalidTokenError("not an id of the change stream")


def _chunked(items: Iterable[R], size: int) -> Iterable[Sequence[R]]:
    remaining = iter(items)
    while chunk := list(itertools.islice(remaining, size)):
        yield chunk
