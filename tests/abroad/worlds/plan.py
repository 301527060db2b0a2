"""A world's number, what is left out of it, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass
class Verdict:
    """How a world ended: right, refused, wrong, ended, stuck, skipped; and what to know of it."""

    seed: int
    server: str
    word: str
    detail: str = ""
    documents: int = 0
    seconds: float = 0.0

    @property
    def is_failure(self) -> bool:
        return self.word in {"wrong", "ended", "stuck", "broken"}

    def __str__(self) -> str:
        return f"world {self.seed} on {self.server}: {self.word} {self.detail}"


class Judged(Exception):
    """The world is over."""

    def __init__(self, word: str, detail: str) -> None:
        super().__init__(word, detail)
        self.word, self.detail = word, detail


INGREDIENTS = (
    "settings", "row-image", "odd-names", "generated", "polymorphic", "misdeclared", "engines",
    "foreign-keys", "outside", "triggers", "views", "account", "breaks", "kills", "xa-pending",
    "log-lost", "verify", "server", "absences", "unlike-keys", "refusals", "silent",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """All of a world that is decided before the server is asked. `without` are ingredients that are
    left out, `skipped` the numbers of statements that are not run."""

    seed: int
    without: frozenset[str] = frozenset()
    skipped: frozenset[int] = frozenset()

    def chance(self, ingredient: str) -> Random:
        """A source of chance for one ingredient; of one left out it always says no."""
        if ingredient in self.without:
            return _Never()
        return Random(f"{self.seed}:{ingredient}")


class _Never(Random):
    """Says no to every `random() < …` and takes the last choice."""

    def random(self) -> float:
        return 0.999999
