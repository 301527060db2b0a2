"""The words for other people's schemas without a server: their routes, and what is refused."""

import enum
import json
from fractions import Fraction
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
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
    Hashed,
    Join,
    Json,
    Kind,
    Many,
    Moment,
    One,
    OneOf,
    Pairs,
    Partial,
    Path,
    Plan,
    Projection,
)
from projector.projection.forms import form_for

_METADATA = sa.MetaData()


def _table(table: str, *columns: str) -> sa.Table:
    return sa.Table(
        table, _METADATA, sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(column, sa.Integer) for column in columns), sa.Column("name", sa.String(9)),
    )  # fmt: skip


ticket = _table("ticket", "user_id", "team_id", "kind", "category_id")
users = _table("users", "team_id")
teams = _table("teams")
categories = _table("categories", "parent_id")
threads = _table("threads", "ticket_id")
entries = _table("entries", "thread_id", "user_id")
files = _table("files", "thread_id")


def _plan(*collections: Any, joins: Any = (), fields: Any = (ticket.c.id,), **more: Any) -> Plan:
    return Plan(Projection("t", ticket, fields, joins, collections, **more), MYSQL)


def _routes(plan: Plan) -> dict[str, str | None]:
    return {r.node.source.description: r.look_up and r.look_up.name for r in plan.routes}


def test_each_table_of_each_word_has_its_route() -> None:
    """The census: whatever is read leads to the documents, and is watched."""
    plan = _plan(
        One("user", users, users.c.id == ticket.c.user_id, [users.c.name],
            joins=[Join(teams, teams.c.id == users.c.team_id)]),
        First("last", entries, entries.c.thread_id == threads.c.id, [entries.c.name],
              through=[Join(threads, threads.c.ticket_id == ticket.c.id)]),
        Path("path", categories, categories.c.id == ticket.c.category_id,
             categories.c.parent_id, categories.c.name, depth=2),
    )  # fmt: skip
    assert _routes(plan) == {
        "ticket": None, "users": "ticket/user_id", "teams": "ticket/users/team_id",
        "categories": "ticket/category_id",
        "categories path 1": "ticket/categories/parent_id",
        "threads": None, "entries": "ticket/threads/id",
    }  # fmt: skip
    assert {watch.table.name for watch in plan.watches("s")} == {
        "ticket", "users", "teams", "categories", "threads", "entries",
    }  # fmt: skip
    read = {watch.table.name: watch.read for watch in plan.watches("s")}
    assert read["categories"] == {"id", "parent_id", "name"}
    assert read["threads"] == {"id", "ticket_id"}


def test_every_candidate_leads_to_the_documents_that_pick_of_them() -> None:
    """Not only the one that is shown: what orders them is watched, look-ups join them all."""
    plan = _plan(
        joins=[Join(users, users.c.name == ticket.c.name, pick=users.c.team_id.desc())],
        fields=[ticket.c.id, users.c.id.label("user")],
    )
    [read] = [watch.read for watch in plan.watches("s") if watch.table.name == "users"]
    assert read == {"id", "name", "team_id"}
    assert "LIMIT 1" in plan.levels[0].sql
    assert not any("LIMIT 1" in found.sql for found in plan.look_ups.values())
    assert _routes(plan)["users"] == "ticket/name"


def test_the_fingerprint_follows_every_word() -> None:
    """What the SQL does not show gives other documents too."""

    def pairs(**more: Any) -> Pairs:
        return Pairs("p", threads, threads.c.ticket_id == ticket.c.id, key=threads.c.name,
                     value=threads.c.id, **more)  # fmt: skip

    def one(field: Any) -> One:
        return One("u", users, users.c.id == ticket.c.user_id, [field])

    said = [
        _plan(), _plan(pairs()), _plan(pairs(repeated="list")),
        _plan(pairs(types={"a": sa.Integer})), _plan(pairs(types={"a": {"1": "x"}})),
        _plan(one(users.c.name)), _plan(one(Choice(users.c.id.label("name"), {1: "x"}))),
        _plan(one(Choice(users.c.id.label("name"), {1: "y"}))),
        _plan(one(Choice(users.c.id.label("name"), {1: "y"}, other="z"))),
        _plan(zero_dates="null"), _plan(zone="Europe/Berlin"),
    ]  # fmt: skip
    on = threads.c.ticket_id == ticket.c.id
    for word in (Many, First):  # one statement: what its rows become, and where they stand, differs
        inner: Any = word("t", threads, threads.c.ticket_id == users.c.id, value=threads.c.name)
        user = users.c.id == ticket.c.user_id
        said += [
            _plan(word("t", threads, on, [threads.c.name])),
            _plan(word("t", threads, on, value=threads.c.name)),
            _plan(One("u", users, user, [users.c.id], collections=[inner])),
            _plan(One("u", users, user, [users.c.id]), inner),
            _plan(One("w", users, user, [users.c.id], collections=[inner])),
        ]
    assert len({plan.fingerprint for plan in said}) == len(said)


def test_a_count_over_no_rows_is_written_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its 0 has the form of a 0 that rows give, whether it is asked for or known beforehand."""
    monkeypatch.setenv("MASK", "x")
    count: Any = func.count().label("n")
    figures = (
        count, func.count(type_=sa.Boolean).label("n"), func.count(type_=sa.Numeric).label("n"),
        Choice(count, {0: False}, other=True), Flags(count, {1: "odd"}), Fixed(count),
        Hashed(count, "MASK"), Partial(count), Json(count), Encoded(count, "utf-8"),
        Choice(func.sum(threads.c.id).label("n"), {0: "none"}),
    )  # fmt: skip
    for figure in figures:
        plan = _plan(Aggregate(threads, threads.c.ticket_id == ticket.c.id, [figure]))
        nothing = None if figure is figures[-1] else b"0"
        is_asked = "UNION ALL" in plan.levels[1].sql
        over_none = plan.documents([[(b"1", b"1")], [(None, nothing)] if is_asked else []])
        assert over_none == plan.documents([[(b"1", b"1")], [(b"1", nothing)]])
        assert list(over_none[0]) == ["1"]
        assert is_asked is (figure is not count and figure is not figures[-1])


def test_keys_of_masks_are_found_in_every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in objects, in pairs and in kinds; a name of its own each."""
    monkeypatch.setenv("MASK", "x")
    plan = _plan(
        One("u", users, users.c.id == ticket.c.user_id, [Hashed(users.c.name, "MASK")]),
        Pairs("p", threads, threads.c.ticket_id == ticket.c.id, threads.c.id,
              Hashed(threads.c.name, "MASK")),
        OneOf("o", ticket.c.kind, ticket.c.team_id,
              {1: Kind(teams, [Hashed(teams.c.name, "MASK")])}),
    )  # fmt: skip
    assert len(plan.hashed) == 3


def _refused(match: str, *collections: Any, **more: Any) -> None:
    with pytest.raises(ConfigurationError, match=match) as caught:
        _plan(*collections, **more)
    assert caught.value.remedy


def test_what_cannot_be_meant_is_refused() -> None:
    """Each with its remedy, when the declaration is read."""
    one = One("u", users, users.c.id == ticket.c.user_id, [users.c.name])
    on = threads.c.ticket_id == ticket.c.id
    _refused("joined twice", one, one)
    _refused("same name", one, First("u", threads, on, [threads.c.id]))
    _refused("needs fields", One("u", users, users.c.id == ticket.c.user_id, []))
    _refused("a One stands where a column", fields=[ticket.c.id, one])
    _refused("a Join stands in the collections", Join(users, users.c.id == ticket.c.user_id))
    _refused("nobody adds up", Pairs("p", threads, on, Flags(threads.c.id), func.count()))
    _refused("neither a type nor a mapping",
             Pairs("p", threads, on, threads.c.name, threads.c.id, types={"a": 7}))  # fmt: skip
    _refused("neither a DATE nor a DATETIME", fields=[Moment(ticket.c.name, "UTC")])
    _refused("told apart by one column", Path(
        "p", categories, sa.and_(categories.c.id == ticket.c.category_id, categories.c.name == "x"),
        categories.c.parent_id, categories.c.name))  # fmt: skip
    _refused("pick chooses one", Many(
        "m", entries, entries.c.thread_id == threads.c.id, value=entries.c.id,
        through=[Join(threads, on, pick=threads.c.id)]))  # fmt: skip
    _refused("no fields", fields=[])
    for column in (categories.c.id, func.nullif(categories.c.parent_id, 0)):
        _refused(
            "parent is not the column",
            Path(
                "p", categories, categories.c.id == ticket.c.category_id, column, categories.c.name
            ),
        )
    for masked in (Fixed, Json):
        _refused("a Choice stands where", fields=[masked(Choice(ticket.c.name, {1: "x"}))])
    for types in ({"a": {}}, {"a": {1.5: "x"}}):
        _refused("whole numbers or texts",
                 Pairs("p", threads, on, threads.c.name, threads.c.id, types=types))  # fmt: skip


def test_a_table_beside_the_way_is_refused() -> None:
    """Each row of the list would come once for each of its rows."""
    beside = Join(entries, entries.c.user_id == ticket.c.user_id)
    reached = threads.c.ticket_id == ticket.c.id
    for through, on in (
        ([beside], reached),
        ([Join(threads, reached), beside], files.c.thread_id == threads.c.id),
        ([beside, Join(threads, reached)], files.c.thread_id == threads.c.id),
    ):
        table = threads if on is reached else files
        _refused("entries is not on the way", Many("m", table, on, value=table.c.id,
                                                   through=through))  # fmt: skip


def test_what_a_table_on_the_way_compares_is_joined() -> None:
    """A condition of any of them may read the document's own table, which is then in the query."""
    on = sa.and_(entries.c.thread_id == threads.c.id, entries.c.user_id > ticket.c.user_id)
    way = [Join(threads, threads.c.ticket_id == ticket.c.id)]
    hop = Join(entries, on)
    for many in (
        Many("m", entries, on, value=entries.c.id, through=way),
        Many("m", files, files.c.thread_id == entries.c.id, value=files.c.id, through=[*way, hop]),
    ):
        plan = _plan(many)
        queries = [plan.levels[1].sql, *(found.sql for found in plan.look_ups.values())]
        reading = [sql for sql in queries if "ticket.user_id" in sql]
        assert len(reading) > 1
        assert all("FROM ticket INNER JOIN threads" in sql for sql in reading)


def test_chance_chooses_no_row() -> None:
    """Of rows without a key the first or last of equals would be another each time."""
    bare = sa.Table("bare", sa.MetaData(), sa.Column("ticket_id", sa.Integer),
                    sa.Column("name", sa.String(9)))  # fmt: skip
    on, name = bare.c.ticket_id == ticket.c.id, bare.c.name
    for chosen in (
        First("x", bare, on, value=name, order_by=[name]), Pairs("x", bare, on, name, name),
        Many("x", bare, on, value=name, limit=3),
    ):  # fmt: skip
        _refused("bare has no primary key .* x chooses", chosen)
    for all_shown in (
        Many("x", bare, on, value=name), Pairs("x", bare, on, name, func.count()),
        Pairs("x", bare, on, name, name, repeated="list"),
        Pairs("x", bare, on, name, name, repeated="refuse"),
        Aggregate(bare, on, [func.max(name).label("x")]),
    ):  # fmt: skip
        assert _plan(all_shown).levels[1]


def test_flags_are_of_numbers_and_members_of_a_set() -> None:
    """What no value of a type can have is refused; a text may hold either."""

    def flags(kind: Any, names: Any) -> Flags:
        return Flags(sa.column("x", kind).label("x"), names)

    named = {1: "x"}
    for kind, names in (
        (mysql.SET("a"), named), (sa.JSON, named), (sa.Date, named), (sa.Enum("a"), named),
        (sa.Integer, None), (mysql.BIT(3), None), (sa.Boolean, None), (sa.DateTime, None),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match="Flags with"):
            form_for(flags(kind, names))
    for kind, names in (
        (sa.Integer, named), (mysql.BIT(3), named), (sa.Numeric, named), (sa.String(9), named),
        (sa.types.NullType, named), (mysql.SET("a"), None), (sa.String(9), None),
    ):  # fmt: skip
        assert form_for(flags(kind, names))


class State(str, enum.Enum):  # noqa: UP042 - whose str() is another than StrEnum's
    """A text with a name in Python, as applications have it."""

    OPEN = "open"


class Level(int, enum.Enum):
    """A number alike."""

    LOW = 1


def test_members_of_an_enum_are_what_they_equal() -> None:
    """As values that are named, as kinds and as keys of pairs."""
    [made] = _plan(fields=[Choice(ticket.c.name, {State.OPEN: "O", Level.LOW: State.OPEN})]).levels
    assert made.body.writer.encoder(())((b"1", b"open")) == b'"name":"O"'
    assert made.body.writer.encoder(())((b"1", b"01")) == b'"name":"open"'
    types = {State.OPEN: sa.Integer, Level.LOW: {State.OPEN: 7}}
    pairs = _plan(Pairs("p", threads, threads.c.ticket_id == ticket.c.id, threads.c.name,
                        threads.c.name, types=types))  # fmt: skip
    rows = [(b"1", b"open", b"5"), (b"1", b"1", b"open")]
    assert pairs.documents([[(b"1", b"1")], rows])[0] == {"1": b'{"id":1,"p":{"1":7,"open":5}}'}
    of = {State.OPEN: Kind(teams, [teams.c.name])}
    assert "ticket.name = 'open'" in _plan(
        OneOf("o", ticket.c.name, ticket.c.team_id, of)
    ).levels[0].sql  # fmt: skip


@given(st.integers(-9999, 9999), st.integers(-9, 9), st.sampled_from(["", "0", "00"]))
def test_a_text_names_a_whole_number_however_it_is_spelled(
    number: int, exponent: int, zeros: str
) -> None:
    """With zeros, fractions of zeros and exponents around it."""
    said = f"{'-' if number < 0 else ''}{zeros}{abs(number)}e{exponent}"
    meant = Fraction(number) * Fraction(10) ** exponent
    choice = Choice(ticket.c.name, dict.fromkeys({number, int(meant)}, "it"), other="other")
    named = meant.denominator == 1 and int(meant) in choice.names
    assert form_for(choice).checked(said.encode()) == (b'"it"' if named else b'"other"')


@pytest.mark.parametrize("said", ["1e65", "1e99999999", "9e999999999999999999", "-1e999999999",
                                  "1e-999999999", "1e99999999999999999999999", "nan", "-inf",
                                  "sNaN", "1" * 5000, "0e99999999", ""])  # fmt: skip
def test_a_text_that_names_a_monstrous_number_costs_nothing(said: str) -> None:
    """Whoever may write a text could stop the projector with ten letters."""
    encode = form_for(Choice(ticket.c.name, {1: "low"}, other="other")).checked
    assert encode(said.encode()) == b'"other"'


def test_a_blank_field_is_null_where_its_type_has_no_blank() -> None:
    """A date that was never entered; an empty text stays one."""
    types = {"due": sa.Date, "n": sa.Integer, "j": sa.JSON, "t": sa.String, "level": {"1": "low"}}
    plan = _plan(Pairs("p", threads, threads.c.ticket_id == ticket.c.id, threads.c.name,
                       threads.c.name, types=types))  # fmt: skip
    for blank, text in ((b"", ""), (b" ", " ")):
        documents, failed = plan.documents(
            [[(b"1", b"1")], [(b"1", name.encode(), blank) for name in types]]
        )
        assert failed == {}
        assert json.loads(documents["1"])["p"] == {
            "due": None, "n": None, "j": None, "t": text, "level": None,
        }  # fmt: skip
    assert plan.documents([[(b"1", b"1")], [(b"1", b"due", b"x")]])[1] == {"1": "p.due: not a date"}


def test_figures_that_would_share_a_name_set_the_document_aside() -> None:
    """Two groups of rows whose keys are written alike: neither figure is the right one."""
    on = threads.c.ticket_id == ticket.c.id
    for key, values in (
        (sa.type_coerce(threads.c.id, sa.Boolean), (b"1", b"-1")),
        (Choice(threads.c.name, {1: "low"}), (b"1", b"1.0")),
        (sa.type_coerce(threads.c.name, sa.Uuid), (b"0" * 31 + b"a", b"0" * 31 + b"A")),
    ):
        plan = _plan(Pairs("n", threads, on, key, func.count()))
        one, other = ((b"1", value, b"3") for value in values)
        apart, why = plan.documents([[(b"1", b"1"), (b"2", b"2")], [one, (b"2", *other[1:])]])
        assert (len(apart), why) == (2, {})
        assert plan.documents([[(b"1", b"1")], [one, other]]) == (
            {}, {"1": "n: two groups of rows under one name"},
        )  # fmt: skip


def test_what_nobody_is_shown_sets_no_document_aside() -> None:
    """Rows of a collection in an object that is null, or in a row that is not the first one."""
    number = sa.type_coerce(entries.c.name, sa.Integer).label("number")
    inner = Many("list", entries, entries.c.user_id == users.c.id, value=number)
    user = One("u", users, users.c.id == ticket.c.user_id, [users.c.name], collections=[inner],
               where=users.c.name != "x")  # fmt: skip
    bad, good = (b"1", b"bad"), (b"1", b"5")
    shown, hidden = (b"1", b"1", b"7", b"y"), (b"1", b"1", None, b"x")
    assert _plan(user).documents([[hidden], [bad]]) == ({"1": b'{"id":1,"u":null}'}, {})
    assert _plan(user).documents([[shown], [bad]])[1] == {"1": "list: not a whole number"}
    assert _plan(user).documents([[shown], [good]])[1] == {}

    pairs = Pairs("list", entries, entries.c.thread_id == threads.c.id, entries.c.id, number)
    for listed in (
        Many("list", entries, entries.c.thread_id == threads.c.id, value=number), pairs,
    ):  # fmt: skip
        name = (b"1",) if listed is pairs else ()
        plan = _plan(First("f", threads, threads.c.ticket_id == ticket.c.id, [threads.c.id],
                           collections=[listed]))  # fmt: skip
        first = [(b"1", b"5", b"5")]
        others = [(b"1", b"6", *name, b"bad"), (b"1", b"5", *name, b"5")]
        documents, failed = plan.documents([[(b"1", b"1")], first, others])
        assert (list(documents), failed) == (["1"], {})
        others.append((b"1", b"5", *name, b"bad"))
        assert plan.documents([[(b"1", b"1")], first, others]) == (
            {}, {"1": "f.list: not a whole number"},
        )  # fmt: skip


def test_what_a_value_cannot_be_is_refused() -> None:
    """A zone, an encoding, bits and a depth that there are not."""
    for made, match in (
        (lambda: Moment(ticket.c.name, "Europe/Nowhere"), "no time zone 'Europe/Nowhere'"),
        (lambda: Projection("t", ticket, [ticket.c.id], zone="../etc/passwd"), "no time zone"),
        (lambda: Projection("t", ticket, [ticket.c.id], zero_dates="nil"), "zero_dates is 'nil'"),  # type: ignore[arg-type]
        (lambda: Encoded(ticket.c.name, "hex"), "'hex' is no encoding"),
        (lambda: Encoded(ticket.c.name, "idna"), "'idna' is no encoding"),
        (lambda: Flags(ticket.c.id, {3: "x"}), "these are none: \\[3\\]"),
        (lambda: Flags(ticket.c.id, {}), "these are none: \\[\\]"),
        (lambda: Choice(ticket.c.id, {}), "whole numbers or texts"),
        (lambda: Path("p", users, users.c.id == 1, users.c.id, users.c.id, 99), "depth of 99"),
        (lambda: Encoded(ticket.c.name, "utf-8", errors="skip"), "'skip'"),  # type: ignore[arg-type]
        (lambda: Json(ticket.c.name, otherwise="nul"), "'nul'"),  # type: ignore[arg-type]
        (lambda: Pairs("p", threads, threads.c.ticket_id == ticket.c.id, threads.c.name,
                       threads.c.id, repeated="lists"), "p: repeated is 'lists'"),  # type: ignore[arg-type]
        (lambda: Moment(ticket.c.name, zero_dates="nul"), "zero_dates is 'nul'"),  # type: ignore[arg-type]
        (lambda: Partial(ticket.c.name, first=-1), "shows -1 first"),
        (lambda: Partial(ticket.c.name, last="2"), "'2' last"),  # type: ignore[arg-type]
        (lambda: Fixed(ticket.c.name, None), "text of a Fixed is None"),  # type: ignore[arg-type]
        (lambda: OneOf("o", ticket.c.kind, ticket.c.team_id, {}), "o: a OneOf of nothing"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=match):
            made()
