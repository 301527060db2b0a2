"""Compare every document with the database under live traffic, without false alarms.

A difference counts only if it stands on a second look: the database is read again behind the
barrier, the daemon is given time to pass that moment, and the store still holds the same other
bytes. Only reads; repairs are asked of whoever holds the lease.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from projector.errors import OperatorError, TooMuchError
from projector.fetch import Fetched, Fetcher
from projector.model import Need
from projector.portion import Portion
from projector.ports import Sink
from projector.position import Position
from projector.projection import clock
from projector.record import read_object

_LOOKS = 5
_AHEAD = 2  # parts that are looked at while one is settled
_SAMPLE = 20
_FIRST = 50  # documents looked at in the beginning: they may be large
_PART_TARGET_S = 0.5
_WAIT_S = 30.0
_DUE_MAX = 100_000

Found = TypeVar("Found")

KINDS = ("missing", "stale", "orphan")
LISTED = "(lists)"  # named among fields: the document is right, and stands in other lists


@dataclass(slots=True)
class Report:
    """Counts, and a sample of the ids with the fields that differ. `repaired` of the counts.
    `quarantined`: rows of which no document can be made, so that there is nothing to compare."""

    checked: int = 0
    quarantined: int = 0
    missing: int = 0
    stale: int = 0
    orphan: int = 0
    repaired: int = 0
    sample: list[dict[str, Any]] = field(default_factory=list)

    @property
    def differences(self) -> int:
        """All that was found."""
        return self.missing + self.stale + self.orphan

    @property
    def left(self) -> int:
        """What was found and not repaired."""
        return self.differences - self.repaired + self.quarantined

    def note(self, document_id: str, stored: bytes | None, database: bytes | None) -> None:
        """Count a difference."""
        kind = "orphan" if database is None else "missing" if stored is None else "stale"
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.sample) < _SAMPLE:
            fields = [LISTED] if stored == database else differing_fields(stored, database)
            self.sample.append({"id": document_id, "kind": kind, "fields": fields})


@dataclass(frozen=True, slots=True)
class _Look:
    ids: Sequence[str]
    stored: Mapping[str, bytes]
    fetched: Fetched


@dataclass(frozen=True, slots=True)
class Comparison:
    """The two sides, and how to know that the tail has passed a moment.

    `fetcher` gives each thread its own, `count` about how many documents there are. `position`
    gives the checkpoint's, `passed` how far the daemon has come, which a prepared transaction does
    not hold back, `current` the end of the log now; `is_led`: a daemon is at work, so that
    differences may be changes under way; `is_timed`: time alone changes documents.
    """

    sink: Sink
    fetcher: Callable[[], Fetcher]
    count: Callable[[], int]
    position: Callable[[], Position]
    passed: Callable[[], Position]
    current: Callable[[], Position]
    is_led: bool
    chunk_documents: int = 1000
    is_timed: bool = False


def verify(
    sides: Comparison,
    ids: Sequence[str] | None,
    repair: Callable[[Sequence[str]], None] | None,
    on_progress: Callable[[int], None] = lambda done: None,
    repair_lists: Callable[[], None] | None = None,
) -> Report:
    """Compare all documents, or those named. `repair` is called with ids whose difference stands,
    `repair_lists` once where entries of lists are left that belong to no document.

    Raises OperatorError when there is no checkpoint, or when a daemon holds the lease but does
    not move.
    """
    report = Report()
    portion = Portion(sides.chunk_documents, _FIRST, _PART_TARGET_S)
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="verify") as pool:
        for first in _first_looks(sides, ids, pool, portion):
            standing = _standing(sides, first)
            report.checked += len(first.ids)
            report.quarantined += len(first.fetched.failed)
            for document_id, (stored, database) in standing.items():
                report.note(document_id, stored, database)
            if standing and repair is not None:
                repair(list(standing))
                left = _standing(sides, _look(sides, list(standing)))
                report.repaired += len(standing) - len(left)
            on_progress(report.checked)
    if ids is None and sides.sink.has_lists:
        _compare_strays(sides, report, repair_lists)
    return report


def _compare_strays(
    sides: Comparison, report: Report, repair_lists: Callable[[], None] | None
) -> None:
    """Count ids that stand in lists which nothing recorded of them accounts for; the store judges
    by itself, so that no second look is needed."""
    found = _strays(sides)
    for document_id in found:
        report.note(document_id, b"", b"")
    if found and repair_lists is not None:
        repair_lists()
        report.repaired += len(found) - len(_strays(sides) & found)


def _strays(sides: Comparison) -> set[str]:
    found: set[str] = set()
    cursor: str | None = None
    while True:
        cursor, _, strays = sides.sink.strays(cursor, sides.chunk_documents)
        found.update(document_id for _, document_id in strays)
        if cursor is None:
            return found


def differing_fields(stored: bytes | None, database: bytes | None) -> list[str]:
    """Name the fields of a document that differ; all by the one name `*` where one side lacks it
    or is no JSON object."""
    if stored is None or database is None:
        return ["*"]
    try:
        left, right = read_object(stored.decode()), read_object(database.decode())
        names = [*dict.fromkeys([*left, *right])]
        found = [n for n in names if n not in left or n not in right or left[n] != right[n]]
    except ValueError:
        return ["*"]
    return found or ["(encoding)"]


def _first_looks(
    sides: Comparison, ids: Sequence[str] | None, pool: ThreadPoolExecutor, portion: Portion
) -> Iterator[_Look]:
    """Look at all documents of the database, then at those of the store that it does not have."""
    if ids is not None:
        parts = (list(ids[first : first + _FIRST]) for first in range(0, len(ids), _FIRST))
        yield from _ahead(pool, lambda part: _look(sides, part), parts)
        return
    looked = partial(_look_within, sides, portion)
    yield from _ahead(pool, looked, _in_database(sides, portion))
    for orphans in _ahead(pool, lambda part: _orphans(sides, part), _in_store(sides)):
        if orphans:
            yield _look(sides, orphans)


def _ahead(
    pool: ThreadPoolExecutor,
    find: Callable[[list[str]], Found],
    parts: Iterable[list[str]],
) -> Iterator[Found]:
    """Yield what is found for each part, in order; some are looked at while one is settled."""
    flying: deque[Future[Found]] = deque()
    for part in parts:
        flying.append(pool.submit(find, part))
        if len(flying) > _AHEAD:
            yield flying.popleft().result()
    while flying:
        yield flying.popleft().result()


def _in_database(sides: Comparison, portion: Portion) -> Iterator[list[str]]:
    after: str | None = None
    while True:
        size = portion.size
        found = sides.fetcher().ids_after(after, size, Need(sides.position()))
        if found:
            yield found
        if len(found) < size:
            break
        after = found[-1]


def _in_store(sides: Comparison) -> Iterator[list[str]]:
    cursor = 0
    while True:
        cursor, stored = sides.sink.scan(cursor, sides.chunk_documents)
        yield stored
        if cursor == 0:
            break


def _orphans(sides: Comparison, stored: list[str]) -> list[str]:
    return sorted(set(stored) - sides.fetcher().existing(stored, Need(sides.position())))


def _look_within(sides: Comparison, portion: Portion, ids: Sequence[str]) -> _Look:
    """Look, and learn from it how much to look at next."""
    started = time.monotonic()
    looked = _look(sides, ids)
    size_bytes = sum(map(len, looked.fetched.documents.values()))
    portion.took(len(ids), time.monotonic() - started, size_bytes)
    return looked


def _look(sides: Comparison, ids: Sequence[str]) -> _Look:
    """Read both sides, the store first; in halves where all at once is too much."""
    stored = sides.sink.read(ids)
    try:
        fetched = sides.fetcher().documents(ids, Need(sides.position()))
    except TooMuchError:
        if len(ids) <= 1:
            raise
        halves = [_look(sides, half) for half in (ids[: len(ids) // 2], ids[len(ids) // 2 :])]
        documents = {k: v for half in halves for k, v in half.fetched.documents.items()}
        gone = frozenset(k for half in halves for k in half.fetched.gone)
        failed = {k: v for half in halves for k, v in half.fetched.failed.items()}
        places = {k: v for half in halves for k, v in half.fetched.places.items()}
        stored = {k: v for half in halves for k, v in half.stored.items()}
        fetched = Fetched(documents, gone, failed, places)
    return _Look(ids, stored, fetched)


def _standing(sides: Comparison, looked: _Look) -> dict[str, tuple[bytes | None, bytes | None]]:
    """Return what differs on the last look, as (stored, in the database)."""
    found: dict[str, tuple[bytes | None, bytes | None]] = {}
    places: Mapping[str, str] = {}  # of the look before
    for look in range(_LOOKS):
        before, fetched = looked.stored, looked.fetched
        displaced = _displaced(sides, looked.ids, fetched)
        differing = [
            k for k in looked.ids
            if k not in fetched.failed
            and (k in displaced or before.get(k) != fetched.documents.get(k))
        ]  # fmt: skip
        if differing and sides.is_led and sides.is_timed:
            due = _just_due(sides)
            differing = [k for k in differing if k not in due]
        if not differing:
            break
        if not sides.is_led:
            return {k: (before.get(k), fetched.documents.get(k)) for k in differing}
        _await(sides, sides.current())
        after = sides.sink.read(differing)
        displaced = _displaced(sides, differing, fetched)
        suspects = []
        for k in differing:
            database = fetched.documents.get(k)
            if after.get(k) == database and k not in displaced:
                continue
            is_still = after.get(k) != database or places.get(k) == fetched.places.get(k)
            if after.get(k) == before.get(k) and is_still and look > 0:
                found[k] = (after.get(k), database)
            else:
                suspects.append(k)  # changed meanwhile: look again
        if not suspects or look == _LOOKS - 1:
            break
        places = fetched.places
        looked = _look(sides, suspects)
    return found


def _just_due(sides: Comparison) -> set[str]:
    """Return documents whose moment has come, and that the daemon has just begun to make again."""
    now = clock.now_us()
    found = sides.sink.due(now, _DUE_MAX)
    return {k for k, at in found.items() if float(at) > now - _WAIT_S * 1_000_000}


def _displaced(sides: Comparison, ids: Sequence[str], fetched: Fetched) -> frozenset[str]:
    """Return those that stand in other lists than the database's rows say, or in none."""
    if not sides.sink.has_lists:
        return frozenset()
    return sides.sink.displaced(
        {k: fetched.places.get(k, "") for k in ids if k not in fetched.failed}
    )


def _await(sides: Comparison, position: Position) -> None:
    """Wait until the daemon has passed a position."""
    deadline = time.monotonic() + _WAIT_S
    while not sides.passed().surely_reaches(position):
        if time.monotonic() > deadline:
            raise OperatorError(
                "a daemon holds the lease, but its checkpoint does not move",
                "See `projector status` and the daemon's log.",
            )
        time.sleep(0.02)
