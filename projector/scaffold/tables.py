"""Tables as a server's catalog has them, as far as a projection's text needs them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from projector.errors import ConfigurationError, OperatorError

_NEAR = 3  # names that a wrong one may have meant

Place = tuple[str | None, str]  # schema (None: the default one) and name of a table


@dataclass(frozen=True, slots=True)
class Reference:
    """Columns that refer to those of another table: a foreign key, or what is to be followed."""

    columns: tuple[str, ...]
    schema: str | None
    table: str
    referred: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """`types`: by column, as Python; empty where they are of no use in a document. `comments`: by
    column, as far as there are any."""

    schema: str | None
    name: str
    types: Mapping[str, str]
    nullable: frozenset[str]
    key: tuple[str, ...]
    references: tuple[Reference, ...]
    has_zero_dates: bool = False
    comments: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """What tells it from others."""
        return self.schema, self.name


@dataclass(frozen=True, slots=True)
class Column:
    """A column as proposals see it: `type` without what does not matter to a comparison."""

    table: str
    name: str
    type: str
    is_indexed: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """What stands behind a name. `refused`: why it cannot be a table of documents, "" where it
    can; `remedy`: what to scaffold instead."""

    refused: str = ""
    remedy: str = ""


class Catalog(Protocol):
    """A server's catalog. `dialect`: the module of SQLAlchemy's that types are named by;
    `lists_tables`, `lists_columns`: what shows names as they are written here."""

    dialect: str
    lists_tables: str
    lists_columns: str

    @property
    def home(self) -> str:
        """The schema of tables that are named without one."""
        ...

    def place(self, name: str) -> Place:
        """Return the place that a name on the command line means."""
        ...

    def kinds(self, schema: str | None) -> Mapping[str, Kind]:
        """Return what there is in a schema, by name."""
        ...

    def root(self, place: Place) -> Table:
        """Return a table that is known to be there, whose key is to name documents."""
        ...

    def table(self, place: Place) -> Table:
        """Return a table that is known to be there."""
        ...

    def is_unique(self, table: Table, columns: Sequence[str]) -> bool:
        """Return whether values of these columns belong to at most one row."""
        ...

    def referring(self, table: Table) -> Sequence[tuple[Place, Reference]]:
        """Return the foreign keys that refer to a table, with the table that each belongs to, in
        the order of their names."""
        ...

    def columns(self) -> Sequence[Column]:
        """Return all columns of the tables that are named without a schema; none of views."""
        ...


def chosen(catalog: Catalog, name: str) -> Table:
    """Return the table of documents. Raises ConfigurationError where there is none of that name,
    OperatorError for what cannot be one."""
    schema, bare = catalog.place(name)
    kinds = catalog.kinds(schema)
    if (kind := kinds.get(bare)) is None:
        folded = {known.lower(): known for known in kinds}
        near = [known for known in kinds if bare.lower() in known.lower()][:_NEAR]
        near += [folded[n] for n in difflib.get_close_matches(bare.lower(), folded, _NEAR, 0.6)]
        meant = " or ".join(dict.fromkeys(near))
        meant = f"; did you mean {meant}?" if meant else ""
        raise ConfigurationError(
            f"there is no table {bare} in {schema or catalog.home}{meant}",
            f"Write its name as {catalog.lists_tables} does.",
        )
    if kind.refused:
        raise OperatorError(f"{bare} is {kind.refused}", kind.remedy)
    table = catalog.root((schema, bare))
    if not table.key:
        raise OperatorError(f"{bare} has no primary key", "Give it one: it names documents.")
    return table


def all_tables(columns: Sequence[Column]) -> Iterator[str]:
    """Yield the tables that have columns, each once."""
    yield from dict.fromkeys(column.table for column in columns)
