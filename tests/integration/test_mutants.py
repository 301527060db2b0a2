"""Mutants: some of them in every run, all of them with `make test-mutants`."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import ALL, judge
from tests.mutants.four import FOUR
from tests.mutants.running import ROOT


@pytest.mark.slow
def test_what_once_passed_every_test_when_inverted_fails_one_now() -> None:
    """Four decisions, each made wrong alone, each found by one test in a moment."""
    assert judge(FOUR, has_baseline=False) == []


def test_every_mutant_says_where_it_stands() -> None:
    """Its text is there just once, and so is its test; no two have one name."""
    lost = [m.name for m in ALL if (ROOT / m.file).read_text("utf-8").count(m.before) != 1]
    assert lost == []
    tests = {word.partition("::")[0] for m in ALL for word in m.command.split()}
    assert [t for t in tests if t.startswith("tests/") and not (ROOT / t).exists()] == []
    assert len({m.name for m in ALL}) == len(ALL)
