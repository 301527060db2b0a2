"""Behind the barrier, in one snapshot: make look-ups, read documents, say which ids are gone.

Decides nothing. Every query of one call sees the same snapshot, which holds at least everything up
to the position that is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from projector import metrics
from projector.errors import ValueRefusedError
from projector.model import Need
from projector.ports import Reader
from projector.projection import Plan
from projector.route import Values

_REFUSED_MAX = 64  # documents with refused values, and no other: then it is the query
_MOST_BYTES = 64 << 20  # of the rows of several documents; one alone may have more


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the database gives for some ids: `documents`, ids `gone`, reasons of those `failed`, and
    by id the `places` of documents in lists (see `projection.places`)."""

    documents: Mapping[str, bytes]
    gone: frozenset[str]
    failed: Mapping[str, str]
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """Ids found by look-ups; `deferred` are the look-ups that touch more than the limit."""

    ids: frozenset[str]
    deferred: Mapping[str, frozenset[Values]]


class Fetcher:
    """Reads of one projection; for one thread at a time. `plan`: for the types that the tables have
    (`Plan.fitted`)."""

    def __init__(self, plan: Plan, reader: Reader) -> None:
        self._plan = plan
        self._reader = reader

    def look_up(self, look_ups: Mapping[str, set[Values]], need: Need, limit: int) -> Found:
        """Find the documents that rows stand in, at most `limit` for each kind of look-up."""
        if not look_ups:
            return Found(frozenset(), {})
        names = list(look_ups)
        queries = [self._plan.look_ups[name].query(look_ups[name], (), limit + 1) for name in names]
        ids: set[str] = set()
        deferred: dict[str, frozenset[Values]] = {}
        for name, rows in zip(names, self._reader.rows(queries, need), strict=True):
            if len(rows) > limit:
                deferred[name] = frozenset(look_ups[name])
            else:
                ids.update(map(self._plan.to_id, rows))
        return Found(frozenset(ids), deferred)

    def look_up_after(
        self, name: str, values: Sequence[Values], after: str | None, limit: int, need: Need
    ) -> list[str]:
        """Return the next ids, in order, beyond `after`, of a look-up that was put off."""
        beyond = self._plan.cursor(after)
        [rows] = self._reader.rows([self._plan.look_ups[name].query(values, beyond, limit)], need)
        return [self._plan.to_id(row) for row in rows]

    def ids_after(self, after: str | None, limit: int, need: Need) -> list[str]:
        """Return the next ids of all documents, in order of the root's key, beyond `after`."""
        [rows] = self._reader.rows([self._plan.ids_after(after, limit)], need)
        return [self._plan.to_id(row) for row in rows]

    def existing(self, ids: Sequence[str], need: Need) -> set[str]:
        """Return those of `ids` that documents exist for; what the server refuses to compare with
        the key (a date that no calendar has) names none."""
        valid = [document_id for document_id in ids if self._can_exist(document_id)]
        if not valid:
            return set()
        try:
            [rows] = self._reader.rows([self._plan.ids_among(valid)], need)
        except ValueRefusedError:
            if len(valid) == 1:
                return set()
            middle = len(valid) // 2
            return self.existing(valid[:middle], need) | self.existing(valid[middle:], need)
        return {self._plan.to_id(row) for row in rows}

    def documents(self, ids: Sequence[str], need: Need) -> Fetched:
        """Read the documents with these ids. Raises TooMuchError: fewer at once may do."""
        valid = [document_id for document_id in ids if self._can_exist(document_id)]
        if not valid:
            return Fetched({}, frozenset(ids), {})
        read = self._read(valid, need)
        gone = frozenset(ids) - read.documents.keys() - read.failed.keys()
        return replace(read, gone=gone)

    def close(self) -> None:
        """Free the reader."""
        self._reader.close()

    def _can_exist(self, document_id: str) -> bool:
        try:
            self._plan.codec.to_values(document_id)
        except ValueError:
            return False
        return True

    def _read(self, ids: Sequence[str], need: Need) -> Fetched:
        """Read documents; those of which a value makes the query fail are set aside."""
        try:
            return self._encoded(ids, need)
        except ValueRefusedError as error:
            return self._around(ids, need, error)

    def _encoded(self, ids: Sequence[str], need: Need) -> Fetched:
        most = _MOST_BYTES if len(ids) > 1 else math.inf
        rows = self._reader.rows(self._plan.queries(ids), need, most)
        with metrics.stage.labels("encode").time(), self._plan.at_one_moment():
            documents, failed = self._plan.documents(rows)
            places, odd = self._plan.places(rows)
        for document_id in odd.keys() & documents.keys():
            failed[document_id] = odd[document_id]
            del documents[document_id]
        for document_id in failed.keys() & places.keys():
            del places[document_id]  # its document stays as it was, and so do its lists
        return Fetched(documents, frozenset(), failed, places)

    def _around(self, ids: Sequence[str], need: Need, error: ValueRefusedError) -> Fetched:
        """Halve until the documents stand alone that the server refuses."""
        documents: dict[str, bytes] = {}
        failed: dict[str, str] = {}
        places: dict[str, str] = {}
        waiting = [(ids, error)]
        while waiting:
            part, refused = waiting.pop()
            if len(part) == 1:
                failed[part[0]] = str(refused)
                if len(failed) > _REFUSED_MAX and not documents:
                    raise refused
                continue
            middle = len(part) // 2
            for half in (part[:middle], part[middle:]):
                try:
                    read = self._encoded(half, need)
                except ValueRefusedError as again:
                    waiting.append((half, again))
                else:
                    documents |= read.documents
                    failed |= read.failed
                    places |= read.places
        return Fetched(documents, frozenset(), failed, places)
