"""Views: what may be declared, where documents stand, and which texts are one value."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from projector_reader.lists import Folding as ReadersFolding
from projector_reader.lists import list_name

from projector.errors import ConfigurationError
from projector.mysql.dialect import MYSQL
from projector.projection import (
    Aggregate,
    Choice,
    Encoded,
    First,
    Fixed,
    Hashed,
    Many,
    Moment,
    One,
    Partial,
    Plan,
    Projection,
    View,
    binary,
)
from projector.projection.columns import ColumnType
from projector.projection.encoding import Promise, SentRows
from projector.projection.folding import Folding, folding
from projector.projection.places import canonical
from schema import projection, tables
from schema.lists import tickets as with_lists

T, S = tables.tickets.c, tables.ticket_statuses.c
GENERAL = ColumnType("varchar", "varchar(40)", "utf8mb4", "utf8mb4_general_ci")


def plan(*views: View) -> Plan:
    return Plan(replace(projection.tickets, views=views), MYSQL)


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
            assert Plan(Projection("r", root, [root.c.id], collections=[fits], views=[view]), MYSQL)
        with pytest.raises(ConfigurationError, match="newest is of a collection"):
            Plan(Projection("r", root, [root.c.id], collections=[many], views=[view]), MYSQL)


def test_views_change_no_document() -> None:
    """Neither the queries that its bytes come from, nor its fingerprint."""
    bare, listed = Plan(projection.tickets, MYSQL), Plan(with_lists, MYSQL)
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
                   views=[View("by_kind", unshown.c.kind, unshown.c.at)]), MYSQL)  # fmt: skip
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
    assert places == {"7": "1763848792452458 status:a%7Cb\n both:3|a%7Cb\n-inf tag:x\n tag:y"}
    closed, _ = made.places(_rows(made, where=None, assignee=b"0012", tags=()))
    assert closed == {"7": "1763848792452458 status:a%7Cb\n7 assignee:12"}


def _rows(
    made: Plan,
    where: bytes | None = b"1",
    assignee: bytes | None = None,
    tags: Any = (b"y", b"x", b"y"),
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
        (b"007", "whole", "7"), (b"-3", "whole", "-3"), (b"-0", "whole", "0"),
        (b"12.50", "decimal", "12.5"), (b"0.00", "decimal", "0"), (b"100", "decimal", "100"),
        (b"-0.0", "decimal", "0"), (b"1" * 40 + b".50", "decimal", "1" * 40 + ".5"),
        (b"1e21", "decimal", "1" + "0" * 21), (b"1E-7", "decimal", "0.0000001"),
        (b"0", "flag", "0"), (b"2", "flag", "1"), (b"2026-01-02", "date", "2026-01-02"),
        (b"0.00", "flag", "0"), (b"\x00", "flag", "0"), (b"\x01", "flag", "1"),
        (bytes(range(16)), "uuid", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (b"000102030405060708090A0B0C0D0E0F", "uuid", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (b"\xc0\xa8\x01\x01", "uuid", "c0a80101"), (b"\xc1\xa9\x01\x01", "uuid", "c1a90101"),
        (b"\x00\xff", "hex", "00ff"),
    ],
)  # fmt: skip
def test_values_have_one_spelling(raw: bytes, kind: str, text: str) -> None:
    """Whatever the server sends for the same value."""
    assert canonical(raw, kind) == text


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"3.0", "whole"), (b"", "whole"), (b"\x01\x02", "whole"), (b"abc", "decimal"),
        (b"NaN", "decimal"), (b"1e999999999", "decimal"), (b"yes", "flag"), (b"\xff", "exact"),
    ],
)  # fmt: skip
def test_what_is_no_value_of_its_kind_is_refused(raw: bytes, kind: str) -> None:
    """Under a reason that does not show it."""
    with pytest.raises(ValueError, match=r"^(not a|bytes that)") as refused:
        canonical(raw, kind)
    assert raw.decode(errors="replace") not in str(refused.value) or not raw


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12), st.integers(0, 40))
def test_decimals_are_equal_where_their_names_are(number: Decimal, zeros: int) -> None:
    """Whatever their number of digits, and of zeros behind."""
    said = f"{number:f}{'0' * zeros}"
    assert Decimal(canonical(said.encode(), "decimal")) == number
    assert canonical(said.encode(), "decimal") == canonical(f"{number:f}".encode(), "decimal")


things = sa.Table(
    "things", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Integer), sa.Column("at", sa.Integer), sa.Column("is_open", sa.Boolean),
    sa.Column("amount", sa.Numeric(10, 2)), sa.Column("made", sa.DateTime),
    sa.Column("name", sa.String(20)), sa.Column("body", sa.JSON),
)  # fmt: skip
parts = sa.Table(
    "parts", things.metadata, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("thing_id", sa.Integer), sa.Column("amount", sa.Numeric(10, 2)),
)  # fmt: skip


def made_of(view: View, **more: Any) -> Plan:
    return Plan(
        Projection(name="things", root=things, views=[view],
                   **{"fields": [things.c.id, things.c.made], **more}), MYSQL)  # fmt: skip


def test_null_is_in_no_list_whatever_is_remembered() -> None:
    """Also at the moment at which another thread forgets the spellings that are known."""
    made = made_of(View("by_kind", things.c.kind, things.c.at))
    [[spelling]] = made.placer._spellings
    spelling._texts.clear()
    assert spelling.text(None) == ""
    assert made.places([[(b"1", b"1", None, None, b"5")]]) == ({"1": ""}, {})


def test_a_bit_is_read_by_its_type() -> None:
    """For its bytes may look like digits."""
    made = made_of(View("by_kind", things.c.kind, things.c.at))
    of_bits = made.fitted({(None, "things"): {"kind": ColumnType("bit", "bit(16)")}})
    for raw, text in ((b"1", "49"), (b"\x01\x02", "258")):
        places, _ = of_bits.places([[(b"1", b"1", None, raw, b"5")]])
        assert places == {"1": f"5 kind:{text}"}


@pytest.mark.parametrize("where", [things.c.amount, things.c.is_open, things.c.at > 3])
def test_the_server_says_what_is_true(where: Any) -> None:
    """Also of a column that the document shows: 0.00 and a zero bit are false."""
    view = View("by_kind", things.c.kind, things.c.at, where=where)
    made = made_of(view, fields=[things.c.id, things.c.amount, things.c.is_open])
    assert "CASE WHEN" in made.queries(["1"])[0]
    row = (b"1", b"1", b"0.00", b"\0")
    listed, hidden = (made.places([[(*row, *rest)]])[0] for rest in _tails(made))
    assert (listed, hidden) == ({"1": "5 kind:7"}, {"1": ""})


def _tails(made: Plan) -> list[list[bytes | None]]:
    """Where `where` holds, and where it does not, in the order in which columns are asked for."""
    [view] = made.views.planned
    assert view.where is not None
    places = {view.parts[0].place.index: b"7", view.newest.index: b"5"}
    return [
        [value for _, value in sorted({**places, view.where.index: truth}.items())]
        for truth in (b"1", None)
    ]


@pytest.mark.parametrize("raw", [b'"high"', b"", b"nan", b"inf", b"1e999", b"5 open:x", b"\1"])
def test_a_newest_that_is_no_number_sets_the_document_aside(raw: bytes) -> None:
    """With the view's name, and no word of the value."""
    newest = sa.func.json_extract(things.c.body, "$.rank", type_=sa.Integer)
    made = made_of(View("by_kind", things.c.kind, newest))
    places, failed = made.places([[(b"1", b"1", None, b"7", raw), (b"2", b"2", None, b"7", b"8")]])
    assert places == {"2": "8 kind:7"}
    assert failed == {"1": "(views).by_kind: newest is not a number"}


def test_a_bad_value_in_a_collections_key_sets_the_document_aside() -> None:
    """That document, and no other."""
    made = made_of(
        View("by_amount", parts.c.amount, things.c.at),
        collections=[Many("parts", parts, on=parts.c.thing_id == things.c.id,
                          fields=[parts.c.amount])],
    )  # fmt: skip
    top = [(b"1", b"1", None, b"5"), (b"2", b"2", None, b"6")]
    places, failed = made.places([top, [(b"1", b"abc"), (b"2", b"2.50")]])
    assert places == {"2": "6 amount:2.5"}
    assert failed == {"1": "(views).by_amount: not a number"}


@pytest.mark.parametrize(
    ("total", "of_none", "score"),
    [
        (sa.func.coalesce(sa.func.sum(parts.c.amount), 0), b"0", "0"),
        (sa.func.count(parts.c.id), None, "0"),
        (sa.func.max(parts.c.id), None, "-inf"),
    ],
)
def test_figures_over_no_rows_order_as_documents_show_them(
    total: Any, of_none: bytes | None, score: str
) -> None:
    """By what the query says in the row without keys, else 0 of a count and NULL of others."""
    figure = total.label("total")
    made = made_of(
        View("by_kind", things.c.kind, figure),
        collections=[Aggregate(parts, on=parts.c.thing_id == things.c.id, fields=[figure])],
    )
    rows = [(b"1", b"-5"), *([(None, of_none)] if of_none else [])]
    top = [(b"1", b"1", None, b"7"), (b"2", b"2", None, b"7")]
    assert made.places([top, rows])[0] == {"1": "-5 kind:7", "2": f"{score} kind:7"}


def test_times_of_a_clock_are_ordered_as_documents_show_them() -> None:
    """Microseconds since 1970 in UTC, by the zone of the projection, or of the one column; what is
    a TIMESTAMP is UTC already."""
    newest = things.c.made
    row = (b"1", b"1", b"2024-07-01 12:00:00", b"7")
    for more in ({"zone": "Europe/Berlin"},
                 {"fields": [things.c.id, Moment(newest, zone="Europe/Berlin")]}):  # fmt: skip
        made = made_of(View("by_kind", things.c.kind, newest), **more)
        assert made.places([[row]])[0] == {"1": "1719828000000000 kind:7"}
    sent = SentRows([row])
    sent.promises = (*[Promise.NOTHING] * 2, Promise.STAMP, Promise.NOTHING)
    assert made.places([sent])[0] == {"1": "1719835200000000 kind:7"}
    zero = (b"1", b"1", b"0000-00-00 00:00:00", b"7")
    assert made.places([[zero]])[0] == {"1": "-inf kind:7"}


def test_null_comes_last() -> None:
    """After all that a column can hold."""
    made = made_of(View("by_kind", things.c.kind, things.c.made))
    scores = []
    for raw in (None, b"1000-01-01 00:00:00", b"1684-07-01 00:00:00", b"1970-01-01 00:00:00"):
        place = made.places([[(b"1", b"1", raw, b"7")]])[0]["1"]
        scores.append(float(place.partition(" ")[0]))
    assert scores == sorted(set(scores))


@pytest.mark.parametrize(
    "clock",
    [
        sa.func.unix_timestamp(), sa.func.localtimestamp(), sa.text("LOCALTIME"),
        sa.text("UTC_DATE"), sa.func.now(), sa.func.uuid_v4(), sa.text("@mine"),
    ],
    ids=str,
)  # fmt: skip
def test_what_only_time_changes_is_refused(clock: Any) -> None:
    """Whether it is written with brackets or without."""
    for view in (View("by_kind", things.c.kind, things.c.at, where=things.c.at > clock),
                 View("by_kind", things.c.kind, sa.type_coerce(clock, sa.Integer))):  # fmt: skip
        with pytest.raises(ConfigurationError, match="time or chance"):
            made_of(view)


def test_names_and_texts_are_no_clocks() -> None:
    """A column or a text may be called as one; a time since 1970 may be asked of a column."""
    where = sa.and_(things.c.name != "now() @ LOCALTIME", sa.func.unix_timestamp(things.c.made) > 5)
    made_of(View("by_kind", things.c.kind, things.c.at, where=where))


def test_another_folding_is_another_mark() -> None:
    """And has another name for readers, who keep what they have read."""
    made = made_of(View("by_name", things.c.name, things.c.at))
    types = {(None, "things"): {"name": GENERAL}}
    folds = [Folding(GENERAL.collation or "", True, table) for table in ({}, {0xE4: "a"})]
    fits = [made.fitted(types, {GENERAL.collation or "": each}).placer for each in folds]
    assert fits[0].mark != fits[1].mark
    names = [{k for k in each.definitions if k.startswith("fold:")} for each in fits]
    assert names[0].isdisjoint(names[1])


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
