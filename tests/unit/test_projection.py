"""The declaration, and what follows from it, without a server."""

import itertools

import pytest
import sqlalchemy as sa

from projector.errors import ConfigurationError
from projector.model import MISSING, Kind, RowsChange, TableChange, TableName
from projector.mysql.dialect import MYSQL
from projector.projection import Aggregate, Hashed, Join, Many, Plan, Projection, load_projections
from projector.projection.graph import Node
from projector.route import Router
from schema.document import TicketDocument
from schema.projection import tickets

SCHEMA = "helpdesk"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(tickets, MYSQL)


@pytest.fixture(scope="module")
def router(plan: Plan) -> Router:
    return Router(plan, SCHEMA, plan.watches(SCHEMA))


def _table(name: str) -> TableName:
    return TableName(SCHEMA, name)


def _update(name: str, before: tuple[object, ...], after: tuple[object, ...]) -> RowsChange:
    return RowsChange(_table(name), Kind.UPDATE, [before], [after], 1)


def test_every_table_read_is_routed(plan: Plan) -> None:
    """The route census: each table that a query names has a route and is watched."""
    read = {table for level in plan.levels for table in _tables_of(level.sql)}
    routed = {route.node.table.name for route in plan.routes}
    watched = {watch.table.name for watch in plan.watches(SCHEMA)}
    assert read == routed == watched
    assert len(read) == 12


def test_every_column_read_is_known_as_read(plan: Plan) -> None:
    """A column that a query names is in the watch, so that no change of it is left out."""
    read_by_table: dict[str, set[str]] = {}
    for watch in plan.watches(SCHEMA):
        read_by_table.setdefault(watch.table.name, set()).update(watch.read)
    for node in plan.all_nodes():
        for level in plan.levels:
            for column in node.source.c:
                if f"{node.source.description}.{column.name} " in level.sql.replace(",", " "):
                    assert column.name in read_by_table[node.table.name]


def test_each_role_of_a_table_has_its_own_route(plan: Plan) -> None:
    """Users stand in a ticket as requester, assignee and watcher."""
    roles = {r.node.source.description for r in plan.routes if r.node.table.name == "users"}
    assert roles == {"requester", "assignee", "users"}


def test_a_moved_comment_refreshes_both_tickets(router: Router) -> None:
    """Before and after image both count."""
    affected = router.route([_update("ticket_comments", (9, 1), (9, 2))])
    assert affected.ids == {"1", "2"}
    assert not affected.look_ups


def test_a_changed_key_of_a_ticket_touches_both_ids(router: Router) -> None:
    """The old field must go, the new one come."""
    assert router.route([_update("tickets", (1,), (7,))]).ids == {"1", "7"}


def test_a_renamed_organization_is_looked_up_through_departments(
    plan: Plan, router: Router
) -> None:
    """The look-up follows the joins upwards."""
    affected = router.route([_update("organizations", (5,), (5,))])
    assert affected.look_ups == {"tickets/departments/organization_id": {(5,)}}
    sql = plan.look_ups["tickets/departments/organization_id"].query({(5,)}, (), 10)
    assert "departments.organization_id IN (5)" in sql
    assert "JOIN departments" in sql


def test_null_keys_touch_nothing(router: Router) -> None:
    """NULL joins nothing."""
    row = (3, None)
    change = RowsChange(_table("ticket_attachments"), Kind.INSERT, [], [row], 1)
    assert not router.route([change]).ids


def test_a_missing_column_is_looked_up_by_the_rows_own_key(router: Router) -> None:
    """MINIMAL images: an unchanged ticket_id is in neither image."""
    affected = router.route([_update("ticket_comments", (9, MISSING), (MISSING, MISSING))])
    assert affected.look_ups == {"tickets/ticket_comments/id": {(9,)}}
    assert not affected.repairs


def test_what_no_image_says_becomes_a_repair(router: Router) -> None:
    """MINIMAL images: where a deleted or moved comment stood, the log does not say."""
    deleted = RowsChange(_table("ticket_comments"), Kind.DELETE, [(9, MISSING)], [], 1)
    assert router.route([deleted]).repairs
    moved = router.route([_update("ticket_comments", (9, MISSING), (MISSING, 4))])
    assert moved.repairs
    assert moved.ids == {"4"}


def test_an_id_that_cannot_be_read_becomes_a_repair() -> None:
    """Logged as latin1 before ALTER TABLE … CONVERT, and read as the catalog is today."""
    words = sa.Table("words", sa.MetaData(), sa.Column("word", sa.String(9), primary_key=True))
    made = Plan(Projection("words", words, [words.c.word]), MYSQL)
    router = Router(made, "helpdesk", made.watches("helpdesk"))
    rows: list[tuple[object, ...]] = [(b"\xdf",), ("a",)]
    assert router.route([RowsChange(_table("words"), Kind.INSERT, [], rows, 1)]).repairs
    assert router.route([_update("words", (b"\xdf",), ("b",))]).repairs
    ascii_only = router.route([RowsChange(_table("words"), Kind.INSERT, [], rows[1:], 1)])
    assert (ascii_only.ids, ascii_only.repairs) == ({"a"}, set())


def test_a_truncated_table_becomes_a_repair(router: Router) -> None:
    """Also a change of everything; other tables do not matter."""
    assert router.route([TableChange(_table("tags"), "truncate")]).repairs == {"truncate"}
    assert router.route([TableChange(None, "prepared")]).repairs == {"prepared"}
    assert not router.route([TableChange(_table("invoices"), "truncate")]).repairs


def test_the_projection_fills_the_document() -> None:
    """Fields of model and projection are the same, in the same order."""
    assert Plan(tickets, MYSQL).field_names == list(TicketDocument.model_fields)


def test_a_constant_number_of_queries(plan: Plan) -> None:
    """However many documents are read."""
    assert len(plan.queries(["1"])) == len(plan.queries([str(i) for i in range(1000)])) == 5


def test_the_fingerprint_follows_the_declaration(plan: Plan) -> None:
    """The same declaration gives the same; another field another."""
    less = Projection(
        tickets.name, tickets.root, tickets.fields[:-1], tickets.joins, tickets.collections
    )
    assert Plan(tickets, MYSQL).fingerprint == plan.fingerprint
    assert Plan(less, MYSQL).fingerprint != plan.fingerprint


def test_the_fingerprint_follows_the_keys_of_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was replaced gives other hashes, at any depth; and is not told."""
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                     sa.Column("mail", sa.String(9)))  # fmt: skip
    child = sa.Table("c", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                     sa.Column("t_id", sa.Integer), sa.Column("mail", sa.String(9)))  # fmt: skip
    flat = Projection("t", table, [table.c.id, Hashed(table.c.mail, "MASK_KEY")])
    many = Many("c", child, child.c.t_id == table.c.id, value=Hashed(child.c.mail, "MASK_KEY"))
    for projection in (flat, Projection("t", table, [table.c.id], collections=[many])):
        found = set()
        for key in ("", "old", "new"):
            monkeypatch.setenv("MASK_KEY", key)
            found.add(Plan(projection, MYSQL).fingerprint)
            assert Plan(projection, MYSQL).fingerprint in found
        assert len(found) == 3


_METADATA = sa.MetaData()
_ORDERS = sa.Table(
    "orders", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("customer_id", sa.Integer), sa.Column("code", sa.String(9)),
)  # fmt: skip
_ITEMS = sa.Table(
    "items", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.Integer), sa.Column("price", sa.Numeric(9, 2)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("projection", "said"),
    [
        (
            Projection("o", _ORDERS, [_ORDERS.c.id, _ITEMS.c.price]),
            "not joined",
        ),
        (
            Projection("o", _ORDERS, [_ORDERS.c.id], [Join(_ITEMS, _ITEMS.c.price > 1)]),
            "must equate",
        ),
        (
            Projection("o", _ORDERS, [_ORDERS.c.id, _ORDERS.c.code.label("id")]),
            "same name",
        ),
        (
            Projection("o", sa.Table("k", sa.MetaData(), sa.Column("a", sa.Integer)), []),
            "no primary key",
        ),
        (
            Projection(
                "o", _ORDERS, [_ORDERS.c.id],
                collections=[Many("items", _ITEMS, _ITEMS.c.order_id == _ORDERS.c.id)],
            ),
            "either fields or a value",
        ),
        (
            Projection("o", _ORDERS, [_ORDERS.c.id], document=TicketDocument),
            "does not fill",
        ),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused_with_a_remedy(projection: Projection, said: str) -> None:
    """Each mistake has one clear message."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        Plan(projection, MYSQL)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("nowhere.at.all:x", "no module"),
        ("schema.projection:nothing", "cannot be used"),
        ("schema.projection", "not of the form"),
        ("schema.projection:parent_category", "not a Projection"),
        ("", "must name"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_remedy(setting: str, said: str) -> None:
    """No traceback for what a user may mistype."""
    with pytest.raises(ConfigurationError, match=said):
        load_projections(setting, MYSQL)


def test_a_limited_collection_is_ranked_by_the_server() -> None:
    """Only the rows that are kept travel."""
    newest = Many(
        "items", _ITEMS, _ITEMS.c.order_id == _ORDERS.c.id, value=_ITEMS.c.price,
        order_by=[_ITEMS.c.id.desc()], limit=3,
    )  # fmt: skip
    total = Aggregate(
        _ITEMS.alias("all_items"), sa.literal(True), [sa.func.sum(_ITEMS.c.price).label("total")]
    )
    made = Plan(Projection("o", _ORDERS, [_ORDERS.c.id], collections=[newest]), MYSQL)
    assert "row_number() OVER (PARTITION BY items.order_id" in made.levels[1].sql
    assert "<= 3" in made.levels[1].sql
    with pytest.raises(ConfigurationError, match="must equate"):
        Plan(Projection("o", _ORDERS, [_ORDERS.c.id], collections=[total]), MYSQL)


def _tables_of(sql: str) -> set[str]:
    words = sql.replace("\n", " ").split()
    return {after for word, after in itertools.pairwise(words) if word in {"FROM", "JOIN"}}


def test_a_plain_value_needs_no_name() -> None:
    """Any expression may be a list's value: a cast, a literal, a function; a field needs a name."""
    metadata = sa.MetaData()
    root = sa.Table("o", metadata, sa.Column("id", sa.Integer, primary_key=True))
    line = sa.Table(
        "l", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("o", sa.Integer)
    )
    for value in (sa.cast(line.c.id, sa.String), sa.literal(1), line.c.id + 1, line.c.id.is_(None)):
        many = Many("lines", line, on=line.c.o == root.c.id, value=value)
        plan = Plan(Projection("o", root, fields=[root.c.id], collections=[many]), MYSQL)
        assert plan.field_names == ["id", "lines"]
        many = Many("lines", line, on=line.c.o == root.c.id, fields=[value])
        with pytest.raises(ConfigurationError, match="without a name"):
            Plan(Projection("o", root, fields=[root.c.id], collections=[many]), MYSQL)


def test_nodes_know_their_path(plan: Plan) -> None:
    """From a tag's name up to the ticket."""
    tags: Node = next(n for n in plan.all_nodes() if n.table.name == "tags")
    assert [n.table.name for n in tags.path()] == ["tags", "ticket_tags", "tickets"]


def test_a_key_half_changed_is_looked_up_whole(plan: Plan) -> None:
    """MINIMAL images: one part of a composite key from the image before, one from after."""
    watches = plan.watches(SCHEMA)
    router = Router(plan, SCHEMA, watches)
    [tags] = [w for w in watches if w.table.name == "ticket_tags"]
    assert tags.columns == ("ticket_id", "tag_id")
    moved = router.route([_update("ticket_tags", (1, 2), (MISSING, 3))])
    assert moved.ids == {"1"}
    assert not moved.repairs


def test_a_key_left_to_its_default_becomes_a_repair(router: Router) -> None:
    """Nobody can look up what no image holds."""
    change = RowsChange(_table("ticket_comments"), Kind.INSERT, [], [(MISSING, MISSING)], 1)
    affected = router.route([change])
    assert affected.repairs == {"image"}
    assert not affected.look_ups


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (sa.Interval(), "without a form in JSON"),
        (sa.ARRAY(sa.Integer), "neither MySQL nor MariaDB"),
    ],
)
def test_types_that_no_such_server_has_are_refused(
    kind: sa.types.TypeEngine[object], said: str
) -> None:
    """They have no text that JSON could take."""
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                     sa.Column("x", kind))  # fmt: skip
    with pytest.raises(ConfigurationError, match=said):
        Plan(Projection("t", table, list(table.c)), MYSQL)
