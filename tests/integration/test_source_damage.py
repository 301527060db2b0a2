"""A damaged log never gives a wrong row and never hangs the reader: recorded, broken, replayed."""

import random
import time
from collections.abc import Callable, Iterator

import pytest

from projector.errors import OperatorError, PositionLostError, TransientError
from projector.model import Change, RowsChange, Transactions
from projector.mysql.binlog import BinlogSource
from projector.mysql.binlog.catalog import Catalog
from projector.mysql.binlog.connection import Replica, Server, Wire, connect, identify
from projector.mysql.binlog.damage import DamagedEventError
from projector.mysql.binlog.progress import Progress
from projector.mysql.binlog.stream import Stream
from projector.mysql.binlog.transactions import Assembler
from projector.mysql.position import Position
from tests.integration.source_reading import settings, watch
from tests.servers import DatabaseServer, Flavour

pytestmark = pytest.mark.server

REPLAYS = 300


class Recorded:
    """A wire that gives recorded bytes in pieces of any size, then breaks."""

    def __init__(self, data: bytes, chance: random.Random) -> None:
        self._data, self._at, self._chance = data, 0, chance

    def receive(self) -> bytes:
        data = self._data[self._at : self._at + self._chance.choice([1, 50, 400, 5000, 100_000])]
        self._at += len(data)
        if not data:
            raise TransientError("mysql", "the recording ends")
        return data

    def is_idle(self) -> bool:
        return self._chance.random() < 0.3


Replay = Callable[[bytes, random.Random], list[Change]]


def record(server: DatabaseServer, who: Server, start: Position) -> bytes:
    """The log's bytes from a place to its end."""
    wire = Wire(settings(server), who, start, Replica.visitor())
    end, data = time.monotonic() + 0.5, b""
    while time.monotonic() < end:  # until a heartbeat or two have come as well
        data += b"" if wire.is_idle() else wire.receive()
    wire.close()
    return data


@pytest.fixture
def recording(database: DatabaseServer, fresh_database: str) -> Iterator[tuple[bytes, Replay]]:
    """Bytes with every kind of transaction, and how to read them."""
    columns = ("id", "a", "d", "e")
    with database.connect(fresh_database) as connection, connection.cursor() as cursor:
        run = cursor.execute
        run(
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b VARCHAR(100),"
            " d DATETIME(3), e DECIMAL(10, 3), j JSON)"
        )
        start = BinlogSource(settings(database)).current()
        for i in range(6):
            if database.flavour is Flavour.MYSQL:
                run(f"SET SESSION binlog_transaction_compression = {i % 2}")
            run("BEGIN")
            run(
                "INSERT INTO t (a, b, d, e, j)"
                " VALUES (1, 'x', NOW(3), 1.5, '{}'), (2, '', NOW(), 2, '[]')"
            )
            run("UPDATE t SET a = a + 1")
            run("COMMIT")
        for text in (
            "XA START 'q'",
            "INSERT INTO t (a) VALUES (5)",
            "XA END 'q'",
            "XA PREPARE 'q'",
        ):
            run(text)
        run("XA COMMIT 'q'")
        run("ALTER TABLE t ADD COLUMN z INT")
        run("INSERT INTO t (a, z) VALUES (1, 2)")
    with connect(settings(database)) as asking:
        who = identify(asking)
    catalog = Catalog(settings(database))
    watches = [watch(fresh_database, columns=columns)]

    def replay(data: bytes, chance: random.Random) -> list[Change]:
        given: list[Transactions] = []
        assembler = Assembler(
            Progress(start, who.name), watches, catalog, folds_names=False,
            emit=lambda transactions, rows: given.append(transactions),
        )  # fmt: skip
        stream = Stream(Recorded(data, chance), assembler)  # type: ignore[arg-type]
        with pytest.raises((TransientError, DamagedEventError, PositionLostError, OperatorError)):
            stream.run(lambda: None, lambda: False)
        assembler.flush(is_head=True)
        return [change for part in given for change in part.changes]

    yield record(database, who, start), replay
    catalog.close()


@pytest.mark.parametrize("seed", range(2))
def test_damage_never_gives_a_row_that_was_not_written(
    recording: tuple[bytes, Replay], seed: int
) -> None:
    """Changed, cut and inserted bytes end in an error or in rows that are right."""
    data, replay = recording
    chance = random.Random(seed)
    right = replay(data, chance)
    assert sum(isinstance(change, RowsChange) for change in right) == 14
    for _ in range(REPLAYS):
        broken, at = bytearray(data), chance.randrange(len(data))
        match chance.choice(["change", "change", "cut", "insert"]):
            case "change":
                for _ in range(chance.choice([1, 1, 2, 5])):
                    broken[chance.randrange(len(broken))] = chance.randrange(256)
            case "cut":
                del broken[at : at + chance.choice([1, 4, 30])]
            case "insert":
                broken[at:at] = chance.randbytes(chance.choice([1, 4, 30]))
        for change in replay(bytes(broken), chance):
            assert change in right or not isinstance(change, RowsChange)
