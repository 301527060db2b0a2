"""Every value that a server can hold, declared right and declared wrong: JSON that a strict reader
takes, or quarantine with column and reason."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import AwareDatetime, BaseModel, TypeAdapter
from sqlalchemy.dialects import mysql

from projector.databases import Mysql
from projector.mysql.connection import Connection, engine
from projector.mysql.dialect import MYSQL
from projector.projection import Aggregate, Many, Plan, Projection
from tests.abroad.world import MakeWorld, World, strict_json
from tests.projector_process import wait_for
from tests.servers import DatabaseServer

pytestmark = pytest.mark.server

_metadata = sa.MetaData()
_reading = sa.Table(
    "reading", _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("year", mysql.YEAR),
    sa.Column("padded", sa.Integer),
    sa.Column("price", sa.Numeric(8, 2)),
    sa.Column("is_open", sa.Boolean),
    sa.Column("made", sa.DateTime),
    sa.Column("day", sa.Date),
    sa.Column("more", sa.JSON),
)  # fmt: skip
_remark = sa.Table(
    "remark", _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("reading_id", sa.Integer),
    sa.Column("at", sa.DateTime),
)  # fmt: skip


class Reading(BaseModel):
    """What readers of the documents expect."""

    id: int
    year: int | None
    padded: int | None
    price: Decimal | None
    is_open: bool | None
    made: AwareDatetime | None
    day: date | None
    more: Any
    remarks: list[AwareDatetime]


readings = Projection(
    "readings",
    root=_reading,
    fields=list(_reading.c),
    collections=[
        Many("remarks", _remark, on=_remark.c.reading_id == _reading.c.id, value=_remark.c.at)
    ],
    document=Reading,
)
_DDL = """
CREATE TABLE reading (id INT PRIMARY KEY, year YEAR, padded INT(6) ZEROFILL,
  price DECIMAL(8,2) ZEROFILL, is_open TINYINT(3) ZEROFILL, made DATETIME(3), day DATE, more TEXT);
CREATE TABLE remark (id INT PRIMARY KEY, reading_id INT, at DATETIME, KEY (reading_id));
"""
_NOTHING = {"year": None, "padded": None, "price": None, "is_open": None, "made": None, "day": None,
            "more": None, "remarks": []}  # fmt: skip
_WRITTEN: Mapping[int, tuple[str, str, Any]] = {
    1: ("year", "0000", 0),
    2: ("year", "2026", 2026),
    3: ("padded", "42", 42),
    4: ("padded", "0", 0),
    5: ("price", "7.5", "7.50"),
    6: ("price", "0", "0.00"),
    7: ("is_open", "0", False),
    8: ("is_open", "7", True),
    9: ("made", "'2024-02-29 10:00:00.5'", "2024-02-29T10:00:00.500000Z"),
    10: ("day", "'9999-12-31'", "9999-12-31"),
    11: ("more", '\'{"b": 1.10, "a": [ ]}\'', {"b": 1.10, "a": []}),
    12: ("more", "'\"\\\\ud83d\\\\ude00\\\\u0000\"'", "😀\0"),
}
_SET_ASIDE: Mapping[int, tuple[str, str]] = {
    21: ("made", "'2023-02-30'"),
    22: ("made", "'2023-04-31 10:00:00'"),
    23: ("day", "'2023-02-29'"),
    24: ("made", "'0000-00-00'"),
    25: ("day", "'0000-00-00'"),
    26: ("made", "'2023-00-10'"),
    27: ("day", "'2023-10-00'"),
    28: ("day", "'0000-01-01'"),
    29: ("more", "'{\"a\": NaN}'"),
    30: ("more", "'{\"a\": 1, \"a\": 2}'"),
    31: ("more", "'{\"a\": '"),
    32: ("more", "''"),
    33: ("more", "'\"\\\\ud800\"'"),
    34: ("more", "CONCAT(REPEAT('[', 20000), REPEAT(']', 20000))"),
    35: ("more", "REPEAT('1', 5000)"),
    36: ("more", "CONCAT('{\"b\": {\"a\": 1, \"', CHAR(97), '\": 2}}')"),
}  # fmt: skip


def _fill(world: World) -> None:
    world.execute("SET sql_mode='ALLOW_INVALID_DATES'")
    for number, (column, value, *_) in {**_WRITTEN, **_SET_ASIDE}.items():
        world.execute(f"INSERT INTO reading (id, {column}) VALUES ({number}, {value})")
    world.execute(  # the remarks first: without them 41 is a good version, and would stay
        "INSERT INTO remark VALUES (1, 41, '2026-01-01'), (2, 41, '2023-02-30')",
        "INSERT INTO reading (id) VALUES (41)",
    )


def _expected() -> dict[str, Any]:
    return {
        str(number): {"id": number, **_NOTHING, column: value}
        for number, (column, _, value) in _WRITTEN.items()
    }


def _warned(world: World) -> list[dict[str, Any]]:
    return [e for e in world.daemon.events() if e["event"] == "documents_quarantined"]


def _check_quarantine(world: World) -> None:
    found = world.quarantined()
    assert {int(key): reason.partition(": ")[0] for key, reason in found.items()} == {
        **{number: column for number, (column, _) in _SET_ASIDE.items()}, 41: "remarks"
    }  # fmt: skip
    for raw in world.redis.hvals("readings"):
        Reading.model_validate_json(raw)


def test_values_of_the_server_alone_are_written_or_set_aside(abroad: MakeWorld) -> None:
    """By a build, and by changes; each time with one warning, and no value in the log."""
    world = abroad(_DDL, "tests.abroad.test_values:readings")
    _fill(world)
    world.start()
    world.expect(_expected())
    _check_quarantine(world)
    number = len(_SET_ASIDE) + 1
    [warned] = wait_for(lambda: _warned(world), world.daemon)
    assert warned["level"] == "warning"
    assert warned["documents"] == number
    assert warned["columns"] == {"more": 8, "made": 4, "day": 4, "remarks": 1}
    world.execute("DELETE FROM remark", "DELETE FROM reading")
    world.expect({})
    _fill(world)
    world.expect(_expected())
    _check_quarantine(world)
    wait_for(lambda: sum(e["documents"] for e in _warned(world)) == 2 * number, world.daemon)
    world.execute("UPDATE reading SET day='2023-02-28' WHERE id=23")
    world.expect({**_expected(), "23": {"id": 23, **_NOTHING, "day": "2023-02-28"}})
    assert "2023-02-30" not in world.daemon.log()


# Anything, read as anything.

_HELD: Mapping[str, tuple[str, ...]] = {
    "TINYINT(1)": ("0", "1", "-128"),
    "BIGINT UNSIGNED": ("18446744073709551615", "0"),
    "INT(8) ZEROFILL": ("42", "0"),
    "DECIMAL(20,4)": ("-0.5", "12", "123456789012345.6789"),
    "DECIMAL(8,2) ZEROFILL": ("0", "5.5"),
    "FLOAT": ("1e30", "-1.5", "0", "1e-30"),
    "DOUBLE": ("1.7976931348623157e308", "-5e-324", "0.1", "3"),
    "BIT(1)": ("0", "1"),
    "BIT(40)": ("0", "b'1111100000111110000011111000001111100000'", "34"),
    "YEAR": ("0", "1901", "2155"),
    "DATE": ("'2024-02-29'", "'0000-00-00'", "'2023-02-30'", "'0000-10-10'"),
    "DATETIME(6)": ("'2024-02-29 23:59:59.999999'", "'0000-00-00'", "'2023-02-30 10:00:00'"),
    "TIMESTAMP NULL": ("'2024-02-29 23:59:59'", "'0000-00-00'"),
    "TIME": ("'12:34:56'", "'-01:00:00'", "'838:59:59'", "'24:00:00'", "'-838:59:59'"),
    "CHAR(36)": ("'2f1e0e3c-8f5f-11ee-b9d1-0242ac120002'", "' '"),
    "VARCHAR(60)": (
        "'true'", "'0'", "'1_0'", "' 7 '", "'inf'", "'nan'", "'1e999'", "'-'", "'0x10'", "'007'",
        "'2024-02-29 10:00:00'", "'2024-02-30 10:00:00'", "'2024-02-29T25:00:00'", "'2024-02-29'",
        "'12:60:00'", "'１２'", "'\"'", "'\\\\'", "'\\0'", "'\\n'", "'😀'", "'{\"a\":1}'", "''",
        "'2f1e0e3c8f5f11eeb9d10242ac120002'", "'١٢'", "'1,5'", "'+5'", "'-0'", "'00'",
    ),
    "VARCHAR(60) CHARACTER SET latin1": ("'é€'",),
    "TEXT": ("'[1, 2'", "'[NaN]'", "'{\"a\":1,\"a\":1}'", "'\\\\'", "'-Infinity'",
             "' [1 , \"a b\"] '",
             "'\"\\\\udc00\"'", "CONCAT(REPEAT('[',3000),REPEAT(']',3000))", "'1e5'", "'\ufeff1'"),
    "VARBINARY(40)": ("0xff", "0x00", "0x01", "0xEDA080", "0xC080", "'plain'", "0x5b3100",
                      "0x5bff5d", "0xfffe31003100", "0x0102030405060708090a0b0c0d0e0f10"),
    "BLOB": ("0x2022ff", "'[1]'", "''"),
    "BINARY(16)": ("0x0102030405060708090a0b0c0d0e0f10",),
    "ENUM('a','','1','é')": ("'a'", "''", "'1'", "'é'"),
    "SET('a','b')": ("''", "'a,b'"),
    "JSON": ("'{\"a\": [1, 2.50, \"x y\", null]}'", "'\"x\"'", "'17'", "'[]'"),
}  # fmt: skip
_READ_AS: Mapping[str, tuple[Any, Any]] = {
    "Integer": (sa.Integer(), int),
    "Boolean": (sa.Boolean(), bool),
    "Tiny": (mysql.TINYINT(display_width=1), bool),
    "Year": (mysql.YEAR(), int),
    "Bit": (mysql.BIT(), int),
    "Float": (sa.Float(), float),
    "Numeric": (sa.Numeric(), Decimal),
    "DateTime": (sa.DateTime(), AwareDatetime),
    "Date": (sa.Date(), date),
    "Time": (sa.Time(), time),
    "Uuid": (sa.Uuid(), uuid.UUID),
    "Json": (sa.JSON(), Any),
    "String": (sa.String(), str),
    "Enum": (sa.Enum("a", "b"), str),
    "Binary": (sa.LargeBinary(), str),
    "Sixteen": (sa.BINARY(16), uuid.UUID),
    "Pickle": (sa.PickleType(), str),
    "Untyped": (sa.types.NullType(), str),
}


class Reader:
    """What the projector's own queries and encoders give, without a daemon."""

    def __init__(self, database: DatabaseServer, schema: str) -> None:
        settings = Mysql(url=database.url(schema))
        self._engine = engine(settings.parsed_url, settings)
        self.connection = Connection(self._engine)

    def read(self, projection: Projection) -> tuple[dict[str, bytes], dict[str, str]]:
        """Return the documents by id, and the reasons of those that cannot be made."""
        plan = Plan(projection, MYSQL)
        [keys] = self.connection.query_raw(plan.ids_after(None, 100_000))
        return plan.documents(
            self.connection.query_raw(*plan.queries([plan.to_id(key) for key in keys]))
        )

    def close(self) -> None:
        """Free the connection."""
        self.connection.close()
        self._engine.dispose()


@pytest.fixture
def reader(anywhere: DatabaseServer) -> Iterator[Callable[..., Reader]]:
    """Make a reader of a new schema with these tables."""
    schema = f"abroad_{uuid.uuid4().hex[:10]}"
    anywhere.create_database(schema)
    made: list[Reader] = []

    def make(*statements: str) -> Reader:
        made.append(Reader(anywhere, schema))
        with anywhere.connect(schema) as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_mode='ALLOW_INVALID_DATES'")
            for statement in statements:
                cursor.execute(statement)
        return made[0]

    yield make
    for one in made:
        one.close()
    anywhere.drop_database(schema)


@pytest.mark.parametrize("expression", ["plain", "grouped"])
def test_anything_read_as_anything_is_valid_or_named(
    reader: Callable[..., Reader], anywhere: DatabaseServer, expression: str
) -> None:
    """Each column of each type, declared as each type, by itself and through a function."""
    columns = {f"c{index}": kind for index, kind in enumerate(_HELD)}
    ddl = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    rows = [(name, value) for name, kind in columns.items() for value in _HELD[kind]]
    insertions = (f"INSERT INTO held (id, {name}) VALUES ({number}, {value})"
                  for number, (name, value) in enumerate(rows))  # fmt: skip
    made = reader(f"CREATE TABLE held (id INT PRIMARY KEY, {ddl})", *insertions)
    held = sa.Table("held", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                    *(sa.Column(name, sa.String) for name in columns))  # fmt: skip
    for title, (kind, python) in _READ_AS.items():
        adapter: TypeAdapter[Any] = TypeAdapter(python)
        asked = [
            sa.type_coerce(held.c[name] if expression == "plain" else
                           sa.func.coalesce(held.c[name], held.c[name]), kind).label(name)
            for name in columns
        ]  # fmt: skip
        documents, failed = made.read(Projection("held", root=held, fields=[held.c.id, *asked]))
        assert len(documents) + len(failed) == len(rows)
        for number, (name, value) in enumerate(rows):
            case = f"{columns[name]} {value} as {title}"
            if str(number) in failed:
                assert failed[str(number)].startswith(f"{name}: "), case
                continue
            document = strict_json(documents[str(number)])
            assert [k for k, v in document.items() if v is not None] == ["id", name], case
            adapter.validate_json(json.dumps(document[name]))
        _check_right(title, rows, columns, documents)


# A column that is declared as what it is loses nothing.
_ITSELF = {
    "Integer": ("TINYINT(1)", "BIGINT UNSIGNED", "INT(8) ZEROFILL", "YEAR"),
    "Year": ("YEAR",), "Bit": ("BIT(1)", "BIT(40)"), "Float": ("FLOAT", "DOUBLE", "DECIMAL(20,4)"),
    "Numeric": ("DECIMAL(20,4)", "DECIMAL(8,2) ZEROFILL", "BIGINT UNSIGNED"),
    "Boolean": ("TINYINT(1)", "BIT(1)"), "Tiny": ("TINYINT(1)",), "Json": ("JSON",),
    "String": ("VARCHAR(60)", "TEXT", "ENUM('a','','1','é')", "SET('a','b')", "CHAR(36)", "TIME",
               "VARCHAR(60) CHARACTER SET latin1"),
    "Binary": ("BLOB", "VARBINARY(40)", "BINARY(16)"), "Sixteen": ("BINARY(16)",),
}  # fmt: skip


def _check_right(
    title: str, rows: list[tuple[str, str]], columns: Mapping[str, str], documents: Any
) -> None:
    for number, (name, value) in enumerate(rows):
        if columns[name] in _ITSELF.get(title, ()):
            assert str(number) in documents, f"{columns[name]} {value} as {title}"


def test_dates_of_every_month_are_judged_by_the_calendar(
    reader: Callable[..., Reader], anywhere: DatabaseServer
) -> None:
    """All 31 days of all months of three years: those that Python has are written."""
    days = [(y, m, d) for y in (1900, 2023, 2024) for m in range(1, 13) for d in range(1, 32)]
    values = ",".join(f"({i}, '{y}-{m}-{d}', '{y}-{m}-{d} 01:02:03')"
                      for i, (y, m, d) in enumerate(days))  # fmt: skip
    made = reader(
        "CREATE TABLE days (id INT PRIMARY KEY, day DATE, made DATETIME)",
        f"INSERT INTO days VALUES {values}",
    )
    table = sa.Table("days", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                     sa.Column("day", sa.Date), sa.Column("made", sa.DateTime))  # fmt: skip
    documents, failed = made.read(Projection("days", root=table, fields=list(table.c)))
    for index, (year, month, day) in enumerate(days):
        try:
            wanted = datetime(year, month, day, 1, 2, 3)
        except ValueError:
            assert failed.pop(str(index)).startswith("day: the date ")
            continue
        document = json.loads(documents[str(index)])
        assert document["day"] == wanted.date().isoformat()
        assert document["made"] == wanted.isoformat() + "Z"
    assert failed == {}


# Figures that depend on the order of rows.

_parts = sa.MetaData()
_form = sa.Table("form", _parts, sa.Column("id", sa.Integer, primary_key=True))
_answer = sa.Table(
    "answer", _parts,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("form_id", sa.Integer),
    sa.Column("name", sa.String(20)),
    sa.Column("value", sa.Integer),
)  # fmt: skip
forms = Projection(
    "forms",
    root=_form,
    fields=[_form.c.id],
    collections=[
        Aggregate(
            _answer, on=_answer.c.form_id == _form.c.id,
            fields=[
                sa.func.json_objectagg(
                    _answer.c.name, _answer.c.value, type_=sa.JSON
                ).label("answers"),
                sa.func.group_concat(_answer.c.name, type_=sa.String).label("names"),
                sa.func.count(_answer.c.id).label("count"),
            ],
        ),
    ],
)  # fmt: skip
_FORMS = """
CREATE TABLE form (id INT PRIMARY KEY);
CREATE TABLE answer (id INT PRIMARY KEY, form_id INT, name VARCHAR(20), value INT,
  KEY (form_id, name, value), KEY (name, form_id));
"""


def test_objects_and_lists_do_not_depend_on_the_order_of_rows(
    reader: Callable[..., Reader],
) -> None:
    """One document read alone, or all at once by another index: the same bytes."""
    rows = [(n, 1 + n % 40, f"k{(n * 7919) % 1009}", n) for n in range(800)]
    made = reader(
        *(statement for statement in _FORMS.split(";") if statement.strip()),
        "INSERT INTO form VALUES " + ",".join(f"({n})" for n in range(1, 42)),
        "INSERT INTO answer VALUES " + ",".join(map(str, rows)),
        "ANALYZE TABLE answer",
    )
    documents, failed = made.read(forms)
    assert failed == {}
    plan = Plan(forms, MYSQL)
    for number in range(1, 42):
        mine = [row for row in rows if row[1] == number]
        [alone] = plan.documents(made.connection.query_raw(*plan.queries([str(number)])))[
            0
        ].values()
        assert alone == documents[str(number)]
        found = strict_json(alone)
        assert found["answers"] == ({name: value for *_, name, value in mine} if mine else None)
        assert list(found["answers"] or ()) == sorted(row[2] for row in mine)
        assert found["names"] == (",".join(row[2] for row in mine) if mine else None)


def test_a_name_that_stands_twice_in_an_object_is_no_value(abroad: MakeWorld) -> None:
    """Nor one that is NULL: the document is set aside until the rows are mended."""
    world = abroad(
        f"{_FORMS} INSERT INTO form VALUES (1), (2), (3), (4); INSERT INTO answer VALUES"
        " (1, 1, 'b', 1), (2, 1, 'a', 2), (3, 2, 'a', 1), (4, 2, 'a', 2), (5, 3, NULL, 1)",
        "tests.abroad.test_values:forms",
    )
    right: dict[str, Any] = {
        "1": {"id": 1, "answers": {"a": 2, "b": 1}, "names": "b,a", "count": 2},
        "4": {"id": 4, "answers": None, "names": None, "count": 0},
    }
    world.start()
    world.expect(right)
    why = "answers: JSON in which a member stands twice in an object"
    assert world.quarantined() == {"2": why, "3": why}
    world.execute("UPDATE answer SET name='A' WHERE id=4", "UPDATE answer SET name='x' WHERE id=5")
    right["2"] = {"id": 2, "answers": {"A": 2, "a": 1}, "names": "a,A", "count": 2}
    right["3"] = {"id": 3, "answers": {"x": 1}, "names": "x", "count": 1}
    world.expect(right)
    world.execute("INSERT INTO answer VALUES (9, 1, 'a', 9)")
    world.settle()
    assert world.quarantined() == {"1": why}
    world.expect(right)  # the last good version stays


_wrong = sa.Table(
    "wrong", sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("fraction", sa.Integer),
    sa.Column("exponent", sa.Integer),
    sa.Column("said", sa.Time),
    sa.Column("packed", sa.JSON),
    sa.Column("sixteen", sa.Uuid),
    sa.Column("opaque", sa.String),
    sa.Column("place", sa.String),
    sa.Column("pickled", sa.PickleType),
    sa.Column("flags", sa.Integer),
)  # fmt: skip
wrong = Projection("wrong", root=_wrong, fields=list(_wrong.c))
_fitting = sa.Table(
    "fitting", sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("whole", sa.Integer),
    sa.Column("flag", sa.Boolean),
    sa.Column("at", sa.Time),
    sa.Column("pickled", sa.PickleType),
)  # fmt: skip
fitting = Projection("fitting", root=_fitting, fields=list(_fitting.c))


def test_columns_of_another_type_are_refused_at_the_start(abroad: MakeWorld) -> None:
    """Each is named, by `check` and by `run`; nothing ends in a traceback."""
    world = abroad(
        "CREATE TABLE wrong (id INT PRIMARY KEY, fraction DECIMAL(8,2), exponent DOUBLE,"
        " said VARCHAR(9), packed BLOB, sixteen BINARY(16), opaque BLOB, place POINT,"
        " pickled TEXT, flags BIT(4))",
        "tests.abroad.test_values:wrong",
    )
    checked = world.daemon.run("check", "--json")
    assert checked.returncode == 1, checked.stderr
    details = {c["detail"] for c in json.loads(checked.stdout) if c["status"] == "failed"}
    for column in list(_wrong.c)[1:]:
        assert any(f".wrong.{column.name} is " in detail for detail in details), column.name
    refused = world.daemon.run("run")
    assert refused.returncode == 2, refused.stderr
    assert ".wrong.fraction is decimal(8,2), declared as INTEGER" in refused.stderr


def test_columns_of_a_fitting_type_are_written(abroad: MakeWorld) -> None:
    """A decimal without a fraction, bits as truth, a time of day, bytes that Python made."""
    world = abroad(
        "CREATE TABLE fitting (id INT PRIMARY KEY, `whole` DECIMAL(20), flag BIT(1), at TIME(3),"
        " pickled BLOB);"
        " INSERT INTO fitting VALUES (1, 12345678901234567890, 1, '23:59:59.5', 'a'),"
        " (2, NULL, 0, '24:00:00', NULL), (3, -1, 0, '00:00:00', '')",
        "tests.abroad.test_values:fitting",
    )
    world.start()
    world.expect({
        "1": {"id": 1, "whole": 12345678901234567890, "flag": True, "at": "23:59:59.500000",
              "pickled": "YQ=="},
        "3": {"id": 3, "whole": -1, "flag": False, "at": "00:00:00", "pickled": ""},
    })  # fmt: skip
    assert world.quarantined()["2"].startswith("at: not a time of day")
