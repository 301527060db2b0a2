"""How a walk is cut into chunks."""

import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from projector.debt import NO_LAG, Debt
from projector.fetch import Fetched
from projector.model import Batch, Differences, Reason
from projector.mysql.position import Position
from projector.portion import Portion, Portions
from projector.reconcile import Chunk, ChunkReader, Walker, _Flight, _following
from tests.memory_sink import MemorySink, MemoryStore, Size


class Growing:
    """A table of ids; while it is asked, another thread changes the size of chunks."""

    def __init__(self, count: int) -> None:
        self.ids = [str(number) for number in range(count)]
        self.reader: Any = None
        self.size = 0

    def ids_after(self, after: str | None, limit: int, _need: Any) -> list[str]:
        first = int(after) + 1 if after is not None else 0
        self.reader.size = self.size
        return self.ids[first : first + limit]


@pytest.mark.parametrize("size", [3, 20])
def test_a_walk_does_not_end_because_chunks_change_their_size(size: int) -> None:
    """Only an answer shorter than was asked for is the end."""
    table = Growing(100)
    sink: Any = None
    need: Any = None
    walk = Portion(10, 10, 1.0)
    reader = ChunkReader(sink, lambda: table, Portions(walk, walk, walk), lambda: need)
    table.reader, table.size = walk, size
    cursor, seen = None, []
    while True:
        walk.size = 10
        ids, cursor = reader.cut(Debt("all", "test"), cursor, need, 1000)
        seen += ids
        if cursor is None:
            break
    assert seen == table.ids


def test_strays_are_counted_by_what_was_looked_at() -> None:
    """So that a scrub rests after it, also where nothing was found."""
    store = MemoryStore()
    sink = MemorySink(store, views={"tag": 0})
    sink.acquire()
    sink.load()
    places = {str(n): f"{n} tag:t{n % 7}" for n in range(50)}
    position = Position.parse("mysql|u1|binlog.000007|1234|")
    sink.apply(
        Batch(dict.fromkeys(places, b"x"), frozenset(), Reason.CHANGE, position, "f", places=places)
    )
    names = Portion(100, 100, 1.0)
    need: Any = None
    reader = ChunkReader(sink, lambda: need, Portions(names, names, names), lambda: need)
    chunk = reader.strays(None)
    assert (chunk.count, chunk.cursor, chunk.strays) == (57, None, frozenset())
    store.sizes["tag:junk"] = Size(5)
    chunk = reader.strays(None)
    assert chunk.strays == {("tag:junk", ""), ("tag:", "")}


@pytest.mark.parametrize(("again", "reason"), [
    ("lists_changed", "lists_changed"), ("views_changed", "views_changed"),
    ("requested", "requested"), ("hash_changed", "another_round"),
])  # fmt: skip
def test_a_further_round_is_lag_where_its_cause_is(again: str, reason: str) -> None:
    """Nobody's commit waits for lists: a second round of these keeps its own reason."""
    debt = Debt("all", "views_changed", phase="strays", again=again, started_at=1.0)
    following = _following(debt, has_lists=True)
    assert following is not None
    assert (following.reason, following.reason in NO_LAG) == (reason, again in NO_LAG)


@pytest.mark.parametrize("views", [0, 3])
def test_a_scrub_takes_its_time_over_lists_too(views: int) -> None:
    """All phases together rest for the interval, whatever is found: lists may be many."""
    plan = SimpleNamespace(views=SimpleNamespace(keep=dict.fromkeys(range(views), 0)))
    known = SimpleNamespace(checkpoint=SimpleNamespace(documents=100))
    walker: Any = SimpleNamespace(
        _pipeline=SimpleNamespace(known=known, plan=plan),
        _reader=SimpleNamespace(has_lists=views > 0),
        _scrub_interval_s=600.0,
    )
    nothing = Fetched({}, frozenset(), {})
    rested = 0.0
    for phase, count in {"write": 100, "orphans": 100, "strays": 2 * 100 * views}.items():
        flight = _Flight("scrub", phase, 0.0, Future())
        Walker._pace(walker, flight, Chunk(nothing, frozenset(), Differences(), count, None))
        rested += walker._rest_until - time.monotonic() if count else 0.0
    assert rested == pytest.approx(600.0, abs=1.0)
