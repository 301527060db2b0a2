"""Which tables stand in a document, and how they hang together."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from projector.errors import ConfigurationError, OperatorError
from projector.scaffold.tables import Catalog, Place, Reference, Table

_DEPTH = 3  # tables followed one after the other, from the root
_NESTED = 2  # lists in each other: each one is a query, and a wide schema has no end of them
_OWN_NAMES = set(
    "documents metadata sa mysql postgresql Join Many Projection pydantic Model".split()
)
_FOLLOW = re.compile(r"(?:([^.=\s]+)\.)?([^.=\s]+)=([^.=\s]+)\.([^.=\s]+)")


@dataclass(frozen=True, slots=True)
class Follow:
    """A column, of a certain table or of any, that refers to the column of another one."""

    table: str | None
    column: str
    other: str
    referred: str


@dataclass(slots=True)
class Role:
    """A table as it stands in the document. `source`: its variable. `pick`: the order by which one
    of several rows is chosen."""

    table: Table
    source: str
    name: str
    on: str = ""
    pick: str = ""
    hidden: set[str] = field(default_factory=set)  # columns that say what another one says
    joins: list[Role] = field(default_factory=list)
    lists: list[Role] = field(default_factory=list)


def read_follow(said: str) -> Follow:
    """Read `user_id=users.id` or `tickets.user_id=users.id`. Raises ConfigurationError."""
    match = _FOLLOW.fullmatch(said.strip())
    if match is None:
        raise ConfigurationError(
            f"--follow {said!r} cannot be read",
            "Write --follow 'column=table.column' or --follow 'table.column=table.column'.",
        )
    return Follow(*match.groups())


class Roles:
    """Gives each table its roles; one that stands in several has aliases."""

    def __init__(self, catalog: Catalog, follow: Sequence[Follow] = ()) -> None:
        self._catalog = catalog
        self._sources = set(_OWN_NAMES)
        self.variables: dict[Place, str] = {}
        self.tables: dict[Place, Table] = {}
        self.aliases: list[str] = []
        self._plain: set[str] = set()  # names of tables that stand somewhere without an alias
        self._followed = self._read(follow)

    def root(self, table: Table) -> Role:
        """Return the role of a document's table with all that belongs to it."""
        self._root = self._role(table, table.name)
        self._follow(self._root, self._root, _DEPTH)
        self._nest(self._root, [table], _NESTED)
        return self._root

    def unused(self, wanted: str) -> str:
        """Return a name of a variable that nothing else has."""
        name = re.sub(r"\W", "_", wanted)
        if keyword.iskeyword(name) or not name.isidentifier():
            name = f"t_{name}"
        if name in self._sources:
            name = next(n for i in range(2, 10**6) if (n := f"{name}_{i}") not in self._sources)
        self._sources.add(name)
        return name

    def _read(self, follow: Sequence[Follow]) -> dict[str, list[Reference]]:
        """Find the tables that have what is to be followed."""
        columns = self._catalog.columns() if follow else []
        known = {(column.table, column.name) for column in columns}
        remedy = f"Write its name as {self._catalog.lists_columns} does."
        found: dict[str, list[Reference]] = {}
        for said in follow:
            if (said.other, said.referred) not in known:
                raise OperatorError(
                    f"there is no column {said.other}.{said.referred} to follow to", remedy
                )
            own = [
                c.table for c in columns
                if c.name == said.column and said.table in (None, c.table)
                and (c.table, c.name) != (said.other, said.referred)
            ]  # fmt: skip
            if not own:
                where = f"{said.table}." if said.table else ""
                raise OperatorError(
                    f"there is no column {where}{said.column} to follow from", remedy
                )
            reference = Reference((said.column,), None, said.other, (said.referred,))
            for table in own:
                found.setdefault(table, []).append(reference)
        return found

    def _references(self, table: Table) -> list[Reference]:
        followed = self._followed.get(table.name, []) if table.schema is None else []
        return list(dict.fromkeys([*table.references, *followed]))

    def _role(self, table: Table, name: str) -> Role:
        """Let a table stand by itself the first time, by an alias from then on: a query cannot tell
        two tables of one name apart."""
        if table.place not in self.variables:
            self.variables[table.place] = self.unused(table.name)
            self.tables[table.place] = table
        variable = self.variables[table.place]
        if table.name not in self._plain:
            self._plain.add(table.name)
            return Role(table, variable, name)
        alias = self.unused(name)
        self.aliases.append(f"{alias} = {variable}.alias({alias!r})")
        return Role(table, alias, name)

    def _follow(self, base: Role, top: Role, depth: int, *, skip: Reference | None = None) -> None:
        """Join what `base` refers to; all joins stand at `top`."""
        for key in self._references(base.table):
            if key == skip or not depth:
                continue
            referred = self._catalog.table((key.schema, key.table))
            if referred.place == self._root.table.place and top is not self._root:
                continue  # the document itself
            is_unique = self._catalog.is_unique(referred, key.referred)
            if not is_unique and not referred.key:
                continue  # no order tells its rows apart
            short = re.sub(r"_(id|code|key)$", "", key.columns[0])
            role = self._role(referred, short if base is top else f"{base.name}_{short}")
            role.on = on(role.source, key.referred, base.source, key.columns)
            if not is_unique:
                role.pick = column(role.source, referred.key[0])
            role.hidden = set(key.referred)
            top.joins.append(role)
            if referred.place != base.table.place:
                self._follow(role, top, depth - 1)

    def _nest(self, base: Role, path: list[Table], depth: int) -> None:
        """Hang on `base` what refers to it. `path`: the tables of it and around it, of which but
        the root may stand in a list once more."""
        if not depth or not base.table.key:
            return
        for place, keys in self._referring(base.table):
            for key in keys:
                table = self._catalog.table(place)
                if table in path and base is not self._root:
                    continue
                name = _told_apart(table, key) if len(keys) > 1 else table.name
                role = self._role(table, name)
                role.on = on(role.source, key.columns, base.source, key.referred)
                role.hidden = set(key.columns)
                self._follow(role, role, 1, skip=key)
                base.lists.append(role)
                if table not in path:
                    self._nest(role, [*path, table], depth - 1)

    def _referring(self, table: Table) -> list[tuple[Place, list[Reference]]]:
        """Return what refers to a table, by the table that does, in the order of their names."""
        found: dict[Place, list[Reference]] = {}
        for place, reference in self._catalog.referring(table):
            found.setdefault(place, []).append(reference)
        for name, references in self._followed.items():
            for reference in references:
                if (reference.schema, reference.table) == table.place:
                    known = found.setdefault((None, name), [])
                    known += [reference] if reference not in known else []
        return sorted(found.items(), key=lambda each: (each[0][1], each[0][0] or ""))


def _told_apart(table: Table, key: Reference) -> str:
    return f"{table.name}_by_{'_'.join(key.columns)}"


def column(source: str, name: str) -> str:
    """Spell a column of a variable."""
    is_plain = name.isidentifier() and not keyword.iskeyword(name)
    if is_plain and not hasattr(sa.ColumnCollection, name):
        return f"{source}.c.{name}"
    return f"{source}.c[{name!r}]"


def on(own: str, columns: Sequence[str], other: str, referred: Sequence[str]) -> str:
    """Spell the condition of a join."""
    pairs = [
        f"{column(own, c)} == {column(other, r)}" for c, r in zip(columns, referred, strict=True)
    ]
    return pairs[0] if len(pairs) == 1 else f"sa.and_({', '.join(pairs)})"
