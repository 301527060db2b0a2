"""The words for other people's schemas without a server: their routes, and what is refused."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func

from projector.errors import ConfigurationError
from projector.projection import (
    Choice,
    Encoded,
    First,
    Flags,
    Hashed,
    Join,
    Kind,
    Many,
    Moment,
    One,
    OneOf,
    Pairs,
    Path,
    Plan,
    Projection,
)

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


def _plan(*collections: Any, joins: Any = (), fields: Any = (ticket.c.id,), **more: Any) -> Plan:
    return Plan(Projection("t", ticket, fields, joins, collections, **more))


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
    assert len({plan.fingerprint for plan in said}) == len(said)


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


def test_what_a_value_cannot_be_is_refused() -> None:
    """A zone, an encoding, bits and a depth that there are not."""
    for made, match in (
        (lambda: Moment(ticket.c.name, "Europe/Nowhere"), "no time zone 'Europe/Nowhere'"),
        (lambda: Projection("t", ticket, [ticket.c.id], zone="../etc/passwd"), "no time zone"),
        (lambda: Projection("t", ticket, [ticket.c.id], zero_dates="nil"), "zero_dates is 'nil'"),  # type: ignore[arg-type]
        (lambda: Encoded(ticket.c.name, "hex"), "'hex' is no encoding"),
        (lambda: Flags(ticket.c.id, {3: "x"}), "these are none: \\[3\\]"),
        (lambda: Choice(ticket.c.id, {}), "whole numbers or texts"),
        (lambda: Path("p", users, users.c.id == 1, users.c.id, users.c.id, 99), "depth of 99"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=match):
            made()
