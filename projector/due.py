"""Owes the documents that time alone has made wrong: a moment that they show has come.

Which these are the store says, see `projection.timed`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from projector.debt import DUE, ids_debt
from projector.pipeline import Pipeline
from projector.ports import Sink
from projector.projection import Plan, clock

_EVERY_S = 0.5
_AT_ONCE = 1000  # documents


class Due:
    """The moments of one projection in one term. For the pipeline's thread."""

    def __init__(self, plan: Plan, sink: Sink, pipeline: Pipeline) -> None:
        self._is_timed = bool(plan.views.timed)
        self._sink = sink
        self._pipeline = pipeline
        self._again_at = 0.0
        # What was owed and stands there still: a document in quarantine, or an entry by strangers.
        self._tried: Mapping[str, str] = {}

    def turn(self) -> None:
        """Now and then, owe the documents whose moment has come; no others before they are made."""
        if not self._is_timed or time.monotonic() < self._again_at:
            return
        if any(debt.reason == DUE for debt in self._pipeline.known.debts.values()):
            return
        found = self._sink.due(clock.now_us(), _AT_ONCE + len(self._tried))
        fresh = [k for k, at in found.items() if self._tried.get(k) != at]
        self._tried = found
        if fresh:
            key, debt = ids_debt(fresh, DUE)
            self._pipeline.owe({key: debt})
        else:
            self._again_at = time.monotonic() + _EVERY_S * max(1, len(found) / _AT_ONCE)
