"""What `check` says of indexes and uniqueness: true, by the name that is meant, and it helps."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import and_

from projector.projection import Join, Many, Projection
from tests.abroad.world import MakeWorld, World

pytestmark = pytest.mark.server

_METADATA = sa.MetaData()


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(name, _METADATA, sa.Column("id", sa.Integer, primary_key=True), *columns)


ticket = _table("ticket", sa.Column("code", sa.Text), sa.Column("kind", sa.String(9)),
                sa.Column("owner", sa.Integer), sa.Column("mail", sa.String(99)))  # fmt: skip
task = _table("task", sa.Column("object_id", sa.Integer), sa.Column("object_type", sa.String(9)))
loose = _table("loose", sa.Column("object_id", sa.Integer), sa.Column("object_type", sa.String(9)))
entry = sa.Table(
    "entry", _METADATA, sa.Column("entry_id", sa.Integer, primary_key=True),
    sa.Column("field_id", sa.Integer, primary_key=True), sa.Column("value", sa.String(9)),
)  # fmt: skip
note = _table("note", sa.Column("code", sa.Text))
letter = _table("letter", sa.Column("mail", sa.String(999)), sa.Column("kind", sa.String(9)))
text = _table("text", sa.Column("ticket_id", sa.String(9)))
latin = _table("latin", sa.Column("kind", sa.String(9)))
person = _table("person", sa.Column("number", sa.Integer), sa.Column("name", sa.String(9)))
owner = person.alias("owner")
field = entry.alias("field")
subject = loose.alias("subject")

tickets = Projection(
    "tickets", ticket, [ticket.c.id, field.c.value, owner.c.name],
    joins=[
        Join(field, and_(field.c.entry_id == ticket.c.id, field.c.field_id == 22)),
        Join(owner, owner.c.number == ticket.c.owner),
    ],
    collections=[
        Many("tasks", task, on=and_(task.c.object_id == ticket.c.id, task.c.object_type == "T"),
             value=task.c.id),
        Many("subjects", subject, value=subject.c.id,
             on=and_(subject.c.object_id == ticket.c.id, subject.c.object_type == "T")),
        Many("notes", note, on=note.c.code == ticket.c.code, value=note.c.id),
        Many("letters", letter, value=letter.c.id,
             on=and_(letter.c.mail == ticket.c.mail, letter.c.kind == ticket.c.kind)),
        Many("texts", text, on=text.c.ticket_id == ticket.c.id, value=text.c.id),
        Many("latins", latin, on=latin.c.kind == ticket.c.kind, value=latin.c.id),
    ],
)  # fmt: skip

DDL = """
CREATE TABLE ticket (id INT PRIMARY KEY, code TEXT, kind VARCHAR(9), owner INT, mail VARCHAR(99),
  KEY ix_ticket_code (kind));
CREATE TABLE task (id INT PRIMARY KEY, object_id INT, object_type VARCHAR(9),
  KEY (object_type, object_id));
CREATE TABLE loose (id INT PRIMARY KEY, object_id INT, object_type VARCHAR(9), KEY (object_type));
CREATE TABLE entry (entry_id INT, field_id INT, value VARCHAR(9), PRIMARY KEY (entry_id, field_id));
CREATE TABLE note (id INT PRIMARY KEY, code TEXT);
CREATE TABLE letter (id INT PRIMARY KEY, mail VARCHAR(999), kind VARCHAR(9));
CREATE TABLE text (id INT PRIMARY KEY, ticket_id VARCHAR(9));
CREATE TABLE latin (id INT PRIMARY KEY, kind VARCHAR(9)) CHARACTER SET latin1;
CREATE TABLE person (id INT PRIMARY KEY, number INT, name VARCHAR(9));
"""
_ROWS = " UNION ALL ".join(f"SELECT {i} AS n" for i in range(1, 400))
FILL = [
    f"INSERT INTO ticket SELECT n, n, n, n, n FROM ({_ROWS}) AS t",
    f"INSERT INTO task SELECT n, n, 'T' FROM ({_ROWS}) AS t",
    f"INSERT INTO loose SELECT n, n, 'T' FROM ({_ROWS}) AS t",
    f"INSERT INTO entry SELECT n, 22, n FROM ({_ROWS}) AS t",
    f"INSERT INTO entry SELECT n, 23, n FROM ({_ROWS}) AS t",
    f"INSERT INTO note SELECT n, n FROM ({_ROWS}) AS t",
    f"INSERT INTO letter SELECT n, n, n FROM ({_ROWS}) AS t",
    f"INSERT INTO text SELECT n, n FROM ({_ROWS}) AS t",
    f"INSERT INTO latin SELECT n, n FROM ({_ROWS}) AS t",
    f"INSERT INTO person SELECT n, n, n FROM ({_ROWS}) AS t",
]


def _warnings(world: World, name: str) -> dict[str, str]:
    done = world.daemon.run("check", "--json")
    found = [c for c in json.loads(done.stdout) if c["name"] == f"tickets.{name}"]
    return {c["detail"].replace(f"{world.schema}.", ""): c["fix"] for c in found
            if c["status"] == "warning"}  # fmt: skip


@pytest.mark.parametrize("is_filled", [False, True], ids=["empty", "filled"])
def test_advice_is_true_and_helps(abroad: MakeWorld, is_filled: bool) -> None:
    """Constants count; an alias is named; each index advised can be built, and then all is well."""
    world = abroad(DDL, "tests.abroad.test_index_advice:tickets")
    if is_filled:
        world.execute(*FILL)
    [unique] = _warnings(world, "keys")
    assert unique.startswith("person (as owner) is joined to-one by (number), which is not unique")
    found = _warnings(world, "indexes")
    said = {detail.partition(" is read")[0]: fix for detail, fix in found.items()}
    assert set(said) == {
        "person (as owner)", "loose (as subject)", "note", "letter", "text", "latin", "ticket",
    }  # fmt: skip
    assert "task" not in said
    assert "entry" not in said
    for table in ("text", "latin"):  # whatever index is made, the join cannot use it
        assert said[table].startswith("Give both sides")
    advised = [fix for fix in found.values() if fix.startswith("CREATE INDEX")]
    assert any("`code`(100)" in fix and "`note`" in fix for fix in advised)
    assert any("`mail`(100), `kind`)" in fix for fix in advised)
    assert any("(`object_id`, `object_type`)" in fix for fix in advised)
    world.execute(*advised)
    left = {d.partition(" is read")[0] for d in _warnings(world, "indexes")}
    assert left <= {"text", "latin", "ticket"}
    assert not any(fix.startswith("CREATE") for fix in _warnings(world, "indexes").values())


cast = Projection(
    "cast", ticket, [ticket.c.id],
    collections=[
        Many("tasks", task, on=task.c.object_id == ticket.c.id, value=sa.cast(task.c.id, sa.CHAR))
    ],
)  # fmt: skip


def test_a_list_of_values_needs_no_name(abroad: MakeWorld) -> None:
    """An expression without one: the list's is enough."""
    world = abroad(DDL, "tests.abroad.test_index_advice:cast")
    world.execute("INSERT INTO ticket (id) VALUES (1)", "INSERT INTO task VALUES (7, 1, 'X')")
    world.start()
    world.expect({"1": {"id": 1, "tasks": ["7"]}})


def test_a_view_is_no_table_to_scaffold(abroad: MakeWorld) -> None:
    """Nobody can give it a primary key: the message says what it is."""
    world = abroad(
        f"{DDL} CREATE VIEW seen AS SELECT * FROM ticket", "tests.abroad.test_index_advice:cast"
    )
    done = world.daemon.run("scaffold", "seen")
    assert done.returncode in (2, 3)
    assert "seen is a view: the log has no rows of it" in done.stderr
    assert "primary key" not in done.stderr


measure = sa.Table("measure", _METADATA, sa.Column("id", sa.String(20), primary_key=True))
measures = Projection("measures", measure, [measure.c.id])


def test_a_float_names_no_document(abroad: MakeWorld) -> None:
    """Several of its values are written alike: refused at start, also where declared as a text."""
    world = abroad(
        "CREATE TABLE measure (id FLOAT PRIMARY KEY); INSERT INTO measure VALUES (16777216)",
        "tests.abroad.test_index_advice:measures",
    )
    done = world.daemon.run("run", "--until-current")
    assert done.returncode == 2
    assert "measure.id names documents, and is float" in done.stderr
