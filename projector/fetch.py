"""Behind the barrier, in one snapshot: make look-ups, read documents, say which ids are gone.

Decides nothing. Every query of one call sees the same snapshot, which holds at least everything up
to the position that is needed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from projector import metrics
from projector.errors import RefusedError, TransientError, ValueRefusedError
from projector.mysql.barrier import Barrier, Need
from projector.mysql.connection import Connection
from projector.mysql.results import RawRows
from projector.projection import Plan
from projector.route import Values

_CLOSING = "COMMIT"
_SAID_AFTER_S = 2.0  # at the barrier: shorter waits are everyday life
_REFUSED_MAX = 64  # documents with refused values, and no other: then it is the query
_MOST_BYTES = 64 << 20  # of the rows of several documents; one alone may have more
_COUNT_S = 5  # limit of a count, which is only for a progress bar
_BARRIER = "the log's changes to show where documents are read"


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


def count(plan: Plan, connection: Connection) -> int:
    """Count the documents as of now, as well as that can be done within seconds: for a bar."""
    try:
        [rows] = connection.query(_within(plan.count_query(None), _COUNT_S))
        return int(rows[0][0] or 0)
    except (TransientError, RefusedError):
        return 0


def _within(sql: str, seconds: int) -> str:
    """Limit a query's time in the words of both servers: each reads the other's as a comment."""
    limited = sql.replace("SELECT", f"SELECT /*+ MAX_EXECUTION_TIME({seconds * 1000}) */", 1)
    return f"/*M! SET STATEMENT max_statement_time={seconds} FOR */ {limited}"


class Fetcher:
    """Reads of one projection over one connection; for one thread at a time. `plan`: for the types
    that the tables have (`Plan.fitted`).

    `is_stopping` ends a wait at the barrier with TransientError, as `patience_s` does. `on_wait` is
    told what a long wait is for, and None when it is over.
    """

    def __init__(
        self,
        plan: Plan,
        connection: Connection,
        barrier: Barrier,
        is_stopping: Callable[[], bool],
        patience_s: float = math.inf,
        on_wait: Callable[[str | None], None] = lambda cause: None,
    ) -> None:
        self._on_wait = on_wait
        self._patience_s = patience_s
        self._plan = plan
        self._connection = connection
        self._barrier = barrier
        self._is_stopping = is_stopping

    def look_up(self, look_ups: Mapping[str, set[Values]], need: Need, limit: int) -> Found:
        """Find the documents that rows stand in, at most `limit` for each kind of look-up."""
        if not look_ups:
            return Found(frozenset(), {})
        names = list(look_ups)
        queries = [self._plan.look_ups[name].query(look_ups[name], (), limit + 1) for name in names]
        ids: set[str] = set()
        deferred: dict[str, frozenset[Values]] = {}
        for name, rows in zip(names, self._snapshot(queries, need), strict=True):
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
        [rows] = self._snapshot([self._plan.look_ups[name].query(values, beyond, limit)], need)
        return [self._plan.to_id(row) for row in rows]

    def ids_after(self, after: str | None, limit: int, need: Need) -> list[str]:
        """Return the next ids of all documents, in order of the root's key, beyond `after`."""
        [rows] = self._snapshot([self._plan.ids_after(after, limit)], need)
        return [self._plan.to_id(row) for row in rows]

    def existing(self, ids: Sequence[str], need: Need) -> set[str]:
        """Return those of `ids` that documents exist for; what the server refuses to compare with
        the key (a date that no calendar has) names none."""
        valid = [document_id for document_id in ids if self._can_exist(document_id)]
        if not valid:
            return set()
        try:
            [rows] = self._snapshot([self._plan.ids_among(valid)], need)
        except ValueRefusedError:
            if len(valid) == 1:
                return set()
            middle = len(valid) // 2
            return self.existing(valid[:middle], need) | self.existing(valid[middle:], need)
        return {self._plan.to_id(row) for row in rows}

    def count(self) -> int:
        """Count the documents as of now; see `count`."""
        return count(self._plan, self._connection)

    def documents(self, ids: Sequence[str], need: Need) -> Fetched:
        """Read the documents with these ids. Raises TooMuchError: fewer at once may do."""
        valid = [document_id for document_id in ids if self._can_exist(document_id)]
        if not valid:
            return Fetched({}, frozenset(ids), {})
        read = self._read(valid, need)
        gone = frozenset(ids) - read.documents.keys() - read.failed.keys()
        return replace(read, gone=gone)

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()

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
        rows = self._snapshot(self._plan.queries(ids), need, most)
        with metrics.stage.labels("encode").time():
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

    def _snapshot(
        self, queries: Sequence[str], need: Need, max_bytes: float = math.inf
    ) -> list[RawRows]:
        """Run queries in one snapshot at or beyond what is needed, in one round trip."""
        said: list[RawRows] = []
        started, is_told = time.monotonic(), False
        try:
            with metrics.stage.labels("fetch").time():
                while True:
                    opening = self._barrier.opening(need, said)
                    results = self._connection.query_raw(
                        *opening, *queries, _CLOSING, max_bytes=max_bytes
                    )
                    said = results[: len(opening)]
                    if self._barrier.reached(need, said):
                        return results[len(opening) : -1]
                    metrics.barrier_waits.inc()
                    waited_s = time.monotonic() - started
                    if self._is_stopping() or waited_s > self._patience_s:
                        raise TransientError("mysql", f"stopped while waiting for {_BARRIER}")
                    if waited_s > _SAID_AFTER_S and not is_told:
                        is_told = True
                        self._on_wait(_BARRIER)
        finally:
            if is_told:
                self._on_wait(None)
