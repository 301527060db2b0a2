"""Behind the barrier, in one snapshot: make look-ups, read documents, say which ids are gone.

Decides nothing. Every query of one call sees the same snapshot, which holds at least everything up
to the position that is needed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from projector import metrics
from projector.barrier import Barrier, Need
from projector.cascade import Trace
from projector.database import Connection, RawRows
from projector.errors import TransientError
from projector.projection import Plan
from projector.route import Values

_CLOSING = "COMMIT"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the database gives for some ids: `documents`, ids `gone`, reasons of those `failed`."""

    documents: Mapping[str, bytes]
    gone: frozenset[str]
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """Ids found by look-ups; `deferred` are the look-ups that touch more than the limit."""

    ids: frozenset[str]
    deferred: Mapping[str, frozenset[Values]]


class Fetcher:
    """Reads of one projection over one connection; for one thread at a time.

    `is_stopping` ends a wait at the barrier with TransientError, as `patience_s` does.
    """

    def __init__(
        self,
        plan: Plan,
        connection: Connection,
        barrier: Barrier,
        is_stopping: Callable[[], bool],
        patience_s: float = math.inf,
    ) -> None:
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

    def keep_snapshot(self, connection: Connection, need: Need) -> None:
        """Open a snapshot at or beyond what is needed, on a connection that keeps it for `traced`.
        For any thread."""
        results: list[RawRows] = []
        while True:
            results = connection.query_raw(*self._barrier.opening(need, results))
            if self._barrier.reached(need, results):
                break
            if self._is_stopping():
                raise TransientError("mysql", "stopped while waiting for a commit to show")
        connection.query("SAVEPOINT hindsight")

    def traced(
        self, snapshot: Connection, traces: Mapping[Trace, set[Values]], limit: int
    ) -> set[str] | None:
        """Find the documents in which rows stood, in a snapshot from before they went; None when
        there are more than `limit` of a kind, or the cascade goes deeper than it is traced."""
        queries = [trace.query(values, limit + 1) for trace, values in traces.items()]
        with metrics.stage.labels("fetch").time():
            # The savepoint gives the metadata locks back: an ALTER TABLE would wait for them.
            results = snapshot.query_raw(*queries, "ROLLBACK TO SAVEPOINT hindsight")
        return self._ids_of(traces, results[:-1], limit)

    def arrived(
        self, traces: Mapping[Trace, set[Values]], need: Need, limit: int
    ) -> set[str] | None:
        """Find the documents in which rows stand now; None as in `traced`."""
        queries = [trace.query(values, limit + 1) for trace, values in traces.items()]
        return self._ids_of(traces, self._snapshot(queries, need), limit)

    def _ids_of(
        self, traces: Iterable[Trace], results: Iterable[RawRows], limit: int
    ) -> set[str] | None:
        ids: set[str] = set()
        for trace, rows in zip(traces, results, strict=True):
            if len(rows) > limit or (rows and trace.is_end):
                return None
            ids.update(map(self._plan.to_id, () if trace.is_end else rows))
        return ids

    def look_up_after(
        self, name: str, values: Sequence[Values], after: str | None, limit: int, need: Need
    ) -> list[str]:
        """Give the next ids, in order, beyond `after`, of a look-up that was put off."""
        beyond = self._plan.codec.to_values(after) if after is not None else ()
        [rows] = self._snapshot([self._plan.look_ups[name].query(values, beyond, limit)], need)
        return [self._plan.to_id(row) for row in rows]

    def ids_after(self, after: str | None, limit: int, need: Need) -> list[str]:
        """Give the next ids of all documents, in order of the root's key, beyond `after`."""
        [rows] = self._snapshot([self._plan.ids_after(after, limit)], need)
        return [self._plan.to_id(row) for row in rows]

    def existing(self, ids: Sequence[str], need: Need) -> set[str]:
        """Give those of `ids` that documents exist for."""
        valid = [document_id for document_id in ids if self._can_exist(document_id)]
        if not valid:
            return set()
        [rows] = self._snapshot([self._plan.ids_among(valid)], need)
        return {self._plan.to_id(row) for row in rows}

    def count(self, after: str | None = None) -> int:
        """Count the documents beyond `after`, as of now: a figure for progress bars."""
        [rows] = self._connection.query(self._plan.count_query(after))
        return int(rows[0][0])

    def documents(self, ids: Sequence[str], need: Need) -> Fetched:
        """Read the documents with these ids."""
        valid = [document_id for document_id in ids if self._can_exist(document_id)]
        if not valid:
            return Fetched({}, frozenset(ids), {})
        rows = self._snapshot(self._plan.queries(valid), need)
        with metrics.stage.labels("encode").time():
            documents, failed = self._plan.documents(rows)
        gone = frozenset(ids) - documents.keys() - failed.keys()
        return Fetched(documents, gone, failed)

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()

    def _can_exist(self, document_id: str) -> bool:
        try:
            self._plan.codec.to_values(document_id)
        except ValueError:
            return False
        return True

    def _snapshot(self, queries: Sequence[str], need: Need) -> list[RawRows]:
        """Run queries in one snapshot at or beyond what is needed, in one round trip."""
        said: list[RawRows] = []
        started = time.monotonic()
        with metrics.stage.labels("fetch").time():
            while True:
                opening = self._barrier.opening(need, said)
                results = self._connection.query_raw(*opening, *queries, _CLOSING)
                said = results[: len(opening)]
                if self._barrier.reached(need, said):
                    return results[len(opening) : -1]
                metrics.barrier_waits.inc()
                if self._is_stopping() or time.monotonic() - started > self._patience_s:
                    raise TransientError("mysql", "stopped while waiting for a commit to show")
