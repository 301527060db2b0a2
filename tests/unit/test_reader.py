"""How a walk is cut into chunks."""

from typing import Any

import pytest

from projector.debt import Debt
from projector.portion import Portion, Portions
from projector.reconcile import Reader


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
    reader = Reader(sink, lambda: table, Portions(walk, walk, walk), lambda: need)
    table.reader, table.size = walk, size
    cursor, seen = None, []
    while True:
        walk.size = 10
        ids, cursor = reader.cut(Debt("all", "test"), cursor, need)
        seen += ids
        if cursor is None:
            break
    assert seen == table.ids
