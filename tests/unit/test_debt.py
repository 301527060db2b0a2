"""Debts and requests as records: what was written is read back, all else is refused or passed over.

Redis may hold anything: the records of a newer version, of another projection, or nobody's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projector.debt import (
    ALL,
    REPAIR,
    REQUESTED,
    Debt,
    ids_debt,
    read_request,
    route_debt,
    usable,
)
from projector.mysql.position import Flavour, GtidSet, MariadbGtids, Position
from projector.position import later
from tests.unit.model_database import PLAN, position

LOOK_UP = next(iter(PLAN.look_ups))
_texts = st.text(max_size=6)
_counts = st.integers(0, 2**63 - 1)
_values = st.lists(
    st.tuples(st.integers(), _texts) | st.tuples(st.binary(max_size=5)), max_size=3
).map(tuple)
_debts = st.builds(
    Debt,
    scope=st.sampled_from(["all", "ids", "route"]), reason=st.text(min_size=1, max_size=6),
    ids=st.lists(_texts, max_size=3).map(tuple), name=_texts, values=_values,
    phase=st.sampled_from(["write", "orphans"]), cursor=st.none() | st.text(min_size=1, max_size=6),
    again=_texts, barrier=st.sampled_from([None, position(3), position(0)]),
    onto_empty=st.booleans(), done=_counts, total=_counts, written=_counts, removed=_counts,
    started_at=st.floats(0, 1e10),
)  # fmt: skip
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=4,
)
_FIELDS = [*Debt.__dataclass_fields__, "newer"]


@settings(deadline=None)
@given(_debts)
def test_a_debt_is_read_back_as_it_was_written(debt: Debt) -> None:
    """Bytes too; a field that says nothing is left out."""
    assert Debt.from_json(debt.to_json(), Position.parse) == debt
    assert None not in json.loads(debt.to_json()).values()


def test_values_that_json_has_no_word_for_are_put_off_as_texts() -> None:
    """The look-up takes them for what they were."""
    debt = Debt("route", "x", name="y", values=((Decimal("1.50"),),))
    assert Debt.from_json(debt.to_json(), Position.parse).values == (("1.50",),)


@pytest.mark.parametrize(
    "changed",
    [
        {"scope": "some"}, {"scope": []}, {"reason": 1}, {"reason": None}, {"newer": 1},
        {"ids": "1"}, {"ids": [1]}, {"ids": {}}, {"name": 1}, {"values": [1]}, {"values": {}},
        {"values": [[]]}, {"values": [[None]]}, {"values": [[1.5]]}, {"values": [[["x"]]]},
        {"values": [[{"hex": 1}]]}, {"values": [[{"hex": "00", "x": 1}]]}, {"values": [[{}]]},
        {"values": [[{"bytes": "00"}]]}, {"values": [[{"hex": "0g"}]]}, {"values": "x"},
        {"phase": "over"}, {"cursor": 1}, {"again": 2}, {"barrier": "x"}, {"barrier": 1},
        {"onto_empty": 1}, {"onto_empty": "yes"}, {"done": -1}, {"done": 1.0}, {"done": True},
        {"done": "1"}, {"total": 2**63}, {"written": None}, {"removed": -1},
        {"started_at": -1}, {"started_at": 1e11}, {"started_at": True}, {"started_at": "now"},
    ],
)  # fmt: skip
def test_what_a_field_cannot_be_makes_a_debt_unreadable(changed: dict[str, Any]) -> None:
    """Nobody here can tell what a newer version means by it."""
    text = json.dumps({"scope": "all", "reason": "x", **changed})
    with pytest.raises(ValueError, match=r"."):
        Debt.from_json(text, Position.parse)
    assert usable({"k": text}, PLAN, Position.parse) == ({}, {"k"})


@pytest.mark.parametrize("missing", ["scope", "reason"])
def test_a_debt_without_scope_or_reason_is_none(missing: str) -> None:
    """What is owed, and why, has no default."""
    said = {"scope": "all", "reason": "x"}
    with pytest.raises(ValueError, match="fields"):
        Debt.from_json(json.dumps({k: v for k, v in said.items() if k != missing}), Position.parse)


@settings(deadline=None)
@given(
    st.dictionaries(
        _texts,
        st.dictionaries(st.sampled_from(_FIELDS), _anything, max_size=5).map(json.dumps)
        | _anything.map(json.dumps) | _texts | _debts.map(Debt.to_json),
        max_size=4,
    )
)  # fmt: skip
def test_any_record_is_a_debt_or_is_passed_over(records: Mapping[str, str]) -> None:
    """Whatever stands there: nothing is raised, nothing is lost, and what is kept can be done."""
    found, unusable = usable(records, PLAN, Position.parse)
    assert found.keys() | unusable == records.keys()
    assert not found.keys() & unusable
    for debt in found.values():
        if debt.scope == "route":
            assert {len(row) for row in debt.values} == {len(PLAN.look_ups[debt.name].columns)}
        if debt.scope == "ids":
            assert int(debt.cursor or 0) < len(debt.ids)
        assert debt.phase == "write" or debt.cursor is None


def test_what_this_projection_cannot_work_off_is_told() -> None:
    """A look-up that it does not have, values of another number, a place that is none."""
    route_key, route = route_debt(LOOK_UP, [(1,)])
    ids_key, ids = ids_debt(["2", "1"], "x")
    debts = {
        route_key: route, ids_key: ids, ALL: Debt("all", "x", cursor="7"),
        "bad name": Debt("route", "x", name="gone", values=((1,),)),
        "bad width": Debt("route", "x", name=LOOK_UP, values=((1, 2),)),
        "no values": Debt("route", "x", name=LOOK_UP),
        "bad place": Debt("ids", "x", ids=("1",), cursor="1"),
        "before": Debt("ids", "x", ids=("1",), cursor="-1"),
        "no place": Debt("ids", "x", ids=("1",), cursor="x"),
        "no ids": Debt("ids", "x"),
        "no key": Debt("all", "x", cursor="seven"),
        "scan": Debt("all", "x", phase="orphans", cursor="seven"),
    }  # fmt: skip
    found, unusable = usable(
        {key: debt.to_json() for key, debt in debts.items()}, PLAN, Position.parse
    )
    assert unusable == {key for key in debts if key.startswith(("bad", "no", "before"))}
    assert found[ALL].cursor == "7"
    assert found["scan"].cursor is None  # the server process that gave it may have ended
    assert found[ids_key].ids == ("1", "2")


def test_the_same_work_has_the_same_key() -> None:
    """In whatever order it is named; and other work another."""
    assert ids_debt(["2", "1", "2"], "x")[0] == ids_debt(["1", "2"], "y")[0]
    assert ids_debt(["1"], "x")[0] != ids_debt(["2"], "x")[0]
    assert route_debt("a", [(2,), (1,)])[0] == route_debt("a", [(1,), (2,)])[0]
    assert route_debt("a", [(1,)])[0] != route_debt("b", [(1,)])[0]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"kind": "resync"}', ("resync", [], REQUESTED)),
        ('{"kind": "resync", "ids": null}', ("resync", [], REQUESTED)),
        ('{"kind": "resync", "ids": ["1"], "reason": "repair"}', ("resync", ["1"], REPAIR)),
        ('{"kind": "cancel", "newer": 1}', ("cancel", [], REQUESTED)),
        ('{"kind": "resync", "reason": "other"}', None), ('{"kind": 3}', None), ("{}", None),
        ('{"kind": "resync", "ids": "1"}', None), ('{"kind": "resync", "ids": [1]}', None),
        ("[]", None), ("", None), ("[" * 100_000, None), ('{"kind": NaN}', None),
    ],
)  # fmt: skip
def test_a_request_is_read_or_is_none(text: str, read: Any) -> None:
    """Whoever wrote it."""
    assert read_request(text) == read


def test_of_two_causes_the_one_behind_counts() -> None:
    """A walk for both must see both. Of another server nothing is known but that it is passed."""
    maria = [
        Position(Flavour.MARIADB, s, "binlog.000001", n, MariadbGtids({0: (1, n)}), 5)
        for s, n in (("a", 4), ("a", 9), ("b", 2))
    ]
    early, late, elsewhere = maria
    assert later(early, late) == later(late, early) == late
    assert later(elsewhere, late) == elsewhere
    assert later(late, elsewhere) == late
    assert later(None, late) == later(late, None) == late
    assert later(None, None) is None
    mysql = Position(Flavour.MYSQL, "a", "binlog.000001", 4, GtidSet({}), 5)
    for first, second in ((position(3), position(5)), (position(5), position(3))):
        assert first.later(second).gtids == position(5).gtids
    assert position(3).later(mysql).gtids == position(3).gtids
    files = [Position(Flavour.MYSQL, "a", "binlog.000001", n, None, 5) for n in (4, 9)]
    assert later(files[0], files[1]) == files[1]
    assert later(files[1], files[0]) == files[1]
    assert later(early, files[1]) == early
