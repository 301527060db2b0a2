"""What one term does about the lists of a projection, beside writing them: it owes what makes them
right where they are not, and tells how much they hold.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from projector import metrics
from projector.debt import ALL, LISTS, LISTS_CHANGED, VIEWS_CHANGED, Debt
from projector.model import ViewSet
from projector.pipeline import Pipeline
from projector.ports import Sink
from projector.projection import Plan

log = structlog.get_logger()


def views_of(plan: Plan, sink: Sink) -> ViewSet | None:
    """Return the views to be recorded; None where there are none, and were none."""
    if not plan.views.in_use and not sink.has_lists:
        return None
    return ViewSet(plan.placer.mark, plan.placer.definitions)


def is_bare(sink: Sink) -> bool:
    """Whether nothing in a store names any document: no hash, no list, no quarantine."""
    cursor, ids = sink.scan(0, 1)
    while cursor and not ids:
        cursor, ids = sink.scan(cursor, 1)
    return not ids and not sink.quarantined()


class Lists:
    """The lists of one projection in one term. `full`: makes a walk over everything."""

    def __init__(
        self, plan: Plan, sink: Sink, pipeline: Pipeline, full: Callable[[str], Debt]
    ) -> None:
        self._plan = plan
        self._sink = sink
        self._pipeline = pipeline
        self._full = full

    def check_views(self) -> None:
        """Owe it to put every document into its lists where other views are declared than before.
        No document is rebuilt for that."""
        mark = self._plan.placer.mark if self._plan.views.in_use else ""
        if mark != self._pipeline.known.checkpoint.views:
            views = views_of(self._plan, self._sink)
            log.info("views_changed", projection=self._plan.name)
            self._pipeline.owe({LISTS: self._full(VIEWS_CHANGED)}, views=views)
            self._pipeline.known.are_lists_lost = False

    def check(self, *, are_lost: bool) -> None:
        """Owe what makes good that lists are not as they were written."""
        known = self._pipeline.known
        known.are_lists_lost |= are_lost
        if known.are_lists_lost and not known.debts.keys() & {ALL, LISTS}:
            metrics.recoveries.labels(LISTS_CHANGED, self._plan.name).inc()
            log.warning(LISTS_CHANGED, projection=self._plan.name)
            self.owe(LISTS_CHANGED)
            known.are_lists_lost = False

    def owe(self, reason: str, requests_done: frozenset[str] = frozenset()) -> None:
        """Owe a walk that puts every document into its lists."""
        self._pipeline.owe({LISTS: self._full(reason)}, requests_done)

    def show(self) -> None:
        """Set the gauges of the views."""
        if not self._sink.has_lists:
            return
        for name, figures in self._sink.views().items():
            view = f"by_{name}"
            metrics.view_members.labels(view, self._plan.name).set(figures.members)
            metrics.view_lists.labels(view, self._plan.name).set(figures.lists)
            if figures.bytes is not None:
                metrics.view_bytes.labels(view, self._plan.name).set(figures.bytes)
