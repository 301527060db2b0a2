"""What is shown of each role, under which name: the same for the projection and for its model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from projector.scaffold.roles import Role
from projector.scaffold.tables import Table

# What readers should not see unless somebody says so.
_SECRET = re.compile(
    r"passw|passphrase|passwd|(?:^|_)pass(?:_|$)|pwd|token|salt|secret|api_?key|private_?key|otp"
    r"|(?:^|_)hash$",
    re.IGNORECASE,
)
_BLOB = re.compile(r"\w+\.(?:(?:TINY|MEDIUM|LONG)?BLOB|LargeBinary)\b")


@dataclass(frozen=True, slots=True)
class Shown:
    """A column under its name in the document. `doubt`: why it is left out, if it is."""

    name: str
    source: str
    column: str
    kind: str
    is_nullable: bool
    doubt: str


@dataclass(frozen=True, slots=True)
class Shape:
    """An object of the document: the root, or the elements of a list."""

    role: Role
    name: str
    fields: tuple[Shown, ...]
    lists: tuple[Shape, ...]

    def all(self) -> Iterator[Shape]:
        """Yield the objects within and then this one."""
        for below in self.lists:
            yield from below.all()
        yield self


def shape(role: Role, name: str) -> Shape:
    """Lay out a role and what belongs to it, each with a name that no other has."""
    taken: set[str] = set()
    fields = tuple(_fields(role, taken))
    lists = []
    for below in role.lists:
        chosen = next(n for n in (below.name, f"{below.name}_rows", below.source) if n not in taken)
        taken.add(chosen)
        lists.append(shape(below, chosen))
    return Shape(role, name, fields, tuple(lists))


def _fields(role: Role, taken: set[str]) -> Iterator[Shown]:
    """The columns of a role and of what is joined to it."""
    for part in [role, *role.joins]:
        table = part.table
        shown = [c for c, kind in table.types.items() if kind and c not in part.hidden]
        doubts = {c: _doubt(c, table) for c in shown}
        if part is role and all(doubts.values()):  # an object has something to show
            shown = [c for c, kind in table.types.items() if kind]
            doubts = dict.fromkeys(shown, "")
        for column in shown:
            wanted = column if part is role else f"{part.name}_{column}"
            name = next(n for i in range(1, 10**6)
                        if (n := wanted if i == 1 else f"{wanted}_{i}") not in taken)  # fmt: skip
            taken.add(name)
            is_nullable = part is not role or column in table.nullable
            yield Shown(name, part.source, column, table.types[column], is_nullable, doubts[column])


def _doubt(column: str, table: Table) -> str:
    if _SECRET.search(column):
        return "a secret?"
    is_key = column in table.key or any(column in key.columns for key in table.references)
    return "a file?" if _BLOB.match(table.types[column]) and not is_key else ""
