"""What can be declared, asked of both servers: each document as plain SQL says it is."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func

from projector.database import Connection, engine
from projector.errors import ConfigurationError
from projector.projection import Aggregate, Many, Plan, Projection
from projector.settings import Mysql
from tests.servers import DatabaseServer

pytestmark = pytest.mark.server


class Stage:
    """An empty database, and the documents that a projection has in it."""

    def __init__(self, database: DatabaseServer, name: str) -> None:
        settings = Mysql(url=database.url(name))
        self._engine = engine(settings.parsed_url, settings)
        self._connection = Connection(self._engine)

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self._connection.query(statement)

    def rows(self, sql: str) -> list[Any]:
        return list(self._connection.query(sql)[0])

    def documents(self, projection: Projection) -> dict[str, Any]:
        plan = Plan(projection)
        [keys] = self._connection.query_raw(plan.ids_after(None, 1000))
        rows = self._connection.query_raw(*plan.queries([plan.to_id(key) for key in keys]))
        documents, failed = plan.documents(rows)
        assert not failed
        return {key: json.loads(document) for key, document in documents.items()}

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


@pytest.fixture
def stage(database: DatabaseServer, fresh_database: str) -> Iterator[Stage]:
    """The same on MariaDB and MySQL."""
    made = Stage(database, fresh_database)
    yield made
    made.close()


_METADATA = sa.MetaData()
_ORDERS = sa.Table(
    "orders", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("state", sa.String(9)),
)  # fmt: skip
_LINES = sa.Table(
    "lines", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.Integer), sa.Column("price", sa.Numeric(9, 2)),
)  # fmt: skip
_PARCELS = sa.Table(
    "parcels", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("line_id", sa.Integer), sa.Column("weight", sa.Integer),
)  # fmt: skip
_ORDERS_DDL = (
    "CREATE TABLE orders (id INT PRIMARY KEY, state VARCHAR(9))",
    "CREATE TABLE `lines` (id INT PRIMARY KEY, order_id INT, price DECIMAL(9,2), KEY (order_id))",
    "CREATE TABLE parcels (id INT PRIMARY KEY, line_id INT, weight INT, KEY (line_id))",
    "INSERT INTO orders VALUES (1, 'open'), (2, 'open')",
    "INSERT INTO `lines` VALUES (10, 1, 1.50), (11, 1, NULL)",
    "INSERT INTO parcels VALUES (100, 10, 7)",
)


def test_an_expression_over_no_rows_is_what_sql_makes_of_it(stage: Stage) -> None:
    """Around, beside and between aggregate functions; the plain ones stay null, and a count 0."""
    stage.execute(*_ORDERS_DDL)
    price = _LINES.c.price
    fields = [
        func.count().label("n"),
        func.sum(price).label("sum"),
        func.max(price).label("max"),
        func.avg(price).label("avg"),
        func.coalesce(func.sum(price), 0).label("total"),
        (func.count() + 1).label("more"),
        (func.count() == 0).label("is_empty"),
        func.bit_or(_LINES.c.id, type_=sa.BigInteger).label("bits"),
        func.if_(func.count() > 1, "many", "few").label("kind"),
        sa.case((func.max(price) > 1, "dear"), else_="cheap").label("case"),
        sa.literal("shop").label("constant"),
    ]
    plan = Projection(
        "o", _ORDERS, [_ORDERS.c.id],
        collections=[
            Aggregate(_LINES, _LINES.c.order_id == _ORDERS.c.id, fields, where=_LINES.c.id < 90)
        ],
    )  # fmt: skip
    [plain] = stage.rows(
        "SELECT COALESCE(SUM(price), 0), COUNT(*) + 1, COUNT(*) = 0, BIT_OR(id)"
        " FROM `lines` WHERE order_id = 2"
    )
    assert plain == ("0.00", "1", "1", "0")
    assert stage.documents(plan) == {
        "1": {
            "id": 1, "n": 2, "sum": "1.50", "max": "1.50", "avg": "1.500000", "total": "1.50",
            "more": 3, "is_empty": False, "bits": 11, "kind": "many", "case": "dear",
            "constant": "shop",
        },
        "2": {
            "id": 2, "n": 0, "sum": None, "max": None, "avg": None, "total": "0.00",
            "more": 1, "is_empty": True, "bits": 0, "kind": "few", "case": "cheap",
            "constant": "shop",
        },
    }  # fmt: skip
    assert len(Plan(plan).queries(["1", "2"])) == 2
    stage.execute("DELETE FROM `lines`")
    assert {d["total"] for d in stage.documents(plan).values()} == {"0.00"}


def test_an_expression_over_no_rows_of_a_nested_collection(stage: Stage) -> None:
    """Each row of the list has its own figures, and an order without rows an empty list."""
    stage.execute(*_ORDERS_DDL)
    parcels = Aggregate(
        _PARCELS, _PARCELS.c.line_id == _LINES.c.id,
        [func.coalesce(func.sum(_PARCELS.c.weight), 0).label("weight")],
    )  # fmt: skip
    lines = Many(
        "lines", _LINES, _LINES.c.order_id == _ORDERS.c.id, fields=[_LINES.c.id],
        collections=[parcels],
    )  # fmt: skip
    assert stage.documents(Projection("o", _ORDERS, [_ORDERS.c.id], collections=[lines])) == {
        "1": {"id": 1, "lines": [{"id": 10, "weight": 7}, {"id": 11, "weight": 0}]},
        "2": {"id": 2, "lines": []},
    }


def test_a_figure_over_no_rows_without_a_form_in_json_is_refused(stage: Stage) -> None:
    """A zero date in place of nothing: no reader could parse it, in any document."""
    stage.execute(*_ORDERS_DDL)
    never = func.coalesce(func.max(_LINES.c.id), "0000-00-00", type_=sa.DateTime).label("last")
    figures = Aggregate(_LINES, _LINES.c.order_id == _ORDERS.c.id, [never])
    with pytest.raises(ConfigurationError, match="no rows of lines: the date 0000-00-00"):
        stage.documents(Projection("o", _ORDERS, [_ORDERS.c.id], collections=[figures]))
