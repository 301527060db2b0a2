"""`projector schema`: what documents are, from the types of any projection."""

import importlib
import json
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.dialects import mysql
from typer.testing import CliRunner

from projector.cli import app
from projector.mysql.dialect import MYSQL
from projector.projection import (
    Aggregate,
    Choice,
    Encoded,
    First,
    Fixed,
    Flags,
    Hashed,
    Join,
    Json,
    Kind,
    Many,
    Moment,
    One,
    OneOf,
    Pairs,
    Partial,
    Path,
    Plan,
    Projection,
)
from projector.projection.encoding import Form, Promise, RowWriter, SentRows
from projector.projection.jsonschema import json_schema
from projector.projection.levels import Level, Nested, Object
from tests.abroad.worlds.oracle import MASK_KEY
from tests.examples import generated
from tests.integration.test_course import EXAMPLE, PAGES
from tests.schema_check import assert_as_said
from tests.unit.test_declared_random import made_up

EXAMPLES = [
    "company:employees_by_id", "depots:orders_by_id", "desk:desk", "forum:forum",
    "native:visits_by_id", "native:hosts_by_ip", "native:clicks_by_key", "places:machines",
    "places:places", "shop:orders_by_id", "shop:products_by_sku", "shop:stock_by_shelf",
    "shop:recent_orders", "twelve:documents",
]  # fmt: skip
# By what the server promises: values that it may then send.
SENT = {
    Promise.NOTHING: [
        b"1", b"-7", b"007", b"1e20", b"1.50", b"0", b"", b" ", b"abc", b'"\\', b"[1]", b"null",
        b'{"a": null}', b"2026-02-03", b"2026-02-03 04:05:06", b"2026-02-03 04:05:06.12", b"\xff",
        b"0000-00-00", b"0000-00-00 00:00:00", b"23:59:59.5", b"red,blue", b"18446744073709551615",
        b"0123456789abcdef", b"00112233-4455-6677-8899-AABBCCDDEEFF", b"User",
    ],
    Promise.WHOLE: [b"0", b"-1", b"3", b"18446744073709551615"],
    Promise.DECIMAL: [b"-12.50", b"0.00", b"7", b"0012.5"],
    Promise.BIT: [b"\x00", b"\x05"],
    Promise.INSTANT: [b"2026-02-03 04:05:06.120000", b"0000-00-00 00:00:00"],
    Promise.STAMP: [b"2026-02-03 04:05:06"],
    Promise.DATE: [b"2026-02-03", b"0000-00-00"],
    Promise.JSON: [b'{"a": [1, 2.5, "x"]}', b"null", b"3"],
    Promise.TEXT: ["Ärger\n".encode(), b"open", b""],
}  # fmt: skip


def _forms(level: Level) -> Iterator[tuple[int, Form]]:
    """The forms of a level's columns, by number."""
    if level.named is not None:
        yield from _writers([level.named.key])
    yield from _within(level.body)


def _within(body: Object) -> Iterator[tuple[int, Form]]:
    yield from _writers([body.writer])
    for inset in body.insets:
        if isinstance(inset, Nested):
            for inner in inset.objects:
                yield from _within(inner)
        else:
            yield from _writers(writer for _, writer in inset.steps)


def _writers(writers: Iterable[RowWriter]) -> Iterator[tuple[int, Form]]:
    for writer in writers:
        yield from enumerate(writer.forms, writer.first)


def _marks(body: Object) -> Iterator[int]:
    for inset in body.insets:
        if isinstance(inset, Nested):
            yield from inset.marks
            for inner in inset.objects:
                yield from _marks(inner)
        else:
            yield from (place for place, _ in inset.steps)


def _writable(form: Form, promise: Promise) -> list[bytes]:
    """What a form has a JSON form for; documents with anything else are set aside."""
    encode, found = form.encoder(promise), []
    for value in SENT[promise]:
        try:
            if encode is None or encode(value):
                found.append(value)
        except ValueError:
            pass
    return found


def _rows(chance: Random, level: Level) -> SentRows:
    """Make up rows of a level: keys of a few documents, and anything that can be written; joined
    rows may be absent."""
    first, marks = level.body.writer.first, set(_marks(level.body))
    known = [[(Promise.NOTHING, SENT[Promise.NOTHING])] for _ in range(level.width)]
    for place, form in _forms(level):
        ways = [(promise, _writable(form, promise)) for promise in SENT]
        known[place] = [way for way in ways if way[1]]
    chosen = [chance.choice(ways) for ways in known]
    rows = SentRows()
    rows.promises = tuple(promise for promise, _ in chosen)
    declared = level.node.declared
    is_list = isinstance(declared, Many | Pairs) and getattr(declared, "limit", None) != 1
    for key in "112345" if is_list else "12345":
        row: list[bytes | None] = [chance.choice(values) for _, values in chosen]
        start = level.named.key.first if level.named is not None else first
        row[:start] = [key.encode()] * start
        for mark in marks:
            row[mark] = chance.choice([None, key.encode()])
        rows.append(tuple(row))
    return rows


def _made_up(plan: Plan, seed: int) -> list[Any]:
    chance = Random(seed)
    documents, _ = plan.documents([_rows(chance, level) for level in plan.levels])
    return [json.loads(document) for document in documents.values()]


_INT, _TEXT = sa.Integer, sa.String(30)


def _table(table: str, /, **columns: Any) -> sa.Table:
    return sa.Table(
        table, sa.MetaData(), sa.Column("id", _INT, primary_key=True),
        *(sa.Column(name, kind) for name, kind in columns.items()),
    )  # fmt: skip


_PLAIN = {
    "i": _INT, "big": mysql.BIGINT(unsigned=True), "y": mysql.YEAR(), "bit": mysql.BIT(3),
    "flag": mysql.TINYINT(1), "truth": sa.Boolean(), "f": sa.Float(), "d": mysql.DOUBLE(),
    "price": sa.Numeric(9, 2), "at": sa.DateTime(), "stamp": sa.TIMESTAMP(), "day": sa.Date(),
    "clock": sa.Time(), "uid": sa.Uuid(), "raw": sa.BINARY(16), "blob": sa.LargeBinary(),
    "free": sa.JSON(), "text": _TEXT, "enum": mysql.ENUM("a", "b"), "set": mysql.SET("x", "y"),
}  # fmt: skip
many = _table("many", pid=_INT, name=_TEXT, **_PLAIN)
root = _table("root", pid=_INT, kind=_TEXT, **_PLAIN)
_ON = many.c.pid == root.c.id


def _words() -> list[Any]:
    """Each word in each of its manners."""
    inner, other = many.alias("inner"), many.alias("other")
    c = many.c
    wrapped = [
        Fixed(c.name), Hashed(c.text, "ABROAD_MASK_KEY"), Partial(c.i, 1, 1),
        Choice(c.y, {1: "low", 2: None, 3: 3.5}, other=True), Choice(c.bit, {1: 1, 5: True}),
        Flags(c.big, {1: "a", 2: None, 4: 4}), Flags(c.set), Moment(c.at, "Europe/Berlin", "null"),
        Moment(c.day, zero_dates="null"), Encoded(c.blob, "cp1252", "replace"),
        Json(c.enum), Json(c.free, "null"), Json(c.d, "text"),
    ]  # fmt: skip
    words: list[Any] = [
        Many("words", many, _ON, wrapped, limit=3, collections=[
            First("first", inner, inner.c.pid == many.c.id, value=inner.c.id),
            Aggregate(inner, inner.c.pid == many.c.i, [
                func.count().label("n"), Choice(func.count().label("some"), {0: False}, True),
                func.sum(inner.c.i).label("sum"), func.coalesce(func.sum(inner.c.i), 0).label("s0"),
                func.count(type_=sa.Numeric).label("digits"),
                func.json_objectagg(inner.c.name, inner.c.i, type_=sa.JSON).label("o"),
                func.json_objectagg(inner.c.name, inner.c.i).label("as_text"),
            ]),
        ]),
        First("last", many, _ON, [c.id, c.free], order_by=[c.at]),
        Path("path", many, many.c.id == root.c.pid, many.c.pid, many.c.at, depth=3),
        One("one", many, many.c.id == root.c.pid, [c.id, c.name], collections=[
            Many("ids", inner, inner.c.pid == many.c.id, value=inner.c.id)], where=c.i > 1),
        OneOf("any", root.c.kind, root.c.pid, {
            "User": Kind(many, [c.text, c.id]),
            "Team": Kind(other, [other.c.id, other.c.i.label("text")])}),
        Pairs("plain", many, _ON, c.name, c.text, types={
            "1": _INT, "abc": sa.Date, "User": {"1": "low"}, "": sa.Numeric, " ": sa.String}),
        Pairs("listed", many, _ON, c.i, c.i, repeated="list", types={1: _TEXT}),
        Pairs("refused", many, _ON, Choice(c.name, {1: "one"}, "?"), c.id, repeated="refuse"),
        Pairs("counts", many, _ON, c.name, func.count()),
        Pairs("sums", many, _ON, c.name, func.max(c.at)),
        Many("through", many, many.c.pid == inner.c.id, value=c.uid,
             through=[Join(inner, inner.c.pid == root.c.id)]),
    ]  # fmt: skip
    return words


@pytest.fixture(autouse=True)
def _mask_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABROAD_MASK_KEY", MASK_KEY)
    monkeypatch.setenv("SHOP_MASK_KEY", MASK_KEY)


def _plans_of_words() -> Iterator[Plan]:
    fields = [root.c.id, *(root.c[name] for name in _PLAIN)]
    for number, word in enumerate(_words()):
        more: Any = {"zero_dates": "null", "zone": "Asia/Tokyo"} if number % 2 else {}
        yield Plan(Projection("p", root, [root.c.id], collections=[word], **more), MYSQL)
    for more in ({}, {"zero_dates": "null"}):
        for field in fields:
            yield Plan(Projection("p", root, [field], **more), MYSQL)


def test_whatever_is_written_is_as_said() -> None:
    """Each word and type, and any bytes that a server might send for it, promised or not."""
    for plan in _plans_of_words():
        documents = [made for seed in range(6) for made in _made_up(plan, seed)]
        assert len(documents) > 3, plan.field_names
        assert_as_said(plan, documents)


@pytest.mark.parametrize("name", EXAMPLES)
def test_documents_of_examples_are_as_said(name: str) -> None:
    """The example projections, with made-up values."""
    module, attribute = name.split(":")
    plan = Plan(getattr(importlib.import_module(f"tests.examples.{module}"), attribute), MYSQL)
    documents = [made for seed in range(6) for made in _made_up(plan, seed)]
    assert len(documents) > 3
    assert_as_said(plan, documents)


def test_documents_of_made_up_declarations_are_as_said() -> None:
    """Other people's tables: masks, joins, lists in lists, figures."""
    for seed in range(25):
        plan = made_up(seed)
        if plan is not None:
            assert_as_said(plan, _made_up(plan, seed))


def test_documents_evaluated_row_by_row_are_as_said() -> None:
    """Any combination of words over any rows, NULL and missing ones among them: null stands only
    where the schema has it."""
    for seed in range(20):
        chance = Random(seed)
        spec = generated.generate(chance)
        rows = {table: _table_rows(chance, key) for table, key in generated.KEYS.items()}
        plan = Plan(generated.projection(spec, "p"), MYSQL)
        documents = generated.documents(spec, rows)
        ordered = list(json_schema(plan)["properties"])
        assert_as_said(plan, [{name: d[name] for name in ordered} for d in documents.values()])


def _table_rows(chance: Random, key: list[str]) -> list[dict[str, Any]]:
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for _ in range(6):
        row: dict[str, Any] = {n: chance.choice([1, 2, 3, 4, 5, 6, None]) for n in "ab"}
        row["id"] = chance.choice([1, 2, 3, 4, 5, 6, *([] if "id" in key else [None])])
        row |= {"k": chance.choice([1, 2]), "s": chance.choice("pPqr")}
        rows[tuple(row[name] for name in key)] = row
    return list(rows.values())


def test_documents_of_the_course_are_as_said() -> None:
    """What each page promises, as both servers give it."""
    for page in PAGES:
        for _, python, promised in EXAMPLE.findall(page.read_text("utf-8")):
            scope: dict[str, Any] = {}
            exec(python, scope)
            assert_as_said(Plan(scope["documents"], MYSQL), json.loads(promised).values())


def _said(field: Any, *collections: Any) -> Any:
    schema = json_schema(Plan(Projection("p", root, [field], collections=collections), MYSQL))
    return list(schema["properties"].values())[-1]


def test_null_stands_where_a_value_may_be_missing_and_nowhere_else() -> None:
    """Of a row that is there keys and columns declared so are never null, nor are counts; what is
    joined may be missing."""
    must = sa.Table(
        "must", sa.MetaData(), sa.Column("id", _INT, primary_key=True),
        sa.Column("pid", _INT, nullable=False), sa.Column("t", _TEXT, nullable=False),
    )  # fmt: skip
    on = must.c.pid == root.c.id
    assert _said(root.c.id) == {"type": "integer"}
    assert _said((root.c.id + 1).label("more")) == {"type": ["integer", "null"]}
    assert _said(Fixed(root.c.id)) == {"enum": ["***"]}
    assert _said(Fixed(root.c.text)) == {"enum": ["***", None]}
    assert _said(Choice(root.c.id, {1: "a"})) == {"enum": ["a", None]}
    assert _said(Choice(root.c.id, {1: "a"}, "b")) == {"enum": ["a", "b"]}
    assert _said(root.c.id, Many("m", must, on, value=must.c.t)) == {
        "type": "array", "items": {"type": "string"},
    }  # fmt: skip
    assert _said(root.c.id, First("f", must, on, value=must.c.t)) == {"type": ["string", "null"]}
    assert _said(root.c.id, Aggregate(must, on, [func.count().label("n")])) == {"type": "integer"}
    assert _said(root.c.id, Aggregate(must, on, [func.max(must.c.t, type_=_TEXT).label("n")])) == {
        "type": ["string", "null"]
    }
    one = One("o", must, must.c.id == root.c.pid, [must.c.t])
    assert _said(root.c.id, one)["type"] == ["object", "null"]
    assert _said(root.c.id, one)["properties"] == {"t": {"type": "string"}}
    beside = Plan(
        Projection("p", root, [root.c.id, must.c.t], [Join(must, must.c.id == root.c.pid)]), MYSQL
    )
    assert json_schema(beside)["properties"]["t"] == {"type": ["string", "null"]}


def test_a_document_is_described_member_by_member() -> None:
    """Fixed names, all of them there and no others; names that are data are not."""
    pairs = Pairs("custom", many, _ON, many.c.name, many.c.text, types={"due": sa.Date})
    plan = Plan(
        Projection("orders", root, [root.c.id, root.c.free, root.c.price], collections=[pairs]),
        MYSQL,
    )
    said = json_schema(plan)
    assert said == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "orders",
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "free": {},
            "price": {
                "type": ["string", "null"], "pattern": r"^-?[0-9]+(\.[0-9]+)?(E[-+][0-9]+)?$",
            },
            "custom": {
                "type": "object",
                "properties": {"due": {"type": ["string", "null"], "format": "date"}},
                "additionalProperties": {"type": ["string", "null"]},
            },
        },
        "required": ["id", "free", "price", "custom"],
        "additionalProperties": False,
    }  # fmt: skip
    assert list(said["properties"]) == plan.field_names


def test_the_command_needs_no_model() -> None:
    """It prints the schema of a projection's own types."""
    environment = {"PROJECTOR_PROJECTION": "tests.examples.desk:desk"}
    done = CliRunner().invoke(app, ["schema"], env=environment)
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert said["title"] == "desk"
    assert said["properties"]["closed"] == {"type": ["string", "null"], "format": "date-time"}
