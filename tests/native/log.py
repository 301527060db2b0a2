"""Made-up logs, in packets as a server sends them, and what is read out of them."""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import zstandard

from projector.errors import TransientError
from projector.model import TableName, Transactions, Watch
from projector.mysql.binlog.progress import Progress
from projector.mysql.binlog.stream import Stream
from projector.mysql.binlog.tablemap import ColumnInfo, TableMap
from projector.mysql.binlog.transactions import Assembler
from projector.mysql.position import Flavour, GtidSet, MariadbGtids, Position
from tests.native.wire import length
from tests.unit.recorded_rows import recorded

SMALL = TableName("recorded", "small")
_SMALL_COLUMNS = (ColumnInfo("id", "int", False, None, ()), ColumnInfo("v", "int", False, None, ()),
                  ColumnInfo("w", "varchar", False, "utf8mb4", ()))  # fmt: skip
_SIDS = (b"0123456789abcdef", b"fedcba9876543210")
QUERY, ROTATE, FORMAT, XID, TABLE_MAP, INCIDENT, HEARTBEAT = 2, 4, 15, 16, 19, 26, 27
ROWS_QUERY, GTID, ANONYMOUS, PAYLOAD, MARIADB_GTID, ANNOTATE = 29, 33, 34, 40, 162, 160


class Log:
    """Writes events one after the other, by a seed; some are damaged if `is_damaged`."""

    def __init__(self, random: Random, flavour: Flavour, *, is_damaged: bool) -> None:
        self.random, self.flavour, self.is_damaged = random, flavour, is_damaged
        self.has_checksums = random.random() < 0.7
        self.sent: list[bytes] = []
        self._at, self._gno, self._sid, self._packets = 200, 1, _SIDS[0], 0
        name = random.choice(["mysql"] if flavour is Flavour.MYSQL else ["mariadb", "mariadb11"])
        self.recorded = recorded(name)
        self._write(ROTATE, struct.pack("<Q", 4) + b"binlog.000001", stamp=0, flags=0x20)
        self._format()

    def transaction(self) -> None:  # noqa: C901 (a list of cases)
        """Any transaction, mostly a plain one."""
        random = self.random
        match random.randrange(30):
            case 0:
                self._statement(b"CREATE TABLE other (id INT)")
            case 1:
                self._statement(b"ALTER TABLE recorded.small ADD COLUMN x INT")
            case 2:
                self.begin()
                self._rows()
                self._write(QUERY, self._query(b"COMMIT"))
            case 3:
                self.begin(lone=random.random() < 0.3)  # a server that has crashed
                self._rows()
            case 4:
                self._write(HEARTBEAT, b"binlog.000001", flags=0)
            case 5:
                self._format()
            case 6:
                self.begin(jump=True)
                self._rows()
                self.end()
            case 7:
                self.begin()
                self._write(QUERY, self._query(b"SAVEPOINT a"))
                self._rows()
                self.end()
            case 8:
                self.end()
            case 9:
                self.begin()
                self.map(SMALL, random.randrange(3))
                self.end()
            case 10 | 11 | 12 if self.flavour is Flavour.MYSQL:
                self._compressed()
            case _:
                self.begin()
                for _ in range(random.choice([1, 1, 1, 2, 3])):
                    self._rows()
                self.end()

    def stream(self) -> bytes:
        """All of it."""
        return b"".join(self.sent)

    def _format(self) -> None:
        body = struct.pack("<H50sIB", 4, b"8.0.0", 1700000000, 19) + bytes(40)
        body += bytes([1 if self.has_checksums else 0])
        before, self.has_checksums = self.has_checksums, True  # it has one itself in any case
        self._write(FORMAT, body, flags=0)
        self.has_checksums = before

    def begin(self, *, jump: bool = False, compressed: bool = False, lone: bool = False) -> None:
        if jump:
            self._gno += self.random.choice([1, 10])
            self._sid = self.random.choice(_SIDS)
        self._gno += 1
        stamp = 1700000000 + self._gno
        if self.flavour is not Flavour.MYSQL:
            domain = self.random.choice([0, 0, 0, 7])
            self._write(MARIADB_GTID, struct.pack("<QIB6x", self._gno, domain, lone), stamp=stamp)
            if self.random.random() < 0.3:
                self._write(ANNOTATE, b"UPDATE small SET v = 1")
            return
        kind = self.random.choices([GTID, ANONYMOUS], [20, 1])[0]
        micros = self.random.choice([0, stamp * 1_000_000 + 123456, (1 << 55) | stamp * 1_000_000])
        gno = 0 if kind == ANONYMOUS else self._gno
        body = struct.pack("<B16sqBQQQ", 1, self._sid, gno, 2, 5, 6, micros) + b"\xfc\x10\x01"
        self._write(kind, body, stamp=stamp)
        if compressed:
            return
        self._write(QUERY, self._query(b"BEGIN"), stamp=stamp)
        if self.random.random() < 0.2:
            self._write(ROWS_QUERY, b"\x05UPDATE")

    def end(self) -> None:
        """Write what ends a transaction."""
        self._write(XID, b"\1" * 8)

    def _compressed(self) -> None:
        """A transaction as MySQL compresses it: all but its GTID, in one event."""
        random = self.random
        self.begin(compressed=True)
        at, packets, sent, checksums = self._at, self._packets, self.sent, self.has_checksums
        self.sent, self.has_checksums = [], False
        self._write(QUERY, self._query(b"BEGIN"))
        for _ in range(random.choice([1, 1, 2])):
            self._rows()
        self.end()
        inside = b"".join(packet[5:] for packet in self.sent)
        self._at, self._packets, self.sent, self.has_checksums = at, packets, sent, checksums
        whole = zstandard.ZstdCompressor().compress(inside)
        if self.is_damaged and random.random() < 0.1:
            whole = whole[: random.randrange(len(whole))]
        size = length(len(inside))
        head = bytes([2, 1, 0, 3, len(size)]) + size + bytes([1, 1, 0]) + b"\0"
        if len(inside) < 1 << 20:
            self._write(PAYLOAD, head + whole)

    def _statement(self, text: bytes) -> None:
        if self.flavour is Flavour.MYSQL:
            self.begin()
            self.sent.pop()
            self._write(QUERY, self._query(text))
        else:
            self._gno += 1
            self._write(MARIADB_GTID, struct.pack("<QIB6x", self._gno, 0, 1))
            self._write(QUERY, self._query(text))

    def _query(self, text: bytes) -> bytes:
        return struct.pack("<IIBHH", 1, 0, 8, 0, 0) + b"recorded\0" + text

    def _rows(self) -> None:
        random = self.random
        if random.random() < 0.5:
            number = random.randrange(3)
            if not self.is_damaged or random.random() < 0.97:
                self.map(SMALL, number)
            self.small_rows(number)
            return
        if random.random() < 0.2:
            self.map(TableName("recorded", "unwatched"), 9)
            self.small_rows(9)
        table_map = self.recorded.table_map
        self._write(TABLE_MAP, table_map)
        for kind, body in random.sample(self.recorded.events, k=random.choice([1, 1, 2])):
            self._write(kind, table_map[:6] + body[6:])

    def map(self, table: TableName, number: int) -> None:
        self._write(TABLE_MAP, self._small_map(table, number))

    def _small_map(self, table: TableName, number: int) -> bytes:
        name = table.name.encode()
        return (
            bytes([50 + number, 0, 0, 0, 0, 0, 1, 0, 8]) + b"recorded\0" + bytes([len(name)]) + name
            + b"\0" + bytes([3, 3, 3, 15, 2, 200, 0, 0b110])
        )  # fmt: skip

    def small_rows(self, number: int) -> None:
        random = self.random
        kind = random.choice([30, 31, 31, 31, 32, 23, 24, 25])
        head = bytes([50 + number, 0, 0, 0, 0, 0]) + struct.pack("<H", random.choice([0, 1, 3, 17]))
        if kind >= 30:
            head += struct.pack("<H", 2)
        odd = [b"\x01", b"\x03", b"\x07", *([b"\xff", b"\x00"] if self.is_damaged else [])]
        masks = [b"\x07", b"\x07"] if random.random() < 0.8 else random.choices(odd, k=2)
        is_update = kind in (24, 31)
        images = b""
        count = random.choice([1, 1, 2, 5, 700]) if random.random() < 0.9 else 2500
        for _ in range(count):
            old = self._image(masks[0])
            images += old
            if is_update:
                is_same = masks[0] == masks[1] and random.random() < 0.2
                images += old if is_same else self._image(masks[1])
        bitmaps = b"".join(masks[: 1 + is_update])
        self._write(kind, head + b"\x03" + bitmaps + images)

    def _image(self, mask: bytes) -> bytes:
        random, held = self.random, [n for n in range(3) if mask[0] >> n & 1]
        if not held:
            return b""
        nulls, values = 0, b""
        for bit, column in enumerate(held):
            if column and random.random() < 0.2:
                nulls |= 1 << bit
            elif column < 2:
                values += struct.pack("<i", random.choice([1, 2, -1, 7, 2**31 - 1]))
            else:
                text = random.choice([b"", b"abc", "ü中".encode(), b"x" * 100])
                values += bytes([len(text)]) + text
        return bytes([nulls]) + values

    def _write(self, kind: int, body: bytes, *, stamp: int = 1700000000, flags: int = 0) -> None:
        random = self.random
        if self.is_damaged and random.random() < 0.01 and len(body) > 3 and kind != FORMAT:
            place = random.randrange(len(body))
            body = body[:place] + random.choice([b"", b"\xff", bytes(2)]) + body[place + 1 :]
        size = 19 + len(body) + (4 if self.has_checksums else 0)
        self._at += size
        position = 0 if flags & 0x20 or kind == HEARTBEAT else self._at
        event = struct.pack("<IBIIIH", stamp, kind, 3, size, position, flags) + body
        if self.has_checksums:
            checksum = zlib.crc32(event)
            if self.is_damaged and random.random() < 0.01:
                checksum ^= 1
            event += struct.pack("<I", checksum)
        for first in range(0, len(event) + 1, 0xFFFFFF):
            part = (b"" if first else b"\0") + event[first : first + 0xFFFFFF]
            self.sent.append(len(part).to_bytes(3, "little") + bytes([self._packets & 255]) + part)
            self._packets += 1


class _Wire:
    """Gives the bytes in pieces, then breaks."""

    def __init__(self, data: bytes, random: Random) -> None:
        self._data, self._at, self._random = data, 0, random

    def receive(self) -> bytes:
        size = self._random.choice([50, 400, 5000, 100_000, 100_000])
        data = self._data[self._at : self._at + size]
        self._at += len(data)
        if not data:
            raise TransientError("mysql", "the recording ends")
        return data

    def is_idle(self) -> bool:
        return self._random.random() < 0.1


class _Catalog:
    """Knows the columns, and of no definition."""

    sees_all = True

    def __init__(self, infos: Sequence[ColumnInfo]) -> None:
        self._infos = infos
        self.columns: Callable[[TableName], Sequence[ColumnInfo]] = lambda table: (
            _SMALL_COLUMNS if table == SMALL else infos
        )

    def was_early(self, *_: object) -> bool:
        return False

    def note_defined(self, *_: object) -> None:
        pass

    def forget(self, *_: object) -> None:
        pass

    def may_act_unnamed(self, *_: object) -> bool:
        return False

    def read_clock(self, *_: object) -> None:
        pass


def read(log: Log, seed: int) -> tuple[list[Transactions], str]:
    """What comes out of a log: transactions, and how it ends."""
    found = log.recorded
    table_map = TableMap.parse(found.table_map)
    table = TableName(table_map.schema, table_map.name)
    wanted = tuple(found.infos[i].name for i in found.wanted)
    random = Random(seed)
    watches = [
        Watch(table, wanted, frozenset(wanted)),
        Watch(SMALL, ("id", "v"), frozenset({"id", "v"}), random.choice([(), ("w",)])),
    ]
    if random.random() < 0.05:
        watches[1] = replace(watches[1], keys_unseen=True)
    gtids: Any = GtidSet() if log.flavour is Flavour.MYSQL else MariadbGtids.parse("0-1-1")
    progress = Progress(Position(log.flavour, "s", "", 0, gtids), "s", ("binlog.000001", 4))
    emitted: list[Transactions] = []
    catalog: Any = _Catalog(found.infos)
    assembler = Assembler(
        progress, watches, catalog, folds_names=False, emit=lambda t, rows: emitted.append(t)
    )
    wire: Any = _Wire(log.stream(), random)
    try:
        Stream(wire, assembler).run(lambda: None, lambda: random.random() < 0.05)
    except Exception as error:
        assembler.flush(is_head=False)
        return emitted, f"{type(error).__name__}: {error}"
    raise AssertionError("a log without end")


def made_log(seed: int, flavour: Flavour, *, is_damaged: bool = False, count: int = 30) -> Log:
    """Make up a log of so many transactions."""
    log = Log(Random(seed), flavour, is_damaged=is_damaged)
    for _ in range(count):
        log.transaction()
    return log


def in_all(emitted: list[Transactions], end: str) -> str:
    """Spell what was emitted, wherever it was cut: that depends on when somebody asked."""
    changes = [change for each in emitted for change in each.changes]
    times = [time for each in emitted for time in each.commit_times]
    places = [(each.position, each.barrier) for each in emitted[-1:]]
    return repr((changes, times, sum(each.count for each in emitted), places, end))
