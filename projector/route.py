"""Row changes to the documents that they touch: ids known at once, or look-ups to make. Pure.

Never loses a change: what the log does not say (a column missing in a row image) becomes a look-up
by the row's own key or, where the old value is gone, a repair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any, assert_never

from projector.model import MISSING, Change, Kind, Row, RowsChange, TableChange, TableName, Watch
from projector.projection import Plan
from projector.projection.routes import LookUp, Route

Values = tuple[Any, ...]


@dataclass(slots=True)
class Affected:
    """What changes touch: `ids`, `look_ups` to make (values by name), `repairs` (reasons)."""

    ids: set[str] = field(default_factory=set)
    look_ups: dict[str, set[Values]] = field(default_factory=dict)
    repairs: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.ids or self.look_ups or self.repairs)


@dataclass(frozen=True, slots=True)
class _Step:
    """A route with the places of its columns in a row. `bases`: of what they are generated from."""

    values: Callable[[Row], Values]
    key: Callable[[Row], Values]
    bases: Callable[[Row], Values]
    look_up: LookUp | None
    by_key: LookUp | None


class Router:
    """Routes of one projection over rows as `watches` describe them."""

    def __init__(
        self,
        plan: Plan,
        default_schema: str,
        watches: Sequence[Watch],
    ) -> None:
        self._to_id = plan.codec.to_id
        watch_by_table = {watch.table: watch for watch in watches}
        self._steps: dict[TableName, list[_Step]] = {}
        for route in plan.routes:
            table = plan.table_name(route.node, default_schema)
            step = _step(route, watch_by_table[table])
            self._steps.setdefault(table, []).append(step)

    @property
    def tables(self) -> Mapping[TableName, list[_Step]]:
        """The tables that have routes."""
        return self._steps

    def route(self, changes: Iterable[Change]) -> Affected:
        """Find what the changes touch."""
        affected = Affected()
        rows_by_table: dict[TableName, list[RowsChange]] = {}
        for change in changes:
            match change:
                case RowsChange():
                    rows_by_table.setdefault(change.table, []).append(change)
                case TableChange():
                    if change.table is None or change.table in self._steps:
                        affected.repairs.add(change.reason)
                case _:
                    assert_never(change)
        for table, of_table in rows_by_table.items():
            images = [image for c in of_table for image in (c.before, c.after)]
            rows = list(chain.from_iterable(images))
            for step in self._steps.get(table, ()):
                found = set(map(step.values, rows))
                if any(MISSING in values for values in found):
                    for each in of_table:
                        self._rows(step, each, affected)
                else:
                    self._found(step, found, affected)
        return affected

    def _rows(self, step: _Step, change: RowsChange, affected: Affected) -> None:
        first = [*change.before[:1], *change.after[:1]]
        if any(MISSING in step.values(row) for row in first):
            self._partial_rows(step, change, affected)
            return
        found = set(map(step.values, change.before))
        found.update(map(step.values, change.after))
        self._found(step, found, affected)

    def _found(self, step: _Step, found: set[Values], affected: Affected) -> None:
        if step.look_up is None:
            to_id = self._to_id
            try:
                affected.ids.update(to_id(values) for values in found if None not in values)
            except ValueError:  # logged before the key had its type or character set of today
                affected.repairs.add("image")
            return
        known = {values for values in found if None not in values}  # NULL joins nothing
        if known:
            affected.look_ups.setdefault(step.look_up.name, set()).update(known)

    def _partial_rows(self, step: _Step, change: RowsChange, affected: Affected) -> None:
        """Handle images that lack a column that the route needs (binlog_row_image=MINIMAL)."""
        if change.kind is Kind.UPDATE:
            pairs = list(zip(change.before, change.after, strict=True))
        else:
            pairs = [(row, row) for row in (change.before or change.after)]
        for before, after in pairs:
            old, new = step.values(before), step.values(after)
            is_gone = change.kind is Kind.DELETE
            is_generated_anew = MISSING in new and _may_differ(step.bases, before, after)
            if MISSING not in old:
                self._found(
                    step, {old} if is_generated_anew else {old, _merged(old, new)}, affected
                )
                if is_generated_anew:
                    self._now(step, before, after, affected)
            elif (
                step.by_key is None
                or is_gone
                or is_generated_anew
                or any(n is not MISSING for n in new)
            ):
                # What the column held before is in no image and no longer in the table.
                self._incomplete(step, change, new, affected)
            else:
                self._by_key(step.by_key, _merged(step.key(before), step.key(after)), affected)

    def _now(self, step: _Step, before: Row, after: Row, affected: Affected) -> None:
        """Find by its key where a row stands now, whose new values the log leaves out."""
        if step.by_key is None:
            affected.repairs.add("image")
        else:
            self._by_key(step.by_key, _merged(step.key(before), step.key(after)), affected)

    def _by_key(self, look_up: LookUp, key: Values, affected: Affected) -> None:
        if MISSING in key:  # a key column left to its default
            affected.repairs.add("image")
        else:
            affected.look_ups.setdefault(look_up.name, set()).add(key)

    def _incomplete(self, step: _Step, change: RowsChange, new: Values, affected: Affected) -> None:
        if change.kind is Kind.INSERT and step.by_key is not None:
            for row in change.after:
                self._by_key(step.by_key, step.key(row), affected)
            return
        if MISSING not in new and change.kind is not Kind.DELETE:
            self._found(step, {new}, affected)
        affected.repairs.add("image")


def _merged(old: Values, new: Values) -> Values:
    """What a row holds after an update: what the image after lacks has not changed."""
    return tuple(o if n is MISSING else n for o, n in zip(old, new, strict=True))


def _may_differ(bases: Callable[[Row], Values], before: Row, after: Row) -> bool:
    """Whether one of these may have changed: what the image after lacks has not."""
    pairs = zip(bases(before), bases(after), strict=True)
    return any(new is not MISSING and new != old for old, new in pairs)


def _bases_of(watch: Watch) -> Callable[[Row], Values]:
    first = len(watch.columns)
    return _picker(range(first, first + len(watch.bases)))


def _step(route: Route, watch: Watch) -> _Step:
    place = {name: index for index, name in enumerate(watch.columns)}
    return _Step(
        values=_picker([place[name] for name in route.columns]),
        key=_picker([place[name] for name in route.key_columns]),
        bases=_bases_of(watch),
        look_up=route.look_up,
        by_key=route.by_key,
    )


def _picker(places: Sequence[int]) -> Callable[[Row], Values]:
    if len(places) == 1:
        [only] = places
        return lambda row: (row[only],)
    if not places:
        return lambda row: ()
    return itemgetter(*places)
