"""What a document is, in words of our own: roles, levels, conditions and fields.

Each expression is kept twice, as the product's Python and as the server's SQL; the two are written
side by side where it is made up, and nothing ever translates one into the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.abroad.worlds.schemas import Column, Table


@dataclass(frozen=True, slots=True)
class Said:
    """One expression in both languages."""

    python: str
    sql: str


@dataclass(eq=False, slots=True)
class Role:
    """A table in one role. `variable` is its name in the module."""

    table: Table
    name: str
    variable: str

    def column(self, column: Column) -> Said:
        python = f"{self.variable}.c[{column.name!r}]"
        quoted = self.table.quoted
        return Said(python, f"{quoted(self.name)}.{quoted(column.name)}")

    @property
    def keys(self) -> list[str]:
        """The columns that tell its rows apart, as SQL."""
        return [self.column(c).sql for c in self.table.key or self.table.columns]

    @property
    def source(self) -> str:
        if self.name == self.table.name:
            return self.table.sql
        return f"{self.table.sql} AS {self.table.quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a document. `mask`: how it is hidden, and from whom it is known that it is."""

    name: str
    said: Said
    shape: str
    mask: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """At most one row of `role` beside what it is joined to."""

    role: Role
    on: Said


@dataclass(slots=True)
class Level:
    """The root, a collection (`many`), an array of plain values (`values`) or an `aggregate`."""

    kind: str
    name: str
    role: Role
    on: Said | None = None
    joins: list[Joined] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
    where: Said | None = None
    order: list[Said] = field(default_factory=list)
    limit: int | None = None
    children: list[Level] = field(default_factory=list)

    @property
    def roles(self) -> list[Role]:
        return [self.role, *(joined.role for joined in self.joins)]

    def all(self) -> Iterator[Level]:
        yield self
        for child in self.children:
            yield from child.all()
