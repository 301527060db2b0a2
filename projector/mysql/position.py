"""A position: a place between two transactions of a log. A value; text and comparison only.

Holds where (file and offset, which mean something in one server's log alone) and what (GTIDs, which
mean the same on every server of a replication topology). MySQL's GTIDs are sets and can always be
compared. MariaDB's cannot: two servers that both write into one domain (a ring) log numbers that
fall, so on one server its log's own order counts, and across servers only numbers that one and the
same server gave out.
"""

from __future__ import annotations

import re
import struct
import uuid
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from projector.errors import PositionLostError

Interval = tuple[int, int]  # first and last sequence number, both included
Source = tuple[str, str]  # UUID of the server, tag ("" for none)


class Flavour(StrEnum):
    """Whose log it is."""

    MYSQL = "mysql"
    MARIADB = "mariadb"


_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_LAST = 2**63 - 2  # GNO_END - 1, sql/rpl_gtid.h


@dataclass(frozen=True, slots=True)
class GtidSet:
    """MySQL's set of transactions, as in `gtid_executed`. Immutable; equal sets are equal values.

    Text and canonical order as in the MySQL manual, 19.1.3.1 "GTID Format and Storage":
    `uuid[:tag]:first-last:…`, several UUIDs separated by commas; tags since 8.3.
    """

    intervals: Mapping[Source, tuple[Interval, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """Read the server's text. Raises ValueError."""
        builder = GtidSetBuilder(cls())
        for part in "".join(text.split()).lower().split(","):
            if not part:
                continue
            sid, *rest = part.split(":")
            sid, tag = str(uuid.UUID(sid)), ""
            if not rest:
                raise ValueError(f"no interval in {part!r}")
            for item in rest:
                if _TAG.fullmatch(item):
                    tag = item
                    continue
                first, dash, last = item.partition("-")
                begin, end = int(first), int(last) if dash else int(first)
                if not (0 < begin <= _LAST and end <= _LAST):
                    raise ValueError(f"no interval of transactions: {item!r}")
                if begin <= end:  # the server takes an empty one for nothing, too
                    builder.add_interval((sid, tag), begin, end)
        return builder.freeze()

    def __str__(self) -> str:
        by_sid: dict[str, list[str]] = {}
        for (sid, tag), intervals in sorted(self.intervals.items()):
            parts = by_sid.setdefault(sid, [])
            parts += [tag] if tag else []
            parts += [f"{a}-{b}" if a != b else str(a) for a, b in intervals]
        return ",".join(":".join([sid, *parts]) for sid, parts in by_sid.items())

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __hash__(self) -> int:
        return hash(str(self))

    def add(self, sid: bytes | str, tag: str, gno: int) -> GtidSet:
        """Return the set with one transaction more."""
        builder = GtidSetBuilder(self)
        builder.add(sid, tag, gno)
        return builder.freeze()

    def contains(self, other: GtidSet) -> bool:
        """Whether every transaction of the other is in this one."""
        return all(
            all(_covers(self.intervals.get(source, ()), a, b) for a, b in intervals)
            for source, intervals in other.intervals.items()
        )

    def __or__(self, other: GtidSet) -> GtidSet:
        builder = GtidSetBuilder(self)
        for source, intervals in other.intervals.items():
            for first, last in intervals:
                builder.add_interval(source, first, last)
        return builder.freeze()

    def __and__(self, other: GtidSet) -> GtidSet:
        return self - (self - other)

    def __sub__(self, other: GtidSet) -> GtidSet:
        left = {
            source: tuple(_subtract(intervals, other.intervals.get(source, ())))
            for source, intervals in self.intervals.items()
        }
        return GtidSet({source: found for source, found in left.items() if found})

    def encode(self) -> bytes:
        """Write the set for COM_BINLOG_DUMP_GTID.

        Gtid_set::encode, sql/rpl_gtid_set.cc: the number of sources, then each with its intervals,
        ends excluded. With a tag anywhere (8.3+) the number's first and last byte are 1 and each
        UUID is followed by its tag, its length doubled before it.
        """
        is_tagged = any(tag for _, tag in self.intervals)
        count = len(self.intervals)
        head = struct.pack("<Q", (1 << 56) | (count << 8) | 1 if is_tagged else count)
        parts = [head]
        for (sid, tag), intervals in sorted(self.intervals.items()):
            parts.append(uuid.UUID(sid).bytes)
            if is_tagged:
                parts.append(bytes([len(tag) << 1]) + tag.encode())
            parts.append(struct.pack("<Q", len(intervals)))
            parts += [struct.pack("<QQ", first, last + 1) for first, last in intervals]
        return b"".join(parts)


class GtidSetBuilder:
    """A set that grows. The next transaction of a run costs one comparison."""

    def __init__(self, start: GtidSet) -> None:
        self._intervals: dict[Source, list[list[int]]] = {
            source: [list(pair) for pair in intervals]
            for source, intervals in start.intervals.items()
        }
        self._names: dict[bytes | str, str] = {}
        self._frozen: GtidSet | None = None

    def add(self, sid: bytes | str, tag: str, gno: int) -> None:
        """Add one transaction; the UUID as 16 bytes or as text."""
        name = self._names.get(sid)
        if name is None:
            name = str(uuid.UUID(bytes=sid) if isinstance(sid, bytes) else uuid.UUID(sid))
            self._names[sid] = name
        self._frozen = None
        intervals = self._intervals.setdefault((name, tag), [])
        if intervals and intervals[-1][1] + 1 == gno:
            intervals[-1][1] = gno
        else:
            self.add_interval((name, tag), gno, gno)

    def add_interval(self, source: Source, first: int, last: int) -> None:
        """Add the transactions `first` to `last`, both included."""
        self._frozen = None
        intervals = self._intervals.setdefault(source, [])
        begin = bisect_right(intervals, first - 1, key=lambda pair: pair[0])
        if begin and intervals[begin - 1][1] >= first - 1:
            begin -= 1
        end = begin
        while end < len(intervals) and intervals[end][0] <= last + 1:
            first, last = min(first, intervals[end][0]), max(last, intervals[end][1])
            end += 1
        intervals[begin:end] = [[first, last]]

    def freeze(self) -> GtidSet:
        """Return the set as it is now."""
        if self._frozen is None:
            self._frozen = GtidSet(
                {s: tuple((a, b) for a, b in pairs) for s, pairs in self._intervals.items()}
            )
        return self._frozen


def _covers(intervals: Sequence[Interval], first: int, last: int) -> bool:
    index = bisect_right(intervals, first, key=lambda pair: pair[0]) - 1
    return index >= 0 and intervals[index][1] >= last


def _subtract(intervals: Sequence[Interval], others: Sequence[Interval]) -> Iterator[Interval]:
    for first, last in intervals:
        begin = first
        for a, b in others:
            if b < begin or a > last:
                continue
            if a > begin:
                yield begin, a - 1
            begin = b + 1
        if begin <= last:
            yield begin, last


@dataclass(frozen=True, slots=True)
class MariadbGtids:
    """MariaDB's position: of each domain the last transaction, `domain-server-sequence`.

    MariaDB Knowledge Base, "Global Transaction ID": what one server gives out within a domain only
    grows. `contains` compares numbers alone, see `is_ordered`.
    """

    by_domain: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> MariadbGtids:
        """Read the server's text. Raises ValueError."""
        found: dict[int, tuple[int, int]] = {}
        for part in "".join(text.split()).split(","):
            if not part:
                continue
            domain, server, sequence = (int(number) for number in part.split("-"))
            if domain in found:
                raise ValueError(f"domain {domain} twice in {text!r}")
            found[domain] = (server, sequence)
        return cls(found)

    def __str__(self) -> str:
        items = sorted(self.by_domain.items())
        return ",".join(f"{domain}-{server}-{number}" for domain, (server, number) in items)

    def __bool__(self) -> bool:
        return bool(self.by_domain)

    def __hash__(self) -> int:
        return hash(str(self))

    def replace(self, domain: int, server: int, sequence: int) -> MariadbGtids:
        """Return the position after one transaction more."""
        return MariadbGtids({**self.by_domain, domain: (server, sequence)})

    def contains(self, other: MariadbGtids) -> bool:
        """Whether this is at or beyond the other in every domain of the other."""
        return all(
            domain in self.by_domain and self.by_domain[domain][1] >= sequence
            for domain, (_, sequence) in other.by_domain.items()
        )

    def is_ordered(self, other: MariadbGtids) -> bool:
        """Return whether numbers can be compared: in each common domain given out by one server,
        which never counts backwards. Another's may be lower and yet later in the log."""
        return all(
            self.by_domain[domain][0] == server
            for domain, (server, _) in other.by_domain.items()
            if domain in self.by_domain
        )

    def __or__(self, other: MariadbGtids) -> MariadbGtids:
        joined = dict(self.by_domain)
        for domain, place in other.by_domain.items():
            if domain not in joined or joined[domain][1] < place[1]:
                joined[domain] = place
        return MariadbGtids(joined)


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two transactions. `server` names whose `file` and `offset` these are.

    `born`: when that file was created by the server's clock, in seconds since the epoch; 0 where it
    is not known. A server that was reset gives out the same names of files once more.

    The text form has parts separated by `|`: flavour, server, file, offset, GTIDs (empty: an empty
    set; `-`: the server has none), and `born` where it is known. What a later version may append
    is passed over.
    """

    flavour: Flavour
    server: str
    file: str
    offset: int
    gtids: GtidSet | MariadbGtids | None
    born: int = field(default=0, compare=False)

    def __str__(self) -> str:
        gtids = "-" if self.gtids is None else str(self.gtids)
        server = self.server.replace("%", "%25").replace("|", "%7C")
        born = f"|{self.born}" if self.born else ""
        return f"{self.flavour}|{server}|{self.file}|{self.offset}|{gtids}{born}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what `str` wrote. Raises ValueError."""
        parts = text.split("|")
        if len(parts) < 5:
            raise ValueError(f"not a position: {text!r}")
        flavour, server, file, offset, gtids = parts[:5]
        kind = Flavour(flavour)
        read = GtidSet.parse if kind is Flavour.MYSQL else MariadbGtids.parse
        return cls(
            kind,
            server.replace("%7C", "|").replace("%25", "%"),
            file,
            int(offset),
            None if gtids == "-" else read(gtids),
            int(parts[5]) if len(parts) > 5 else 0,
        )

    def reaches(self, other: Position) -> bool:
        """Return whether this is at or beyond the other. Raises ValueError when nobody can say:
        another flavour, or another server without GTIDs that both of them know the order of."""
        mine, theirs = self.gtids, other.gtids
        if isinstance(mine, GtidSet) and isinstance(theirs, GtidSet):
            return mine.contains(theirs)
        if self._is_in_log_of(other):
            places = [(file_number(p.file), p.offset) for p in (self, other)]
            # No transaction lies between two places of the same GTIDs: a file's beginning at most.
            return places[0] >= places[1] or (mine is not None and mine == theirs)
        if isinstance(mine, MariadbGtids) and isinstance(theirs, MariadbGtids):
            if not mine.is_ordered(theirs):
                raise ValueError("positions whose order only a log that holds both can tell")
            return mine.contains(theirs)
        raise ValueError("positions of different servers without common GTIDs")

    def surely_reaches(self, other: Position) -> bool:
        """Return whether this is known to be at or beyond the other."""
        try:
            return self.reaches(other)
        except ValueError:
            return False

    def earlier(self, other: Position) -> Position:
        """Return a place that both lie at or behind; see `projector.position`."""
        if self.surely_reaches(other):
            return other
        if other.surely_reaches(self):
            return self
        if isinstance(self.gtids, GtidSet) and isinstance(other.gtids, GtidSet):
            # The logs of two servers that applied in another order.
            return replace(self, file="", offset=0, born=0, gtids=self.gtids & other.gtids)
        raise PositionLostError(
            "nobody can say where it lies beside another projection's checkpoint"
        )

    def later(self, other: Position) -> Position:
        """Return a place at or beyond both; see `projector.position`."""
        if isinstance(self.gtids, GtidSet) and isinstance(other.gtids, GtidSet):
            return replace(self, gtids=self.gtids | other.gtids)
        is_here = self.server == other.server  # another server's place says nothing to a barrier
        return other if is_here and other.surely_reaches(self) else self

    def _is_in_log_of(self, other: Position) -> bool:
        """Return whether both are places in one server's log, so that file and offset count."""
        if (self.flavour, self.server) != (other.flavour, other.server):
            return False
        if not self.file or not other.file or _stem(self.file) != _stem(other.file):
            return False  # not known, or the log was given another name
        is_other = self.file == other.file and self.born and other.born and self.born != other.born
        return not is_other


def own(position: object) -> Position:
    """Return what came back from the core, which knows positions of any log."""
    assert isinstance(position, Position)
    return position


def file_number(file: str) -> int:
    """Return the number of a log file: files are ordered by it, for it may outgrow six digits."""
    number = file.rpartition(".")[2]
    return int(number) if number.isdigit() else 0


def _stem(file: str) -> str:
    return file.rpartition(".")[0]
