"""MySQL's and MariaDB's common dialect, as `projection` asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from projector.errors import ConfigurationError
from projector.mysql import figures, likeness
from projector.mysql.likeness import Likeness
from projector.mysql.literals import literal, writer_for
from projector.projection.columns import BINARIES, MEMBERS, TEXTS, ColumnType
from projector.projection.dialect import Dialect, Sameness, Write
from projector.projection.folding import is_exact, is_foldable
from projector.projection.values import Expression


class MysqlDialect(Dialect):
    """Implements `projection.dialect.Dialect`."""

    known_collations = "utf8mb4_0900_ai_ci, utf8mb4_unicode_ci or utf8mb4_bin"

    def require(self, kind: TypeEngine[Any]) -> None:
        """Refuse arrays; see `Dialect`."""
        if isinstance(kind, sa.ARRAY):
            raise ConfigurationError(
                "ARRAY is a type that neither MySQL nor MariaDB has",
                "Declare the type that the column has.",
            )

    def literal(self, value: Any) -> str:
        """Write a value as a literal."""
        return literal(value)

    def writer(self, kind: ColumnType | None) -> Write:
        """Return how literals are written that are compared with a column."""
        return writer_for(kind)

    def beyond(
        self, column: str, kind: ColumnType | None, value: Any, write: Write, *, or_equal: bool
    ) -> str:
        """Write `column > value`: members of an ENUM are sorted by number."""
        operator = ">=" if or_equal else ">"
        if kind is None or kind.kind not in MEMBERS:
            return f"{column}{operator}{write(value)}"
        number = kind.number_of(value)
        if kind.kind == "set":  # sorted by number, and compared with a text as a text
            return f"{column}+0{operator}{number}"
        following = kind.members[max(0, number - 1 if or_equal else number) :]
        every = ["", *following] if or_equal and not number else following
        return f"{column} IN ({','.join(map(write, every))})" if every else "FALSE"

    def sameness(self, kind: ColumnType) -> Sameness:
        """Return which values of a column are one value, by its collation."""
        if kind.kind in BINARIES or is_exact(kind) or not kind.is_text:
            return Sameness.PADDED if kind.kind in TEXTS and kind.pads else Sameness.BYTES
        return Sameness.FOLDED if is_foldable(kind) else Sameness.UNKNOWN

    def likeness(self, own: ColumnType, other: ColumnType) -> Likeness:
        """Return how values of one column find rows by another."""
        return Likeness(own, other)

    def sought(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], likenesses: Sequence[Likeness]
    ) -> str:
        """Write a predicate that holds where the columns equal one of the rows."""
        return likeness.sought(columns, rows, likenesses)

    def settled(self, expression: Expression, key: Sequence[Expression]) -> Expression:
        """Return an expression of an aggregate that does not depend on the order of rows."""
        return figures.settled(expression, key)

    def null_like(self, column: Expression) -> Expression:
        """Return a NULL of a column's type: a NULL by itself would change those of the result."""
        return sa.func.max(column)


MYSQL = MysqlDialect(mysql.dialect(paramstyle="named"))  # named: a % in a query stays a single one
