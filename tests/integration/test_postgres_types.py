"""Every type of PostgreSQL's in a document: right JSON, or set aside with column and reason."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from projector.fetch import Fetched, Fetcher
from projector.model import Need
from projector.postgres.dialect import POSTGRES
from projector.postgres.log import PostgresLog
from projector.postgres.reader import PostgresDatabase
from projector.projection import Plan, Projection
from tests.integration.postgres_reading import Tables, made
from tests.servers import PostgresServer

pytestmark = pytest.mark.server

_MOOD = pg.ENUM("sad", "ok", name="mood", create_type=False)
# type of the server; declared type; texts with what documents show of them (None: set aside)
_TYPES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "i2": ("int2", sa.SmallInteger, {"-32768": -32768}),
    "i8": ("int8", sa.BigInteger, {"9223372036854775807": 2**63 - 1}),
    "oi": ("oid", sa.BigInteger, {"4294967295": 2**32 - 1}),
    "bo": ("boolean", sa.Boolean, {"t": True, "f": False}),
    "nu": ("numeric", sa.Numeric, {
        "12.50": "12.50", "-0.0000000001": "-1E-10", "1e3": "1000", "NaN": None,
        "Infinity": None}),
    "nd": ("numeric(6,2)", sa.Numeric(6, 2), {"1": "1.00"}),
    "f4": ("float4", sa.REAL, {"1.5": 1.5, "0.1": 0.1}),
    "f8": ("float8", sa.Double, {
        "1e+16": 1e16, "0.1": 0.1, "1e-320": 1e-320, "NaN": None, "-Infinity": None}),
    "te": ("text", sa.Text, {"": "", "q\"\\é😀\n": "q\"\\é😀\n", "t": "t"}),
    "vc": ("varchar(9)", sa.String(9), {"x ": "x "}),
    "ch": ("char(4)", sa.CHAR(4), {"ab": "ab  "}),
    "en": ("mood", _MOOD, {"sad": "sad"}),
    "uu": ("uuid", sa.Uuid, {
        "A0EEBC999C0B4EF8BB6D6BB9BD380A11": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}),
    "by": ("bytea", sa.LargeBinary, {"\\x00ff": "AP8=", "\\x": ""}),
    "da": ("date", sa.Date, {
        "2026-02-28": "2026-02-28", "infinity": None, "0044-03-15 BC": None, "12026-01-01": None}),
    "tm": ("time", sa.Time, {
        "10:00:00": "10:00:00", "10:00:00.5": "10:00:00.500000", "24:00:00": None}),
    "ts": ("timestamp", sa.DateTime, {
        "2026-11-22 21:59:12": "2026-11-22T21:59:12Z", "infinity": None,
        "2026-11-22 21:59:12.4": "2026-11-22T21:59:12.400000Z", "0044-03-15 00:00:00 BC": None}),
    "tz": ("timestamptz", sa.DateTime(timezone=True), {
        "2026-11-22 21:59:12.4+02": "2026-11-22T19:59:12.400000Z", "-infinity": None,
        "12026-01-01 00:00:00+00": None, "0044-03-15 00:00:00+00 BC": None}),
    "js": ("json", sa.JSON, {
        '{"b": 1.50, "a": [null, "x"]}': {"b": 1.5, "a": [None, "x"]},
        '{"a": 1, "a": 2}': None}),
    "jb": ("jsonb", pg.JSONB, {'{"b": 1, "a": {}}': {"a": {}, "b": 1}, "1e400": 10**400}),
    "ai": ("int4[]", pg.ARRAY(sa.Integer), {
        "{1,NULL,3}": [1, None, 3], "{}": [], "[2:3]={7,8}": [7, 8],
        "{{1,2},{3,4}}": [[1, 2], [3, 4]]}),
    "at": ("text[]", pg.ARRAY(sa.Text), {
        '{"a,b","q\\"\\\\",NULL,"NULL",""}': ["a,b", 'q"\\', None, "NULL", ""]}),
    "ab": ("boolean[]", pg.ARRAY(sa.Boolean), {"{t,f,NULL}": [True, False, None]}),
    "az": ("timestamptz[]", pg.ARRAY(sa.DateTime), {
        '{"2026-11-22 21:59:12+00"}': ["2026-11-22T21:59:12Z"], "{infinity}": None}),
    "an": ("numeric[]", pg.ARRAY(sa.Numeric), {"{1.50,NaN}": None, "{1.50}": ["1.50"]}),
    "ip": ("inet", pg.INET, {"10.0.0.1/24": "10.0.0.1/24"}),
    "mac": ("macaddr", pg.MACADDR, {"08:00:2b:01:02:03": "08:00:2b:01:02:03"}),
    "bi": ("bit(3)", pg.BIT(3), {"101": "101"}),
    "dm": ("positive", sa.Integer, {"7": 7}),
    "dt": ("email", sa.Text, {"a@b.example": "a@b.example"}),
}  # fmt: skip
_METADATA = sa.MetaData()
_T = sa.Table(
    "t", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    *(sa.Column(name, kind) for name, (_, kind, _) in _TYPES.items()),
)  # fmt: skip


@pytest.fixture(scope="module", params=["postgres15_server", "postgres18_server"], ids=["15", "18"])
def tables(request: pytest.FixtureRequest) -> Iterator[Tables]:
    """A table with a column of every type, and a row for each value."""
    postgres_server: PostgresServer = request.getfixturevalue(request.param)
    name = "every_type"
    postgres_server.create_database(name)
    columns = ", ".join(f"{column} {ddl}" for column, (ddl, *_) in _TYPES.items())
    here = made(
        postgres_server, name,
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE DOMAIN positive AS int4 CHECK (value > 0)",
        "CREATE DOMAIN email AS varchar(40)",
        f"CREATE TABLE t (id int PRIMARY KEY, {columns})",
    )  # fmt: skip
    with postgres_server.connect(name) as connection:
        for number, column, text, _ in _values():
            connection.execute(f"INSERT INTO t (id, {column}) VALUES (%s, %s)", (number, text))
    yield here
    postgres_server.drop_database(name)


def _values() -> list[tuple[int, str, str, Any]]:
    pairs = [(c, text, shown) for c, (_, _, v) in _TYPES.items() for text, shown in v.items()]
    return [(number, *pair) for number, pair in enumerate(pairs)]


def _fetched(tables: Tables, projection: Projection, ids: list[str]) -> Fetched:
    """Documents as the daemon makes them."""
    log = PostgresLog(tables.address())
    position = log.current()
    plan = PostgresDatabase(tables.address().open).fitted(Plan(projection, POSTGRES))
    fetcher = Fetcher(plan, tables.readers()())
    try:
        return fetcher.documents(ids, Need(position))
    finally:
        fetcher.close()


def test_every_value_is_shown_or_set_aside(tables: Tables) -> None:
    """As Pydantic's JSON mode writes it; what has no such form names its column."""
    projection = Projection("t", _T, list(_T.c))
    found = _fetched(tables, projection, [str(number) for number, *_ in _values()])
    for number, column, text, shown in _values():
        if shown is None:
            assert str(number) in found.failed, (column, text)
            assert column in found.failed[str(number)]
        else:
            assert str(number) not in found.failed, (column, text, found.failed[str(number)])
            assert json.loads(found.documents[str(number)])[column] == shown, (column, text)


def test_digits_stay_as_they_are(tables: Tables) -> None:
    """JSON of the server's keeps its numbers, and a float is Python's."""
    projection = Projection("t", _T, [_T.c.id, _T.c.js, _T.c.f8])
    ids = {text: str(number) for number, column, text, _ in _values() if column in ("js", "f8")}
    found = _fetched(tables, projection, list(ids.values()))
    assert b'{"b":1.50,"a":[null,"x"]}' in found.documents[ids['{"b": 1.50, "a": [null, "x"]}']]
    assert b'"f8":1e+16' in found.documents[ids["1e+16"]]
