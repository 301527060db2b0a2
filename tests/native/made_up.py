"""Made-up projections, with rows that a server might send for them: by a seed, all of it."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from projector.mysql.dialect import MYSQL
from projector.projection import (
    Aggregate,
    Choice,
    First,
    Fixed,
    Kind,
    Many,
    One,
    OneOf,
    Pairs,
    Partial,
    Path,
    Plan,
    Projection,
)
from projector.projection.encoding import Promise
from projector.projection.levels import Level, Nested, Object
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


_MARK = "\0mark"  # a column that says whether an object is there, or where a path is


def _below(body: Object) -> list[Level]:
    """Return the levels right below an object, also those of objects within its row."""
    nested = [inset.objects for inset in body.insets if isinstance(inset, Nested)]
    return [*body.children, *(level for each in nested for o in each for level in _below(o))]


def _first(level: Level) -> int:
    """Return how many columns are keys."""
    return level.body.writer.first if level.named is None else level.named.key.first


def _names(level: Level) -> list[str]:
    """Return what stands in the columns behind the keys, by the columns' names."""
    columns = level.node.declared
    if level.named is not None:
        assert isinstance(columns, Pairs)
        return [_column(columns.key), _column(columns.value)]
    if level.body.writer.is_plain:
        return [_column(columns.value)]  # type: ignore[union-attr]
    return _within(level.body)


def _within(body: Object) -> list[str]:
    found = [*body.writer.names]
    for inset in body.insets:
        if isinstance(inset, Nested):
            for inner in inset.objects:
                found += [_MARK, *_within(inner)]
        else:
            found += [_MARK, ""] * len(inset.steps)
    return found


def _column(declared: Any) -> str:
    return str(getattr(declared, "column", declared).name)


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
        parents = {id(child): level for level in self.plan.levels for child in _below(level.body)}
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
            collections=[
                *(self._collection(root, 1) for _ in range(random.choice([0, 1, 2, 3]))),
                *self._insets(root, 1),
            ],
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

    def _insets(self, parent: Any, depth: int) -> list[Any]:
        """Objects and paths within the rows of a table."""
        return [self._inset(parent, depth) for _ in range(self.random.choice([0, 0, 1, 2]))]

    def _inset(self, parent: Any, depth: int) -> One | OneOf | Path:
        random, own = self.random, next(iter(parent.primary_key.columns))
        table = self._table([("id", sa.Integer)])
        name = f"inset{self._tables}"
        match random.choice(["one", "one", "one of", "path"]):
            case "one of":
                others = [self._table([("id", sa.Integer)]) for _ in range(random.choice([1, 2]))]
                of = {
                    number: Kind(each, [each.c.id.label("x")]) for number, each in enumerate(others)
                }
                return OneOf(name, own, own, of)
            case "path":
                value = self._fields(table, 1)[0]
                table.append_column(sa.Column("up", sa.Integer))
                return Path(name, table, table.c.id == own, table.c.up, value, random.randint(1, 5))
        many = [self._collection(table, depth + 1)] if depth < 3 and random.random() < 0.3 else []
        within = self._insets(table, depth + 1) if depth < 3 else []
        return One(name, table, table.c.id == own, self._fields(table, 1),
                   collections=[*many, *within])  # fmt: skip

    def _pairs(self, name: str, table: sa.Table, on: Any) -> Pairs:
        random = self.random
        key: Any = next(c for c in table.c if c.name in self._kinds)
        value = self._fields(table, 1)[0]
        if not isinstance(key.type, sa.Integer | sa.String | sa.Numeric | sa.Date | sa.Boolean):
            key = table.c.id
        if random.random() < 0.2:
            key = Choice(key, {1: "one", 42: None}, random.choice([None, "other"]))
        types = {"a": sa.Integer, 1: sa.String(9), "": sa.Boolean}
        return Pairs(
            name, table, on, key, value, order_by=[table.c.id],
            repeated=random.choice(["last", "last", "list", "refuse"]),
            types=types if random.random() < 0.3 else {},
        )  # fmt: skip

    def _collection(self, parent: sa.Table, depth: int) -> Any:
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
        if random.random() < 0.3:
            return self._pairs(name, table, on)
        count = random.choice([0, 0, 1, 2]) if depth < 3 else 0
        of = random.choice([Many, Many, First])
        more: dict[str, Any] = {} if of is Many else {"order_by": [table.c.id]}
        return of(
            name, table, on, fields=self._fields(table, 1),
            collections=[
                *(self._collection(table, depth + 1) for _ in range(count)),
                *(self._insets(table, depth + 1) if depth < 3 else []),
            ],
            **more,
        )  # fmt: skip

    def _promises(self, level: Level) -> list[Promise]:
        kinds = (self._kinds.get(name, (Promise.WHOLE, None)) for name in _names(level))
        return [Promise.WHOLE] * _first(level) + [promise for promise, _ in kinds]

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
            own, width = _first(level) - level.parent_width, _first(parent)
            keys = [
                (*row[:width], *(b"%d" % random.randint(0, 300) for _ in range(own)))
                for row in above for _ in range(random.choice([0, 1, 1, 2, 4]))
            ]  # fmt: skip
            if random.random() < 0.2:
                random.shuffle(keys)  # as a server may for figures
            if level.named is not None and random.random() < 0.8:
                keys = list(dict.fromkeys(keys))
            if not level.is_object and not level.body.writer.is_plain:
                keys = list(dict.fromkeys(keys))
                if random.random() < 0.7:
                    keys.append((None,) * level.parent_width)  # figures over no rows
        return [(*key, *map(self._value, _names(level))) for key in keys]

    def _value(self, name: str) -> bytes | None:
        if name == _MARK:
            return self.random.choice([None, b"1", b"2", b"3", b"44"])
        promise, make = self._kinds.get(name, (Promise.WHOLE, _PROMISED[Promise.WHOLE]))
        if self.random.random() < 0.1:
            return None
        if self.is_odd and self.random.random() < 0.03:
            make = _ANY if promise is Promise.NOTHING else _ODD.get(promise, make)
        return make(self.random)
