"""What a verification counts as a difference, and what as a change under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from projector.fetch import Fetched
from projector.mysql.position import Position
from projector.verify import Comparison, Report, verify

NOW = Position.parse("mysql|u1|binlog.000007|1234|")


class Both:
    """A document whose bytes never differ, and where it stands by the database: the first of
    `places`, at each further read the next one. The store has another place each time."""

    has_lists = True

    def __init__(self, *places: str) -> None:
        self._places = list(places)

    def documents(self, ids: Sequence[str], _need: Any) -> Fetched:
        place = self._places.pop(0) if len(self._places) > 1 else self._places[0]
        return Fetched(dict.fromkeys(ids, b"{}"), frozenset(), {}, dict.fromkeys(ids, place))

    def read(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        return dict.fromkeys(ids, b"{}")

    def displaced(self, places: Mapping[str, str]) -> frozenset[str]:
        return frozenset(places)


@pytest.mark.parametrize(
    ("places", "stale"),
    [
        ([f"{score} status:open" for score in range(9)], 0),
        (["1 status:open"], 1),
        (["1 status:open", "2 status:open", "2 status:open"], 1),
    ],
)
def test_what_changes_between_two_looks_is_no_difference(places: list[str], stale: int) -> None:
    """Also where only its place in a list changes, by a column that no document shows."""
    both: Any = Both(*places)
    sides = Comparison(both, lambda: both, lambda: 1, *[lambda: NOW] * 3, is_led=True)
    report: Report = verify(sides, ["1"], None)
    assert (report.checked, report.stale) == (1, stale)
