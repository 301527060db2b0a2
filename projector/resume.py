"""Where each projection goes on when a term begins, and what it has done already. Pure: decides.

The projections of one process share one stream, but not their past: each may have a checkpoint of
another history, for a process can die between any two writes. So each position is asked for by
itself whether the log can be read on from it, and two are compared only where somebody can say
which is earlier. Nothing is skipped because of a comparison that nobody can make: what is done
twice does no harm, what is left out does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from projector.errors import PositionLostError
from projector.position import Position

Check = Callable[[Position], None]  # raises PositionLostError


@dataclass(frozen=True, slots=True)
class Resume:
    """How a term begins.

    `start`: where the stream does; None where no projection can go on: at the log's end.
    `positions`: of each projection where it goes on, None where everything is owed to it. Such a
    one begins at the stream's start, which need not be compared with anything. `reasons`: why
    everything is owed. `error`: why a position was lost, if one was.
    """

    start: Position | None
    positions: tuple[Position | None, ...]
    reasons: tuple[str | None, ...]
    error: PositionLostError | None = None


def decide(positions: Sequence[Position | None], check: Check) -> Resume:
    """Decide by the positions of the projections' checkpoints, None where there is none yet."""
    goes_on: list[Position | None] = []
    reasons: list[str | None] = []
    error: PositionLostError | None = None
    start: Position | None = None
    for position in positions:
        found, reason = position, None
        if position is None:
            reason = "initial_build"
        else:
            try:
                check(position)
                start = position if start is None else start.earlier(position)
            except PositionLostError as lost:
                found, error = None, lost
                reason = "position_lost"
        goes_on.append(found)
        reasons.append(reason)
    return Resume(start, tuple(goes_on), tuple(reasons), error)


def refused(resume: Resume, error: PositionLostError, check: Check) -> Resume:
    """Decide again when the server does not give its log from the start decided on: whoever is
    there begins again, or all of them where nobody is."""
    is_own = resume.start in resume.positions
    left = [None if p == resume.start or not is_own else p for p in resume.positions]
    following = decide(left, check)
    reasons = tuple(
        None if found is not None else before or "position_lost"
        for before, found in zip(resume.reasons, following.positions, strict=True)
    )
    return replace(following, reasons=reasons, error=error)


class Ahead:
    """What one projection has done of a stream that began before its own position."""

    def __init__(self, own: Position, start: Position) -> None:
        self._own = own if own != start else None

    def has_done(self, position: Position) -> bool:
        """Return whether everything that the stream has given up to `position` is done. Once it is
        not, nothing that follows is: the stream gives nothing twice."""
        if self._own is None:
            return False
        if self._own.surely_reaches(position):
            return True
        self._own = None
        return False
