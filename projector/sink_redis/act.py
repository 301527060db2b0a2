"""What one write is made of: its keys, its parts, and the arguments of its script.

A part is never larger than what one script may carry without blocking the server for long. Only
the last part of a write carries position and records: documents ahead of their checkpoint are as
good as after a crash.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from projector.debt import ALL, LISTS, ORPHANS, REQUESTED
from projector.model import Batch, Reason

_PART_BYTES = 8 * 1024 * 1024
_PART_IDS = 20_000
_PART_PLACES = 500  # an id in lists takes about as long as 4 documents
_FEED_IDS = 500  # ids an entry of the change feed
NO_VIEWS = "-"  # recorded where views were given up


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
        """Return every key."""
        return [getattr(self, name) for name in self.__slots__]

    def with_lists(self) -> list[str]:
        """Return every key, and those that scripts with lists want last."""
        return [*self.all(), *(f"{{{self.hash}}}:{rest}" for rest in ("listed", "views", "none"))]

    def looks(self) -> dict[str, Sequence[str]]:
        """Return for each key a command that fails where it holds another type, and writes nothing.

        An entry 0-1 comes before any that stands in a feed, so that none is written there.
        """
        by_kind = {
            self.lease: ("GET", self.lease),
            self.daemon: ("GET", self.daemon),
            self.changes: ("XADD", self.changes, "NOMKSTREAM", "0-1", "written", "[]"),
        }
        keys = [*self.all(), *self.with_lists()[-3:-1]]
        return {key: by_kind.get(key, ("HGET", key, "x")) for key in keys}


_NUMBER = {name: index + 1 for index, name in enumerate([*Keys.__slots__, "listed", "views"])}


def parts(batch: Batch) -> list[Batch]:
    """Cut a batch into what one script may carry."""
    size = sum(map(len, batch.documents.values()))
    most = _PART_PLACES if batch.places or batch.strays else _PART_IDS
    count = len(batch.documents.keys() | batch.places.keys()) + len(batch.removed)
    if size <= _PART_BYTES and count + len(batch.strays) <= most:
        return [batch]
    pieces = [
        Batch(piece, frozenset(), batch.reason, places=_among(piece, batch.places))
        for piece in _pieces(batch.documents, most)
    ]
    for ids in chunked([k for k in batch.places if k not in batch.documents], most):
        pieces.append(Batch({}, frozenset(), batch.reason, places=_among(ids, batch.places)))
    for ids in chunked(sorted(batch.removed), most):
        pieces.append(Batch({}, frozenset(ids), batch.reason))
    strays = sorted(batch.strays)
    for first in range(0, len(strays), most):
        some = frozenset(strays[first : first + most])
        pieces.append(Batch({}, frozenset(), batch.reason, strays=some))
    last = replace(
        batch, documents=pieces[-1].documents, removed=pieces[-1].removed,
        places=pieces[-1].places, strays=pieces[-1].strays,
    )  # fmt: skip
    return [*pieces[:-1], last]


def _among(ids: Collection[str], places: Mapping[str, str]) -> dict[str, str]:
    return {k: places[k] for k in ids if k in places}


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
    if batch.views is not None:
        sections.append(("HSET", "views", _flat(batch.views.definitions)))
    used = [section for section in sections if section[2]]
    given: list[Any] = [_covering(batch, ALL, ORPHANS), len(used)]
    for command, name, values in used:
        given += (command, _NUMBER[name], len(values))
    for _, _, values in used:
        given += values
    given.append(feed_length)
    if feed_length:
        given += _feed(batch)
    return given


def list_arguments(batch: Batch, keep: Mapping[str, int]) -> list[Any]:
    """Write what follows for lists. `keep`: how many of each list are certain to stay, by view."""
    places = [*_flat(batch.places), *(part for k in sorted(batch.removed) for part in (k, ""))]
    strays = [part for stray in sorted(batch.strays) for part in stray]
    kept = _flat(keep)
    is_forced = batch.reason is not Reason.CHANGE
    counts = [len(each) // 2 for each in (places, strays, kept)]
    mark = "" if batch.views is None else batch.views.mark or NO_VIEWS
    covering = _covering(batch, LISTS, ALL)
    return [*places, *strays, *kept, *counts, int(is_forced), mark, covering]


def _covering(batch: Batch, *keys: str) -> str:
    """Return the first of these debts that is recorded; but what somebody asked for may be
    cancelled, and then nothing would be owed for what was lost."""
    return next((key for key in keys if _is_for_cause(batch.debts.get(key))), "")


def _is_for_cause(debt: str | None) -> bool:
    return debt is not None and f'"reason":"{REQUESTED}"' not in debt


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


def _pieces(documents: Mapping[str, bytes], most: int) -> Iterator[dict[str, bytes]]:
    piece: dict[str, bytes] = {}
    size = 0
    for document_id, value in documents.items():
        if piece and (size + len(value) > _PART_BYTES or len(piece) == most):
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
