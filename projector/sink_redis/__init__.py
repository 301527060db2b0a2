"""The store: a Redis hash of documents, and its checkpoint, lease and records in the same slot.

Every write is one script on the server that first asks: is the lease mine, is the checkpoint the
one I continue from? If not, it writes nothing. Never retries by itself; never keeps a connection
after an error.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from types import MappingProxyType
from typing import Any, NamedTuple

import structlog

from projector.errors import DocumentRefusedError, FencedError, TransientError
from projector.model import Applied, Batch, Checkpoint, Damage, Differences, Leader, ViewFigures
from projector.ports import Lease
from projector.position import Parse
from projector.record import read_number, read_object, text_of
from projector.settings import Redis as RedisSettings
from projector.sink_redis.act import (
    Keys,
    arguments,
    bounded,
    chunked,
    list_arguments,
    parts,
)
from projector.sink_redis.client import RedisInfo, Server
from projector.sink_redis.lease import Claim
from projector.sink_redis.lists import APPLY_LISTS
from projector.sink_redis.names import Names
from projector.sink_redis.scripts import APPLY, LOAD, SIZES
from projector.sink_redis.views import Lists, mark_of

__all__ = ["RedisInfo", "RedisSink"]

_LEAST_LIMIT_BYTES = 1024 * 1024  # no server can be told to refuse values below

log = structlog.get_logger()


_IDS_AT_ONCE = 2000  # of which one script asks


class _Done(NamedTuple):
    """What the script says of one part of a write."""

    damage: int
    removed: int
    size: int
    grown: int
    are_lists_lost: int = 0


@dataclass(slots=True)
class _Write:
    """A batch on its way: of its parts those in `done` were acknowledged."""

    batch: Batch
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    done: list[_Done] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Stamps:
    """What the stored stamp may be. `known` None: not read yet; `sent`: perhaps written."""

    known: str | None = None
    sent: str | None = None


class RedisSink:
    """One projection's store. `apply` and `load` belong to one thread; the rest to any."""

    def __init__(
        self,
        settings: RedisSettings,
        name: str,
        parse: Parse,
        *,
        change_feed_max_length: int = 0,
        views: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """`parse` reads the log's positions. `views`: how many entries of each list stay for
        certain, by view; 0: all."""
        self._keys = Keys.of(name)
        self._server = Server(settings, self._keys.looks())
        self._names = Names(self._server, self._keys.hash)
        self._lists = Lists(self._server, self._keys, views)
        self._claim = Claim(self._server, self._keys, settings.lease_ttl_s, self._lists)
        self._parse = parse
        self._feed_length = change_feed_max_length
        self._stamps = _Stamps()  # replaced as a whole: `renew` reads it in another thread
        self._write: _Write | None = None  # one that failed, or is under way
        self._checkpoint: Checkpoint | None = None
        self._left: frozenset[str] = frozenset()  # debts beside a checkpoint that cannot be read
        self._max_value_bytes = 0

    # -- lease

    @property
    def epoch(self) -> int:
        """The number of this term of leadership; grows with every new holder."""
        return self._claim.epoch

    def acquire(self) -> bool:
        """Take or keep the lease; False when another holds it."""
        return self._claim.acquire()

    def renew(self, report: str = "") -> Lease:
        """Extend the lease, and look whether the store is still the one known."""
        before = self._stamps
        held, damage, stamp, are_lists_lost = self._claim.renew(report)
        is_quiet = before is self._stamps and before.known is not None
        if is_quiet and stamp not in (before.known, before.sent):
            held = False  # Redis went back in time, or holds another's data
        return Lease(held, damage if held else Damage.NONE, held and are_lists_lost)

    def release(self) -> None:
        """Release the lease, if held. Where Redis is away, the next `acquire` has it still."""
        self._stamps, self._write = _Stamps(), None
        self._claim.release()

    def holder(self) -> str | None:
        """Return who holds the lease (host, process, a random part), or None."""
        value = self._server.call("GET", self._keys.lease)
        return text_of(value) if value else None

    def leader(self) -> Leader:
        """Return who holds the lease, and what is known of the last one who did."""
        holder, told, now = self.holder(), self.report(), time.time()
        updated_at = read_number(self.checkpoint_fields().get("updated_at"))
        waiting_for = told.get("waiting_for")
        return Leader(
            holder and holder.rpartition(":")[0],
            max(0.0, now - updated_at) if updated_at else None,
            read_number(told["lag_s"]) if told.get("lag_s") is not None else None,
            waiting_for if isinstance(waiting_for, str) else None,
        )

    # -- writing

    def load(self) -> Checkpoint | None:
        """Read the checkpoint with its debts; the next write continues from it. None where there
        is none, or one that nobody can read: then everything is rebuilt."""
        self._max_value_bytes = self._server.max_value_bytes()
        keys = [self._keys.checkpoint, self._keys.debts, self._keys.hash]
        fields, debts, size = self._server.script(LOAD, keys, [])
        found, owed = _pairs(fields), _pairs(debts)
        self._stamps, self._write = _Stamps(found.get("stamp", "")), None
        are_lists_lost = self._lists.load(found)
        self._checkpoint = _read(found, owed, size, self._parse)
        if self._checkpoint is not None and are_lists_lost:
            self._checkpoint = replace(self._checkpoint, are_lists_lost=True)
        self._left = frozenset(owed) if self._checkpoint is None else frozenset()
        if self._checkpoint is None and found.keys() - {"epoch"}:
            log.warning("record_unreadable", key=self._keys.checkpoint)
        return self._checkpoint

    def apply(self, batch: Batch) -> Applied:
        """Write a batch. Raises FencedError, DocumentRefusedError, TransientError, OperatorError.

        A batch too large for one script goes in parts, of which the last moves the checkpoint.
        """
        if self._stamps.known is None:
            raise FencedError("the checkpoint was not read in this term")
        self._refuse_large(batch.documents)
        if self._checkpoint is None and (batch.position is None or batch.fingerprint is None):
            raise ValueError("the first write of a store needs position and fingerprint")
        if self._write is None or self._write.batch is not batch:
            self._write = _Write(batch)
        write = self._write
        if self._lists.in_use:
            batch = replace(batch, places={**dict.fromkeys(batch.documents, ""), **batch.places})
        if self._left:
            batch = replace(batch, debts={**dict.fromkeys(self._left), **batch.debts})
        for part in parts(batch)[len(write.done) :]:
            write.done.append(self._apply(part, f"{write.name}-{len(write.done)}"))
        self._write, self._left = None, frozenset()
        size = write.done[-1].size
        assert self._stamps.known is not None
        self._checkpoint = _following(self._checkpoint, batch, self._stamps.known, size)
        return Applied(
            written=len(batch.documents),
            removed=sum(done.removed for done in write.done),
            documents=size,
            checkpoint=self._checkpoint,
            damage=reduce(Damage.and_then, (Damage(done.damage) for done in write.done)),
            grown=sum(done.grown for done in write.done),
            are_lists_lost=any(done.are_lists_lost for done in write.done),
        )

    def _apply(self, batch: Batch, stamp: str) -> _Done:
        if not self._claim.is_current:
            raise FencedError("the lease may have run out")
        known = self._stamps.known
        self._stamps = _Stamps(known, stamp)
        given = [self._claim.token, known, stamp]
        given += arguments(batch, _fields(batch), self._feed_length)
        script, keys = APPLY, self._keys.all()
        if self._lists.in_use or batch.places or batch.views is not None:
            script, keys = APPLY_LISTS, self._lists.keys
            given += list_arguments(batch, self._lists.keep)
        try:
            with self._lists.named(batch.places, (name for name, _ in batch.strays)):
                reply = self._server.script(script, keys, given)
        except TransientError:
            self._refuse_rejected(batch.documents)
            raise
        if reply[0] != b"ok":
            raise FencedError(text_of(reply[0]))
        self._stamps = _Stamps(stamp)
        return _Done(*(int(value) for value in reply[1:]))

    def _refuse_rejected(self, documents: Mapping[str, bytes]) -> None:
        """Find out whether a write failed because of its large values. A server hangs up on them
        (proto-max-bulk-len, client-query-buffer-limit), and need not tell its limits."""
        large = sorted(
            (len(value), document_id)
            for document_id, value in documents.items()
            if len(value) > _LEAST_LIMIT_BYTES
        )
        first, last = 0, len(large)  # large[:first] pass, large[last:] do not
        while first < last:
            middle = (first + last) // 2
            if self._server.takes(self._keys.hash, documents[large[middle][1]]):
                first = middle + 1
            else:
                last = middle
        if first < len(large):
            self._max_value_bytes = large[first][0] - 1
            self._refuse_large(documents)

    def _refuse_large(self, documents: Mapping[str, bytes]) -> None:
        limit = self._max_value_bytes
        large = frozenset(k for k, value in documents.items() if len(value) > limit)
        if large:
            raise DocumentRefusedError(large, f"larger than Redis takes ({limit} bytes)")

    # -- reading

    def read(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the stored documents among `ids`."""
        sizes = {k: size for k, size in self._sizes(ids).items() if size >= 0}
        found: dict[str, bytes] = {}
        for some in bounded(sizes):
            found |= self._values(some)
        return found

    def compare(self, documents: Mapping[str, bytes], gone: Collection[str]) -> Differences:
        """Return how the store differs; see `ports.Sink`. Those of another size are not read."""
        sizes = self._sizes([*documents, *gone])
        missing = {k for k in documents if sizes[k] < 0}
        alike = {k: sizes[k] for k, v in documents.items() if sizes[k] == len(v)}
        stale = documents.keys() - missing - alike.keys()
        for some in bounded(alike):
            stored = self._values(some)
            stale |= {k for k in some if stored.get(k) != documents[k]}
        orphan = {k for k in gone if sizes[k] >= 0}
        if self._lists.in_use:
            orphan |= self._lists.recorded([*gone])
        return Differences(frozenset(missing), frozenset(stale), frozenset(orphan))

    def _sizes(self, ids: Sequence[str]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for some in chunked(ids, _IDS_AT_ONCE):
            found = self._server.script(SIZES, [self._keys.hash], some)
            sizes.update(zip(some, map(int, found), strict=True))
        return sizes

    def _values(self, ids: Sequence[str]) -> dict[str, bytes]:
        values = self._server.call("HMGET", self._keys.hash, *ids)
        return {k: v for k, v in zip(ids, values, strict=True) if v is not None}

    def scan(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """Return some ids and the cursor to go on with; 0 when all were given."""
        if not self._lists.in_use:
            following, found = self._names.after(cursor, count)
            return following, [text_of(key) for key in found]
        place, is_listed = divmod(cursor, 2)  # the hash first, then what stands in lists
        if is_listed:
            following, ids = self._lists.listed(place, count)
            return 2 * following + 1 if following else 0, ids
        following, found = self._names.after(place, count)
        return 2 * following if following else 1, [text_of(key) for key in found]

    @property
    def has_lists(self) -> bool:
        """Whether there are views, or lists that former ones have left."""
        return self._lists.in_use

    def displaced(self, places: Mapping[str, str]) -> frozenset[str]:
        """Return those ids that do not stand in these lists; see `ports.Sink`."""
        return self._lists.displaced(places) if self._lists.in_use else frozenset()

    def strays(
        self, cursor: str | None, count: int
    ) -> tuple[str | None, int, frozenset[tuple[str, str]]]:
        """Look at some entries of lists; see `ports.Sink`."""
        return self._lists.strays(cursor, count)

    def due(self, until_us: int, limit: int) -> dict[str, str]:
        """Return ids whose documents time alone has made wrong; see `ports.Sink`."""
        return self._lists.due(until_us, limit)

    def views(self) -> dict[str, ViewFigures]:
        """Return how much each view holds."""
        return self._lists.figures()

    def count(self) -> int:
        """Return the number of documents."""
        return int(self._server.call("HLEN", self._keys.hash))

    def quarantined(self, ids: Sequence[str] | None = None) -> dict[str, str]:
        """Return the reasons by id of documents, of all or among `ids`, that could not be
        written."""
        if ids is None:
            return self._server.hash(self._keys.quarantine)
        if not ids:
            return {}
        found = self._server.call("HMGET", self._keys.quarantine, *ids)
        return {k: text_of(v) for k, v in zip(ids, found, strict=True) if v is not None}

    def debts(self) -> dict[str, str]:
        """Return what is owed, as JSON by key."""
        return self._server.hash(self._keys.debts)

    def resync_state(self) -> dict[str, str]:
        """Return the progress of the walk over everything, last or under way."""
        return self._server.hash(self._keys.resync)

    def checkpoint_fields(self) -> dict[str, str]:
        """Return the checkpoint as it is stored, for people."""
        return self._server.hash(self._keys.checkpoint)

    def report(self) -> dict[str, Any]:
        """Return what the holder of the lease, now or last, said of itself."""
        value = self._server.call("GET", self._keys.daemon)
        try:
            return read_object(text_of(value)) if value else {}
        except ValueError:  # not what a holder writes
            return {}

    def request(self, payload: Mapping[str, Any]) -> str:
        """Ask something of whoever holds the lease; give the request's key."""
        key = secrets.token_hex(8)
        self._server.call("HSET", self._keys.requests, key, json.dumps(payload))
        return key

    def requests(self) -> dict[str, str]:
        """Return what was asked, as JSON by key."""
        return self._server.hash(self._keys.requests)

    def memory(self) -> tuple[int, int]:
        """Return Redis's memory in use and its limit (0: none), in bytes."""
        info = self.info()
        return info.memory, info.memory_limit

    def unusable_key(self) -> str | None:
        """Find a key of this projection that holds something that is not the projector's."""
        return self._server.unusable_key() or self._lists.unusable_key()

    def info(self) -> RedisInfo:
        """Return what the server that keeps the hash says of itself."""
        return self._server.info(self._keys.hash)

    def close(self) -> None:
        """Free the connections."""
        self._server.close()


def _fields(batch: Batch) -> dict[str, str]:
    """Return what the checkpoint records; the script adds what only it knows."""
    fields = {"updated_at": f"{time.time():.6f}"}
    if batch.position is not None:
        fields["position"] = str(batch.position)
    if batch.fingerprint is not None:
        fields["fingerprint"] = batch.fingerprint
    if batch.committed_at is not None:
        fields["committed_at"] = f"{batch.committed_at:.6f}"
    return fields


def _following(before: Checkpoint | None, batch: Batch, stamp: str, size: int) -> Checkpoint:
    """Return the checkpoint after a write, without asking for it."""
    if before is None:
        assert batch.position is not None
        before = Checkpoint(batch.position, stamp, batch.fingerprint or "", 0.0, size)
    debts = {k: v for k, v in {**before.debts, **batch.debts}.items() if v is not None}
    return Checkpoint(
        position=batch.position or before.position,
        stamp=stamp,
        fingerprint=batch.fingerprint or before.fingerprint,
        committed_at=before.committed_at if batch.committed_at is None else batch.committed_at,
        documents=size,
        debts=debts,
        views=before.views if batch.views is None else batch.views.mark,
    )


def _read(
    found: Mapping[str, str], owed: Mapping[str, str], size: int, parse: Parse
) -> Checkpoint | None:
    """Make a checkpoint of what is stored; None where it says no place, or is not whole."""
    try:
        position = parse(found.get("position", ""))
    except ValueError:
        return None
    if not found.get("stamp"):
        return None
    return Checkpoint(
        position=position,
        stamp=found["stamp"],
        fingerprint=found.get("fingerprint", ""),
        committed_at=read_number(found.get("committed_at")),
        documents=size,
        debts=owed,
        damage=_damage(found, owed, size),
        views=mark_of(found),
    )


def _damage(found: Mapping[str, str], owed: Mapping[str, str], size: int) -> Damage:
    """Judge as the script of a write does."""
    recorded, lost = found.get("documents", ""), found.get("lost", "")
    if found.get("owed") != str(len(owed)) or lost not in ("0", "2"):
        return Damage.LOST
    count = read_number(recorded, math.inf)
    if size < count:
        return Damage.LOST
    return Damage.GREW if lost == "2" or size > count else Damage.NONE


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    texts = [text_of(value) for value in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
