"""Statements written out, in MySQL's and MariaDB's common dialect, without parameters."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from projector.errors import ConfigurationError
from projector.projection.keys import literal
from projector.projection.nodes import Node

_KEYS = "/*keys*/TRUE"  # stands for the predicate in a compiled query
_DIALECT = mysql.dialect(paramstyle="named")  # named: a % in a query stays a single one

Statement = Any  # a sa.Select, whatever its columns' types


def compile_sql(statement: Statement) -> str:
    """Write a statement without parameters, in MySQL's and MariaDB's common dialect."""
    try:
        return str(_Compiler(_DIALECT, statement, compile_kwargs={"literal_binds": True}))
    except sa.exc.CompileError as error:
        raise ConfigurationError(
            f"a constant of the projection cannot be written in SQL: {str(error).split(';')[0]}",
            "Write a number, a text, bytes, a date or a time.",
        ) from None


class _Compiler(_DIALECT.statement_compiler):  # type: ignore[name-defined, misc]
    """Writes constants as they stand; refuses a parameter without one, which would be NULL."""

    def visit_bindparam(self, bindparam: Any, *arguments: Any, **options: Any) -> str:
        if bindparam.required and bindparam.callable is None:
            raise sa.exc.CompileError(f"the parameter {bindparam.key} has no value")
        return str(super().visit_bindparam(bindparam, *arguments, **options))

    def render_literal_value(self, value: Any, type_: Any) -> str:
        if isinstance(value, bytes):
            return literal(value)
        return str(super().render_literal_value(value, type_))


def keys_mark() -> sa.TextClause:
    """Return the predicate that `among` or another takes the place of."""
    return sa.text(_KEYS)


def with_keys(sql: str, predicate: str) -> str:
    """Put a predicate in place of the mark."""
    return sql.replace(_KEYS, predicate)


def spelled(column: sa.Column[Any]) -> str:
    """Write a column as in a compiled query."""
    return str(column.compile(dialect=_DIALECT))


def spelled_at(node: Node, name: str) -> str:
    """Write a column of a node as in a compiled query, also one that the projection leaves out."""
    column: Any = sa.column(name, _selectable=node.source)
    return str(column.compile(dialect=_DIALECT))
