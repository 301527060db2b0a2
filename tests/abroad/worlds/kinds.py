"""Types of columns: as the server has them, as they are declared, their values, their JSON.

A family is a set of types whose values can be equal to each other: any column may be joined with
any other of its family, whatever server thinks that "equal" means there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.servers import Flavour

_ASCII = ("", "a", "A", "b", "a ", "ab", "1", "01", "Z", "z", "a:b", "%", "o'x", '"\\')
_LATIN = (*_ASCII, "á", "ä", "ß", "ss", "é")
_CYRILLIC = (*_ASCII, "ж", "Ж", "я")
_BASIC = (*_LATIN, "ж", "Ж", "中", "ﬀ")
_ALL = (*_BASIC, "😀", "𝄞", "a\u0301", "\u200b")
_DIGITS = ("1", "2", "3", "4", "01", "2.0", "2.50", " 3", "4 ", "x", "")
_UUIDS = (
    "00000000-0000-0000-0000-000000000000", "e97d6a16-e6e3-11f1-8ba5-02fc00000001",
    "123e4567-e89b-12d3-a456-426655440000", "123e4567-e89b-42d3-8456-426655440000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000001-0000-4000-8000-000000000000",
)  # fmt: skip
_ADDRESSES = ("::", "::1", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1:0:0:0", "1:0:2:3:4:5:6:7")


@dataclass(frozen=True, slots=True)
class Kind:
    """A type. `shape` says how a value stands in JSON; `literals` are values as SQL."""

    ddl: str
    declared: str
    shape: str
    literals: tuple[str, ...]
    family: str = ""
    charset: str = ""
    collation: str = ""
    can_be_id: bool = False
    can_be_key: bool = True

    @property
    def type(self) -> str:
        """The whole type for a definition."""
        if not self.charset:
            return self.ddl
        return f"{self.ddl} CHARACTER SET {self.charset} COLLATE {self.collation}"

    @property
    def is_choice(self) -> bool:
        """Whether its values are some texts, told in its definition."""
        return self.ddl.startswith(("ENUM", "SET"))

    def by_bytes(self, sql: str) -> str:
        """An expression of this type, to be ordered by its bytes."""
        return f"CAST({sql} AS BINARY)"


def text_literal(value: str) -> str:
    """A text that no SQL mode and no character set of the client can change."""
    return f"_utf8mb4 0x{value.encode().hex()}" if value else "''"


def numbers(flavour: Flavour) -> list[Kind]:
    """Whole numbers of each width, decimals, texts of digits, and an ENUM that is its index."""
    found = []
    for name, declared, bits in (
        ("TINYINT", "TINYINT", 8), ("SMALLINT", "SMALLINT", 16), ("MEDIUMINT", "MEDIUMINT", 24),
        ("INT", "INTEGER", 32), ("BIGINT", "BIGINT", 64),
    ):  # fmt: skip
        edges = (str(-(2 ** (bits - 1))), str(2 ** (bits - 1) - 1), "-1")
        plain = {"INT": "sa.Integer", "BIGINT": "sa.BigInteger"}.get(name, f"mysql.{declared}")
        found.append(_number(name, plain, edges))
        edges = (str(2**bits - 1), str(2 ** (bits - 1)))
        found.append(_number(f"{name} UNSIGNED", f"mysql.{declared}(unsigned=True)", edges))
    found += [replace(found[6], declared="sa.Integer"), found[6], found[6], found[8]]
    found += [
        Kind("DECIMAL(10,2)", "sa.Numeric(10, 2)", "plain", ("1", "2.5", "2", "3.00", "4", "-1")),
        Kind("DECIMAL(20,0)", "sa.Numeric(20, 0)", "plain", ("1", "2", "3", "9" * 20)),
        Kind("DOUBLE", "sa.Double", "float", ("1", "2", "2.5", "3e0", "4")),
        Kind("ENUM('3','1','2')", 'mysql.ENUM("3", "1", "2")', "plain", ("'1'", "'2'", "'3'"),
             charset="utf8mb4", collation="utf8mb4_bin", can_be_id=True),
    ]  # fmt: skip
    for charset, collation in (("utf8mb4", "utf8mb4_bin"), ("latin1", "latin1_swedish_ci")):
        literals = tuple(map(text_literal, _DIGITS))
        found.append(Kind("VARCHAR(20)", "sa.String(20)", "plain", literals, charset=charset,
                          collation=collation, can_be_id=True))  # fmt: skip
    return [replace(kind, family="number") for kind in found]


def _number(ddl: str, declared: str, edges: Sequence[str]) -> Kind:
    literals = ("1", "2", "3", "4", "5", "6", "1", "2", "3", *edges)
    return Kind(ddl, declared, "int", literals, can_be_id=True)


def texts(flavour: Flavour) -> list[Kind]:
    """Texts of several character sets and collations, ENUM and SET."""
    collations = [
        ("utf8mb4", "utf8mb4_general_ci", _ALL), ("utf8mb4", "utf8mb4_bin", _ALL),
        ("utf8mb4", "utf8mb4_unicode_ci", _ALL), ("utf8mb3", "utf8mb3_general_ci", _BASIC),
        ("latin1", "latin1_swedish_ci", _LATIN), ("latin1", "latin1_bin", _LATIN),
        ("latin1", "latin1_general_cs", _LATIN), ("ascii", "ascii_general_ci", _ASCII),
        ("cp1251", "cp1251_general_ci", _CYRILLIC),
    ]  # fmt: skip
    if flavour is Flavour.MYSQL:
        collations += [
            ("utf8mb4", "utf8mb4_0900_ai_ci", _ALL),
            ("utf8mb4", "utf8mb4_0900_as_cs", _ALL),
        ]
    if flavour is Flavour.MARIADB_11:
        collations += [("utf8mb4", "utf8mb4_uca1400_ai_ci", _ALL)]
    found = []
    for charset, collation, values in collations:
        literals = tuple(map(text_literal, values))
        for ddl, declared in (("VARCHAR(20)", "sa.String(20)"), ("CHAR(8)", "sa.CHAR(8)")):
            found.append(Kind(ddl, declared, "plain", literals, "text", charset, collation, True))
        found.append(_enum(charset, collation))
        found.append(_set(charset, collation))
    return found


def _enum(charset: str, collation: str) -> Kind:
    return Kind("ENUM('z','b','ab','1')", 'mysql.ENUM("z", "b", "ab", "1")', "plain",
                ("'z'", "'b'", "'ab'", "'1'"), "text", charset, collation, True)  # fmt: skip


def _set(charset: str, collation: str) -> Kind:
    return Kind("SET('z','b','a')", 'mysql.SET("z", "b", "a")', "plain",
                ("'z'", "'b'", "'a'", "'b,a'", "''"), "text", charset, collation, True)  # fmt: skip


def binaries(flavour: Flavour) -> list[Kind]:
    """Bytes, of fixed and of free length."""
    ids = tuple(f"0x{i:02x}{'0' * 28}{'00' if i % 2 else 'ff'}" for i in range(5))
    short = ("0x6100", "0x61", "0x41", "0x00", "0xff00", "''", "0x6120")
    return [
        Kind("BINARY(16)", "sa.BINARY(16)", "uuid", ids, "bytes", can_be_id=True),
        Kind(
            "VARBINARY(20)", "sa.VARBINARY(20)", "base64", (*ids, *short), "bytes", can_be_id=True
        ),
        Kind("BINARY(3)", "sa.BINARY(3)", "base64", short, "bytes", can_be_id=True),
        Kind("VARBINARY(5)", "sa.VARBINARY(5)", "base64", short, "bytes", can_be_id=True),
    ]


def moments(flavour: Flavour) -> list[Kind]:
    """Dates and times; the clock stands on midnight often enough to be equal to a date."""
    days = ("2026-01-01", "2026-01-02", "2024-02-29", "1999-12-31")
    dates = (*(f"'{day}'" for day in days * 3), "'2023-02-30'", "'0000-00-00'")
    times = tuple(f"'{day} {hour}'" for day in days for hour in ("00:00:00", "10:20:30"))
    fine = (*times, "'2026-01-01 00:00:00.5'", "'2026-01-01 10:20:30.000100'")
    times = (*times, *times, "'0000-00-00 00:00:00'", "'2023-04-31 10:00:00'")
    return [
        Kind("DATE", "sa.Date", "date", dates, "moment"),
        Kind("DATETIME", "sa.DateTime", "moment", times, "moment"),
        Kind("DATETIME(6)", "mysql.DATETIME(fsp=6)", "moment", fine, "moment"),
        Kind("TIMESTAMP(3) NULL", "mysql.TIMESTAMP(fsp=3)", "moment", fine, "moment"),
    ]


def identifiers(flavour: Flavour) -> list[Kind]:
    """UUIDs in a type of their own where the server has one, and as texts."""
    literals = tuple(f"'{value}'" for value in _UUIDS)
    found = [
        Kind("CHAR(36)", "sa.String(36)", "plain", literals, "uuid", "ascii", "ascii_general_ci",
             True),
        Kind("VARCHAR(40)", "sa.String(40)", "plain", (*literals, "'x'"), "uuid", "utf8mb4",
             "utf8mb4_general_ci", True),
    ]  # fmt: skip
    if flavour is not Flavour.MYSQL:
        found += [Kind("UUID", "sa.Uuid", "plain", literals, "uuid", can_be_id=True)] * 2
    return found


def addresses(flavour: Flavour) -> list[Kind]:
    """Network addresses: MariaDB's own type, and texts."""
    literals = tuple(f"'{value}'" for value in _ADDRESSES)
    found = [Kind("VARCHAR(45)", "sa.String(45)", "plain", (*literals, "'x'", "'::FFFF:10.0.0.1'"),
                  "inet", "utf8mb4", "utf8mb4_general_ci", True)]  # fmt: skip
    if flavour is not Flavour.MYSQL:
        found += [Kind("INET6", "sa.String(45)", "plain", literals, "inet", can_be_id=True)] * 2
    return found


FAMILIES = (numbers, numbers, texts, texts, binaries, moments, identifiers, addresses)


def payloads(flavour: Flavour) -> list[Kind]:
    """What stands beside the keys: every type that a document can show."""
    json_values = tuple(f"'{v}'" for v in ('{"p": 1, "a": [null, true]}', '{"p": 2}', "[]", '"x"'))
    text = tuple(map(text_literal, _ALL))
    found = [
        Kind("TEXT", "sa.Text", "plain", text, charset="utf8mb4", collation="utf8mb4_general_ci"),
        Kind("LONGTEXT", "mysql.LONGTEXT", "plain", text, charset="utf8mb4",
             collation="utf8mb4_general_ci"),
        Kind("BLOB", "sa.LargeBinary", "base64", ("0x00ff", "0x61", "''")),
        Kind("JSON", "sa.JSON", "json", json_values),
        Kind("TINYINT(1)", "sa.Boolean", "bool", ("0", "1", "2")),
        Kind("YEAR", "mysql.YEAR", "int", ("2026", "1901", "0")),
        Kind("BIT(9)", "mysql.BIT(9)", "bits", ("0", "1", "511")),
        Kind("TIME(2)", "mysql.TIME(fsp=2)", "clock",
             ("'10:20:30.5'", "'-00:00:01'", "'838:59:59'")),
        Kind("DECIMAL(12,4)", "sa.Numeric(12, 4)", "plain", ("0", "-1.5", "12345678.9999")),
        Kind("FLOAT", "sa.Float", "float", ("0.1", "-2.5", "1e10")),
        Kind("INT(6) UNSIGNED ZEROFILL", "mysql.INTEGER(6, unsigned=True, zerofill=True)", "int",
             ("0", "42", "4294967295")),
    ]  # fmt: skip
    unkeyed = [replace(kind, can_be_key=False) for kind in found]
    return unkeyed + [kind for family in FAMILIES for kind in family(flavour)]
