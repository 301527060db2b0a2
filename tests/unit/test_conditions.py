"""Join conditions and expressions: in every query, or refused with what to write instead."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import and_, func

from projector.errors import ConfigurationError
from projector.mysql.dialect import MYSQL
from projector.projection import Aggregate, Join, Many, Plan, Projection
from tests.abroad.test_joins import link, step, tag, task, ticket


@pytest.mark.parametrize("count", [1, 400])
def test_a_constant_is_in_every_query(count: int) -> None:
    """Of one document or many: wherever a table with a constant is read, the constant stands."""
    own = task.alias("own")
    plan = Plan(Projection("t", ticket, [ticket.c.id], collections=[
        Many("own", own, on=and_(own.c.object_id == ticket.c.id, own.c.object_type == "T"),
             fields=[own.c.id],
             collections=[Many("steps", step, on=step.c.task_id == own.c.id, value=step.c.id)]),
    ]), MYSQL)  # fmt: skip
    queries = plan.queries([str(i) for i in range(count)])
    queries += [look_up.query([(1,)], (), 9) for look_up in plan.look_ups.values()]
    reading = [sql for sql in queries if "task AS own" in sql]
    assert len(reading) == 4
    assert all("own.object_type = 'T'" in sql for sql in reading)


def _plan(fields: Sequence[Any] = (), **more: Any) -> Plan:
    return Plan(Projection("t", ticket, [ticket.c.id, *fields], **more), MYSQL)


def _many(**more: Any) -> Many:
    said: dict[str, Any] = {"on": task.c.object_id == ticket.c.id, "fields": [task.c.id], **more}
    return Many("tasks", task, **said)


_STEPS = Many("steps", step, on=step.c.task_id == task.c.id, value=step.c.id)
_N = func.count().label("n")
_ROW_NUMBER = func.row_number().over(order_by=task.c.id).label("n")


@pytest.mark.parametrize(
    ("declare", "said", "remedy"),
    [
        # Figures where rows are meant.
        (lambda: _plan(collections=[_many(fields=[task.c.object_type, _N])]), "aggregate", "Aggre"),
        (lambda: _plan(collections=[_many(fields=(), value=_N)]), "aggregate", "Aggregate\\("),
        (lambda: _plan(collections=[_many(where=func.max(task.c.id) > 1)]), "aggregate", "Aggreg"),
        (lambda: _plan(collections=[_many(order_by=[func.sum(task.c.id)])]), "aggregate", "Aggre"),
        (lambda: _plan([func.coalesce(func.sum(ticket.c.id), 0).label("n")]), "aggregate", "Aggre"),
        (lambda: _plan([func.GROUP_CONCAT(ticket.c.kind).label("n")]), "aggregate", "Aggregate"),
        (lambda: _plan([sa.literal_column("COUNT(*)").label("n")]), "aggregate", "Aggregate"),
        (lambda: _plan(where=func.count() > 1), "aggregate", "Aggregate"),
        (lambda: _plan([sa.case((func.max(ticket.c.id) > 1, 1)).label("n")]), "aggregate", "Aggre"),
        (lambda: _plan(collections=[
            _many(on=and_(task.c.object_id == ticket.c.id, func.max(task.c.id) > 1))]),
         "aggregate", "Aggregate"),
        (lambda: _plan(joins=[Join(tag, and_(tag.c.id == ticket.c.form_id, func.max(tag.c.id)))]),
         "aggregate", "Aggregate"),
        (lambda: _plan(collections=[_many(fields=[_ROW_NUMBER])]), "window", "limit"),
        (lambda: _plan([func.count().over().label("n")]), "window", "limit"),
        (lambda: _plan(collections=[Aggregate(
            task, task.c.object_id == ticket.c.id, [func.count().over().label("n")])]),
         "window", "limit"),
        (lambda: _plan(collections=[Aggregate(
            task, task.c.object_id == ticket.c.id, [_N, task.c.object_type])]),
         "outside of any aggregate", "func.max"),
        # What nobody would see change.
        (lambda: _plan(collections=[_many(
            on=and_(task.c.object_id == ticket.c.id, sa.text("task.object_type = 'T'")))]),
         "a text names", "table.c.name"),
        (lambda: _plan(collections=[_many(
            on=and_(task.c.object_id == ticket.c.id, sa.literal_column("`object_type`") == "T"))]),
         "a text names object_type", "table.c.name"),
        (lambda: _plan([sa.column("kind").label("k")]), "a text names", "table.c.name"),
        (lambda: _plan([sa.select(func.max(ticket.c.id)).scalar_subquery().label("n")]),
         "subquery", "Join"),
        (lambda: _plan(where=ticket.c.id.in_(sa.select(ticket.c.form_id))), "subquery", "Join"),
        (lambda: _plan(collections=[_many(
            on=and_(task.c.object_id == ticket.c.id, task.c.state == sa.bindparam("state")))]),
         "no value", "Write"),
        (lambda: _plan(collections=[_many(
            on=and_(task.c.object_id == ticket.c.id, task.c.object_type == object()))]),
         "constant", "Write"),
        (lambda: _plan(collections=[Many(
            "tags", link, on=and_(link.c.object_id == ticket.c.id, tag.c.is_shown == 1),
            joins=[Join(tag, tag.c.id == link.c.tag_id)], value=tag.c.name)]),
         "not joined there", "where="),
        # A list through two to-many tables.
        (lambda: _plan(collections=[
            Many("tags", tag, on=tag.c.id == link.c.tag_id, value=tag.c.name,
                 joins=[Join(link, link.c.object_id == ticket.c.id)])]),
         "names link, which is not joined",
         r"Many\(…, link, on=link.c.… == ticket.c.…, joins=\[Join\(tag, …\)\]\).*Many of tag"),
        (lambda: _plan(collections=[Many("steps", step, on=step.c.task_id == task.c.id,
                                         value=step.c.id), _many()]),
         "names task, which is not joined", "nest a Many of step"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_at_load(declare: Any, said: str, remedy: str) -> None:
    """With a message that names the place, and a remedy that says what to write instead."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        declare()
    assert re.search(remedy, caught.value.remedy, re.DOTALL)


def test_what_such_a_message_advises_is_taken() -> None:
    """A list begun at the link table, and one nested in the other."""
    _plan(collections=[
        Many("tags", link, on=link.c.object_id == ticket.c.id,
             joins=[Join(tag, tag.c.id == link.c.tag_id)], value=tag.c.name),
        _many(collections=[_STEPS]),
    ])  # fmt: skip


@pytest.mark.parametrize(
    "allowed",
    [
        func.timestampdiff(sa.text("SECOND"), ticket.c.at, func.now()),
        ticket.c.at + sa.text("INTERVAL 1 DAY"),
        func.date_add(ticket.c.at, sa.text("interval 3 MINUTE")),
        sa.literal_column("1"),
        sa.literal_column("'kind'"),
        func.convert(sa.text("'x' USING utf8mb4")),
    ],
)
def test_a_text_that_names_no_column_is_taken(allowed: Any) -> None:
    """Units, numbers and quoted texts read nothing."""
    _plan([allowed.label("x")])
