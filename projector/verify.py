"""Compare every document with the database under live traffic, without false alarms.

A difference counts only if it stands on a second look: the database is read again behind the
barrier, the daemon is given time to pass that moment, and the store still holds the same other
bytes. Only reads; repairs are asked of whoever holds the lease.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from projector.barrier import Need
from projector.errors import OperatorError
from projector.fetch import Fetcher
from projector.ports import Sink
from projector.position import Position

_LOOKS = 5
_SAMPLE = 20
_WAIT_S = 30.0

KINDS = ("missing", "stale", "orphan")


@dataclass(slots=True)
class Report:
    """Counts, and a sample of the ids with the fields that differ. `repaired` of the counts."""

    checked: int = 0
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
        return self.differences - self.repaired

    def note(self, document_id: str, stored: bytes | None, database: bytes | None) -> None:
        """Count a difference."""
        kind = "missing" if stored is None else "orphan" if database is None else "stale"
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.sample) < _SAMPLE:
            self.sample.append(
                {"id": document_id, "kind": kind, "fields": differing_fields(stored, database)}
            )


@dataclass(frozen=True, slots=True)
class Sides:
    """The two sides, and how to know that the tail has passed a moment.

    `current` gives the end of the log now; `is_led`: a daemon is at work, so that differences may
    be changes under way.
    """

    sink: Sink
    fetcher: Fetcher
    current: Callable[[], Position]
    is_led: bool
    chunk_documents: int = 1000


def verify(
    sides: Sides,
    ids: Sequence[str] | None,
    repair: Callable[[Sequence[str]], None] | None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """Compare all documents, or those named. `repair` is called with ids whose difference stands.

    Raises OperatorError when there is no checkpoint, or when a daemon holds the lease but does
    not move.
    """
    report = Report()
    for chunk in _chunks(sides, ids):
        standing = _standing(sides, chunk)
        report.checked += len(chunk)
        for document_id, (stored, database) in standing.items():
            report.note(document_id, stored, database)
        if standing and repair is not None:
            repair(list(standing))
            report.repaired += len(standing) - len(_standing(sides, list(standing)))
        on_progress(report.checked)
    return report


def differing_fields(stored: bytes | None, database: bytes | None) -> list[str]:
    """Name the fields of a document that differ; all by the one name `*` where one side lacks it
    or is no JSON object."""
    if stored is None or database is None:
        return ["*"]
    try:
        left, right = json.loads(stored), json.loads(database)
        names = [*dict.fromkeys([*left, *right])]
        found = [n for n in names if n not in left or n not in right or left[n] != right[n]]
    except (ValueError, TypeError):
        return ["*"]
    return found or ["(encoding)"]


def _need(sides: Sides) -> Need:
    checkpoint = sides.sink.load()
    if checkpoint is None:
        raise OperatorError("there is no checkpoint: nothing was built yet", "Run `projector run`.")
    return Need(checkpoint.position)


def _chunks(sides: Sides, ids: Sequence[str] | None) -> Iterator[list[str]]:
    """All ids of the database in order, then those of the store that it does not have."""
    size = sides.chunk_documents
    if ids is not None:
        for first in range(0, len(ids), size):
            yield list(ids[first : first + size])
        return
    after: str | None = None
    while True:
        found = sides.fetcher.ids_after(after, size, _need(sides))
        if found:
            yield found
        if len(found) < size:
            break
        after = found[-1]
    cursor = 0
    while True:
        cursor, stored = sides.sink.scan(cursor, size)
        orphans = set(stored) - sides.fetcher.existing(stored, _need(sides))
        if orphans:
            yield sorted(orphans)
        if cursor == 0:
            break


def _standing(sides: Sides, ids: Sequence[str]) -> dict[str, tuple[bytes | None, bytes | None]]:
    """Give what differs on the last look, as (stored, in the database)."""
    suspects = list(ids)
    found: dict[str, tuple[bytes | None, bytes | None]] = {}
    for look in range(_LOOKS):
        before = sides.sink.read(suspects)
        fetched = sides.fetcher.documents(suspects, _need(sides))
        differing = [
            k for k in suspects
            if k not in fetched.failed and before.get(k) != fetched.documents.get(k)
        ]  # fmt: skip
        if not differing:
            break
        if not sides.is_led:
            return {k: (before.get(k), fetched.documents.get(k)) for k in differing}
        _await(sides, sides.current())
        after = sides.sink.read(differing)
        suspects = []
        for k in differing:
            database = fetched.documents.get(k)
            if after.get(k) == database:
                continue
            if after.get(k) == before.get(k) and look > 0:
                found[k] = (after.get(k), database)
            else:
                suspects.append(k)  # changed meanwhile: look again
        if not suspects:
            break
    return found


def _await(sides: Sides, position: Position) -> None:
    """Wait until the daemon has passed a position."""
    deadline = time.monotonic() + _WAIT_S
    while not _need(sides).position.reaches(position):
        if time.monotonic() > deadline:
            raise OperatorError(
                "a daemon holds the lease, but its checkpoint does not move",
                "See `projector status` and the daemon's log.",
            )
        time.sleep(0.02)
