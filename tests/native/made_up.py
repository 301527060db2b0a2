"""Made-up projections, with rows that a server might send for them: by a seed, all of it."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from projector.mysql.dialect import MYSQL
from projector.projection import Aggregate, Fixed, Many, Partial, Plan, Projection
from projector.projection.encoding import Promise
from projector.projection.selects import Level
from tests.native.wire import Result, Row

_TEXTS = (
    "", "a", 'a "quoted" \\ text', "tab\tline\nend\x01\x1f\x7f", "ünïcödé ﬀ 😀 \u2028", "x" * 300,
    "0", "null", "a" * 7 + '"', "a" * 8 + "\\",
)  # fmt: skip
_JSON = (
    b"{}", b"[]", b'{"a": 1, "b": [true, null, "x y"]}', b'"a \\" b"', b"1.5e10", b" [ 1 , 2 ] ",
    b'{"a": {"b": {"c": []}}, "d": "\\u00e9"}', b'{"k\\u0061": 1}', b"-0", b"false",
    b"[[[[[[[[[[1]]]]]]]]]]", b'{"' + b"k" * 300 + b'": "' + b"v" * 300 + b'"}',
    b"{" + b", ".join(b'"%d": %d' % (n, n) for n in range(40)) + b"}",
)  # fmt: skip
_BAD_JSON = (
    b'{"a": 1, "a": 2}', b"[1,]", b"{", b"nan", b"NaN", b'"\\udc00"', b"01",
    b"[" * 101 + b"]" * 101, b"\xff", b"",
    b'"\n"', b"1 2", b"-", b"tru", b'{"a" 1}', b"1" * 4301, b"\xef\xbb\xbf1",
)  # fmt: skip
_NUMBERS = (b"0", b"1", b"-1", b"42", b"18446744073709551615", b"-9223372036854775808")
_ODD_NUMBERS = (b"007", b"-0", b"+5", b"1e3", b"1.50", b"0.0000001", b" 1", b"1_0", b"abc", b"",
                b"0.1", b"-12.345", b"1e400", b"nan", b"3.4028235e38", b"100", b"1.10")  # fmt: skip
_INSTANTS = (
    b"2026-11-22 21:59:12", b"2026-11-22 21:59:12.452458", b"2024-02-29 00:00:00.000000",
    b"1999-12-31 23:59:59.10", b"0001-01-01 00:00:00",
)  # fmt: skip
_BAD_INSTANTS = (b"0000-00-00 00:00:00", b"2023-02-29 01:02:03", b"2026-13-01 00:00:00")
_BITS = (b"\0", b"\1", b"\0\0\1", b"\xff" * 8, b"")
_BYTES = (b"", b"\0", b"\xff\xfe", b"0123456789abcdef", bytes(range(256)), b"a" * 17)
_UUIDS = (
    b"123e4567-e89b-42d3-8456-426655440000", b"123E4567-E89B-42D3-8456-426655440000",
    b"123e4567e89b42d38456426655440000", b"{123e4567-e89b-42d3-8456-426655440000}", b"no",
)  # fmt: skip
_TIMES = (b"21:59:12", b"00:00:00.5", b"-01:00:00", b"838:59:59", b"24:00:00", b"23:59:59.123456")

Make = Callable[[Random], bytes]


def _of(*values: bytes) -> Make:
    return lambda random: random.choice(values)


def _text(random: Random) -> bytes:
    return "".join(random.choices(_TEXTS, k=random.choice([1, 1, 2, 5]))).encode()


def _decimal(random: Random) -> bytes:
    return b"%d.%02d" % (random.randint(-1000, 10**12), random.randint(0, 99))


_PROMISED: dict[Promise, Make] = {
    Promise.WHOLE: _of(*_NUMBERS),
    Promise.DECIMAL: _decimal,
    Promise.BIT: _of(*_BITS),
    Promise.INSTANT: _of(*_INSTANTS),
    Promise.DATE: lambda random: random.choice(_INSTANTS)[:10],
    Promise.JSON: _of(*_JSON),
    Promise.TEXT: _text,
}
_ODD: dict[Promise, Make] = {
    Promise.INSTANT: _of(*_BAD_INSTANTS),
    Promise.DATE: lambda random: random.choice(_BAD_INSTANTS)[:10],
    Promise.TEXT: _of(*_BYTES, *_BAD_JSON, *_UUIDS, *_TIMES),
}
_ANY = _of(*_NUMBERS, *_ODD_NUMBERS, *_INSTANTS, *_BAD_INSTANTS, *_BITS, *_BYTES, *_JSON,
           *_BAD_JSON, *_UUIDS, *_TIMES, *(text.encode() for text in _TEXTS))  # fmt: skip

# Declared types, with the promise that usually comes with them and usual values where it is none.
_KINDS: Sequence[tuple[Callable[[], Any], Promise, Make | None]] = (
    (sa.Integer, Promise.WHOLE, None),
    (sa.BigInteger, Promise.WHOLE, None),
    (sa.Boolean, Promise.WHOLE, None),
    (lambda: mysql.TINYINT(1), Promise.WHOLE, None),
    (sa.Boolean, Promise.BIT, None),
    (lambda: mysql.BIT(9), Promise.BIT, None),
    (mysql.YEAR, Promise.NOTHING, _of(b"1999", b"0000")),
    (lambda: sa.Numeric(14, 2), Promise.DECIMAL, None),
    (lambda: sa.Numeric(14, 2), Promise.NOTHING, _of(*_NUMBERS, b"12.50", b"0.1")),
    (sa.Double, Promise.NOTHING, _of(*_NUMBERS, b"1.5", b"0.001", b"1e20", b"-2.25", b"0.1")),
    (sa.DateTime, Promise.INSTANT, None),
    (sa.DateTime, Promise.TEXT, _of(*_INSTANTS)),
    (sa.Date, Promise.DATE, None),
    (sa.Time, Promise.NOTHING, _of(_TIMES[0], _TIMES[1], _TIMES[5])),
    (lambda: sa.String(50), Promise.TEXT, None),
    (sa.Text, Promise.TEXT, None),
    (lambda: sa.String(50), Promise.NOTHING, _text),
    (sa.LargeBinary, Promise.NOTHING, _of(*_BYTES)),
    (lambda: sa.BINARY(16), Promise.NOTHING, _of(b"0123456789abcdef", bytes(range(16)))),
    (sa.Uuid, Promise.TEXT, _of(*_UUIDS[:2])),
    (sa.JSON, Promise.JSON, None),
    (sa.JSON, Promise.TEXT, _of(*_JSON)),
)


class MadeUp:
    """A plan, and rows for it; `is_odd`: with values that cannot be written, now and then."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.is_odd = random.random() < 0.3
        self._kinds: dict[str, tuple[Promise, Make]] = {}
        self._tables = 0
        self.plan = Plan(self._projection(), MYSQL)

    def answers(self) -> list[Result]:
        """Make up a result for each level: rows in the order of their keys, mostly."""
        rows_of: dict[int, list[Row]] = {}
        results: list[Result] = []
        parents = {id(child): level for level in self.plan.levels for child in level.body.children}
        for level in self.plan.levels:
            above = rows_of.get(id(parents[id(level)])) if id(level) in parents else None
            rows = rows_of[id(level)] = self._rows(level, parents.get(id(level)), above)
            results.append((self._promises(level), rows))
        return results

    def _projection(self) -> Projection:
        random = self.random
        key = random.choice([1, 1, 1, 2])
        kind = random.choice([sa.Integer, sa.Integer, lambda: sa.String(20)])
        root = self._table([(f"k{n}", kind) for n in range(key)])
        return Projection(
            name="made", root=root, fields=self._fields(root, 0),
            collections=[self._collection(root, 1) for _ in range(random.choice([0, 1, 2, 3]))],
        )  # fmt: skip

    def _table(self, key: Sequence[tuple[str, Callable[[], Any]]], parent: Any = None) -> sa.Table:
        self._tables += 1
        columns: list[Any] = [sa.Column(name, kind(), primary_key=True) for name, kind in key]
        if parent is not None:
            columns += [sa.Column(f"p_{c.name}", c.type) for c in parent.primary_key.columns]
        for number in range(self.random.choice([1, 2, 5, 9])):
            kind, promise, make = self.random.choice(_KINDS)
            name = f"t{self._tables}_{number}" + self.random.choice(["", "", ' "x"', "é"])
            columns.append(sa.Column(name, kind()))
            self._kinds[name] = (promise, make or _PROMISED[promise])
        return sa.Table(f"t{self._tables}", sa.MetaData(), *columns)

    def _fields(self, table: sa.Table, least: int) -> list[Any]:
        free = [c for c in table.columns if c.name in self._kinds]
        chosen = self.random.sample(free, k=self.random.randint(max(1, least), len(free)))
        fields: list[Any] = list(chosen)
        if self.random.random() < 0.2:
            fields[0] = self.random.choice([Partial(fields[0]), Fixed(fields[0], "***")])
        return fields

    def _collection(self, parent: sa.Table, depth: int) -> Many | Aggregate:
        random = self.random
        table = self._table([("id", sa.Integer)], parent)
        on = sa.and_(*(table.c[f"p_{c.name}"] == c for c in parent.primary_key.columns))
        name = f"many{self._tables}"
        if random.random() < 0.3:
            return Aggregate(table, on, fields=[
                sa.func.count().label(f"n{self._tables}"),
                sa.func.coalesce(sa.func.sum(table.c.id), 0).label(f"s{self._tables}"),
            ])  # fmt: skip
        if random.random() < 0.3:
            return Many(name, table, on, value=self._fields(table, 1)[0])
        count = random.choice([0, 0, 1, 2]) if depth < 3 else 0
        return Many(
            name, table, on, fields=self._fields(table, 1),
            collections=[self._collection(table, depth + 1) for _ in range(count)],
        )  # fmt: skip

    def _promises(self, level: Level) -> list[Promise]:
        promises = [Promise.WHOLE] * level.body.writer.first
        for name in level.body.writer.names:
            promise = self._kinds.get(name, (Promise.WHOLE, None))[0]
            promises.append(promise)
        return promises

    def _rows(self, level: Level, parent: Level | None, above: list[Row] | None) -> list[Row]:
        random = self.random
        if parent is None or above is None:
            count = random.choice([0, 1, 2, 7, 30])
            numbers = sorted(random.sample(range(1000), k=count))
            keys = [
                tuple(b"%d" % (number + part) for part in range(level.key_width))
                for number in numbers
            ]
        else:
            own, width = level.body.writer.first - level.parent_width, parent.body.writer.first
            keys = [
                (*row[:width], *(b"%d" % random.randint(0, 300) for _ in range(own)))
                for row in above for _ in range(random.choice([0, 1, 1, 2, 4]))
            ]  # fmt: skip
            if random.random() < 0.2:
                random.shuffle(keys)  # as a server may for figures
            if not level.is_object and not level.body.writer.is_plain:
                keys = list(dict.fromkeys(keys))
                if random.random() < 0.7:
                    keys.append((None,) * level.parent_width)  # figures over no rows
        return [(*key, *map(self._value, level.body.writer.names)) for key in keys]

    def _value(self, name: str) -> bytes | None:
        promise, make = self._kinds.get(name, (Promise.WHOLE, _PROMISED[Promise.WHOLE]))
        if self.random.random() < 0.1:
            return None
        if self.is_odd and self.random.random() < 0.03:
            make = _ANY if promise is Promise.NOTHING else _ODD.get(promise, make)
        return make(self.random)
