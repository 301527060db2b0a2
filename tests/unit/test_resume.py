"""Where projections go on, and what they skip: pure decisions, against logs made at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projector.errors import PositionLostError
from projector.lane import Lane as RealLane
from projector.model import Transactions
from projector.mysql.position import Flavour, GtidSet, GtidSetBuilder, MariadbGtids, Position
from projector.resume import Ahead, decide, refused

SID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def place(number: int, *, server: str = "a", born: int = 7) -> Position:
    """A place of a server without GTIDs."""
    return Position(Flavour.MYSQL, server, "binlog.000001", number, None, born)


def only(*readable: Position) -> Callable[[Position], None]:
    """A server that can go on from these places alone."""

    def check(position: Position) -> None:
        if not any(position == one and position.born == one.born for one in readable):
            raise PositionLostError("another history")

    return check


def test_the_stream_begins_where_the_last_one_is() -> None:
    """Whoever is further skips what it has done, and nothing beyond."""
    near, far = place(10), place(30)
    for order in ((near, far), (far, near)):
        found = decide(order, only(near, far))
        assert (found.start, found.reasons) == (near, (None, None))
    ahead = Ahead(far, near)
    assert [ahead.has_done(place(n)) for n in (20, 30, 40, 30)] == [True, True, False, False]
    assert not Ahead(near, near).has_done(near)


def test_each_position_is_asked_for_by_itself() -> None:
    """A new history's beside an old one's: the old one begins again, wherever the new one is."""
    old, new = place(900, born=1), place(10)
    for order in ((old, new), (new, old)):
        found = decide(order, only(new))
        assert found.start == new
        assert dict(zip(order, found.reasons, strict=True)) == {old: "position_lost", new: None}
    assert found.error is not None


def test_who_has_no_checkpoint_begins_where_the_others_go_on() -> None:
    """Nothing is compared for it; where nobody goes on, all begin at the log's end."""
    known = place(5)
    assert decide((None, known), only(known)).reasons == ("initial_build", None)
    assert decide((None, known), only(known)).start == known
    nobody = decide((None, known), only())
    assert (nobody.start, nobody.reasons) == (None, ("initial_build", "position_lost"))


def test_a_start_that_the_server_refuses_costs_whoever_is_there() -> None:
    """The others go on; and it comes to an end."""
    near, far = place(10), place(30)
    check, error = only(near, far), PositionLostError("purged")
    found = refused(decide((near, far, None), check), error, check)
    assert (found.start, found.error) == (far, error)
    assert found.reasons == ("position_lost", None, "initial_build")
    found = refused(found, error, check)
    assert (found.start, found.positions) == (None, (None, None, None))
    assert found.reasons == ("position_lost", "position_lost", "initial_build")


@pytest.mark.parametrize(
    "other",
    [
        place(1, server="b"),
        Position(Flavour.MARIADB, "m", "binlog.000001", 4, MariadbGtids({0: (1, 5)})),
        place(10, born=8),
    ],
)
def test_what_cannot_be_compared_begins_again(other: Position) -> None:
    """Never a bug, and never a guess, also where the server would give its log from both."""
    found = decide((place(10), other), only(place(10), other))
    assert found.start == place(10)
    assert found.reasons == (None, "position_lost")
    assert not Ahead(other, place(10)).has_done(place(10_000))


class Steps:
    """A pipeline that notes what it is given."""

    def __init__(self) -> None:
        self.stepped: list[object] = []
        self.skipped: list[object] = []
        self.step, self.skip = self.stepped.append, self.skipped.append


def test_a_lane_applies_what_it_has_not_done() -> None:
    """Whole transactions that were done are passed; pieces never: nobody knows their end."""
    lane: Any = object.__new__(RealLane)
    lane._ahead_of, lane._pipeline = Ahead(place(30), place(10)), Steps()
    given = [
        Transactions([], 1, position, position or place(25), [0.0])
        for position in (place(20), place(30), None, place(40), place(30))
    ]
    for transactions in given:
        lane.step(transactions)
    assert lane.pipeline.skipped == given[:2]
    assert lane.pipeline.stepped == given[2:]


def test_a_place_held_back_is_not_how_far_the_stream_has_come() -> None:
    """Behind a prepared transaction every one that follows carries the place before it."""
    lane: Any = object.__new__(RealLane)
    lane._ahead_of, lane._pipeline = Ahead(place(30), place(10)), Steps()
    given = [Transactions([], 1, place(min(at, 30)), place(at), [0.0]) for at in (20, 30, 40, 50)]
    for transactions in given:
        lane.step(transactions)
    assert (lane.pipeline.skipped, lane.pipeline.stepped) == (given[:2], given[2:])


# Logs of servers of one topology. Each holds the same transactions, in an order of its own where
# the server may choose, and each projection has come some way with some server.


@dataclass
class Server:
    """A log: names of transactions, `(server id or UUID, number)`, in its order."""

    name: str
    log: list[tuple[int, int]]
    flavour: Flavour

    def at(self, count: int) -> Position:
        """The position after so many transactions."""
        gtids: GtidSet | MariadbGtids
        if self.flavour is Flavour.MYSQL:
            builder = GtidSetBuilder(GtidSet())
            for server, number in self.log[:count]:
                builder.add(f"00000000-0000-0000-0000-{server:012}", "", number)
            gtids = builder.freeze()
        else:
            gtids = MariadbGtids({0: self.log[count - 1]} if count else {})
        return Position(self.flavour, self.name, "binlog.000001", 100 * count + 4, gtids)

    def from_(self, start: Position) -> list[tuple[Position, tuple[int, int]]]:
        """What the server gives from a position on: transactions, each with the position after."""
        if isinstance(start.gtids, GtidSet):
            kept: list[tuple[Position, tuple[int, int]]] = []
            builder = GtidSetBuilder(start.gtids)
            for i, (server, number) in enumerate(self.log, 1):
                sid = f"00000000-0000-0000-0000-{server:012}"
                if start.gtids.contains(GtidSet({(sid, ""): ((number, number),)})):
                    continue
                builder.add(sid, "", number)
                kept.append((replace(self.at(i), gtids=builder.freeze()), (server, number)))
            return kept
        assert isinstance(start.gtids, MariadbGtids)
        first = self.log.index(start.gtids.by_domain[0]) + 1 if start.gtids else 0
        return [(self.at(i), self.log[i - 1]) for i in range(first + 1, len(self.log) + 1)]


@dataclass
class Lane:
    """A projection: what it has applied, and its checkpoint."""

    done: set[tuple[int, int]] = field(default_factory=set)
    position: Position | None = None
    applied_again: int = 0


@st.composite
def topologies(draw: st.DrawFn, flavour: Flavour) -> list[Server]:
    """Two servers that both write into one domain, as in a ring, and replicate each other. MySQL's
    may apply in an order of their own; MariaDB's positions suppose one order in a domain."""
    writers = draw(st.lists(st.integers(1, 2), min_size=1, max_size=12))
    if flavour is Flavour.MARIADB:
        numbers, log = {1: 0, 2: draw(st.integers(0, 5))}, []
        for writer in writers:  # each counts for itself: the other's number may be far ahead
            numbers[writer] += draw(st.integers(1, 4))
            log.append((writer, numbers[writer]))
        return [Server("a", log, flavour), Server("b", log, flavour)]
    shuffled = draw(st.permutations(writers))
    return [Server("a", _counted(writers), flavour), Server("b", _counted(shuffled), flavour)]


def _counted(writers: Sequence[int]) -> list[tuple[int, int]]:
    return [(w, list(writers[: i + 1]).count(w)) for i, w in enumerate(writers)]


def readable(server: Server) -> Callable[[Position], None]:
    """What the servers' own checks say: nothing is lost here but another flavour's."""

    def check(position: Position) -> None:
        if position.flavour is not server.flavour:
            raise PositionLostError("another flavour")

    return check


def lead(server: Server, lanes: Sequence[Lane], until: int, crash_after: int | None) -> None:
    """One term: resume, read until a place in the log, die after so many writes of checkpoints."""
    found = decide([lane.position for lane in lanes], readable(server))
    start = found.start or server.at(len(server.log))
    ahead: list[Ahead] = []
    writes = 0
    for lane, reason in zip(lanes, found.reasons, strict=True):
        if crash_after is not None and writes >= crash_after:
            return
        if reason is not None:  # everything is owed: the database as it is now
            lane.done, lane.position = set(server.log), start
            writes += 1
        assert lane.position is not None
        ahead.append(Ahead(lane.position, start))
    for position, name in server.from_(start)[:until]:
        for lane, own in zip(lanes, ahead, strict=True):
            if own.has_done(position):
                assert name in lane.done, f"{name} was skipped and never applied"
                continue
            if crash_after is not None and writes >= crash_after:
                return
            lane.applied_again += name in lane.done
            lane.done.add(name)
            lane.position = position
            writes += 1


@pytest.mark.parametrize("flavour", list(Flavour))
@given(data=st.data())
def test_no_projection_misses_a_transaction(flavour: Flavour, data: st.DataObject) -> None:
    """Terms with either server, each ended anywhere between two writes, lanes at any distance."""
    servers = data.draw(topologies(flavour))
    lanes = [Lane() for _ in range(data.draw(st.integers(1, 3)))]
    length = len(servers[0].log)
    for lane in lanes:
        count = data.draw(st.none() | st.integers(0, length))
        if count is not None:
            lane.position = servers[0].at(count)
            lane.done = set(servers[0].log[:count])
    for _ in range(data.draw(st.integers(0, 3))):
        crash = data.draw(st.none() | st.integers(0, 6))
        lead(data.draw(st.sampled_from(servers)), lanes, data.draw(st.integers(0, 9)), crash)
    last = data.draw(st.sampled_from(servers))
    lead(last, lanes, length, None)
    for lane in lanes:
        assert lane.done == set(last.log)


@pytest.mark.parametrize("flavour", list(Flavour))
@given(data=st.data())
def test_on_one_server_nothing_is_done_twice(flavour: Flavour, data: st.DataObject) -> None:
    """Its log's order tells what a projection has done, also where numbers fall."""
    server = data.draw(topologies(flavour))[0]
    length = len(server.log)
    lanes = []
    for _ in range(data.draw(st.integers(1, 3))):
        count = data.draw(st.integers(0, length))
        lanes.append(Lane(set(server.log[:count]), server.at(count)))
    lead(server, lanes, length, None)
    assert [lane.done for lane in lanes] == [set(server.log)] * len(lanes)
    assert sum(lane.applied_again for lane in lanes) == 0


@given(topologies(Flavour.MYSQL), st.integers(0, 12), st.integers(0, 12))
def test_the_earlier_place_is_one_that_both_have_passed(
    servers: list[Server], first: int, second: int
) -> None:
    """Also where two servers have applied in another order, and neither set holds the other."""
    a, b = servers[0].at(first), servers[1].at(second)
    found = a.earlier(b)
    assert a.reaches(found)
    assert b.reaches(found)
    assert found == b.earlier(a) or found.gtids == b.earlier(a).gtids


def test_of_two_places_that_nobody_can_compare_one_is_lost() -> None:
    """Of two servers, one of which had no GTIDs yet, or is another flavour."""
    old = Position(Flavour.MYSQL, "a", "binlog.000001", 4, None)
    for other in (
        Position(Flavour.MYSQL, "b", "binlog.000001", 4, GtidSet.parse(f"{SID}:1-5")),
        Position(Flavour.MARIADB, "b", "binlog.000001", 4, MariadbGtids.parse("0-1-5")),
    ):
        for first, second in ((old, other), (other, old)):
            with pytest.raises(PositionLostError):
                first.earlier(second)
