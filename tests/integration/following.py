"""Hashes that the daemon's parts keep for made-up projections, compared with their meaning."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from projector.errors import ConfigurationError
from projector.fetch import Fetcher
from projector.model import Need, TableName, Transactions
from projector.ports import Source
from projector.position import Position
from projector.projection import Plan
from projector.projection.dialect import Dialect
from projector.route import Router
from tests.examples import generated
from tests.memory_sink import entries
from tests.schema_check import assert_as_said


@dataclass
class Follower:
    """A hash that is kept by the daemon's parts."""

    plan: Plan
    spec: generated.Spec
    router: Router
    fetcher: Fetcher
    views: list[generated.ViewSpec]
    documents: dict[str, bytes] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def build(self, position: Position) -> None:
        need = Need(position)
        self.apply(set(self.fetcher.ids_after(None, 10_000, need)), need)

    def step(self, transactions: Transactions) -> None:
        affected = self.router.route(transactions.changes)
        need = Need(transactions.barrier, transactions.changes)
        found = self.fetcher.look_up(affected.look_ups, need, 100_000)
        assert not affected.repairs
        assert not found.deferred
        if affected.ids or found.ids:
            self.apply(affected.ids | found.ids, need)

    def apply(self, ids: set[str], need: Need) -> None:
        fetched = self.fetcher.documents(sorted(ids), need)
        assert not fetched.failed
        self.documents.update(fetched.documents)
        self.places.update(fetched.places)
        for gone in fetched.gone:
            self.documents.pop(gone, None)
            self.places.pop(gone, None)


class Stage(Protocol):
    """A database with the tables of `generated`, a writer, and a source. `name`: their schema."""

    name: str
    source: Source

    def rows(self) -> generated.Rows:
        """Return what the tables hold."""
        ...

    def write(self, seed: int, transactions: int) -> None:
        """Commit some of a random history."""
        ...


def plans(specs: Sequence[generated.Spec], views: Any, dialect: Dialect) -> list[Plan]:
    """Declare made-up projections with their views."""
    return [
        Plan(generated.projection(spec, f"p{i}", own), dialect)
        for i, (spec, own) in enumerate(zip(specs, views, strict=True))
    ]


def follow(stage: Stage, followers: Sequence[Follower], seed: int) -> None:
    """Write, and compare each document and its lists with what its rows say."""
    for part in range(3):
        stage.write(seed + part, 10)
        _catch_up(stage.source, followers)
        rows = stage.rows()
        for follower in followers:
            expected = generated.documents(follower.spec, rows)
            assert generated.parsed(follower.documents) == expected, follower.spec
            stored = [json.loads(document) for document in follower.documents.values()]
            assert_as_said(follower.plan, stored)
            listed = {k: entries(place) for k, place in follower.places.items()}
            expected = generated.places(follower.spec, follower.views, rows)
            assert listed == expected, (follower.spec, follower.views)


def views_of(
    chance: random.Random, spec: generated.Spec, dialect: Dialect
) -> list[generated.ViewSpec]:
    """Make up views that may be declared: a column shown in two collections is no key."""
    while True:
        views = generated.generate_views(chance, spec)
        try:
            Plan(generated.projection(spec, "p", views), dialect)
        except ConfigurationError as error:
            if "several places" not in str(error):
                raise
        else:
            return views


def _catch_up(source: Source, followers: Sequence[Follower]) -> None:
    end, deadline = source.current(), time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline
        transactions = source.read(0.5)
        if transactions is None:
            continue
        for follower in followers:
            follower.step(transactions)
        if transactions.position is not None and transactions.position.reaches(end):
            return


def assert_census(plan: Plan, schema: str) -> None:
    """Every table in every role has a route, and every table of a query is watched."""
    assert {id(r.node) for r in plan.routes} == {id(n) for n in plan.all_nodes()}
    watched = {watch.table for watch in plan.watches(schema)}
    assert watched == {TableName(schema, n.table.name) for n in plan.all_nodes()}
    for level in plan.levels:
        for name in generated.KEYS:
            if f" {name} " in level.sql.replace("\n", " ") + " ":
                assert TableName(schema, name) in watched
    routed = [x for r in plan.routes for x in (r.look_up, r.by_key) if x is not None]
    for look_up in routed:
        known = plan.look_ups[look_up.name]
        assert (known.sql, known.column_names) == (look_up.sql, look_up.column_names)
