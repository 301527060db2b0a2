"""Whether a projection fits its tables, of a catalog that is made up."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from projector.model import TableName
from projector.mysql.checks import fit
from projector.mysql.checks.catalog import ColumnFacts, TableFacts
from projector.mysql.dialect import MYSQL
from projector.projection import First, Moment, Plan, Projection


class Stamp(sa.TypeDecorator[Any]):
    """A TIMESTAMP as an application declares it."""

    impl = sa.TIMESTAMP
    cache_ok = True


def _failures(kind: Any, actual: str, **more: Any) -> list[str]:
    """Return what is refused of a table whose `at` is declared as `kind`."""
    table = sa.Table("calls", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                     sa.Column("at", kind))  # fmt: skip
    wrap = more.pop("wrap", lambda column: column)
    other = table.alias("other")
    last = First("last", other, other.c.id == table.c.id, value=wrap(other.c["at"]))
    plan = Plan(Projection("calls", table, [table.c.id], collections=[last], **more), MYSQL)
    columns = {
        name: ColumnFacts(name, said, said, is_nullable=True)
        for name, said in (("id", "int"), ("at", actual))
    }
    facts = TableFacts("BASE TABLE", "InnoDB", True, 1, columns, [], [])
    checks = fit.tables(plan, "db", {TableName("db", "calls"): facts})
    return [check.detail for check in checks if check.status == "failed"]


def test_the_two_types_of_a_time_are_not_taken_for_each_other_in_a_zone() -> None:
    """A DATETIME is local there, a TIMESTAMP never is; without a zone they are written alike."""

    def local(column: Any) -> Moment:
        return Moment(column, "Europe/Berlin")

    for kind, actual in (
        (sa.TIMESTAMP, "datetime"), (mysql.TIMESTAMP(fsp=6), "datetime"), (Stamp, "datetime"),
        (sa.DateTime, "timestamp"), (mysql.DATETIME(fsp=6), "timestamp"),
    ):  # fmt: skip
        right = {"datetime": "timestamp", "timestamp": "datetime"}[actual]
        for more in ({"zone": "Europe/Berlin"}, {"wrap": local}):
            [said] = _failures(kind, actual, **more)
            assert said.startswith(f"db.calls.at is {actual}, declared as")
            assert _failures(kind, right, **more) == []
        for more in ({}, {"wrap": lambda column: Moment(column, zero_dates="null")}):
            assert _failures(kind, actual, **more) == []
    assert _failures(sa.Date, "date", zone="Europe/Berlin") == []
    assert _failures(sa.Integer, "int", zone="Europe/Berlin") == []
