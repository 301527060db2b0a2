"""A place between two transactions of a log: the log's own value, of which the rest of the program
knows a text and an order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self


class Position(Protocol):
    """A place in a log. Immutable, hashable, equal by value.

    `str` gives the text that is stored, `parse` reads it back.
    """

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote. Raises ValueError."""
        ...

    def reaches(self, other: Self) -> bool:
        """Return whether this is at or beyond the other. Raises ValueError when nobody can say:
        the other is another log's, or another history's."""
        ...

    def surely_reaches(self, other: Self) -> bool:
        """Return whether this is known to be at or beyond the other."""
        ...

    def earlier(self, other: Self) -> Self:
        """Return a place that both lie at or behind. Raises PositionLostError when nobody can
        say."""
        ...

    def later(self, other: Self) -> Self:
        """Return a place at or beyond both; this one where nobody can say (what another server's
        place stands for is passed by now)."""
        ...


Parse = Callable[[str], Position]  # raises ValueError


def later(new: Position | None, known: Position | None) -> Position | None:
    """Return the barrier of two causes, None where neither has one."""
    if new is None or known is None:
        return new or known
    return new.later(known)
