"""Routes and queries: what leads from a changed row to documents, as written and as decided."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import and_, func

from projector.errors import ConfigurationError
from projector.model import MISSING, Kind, Row, RowsChange, TableName, Watch
from projector.mysql.dialect import MYSQL
from projector.mysql.literals import literal
from projector.projection import Aggregate, Join, Many, Plan, Projection
from projector.projection.columns import ColumnType
from projector.route import Affected, Router

_METADATA = sa.MetaData()
ROOT = sa.Table("r", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
                sa.Column("code", sa.String(9)), sa.Column("n", sa.Integer))  # fmt: skip
CHILD = sa.Table("c", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
                 sa.Column("r_id", sa.Integer), sa.Column("code", sa.String(9)),
                 sa.Column("v", sa.Numeric(9, 2)))  # fmt: skip
BARE = sa.Table("bare", _METADATA, sa.Column("r_id", sa.Integer), sa.Column("code", sa.String(9)))
DETAIL = sa.Table("d", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
                  sa.Column("c_id", sa.Integer), sa.Column("v", sa.Integer))  # fmt: skip


def plan(*collections: Many | Aggregate, **more: Any) -> Plan:
    return Plan(Projection("t", ROOT, [ROOT.c.id], collections=collections, **more), MYSQL)


def children(**more: Any) -> Many:
    said: dict[str, Any] = {"on": CHILD.c.r_id == ROOT.c.id, "value": CHILD.c.id, **more}
    return Many("cs", CHILD, **said)


# From rows to routes.

NAME = TableName("s", "c")


def _routed(change: tuple[Kind, list[Row], list[Row]], bases: tuple[str, ...] = ()) -> Affected:
    """Rows of the child: id, r_id, and what r_id is generated from, if anything."""
    kind, before, after = change
    made = plan(children())
    [watch] = [w for w in made.watches("s") if w.table == NAME]
    assert watch.columns == ("id", "r_id")
    watches = [
        Watch(NAME, watch.columns, watch.read, bases=bases),
        *(w for w in made.watches("s") if w.table != NAME),
    ]
    return Router(made, "s", watches).route([RowsChange(NAME, kind, before, after, 1)])


def test_each_thing_that_is_touched_is_something() -> None:
    """A step without any is none."""
    assert not Affected()
    for said in ({"ids": {"1"}}, {"look_ups": {"x": {(1,)}}}, {"repairs": {"x"}}):
        found: dict[str, Any] = said
        assert Affected(**found)


def test_a_generated_key_that_no_image_holds_is_generated_anew() -> None:
    """Where its base changed; the document that it left is known, where it came to is looked up."""
    gone = _routed((Kind.UPDATE, [(9, 1, "a")], [(MISSING, MISSING, "b")]), ("src",))
    assert (gone.ids, gone.look_ups) == ({"1"}, {"r/c/id": {(9,)}})
    same = _routed((Kind.UPDATE, [(9, 1, "a")], [(MISSING, MISSING, "a")]), ("src",))
    assert (same.ids, same.look_ups) == ({"1"}, {})
    left_out = _routed((Kind.UPDATE, [(9, 1, "a")], [(MISSING, MISSING, MISSING)]), ("src",))
    assert (left_out.ids, left_out.look_ups) == ({"1"}, {})


def test_a_generated_key_that_the_images_hold_is_as_any_other() -> None:
    """Whatever its base did: both documents are known."""
    found = _routed((Kind.UPDATE, [(MISSING, 1, "a")], [(MISSING, 2, "b")]), ("src",))
    assert (found.ids, found.repairs) == ({"1", "2"}, set())
    partial: list[Row] = [(MISSING, MISSING, "a"), (MISSING, 1, "a")]
    mixed = _routed((Kind.UPDATE, partial, [(MISSING, 3, "b"), (MISSING, 2, "b")]), ("src",))
    assert (mixed.ids, mixed.repairs) == ({"1", "2", "3"}, {"image"})


def test_an_image_without_the_old_key_owes_a_walk() -> None:
    """Where a row hung that was deleted or has moved, nobody can say; a new one is looked up."""
    assert _routed((Kind.DELETE, [(9, MISSING)], [])).repairs == {"image"}
    inserted = _routed((Kind.INSERT, [], [(9, MISSING)]))
    assert inserted.look_ups == {"r/c/id": {(9,)}}
    assert not inserted.repairs
    unmoved = _routed((Kind.UPDATE, [(9, MISSING)], [(MISSING, MISSING)]))
    assert unmoved.look_ups == {"r/c/id": {(9,)}}
    assert not unmoved.repairs


# Look-ups.

TYPES = {
    (None, "r"): {"code": ColumnType("varchar", "v", "utf8mb4", "utf8mb4_bin"),
                  "id": ColumnType("int", "int")},
    (None, "c"): {"code": ColumnType("decimal", "decimal(9,2)")},
    (None, "bare"): {"code": ColumnType("varchar", "v", "latin1", "latin1_bin")},
}  # fmt: skip


def test_values_of_several_kinds_lead_to_one_look_up() -> None:
    """Each is sought as what it may have been: a number as a number, a text as either."""
    made = plan(
        children(on=CHILD.c.code == ROOT.c.code),
        Many("bs", BARE, on=BARE.c.code == ROOT.c.code, value=BARE.c.r_id),
    ).fitted(TYPES)
    look_up = made.look_ups["r/code"]
    assert len(look_up.likenesses) == 2
    found = look_up.query([("x",), (Decimal("1.50"),)], (), 9)
    assert f"(r.code IN (1.50) OR r.code IN ({literal('x')}))" in found
    assert "r.code IN (2.50) OR r.code IN" in look_up.query([("2.50",)], (), 9)


def test_a_row_without_a_key_of_its_own_is_found_by_what_joins_it() -> None:
    """It has no look-up by its key."""
    made = plan(Many("bs", BARE, on=BARE.c.code == ROOT.c.code, value=BARE.c.r_id))
    [route] = [r for r in made.routes if r.node.table is BARE]
    assert route.by_key is None
    assert route.columns == ("code",)


def test_ids_read_from_a_row_that_may_hang_free_are_not_null() -> None:
    """Where the root itself is read its key never is."""
    detail = Many("ds", DETAIL, on=DETAIL.c.c_id == CHILD.c.id, value=DETAIL.c.v)
    by_number = plan(children(value=None, fields=[CHILD.c.id], collections=[detail]))
    [route] = [r for r in by_number.routes if r.node.table is DETAIL]
    assert route.look_up is not None
    assert "c.r_id IS NOT NULL" in route.look_up.sql
    by_text = plan(
        children(on=CHILD.c.code == ROOT.c.code, value=None, fields=[CHILD.c.id],
                 collections=[detail])
    )  # fmt: skip
    [route] = [r for r in by_text.routes if r.node.table is DETAIL]
    assert route.look_up is not None
    assert "IS NOT NULL" not in route.look_up.sql


# What is joined, and what is not.


def test_only_equal_columns_are_an_edge() -> None:
    """Any other comparison is a condition, and stands in every query."""
    made = plan(children(on=and_(CHILD.c.r_id == ROOT.c.id, CHILD.c.v < ROOT.c.n)))
    [route] = [r for r in made.routes if r.node.table is CHILD]
    assert route.columns == ("r_id",)
    assert "c.v < r.n" in made.levels[1].sql
    with pytest.raises(ConfigurationError, match="must equate"):
        plan(children(on=CHILD.c.v < ROOT.c.n))


def test_subqueries_and_nameless_aliases_are_refused() -> None:
    """The first hides tables, the second has another name in each process."""
    below: Any = sa.select(CHILD).subquery("below")
    with pytest.raises(ConfigurationError, match="not a table"):
        plan(Many("cs", below, on=below.c.r_id == ROOT.c.id, value=below.c.id))
    nameless = CHILD.alias()
    with pytest.raises(ConfigurationError, match="has no name"):
        plan(Many("cs", nameless, on=nameless.c.r_id == ROOT.c.id, value=nameless.c.id))
    named = CHILD.alias("named")
    plan(Many("cs", named, on=named.c.r_id == ROOT.c.id, value=named.c.id))


def test_the_root_is_left_out_only_where_nothing_needs_it() -> None:
    """A list keyed by the root's number reads its own table alone; what it compares or joins with
    the root's columns brings the root in."""

    def is_bare(many: Many, **more: Any) -> bool:
        return "JOIN r " not in f"{plan(many, **more).levels[1].sql} " and "FROM r" not in plan(
            many, **more
        ).levels[1].sql.replace("\n", " ")

    assert is_bare(children())
    assert is_bare(children(where=CHILD.c.v > 1))
    assert not is_bare(children(on=CHILD.c.code == ROOT.c.code))
    assert not is_bare(children(where=CHILD.c.v > ROOT.c.n))
    assert not is_bare(children(value=ROOT.c.n))
    assert not is_bare(children(on=and_(CHILD.c.r_id == ROOT.c.id, ROOT.c.n > 1)))
    joined = Join(BARE, BARE.c.r_id == ROOT.c.n)
    assert not is_bare(children(where=BARE.c.code == "x"), joins=[joined])


def test_a_list_reads_no_more_than_it_shows() -> None:
    """Its own key only where another list belongs to it."""
    alone = plan(children(value=CHILD.c.v, order_by=[CHILD.c.v]))
    assert alone.levels[1].sql.count(" AS c") == 2  # the root's key, the value
    detail = Many("ds", DETAIL, on=DETAIL.c.c_id == CHILD.c.id, value=DETAIL.c.v)
    nested = plan(children(value=None, fields=[CHILD.c.v], collections=[detail]))
    assert nested.levels[1].sql.count(" AS c") == 3


def test_figures_over_no_rows_are_asked_for_where_nobody_knows_them() -> None:
    """A sum of nothing is NULL, a count is zero; of an expression the server is asked."""

    def sql(figure: Any) -> str:
        one = Aggregate(CHILD, CHILD.c.r_id == ROOT.c.id, [figure.label("n")])
        return plan(one).levels[1].sql

    assert "UNION" not in sql(func.sum(CHILD.c.v))
    assert "UNION" not in sql(func.count())
    assert "UNION" in sql(func.coalesce(func.sum(CHILD.c.v), 0))


def test_an_aggregates_figures_stand_beside_the_fields() -> None:
    """A list's rows are objects, or plain values."""
    made = plan(
        children(value=None, fields=[CHILD.c.id]),
        Aggregate(BARE, BARE.c.r_id == ROOT.c.id, [func.count().label("n")]),
    )
    documents, failed = made.documents(
        [[(b"1", b"1"), (b"2", b"2")], [(b"1", b"7")], [(b"1", b"3")]]
    )
    assert failed == {}
    assert documents == {
        "1": b'{"id":1,"cs":[{"id":7}],"n":3}', "2": b'{"id":2,"cs":[],"n":0}',
    }  # fmt: skip
