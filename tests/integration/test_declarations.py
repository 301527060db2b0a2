"""What can be declared, asked of both servers: each document as plain SQL says it is."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.dialects import mysql

from projector.databases import Mysql
from projector.errors import ConfigurationError
from projector.mysql.connection import Connection, engine
from projector.mysql.dialect import MYSQL
from projector.projection import Aggregate, Join, Many, Plan, Projection
from tests.schema_check import assert_as_said
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
        documents, failed = self._made(projection)
        assert not failed
        parsed = {key: json.loads(document) for key, document in documents.items()}
        assert_as_said(Plan(projection, MYSQL), parsed.values())
        return parsed

    def failures(self, projection: Projection) -> dict[str, str]:
        return self._made(projection)[1]

    def _made(self, projection: Projection) -> tuple[dict[str, bytes], dict[str, str]]:
        plan = Plan(projection, MYSQL)
        [keys] = self._connection.query_raw(plan.ids_after(None, 1000))
        return plan.documents(
            self._connection.query_raw(*plan.queries([plan.to_id(key) for key in keys]))
        )

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
    assert len(Plan(plan, MYSQL).queries(["1", "2"])) == 2
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


def _plain(name: str, *columns: str, schema: str | None = None) -> sa.Table:
    return sa.Table(
        name, sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(column, sa.Integer) for column in columns), schema=schema,
    )  # fmt: skip


NAMES = [
    "select", "Order", "two words", "100%", "%s", "%(a)s", "a`b", "``", "a:b", "a/b+c", "it's",
    'a"b', "a.b", "/*x*/", "größe", "c0", "n", "ranked", ":id",
]  # fmt: skip


def test_names_of_every_kind_are_read_and_looked_up(stage: Stage) -> None:
    """Reserved, capital, with spaces, per cents, backticks, quotes: in tables and columns."""
    for name in NAMES:
        quoted = "`" + name.replace("`", "``") + "`"
        parent, child, key = (f"`{n}`" for n in (
            name.replace("`", "``") + "_parent", name.replace("`", "``") + "_child", "key",
        ))  # fmt: skip
        stage.execute(
            f"CREATE TABLE {parent} ({quoted} INT, id INT PRIMARY KEY, other INT)",
            f"CREATE TABLE {quoted} (id INT PRIMARY KEY, {quoted} INT, {key} INT)",
            f"CREATE TABLE {child} (id INT PRIMARY KEY, {quoted} INT)",
            f"INSERT INTO {parent} VALUES (7, 1, 8)",
            f"INSERT INTO {quoted} VALUES (1, 7, 3), (2, NULL, NULL)",
            f"INSERT INTO {child} VALUES (4, 1), (5, 1)",
        )
        up = _plain(f"{name}_parent", name, "other")
        root = _plain(name, name, "key")
        down = _plain(f"{name}_child", name)
        counted = down.alias(f"{name} again")
        projection = Projection(
            "o", root, [root.c.id, root.c[name].label("own"), up.c.other.label(name)],
            joins=[Join(up, up.c[name] == root.c[name])],
            collections=[
                Many("rows", down, down.c[name] == root.c.id, value=down.c.id,
                     order_by=[down.c.id.desc()], limit=1),
                Aggregate(counted, counted.c[name] == root.c.id,
                          [(func.count() * 2).label("twice")]),
            ],
        )  # fmt: skip
        assert stage.documents(projection) == {
            "1": {"id": 1, "own": 7, name: 8, "rows": [5], "twice": 4},
            "2": {"id": 2, "own": None, name: None, "rows": [], "twice": 0},
        }
        plan = Plan(projection, MYSQL)
        [by_parent] = [r.look_up for r in plan.routes if r.node.table is up and r.look_up]
        assert stage.rows(by_parent.query([(7,)], (), 9)) == [("1",)]
        for route in plan.routes:
            if route.by_key is not None:
                found = stage.rows(route.by_key.query([(1,), (4,)], (), 9))
                assert found == [("1",)], route.by_key


def test_look_ups_whose_names_collide_are_kept_apart(stage: Stage) -> None:
    """A slash or plus in an alias or column gives two look-ups one name; one table hangs twice."""
    stage.execute(
        "CREATE TABLE o (id INT PRIMARY KEY, `a+b` INT, a INT, b INT)",
        "CREATE TABLE p (id INT PRIMARY KEY, x INT, y INT, KEY (x), KEY (y))",
        "INSERT INTO o VALUES (1, 5, 0, 0), (2, 0, 5, 6), (3, 0, 0, 0)",
        "INSERT INTO p VALUES (5, 5, 6), (7, 0, 0)",
    )
    o, p = _plain("o", "a+b", "a", "b"), _plain("p", "x", "y")
    one, two = p.alias("one"), p.alias("two")
    plan = Plan(Projection(
        "o", o, [o.c.id, one.c.x, two.c.y.label("y")],
        joins=[Join(one, one.c.id == o.c["a+b"]),
               Join(two, sa.and_(two.c.x == o.c.a, two.c.y == o.c.b))],
    ), MYSQL)  # fmt: skip
    by_role = {r.node.source.description: r.look_up for r in plan.routes if r.look_up}
    assert by_role["one"].name == "o/a+b"
    assert by_role["two"].name == "o/a+b#2"
    assert stage.rows(plan.look_ups["o/a+b"].query([(5,)], (), 9)) == [("1",)]
    assert stage.rows(plan.look_ups["o/a+b#2"].query([(5, 6)], (), 9)) == [("2",)]


def test_tables_of_one_name_in_several_databases_are_kept_apart(
    stage: Stage, database: DatabaseServer
) -> None:
    """Both joined without an alias: their look-ups have one name and lead elsewhere."""
    other = f"other_{uuid.uuid4().hex[:8]}"
    stage.execute(
        f"CREATE DATABASE {other}",
        "CREATE TABLE o (id INT PRIMARY KEY, n INT, m INT)",
        "CREATE TABLE p (id INT PRIMARY KEY, q INT)",
        f"CREATE TABLE {other}.p (id INT PRIMARY KEY, q INT)",
        "INSERT INTO o VALUES (1, 5, 0), (2, 0, 5)",
        "INSERT INTO p VALUES (5, 50)",
        f"INSERT INTO {other}.p VALUES (5, 60)",
    )
    o, here, there = _plain("o", "n", "m"), _plain("p", "q"), _plain("p", "q", schema=other)
    projection = Projection(
        "o", o, [o.c.id, here.c.q, there.c.q.label("other_q")],
        joins=[Join(here, here.c.id == o.c.n), Join(there, there.c.id == o.c.m)],
    )  # fmt: skip
    try:
        assert stage.documents(projection) == {
            "1": {"id": 1, "q": 50, "other_q": None},
            "2": {"id": 2, "q": None, "other_q": 60},
        }
        plan = Plan(projection, MYSQL)
        found = {
            r.node.table.schema: stage.rows(r.by_key.query([(5,)], (), 9))
            for r in plan.routes
            if r.by_key is not None
        }
        assert found == {None: [("1",)], other: [("2",)]}
    finally:
        database.drop_database(other)


def test_unnamed_aliases_of_one_table_are_refused(stage: Stage) -> None:
    """SQLAlchemy numbers them by what was compiled before: no look-up could keep its name."""
    stage.execute(*_ORDERS_DDL)
    one, two = _LINES.alias(), _LINES.alias()
    for collections in (
        [Many("a", one, one.c.order_id == _ORDERS.c.id, value=one.c.id)],
        [
            Many("a", _LINES, _LINES.c.order_id == _ORDERS.c.id, value=_LINES.c.id),
            Aggregate(two, two.c.order_id == _ORDERS.c.id, [func.count().label("n")]),
        ],
    ):
        with pytest.raises(ConfigurationError, match=r"alias of lines has no name") as caught:
            Plan(Projection("o", _ORDERS, [_ORDERS.c.id], collections=collections), MYSQL)
        assert "alias(" in caught.value.remedy


def test_a_number_that_a_text_refers_to_is_compared_by_the_server(stage: Stage) -> None:
    """To the server '01' is 1, and 'x' is 0: neither is a document's id as it stands."""
    stage.execute(
        "CREATE TABLE o (id INT PRIMARY KEY)",
        "CREATE TABLE p (id INT PRIMARY KEY, o VARCHAR(9), z INT(4) ZEROFILL, KEY (o))",
        "INSERT INTO o VALUES (0), (1)",
        "INSERT INTO p VALUES (5, '1', 1), (6, '01', NULL), (7, 'x', 0), (8, NULL, NULL)",
    )
    o = _plain("o")
    p = sa.Table(
        "p", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("o", sa.String(9)), sa.Column("z", mysql.INTEGER(4, zerofill=True)),
    )  # fmt: skip
    filled = p.alias("filled")
    projection = Projection(
        "o", o, [o.c.id],
        collections=[Many("p", p, p.c.o == o.c.id, value=p.c.id),
                     Many("filled", filled, filled.c.z == o.c.id, value=filled.c.id)],
    )  # fmt: skip
    assert stage.documents(projection) == {
        "0": {"id": 0, "p": [7], "filled": [7]}, "1": {"id": 1, "p": [5, 6], "filled": [5]},
    }  # fmt: skip
    [route] = [r for r in Plan(projection, MYSQL).routes if r.node.source is p]
    assert route.look_up is not None
    assert stage.rows(route.look_up.query([("x",), ("01",)], (), 9)) == [("0",), ("1",)]
