"""Random tables of every column type, and random statements on them, the same for the same seed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from pymysql.converters import escape_string

from tests.servers import Flavour

Literal = Callable[[Random], str]

# What the library that we compare with cannot tell, or cannot step over; it also takes utf16 for
# little-endian, BINARY for UTF-8, the fraction of a negative TIME for positive, and some decimals
# that begin with the point for no number.
UNKNOWN_TO_LIBRARY = (
    "UUID", "INET4", "INET6", "VECTOR", "COMPRESSED", "latin1", "utf16", "BINARY",
    "DECIMAL(30,30)",
    *(f" TIME({digits}" for digits in range(1, 7)),
)  # fmt: skip
# Types that cannot be a key: the reader steps over them.
NO_KEYS = ("JSON", "GEOMETRY", "POINT", "VECTOR")


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    literal: Literal

    @property
    def can_be_key(self) -> bool:
        return not self.type.startswith(NO_KEYS)


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` in the order of the definition; `primary_key` is the clause, maybe empty."""

    columns: tuple[Column, ...]
    primary_key: str

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of all columns that a reader may want."""
        return tuple(column.name for column in self.columns if column.can_be_key)

    def definition(self) -> str:
        columns = ", ".join(f"{column.name} {column.type}" for column in self.columns)
        return f"CREATE TABLE t ({columns}{self.primary_key})"


def random_table(random: Random, flavour: Flavour, *, is_for_library: bool, size: int) -> Table:
    """A table of `size` random columns beside its number `id` and a text `body`."""
    pool = [
        (kind, literal)
        for kind, literal in _types(flavour)
        if not (is_for_library and any(word in f" {kind}" for word in UNKNOWN_TO_LIBRARY))
    ]
    columns = [
        Column(f"c{i}", kind + _nullable(random, kind), literal)
        for i, (kind, literal) in enumerate(random.sample(pool, size))
    ]
    columns.append(Column("id", "INT NOT NULL", lambda r: str(r.randrange(40))))
    columns.append(
        Column("k", "BIGINT UNSIGNED NOT NULL", lambda r: str(r.choice([0, 1, 2**64 - 1])))
    )
    columns.append(Column("body", "JSON NULL", _json))
    random.shuffle(columns)
    primary_key = random.choice([", PRIMARY KEY (id)", ", PRIMARY KEY (k, id)", ""])
    return Table(tuple(columns), primary_key)


def _nullable(random: Random, kind: str) -> str:
    # A TIMESTAMP that is NOT NULL may set itself to the present.
    return random.choice([" NULL", " NULL", " NOT NULL"]) if kind[:5] != "TIMES" else " NULL"


def random_statements(random: Random, table: Table, count: int) -> list[str]:
    """Statements that change rows of the table `t`, some of them in transactions."""
    statements = []
    for _ in range(count):
        statement = random.choice([_insert, _insert, _update, _update, _update_json, _delete])
        several = [statement(random, table) for _ in range(random.choice([1, 1, 1, 4]))]
        statements += ["BEGIN", *several, random.choice(["COMMIT", "COMMIT", "ROLLBACK"])]
    return statements


def _insert(random: Random, table: Table) -> str:
    rows = ", ".join(_row(random, table.columns) for _ in range(random.randint(1, 5)))
    names = ", ".join(column.name for column in table.columns)
    if random.randrange(3):
        return f"REPLACE INTO t ({names}) VALUES {rows}"
    column = random.choice(table.columns)
    return (
        f"INSERT INTO t ({names}) VALUES {rows}"
        f" ON DUPLICATE KEY UPDATE {column.name} = VALUES({column.name})"
    )


def _row(random: Random, columns: Sequence[Column]) -> str:
    values = [
        "NULL" if not column.type.endswith("NOT NULL") and random.random() < 0.2
        else column.literal(random)
        for column in columns
    ]  # fmt: skip
    return f"({', '.join(values)})"


def _update(random: Random, table: Table) -> str:
    free = [column for column in table.columns if column.name not in ("id", "k")]
    changed = random.sample(free, random.randint(1, 3))
    values = ", ".join(f"{column.name} = {column.literal(random)}" for column in changed)
    return f"UPDATE t SET {values} WHERE {_some(random)}"


def _update_json(random: Random, table: Table) -> str:
    column = random.choice([c for c in table.columns if c.name not in ("id", "k", "body")])
    return (
        f"UPDATE t SET body = JSON_SET(body, '$.k', {random.randrange(100)}),"
        f" {column.name} = {column.literal(random)} WHERE {_some(random)}"
    )


def _delete(random: Random, table: Table) -> str:
    return f"DELETE FROM t WHERE {_some(random)}"


def _some(random: Random) -> str:
    first = random.randrange(40)
    return f"id BETWEEN {first} AND {first + random.choice([0, 0, 3, 8])}"


def _types(flavour: Flavour) -> list[tuple[str, Literal]]:
    found: list[tuple[str, Literal]] = [
        ("FLOAT", _float), ("DOUBLE", _float), ("YEAR", lambda r: str(r.choice([0, 1901, 2155]))),
        ("DATE", _quoted("0000-00-00", "2026-00-15", "1000-01-01", "9999-12-31", "2024-02-29")),
        ("BIT(1)", _bits(1)), ("BIT(9)", _bits(9)), ("BIT(64)", _bits(64)),
        ("CHAR(10)", _text(10)), ("CHAR(200)", _text(200)), ("VARCHAR(10)", _text(10)),
        ("VARCHAR(300)", _text(300)), ("VARCHAR(20) CHARACTER SET latin1", _latin1),
        ("CHAR(20) CHARACTER SET utf16", _text(20)), ("TINYTEXT", _text(30)), ("TEXT", _text(900)),
        ("MEDIUMTEXT", _text(900)), ("LONGTEXT", _text(900)),
        ("VARCHAR(9) CHARACTER SET cp1251", _quoted("", "привет", "abc")),
        ("BINARY(16)", _binary(16)), ("BINARY(3)", _binary(3)), ("VARBINARY(300)", _binary(300)),
        ("TINYBLOB", _binary(20)), ("BLOB", _binary(900)), ("LONGBLOB", _binary(900)),
        ("ENUM('a','b c','d''e','ü')", _quoted("a", "b c", "d'e", "ü")),
        (f"ENUM({','.join(f'{chr(39)}m{i}{chr(39)}' for i in range(300))})",
         lambda r: f"'m{r.randrange(300)}'"),
        ("SET('x','y','z')", _quoted("", "x", "x,z", "x,y,z")),
        (f"SET({','.join(f'{chr(39)}s{i}{chr(39)}' for i in range(64))})",
         _quoted("s0", "s63", "s7,s40,s63")),
        ("JSON", _json), ("GEOMETRY", _point), ("POINT", _point),
    ]  # fmt: skip
    for name, bits in (("TINYINT", 8), ("SMALLINT", 16), ("MEDIUMINT", 24), ("INT", 32),
                       ("BIGINT", 64)):  # fmt: skip
        found += [(name, _integer(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))]
        found += [(f"{name} UNSIGNED", _integer(0, 2**bits - 1))]
    for precision, scale in ((5, 2), (10, 0), (65, 30), (30, 30), (18, 9), (38, 1)):
        found.append((f"DECIMAL({precision},{scale})", _decimal(precision, scale)))
    for digits in range(7):
        found += [
            (f"TIME({digits})", _time(digits)),
            (f"DATETIME({digits})", _moment(digits, "0000-00-00 00:00:00", "9999-12-31 23:59:59")),
            (f"TIMESTAMP({digits})", _moment(digits, "1970-01-01 00:00:01")),
        ]
    return found + (_mysql() if flavour is Flavour.MYSQL else _mariadb(flavour))


def _mysql() -> list[tuple[str, Literal]]:
    return [("VECTOR(4)", lambda r: f"TO_VECTOR('[1, 2.5, {r.randrange(9)}, -1]')")]


def _mariadb(flavour: Flavour) -> list[tuple[str, Literal]]:
    found: list[tuple[str, Literal]] = [
        ("UUID", lambda r: f"'{r.getrandbits(128):032x}'"),
        ("UUID", _quoted("00000000-0000-0000-0000-000000000000",
                         "e97d6a16-e6e3-11f1-8ba5-02fc00000001",
                         "123e4567-e89b-12d3-a456-426655440000")),
        ("INET6", _quoted("::", "::1", "::1.2.3.4", "::ffff:1.2.3.4", "1:0:2:3:4:5:6:7",
                          "fe80::1:0:0:0", "0:1:2:3:4:5:6:7", "1:2:3:4:5:6:7:0")),
        ("INET4", _quoted("0.0.0.0", "10.0.0.0", "255.255.255.255", "1.2.3.4")),
        ("VARCHAR(30) COMPRESSED", _text(30)), ("VARCHAR(3000) COMPRESSED", _text(3000)),
        ("TEXT COMPRESSED", _text(3000)), ("BLOB COMPRESSED", _binary(3000)),
        ("VARBINARY(200) COMPRESSED", _binary(200)),
    ]  # fmt: skip
    if flavour is Flavour.MARIADB_11:
        found.append(("VECTOR(4)", lambda r: f"VEC_FromText('[1, 2.5, {r.randrange(9)}, -1]')"))
    return found


def _quoted(*texts: str) -> Literal:
    return lambda random: f"'{escape_string(random.choice(texts))}'"


def _text(size: int) -> Literal:
    def literal(random: Random) -> str:
        alphabet = random.choice(["abc ", "aü€😀'\\\n", "x"])
        longest = size if random.randrange(4) else 0
        text = "".join(random.choices(alphabet, k=random.randint(0, longest)))
        return f"'{escape_string(text)}'"

    return literal


def _latin1(random: Random) -> str:
    return f"_latin1 X'{bytes(random.randrange(1, 256) for _ in range(8)).hex()}'"


def _binary(size: int) -> Literal:
    def literal(random: Random) -> str:
        value = bytes(random.choices(b"\x00\x00\xffab", k=random.randint(0, size)))
        return f"X'{value.hex()}'"

    return literal


def _bits(size: int) -> Literal:
    return lambda random: str(random.choice([0, 1, 2**size - 1, random.getrandbits(size)]))


def _integer(least: int, most: int) -> Literal:
    return lambda random: str(random.choice([least, most, 0, 1, random.randint(least, most)]))


def _float(random: Random) -> str:
    return repr(random.choice([0.0, -1.5, 1.1, 1e30, random.uniform(-1e6, 1e6)]))


def _decimal(precision: int, scale: int) -> Literal:
    def literal(random: Random) -> str:
        digits = random.choice(["9" * precision, "0" * precision, "".join(
            random.choices("0123456789", k=precision))])  # fmt: skip
        whole, fraction = digits[: precision - scale], digits[precision - scale :]
        return f"{random.choice(['', '-'])}{whole or '0'}{'.' + fraction if fraction else ''}"

    return literal


def _time(digits: int) -> Literal:
    def literal(random: Random) -> str:
        hour = random.choice([0, 1, 12, 837])
        sign = random.choice(["", "-"])
        return f"'{sign}{hour:02d}:{random.randrange(60):02d}:07{_fraction(random, digits)}'"

    return literal


def _moment(digits: int, *edges: str) -> Literal:
    def literal(random: Random) -> str:
        if random.randrange(4) == 0:
            return f"'{random.choice(edges)}'"
        day, second = random.randrange(1, 29), random.randrange(60)
        return f"'2026-{random.randrange(1, 13):02d}-{day:02d} 03:04:{second:02d}" + (
            _fraction(random, digits) + "'"
        )

    return literal


def _fraction(random: Random, digits: int) -> str:
    return "." + "".join(random.choices("0123456789", k=digits)) if digits else ""


def _json(random: Random) -> str:
    value = {"k": random.randrange(100), "a": [1, None, {"b": "x" * random.randrange(300)}]}
    return f"'{json.dumps(value)}'"


def _point(random: Random) -> str:
    return f"ST_GeomFromText('POINT({random.randrange(90)} {random.randrange(90)})')"
