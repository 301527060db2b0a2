"""Which differences of the catalog change documents, and what a checkpoint keeps of it."""

from collections.abc import Callable, Collection
from copy import deepcopy
from typing import Any

import pytest

from projector.model import TableName, Watch
from projector.postgres.definitions import (
    Definition,
    Seen,
    changed,
    may_have_changed,
    owners,
    read,
    text,
)

_T, _U = TableName("public", "t"), TableName("public", "u")


def _definition() -> Definition:
    return Definition(
        1, {1: 10, 2: 20}, {"a": "1", "b": "2"}, {"a": 7, "b": 7}, {5: "sad", 6: "ok"}
    )


def _set(name: str, key: Any, value: Any) -> Callable[[Definition], None]:
    def change(definition: Definition) -> None:
        getattr(definition, name)[key] = value

    return change


def _remove(name: str, key: Any) -> Callable[[Definition], None]:
    return lambda definition: getattr(definition, name).pop(key)


def _another(definition: Definition) -> None:
    definition.oid = 9


def _rewritten(definition: Definition) -> None:
    definition.files[2], definition.versions["a"] = 21, 8


# What differs; whether documents may; whether a start that knows the checkpoint alone says so.
_CASES: dict[str, tuple[Callable[[Definition], None], bool, bool]] = {
    "nothing": (lambda definition: None, False, False),
    "another table": (_another, True, True),
    "a partition less": (_remove("files", 2), True, True),
    "a partition more, with rows": (_set("files", 3, 30), True, True),
    "a partition more, without": (_set("files", 4, 40), False, True),
    "a file": (_set("files", 2, 21), False, False),
    "a column's definition": (_set("versions", "a", 8), False, False),
    "both": (_rewritten, True, True),
    "a column's place": (_set("places", "a", "3"), True, True),
    "a column that is away": (_remove("places", "a"), False, True),
    "a column that is back": (_set("places", "c", "3"), False, True),
    "a label": (_set("labels", 5, "blue"), True, True),
    "a label more": (_set("labels", 7, "so so"), False, True),
}


def _filled(oids: Collection[int]) -> Collection[int]:
    return {3} & set(oids)


@pytest.mark.parametrize("case", _CASES)
def test_what_changes_documents_is_told(case: str) -> None:
    """While it is looked at; and at a start, where less is known, rather too much."""
    change, is_told, is_told_at_start = _CASES[case]
    before, now = {_T: _definition(), _U: _definition()}, {_T: _definition(), _U: _definition()}
    change(now[_T])
    assert changed(before, now, _filled) == ([_T] if is_told else [])
    assert may_have_changed(text(before), text(now)) == is_told_at_start


def test_a_table_that_was_away_is_told() -> None:
    """And one that is away is not: its documents wait."""
    assert changed({_T: _definition()}, {_U: _definition()}, _filled) == [_U]
    assert changed({_T: _definition()}, {}, _filled) == []


@pytest.mark.parametrize(
    ("before", "is_told"), [("", False), ("-", True), ("a.b", True), ("a.b.c.d", True)]
)
def test_texts_of_others_are_compared_with_care(before: str, is_told: bool) -> None:
    """Of no text nothing is known; one of another form says that something may have changed."""
    assert may_have_changed(before, text({_T: _definition()})) == is_told


def test_the_catalog_is_asked_where_it_has_changed() -> None:
    """Once for each digest; at first there is nothing to compare with."""
    rows = [["public", "t", "oid", "1", ""], ["public", "t", "file", "1", "10"],
            ["public", "t", "place", "a", "1"], ["public", "t", "version", "a", "7"],
            ["public", "t", "label", "5", "sad"]]  # fmt: skip
    asked: list[str] = []

    def ask(sql: str) -> list[list[str]]:
        asked.append(sql)
        return rows

    seen = Seen([Watch(_T, ("a",), frozenset("a"))])
    assert seen.look(ask, "one") == []
    assert seen.definitions == {_T: Definition(1, {1: 10}, {"a": "1"}, {"a": 7}, {5: "sad"})}
    assert owners(seen.definitions) == {1: _T}
    assert seen.look(ask, "one") == []
    assert len(asked) == 1
    kept = seen.text
    rows[2][4] = "2"
    assert seen.look(ask, "two") == [_T]
    assert may_have_changed(kept, seen.text)
    assert read([]) == {}
    before = deepcopy(seen.definitions)
    rows.clear()
    assert seen.look(ask, "three") == []
    assert seen.definitions == before
