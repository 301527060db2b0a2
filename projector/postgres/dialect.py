"""PostgreSQL's dialect, as `projection` asks for it.

Literals hold whatever a session says: standard_conforming_strings is on in every session of ours,
and no character but the quote means anything in a text then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.base import PGCompiler
from sqlalchemy.sql import operators, visitors
from sqlalchemy.types import TypeEngine

from projector.errors import ConfigurationError
from projector.postgres.names import quoted
from projector.projection.columns import ColumnType
from projector.projection.dialect import Dialect, Sameness, Statement, Write
from projector.projection.figures import name_of_function
from projector.projection.keys import among
from projector.projection.values import Expression

_AS_WRITTEN = "/*as written*/"  # begins a query whose joins are not to be put in order
FOLDS = "folds"  # the `charset` of a column whose collation calls unlike texts equal
NO_FORM = (
    postgresql.INTERVAL, postgresql.TSVECTOR, postgresql.TSQUERY, postgresql.MONEY,
    postgresql.ranges.AbstractRange,
)  # fmt: skip
_ORDERED = {"string_agg", "array_agg", "json_agg", "jsonb_agg", "xmlagg"}
_OBJECTS = {"json_object_agg", "jsonb_object_agg"}
_NUMBERS = {"int2", "int4", "int8", "oid", "numeric", "float4", "float8"}


class _Compiler(PGCompiler):
    """Casts a text to its bytes as they are: a cast of PostgreSQL's would read escapes."""

    def visit_cast(self, cast: Any, **options: Any) -> str:
        is_text = not isinstance(cast.clause.type, sa.types._Binary)
        if isinstance(cast.type, sa.types._Binary) and is_text:
            written = self.process(sa.cast(cast.clause, sa.Text), **options)
            return f"convert_to({written}, 'UTF8')"
        return str(super().visit_cast(cast, **options))  # type: ignore[no-untyped-call]


def _dialect() -> Any:
    make: Any = postgresql.dialect
    dialect = make(paramstyle="named")  # a % in a query stays a single one
    dialect.statement_compiler = _Compiler
    dialect._backslash_escapes = False  # standard_conforming_strings is on
    return dialect


@dataclass(frozen=True, slots=True)
class Likeness:
    """How values of a column of the type `own` find rows by a column of another type.

    A value is written as one of its column's own type and collation, so that the server compares it
    with the other column as it compares both columns in a join.
    """

    own: ColumnType

    is_known = True
    is_plain = True

    @property
    def write(self) -> Write:
        """How a value is written down."""
        return partial(_typed, self.own) if self.own.full else literal

    def suits(self, value: Any) -> bool:
        """Return whether a value may have come from such a column."""
        kind = self.own.kind
        if kind == "bytea":
            return isinstance(value, bytes)
        return not isinstance(value, bytes) and (
            kind not in _NUMBERS or not isinstance(value, str) or _is_number(value)
        )


class PostgresDialect(Dialect):
    """Implements `projection.dialect.Dialect`."""

    known_collations = "the database's default, or any other that is deterministic"

    def compile_down(self, statement: Statement) -> str:
        """Write a query that is best joined in the order in which it is written: to look for a
        better one takes longer than to read a few documents."""
        return f"{_AS_WRITTEN} {self.compile(statement)}"

    def require(self, kind: TypeEngine[Any]) -> None:
        """Refuse types without a form in JSON; see `Dialect`."""
        if isinstance(kind, NO_FORM):
            raise ConfigurationError(
                f"{type(kind).__name__} is a type without a form in JSON",
                "Cast the column: cast(table.c.name, String).label('name').",
            )

    def literal(self, value: Any) -> str:
        """Write a value as a literal."""
        return literal(value)

    def writer(self, kind: ColumnType | None) -> Write:
        """Return how literals are written that are compared with a column: of no type, so that they
        take the column's."""
        return literal

    def beyond(
        self, column: str, kind: ColumnType | None, value: Any, write: Write, *, or_equal: bool
    ) -> str:
        """Write `column > value`."""
        return f"{column}{'>=' if or_equal else '>'}{write(value)}"

    def sameness(self, kind: ColumnType) -> Sameness:
        """Return which values of a column are one value."""
        if kind.charset == FOLDS:
            return Sameness.UNKNOWN
        return Sameness.PADDED if kind.kind == "bpchar" else Sameness.BYTES

    def likeness(self, own: ColumnType, other: ColumnType) -> Likeness:
        """Return how values of one column find rows by another."""
        return Likeness(own)

    def sought(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], likenesses: Sequence[Likeness]
    ) -> str:
        """Write a predicate that holds where the columns equal one of the rows."""
        return among(columns, rows, [each.write for each in likenesses])

    def settled(self, expression: Expression, key: Sequence[Expression]) -> Expression:
        """Put what an aggregate lists in the order of the primary key, where none is declared."""

        def replace(element: Any, **_: Any) -> Any:
            is_listing = name_of_function(element) in _ORDERED | _OBJECTS | {"aggregate_strings"}
            return _in_order(element, key) if is_listing and key else None

        bare = expression.element if isinstance(expression, sa.Label) else expression
        settled: Expression = visitors.replacement_traverse(bare, {}, replace)
        return settled

    def null_like(self, column: Expression) -> Expression:
        """Return a NULL of a column's type: in a union a NULL takes that of the other query."""
        return sa.null()


def _in_order(function: Any, key: Sequence[Expression]) -> Any:
    """Return the function with an order; None where it has one. What is listed once each has no row
    of its own: it goes by itself."""
    *others, last = function.clauses
    listed = others[0] if others else last
    if any(isinstance(part, postgresql.aggregate_order_by) for part in visitors.iterate(function)):
        return None
    is_distinct = getattr(listed, "operator", None) is operators.distinct_op
    order = [listed.element] if is_distinct else list(key)
    ordered = postgresql.aggregate_order_by(last, *order)
    name = name_of_function(function).replace("aggregate_strings", "string_agg")
    return getattr(sa.func, name)(*others, ordered, type_=function.type)


def settings_of(sql: str) -> list[str]:
    """Return what is set for a query in its transaction."""
    return ["SET LOCAL join_collapse_limit = 1"] if sql.startswith(_AS_WRITTEN) else []


def literal(value: Any) -> str:
    """Write a value as a SQL literal that no content can break out of."""
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return f"'\\x{bytes(value).hex()}'::bytea"
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else quoted(str(value))
    if isinstance(value, float):
        return quoted(repr(value))
    return quoted(str(value))


def _typed(kind: ColumnType, value: Any) -> str:
    written = literal(value) if isinstance(value, bytes) else quoted(str(value))
    collated = f" COLLATE {kind.collation}" if kind.collation else ""
    return f"CAST({written} AS {kind.full}){collated}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


POSTGRES = PostgresDialect(_dialect())
