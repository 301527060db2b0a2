"""A place between two transactions of PostgreSQL's log. A value; text and comparison only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from projector.errors import PositionLostError

_NAME = "postgres"
_DIFFERS = "-"  # what was seen of definitions: not the same of both


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a commit, in one timeline of one cluster.

    `system`: the cluster's identifier. `lsn`: bytes from the beginning of the log. `unseen`: ids of
    transactions that the stream has given up to here and that no snapshot had shown when this was
    made: a commit is streamed before others can see it, and one that waits for a synchronous
    standby stays unseen for as long. All below `seen` had been shown; only what no text keeps. All
    below `published` had been shown when the publication was last looked at; 0: not known.
    `defined`: what was seen of the definitions then (see `definitions.text`); empty: not known.

    The text form has seven parts separated by `|`: `postgres`, system, timeline, LSN, unseen ids,
    `published`, `defined`. What a later version may append is passed over; earlier ones wrote five
    or six.
    """

    system: str
    timeline: int
    lsn: int
    unseen: frozenset[int] = frozenset()
    seen: int = field(default=0, compare=False)
    published: int = field(default=0, compare=False)
    defined: str = field(default="", compare=False)

    def __str__(self) -> str:
        unseen = ",".join(map(str, sorted(self.unseen)))
        place = f"{_NAME}|{self.system}|{self.timeline}|{lsn_text(self.lsn)}|{unseen}"
        if not self.published:
            return place
        return f"{place}|{self.published}" + (f"|{self.defined}" if self.defined else "")

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what `str` wrote. Raises ValueError."""
        parts = text.split("|")
        if len(parts) < 5 or parts[0] != _NAME:
            raise ValueError(f"not a position of PostgreSQL: {text!r}")
        _, system, timeline, lsn, unseen = parts[:5]
        ids = frozenset(int(xid) for xid in unseen.split(",") if xid)
        published = int(parts[5]) if parts[5:] and parts[5].isdecimal() else 0
        defined = parts[6] if parts[6:] else ""
        return cls(system, int(timeline), parse_lsn(lsn), ids, published=published, defined=defined)

    def reaches(self, other: Position) -> bool:
        """Return whether this is at or beyond the other. Raises ValueError for another cluster's.
        That timelines lead to each other is found out at each start."""
        if self.system != other.system:
            raise ValueError("positions of different clusters")
        return self.lsn >= other.lsn

    def surely_reaches(self, other: Position) -> bool:
        """Return whether this is known to be at or beyond the other."""
        try:
            return self.reaches(other)
        except ValueError:
            return False

    def earlier(self, other: Position) -> Position:
        """Return a place that both lie at or behind; see `projector.position`."""
        try:
            return self._joined(other, other if self.reaches(other) else self)
        except ValueError as error:
            raise PositionLostError(f"another projection's checkpoint: {error}") from None

    def later(self, other: Position) -> Position:
        """Return a place at or beyond both; see `projector.position`."""
        try:
            return self._joined(other, self if self.reaches(other) else other)
        except ValueError:
            return self

    def _joined(self, other: Position, place: Position) -> Position:
        """Return the place, with all that has not been seen of both: who read on from the earlier
        one may know of less. Ids are those of one timeline: at its end everything is seen, and up
        to there the next one has what it had."""
        timeline = max(self.timeline, other.timeline)
        both = [each for each in (self, other) if each.timeline == timeline]
        seen = max(each.seen for each in both)
        unseen = frozenset(xid for each in both for xid in each.unseen if xid >= seen)
        published = min(each.published for each in both)
        defined = self.defined if self.defined == other.defined else _DIFFERS
        return replace(
            place, timeline=timeline, unseen=unseen, seen=seen, published=published,
            defined=defined,
        )  # fmt: skip


def own(position: object) -> Position:
    """Return what came back from the core, which knows positions of any log."""
    assert isinstance(position, Position)
    return position


def parse_lsn(text: str) -> int:
    """Read `16/B374D848`. Raises ValueError."""
    high, separator, low = text.partition("/")
    if not separator:
        raise ValueError(f"not an LSN: {text!r}")
    return int(high, 16) << 32 | int(low, 16)


def lsn_text(lsn: int) -> str:
    """Write an LSN as PostgreSQL does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFF_FFFF:X}"
