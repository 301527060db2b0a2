"""Views: what may be declared, where documents stand, and which texts are one value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from projector_reader.lists import Folding as ReadersFolding
from projector_reader.lists import list_name

from projector.errors import ConfigurationError
from projector.projection import (
    Aggregate,
    Choice,
    Encoded,
    First,
    Fixed,
    Hashed,
    Many,
    One,
    Partial,
    Plan,
    Projection,
    View,
    binary,
)
from projector.projection.columns import ColumnType
from projector.projection.folding import Folding, folding
from projector.projection.places import canonical
from schema import projection, tables
from schema.lists import tickets as with_lists

T, S = tables.tickets.c, tables.ticket_statuses.c
GENERAL = ColumnType("varchar", "varchar(40)", "utf8mb4", "utf8mb4_general_ci")


def plan(*views: View) -> Plan:
    return Plan(replace(projection.tickets, views=views))


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (View("status", S.name, T.id), "no name of a view"),
        (View("by_x", [], T.id), "key is empty"),
        (View("by_x", T.custom_fields, T.id), "no type of a key"),
        (View("by_x", T.updated_at, T.id), "no type of a key"),
        (View("by_x", sa.func.lower(T.title, type_=sa.String()), T.id), "which texts"),
        (View("by_x", T.id, T.title), "neither a time nor a number"),
        (View("by_x", T.id, "id"), "stands where"),  # type: ignore[arg-type]
        (View("by_x", 7, T.id), "stands where"),  # type: ignore[arg-type]
        (View("by_x", T.id, T.id, where=T.due_at > sa.func.now()), "time or chance"),
        (View("by_x", T.id, T.id, where=sa.func.count(T.id) > 1), "aggregate"),
        (View("by_x", T.id, T.id, where=tables.tags.c.name == "x"), "neither of the root"),
        (View("by_x", tables.users.c.role, T.id), "neither of the root"),
        (View("by_x", T.id, tables.ticket_watchers.c.user_id), "has many"),
        (View("by_x", [tables.tags.c.name, tables.ticket_watchers.c.user_id], T.id), "two coll"),
        (View("by_x", T.id, T.id, keep=0), "below 1"),
        (View("by_x", Partial(T.title), T.id), "Partial is no key"),  # type: ignore[arg-type]
        (View("by_x", [T.id, Fixed(T.title)], T.id), "Fixed is no key"),  # type: ignore[list-item]
        (View("by_x", Encoded(T.title, "cp1252"), T.id), "Encoded is no key"),  # type: ignore[arg-type]
        (View("by_x", Choice(T.title, {"a": "b"}), T.id), "Choice is no key"),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_kept_right_is_refused(view: View, reason: str) -> None:
    """At start, with the view's name and a remedy."""
    with pytest.raises(ConfigurationError, match=reason) as refused:
        plan(view)
    assert refused.value.remedy


def test_newest_is_one_value_of_each_document() -> None:
    """Of a First or an Aggregate, unless it stands in a list, where each row has one."""
    root, comments, files = (
        sa.Table(name, sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                 sa.Column("of", sa.Integer)) for name in ("root", "comments", "files")
    )  # fmt: skip
    newest = sa.func.max(files.c.id).label("newest")
    words: tuple[tuple[Any, Any], ...] = (
        (files.c.id, lambda above: First("f", files, files.c.of == above, [files.c.id])),
        (newest, lambda above: Aggregate(files, files.c.of == above, [newest])),
    )
    for expression, word in words:
        view = View("by_of", root.c.of, expression)
        many = Many("c", comments, comments.c.of == root.c.id, [comments.c.id],
                    collections=[word(comments.c.id)])  # fmt: skip
        one = One("o", comments, comments.c.id == root.c.of, [comments.c.id],
                  collections=[word(comments.c.id)])  # fmt: skip
        for fits in (word(root.c.id), one):
            assert Plan(Projection("r", root, [root.c.id], collections=[fits], views=[view]))
        with pytest.raises(ConfigurationError, match="newest is of a collection"):
            Plan(Projection("r", root, [root.c.id], collections=[many], views=[view]))


def test_views_change_no_document() -> None:
    """Neither the queries that its bytes come from, nor its fingerprint."""
    bare, listed = Plan(projection.tickets), Plan(with_lists)
    assert bare.fingerprint == listed.fingerprint
    assert [level.sql for level in bare.levels] == [level.sql for level in listed.levels]
    assert bare.queries(["1"]) != listed.queries(["1"])  # is_closed = 0 is asked for beside
    assert bare.queries(["1"])[1:] == listed.queries(["1"])[1:]


def test_what_a_view_reads_is_watched() -> None:
    """Also where no document shows it: a change of it moves documents between lists."""
    unshown = sa.Table("things", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                       sa.Column("kind", sa.Integer), sa.Column("at", sa.Integer))  # fmt: skip
    made = Plan(
        Projection(name="things", root=unshown, fields=[unshown.c.id],
                   views=[View("by_kind", unshown.c.kind, unshown.c.at)])
    )  # fmt: skip
    [watch] = made.watches("db")
    assert {"kind", "at"} <= watch.read


def test_where_documents_stand() -> None:
    """Scores once, parts joined, many values sorted and each once; NULL stands nowhere."""
    made = plan(
        View("by_status", binary(S.name), T.updated_at),
        View("by_both", [T.department_id, binary(S.name)], T.updated_at, where=S.is_closed == 0),
        View("by_tag", binary(tables.tags.c.name), T.due_at),
        View("by_assignee", T.assignee_id, T.id),
    )
    places, failed = made.places(_rows(made, assignee=None))
    assert failed == {}
    assert places == {
        "7": "1763848792452458 status:a%7Cb\n both:3|a%7Cb\n-9007199254740992 tag:x\n tag:y"
    }
    closed, _ = made.places(_rows(made, where=b"0", assignee=b"0012", tags=()))
    assert closed == {"7": "1763848792452458 status:a%7Cb\n7 assignee:12"}


def _rows(
    made: Plan, where: bytes = b"1", assignee: bytes | None = None, tags: Any = (b"y", b"x", b"y")
) -> list[Any]:
    names = [getattr(f, "key", None) for f in projection.tickets.fields]
    by_name = {
        "status_name": b"a|b", "updated_at": b"2025-11-22 21:59:52.452458", "department_id": b"3",
        "due_at": None, "assignee_id": assignee, "id": b"7",
    }  # fmt: skip
    top = [b"7", *(by_name.get(str(name)) for name in names), where]
    return [[top], [(b"7", tag) for tag in tags], *([] for _ in made.levels[2:])]


@pytest.mark.parametrize(
    ("raw", "kind", "text"),
    [
        (b"007", "whole", "7"), (b"-3", "whole", "-3"), (b"\x01\x02", "whole", "258"),
        (b"12.50", "decimal", "12.5"), (b"0.00", "decimal", "0"), (b"100", "decimal", "100"),
        (b"0", "flag", "0"), (b"2", "flag", "1"), (b"2026-01-02", "date", "2026-01-02"),
        (bytes(range(16)), "uuid", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (b"\x00\xff", "hex", "00ff"),
    ],
)  # fmt: skip
def test_values_have_one_spelling(raw: bytes, kind: str, text: str) -> None:
    """Whatever the server sends for the same value."""
    assert canonical(raw, kind) == text


def weights() -> list[tuple[str, bytes]]:
    """As utf8mb4_general_ci weighs: letters without case and accents, ß as s."""
    found = [(chr(n), ord(chr(n).upper()).to_bytes(2, "big")) for n in range(1, 128)]
    found += [(c, b"\0U") for c in "üÜùÛ"] + [("ß", b"\0S\0S"), ("\u0301", b""), ("ж", b"\4\x16")]
    found += [("Ж", b"\4\x16"), ("\ufffd", b"\xff\xfd"), ("\U0010fffd", b"\xff\xfd")]
    return found


def test_equal_texts_are_one_value() -> None:
    """In lower case where there is a choice; what weighs nothing is left out."""
    made = folding(GENERAL, weights())
    assert made.fold("GRÜßE ") == "grusse"
    assert made.fold("Ж\u0301") == "ж"
    assert made.fold("a😀b😎") == "a\ufffdb\ufffd"
    assert made.fold("Open  ") == made.fold("oPEN") == "open"
    no_pads = replace(GENERAL, collation="utf8mb4_general_nopad_ci")
    assert folding(no_pads, weights()).fold("Open ") == "open "


@given(st.text(alphabet="aAüÜßsS ж\u0301|%😀", max_size=8), st.sampled_from(["x", "A b"]))
def test_readers_spell_as_the_projector(text: str, other: str) -> None:
    """By the folding that it has published."""
    made: Folding = folding(GENERAL, weights())
    read = ReadersFolding.parse(made.packed.encode())
    for each in (text, other):
        assert read.fold(each) == made.fold(each)
    part = {"kind": "text", "fold": "g"}
    assert "|" in list_name("by_x", [text, other], [part, part], {"g": read}, {})


def test_a_masked_value_stands_in_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its keyed hash, cut; equal values stay equal."""
    monkeypatch.setenv("K", "secret")
    made = plan(View("by_status", Hashed(binary(S.name), "K"), T.updated_at))
    places, _ = made.places(_rows(made))
    _, _, name = places["7"].partition(" ")
    assert name == list_name("by_status", ["a|b"], [{"kind": "exact", "variable": "K"}], {}, {})
    assert name[7:8] != "a" or len(name) == 7 + 32
    other = made.placer.mark
    monkeypatch.setenv("K", "another")
    assert plan(View("by_status", Hashed(binary(S.name), "K"), T.updated_at)).placer.mark != other
