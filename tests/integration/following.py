"""Hashes that the daemon's parts keep for made-up projections, compared with their meaning."""

import contextlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from projector.errors import ConfigurationError
from projector.fetch import Fetcher
from projector.model import Need, TableName, Transactions, Watch
from projector.ports import Source
from projector.position import Position
from projector.projection import Plan
from projector.projection.dialect import Dialect
from projector.projection.timed import LIST
from projector.route import Router
from tests.examples import generated
from tests.memory_sink import entries
from tests.schema_check import assert_as_said

_PROJECTIONS = 6  # follow one history, since histories take longer than projections


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

    def compare(self, rows: generated.Rows) -> None:
        expected = generated.documents(self.spec, rows)
        assert generated.parsed(self.documents) == expected, self.spec
        assert_as_said(self.plan, [json.loads(document) for document in self.documents.values()])
        listed = {k: entries(place) for k, place in self.places.items()}
        due = {k for k, lists in listed.items() if lists.pop(LIST, None)}
        assert due >= {k for k, made in expected.items() if generated.waits(self.spec, made)}
        assert bool(due) <= bool(self.plan.views.timed)
        expected = generated.places(self.spec, self.views, rows)
        assert listed == expected, (self.spec, self.views)


class Stage(Protocol):
    """A database with the tables of `generated`, a writer, and a source. `name`: their schema;
    `takes_numbers`: whether a number alone is a condition."""

    name: str
    takes_numbers: bool
    dialect: Dialect
    source: Source

    def rows(self) -> generated.Rows:
        """Return what the tables hold."""
        ...

    def clear(self) -> None:
        """Delete all rows."""
        ...

    def write(self, seed: int, transactions: int) -> None:
        """Commit some of a random history."""
        ...

    def start(self, plans: Sequence[Plan]) -> tuple[Position, Sequence[Watch]]:
        """Start the source; return where it begins, and what it tells."""
        ...

    def fetcher(self, plan: Plan, start: Position) -> Fetcher:
        """Return what makes documents."""
        ...


def follow(stage: Stage, seed: int) -> None:
    """Make up projections and a history; compare each document and its lists, on and on, with what
    their rows say."""
    chance = random.Random(seed)
    specs = [generated.generate(chance) for _ in range(_PROJECTIONS)]
    stage.clear()
    stage.write(seed, 15)
    views = [_views(random.Random(f"{seed}/{i}"), spec, stage) for i, spec in enumerate(specs)]
    plans = [
        Plan(generated.projection(spec, f"p{i}", own), stage.dialect)
        for i, (spec, own) in enumerate(zip(specs, views, strict=True))
    ]
    for plan in plans:
        _assert_census(plan, stage.name)
    with contextlib.ExitStack() as stack:
        start, watches = stage.start(plans)
        stack.callback(stage.source.close)
        followers = []
        for plan, spec, own in zip(plans, specs, views, strict=True):
            fetcher = stage.fetcher(plan, start)
            stack.callback(fetcher.close)
            followers.append(Follower(plan, spec, Router(plan, stage.name, watches), fetcher, own))
            followers[-1].build(start)
        for part in range(3):
            stage.write(seed + part, 10)
            _catch_up(stage.source, followers)
            rows = stage.rows()
            for follower in followers:
                follower.compare(rows)


def _views(chance: random.Random, spec: generated.Spec, stage: Stage) -> list[generated.ViewSpec]:
    """Make up views that may be declared: a column shown in two collections is no key."""
    while True:
        views = generated.generate_views(chance, spec)
        for view in views:
            if view.where is not None and view.where[2] is None and not stage.takes_numbers:
                view.where = (*view.where[:2], 0)  # of this domain the same: above 0
        try:
            Plan(generated.projection(spec, "p", views), stage.dialect)
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


def _assert_census(plan: Plan, schema: str) -> None:
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
