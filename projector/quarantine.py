"""The log's word on documents that are set aside: one warning with their number and the columns at
fault, never a value."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import structlog

_LONGEST_S = 10.0  # a long build says so more than once

log = structlog.get_logger()


class QuarantineLog:
    """Adds up what was set aside until it is told."""

    def __init__(self, projection: str) -> None:
        self._projection = projection
        self._columns: Counter[str] = Counter()
        self._documents = 0
        self._since = 0.0

    def add(self, reasons: Iterable[str]) -> None:
        """Note documents by their reasons, `column: why`."""
        if not self._documents:
            self._since = time.monotonic()
        for reason in reasons:
            self._documents += 1
            column, is_named, _ = reason.partition(": ")
            self._columns[column if is_named else "(the whole)"] += 1

    def tell(self, *, is_walking: bool = False) -> None:
        """Warn of what was added; while a walk over everything goes on, only now and then."""
        is_early = is_walking and time.monotonic() - self._since < _LONGEST_S
        if not self._documents or is_early:
            return
        log.warning(
            "documents_quarantined", projection=self._projection, documents=self._documents,
            columns=dict(self._columns.most_common(10)),
            remedy="`projector status` lists ids and reasons",
        )  # fmt: skip
        self._documents = 0
        self._columns.clear()
