"""Many worlds on few servers: a server stays for as long as worlds ask for its like."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Self

from tests.abroad.worlds.plan import Plan, Verdict
from tests.abroad.worlds.world import Fault, World
from tests.faults.faults import FAULTS
from tests.nursery import Nursery
from tests.servers import Flavour, start_database, start_redis

_MOST_SERVERS = 4
FOLDING = "--lower-case-table-names=1"
# What a server must be started with; the rest can be set on a running one.
_PROFILES: dict[Flavour, tuple[tuple[str, ...], ...]] = {
    Flavour.MYSQL: (
        ("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"),
        ("--innodb-native-foreign-keys=ON",),
        ("--innodb-native-foreign-keys=ON", "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"),
        ("--default-time-zone=+09:00", "--character-set-server=latin1"),
    ),
    Flavour.MARIADB: ((FOLDING,), ("--character-set-server=latin1", "--log-bin-compress=1")),
    Flavour.MARIADB_11: ((FOLDING,), ("--default-time-zone=+09:00", "--binlog-format=MIXED")),
}  # fmt: skip


@dataclass
class Tally:
    """How the worlds of a run ended."""

    words: Counter[str] = field(default_factory=Counter)
    failures: list[Verdict] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    documents: int = 0

    def note(self, verdict: Verdict) -> None:
        self.words[verdict.word] += 1
        self.documents += verdict.documents
        if verdict.is_failure:
            self.failures.append(verdict)
        if verdict.word == "refused":
            self.refusals[verdict.detail[:160]] += 1

    @property
    def share_refused(self) -> float:
        return self.words["refused"] / max(1, sum(self.words.values()))

    def __str__(self) -> str:
        said = ", ".join(f"{count} {word}" for word, count in self.words.most_common())
        lines = [f"{sum(self.words.values())} worlds, {self.documents} documents: {said}"]
        lines += [f"  refused {count}x: {why}" for why, count in self.refusals.most_common()]
        lines += [f"  FAILED {verdict.seed} on {verdict.server}" for verdict in self.failures]
        return "\n".join(lines)


class Runner:
    """Plays worlds; reports of failures go to `folder`, if there is one."""

    world: ClassVar[type[World]] = World
    flavours: ClassVar[Sequence[str]] = list(Flavour)
    faults: ClassVar[Sequence[Any]] = FAULTS
    profiles: ClassVar[Mapping[str, Sequence[tuple[str, ...]]]] = _PROFILES

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._servers: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._redis = self._stack.enter_context(start_redis())
        self._nursery = Nursery()
        self._stack.callback(self._nursery.close)
        self.tally = Tally()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.discard()
        self._stack.close()

    def faults_of(self, seed: int) -> list[Any]:
        """Return the faults that a seed's world is played with: three under load, one after it."""
        random = Random(f"{seed}:faults")
        return [*random.sample(self.faults, 3), random.choice(self.faults)]

    def play(
        self, plan: Plan, flavour: str | None = None, faults: Sequence[Fault] = ()
    ) -> tuple[World, Verdict]:
        """Play one world, on the server that its number chooses."""
        chance = Random(f"{plan.seed}:server")
        chosen = self.flavours[plan.seed % len(self.flavours)] if flavour is None else flavour
        options = chance.choice(self.profiles[chosen]) if chance.random() < 0.25 else ()
        if "server" in plan.without:
            options = ()
        world = self.world(
            plan, self._server(chosen, options), self._redis, self._nursery,
            is_folding=FOLDING in options, faults=faults,
        )  # fmt: skip
        try:
            verdict = world.play()
        except Exception:  # a mistake of ours is told like one of the product's
            verdict = Verdict(plan.seed, "", "broken", traceback.format_exc()[-2000:])
        verdict.server = " ".join([str(chosen), *options])
        self.tally.note(verdict)
        if verdict.is_failure and self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            report = f"{verdict}\n{world.report()}"
            (self._folder / f"world-{plan.seed}-{chosen}.txt").write_text(report, "utf-8")
        return world, verdict

    def start(self, flavour: str, options: tuple[str, ...]) -> Any:
        """Start a server."""
        return start_database(Flavour(flavour), options=options)

    def _server(self, flavour: str, options: tuple[str, ...]) -> Any:
        found = self._servers.pop((flavour, options), None)
        if found is None:
            while len(self._servers) >= _MOST_SERVERS:
                self._servers.pop(next(iter(self._servers))).discard()
            found = self.start(flavour, options)
        self._servers[flavour, options] = found  # the last one asked for is the last to end
        return found


def seeds_for(seconds: float, first: int) -> Iterator[int]:
    """Count from `first` until the time is over."""
    end = time.monotonic() + seconds
    seed = first
    while time.monotonic() < end:
        yield seed
        seed += 1
