"""The words in which a projection is declared. Values only; `graph` checks and understands them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import FromClause

from projector.errors import ConfigurationError
from projector.projection.values import (
    Expression,
    Field,
    Hashed,
    Manner,
    ZeroDates,
    require_option,
)

Repeated = Literal["last", "list", "refuse"]


@dataclass(frozen=True, slots=True)
class Join:
    """At most one row of `table` for each row of what it is joined to (a LEFT JOIN).

    `on` equates columns of `table` with columns of one table joined before; further conditions on
    those two may be added with `and_`. The same table joined again needs an alias. `pick`: where
    several rows match, the first in this order of the table's own columns, then by primary key.
    """

    table: FromClause
    on: Expression
    pick: Expression | Sequence[Expression] = ()


@dataclass(frozen=True, slots=True)
class Many:
    """A JSON array of the rows of `table` that belong to a row of the enclosing table.

    Either `fields` (an array of objects, with `collections` nested in them) or `value` (an array
    of plain values). Ordered by `order_by`, then by the primary key; `limit` keeps the first
    so many. `through`: tables on the way there of which each may have many rows, from the enclosing
    table on; the array stays flat. `joins` to-one joins of the element, by which a link table is
    crossed too; `where` keeps some rows only (and, with a joined table in it, makes that join
    compulsory).
    """

    name: str
    table: FromClause
    on: Expression
    fields: Sequence[Field] = ()
    value: Field | None = None
    joins: Sequence[Join] = ()
    collections: Sequence[Collection] = ()
    where: Expression | None = None
    order_by: Sequence[Expression] = ()
    limit: int | None = None
    through: Sequence[Join] = ()


@dataclass(frozen=True, slots=True)
class First:
    """The row that matters of those that a `Many` would list, as an object or as a plain value:
    the first by `order_by`, then by the primary key; null without rows."""

    name: str
    table: FromClause
    on: Expression
    fields: Sequence[Field] = ()
    value: Field | None = None
    joins: Sequence[Join] = ()
    collections: Sequence[Collection] = ()
    where: Expression | None = None
    order_by: Sequence[Expression] = ()
    through: Sequence[Join] = ()


@dataclass(frozen=True, slots=True)
class Pairs:
    """Key-value rows as one object, `{}` without rows; rows whose `key` is NULL are left out.

    Members stand in the order of their names. Of several rows with one key the `last` counts, by
    `order_by` and then by the primary key; or, by `repeated`, all are shown, as a `list` (of every
    key); or the document is set aside (`refuse`). `types`: how the texts of certain keys are
    written: a SQLAlchemy type, or a mapping of values to names. With an aggregate function as
    `value` the rows are counted by key: `value=func.count()`.
    """

    name: str
    table: FromClause
    on: Expression
    key: Field
    value: Field
    joins: Sequence[Join] = ()
    where: Expression | None = None
    order_by: Sequence[Expression] = ()
    repeated: Repeated = "last"
    types: Mapping[str, Any] = field(default_factory=dict)
    through: Sequence[Join] = ()

    def __post_init__(self) -> None:
        require_option(f"{self.name}: repeated", self.repeated, Repeated)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Figures over the rows of `table` that belong to a row of the enclosing table.

    Each of `fields` is a labelled aggregate function or an expression around some; without rows it
    is what SQL gives over none: a count 0, a sum null, `coalesce(sum(…), 0)` 0. Columns of the
    enclosing table are NULL there.
    """

    table: FromClause
    on: Expression
    fields: Sequence[Field]
    joins: Sequence[Join] = ()
    where: Expression | None = None
    through: Sequence[Join] = ()


@dataclass(frozen=True, slots=True)
class One:
    """The row of `table` that belongs to a row of the enclosing table, as an object; null where
    there is none, or `where` does not admit it. `on` as in a `Join`, whose rules hold: for one of
    several rows there is `First`. Its table is joined: conditions and fields beside it may read it.
    """

    name: str
    table: FromClause
    on: Expression
    fields: Sequence[Field]
    joins: Sequence[Join] = ()
    collections: Sequence[Collection] = ()
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """What a reference of one kind refers to, see `OneOf`."""

    table: FromClause
    fields: Sequence[Field]
    joins: Sequence[Join] = ()
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class OneOf:
    """An object of whichever table a polymorphic reference refers to; null where nothing matches.

    `kind` and `key` are columns of one table named before; `of` says by value of `kind` whose
    primary key `key` is. All kinds fill the same fields: `sa.null().label("email")` where a table
    has none.
    """

    name: str
    kind: Expression
    key: Expression
    of: Mapping[Any, Kind]

    def __post_init__(self) -> None:
        if not self.of:
            raise ConfigurationError(
                f"{self.name}: a OneOf of nothing",
                'Write OneOf(…, of={"User": Kind(users, fields=[users.c.name])}).',
            )


@dataclass(frozen=True, slots=True)
class Path:
    """An array of a value of a row and of those above it, up to the root of a hierarchy.

    `on` joins the first row, `parent` is its column that refers to the column in `on` of the row
    above. Not longer than `depth`; a loop ends where it would begin again. Of a row that moves
    every document below it is made again.
    """

    name: str
    table: FromClause
    on: Expression
    parent: Expression
    value: Field
    depth: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= _DEPTH_MAX:
            raise ConfigurationError(
                f"{self.name}: a depth of {self.depth} is not possible",
                f"Choose 1 to {_DEPTH_MAX}: each step is a join, of which a query has 61 at most.",
            )


_DEPTH_MAX = 24

Key = Expression | Hashed


@dataclass(frozen=True, slots=True)
class View:
    """Lists of documents beside the hash, one for each value of `key`, newest first.

    `name`: `by_status` is kept under `{tickets}:by:status:open`. `key`: a column of the root or of
    what is joined to it, of a collection (the document stands in the list of each of its values),
    or several of these; masked where its values must not stand in names of keys. Texts are one
    value where the column's collation calls them equal; `binary(column)` tells all apart.
    `newest`: a time or a number, the greatest first; NULL comes last. `where` leaves documents out.
    `keep`: so many of each list are certain to be kept, the newest.
    """

    name: str
    key: Key | Sequence[Key]
    newest: Expression
    where: Expression | None = None
    keep: int | None = None

    @property
    def keys(self) -> tuple[Key, ...]:
        """The parts of the key."""
        return tuple(self.key) if isinstance(self.key, list | tuple) else (self.key,)  # type: ignore[return-value]


Collection = Many | First | Pairs | Aggregate | One | OneOf | Path


@dataclass(frozen=True, slots=True)
class Projection:
    """One document for each row of `root` that `where` admits.

    `name`: the Redis hash. The document's id is the root's primary key. `fields` are columns or
    labelled expressions over root and joins, or what wraps one: a mask, a `Choice` … `document`:
    optional Pydantic model that readers use; the projection must fill exactly its fields.
    `refresh_s`: with a `where` that time alone makes false (`closed_at > NOW() - INTERVAL 90 DAY`),
    how often to look for documents that it no longer admits; each look reads the keys of all
    documents. `zone`, `zero_dates`: how all dates are kept, see `Moment`.
    """

    name: str
    root: FromClause
    fields: Sequence[Field]
    joins: Sequence[Join] = ()
    collections: Sequence[Collection] = ()
    where: Expression | None = None
    document: type[BaseModel] | None = field(default=None)
    refresh_s: float | None = None
    zone: str = "UTC"
    zero_dates: ZeroDates = "refuse"
    views: Sequence[View] = ()

    def __post_init__(self) -> None:
        if self.refresh_s is not None and (self.refresh_s <= 0 or self.where is None):
            raise ConfigurationError(
                f"{self.name}: refresh_s is a number of seconds above 0, for a projection with a"
                " where",
                "Correct it or leave it out.",
            )
        Manner(self.zone, self.zero_dates)

    @property
    def manner(self) -> Manner:
        """How its dates are kept."""
        return Manner(self.zone, self.zero_dates)
