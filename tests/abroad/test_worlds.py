"""Worlds made up whole: every hash equals what SQL written from the same spec says as root.

`make test-abroad` plays them for twenty minutes, half of it on PostgreSQL; SECONDS_ABROAD or SEEDS
(`SEEDS=0-300`) say otherwise. A failure's report stands in `build/abroad`; `python -m
tests.abroad.worlds SEED`, or `tests.abroad.postgres`, plays it again.
"""

import os
import time
from pathlib import Path
from random import Random

import pytest

from tests.abroad.postgres.runner import PostgresRunner
from tests.abroad.worlds import declarations, module, schemas
from tests.abroad.worlds.plan import Plan
from tests.abroad.worlds.runner import Runner, Tally, seeds_for
from tests.servers import Flavour

_REPORTS = Path(__file__).resolve().parents[2] / "build" / "abroad"
_LONG_S = float(os.environ.get("SECONDS_ABROAD", "1200"))
_SOME = 20  # worlds, half a minute
_MOST_REFUSED = 0.15


def _seeds() -> range | None:
    """The seeds that the environment asks for."""
    first, _, last = os.environ.get("SEEDS", "").partition("-")
    return range(int(first), int(last) + 1) if last else None


def _judge(tally: Tally) -> None:
    print(tally)
    assert not tally.failures, f"{tally}\n\n{tally.failures[0]}\nReports: {_REPORTS}"
    if sum(tally.words.values()) >= 40:
        assert tally.share_refused < _MOST_REFUSED, tally


@pytest.mark.server
@pytest.mark.abroad
@pytest.mark.timeout(_LONG_S + 300)
@pytest.mark.parametrize("make", [Runner, PostgresRunner], ids=["mysql", "postgres"])
def test_worlds_are_followed_for_as_long_as_asked(make: type[Runner]) -> None:
    """Seeds of their own each day, or those that were asked for."""
    first = int(os.environ.get("FIRST_SEED", time.strftime("%y%m%d000")))
    with make(_REPORTS) as runner:
        for seed in _seeds() or seeds_for(_LONG_S / 2, first):
            runner.play(Plan(seed))
        _judge(runner.tally)


@pytest.mark.server
@pytest.mark.timeout(300)
def test_some_worlds_are_followed_on_postgres() -> None:
    """The same ones each time (of MySQL's some are played with the faults)."""
    with PostgresRunner(_REPORTS) as runner:
        for seed in range(_SOME):
            runner.play(Plan(seed))
        _judge(runner.tally)


@pytest.mark.parametrize("flavour", list(Flavour), ids=str)
def test_a_seed_makes_the_same_world_again(flavour: Flavour) -> None:
    """Tables and declaration are the same to the letter, and others for another seed."""

    def written(seed: int) -> str:
        plan = Plan(seed)
        schema = schemas.generate(plan.chance, flavour, is_folding=False)
        spec = declarations.generate(plan.chance("d"), "things", schema, lambda sql: True)
        tables = "\n".join(table.definition for table in schema.tables)
        return tables + module.write(Random(1), [spec])

    assert written(7) == written(7)
    assert len({written(seed) for seed in range(20)}) == 20
