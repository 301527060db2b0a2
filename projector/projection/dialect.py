"""What the SQL of servers differs in, and how statements are written out without parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from projector.errors import ConfigurationError
from projector.projection.columns import ColumnType
from projector.projection.nodes import Node
from projector.projection.values import Expression

_KEYS = "/*keys*/TRUE"  # stands for the predicate in a compiled query

Statement = Any  # a sa.Select, whatever its columns' types
Write = Callable[[Any], str]  # a value as SQL


class Sameness(Enum):
    """Which values of a column are one value to the server."""

    BYTES = auto()  # those of the same characters
    PADDED = auto()  # spaces at the end do not count
    FOLDED = auto()  # its collation's: what each character weighs can be asked
    UNKNOWN = auto()  # nobody can say beforehand


class Likeness(Protocol):
    """How values of one column, written down, find the rows of another that a join by both would
    find."""

    @property
    def is_known(self) -> bool:
        """Whether there is a way at all; the rest has no meaning in any schema."""
        ...

    @property
    def is_plain(self) -> bool:
        """Whether literals find at least what the join finds, whatever the values."""
        ...

    @property
    def write(self) -> Write:
        """How a value is written down."""
        ...

    def suits(self, value: Any) -> bool:
        """Return whether a value may have come from such a column."""
        ...


class Dialect(ABC):
    """How one kind of server is spoken to. Stateless.

    `known_collations`: some of which it is known beforehand which texts they call equal.
    """

    known_collations: str

    def __init__(self, dialect: Any) -> None:
        self._dialect = dialect
        self._compiler = _compiler(dialect.statement_compiler, self.literal)

    def compile(self, statement: Statement) -> str:
        """Write a statement without parameters. Raises ConfigurationError."""
        try:
            return str(self._compiler(self._dialect, statement, compile_kwargs=_LITERAL))
        except sa.exc.CompileError as error:
            said = str(error).split(";")[0]
            raise ConfigurationError(
                f"a constant of the projection cannot be written in SQL: {said}",
                "Write a number, a text, bytes, a date or a time.",
            ) from None

    def compile_down(self, statement: Statement) -> str:
        """Write a query from the root down, by the root's keys."""
        return self.compile(statement)

    def spell(self, column: sa.Column[Any]) -> str:
        """Write a column as in a compiled query."""
        return str(column.compile(dialect=self._dialect))

    def spell_at(self, node: Node, name: str) -> str:
        """Write a column of a node as in a compiled query, also one that the projection leaves
        out."""
        return self.spell(sa.column(name, _selectable=node.source))  # type: ignore[arg-type]

    @abstractmethod
    def require(self, kind: TypeEngine[Any]) -> None:
        """Raise ConfigurationError for a declared type that no such server has."""

    @abstractmethod
    def literal(self, value: Any) -> str:
        """Write a value as a literal that no setting, character set or content can break out of."""

    @abstractmethod
    def writer(self, kind: ColumnType | None) -> Write:
        """Return how literals are written that are compared with a column."""

    @abstractmethod
    def beyond(
        self, column: str, kind: ColumnType | None, value: Any, write: Write, *, or_equal: bool
    ) -> str:
        """Write `column > value`, or `>=`, in the order by which the server sorts the column."""

    @abstractmethod
    def sameness(self, kind: ColumnType) -> Sameness:
        """Return which values of a column are one value."""

    @abstractmethod
    def likeness(self, own: ColumnType, other: ColumnType) -> Likeness:
        """Return how values of a column of the type `own` find rows by one of the type `other`."""

    @abstractmethod
    def sought(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], likenesses: Sequence[Any]
    ) -> str:
        """Write a predicate that holds where the columns equal, as columns, one of the rows.
        `likenesses` are this dialect's own."""

    @abstractmethod
    def settled(self, expression: Expression, key: Sequence[Expression]) -> Expression:
        """Return an expression of an aggregate that does not depend on the order of rows. `key`: of
        one of the rows that are added up."""

    @abstractmethod
    def null_like(self, column: Expression) -> Expression:
        """Return a NULL of a column's type, for a query that adds up no rows."""


_LITERAL = {"literal_binds": True}


def _compiler(base: Any, literal: Write) -> Any:
    """Return a compiler that writes constants as they stand, and refuses a parameter without one,
    which would be NULL."""

    class Compiler(base):  # type: ignore[misc]
        def visit_bindparam(self, bindparam: Any, *arguments: Any, **options: Any) -> str:
            if bindparam.required and bindparam.callable is None:
                raise sa.exc.CompileError(f"the parameter {bindparam.key} has no value")
            return str(super().visit_bindparam(bindparam, *arguments, **options))

        def render_literal_value(self, value: Any, type_: Any) -> str:
            if isinstance(value, bytes):
                return literal(value)
            return str(super().render_literal_value(value, type_))

    return Compiler


def keys_mark() -> sa.TextClause:
    """Return the predicate that `among` or another takes the place of."""
    return sa.text(_KEYS)


def with_keys(sql: str, predicate: str) -> str:
    """Put a predicate in place of the mark."""
    return sql.replace(_KEYS, predicate)
