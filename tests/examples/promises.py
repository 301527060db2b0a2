"""Tickets that are overdue by and by: documents that time alone changes, and what they should be.

The oracle reads plain rows and compares them with Python's own clock and time zones; `documents`
holds only while no moment is just coming.
"""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import func

from projector.projection import Aggregate, First, Many, One, Passed, Projection

ZONE = "America/New_York"
DDL = (
    "CREATE TABLE promises (id INT PRIMARY KEY, due_at {time}, closed_at {time}, promised {time},"
    " parent_id INT)",
    "CREATE TABLE steps (id INT PRIMARY KEY, promise_id INT, until {time})",
    "CREATE INDEX steps_promise ON steps (promise_id)",
    "CREATE INDEX promises_parent ON promises (parent_id)",
)

_metadata = sa.MetaData()
_table = sa.Table(
    "promises", _metadata, sa.Column("id", sa.Integer, primary_key=True),
    *(sa.Column(name, sa.DateTime) for name in ("due_at", "closed_at", "promised")),
    sa.Column("parent_id", sa.Integer),
)  # fmt: skip
_steps = sa.Table(
    "steps", _metadata, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("promise_id", sa.Integer), sa.Column("until", sa.DateTime),
)  # fmt: skip
_parent = _table.alias("parent")
_first = _steps.alias("first_step")
_all = _steps.alias("all_steps")

promises = Projection(
    "promises",
    _table,
    fields=[
        _table.c.id,
        Passed(sa.case((_table.c.closed_at.is_(None), _table.c.due_at)).label("overdue")),
        Passed(_table.c.promised.label("late"), zone=ZONE),
    ],
    collections=[
        One("parent", _parent, on=_parent.c.id == _table.c.parent_id, fields=[
            _parent.c.id, Passed(_parent.c.due_at.label("overdue")),
        ]),
        Many("steps", _steps, on=_steps.c.promise_id == _table.c.id, fields=[
            _steps.c.id, Passed(_steps.c.until.label("over")),
        ]),
        First("first", _first, on=_first.c.promise_id == _table.c.id, order_by=[_first.c.until],
              value=Passed(_first.c.until), where=_first.c.until.is_not(None)),
        Aggregate(_all, on=_all.c.promise_id == _table.c.id, fields=[
            Passed(func.max(_all.c.until).label("all_over")),
        ]),
    ],
)  # fmt: skip


def documents(
    rows: Mapping[str, Sequence[tuple[Any, ...]]], now: datetime.datetime
) -> dict[str, dict[str, Any]]:
    """Return the documents at a moment, in UTC without a zone. `rows`: of each table, whole."""

    def has_come(moment: datetime.datetime | None) -> bool | None:
        return None if moment is None else moment <= now

    by_id = {row[0]: row for row in rows["promises"]}
    found = {}
    for key, due, closed, promised, parent in rows["promises"]:
        mine = sorted((i, until) for i, promise, until in rows["steps"] if promise == key)
        moments = [until for _, until in mine if until is not None]
        utc = promised and promised.replace(tzinfo=ZoneInfo(ZONE)).astimezone(datetime.UTC)
        found[str(key)] = {
            "id": key,
            "overdue": has_come(due) if closed is None else None,
            "late": has_come(utc and utc.replace(tzinfo=None)),
            "parent": {"id": parent, "overdue": has_come(by_id[parent][1])}
            if parent in by_id
            else None,
            "steps": [{"id": i, "over": has_come(until)} for i, until in mine],
            "first": has_come(min(moments, default=None)),
            "all_over": has_come(max(moments, default=None)),
        }
    return found
