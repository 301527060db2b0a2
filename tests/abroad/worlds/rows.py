"""What statements over made-up tables have in common on all servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import ClassVar

from tests.abroad.worlds.schemas import Column, Schema, Table, quoted


class Rows:
    """Makes parts of statements. Each server's grammar has its own `_insert`."""

    sessions: ClassVar[Sequence[str]] = ()  # what clients may set before they work
    quoted: ClassVar[Callable[[str], str]] = staticmethod(quoted)

    def __init__(self, random: Random, schema: Schema) -> None:
        self._random, self._schema = random, schema
        self._counter = 0
        self._added: list[tuple[Table, str]] = []
        self._has_view = any("CREATE VIEW" in extra for extra in schema.extras)

    def fill(self) -> list[str]:
        """Return inserts of the first rows."""
        tables = sorted(self._schema.tables, key=lambda table: table.is_watched)
        found = []
        for _ in range(2):
            for table in tables:
                found += [self._insert(table) for _ in range(self._random.choice([2, 6, 10]))]
        return found

    def session(self) -> list[str]:
        """Return what a client sets before it works."""
        if self._random.random() < 0.6:
            return []
        return self._random.sample(self.sessions, self._random.choice([1, 1, 2]))

    def _insert(self, table: Table) -> str:
        raise NotImplementedError

    def _row(self, table: Table) -> str:
        return f"({', '.join(self._value(column) for column in table.writable)})"

    def _rows(self, table: Table) -> str:
        return ", ".join(self._row(table) for _ in range(self._random.choice([1, 1, 2, 4])))

    def _value(self, column: Column) -> str:
        if column.is_nullable and self._random.random() < 0.15:
            return "NULL"
        return self._random.choice(column.kind.literals)

    def _copied(self, table: Table, chance: float) -> str:
        """The columns of a row, some of them with other values."""
        return ", ".join(
            self._value(c)
            if c in table.key or self._random.random() < chance
            else self.quoted(c.name)
            for c in table.writable
        )

    def _changes(self, columns: Sequence[Column], prefix: str = "") -> str:
        chosen = self._random.sample(columns, min(len(columns), self._random.choice([1, 1, 2])))
        return ", ".join(f"{prefix}{self.quoted(c.name)} = {self._value(c)}" for c in chosen)

    @staticmethod
    def _beside_key(table: Table) -> list[Column]:
        return [c for c in table.writable if c not in table.key] or table.writable

    @staticmethod
    def _of_keys(table: Table) -> list[Column]:
        keys = [*table.key, *(column for unique in table.unique for column in unique)]
        return list({c.name: c for c in keys or table.writable if not c.generated}.values())

    def _seen(self) -> Table:
        """The table behind the view."""
        made = next(extra for extra in self._schema.extras if "CREATE VIEW" in extra)
        return next(t for t in self._schema.tables if made.endswith(f"FROM {t.sql}"))
