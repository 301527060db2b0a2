"""Types of PostgreSQL's columns, by families whose values can be equal to each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.abroad.worlds.kinds import Kind

_TEXTS = ("", "a", "A", "b", "a ", "ab", "1", "01", "Z", "z", "a:b", "%", "o'x", '"\\', "á", "ä",
          "ß", "ss", "é", "ж", "Ж", "中", "ﬀ", "😀", "𝄞", "a\u0301", "\u200b", "\\x41", "NULL",
          "{}", "t")  # fmt: skip
_UUIDS = (
    "00000000-0000-0000-0000-000000000000", "e97d6a16-e6e3-11f1-8ba5-02fc00000001",
    "123e4567-e89b-12d3-a456-426655440000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "{123E4567-E89B-12D3-A456-426655440000}",
)  # fmt: skip
# What a database of these worlds has before its tables. The last two: where the server has them.
TYPES = (
    "CREATE TYPE mood AS ENUM ('z', 'b', 'ab', '1')",
    "CREATE TYPE \"Odd Mood\" AS ENUM ('z', 'b', 'B ', '😀')",
    "CREATE DOMAIN small AS int4 CHECK (value < 100000)",
    "CREATE DOMAIN smaller AS small",
    "CREATE DOMAIN word AS varchar(20)",
    'CREATE DOMAIN folded AS text COLLATE "C"',
    "CREATE EXTENSION IF NOT EXISTS citext",
    "CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
)


@dataclass(frozen=True, slots=True)
class PostgresKind(Kind):
    """A type. `charset` is set for texts; `collation` is empty for the database's own."""

    @property
    def type(self) -> str:
        """The whole type for a definition."""
        return f'{self.ddl} COLLATE "{self.collation}"' if self.collation else self.ddl

    @property
    def is_choice(self) -> bool:
        """Whether its values are some texts, told in its definition."""
        return "pg.ENUM" in self.declared and "ARRAY" not in self.declared

    def by_bytes(self, sql: str) -> str:
        """An expression of this type, to be ordered by its bytes."""
        return f'{sql} COLLATE "C"'


def text_literal(value: str) -> str:
    """A text that no session's setting can change."""
    return "U&'" + "".join(f"\\+{ord(each):06x}" for each in value) + "'" if value else "''"


def _number(ddl: str, declared: str, *edges: str) -> Kind:
    literals = ("1", "2", "3", "4", "5", "6", "1", "2", "3", *edges)
    return PostgresKind(ddl, declared, "int", literals, can_be_id=True)


def numbers() -> list[Kind]:
    """Whole numbers of each width, numerics whose digits differ where they are equal, floats."""
    found = [
        _number("int2", "sa.SmallInteger", "-32768", "32767"),
        _number("int4", "sa.Integer", str(-(2**31)), str(2**31 - 1), "-1"),
        _number("int8", "sa.BigInteger", str(-(2**63)), str(2**63 - 1)),
        _number("small", "sa.Integer", "99999"),
        _number("smaller", "sa.Integer", "-1"),
    ]
    found += [found[1], found[2], found[2]]
    found += [
        PostgresKind("numeric(10,2)", "sa.Numeric(10, 2)", "numeric", ("1", "2.5", "3.00", "-1")),
        PostgresKind("numeric", "sa.Numeric", "numeric",
                     ("1", "1.0", "1.00", "2", "2.0", "2.50", "3", "9" * 20, "'NaN'")),
        PostgresKind("float8", "sa.Double", "float",
                     ("1", "2", "2.5", "3", "0.1", "'-0'", "1e300", "'NaN'", "9007199254740993")),
        PostgresKind("float4", "sa.REAL", "float", ("1", "2", "2.5", "3", "0.1", "16777217")),
    ]  # fmt: skip
    return [replace(kind, family="number") for kind in found]


def _text(ddl: str, declared: str, collation: str = "") -> Kind:
    literals = tuple(map(text_literal, _TEXTS))
    folds = collation == "nd" or ddl == "citext"  # such a text names no document
    return PostgresKind(ddl, declared, "plain", literals, "text", "utf8", collation, not folds)


def texts() -> list[Kind]:
    """Texts of every type and of several collations, some of which call unlike texts equal."""
    found = []
    for collation in ("", "", "C", "und-x-icu", "nd"):
        found.append(_text("text", "sa.Text", collation))
        found.append(_text("varchar(20)", "sa.String(20)", collation))
        found.append(_text("char(8)", "sa.CHAR(8)", collation))
    found += [_text("citext", "sa.Text"), _text("word", "sa.String(20)"), _text("name", "sa.Text"),
              _text("folded", "sa.Text")]  # fmt: skip
    return found


def choices() -> list[Kind]:
    """Enums: equal to values of their own type alone."""
    return [
        PostgresKind("mood", 'pg.ENUM("z", "b", "ab", "1", name="mood", create_type=False)',
                     "plain", ("'z'", "'b'", "'ab'", "'1'"), "mood", "utf8", can_be_id=True),
        PostgresKind('"Odd Mood"', 'pg.ENUM("z", "b", "B ", "😀", name="Odd Mood",'
                     " create_type=False)",
                     "plain", ("'z'", "'b'", "'B '", "'😀'"), "odd", "utf8", can_be_id=True),
    ]  # fmt: skip


def binaries() -> list[Kind]:
    """Bytes."""
    literals = ("'\\x6100'", "'\\x61'", "'\\x'", "'\\xff00'", "'\\x27'", "'\\x5c'")
    return [PostgresKind("bytea", "sa.LargeBinary", "base64", literals, "bytes", can_be_id=True)]


def moments() -> list[Kind]:
    """Dates and times; the clock stands on midnight often enough to be equal to a date."""
    days = ("2026-01-01", "2026-01-02", "2024-02-29", "1999-12-31")
    dates = (*(f"'{day}'" for day in days * 3), "'infinity'", "'0044-03-15 BC'")
    times = tuple(f"'{day} {hour}'" for day in days for hour in ("00:00:00", "10:20:30"))
    fine = (*times, "'2026-01-01 00:00:00.5'", "'2026-01-01 10:20:30.000100'", "'-infinity'")
    zoned = tuple(f"{each[:-1]}+00'" if each[1] != "-" else each for each in fine)
    return [
        PostgresKind("date", "sa.Date", "date", dates, "moment"),
        PostgresKind("timestamp", "sa.DateTime", "moment", fine, "moment"),
        PostgresKind("timestamp(0)", "sa.DateTime", "moment", times, "moment"),
        PostgresKind("timestamptz", "sa.DateTime(timezone=True)", "moment",
                     (*zoned, "'2026-01-01 02:00:00+02'"), "moment"),
    ]  # fmt: skip


def identifiers() -> list[Kind]:
    """UUIDs."""
    literals = tuple(f"'{value}'" for value in _UUIDS)
    return [PostgresKind("uuid", "sa.Uuid", "plain", literals, "uuid", can_be_id=True)]


def addresses() -> list[Kind]:
    """Network addresses: of hosts and of networks, which are equal where no host is named."""
    networks = ("'10.0.0.1'", "'10.0.0.1/32'", "'10.0.0.0/8'", "'::1'", "'fe80::/10'")
    return [
        PostgresKind("inet", "pg.INET", "plain", (*networks, "'10.0.0.1/24'"), "inet"),
        PostgresKind("cidr", "pg.CIDR", "plain", networks, "inet"),
        PostgresKind("macaddr", "pg.MACADDR", "plain",
                     ("'08:00:2b:01:02:03'", "'08002b-010203'", "'00:00:00:00:00:00'"), "mac"),
    ]  # fmt: skip


FAMILIES = (numbers, numbers, numbers, texts, texts, texts, choices, binaries, moments,
            identifiers, addresses)  # fmt: skip


def payloads() -> list[Kind]:
    """What stands beside the keys: every type that a document can show."""
    text = (*map(text_literal, _TEXTS), "repeat('aé', 3000)", "repeat('x', 100000)")
    json_values = tuple(
        f"'{v}'" for v in ('{"p": 1, "a": [null, true, 1.50]}', '{"p": 2}', "[]", '"x"', "null")
    )
    found = [
        PostgresKind("text", "sa.Text", "plain", text, charset="utf8"),
        PostgresKind("text", "sa.Text", "plain", text, charset="utf8"),
        PostgresKind("varchar", "sa.String", "plain", text, charset="utf8"),
        PostgresKind("bytea", "sa.LargeBinary", "base64",
                     ("'\\x00ff'", "'\\x'", "convert_to(repeat('b', 50000), 'UTF8')")),
        PostgresKind("json", "sa.JSON", "json", (*json_values, "'{\"a\": 1, \"a\": 2}'")),
        PostgresKind("jsonb", "pg.JSONB", "json",
                     (*json_values, "jsonb_build_object('p', repeat('y', 9000))")),
        PostgresKind("boolean", "sa.Boolean", "bool", ("true", "false", "'on'")),
        PostgresKind("bit(3)", "pg.BIT(3)", "plain", ("B'101'", "B'000'")),
        PostgresKind("varbit", "pg.BIT(varying=True)", "plain", ("B'1'", "B''")),
        PostgresKind("time", "sa.Time", "clock", ("'10:20:30.5'", "'00:00:00'", "'24:00:00'")),
        PostgresKind("numeric(12,4)", "sa.Numeric(12, 4)", "numeric",
                     ("0", "-1.5", "12345678.9999", "'NaN'")),
        PostgresKind("int4[]", "pg.ARRAY(sa.Integer)", "int[]",
                     ("'{1,NULL,3}'", "'{}'", "'{{1,2},{3,4}}'", "'[2:3]={7,8}'")),
        PostgresKind("text[]", "pg.ARRAY(sa.Text)", "text[]",
                     ("ARRAY['a,b', NULL, 'NULL', '', 'q\"\\']", "'{}'")),
        PostgresKind("mood[]", 'pg.ARRAY(pg.ENUM("z", "b", "ab", "1", name="mood",'
                     " create_type=False))", "text[]", ("'{z,b}'", "'{}'", "'{NULL,ab}'")),
    ]  # fmt: skip
    unkeyed = [replace(kind, can_be_key=False) for kind in found]
    return unkeyed + [kind for family in FAMILIES for kind in family()]
