"""A whole Sink in memory, for tests that need its contract and no server.

Trusted only while it passes the contract suite (tests/integration/test_sink_contract.py) beside
Redis. A `MemoryStore` is the server: it outlives its sinks, can be copied and set back in time, and
can lose the next request or its reply.
"""

from __future__ import annotations

import copy
import math
import secrets
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

from projector.debt import ALL, LISTS, ORPHANS, REQUESTED
from projector.errors import DocumentRefusedError, FencedError, TransientError
from projector.model import (
    Applied,
    Batch,
    Checkpoint,
    Damage,
    Differences,
    Leader,
    Reason,
    ViewFigures,
)
from projector.ports import Lease
from projector.projection.timed import LIST

Value = TypeVar("Value")

Records = dict[str, str]


class Size(NamedTuple):
    """Of a list as recorded, with the score and id of the newest that was cut."""

    count: int
    cut: tuple[float, bytes] | None = None


@dataclass
class MemoryStore:
    """What a server keeps. `dropped`: what becomes of the next `apply`."""

    documents: dict[str, bytes] = field(default_factory=dict)
    recorded: int = 0  # documents after the last write
    owed: int = 0  # debts after the last write
    damage: Damage = Damage.NONE  # by others, and what covers it is not owed since
    checkpoint: Checkpoint | None = None
    stamp: str = ""
    epoch: int = 0
    holder: str = ""
    holder_until: float = 0.0
    debts: Records = field(default_factory=dict)
    quarantine: Records = field(default_factory=dict)
    resync: Records = field(default_factory=dict)
    requests: Records = field(default_factory=dict)
    listed: Records = field(default_factory=dict)
    lists: dict[str, dict[str, float]] = field(default_factory=dict)  # scores by id
    sizes: dict[str, Size] = field(default_factory=dict)  # as recorded, by list
    listed_recorded: int = 0
    are_lists_lost: bool = False
    definitions: Records = field(default_factory=dict)
    max_value_bytes: int = 512 * 1024 * 1024
    dropped: Literal["", "request", "reply"] = ""

    def copy(self) -> MemoryStore:
        """Return the store as it is now."""
        return copy.deepcopy(self)

    def restore(self, old: MemoryStore) -> None:
        """Go back in time, lease and all."""
        for each in fields(self):
            setattr(self, each.name, copy.deepcopy(getattr(old, each.name)))

    def wipe(self) -> None:
        """Forget everything."""
        self.restore(MemoryStore())


class MemorySink:
    """One process's view of a store."""

    def __init__(
        self,
        store: MemoryStore,
        ttl_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        views: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.store = store
        self._has_views = bool(views)
        self._keep = {view: count for view, count in views.items() if count}
        self._ttl_s = ttl_s
        self._clock = clock
        self._token = ""
        self._epoch = 0
        self._stamp: str | None = None
        self._checkpoint: Checkpoint | None = None
        self._sent: tuple[Batch, str] | None = None

    @property
    def epoch(self) -> int:
        return self._epoch

    def memory(self) -> tuple[int, int]:
        return sum(map(len, self.store.documents.values())), 0

    def acquire(self) -> bool:
        store = self.store
        holder = self._holder()
        if holder and holder != self._token:
            self._token = ""
            return False
        self._token = self._token or secrets.token_hex(16)
        if not holder:
            store.epoch = max(store.epoch, self._epoch) + 1
        store.holder, store.holder_until = self._token, self._clock() + self._ttl_s
        self._epoch = store.epoch
        return True

    def renew(self, report: str = "") -> Lease:
        store = self.store
        if not self._token or self._holder() != self._token:
            return Lease(held=False)
        store.holder_until = self._clock() + self._ttl_s
        sent = {self._sent[1]} if self._sent else set()
        is_known = self._stamp is None or store.stamp in {self._stamp, *sent}
        if not (is_known and store.stamp):
            return Lease(is_known)
        return Lease(is_known, self._damage(), self._are_lists_lost())

    def release(self) -> None:
        if self._token and self._holder() == self._token:
            self.store.holder = ""
        self._token, self._stamp, self._sent = "", None, None

    def load(self) -> Checkpoint | None:
        store = self.store
        self._stamp, self._sent = store.stamp, None
        self._checkpoint = None
        if store.checkpoint is not None:
            self._checkpoint = replace(
                store.checkpoint,
                documents=len(store.documents),
                debts=dict(store.debts),
                damage=self._damage(),
                are_lists_lost=self._are_lists_lost(),
            )
        return self._checkpoint

    def apply(self, batch: Batch) -> Applied:
        store = self.store
        limit = store.max_value_bytes
        if large := frozenset(k for k, v in batch.documents.items() if len(v) > limit):
            raise DocumentRefusedError(large, f"larger than the store takes ({limit} bytes)")
        if self._stamp is None:
            raise FencedError("the checkpoint was not read in this term")
        if self._checkpoint is None and (batch.position is None or batch.fingerprint is None):
            raise ValueError("the first write of a store needs position and fingerprint")
        if self._sent is None or self._sent[0] is not batch:
            self._sent = (batch, secrets.token_hex(8))
        stamp = self._sent[1]
        dropped, store.dropped = store.dropped, ""
        if dropped == "request":
            raise TransientError("redis", "the request was lost")
        applied = self._write(batch, stamp)
        if dropped == "reply":
            raise TransientError("redis", "the reply was lost")
        self._stamp, self._sent, self._checkpoint = stamp, None, applied.checkpoint
        return applied

    def read(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        return {k: self.store.documents[k] for k in ids if k in self.store.documents}

    def compare(self, documents: Mapping[str, bytes], gone: Collection[str]) -> Differences:
        stored = self.store.documents
        return Differences(
            frozenset(k for k in documents if k not in stored),
            frozenset(k for k, v in documents.items() if stored.get(k, v) != v),
            frozenset(k for k in gone if k in stored or k in self.store.listed),
        )

    @property
    def has_lists(self) -> bool:
        return self._has_views or bool(self.store.lists or self.store.listed)

    def displaced(self, places: Mapping[str, str]) -> frozenset[str]:
        return frozenset(k for k, place in places.items() if not self._stands(k, place))

    def strays(
        self, cursor: str | None, count: int
    ) -> tuple[str | None, int, frozenset[tuple[str, str]]]:
        every = sorted(self.store.lists.keys() | self.store.sizes.keys())
        names = every[int(cursor or 0) :][:count]
        following = int(cursor or 0) + len(names)
        lists = {name: self.store.lists.get(name, {}) for name in names}
        found = {
            (name, k) for name, ids in lists.items() for k in ids
            if name not in entries(self.store.listed.get(k, ""))
        }  # fmt: skip
        odd = {n for n, ids in lists.items() if len(ids) != self.store.sizes.get(n, Size(0)).count}
        found |= {(name, "") for name in odd} | {(f"{n.partition(':')[0]}:", "") for n in odd}
        looked = sum(map(len, lists.values())) + len(names)
        is_over = following >= len(every)
        return None if is_over else str(following), looked, frozenset(found)

    def due(self, until_us: int, limit: int) -> Mapping[str, str]:
        stored = self.store.lists.get(LIST, {})
        order = sorted((score, k) for k, score in stored.items() if score <= until_us)
        return {k: f"{score:.0f}" for score, k in order[:limit]}

    def views(self) -> Mapping[str, ViewFigures]:
        found: dict[str, ViewFigures] = {}
        for name, size in self.store.sizes.items():
            before = found.get(name.partition(":")[0], ViewFigures(0, 0))
            found[name.partition(":")[0]] = ViewFigures(
                before.members + size.count, before.lists + 1
            )
        return found

    def _stands(self, document_id: str, place: str) -> bool:
        if self.store.listed.get(document_id, "") != place:
            return False
        for name, score in entries(place).items():
            size, stored = self.store.sizes.get(name, Size(0)), self.store.lists.get(name, {})
            most = self._keep.get(name.partition(":")[0], 0)
            if len(stored) != size.count or (size.cut and size.count < (most or math.inf)):
                return False
            is_cut = size.cut is not None and (score, document_id.encode()) <= size.cut
            if stored.get(document_id, None if is_cut else math.nan) not in (score, None):
                return False
        return True

    def _are_lists_lost(self) -> bool:
        store = self.store
        if store.are_lists_lost or len(store.listed) != store.listed_recorded:
            return True
        return {k: len(v) for k, v in store.lists.items()} != {
            k: size.count for k, size in store.sizes.items()
        }

    def scan(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """The cursor is a place among the ids' hash values, so nothing that stays is left out."""
        every = self.store.documents.keys() | self.store.listed.keys()
        beyond = sorted((_place(k), k) for k in every if _place(k) > cursor)
        last = beyond[min(count, len(beyond)) - 1][0] if beyond else cursor
        ids = [k for place, k in beyond if place <= last]
        return (last if len(ids) < len(beyond) else 0), ids

    def count(self) -> int:
        return len(self.store.documents)

    def quarantined(self, ids: Sequence[str] | None = None) -> Mapping[str, str]:
        found = self.store.quarantine
        return {k: v for k, v in found.items() if ids is None or k in ids}

    def debts(self) -> Mapping[str, str]:
        return dict(self.store.debts)

    def requests(self) -> Mapping[str, str]:
        return dict(self.store.requests)

    def leader(self) -> Leader:
        return Leader(self._holder() or None)

    def _holder(self) -> str:
        return self.store.holder if self._clock() < self.store.holder_until else ""

    def refusal(self, stamp: str) -> str:
        """Say why a write is refused; empty when it is not."""
        if not self._token or self._holder() != self._token:
            return "the lease is not ours"
        if self.store.stamp not in {self._stamp, stamp}:
            return "the checkpoint is not the one known"
        return ""

    def _damage(self) -> Damage:
        store = self.store
        found = len(store.documents)
        is_unknown = not store.stamp and found > 0
        if found < store.recorded or store.owed != len(store.debts) or is_unknown:
            return Damage.LOST
        return store.damage.and_then(Damage.GREW if found > store.recorded else Damage.NONE)

    def _write(self, batch: Batch, stamp: str) -> Applied:
        store = self.store
        if refusal := self.refusal(stamp):
            raise FencedError(refusal)
        if not store.stamp:
            store.debts, store.quarantine, store.resync = {}, {}, {}
        damage = self._damage()
        removed = grown = 0
        are_lists_lost = self._are_lists_lost()
        if store.stamp != stamp:
            grown = max(0, len(store.documents) - store.recorded)
            removed = len(batch.removed & store.documents.keys())
            owed = _for_cause(batch.debts) - _for_cause(store.debts)
            is_covered = ALL in owed or (damage is Damage.GREW and ORPHANS in owed)
            store.damage = Damage.NONE if is_covered else damage
            is_thin = self._write_lists(batch)
            are_lists_lost |= is_thin
            store.are_lists_lost = are_lists_lost and (is_thin or not owed & {LISTS, ALL})
            self._write_all(batch, stamp)
        checkpoint = store.checkpoint
        assert checkpoint is not None
        known = replace(checkpoint, documents=len(store.documents), debts=dict(store.debts))
        written, size = len(batch.documents), len(store.documents)
        return Applied(written, removed, size, known, damage, grown, are_lists_lost)

    def _write_lists(self, batch: Batch) -> bool:
        """Move ids between lists; True when one that was cut has become too short."""
        store = self.store
        is_forced = batch.reason is not Reason.CHANGE
        touched: set[str] = set()
        unplaced = dict.fromkeys(batch.documents if self.has_lists else (), "")
        gone = dict.fromkeys(batch.removed, "")
        for document_id, place in {**unplaced, **batch.places, **gone}.items():
            old = store.listed.get(document_id, "")
            if old == place and not (is_forced and place):
                continue
            stands, stood = entries(place), entries(old)
            for name in stood.keys() - stands.keys():
                touched.add(name)
                store.lists.get(name, {}).pop(document_id, None)
            for name, score in stands.items():
                if is_forced or stood.get(name) != score:
                    touched.add(name)
                    self._put(name, document_id, score)
            store.listed[document_id] = place
            if not place:
                del store.listed[document_id]
        for name, document_id in batch.strays:
            touched.add(name)
            if name not in entries(store.listed.get(document_id, "")):
                store.lists.get(name, {}).pop(document_id, None)
        if batch.views is not None:
            store.definitions = dict(batch.views.definitions)
        thin = [self._settle(name) for name in sorted(touched)]
        store.listed_recorded = len(store.listed)
        return any(thin)

    def _put(self, name: str, document_id: str, score: float) -> None:
        cut = self.store.sizes.get(name, Size(0)).cut
        stored = self.store.lists.setdefault(name, {})
        if cut is not None and (score, document_id.encode()) <= cut:
            stored.pop(document_id, None)
        else:
            stored[document_id] = score

    def _settle(self, name: str) -> bool:
        stored, cut = self.store.lists.get(name, {}), self.store.sizes.get(name, Size(0)).cut
        most = self._keep.get(name.partition(":")[0], 0)
        is_thin = cut is not None and len(stored) < (most or math.inf)
        if is_thin:
            cut = None
        elif most and len(stored) > 2 * most:
            order = sorted(stored, key=lambda k: (stored[k], k.encode()))
            for document_id in order[: len(stored) - 2 * most]:
                cut = (stored.pop(document_id), document_id.encode())
        self.store.sizes[name] = Size(len(stored), cut)
        if not stored:
            self.store.lists.pop(name, None)
            del self.store.sizes[name]
        return is_thin

    def _write_all(self, batch: Batch, stamp: str) -> None:
        store, before = self.store, self.store.checkpoint
        store.checkpoint = Checkpoint(
            position=given(batch.position, before.position if before else None),
            stamp=stamp,
            fingerprint=given(batch.fingerprint, before.fingerprint if before else None),
            committed_at=batch.committed_at or (before.committed_at if before else 0.0),
            documents=0,
            views=batch.views.mark if batch.views else before.views if before else "",
        )
        store.stamp = stamp
        store.documents.update(batch.documents)
        for gone in batch.removed:
            store.documents.pop(gone, None)
        for request in batch.requests_done:
            store.requests.pop(request, None)
        records = (
            (store.debts, batch.debts),
            (store.quarantine, batch.quarantine),
            (store.resync, batch.resync),
        )
        for kept, changes in records:
            kept.update({k: v for k, v in changes.items() if v is not None})
            for key in [k for k, v in changes.items() if v is None]:
                kept.pop(key, None)
        store.recorded, store.owed = len(store.documents), len(store.debts)


def _for_cause(debts: Mapping[str, str | None]) -> set[str]:
    """Return what is owed, but for what was only asked for and may be cancelled."""
    is_requested = f'"reason":"{REQUESTED}"'
    return {k for k, v in debts.items() if v is not None and is_requested not in v}


def _place(document_id: str) -> int:
    return 1 + zlib.crc32(document_id.encode())


def entries(place: str) -> dict[str, float]:
    """Read where an id stands: scores by list."""
    found: dict[str, float] = {}
    last = ""
    for line in place.split("\n") if place else ():
        score, _, name = line.partition(" ")
        last = score or last
        found[name] = float(last)
    return found


def given(new: Value | None, known: Value | None) -> Value:
    """The new value, or the known one; the first write has all of them."""
    found = known if new is None else new
    assert found is not None
    return found
