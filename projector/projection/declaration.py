"""The words in which a projection is declared. Values only; `graph` checks and understands them."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Cast, ColumnElement, FromClause, LargeBinary, cast

from projector.errors import ConfigurationError

Expression = ColumnElement[Any]


@dataclass(frozen=True, slots=True)
class Join:
    """At most one row of `table` for each row of what it is joined to (a LEFT JOIN).

    `on` equates columns of `table` with columns of one table joined before; further conditions on
    those two may be added with `and_`. The same table joined again needs an alias.
    """

    table: FromClause
    on: Expression


@dataclass(frozen=True, slots=True)
class Many:
    """A JSON array of the rows of `table` that belong to a row of the enclosing table.

    Either `fields` (an array of objects, with `collections` nested in them) or `value` (an array
    of plain values). Ordered by `order_by`, then by the primary key; `limit` keeps the first
    so many. `joins` to-one joins of the element, by which a link table is crossed too; `where`
    keeps some rows only (and, with a joined table in it, makes that join compulsory).
    """

    name: str
    table: FromClause
    on: Expression
    fields: Sequence[Field] = ()
    value: Field | None = None
    joins: Sequence[Join] = ()
    collections: Sequence[Many | Aggregate] = ()
    where: Expression | None = None
    order_by: Sequence[Expression] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Figures over the rows of `table` that belong to a row of the enclosing table.

    Each of `fields` is a labelled aggregate function or an expression around some; without rows it
    is what SQL gives over none: a count 0, a sum null, `coalesce(sum(…), 0)` 0. Columns of the
    enclosing table are NULL there.
    """

    table: FromClause
    on: Expression
    fields: Sequence[Expression]
    joins: Sequence[Join] = ()
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """A column masked by a fixed text; null stays null."""

    column: Expression
    text: str = "***"

    def mask(self, value: str) -> str:
        """Give the text, whatever the value."""
        return self.text


@dataclass(frozen=True, slots=True)
class Hashed:
    """A column masked by its HMAC-SHA256 in hex: equal values stay equal, and say nothing else.

    The key is read from the environment variable `key_variable`, so that it stands in no module.
    """

    column: Expression
    key_variable: str

    def mask(self, value: str) -> str:
        """Give the keyed hash. Raises ConfigurationError when the key is not set."""
        key = os.environ.get(self.key_variable)
        if not key:
            raise ConfigurationError(
                f"{self.key_variable} is not set", "Set it to the key that masks the column."
            )
        return hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest()

    def key_mark(self) -> str:
        """Return what tells this key from another, and nothing of either; "" without a key."""
        return self.mask("the key itself") if os.environ.get(self.key_variable) else ""


@dataclass(frozen=True, slots=True)
class Partial:
    """A column of which only the first and last characters are shown, the rest as `*`."""

    column: Expression
    first: int = 1
    last: int = 0

    def mask(self, value: str) -> str:
        """Hide the middle; values too short to hide anything are hidden whole."""
        hidden = len(value) - self.first - self.last
        if hidden <= 0:
            return "*" * len(value)
        return value[: self.first] + "*" * hidden + value[len(value) - self.last :]


Mask = Fixed | Hashed | Partial
Field = Expression | Mask


@dataclass(frozen=True, slots=True)
class Projection:
    """One document for each row of `root` that `where` admits.

    `name`: the Redis hash. The document's id is the root's primary key. `fields` are columns or
    labelled expressions over root and joins; masks wrap a (labelled) column. `document`: optional
    Pydantic model that readers use; the projection must fill exactly its fields. `refresh_s`: with
    a `where` that time alone makes false (`closed_at > NOW() - INTERVAL 90 DAY`), how often to look
    for documents that it no longer admits; each look reads the keys of all documents.
    """

    name: str
    root: FromClause
    fields: Sequence[Field]
    joins: Sequence[Join] = ()
    collections: Sequence[Many | Aggregate] = ()
    where: Expression | None = None
    document: type[BaseModel] | None = field(default=None)
    refresh_s: float | None = None

    def __post_init__(self) -> None:
        if self.refresh_s is not None and (self.refresh_s <= 0 or self.where is None):
            raise ConfigurationError(
                f"{self.name}: refresh_s is a number of seconds above 0, for a projection with a"
                " where",
                "Correct it or leave it out.",
            )


def binary(column: Expression) -> Cast[bytes]:
    """Order or compare by bytes: collations of the server differ from how readers compare."""
    return cast(column, LargeBinary)


def expression_of(declared: Field) -> Expression:
    """Give what is selected for a field: the column of a mask, or the expression itself."""
    return declared.column if isinstance(declared, Fixed | Hashed | Partial) else declared
