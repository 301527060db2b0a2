"""Places in the log: the checkpoint's position, the token of a commit, and which includes which.

Values without any dependency. `tests/readers/vectors.json` in the projector's repository holds the
cases that this module, its TypeScript twin and the projector itself agree on.
"""

from __future__ import annotations

import re
import uuid
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from projector_reader.errors import InvalidTokenError, NotComparableError

_Interval = tuple[int, int]
_Source = tuple[str, str]  # UUID of the server, tag ("" for none)

_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_LAST = 2**63 - 2  # GNO_END - 1, sql/rpl_gtid.h


@dataclass(frozen=True, slots=True)
class GtidSet:
    """MySQL's set of transactions: of each server and tag, intervals that neither touch nor
    overlap, in order. MySQL manual, 19.1.3.1 "GTID Format and Storage"; tags since 8.3."""

    intervals: Mapping[_Source, Sequence[_Interval]]

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """Read the server's text. Raises InvalidTokenError."""
        found: dict[_Source, list[_Interval]] = {}
        for part in "".join(text.split()).lower().split(","):
            if not part:
                continue
            sid, *rest = part.split(":")
            if not _UUID.fullmatch(sid) or not rest:
                raise InvalidTokenError(f"not a set of GTIDs: {_shown(text)}")
            source = (str(uuid.UUID(sid)), "")
            for item in rest:
                if _TAG.fullmatch(item):
                    source = (source[0], item)
                    continue
                first, dash, last = item.partition("-")
                begin = _number(first, text)
                end = _number(last, text) if dash else begin
                if not 0 < begin <= _LAST or end > _LAST:
                    raise InvalidTokenError(f"not a set of GTIDs: {_shown(text)}")
                if begin <= end:  # the server takes an empty one for nothing, too
                    found.setdefault(source, []).append((begin, end))
        return cls({source: _joined(intervals) for source, intervals in found.items()})

    def includes(self, other: GtidSet) -> bool:
        """Return whether every transaction of the other is in this one."""
        return all(
            all(_covers(self.intervals.get(source, ()), interval) for interval in intervals)
            for source, intervals in other.intervals.items()
        )


@dataclass(frozen=True, slots=True)
class MariadbGtids:
    """MariaDB's position: of each replication domain its last transaction's sequence number.

    Within a domain numbers grow from commit to commit, also over a failover to another primary.
    They do not where several servers write to one domain at the same time (a ring, or both sides of
    a pair): there each server needs a `gtid_domain_id` of its own, as MariaDB's manual asks for.
    """

    by_domain: Mapping[int, int]

    @classmethod
    def parse(cls, text: str) -> MariadbGtids:
        """Read the server's text. Raises InvalidTokenError."""
        found: dict[int, int] = {}
        for part in "".join(text.split()).split(","):
            if not part:
                continue
            numbers = [_number(number, text) for number in part.split("-")]
            if len(numbers) != 3 or numbers[0] in found:
                raise InvalidTokenError(f"not GTIDs of MariaDB: {_shown(text)}")
            found[numbers[0]] = numbers[2]
        return cls(found)

    def includes(self, other: MariadbGtids) -> bool:
        """Return whether this is at or beyond the other in every domain of the other."""
        return all(self.by_domain.get(domain, -1) >= n for domain, n in other.by_domain.items())


@dataclass(frozen=True, slots=True)
class Place:
    """File and offset in the log of one server."""

    server: str
    file: str
    offset: int

    def is_at_or_beyond(self, other: Place) -> bool:
        """Return whether this is not before the other, in the log of the same server."""
        mine, theirs = _file_number(self.file), _file_number(other.file)
        return (mine, self.offset) >= (theirs, other.offset)


@dataclass(frozen=True, slots=True)
class WalPlace:
    """A place in PostgreSQL's log: the cluster's identifier, the timeline, which ends where a
    standby is promoted, and bytes from the beginning of the log."""

    system: str
    timeline: int
    lsn: int

    def is_at_or_beyond(self, other: WalPlace) -> bool:
        """Return whether this is not before the other; never of what lies on a timeline that is not
        reached yet.

        Raises NotComparableError for another cluster's, and for one on a timeline that has ended:
        whether the server that was promoted had got as far, no position tells.
        """
        if self.system != other.system:
            raise NotComparableError("the token is a place in the log of another cluster")
        if self.timeline > other.timeline:
            raise NotComparableError("the token is from before a standby was promoted")
        return self.timeline == other.timeline and self.lsn >= other.lsn


@dataclass(frozen=True, slots=True)
class Position:
    """A checkpoint's position. The text form has five parts separated by `|`: flavour, server,
    file, offset, GTIDs (empty: an empty set; `-`: the server has none). PostgreSQL's: `postgres`,
    system, timeline, LSN, and ids that concern the projector alone."""

    text: str
    flavour: str
    place: Place | WalPlace
    gtids: GtidSet | MariadbGtids | None

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read the text form; parts that a later projector may append are passed over.
        Raises InvalidTokenError."""
        parts = text.strip().split("|")
        if len(parts) < 5:
            raise InvalidTokenError(f"not a position: {_shown(text)}")
        flavour, server, file, offset, gtids = (part.strip() for part in parts[:5])
        if flavour == "postgres":
            timeline = _number(file, text)
            system = str(_number(server, text))
            return cls(text, flavour, WalPlace(system, timeline, _lsn(offset, text)), None)
        if flavour not in ("mysql", "mariadb"):
            raise InvalidTokenError(f"not a position of a known kind: {_shown(text)}")
        found: GtidSet | MariadbGtids | None = None
        if gtids != "-":
            found = GtidSet.parse(gtids) if flavour == "mysql" else MariadbGtids.parse(gtids)
        server = server.replace("%7C", "|").replace("%25", "%")
        place = Place(server, file, _number(offset, text))
        return cls(text, flavour, place, found)

    def __str__(self) -> str:
        return self.text

    def includes(self, token: str | Token) -> bool:
        """Return whether what the token names lies at or before this position.

        Raises InvalidTokenError, and NotComparableError where nobody can say.
        """
        wanted = parse_token(token) if isinstance(token, str) else token
        gtids = wanted.gtids
        if gtids is not None:
            if isinstance(gtids, GtidSet) and isinstance(self.gtids, GtidSet):
                return self.gtids.includes(gtids)
            if isinstance(gtids, MariadbGtids) and isinstance(self.gtids, MariadbGtids):
                return self.gtids.includes(gtids)
            raise NotComparableError("the token has GTIDs of a kind that the checkpoint has not")
        place = wanted.place
        if place is None:
            return True
        if isinstance(place, WalPlace) and isinstance(self.place, WalPlace):
            return self.place.is_at_or_beyond(place)
        if isinstance(place, WalPlace) or isinstance(self.place, WalPlace):
            raise NotComparableError("the token is of another kind of database")
        if place.server != self.place.server:
            raise NotComparableError("the token is a place in the log of another server")
        return self.place.is_at_or_beyond(place)


@dataclass(frozen=True, slots=True)
class Token:
    """What a commit is named by: GTIDs or, without them, a place in a log; neither: nothing."""

    gtids: GtidSet | MariadbGtids | None
    place: Place | WalPlace | None = None


def parse_token(text: str) -> Token:
    """Read a token: GTIDs as MySQL or MariaDB write them, a position, or nothing but white space
    for a session that has committed nothing. Raises InvalidTokenError."""
    if "|" in text:
        position = Position.parse(text)
        return Token(position.gtids, position.place)
    if not text.strip(" \t\r\n,"):
        return Token(None)
    return Token(GtidSet.parse(text) if ":" in text else MariadbGtids.parse(text))


def _number(text: str, whole: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise InvalidTokenError(f"not a number where one is due: {_shown(whole)}")
    return int(text)


def _lsn(text: str, whole: str) -> int:
    found = _LSN.fullmatch(text)
    if not found:
        raise InvalidTokenError(f"not a place where one is due: {_shown(whole)}")
    return int(found[1], 16) << 32 | int(found[2], 16)


def _joined(intervals: list[_Interval]) -> list[_Interval]:
    """Return the intervals in order, those that touch or overlap as one."""
    joined: list[_Interval] = []
    for first, last in sorted(intervals):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def _covers(intervals: Sequence[_Interval], wanted: _Interval) -> bool:
    at = bisect_right(intervals, wanted[0], key=lambda interval: interval[0]) - 1
    return at >= 0 and intervals[at][1] >= wanted[1]


def _file_number(file: str) -> int:
    """Return the number of a log file: it may outgrow six digits, so text does not order it."""
    number = file.rpartition(".")[2]
    return int(number) if _NUMBER.fullmatch(number) else 0


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
