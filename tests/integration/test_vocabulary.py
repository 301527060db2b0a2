"""Each word for other people's schemas, asked of both servers: documents as said by hand."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.dialects import mysql

from projector.errors import ConfigurationError
from projector.mysql.dialect import MYSQL
from projector.projection import (
    Aggregate,
    Choice,
    Encoded,
    First,
    Fixed,
    Flags,
    Join,
    Json,
    Kind,
    Many,
    Moment,
    One,
    OneOf,
    Pairs,
    Path,
    Plan,
    Projection,
)
from tests.integration.test_declarations import Stage
from tests.servers import DatabaseServer

pytestmark = pytest.mark.server

DDL = """
CREATE TABLE ticket (id INT PRIMARY KEY, user_id INT, mail VARCHAR(30), category_id INT,
  owner_type VARCHAR(9), owner_id INT, priority INT, rights INT, colours SET('red','blue','green'),
  level INT(4) ZEROFILL, on_bit BIT(3), created DATETIME(6), stamped TIMESTAMP NULL, due DATE,
  body VARBINARY(60), config TEXT);
CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR(20), mail VARCHAR(30), born DATE,
  is_staff TINYINT(1), credit DECIMAL(9,2), dept_id INT, deleted_at DATETIME);
CREATE TABLE depts (id INT PRIMARY KEY, name VARCHAR(20));
CREATE TABLE teams (id INT PRIMARY KEY, title VARCHAR(20));
CREATE TABLE categories (id INT PRIMARY KEY, parent_id INT, name VARCHAR(20));
CREATE TABLE threads (id INT PRIMARY KEY, object_id INT, object_type CHAR(1));
CREATE TABLE entries (id INT PRIMARY KEY, thread_id INT, user_id INT, at DATETIME, body TEXT,
  KEY (thread_id));
CREATE TABLE files (id INT PRIMARY KEY, entry_id INT, name VARCHAR(20), KEY (entry_id));
CREATE TABLE fields (id INT PRIMARY KEY, name VARCHAR(20));
CREATE TABLE vals (id INT PRIMARY KEY, ticket_id INT, field_id INT, value TEXT, KEY (ticket_id));
CREATE TABLE tasks (id INT PRIMARY KEY, ticket_id INT, state VARCHAR(9), KEY (ticket_id));
"""
_METADATA = sa.MetaData()


def _table(table: str, /, **columns: Any) -> sa.Table:
    return sa.Table(
        table, _METADATA, sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(column, kind) for column, kind in columns.items()),
    )  # fmt: skip


_INT, _TEXT = sa.Integer, sa.String(30)
ticket = _table(
    "ticket", user_id=_INT, mail=_TEXT, category_id=_INT, owner_type=_TEXT, owner_id=_INT,
    priority=_INT, rights=_INT, colours=mysql.SET("red", "blue", "green"),
    level=mysql.INTEGER(4, zerofill=True), on_bit=mysql.BIT(3), created=sa.DateTime,
    stamped=sa.DateTime, due=sa.Date, body=sa.LargeBinary, config=sa.Text,
)  # fmt: skip
users = _table("users", name=_TEXT, mail=_TEXT, born=sa.Date, is_staff=mysql.TINYINT(1),
               credit=sa.Numeric(9, 2), dept_id=_INT, deleted_at=sa.DateTime)  # fmt: skip
depts = _table("depts", name=_TEXT)
teams = _table("teams", title=_TEXT)
categories = _table("categories", parent_id=_INT, name=_TEXT)
threads = _table("threads", object_id=_INT, object_type=_TEXT)
entries = _table("entries", thread_id=_INT, user_id=_INT, at=sa.DateTime, body=sa.Text)
files = _table("files", entry_id=_INT, name=_TEXT)
fields = _table("fields", name=_TEXT)
values = _table("vals", ticket_id=_INT, field_id=_INT, value=sa.Text)
tasks = _table("tasks", ticket_id=_INT, state=_TEXT)
author = users.alias("author")


@pytest.fixture
def stage(database: DatabaseServer, fresh_database: str) -> Iterator[Stage]:
    """The tables on either server, two tickets and what is around them."""
    database.load_sql(DDL, fresh_database)
    made = Stage(database, fresh_database)
    made.execute(
        "SET SESSION sql_mode=''",
        "INSERT INTO ticket (id, user_id, mail, category_id, owner_type, owner_id) VALUES"
        " (1, 7, 'a@x', 30, 'User', 8), (2, NULL, 'A@X', 99, 'Team', 5)",
        "INSERT INTO users VALUES (7, 'Ann', 'a@x', '1990-02-03', 1, 12.5, 4, NULL),"
        " (8, 'Bob', 'a@x', NULL, 0, NULL, 9, '2026-01-01'), (9, 'Eve', NULL, NULL, 0, 0, 4, NULL)",
        "INSERT INTO depts VALUES (4, 'Support')",
        "INSERT INTO teams VALUES (5, 'Red')",
        "INSERT INTO categories VALUES (10, NULL, 'all'), (20, 10, 'soft'), (30, 20, 'mail'),"
        " (40, 41, 'x'), (41, 40, 'y'), (50, 50, 'self')",
        "INSERT INTO threads VALUES (100, 1, 'T'), (101, 1, 'T'), (102, 1, 'A'), (103, 2, 'T')",
        "INSERT INTO entries VALUES (1, 100, 7, '2026-01-01', 'one'),"
        " (2, 101, 9, '2026-01-03', 'n'), (3, 100, 8, '2026-01-02', 'two'),"
        " (4, 102, 8, '2027-01-01', 'other')",
        "INSERT INTO files VALUES (1, 1, 'f1'), (2, 3, 'f2'), (3, 2, 'f3'), (4, 4, 'f4'),"
        " (5, 1, 'f5')",
        "INSERT INTO fields VALUES (1, 'size'), (2, 'due'), (3, 'notes')",
        "INSERT INTO vals VALUES (1, 1, 1, '12.50'), (2, 1, 2, '2026-05-06'), (3, 1, 3, 'ü\"'),"
        " (4, 1, 3, 'later'), (5, 1, 9, 'no field')",
        "INSERT INTO tasks VALUES (1, 1, 'open'), (2, 1, 'Open'), (3, 1, 'open'), (4, 1, NULL),"
        " (5, 1, 'closed')",
    )
    yield made
    made.close()


def _document(stage: Stage, *collections: Any, **more: Any) -> dict[str, Any]:
    """What tickets 1 and 2 have beside their ids."""
    found = stage.documents(Projection("t", ticket, [ticket.c.id], collections=collections, **more))
    return {key: {k: v for k, v in d.items() if k != "id"} for key, d in found.items()}


def _field(stage: Stage, *shown: Any, **more: Any) -> dict[str, Any]:
    found = stage.documents(Projection("t", ticket, [ticket.c.id, *shown], **more))
    return {k: v for k, v in found["1"].items() if k != "id"}


def test_one_object_is_typed_as_everything_is(stage: Stage) -> None:
    """Dates, booleans and decimals as the contract has them; null where there is no row."""
    requester = One(
        "requester", users, on=users.c.id == ticket.c.user_id,
        fields=[users.c.name, users.c.born, users.c.is_staff, users.c.credit, Fixed(users.c.mail)],
        joins=[Join(depts, depts.c.id == users.c.dept_id)],
        collections=[
            One("department", author, on=author.c.id == users.c.id, fields=[author.c.id]),
            Many("entries", entries, on=entries.c.user_id == users.c.id, value=entries.c.id),
        ],
    )  # fmt: skip
    assert _document(stage, requester) == {
        "1": {"requester": {
            "name": "Ann", "born": "1990-02-03", "is_staff": True, "credit": "12.50",
            "mail": "***", "department": {"id": 7}, "entries": [1],
        }},
        "2": {"requester": None},
    }  # fmt: skip


def test_one_object_only_where_it_is_admitted(stage: Stage) -> None:
    """A soft delete; also by what is joined to it."""

    def found(condition: Any) -> Any:
        one = One("owner", users, on=users.c.id == ticket.c.owner_id, fields=[users.c.name],
                  joins=[Join(depts, depts.c.id == users.c.dept_id)], where=condition)  # fmt: skip
        return _document(stage, one)["1"]["owner"]

    assert found(users.c.deleted_at.is_not(None)) == {"name": "Bob"}
    assert found(users.c.deleted_at.is_(None)) is None
    assert found(depts.c.name.is_(None)) == {"name": "Bob"}
    assert found(depts.c.name == "Support") is None


def _thread() -> Join:
    return Join(threads, sa.and_(threads.c.object_id == ticket.c.id, threads.c.object_type == "T"))


def test_the_row_that_matters_is_shown_with_its_author(stage: Stage) -> None:
    """By its order, through the threads, with an object and a list of its own."""
    last = First(
        "last_reply", entries, on=entries.c.thread_id == threads.c.id, through=[_thread()],
        fields=[entries.c.body, entries.c.at], order_by=[entries.c.at.desc()],
        collections=[
            One("author", author, on=author.c.id == entries.c.user_id, fields=[author.c.name]),
            Many("files", files, on=files.c.entry_id == entries.c.id, value=files.c.name),
        ],
    )  # fmt: skip
    value = First("first_body", entries, on=entries.c.thread_id == threads.c.id,
                  through=[_thread()], value=entries.c.body, order_by=[entries.c.at])  # fmt: skip
    assert _document(stage, last, value) == {
        "1": {
            "last_reply": {
                "body": "n", "at": "2026-01-03T00:00:00Z", "author": {"name": "Eve"},
                "files": ["f3"],
            },
            "first_body": "one",
        },
        "2": {"last_reply": None, "first_body": None},
    }  # fmt: skip


def test_a_list_stays_flat_through_two_tables_of_many(stage: Stage) -> None:
    """Of threads with entries with files only the files are shown; also counted and as pairs."""
    way = [_thread(), Join(entries, entries.c.thread_id == threads.c.id)]
    on = files.c.entry_id == entries.c.id
    assert _document(
        stage,
        Many("files", files, on=on, through=way, fields=[files.c.name, entries.c.body],
             where=entries.c.body != "two"),
        Aggregate(files, on=on, through=way, fields=[func.count().label("file_count")]),
        Pairs("by_name", files, on=on, through=way, key=files.c.name, value=entries.c.id),
    ) == {
        "1": {
            "files": [{"name": "f1", "body": "one"}, {"name": "f3", "body": "n"},
                      {"name": "f5", "body": "one"}],
            "file_count": 4, "by_name": {"f1": 1, "f2": 3, "f3": 2, "f5": 1},
        },
        "2": {"files": [], "file_count": 0, "by_name": {}},
    }  # fmt: skip


def test_a_table_on_the_way_compares_with_the_document(stage: Stage) -> None:
    """Its condition reads the root, also where the topmost table alone would tell the document."""
    first = Join(threads, sa.and_(threads.c.object_id == ticket.c.id, threads.c.object_type == "T"))
    on = sa.and_(entries.c.thread_id == threads.c.id, entries.c.user_id <= ticket.c.user_id)
    mine = Many("mine", entries, on=on, value=entries.c.body, through=[first])
    theirs = Many("files", files, on=files.c.entry_id == entries.c.id, value=files.c.name,
                  through=[first, Join(entries, on)])  # fmt: skip
    assert _document(stage, mine) == {"1": {"mine": ["one"]}, "2": {"mine": []}}
    assert _document(stage, theirs) == {"1": {"files": ["f1", "f5"]}, "2": {"files": []}}


def test_a_count_of_no_rows_has_its_form(stage: Stage) -> None:
    """A wrapper is asked about the 0 of a document without rows as about any other count."""
    has = Choice(func.count().label("has"), {0: False}, other=True)
    bits, hidden = func.count().label("bits"), func.count().label("hidden")
    assert _document(
        stage,
        Aggregate(tasks, on=tasks.c.ticket_id == ticket.c.id,
                  fields=[has, Flags(bits, {1: "odd"}), Fixed(hidden)]),
    ) == {
        "1": {"has": True, "bits": ["odd"], "hidden": "***"},
        "2": {"has": False, "bits": [], "hidden": "***"},
    }  # fmt: skip


def _custom(**more: Any) -> Pairs:
    return Pairs(
        "custom_fields", values, on=values.c.ticket_id == ticket.c.id,
        joins=[Join(fields, fields.c.id == values.c.field_id)],
        key=fields.c.name, value=values.c.value, **more,
    )  # fmt: skip


def test_key_value_rows_become_an_object(stage: Stage) -> None:
    """The last of a key, by its order; what has no name is left out; typed where it is said."""
    assert _document(stage, _custom()) == {
        "1": {"custom_fields": {"size": "12.50", "due": "2026-05-06", "notes": "later"}},
        "2": {"custom_fields": {}},
    }
    first = _custom(order_by=[values.c.id.desc()], types={"size": sa.Float, "due": sa.Date()})
    found = _document(stage, first)["1"]["custom_fields"]
    assert found == {"size": 12.5, "due": "2026-05-06", "notes": 'ü"'}
    every = _custom(repeated="list", where=fields.c.name == "notes")
    assert _document(stage, every)["1"]["custom_fields"] == {"notes": ['ü"', "later"]}
    named = _custom(types={"notes": {"later": "soon"}}, where=fields.c.name != "due")
    assert _document(stage, named)["1"]["custom_fields"] == {"size": "12.50", "notes": "soon"}


def test_pairs_that_cannot_be_written_name_their_key(stage: Stage) -> None:
    """A key that stands twice where that is refused, and a value that is not of its type."""
    for pairs, reason in (
        (_custom(repeated="refuse"), "custom_fields: a key that stands twice"),
        (_custom(types={"notes": sa.Integer}), "custom_fields.notes: not a whole number"),
    ):
        assert stage.failures(Projection("t", ticket, [ticket.c.id], collections=[pairs])) == {
            "1": reason
        }


def test_rows_are_counted_by_kind(stage: Stage) -> None:
    """Names that the collation calls equal are two names; a kind without rows is left out."""
    counts = Pairs("tasks", tasks, on=tasks.c.ticket_id == ticket.c.id, key=tasks.c.state,
                   value=func.count())  # fmt: skip
    assert _document(stage, counts) == {
        "1": {"tasks": {"open": 2, "Open": 1, "closed": 1}}, "2": {"tasks": {}},
    }  # fmt: skip
    alias = tasks.alias("named")
    with pytest.raises(ConfigurationError, match="nobody adds up"):
        Plan(Projection("t", ticket, [ticket.c.id], collections=[
            Pairs("tasks", alias, on=alias.c.ticket_id == ticket.c.id, value=func.count(),
                  key=Choice(alias.c.state, {"open": "x", "Open": "x"})),
        ]), MYSQL)  # fmt: skip


def test_a_polymorphic_reference_is_said_once(stage: Stage) -> None:
    """A user or a team, with the same fields; a deleted one is none."""

    def owner(where: Any = None) -> Any:
        actor = OneOf(
            "owner", kind=ticket.c.owner_type, key=ticket.c.owner_id,
            of={
                "User": Kind(users, fields=[users.c.name, depts.c.name.label("department")],
                             joins=[Join(depts, depts.c.id == users.c.dept_id)], where=where),
                "Team": Kind(teams, fields=[teams.c.title.label("name"),
                                            sa.null().label("department")]),
            },
        )  # fmt: skip
        return {key: found["owner"] for key, found in _document(stage, actor).items()}

    assert owner() == {
        "1": {"name": "Bob", "department": None}, "2": {"name": "Red", "department": None},
    }  # fmt: skip
    assert owner(users.c.deleted_at.is_(None))["1"] is None
    stage.execute("UPDATE ticket SET owner_type = 'Robot' WHERE id = 2")
    assert owner()["2"] is None
    with pytest.raises(ConfigurationError, match="fill different fields"):
        Plan(Projection("t", ticket, [ticket.c.id], collections=[
            OneOf("owner", ticket.c.owner_type, ticket.c.owner_id,
                  {"User": Kind(users, [users.c.name]), "Team": Kind(teams, [teams.c.title])}),
        ]), MYSQL)  # fmt: skip


def test_a_path_leads_to_the_root(stage: Stage) -> None:
    """Bounded by its depth; a loop ends where it would begin again; no row, no name."""

    def path(depth: int = 8) -> Any:
        return _document(stage, Path(
            "path", categories, on=categories.c.id == ticket.c.category_id,
            parent=categories.c.parent_id, value=categories.c.name, depth=depth,
        ))  # fmt: skip

    assert path() == {"1": {"path": ["mail", "soft", "all"]}, "2": {"path": []}}
    assert path(2)["1"] == {"path": ["mail", "soft"]}
    stage.execute(
        "UPDATE ticket SET category_id = 40 WHERE id = 1",
        "UPDATE ticket SET category_id = 50 WHERE id = 2",
    )
    assert path() == {"1": {"path": ["x", "y"]}, "2": {"path": ["self"]}}


def test_one_of_several_partners_is_picked(stage: Stage) -> None:
    """By its order, then by key; what belongs to it belongs to it alone."""

    def name(*order: Any) -> Any:
        return stage.documents(Projection(
            "t", ticket, [ticket.c.id, users.c.name, depts.c.name.label("department")],
            joins=[Join(users, users.c.mail == ticket.c.mail, pick=order),
                   Join(depts, depts.c.id == users.c.dept_id)],
            collections=[
                Many("entries", entries, on=entries.c.user_id == users.c.id, value=entries.c.id)
            ],
        ))  # fmt: skip

    ann = {"name": "Ann", "department": "Support", "entries": [1]}
    bob = {"name": "Bob", "department": None, "entries": [3, 4]}
    assert name(users.c.id) == {"1": {"id": 1, **ann}, "2": {"id": 2, **ann}}
    assert name(users.c.deleted_at.desc())["1"] == {"id": 1, **bob}
    assert name(users.c.is_staff, users.c.id.desc())["2"] == {"id": 2, **bob}


def test_values_have_names(stage: Stage) -> None:
    """Of numbers however they are spelled, of texts, and of bits; null stays null."""
    names = {0: "none", 1: "low", 2: None}
    stage.execute("UPDATE ticket SET priority = 1, level = 1, on_bit = 1, rights = 5, "
                  "colours = 'green,red'")  # fmt: skip
    shown = [
        Choice(ticket.c.priority, names), Choice(ticket.c.level, names),
        Choice(ticket.c.on_bit, names), Choice(ticket.c.owner_type, {"User": 1}),
        Choice(ticket.c.rights, names, other="many"), Choice(ticket.c.user_id.label("none"), names),
        Flags(ticket.c.rights.label("flags"), {1: "read", 2: "write"}),
        Flags(ticket.c.on_bit.label("bits"), {1: "a", 4: "c"}), Flags(ticket.c.colours),
    ]  # fmt: skip
    assert _field(stage, *shown) == {
        "priority": "low", "level": "low", "on_bit": "low", "owner_type": 1, "rights": "many",
        "none": None, "flags": ["read"], "bits": ["a"], "colours": ["red", "green"],
    }  # fmt: skip


def test_zero_dates_are_null_where_that_is_said(stage: Stage) -> None:
    """For a column, for all; else the document is set aside."""
    stage.execute("UPDATE ticket SET created = '0000-00-00', due = '0000-00-00' WHERE id = 1")
    both = [ticket.c.created, ticket.c.due]
    assert _field(stage, *both, zero_dates="null") == {"created": None, "due": None}
    assert _field(stage, *(Moment(c, zero_dates="null") for c in both)) == {
        "created": None, "due": None,
    }  # fmt: skip
    assert stage.failures(Projection("t", ticket, [ticket.c.id, *both])) == {
        "1": "created: the date 0000-00-00 does not exist"
    }


def test_local_times_are_converted_here(stage: Stage) -> None:
    """By the zone that is named; an hour that comes twice is the first, one left out is bridged; a
    TIMESTAMP is UTC already."""
    for local, utc in (
        ("2026-07-01 12:00:00.5", "2026-07-01T10:00:00.500000Z"),
        ("2026-01-01 00:30:00", "2025-12-31T23:30:00Z"),
        ("2026-10-25 02:30:00", "2026-10-25T00:30:00Z"),
        ("2026-03-29 02:30:00", "2026-03-29T01:30:00Z"),
    ):
        stage.execute(
            "SET time_zone = '+00:00'",
            f"UPDATE ticket SET created = '{local}', stamped = '2026-07-01 12:00:00'",
        )
        both = [ticket.c.created, ticket.c.stamped]
        expected = {"created": utc, "stamped": "2026-07-01T12:00:00Z"}
        assert _field(stage, *both, zone="Europe/Berlin") == expected
        moments = [Moment(column, "Europe/Berlin") for column in both]
        assert _field(stage, *moments) == expected
    last = First("last", entries, on=entries.c.user_id == ticket.c.user_id,
                 value=Moment(entries.c.at, "America/New_York"))  # fmt: skip
    figure = Moment(func.max(entries.c.at).label("at"), "Asia/Tokyo")
    latest = Aggregate(entries, on=entries.c.user_id == ticket.c.user_id, fields=[figure])
    assert _document(stage, last, latest)["1"] == {
        "last": "2026-01-01T05:00:00Z", "at": "2025-12-31T15:00:00Z",
    }  # fmt: skip


def test_text_is_read_in_the_encoding_that_it_is_in(stage: Stage) -> None:
    """Bytes in a binary column, and UTF-8 that a Latin column holds; else it is said."""
    stage.execute(
        "ALTER TABLE ticket ADD latin VARCHAR(60) CHARACTER SET latin1",
        "UPDATE ticket SET body = 0x47726FDF, latin = _binary 'Größe'",
    )
    wide = sa.Table(
        "ticket", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("latin", sa.String(60)), sa.Column("body", sa.LargeBinary),
    )  # fmt: skip
    shown = [Encoded(wide.c.latin, "utf-8"), Encoded(wide.c.body.label("text"), "cp1252")]
    found = stage.documents(Projection("t", wide, [wide.c.id, *shown]))
    assert found["1"] == {"id": 1, "latin": "Größe", "text": "Groß"}
    refused = Projection("t", wide, [wide.c.id, Encoded(wide.c.body, "utf-8")])
    assert stage.failures(refused)["1"] == "body: bytes that are no text in utf-8"
    replaced = Projection("t", wide, [wide.c.id, Encoded(wide.c.body, "utf-8", "replace")])
    assert stage.documents(replaced)["1"]["body"] == "Gro�"


def test_json_in_a_text_is_json(stage: Stage) -> None:
    """An empty text is null; what is no JSON as is said."""
    config = ticket.c.config
    for stored, otherwise, shown in (
        ('{"a": [1, "é"]}', "refuse", {"a": [1, "é"]}), ("", "refuse", None), (" ", "text", None),
        ("a:1:{}", "null", None), ("a:1:{}", "text", "a:1:{}"),
    ):  # fmt: skip
        stage.execute(f"UPDATE ticket SET config = '{stored}'")
        assert _field(stage, Json(config, otherwise)) == {"config": shown}  # type: ignore[arg-type]
    assert "no JSON" in stage.failures(Projection("t", ticket, [ticket.c.id, Json(config)]))["1"]
