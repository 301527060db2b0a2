"""Whole join conditions: whatever stands in `on=` holds in every query, or is refused at load."""

import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import and_, func, or_

from projector.projection import Aggregate, Join, Many, Projection
from tests.abroad.world import MakeWorld, World

pytestmark = pytest.mark.server

_METADATA = sa.MetaData()
ticket = sa.Table(
    "ticket", _METADATA,
    sa.Column("id", sa.Integer, primary_key=True), sa.Column("kind", sa.String(9)),
    sa.Column("at", sa.DateTime), sa.Column("form_id", sa.Integer),
)  # fmt: skip
task = sa.Table(
    "task", _METADATA,
    sa.Column("id", sa.Integer, primary_key=True), sa.Column("object_id", sa.Integer),
    sa.Column("object_type", sa.String(9)), sa.Column("state", sa.Integer),
    sa.Column("at", sa.DateTime), sa.Column("mark", sa.LargeBinary(2)),
)  # fmt: skip
entry = sa.Table(
    "entry", _METADATA,
    sa.Column("object_type", sa.String(9), primary_key=True),
    sa.Column("object_id", sa.Integer, primary_key=True),
    sa.Column("field_id", sa.Integer, primary_key=True), sa.Column("value", sa.String(9)),
)  # fmt: skip
step = sa.Table(
    "step", _METADATA,
    sa.Column("id", sa.Integer, primary_key=True), sa.Column("task_id", sa.Integer),
    sa.Column("kind", sa.String(9)),
)  # fmt: skip
tag = sa.Table(
    "tag", _METADATA,
    sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(9)),
    sa.Column("is_shown", sa.Integer),
)  # fmt: skip
link = sa.Table(
    "link", _METADATA,
    sa.Column("object_id", sa.Integer, primary_key=True),
    sa.Column("object_type", sa.String(9), primary_key=True),
    sa.Column("tag_id", sa.Integer, primary_key=True),
)  # fmt: skip

DDL = """
CREATE TABLE ticket (id INT PRIMARY KEY, kind VARCHAR(9), at DATETIME, form_id INT);
CREATE TABLE task (id INT PRIMARY KEY, object_id INT, object_type VARCHAR(9), state INT,
  at DATETIME, mark VARBINARY(2), KEY (object_type, object_id));
CREATE TABLE entry (object_type VARCHAR(9), object_id INT, field_id INT, value VARCHAR(9),
  PRIMARY KEY (object_type, object_id, field_id));
CREATE TABLE step (id INT PRIMARY KEY, task_id INT, kind VARCHAR(9), KEY (task_id));
CREATE TABLE tag (id INT PRIMARY KEY, name VARCHAR(9), is_shown INT);
CREATE TABLE link (object_id INT, object_type VARCHAR(9), tag_id INT,
  PRIMARY KEY (object_type, object_id, tag_id), KEY (tag_id));
INSERT INTO ticket VALUES (1, 'a', '2024-01-01', 1), (2, 'b', '2024-01-02', 1), (3, NULL, NULL, 2);
INSERT INTO task VALUES
  (10, 1, 'T', 1, '2024-01-05', x'FF00'), (11, 1, 'X', 1, '2024-01-05', x'FF00'),
  (12, 2, 'T', 2, '2023-01-05', NULL), (13, 2, NULL, 3, NULL, x'FF'), (14, 1, 't', 1, NULL, NULL),
  (15, 3, 'U', 2, '2024-02-05', x'FF00'), (16, NULL, 'T', 1, NULL, NULL);
INSERT INTO entry VALUES ('T', 1, 22, 'one'), ('T', 1, 23, 'other'), ('X', 1, 22, 'alien'),
  ('T', 2, 23, 'no'), ('F', 1, 22, 'form'), ('F', 2, 22, 'form2');
INSERT INTO step VALUES (100, 10, 'k'), (101, 10, 'l'), (102, 11, 'k'), (103, 12, 'k');
INSERT INTO tag VALUES (1, 'red', 1), (2, 'hid', 0), (3, 'blue', 1);
INSERT INTO link VALUES (1, 'T', 1), (1, 'X', 3), (1, 'T', 2), (2, 'T', 3), (3, 'X', 1);
"""


def _tasks(name: str, *conditions: Any) -> Many:
    own = task.alias(name)
    said = [c(own) for c in conditions]
    return Many(name, own, on=and_(own.c.object_id == ticket.c.id, *said), value=own.c.id)


field = entry.alias("field")
of_form = entry.alias("of_form")
counted = task.alias("counted")
nested = task.alias("nested")
shown = tag.alias("shown")

tickets = Projection(
    "tickets", ticket, [ticket.c.id, field.c.value, of_form.c.value.label("form")],
    joins=[
        Join(field, and_(
            field.c.object_id == ticket.c.id, field.c.object_type == "T", field.c.field_id == 22,
        )),
        Join(of_form, and_(
            of_form.c.object_id == ticket.c.form_id, sa.literal("F") == of_form.c.object_type,
            of_form.c.field_id == 22, ticket.c.kind == "a",
        )),
    ],
    collections=[
        _tasks("right", lambda t: t.c.object_type == "T"),
        _tasks("left", lambda t: sa.literal("T") == t.c.object_type),
        _tasks("among", lambda t: t.c.object_type.in_(["T", "U"])),
        _tasks("none", lambda t: t.c.object_type.is_(None)),
        _tasks("either", lambda t: or_(t.c.state == 2, t.c.object_type == "X")),
        _tasks("like", lambda t: and_(t.c.object_type.like("T%"), t.c.state.between(1, 2))),
        _tasks("bytes", lambda t: t.c.mark == b"\xff\x00"),
        _tasks("date", lambda t: t.c.at >= datetime.datetime(2024, 1, 1)),
        _tasks("parents", lambda t: t.c.object_type == "T", lambda t: ticket.c.kind == "a"),
        _tasks("later", lambda t: t.c.at > ticket.c.at),
        _tasks("own", lambda t: t.c.object_id > t.c.state),
        _tasks("root", lambda t: ticket.c.id > 1),
        Many(
            "nested", nested,
            on=and_(nested.c.object_type == "T", nested.c.object_id == ticket.c.id),
            fields=[nested.c.id],
            collections=[Many("steps", step, value=step.c.id, on=and_(
                step.c.task_id == nested.c.id, step.c.kind == "k", nested.c.state == 1))],
        ),
        Many(
            "tags", link, on=and_(link.c.object_id == ticket.c.id, link.c.object_type == "T"),
            joins=[Join(shown, and_(shown.c.id == link.c.tag_id, shown.c.is_shown == 1))],
            value=shown.c.name,
        ),
        Aggregate(
            counted, on=and_(counted.c.object_id == ticket.c.id, counted.c.object_type == "T"),
            fields=[func.count().label("n"), func.max(counted.c.state).label("top")],
        ),
    ],
)  # fmt: skip

_LISTS = {
    "right": "t.object_type = 'T'",
    "left": "t.object_type = 'T'",
    "among": "t.object_type IN ('T', 'U')",
    "none": "t.object_type IS NULL",
    "either": "(t.state = 2 OR t.object_type = 'X')",
    "like": "t.object_type LIKE 'T%%' AND t.state BETWEEN 1 AND 2",
    "bytes": "t.mark = x'FF00'",
    "date": "t.at >= '2024-01-01'",
    "parents": "t.object_type = 'T' AND d.kind = 'a'",
    "later": "t.at > d.at",
    "own": "t.object_id > t.state",
    "root": "d.id > 1",
}


def _expected(world: World) -> dict[str, Any]:
    """Ask in SQL that the projection has no part in."""

    def values(sql: str) -> list[Any]:
        return [row[0] for row in world.execute(sql)]

    found: dict[str, Any] = {}
    for (key,) in world.execute("SELECT id FROM ticket"):
        own = f"FROM task t JOIN ticket d ON d.id = {key} WHERE t.object_id = {key} AND"
        document: dict[str, Any] = {
            name: values(f"SELECT t.id {own} {condition} ORDER BY t.id")
            for name, condition in _LISTS.items()
        }
        document["nested"] = [
            {"id": number, "steps": values(
                f"SELECT s.id FROM step s WHERE s.task_id = {number} AND s.kind = 'k' AND"
                f" (SELECT state FROM task WHERE id = {number}) = 1 ORDER BY s.id")}
            for number in document["right"]
        ]  # fmt: skip
        document["tags"] = values(
            "SELECT (SELECT g.name FROM tag g WHERE g.id = l.tag_id AND g.is_shown = 1) FROM link l"
            f" WHERE l.object_id = {key} AND l.object_type = 'T' ORDER BY l.tag_id"
        )
        [(document["n"], document["top"])] = world.execute(
            f"SELECT COUNT(*), MAX(state) FROM task WHERE object_id = {key} AND object_type = 'T'"
        )
        document["id"] = key
        document["value"] = next(iter(values(
            "SELECT value FROM entry WHERE object_type = 'T' AND field_id = 22"
            f" AND object_id = {key}")), None)  # fmt: skip
        document["form"] = next(iter(values(
            "SELECT e.value FROM entry e JOIN ticket d ON e.object_id = d.form_id"
            f" WHERE e.object_type = 'F' AND e.field_id = 22 AND d.kind = 'a' AND d.id = {key}"
        )), None)  # fmt: skip
        found[str(key)] = document
    return found


_CHANGES = [
    "UPDATE task SET object_type = 'X' WHERE id = 10",
    "UPDATE task SET object_type = 'T' WHERE id IN (10, 11, 13)",
    "UPDATE task SET state = 3 - state",
    "UPDATE task SET object_id = 4 - object_id, object_type = 'T' WHERE id IN (12, 15)",
    "UPDATE task SET mark = x'FF00', at = '2024-01-03' WHERE id = 13",
    "UPDATE ticket SET kind = 'a', at = '2020-01-01' WHERE id = 2",
    "UPDATE ticket SET kind = 'c' WHERE id = 1",
    "UPDATE entry SET field_id = 24 WHERE field_id = 22 AND object_type = 'T'",
    "UPDATE entry SET field_id = 22 WHERE field_id = 23",
    "UPDATE entry SET object_type = 'F' WHERE object_type = 'X'; ",
    "UPDATE step SET kind = 'k'",
    "UPDATE step SET kind = 'q' WHERE id = 103",
    "UPDATE tag SET is_shown = 1 - is_shown",
    "UPDATE link SET object_type = 'T' WHERE tag_id <> 2",
    "DELETE FROM link WHERE object_id = 1 AND object_type = 'T' AND tag_id = 1",
    "DELETE FROM task WHERE id = 11",
    "INSERT INTO task VALUES (17, 3, 'U', 2, '2025-01-01', x'FF00'), (18, 3, 'V', 2, NULL, NULL)",
]


def test_all_of_a_join_condition_holds(abroad: MakeWorld) -> None:
    """Constants, conditions on either side and between them: at the build and after each change."""
    world = abroad(DDL, "tests.abroad.test_joins:tickets")
    world.execute("DELETE FROM entry WHERE object_type = 'X'")
    world.start()
    world.expect(_expected(world))
    for change in _CHANGES:
        world.execute(change.rstrip("; "))
        world.expect(_expected(world))
    assert world.daemon.run("verify").returncode == 0


figures = Projection(
    "figures", ticket, [ticket.c.id],
    collections=[Aggregate(
        counted, on=counted.c.object_id == ticket.c.id,
        fields=[func.coalesce(func.sum(counted.c.state), ticket.c.form_id, 0).label("sum")],
    )],
)  # fmt: skip
chance = Projection(
    "chance", ticket, [ticket.c.id],
    collections=[Aggregate(
        counted, on=counted.c.object_id == ticket.c.id,
        fields=[func.count().label("n"), func.upper(counted.c.object_type).label("type")],
    )],
)  # fmt: skip


def test_figures_are_strictly_grouped(abroad: MakeWorld) -> None:
    """A column that chance would choose a value of is refused; one of the document's own is not."""
    world = abroad(DDL, "tests.abroad.test_joins:chance")
    done = world.daemon.run("check")
    assert done.returncode == 1
    assert "chance.queries" in done.stdout
    assert "belong into an Aggregate" in done.stdout
    assert world.daemon.run("run", "--until-current").returncode == 2
    world = abroad(DDL, "tests.abroad.test_joins:figures")
    world.start()
    world.expect({"1": {"id": 1, "sum": 3}, "2": {"id": 2, "sum": 5}, "3": {"id": 3, "sum": 2}})
