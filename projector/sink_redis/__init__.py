"""The store: a Redis hash of documents, and its checkpoint, lease and records in the same slot.

Every write is one script on the server that first asks: is the lease mine, is the checkpoint the
one I continue from? If not, it writes nothing. Never retries by itself; never keeps a connection
after an error.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from projector.errors import DocumentRefusedError, FencedError
from projector.model import Applied, Batch, Checkpoint
from projector.ports import Lease
from projector.position import Position
from projector.settings import Redis as RedisSettings
from projector.sink_redis.client import RedisInfo, Server
from projector.sink_redis.scripts import ACQUIRE, APPLY, LOAD, RELEASE, RENEW

__all__ = ["RedisInfo", "RedisSink"]

_PART_BYTES = 32 * 1024 * 1024  # of one script call: it blocks the server while it runs
_PART_DOCUMENTS = 20_000
_LEASE_MARGIN = 0.8  # of the lease's time in which this process believes that it still has it
_FEED_IDS = 500  # ids an entry of the change feed


@dataclass(frozen=True, slots=True)
class _Keys:
    hash: str
    checkpoint: str
    lease: str
    debts: str
    quarantine: str
    resync: str
    requests: str
    changes: str

    @classmethod
    def of(cls, name: str) -> _Keys:
        return cls(
            name, *(f"{{{name}}}:{rest}" for rest in
                    ("checkpoint", "lease", "debts", "quarantine", "resync", "requests", "changes"))
        )  # fmt: skip


class RedisSink:
    """One projection's store. `apply` and `load` belong to one thread; the rest to any."""

    def __init__(
        self, settings: RedisSettings, name: str, *, change_feed_max_length: int = 0
    ) -> None:
        self._server = Server(settings)
        self._keys = _Keys.of(name)
        self._ttl_s = settings.lease_ttl_s
        self._feed_length = change_feed_max_length
        self._token = ""
        self._epoch = 0
        self._held_until = 0.0
        self._lock = threading.Lock()
        self._stamp: str | None = None  # of the checkpoint that the next write continues from
        self._sent: tuple[Batch, str] | None = None  # a write whose reply may have been lost
        self._checkpoint: Checkpoint | None = None

    # -- lease

    @property
    def epoch(self) -> int:
        """The number of this term of leadership; grows with every new holder."""
        return self._epoch

    def acquire(self) -> bool:
        """Take or keep the lease; False when another holds it."""
        with self._lock:
            token = self._token or secrets.token_hex(16)
            asked = time.monotonic()
            epoch = self._server.script(
                ACQUIRE, [self._keys.lease, self._keys.checkpoint], [token, self._ttl_ms]
            )
            if not epoch:
                self._token = ""
                return False
            self._token, self._epoch = token, int(epoch)
            self._held_until = asked + self._ttl_s * _LEASE_MARGIN
            return True

    def renew(self) -> Lease:
        """Extend the lease, and look whether the store is still the one known."""
        asked = time.monotonic()
        keys = [self._keys.lease, self._keys.checkpoint, self._keys.hash]
        reply = self._server.script(RENEW, keys, [self._token, self._ttl_ms])
        if not reply[0]:
            self._held_until = 0.0
            return Lease(held=False, intact=False)
        self._held_until = asked + self._ttl_s * _LEASE_MARGIN
        recorded, stamp = _text(reply[2]), _text(reply[3])
        sent = self._sent
        known = {self._stamp, sent[1] if sent else self._stamp, None, ""}
        if stamp not in known and self._stamp is not None:
            return Lease(held=False, intact=False)  # Redis went back in time, or has another's data
        is_intact = self._stamp is None or recorded == str(reply[1])
        return Lease(held=True, intact=is_intact)

    def release(self) -> None:
        """Give the lease up, if held."""
        with self._lock:
            token, self._token, self._held_until = self._token, "", 0.0
            self._stamp = self._sent = None
            if token:
                self._server.script(RELEASE, [self._keys.lease], [token])

    def holder(self) -> str | None:
        """Say whether somebody holds the lease: its token, or None."""
        value = self._server.call("GET", self._keys.lease)
        return _text(value) if value else None

    @property
    def _ttl_ms(self) -> int:
        return round(self._ttl_s * 1000)

    # -- writing

    def load(self) -> Checkpoint | None:
        """Read the checkpoint with its debts; the next write continues from it."""
        keys = [self._keys.checkpoint, self._keys.debts, self._keys.hash]
        fields, debts, size = self._server.script(LOAD, keys, [])
        found = _pairs(fields)
        self._sent = None
        if "position" not in found:
            self._stamp, self._checkpoint = found.get("stamp", ""), None
            return None
        self._stamp = found["stamp"]
        self._checkpoint = Checkpoint(
            position=Position.parse(found["position"]),
            stamp=found["stamp"],
            fingerprint=found.get("fingerprint", ""),
            committed_at=float(found.get("committed_at", 0)),
            documents=int(size),
            debts=_pairs(debts),
        )
        return self._checkpoint

    def apply(self, batch: Batch) -> Applied:
        """Write a batch. Raises FencedError, DocumentRefusedError, TransientError, OperatorError.

        A batch too large for one script goes in parts of which only the last carries position and
        records: documents ahead of their checkpoint are as good as after a crash.
        """
        self._refuse_large(batch.documents)
        parts = list(_parts(batch))
        written = removed = 0
        expected = found = None
        for part in parts:
            applied = self._apply(part)
            written, removed = written + applied.written, removed + applied.removed
            if expected is None:
                expected, found = applied.expected_documents, applied.found_documents
        assert expected is not None
        assert found is not None
        return replace(
            applied, written=written, removed=removed,
            expected_documents=expected, found_documents=found,
        )  # fmt: skip

    def _apply(self, batch: Batch) -> Applied:
        if not self._token or time.monotonic() > self._held_until:
            raise FencedError("the lease may have run out")
        if self._sent is not None and self._sent[0] is batch:
            stamp = self._sent[1]
        else:
            stamp = secrets.token_hex(8)
            self._sent = (batch, stamp)
        fields = self._fields(batch)
        keys = self._keys
        arguments = [self._token, self._stamp or "", stamp, *_sections(batch, keys, fields)]
        arguments += [self._feed_length, *self._feed(batch, fields)]
        reply = self._server.script(
            APPLY,
            [keys.hash, keys.checkpoint, keys.lease, keys.debts, keys.quarantine, keys.resync,
             keys.requests, keys.changes],
            arguments,
        )  # fmt: skip
        status = _text(reply[0])
        if status != "ok":
            raise FencedError(status)
        self._stamp, self._sent = stamp, None
        expected, found, removed, size = (int(value) for value in reply[1:])
        self._checkpoint = self._following(batch, stamp, size)
        return Applied(len(batch.documents), removed, size, self._checkpoint, expected, found)

    def _fields(self, batch: Batch) -> dict[str, str]:
        fields = {"updated_at": f"{time.time():.6f}"}
        if batch.position is not None:
            fields["position"] = str(batch.position)
        elif self._checkpoint is None:
            raise ValueError("the first write of a store needs a position")
        if batch.fingerprint is not None:
            fields["fingerprint"] = batch.fingerprint
        if batch.committed_at is not None:
            fields["committed_at"] = f"{batch.committed_at:.6f}"
        return fields

    def _following(self, batch: Batch, stamp: str, size: int) -> Checkpoint:
        before = self._checkpoint
        position = batch.position or (before.position if before else None)
        assert position is not None
        debts = dict(before.debts) if before else {}
        debts.update({k: v for k, v in batch.debts.items() if v is not None})
        for key in [k for k, v in batch.debts.items() if v is None]:
            debts.pop(key, None)
        known_time = batch.committed_at if batch.committed_at is not None else None
        return Checkpoint(
            position=position,
            stamp=stamp,
            fingerprint=batch.fingerprint or (before.fingerprint if before else ""),
            committed_at=known_time or (before.committed_at if before else 0.0),
            documents=size,
            debts=debts,
        )

    def _feed(self, batch: Batch, fields: Mapping[str, str]) -> Iterator[str]:
        if not self._feed_length:
            return
        for written in _chunked(sorted(batch.documents), _FEED_IDS):
            yield from (json.dumps(written), "[]")
        for removed in _chunked(sorted(batch.removed), _FEED_IDS):
            yield from ("[]", json.dumps(removed))

    def _refuse_large(self, documents: Mapping[str, bytes]) -> None:
        limit = self._server.max_value_bytes
        large = frozenset(k for k, value in documents.items() if len(value) > limit)
        if large:
            raise DocumentRefusedError(large, f"larger than Redis takes ({limit} bytes)")

    # -- reading

    def read(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Give the stored documents among `ids`."""
        if not ids:
            return {}
        values = self._server.call("HMGET", self._keys.hash, *ids)
        return {k: v for k, v in zip(ids, values, strict=True) if v is not None}

    def scan(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """Give some ids and the cursor to go on with; 0 when all were given."""
        following, found = self._server.scan(self._keys.hash, cursor, count)
        return int(following), [_text(key) for key in found]

    def count(self) -> int:
        """Give the number of documents."""
        return int(self._server.call("HLEN", self._keys.hash))

    def quarantined(self) -> dict[str, str]:
        """Give the reasons by id of documents that could not be written."""
        return self._server.hash(self._keys.quarantine)

    def resync_state(self) -> dict[str, str]:
        """Give the progress of the walk over everything, last or under way."""
        return self._server.hash(self._keys.resync)

    def checkpoint_fields(self) -> dict[str, str]:
        """Give the checkpoint as it is stored, for people."""
        return self._server.hash(self._keys.checkpoint)

    def request(self, payload: Mapping[str, Any]) -> str:
        """Ask something of whoever holds the lease; give the request's key."""
        key = secrets.token_hex(8)
        self._server.call("HSET", self._keys.requests, key, json.dumps(payload))
        return key

    def requests(self) -> dict[str, str]:
        """Give what was asked, as JSON by key."""
        return self._server.hash(self._keys.requests)

    def memory(self) -> tuple[int, int]:
        """Give Redis's memory in use and its limit (0: none), in bytes."""
        info = self.info()
        return info.memory, info.memory_limit

    def info(self) -> RedisInfo:
        """Give what the server says of itself."""
        return self._server.info()

    def close(self) -> None:
        """Free the connections."""
        self._server.close()


def _sections(batch: Batch, keys: _Keys, fields: Mapping[str, str]) -> list[Any]:
    """Write what the script does as sections: command, number of the key, number of values."""
    number = {name: index + 1 for index, name in enumerate(keys.__slots__)}
    sections: list[tuple[str, str, list[Any]]] = [
        ("HSET", "hash", _flat(batch.documents)),
        ("HDEL", "hash", sorted(batch.removed)),
        ("HDEL", "requests", sorted(batch.requests_done)),
    ]
    for name, records in (
        ("debts", batch.debts), ("quarantine", batch.quarantine), ("resync", batch.resync)
    ):  # fmt: skip
        sections.append(("HSET", name, _flat({k: v for k, v in records.items() if v is not None})))
        sections.append(("HDEL", name, [k for k, v in records.items() if v is None]))
    sections.append(("HSET", "checkpoint", _flat(fields)))
    used = [section for section in sections if section[2]]
    head: list[Any] = [len(used)]
    for command, name, values in used:
        head += [command, number[name], len(values)]
    return [*head, *(value for _, _, values in used for value in values)]


def _flat(items: Mapping[str, Any]) -> list[Any]:
    return [part for item in items.items() for part in item]


def _parts(batch: Batch) -> Iterator[Batch]:
    """Cut the documents to what one script may carry; everything else goes with the last part."""
    part: dict[str, bytes] = {}
    size = 0
    for document_id, value in batch.documents.items():
        if part and (size + len(value) > _PART_BYTES or len(part) >= _PART_DOCUMENTS):
            yield Batch(part, frozenset(), batch.reason)
            part, size = {}, 0
        part[document_id] = value
        size += len(value)
    yield batch if len(part) == len(batch.documents) else replace(batch, documents=part)


def _chunked(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for first in range(0, len(ids), size):
        yield list(ids[first : first + size])


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    texts = [_text(value) for value in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _text(value: bytes | str | int | None) -> str:
    return value.decode() if isinstance(value, bytes) else "" if value is None else str(value)
