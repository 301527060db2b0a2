"""What one write is made of: its keys, its parts, and the arguments of its script.

A part is never larger than what one script may carry without blocking the server for long. Only
the last part of a write carries position and records: documents ahead of their checkpoint are as
good as after a crash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from projector.debt import ALL, ORPHANS
from projector.model import Batch

_PART_BYTES = 8 * 1024 * 1024
_PART_IDS = 20_000
_FEED_IDS = 500  # ids an entry of the change feed


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one projection, in the order in which the script of a write has them."""

    hash: str
    checkpoint: str
    lease: str
    debts: str
    quarantine: str
    resync: str
    requests: str
    changes: str
    daemon: str

    @classmethod
    def of(cls, name: str) -> Keys:
        """Name them: the braces put all into the cluster slot of the hash."""
        return cls(name, *(f"{{{name}}}:{rest}" for rest in cls.__slots__[1:]))

    def all(self) -> list[str]:
        """Give every key."""
        return [getattr(self, name) for name in self.__slots__]

    def looks(self) -> dict[str, Sequence[str]]:
        """Give for each key a command that fails where it holds another type, and writes nothing.

        An entry 0-1 comes before any that stands in a feed, so that none is written there.
        """
        by_kind = {
            self.lease: ("GET", self.lease),
            self.daemon: ("GET", self.daemon),
            self.changes: ("XADD", self.changes, "NOMKSTREAM", "0-1", "written", "[]"),
        }
        return {key: by_kind.get(key, ("HGET", key, "x")) for key in self.all()}


_NUMBER = {name: index + 1 for index, name in enumerate(Keys.__slots__)}


def parts(batch: Batch) -> list[Batch]:
    """Cut a batch into what one script may carry."""
    size = sum(map(len, batch.documents.values()))
    if size <= _PART_BYTES and len(batch.documents) + len(batch.removed) <= _PART_IDS:
        return [batch]
    pieces = [Batch(piece, frozenset(), batch.reason) for piece in _pieces(batch.documents)]
    for ids in chunked(sorted(batch.removed), _PART_IDS):
        pieces.append(Batch({}, frozenset(ids), batch.reason))
    last = replace(batch, documents=pieces[-1].documents, removed=pieces[-1].removed)
    return [*pieces[:-1], last]


def arguments(batch: Batch, checkpoint: Mapping[str, str], feed_length: int) -> list[Any]:
    """Write what the script does, from its argument 4 on; documents first, so that none is moved.

    `checkpoint`: fields to write there. `feed_length`: entries to keep in the feed, 0: no feed.
    """
    sections: list[tuple[str, str, list[Any]]] = [
        ("HSET", "hash", _flat(batch.documents)),
        ("HDEL", "hash", sorted(batch.removed)),
        ("HDEL", "requests", sorted(batch.requests_done)),
        ("HSET", "checkpoint", _flat(checkpoint)),
    ]
    for name, records in (
        ("debts", batch.debts), ("quarantine", batch.quarantine), ("resync", batch.resync)
    ):  # fmt: skip
        sections.append(("HSET", name, _flat({k: v for k, v in records.items() if v is not None})))
        sections.append(("HDEL", name, [k for k, v in records.items() if v is None]))
    used = [section for section in sections if section[2]]
    covering = next((key for key in (ALL, ORPHANS) if batch.debts.get(key) is not None), "")
    given: list[Any] = [covering, len(used)]
    for command, name, values in used:
        given += (command, _NUMBER[name], len(values))
    for _, _, values in used:
        given += values
    given.append(feed_length)
    if feed_length:
        given += _feed(batch)
    return given


def _feed(batch: Batch) -> Iterator[str]:
    for written in chunked(sorted(batch.documents), _FEED_IDS):
        yield from (json.dumps(written), "[]")
    for removed in chunked(sorted(filter(_is_unicode, batch.removed)), _FEED_IDS):
        yield from ("[]", json.dumps(removed))


def _is_unicode(document_id: str) -> bool:
    """Whether a reader can have read a document of that id; others are strangers' fields."""
    try:
        document_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pieces(documents: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    piece: dict[str, bytes] = {}
    size = 0
    for document_id, value in documents.items():
        if piece and (size + len(value) > _PART_BYTES or len(piece) == _PART_IDS):
            yield piece
            piece, size = {}, 0
        piece[document_id] = value
        size += len(value)
    if piece:
        yield piece


def _flat(items: Mapping[str, Any]) -> list[Any]:
    return [part for item in items.items() for part in item]


def bounded(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Cut ids so that their documents, of these sizes, are read without holding the server up."""
    some: list[str] = []
    total = 0
    for document_id, size in sizes.items():
        if some and (total + size > _PART_BYTES or len(some) == _PART_IDS):
            yield some
            some, total = [], 0
        some.append(document_id)
        total += size
    if some:
        yield some


def chunked(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut a list into parts of this size."""
    return (ids[first : first + size] for first in range(0, len(ids), size))
