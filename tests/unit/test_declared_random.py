"""Made-up declarations of made-up tables: all of a join's condition stands in every query."""

from __future__ import annotations

import os
import re
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from projector.errors import ConfigurationError
from projector.mysql.dialect import MYSQL
from projector.projection import Plan
from projector.projection.graph import Node
from tests.abroad.worlds import declarations, module, schemas
from tests.abroad.worlds.oracle import MASK_KEY
from tests.abroad.worlds.plan import Plan as WorldPlan
from tests.servers import Flavour

SEEDS = int(os.environ.get("ABROAD_SEEDS", "60"))


def made_up(seed: int) -> Plan | None:
    """Make up a declaration; None for one that no projection can be."""
    world = WorldPlan(seed)
    schema = schemas.generate(world.chance, list(Flavour)[seed % 3], is_folding=False)
    spec = declarations.generate(world.chance("d"), "made_up", schema, lambda sql: True)
    scope: dict[str, Any] = {}
    exec(module.write(Random(seed), [spec]), scope)
    try:
        return Plan(scope["made_up"], MYSQL)
    except ConfigurationError as error:
        if "cannot be part" in str(error):  # of an id: a date, a float
            return None
        raise


def _is_read(node: Node, sql: str) -> bool:
    spelled = MYSQL.compile(sa.select(sa.literal_column("1")).select_from(node.source))
    name = spelled.partition("FROM ")[2].strip()
    return re.search(rf"(?:FROM|JOIN) \(*{re.escape(name)}(?! AS )(?: |\n|$)", sql) is not None


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_condition_is_in_every_query_that_reads_its_table(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Constants, comparisons, columns of the parent: of documents and of look-ups alike."""
    monkeypatch.setenv("ABROAD_MASK_KEY", MASK_KEY)
    made = made_up(seed)
    if made is None:
        return
    queries = [level.sql for level in made.levels]
    queries += [look_up.sql for look_up in made.look_ups.values()]
    for node in made.all_nodes():
        wanted = [MYSQL.compile(condition) for condition in node.conditions]
        reading = [sql for sql in queries if _is_read(node, sql)]
        assert reading
        for sql in reading:
            assert [each for each in wanted if each not in sql] == []
