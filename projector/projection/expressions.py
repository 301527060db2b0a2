"""What may stand in a declared expression, as far as it can be seen without a server.

Refuses what would be counted over other rows than those meant, and what would be read without being
seen: a column that is hidden in a text or a subquery could change without a word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import Column, FromClause
from sqlalchemy.sql import functions, visitors
from sqlalchemy.sql.elements import ClauseElement, ColumnClause, Over, TextClause
from sqlalchemy.sql.selectable import ScalarSelect, SelectBase

from projector.errors import ConfigurationError
from projector.projection.values import Expression

# The aggregate functions of MySQL 9, MariaDB 12 and PostgreSQL 18.
_AGGREGATES = frozenset(
    "aggregate_strings any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count"
    " covar_pop covar_samp every group_concat json_agg json_arrayagg json_object_agg json_objectagg"
    " jsonb_agg jsonb_object_agg max min mode percentile_cont percentile_disc range_agg regr_slope"
    " st_collect std stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance"
    " xmlagg".split()
)
_CALLS = re.compile(rf"\b(?:{'|'.join(_AGGREGATES)})\s*\(", re.IGNORECASE)
_UNITS = "MICROSECOND|SECOND|MINUTE|HOUR|DAY|WEEK|MONTH|QUARTER|YEAR"
_NO_NAMES = re.compile(
    rf"'(?:[^'\\]|\\.|'')*'|\bINTERVAL\s+\S+\s+\w+|^\s*(?:\w+_)?(?:{_UNITS})\s*$|\b\w+\s*\(",
    re.IGNORECASE,
)


def require_plain(owner: str, expressions: Iterable[Expression | None]) -> None:
    """Refuse figures over several rows in what is said of single ones. `owner` names the place."""
    for element in _elements(owner, expressions):
        if isinstance(element, Over):
            raise ConfigurationError(
                f"{owner}: a window function ({_shown(element)}) counts over rows of other"
                " documents, too",
                "Leave it out; order_by and limit of a Many say which rows come first.",
            )
        if is_aggregate(element):
            raise ConfigurationError(
                f"{owner}: an aggregate function ({_shown(element)}) would make one row of the rows"
                " of many documents",
                "Give it to an Aggregate in the collections: Aggregate(table, on=…, fields=[…]);"
                " for a figure by kind nest it in a Many over a table of the kinds.",
            )


def require_figures(owner: str, expressions: Iterable[Expression], own: Collection[object]) -> None:
    """Refuse columns of the tables `own` outside of any function: of several rows chance would
    choose one. What functions make of them the server judges, which knows all of them."""
    for expression in expressions:
        for element in _outside_functions(expression):
            if isinstance(element, Over):
                require_plain(owner, [expression])
            if isinstance(element, Column) and any(element.table is table for table in own):
                raise ConfigurationError(
                    f"{owner}: {element} stands outside of any aggregate function",
                    "Write func.max(…) or another figure; for the rows themselves declare a Many.",
                )


def require_visible(
    owner: str, expressions: Iterable[Expression | None], sources: Iterable[FromClause]
) -> None:
    """Refuse what reads rows or columns that no declaration names."""
    names: set[str] = set()
    for source in sources:
        names.update(column.name.lower() for column in source.c)
        names.update(f"{part.lower()}." for part in str(source.description).split("."))
    for element in _elements(owner, expressions):
        if hidden := _words(element) & names:
            raise ConfigurationError(
                f"{owner}: a text names {sorted(hidden)[0].rstrip('.')}, whose changes would not be"
                " seen",
                "Write the column as table.c.name.",
            )


def is_aggregate(element: object) -> bool:
    """Whether this is an aggregate function, by SQLAlchemy's objects or in a text."""
    if isinstance(element, functions.FunctionElement):
        return str(getattr(element, "name", "")).lower() in _AGGREGATES
    return bool(_CALLS.search(_text(element)))


def is_figure(expression: Expression) -> bool:
    """Whether an expression adds rows up."""
    return any(is_aggregate(element) for element in visitors.iterate(expression))


def _outside_functions(expression: ClauseElement) -> Iterator[Any]:
    yield expression
    if not isinstance(expression, functions.FunctionElement | Over):
        for child in expression.get_children():
            yield from _outside_functions(child)


def _elements(owner: str, expressions: Iterable[Expression | None]) -> Iterator[Any]:
    for expression in expressions:
        for element in visitors.iterate(expression) if expression is not None else ():
            if isinstance(element, SelectBase | ScalarSelect):
                raise ConfigurationError(
                    f"{owner}: changes of what a subquery reads would not be seen",
                    "Declare its table: with a Join, a Many or an Aggregate.",
                )
            yield element


def _text(element: object) -> str:
    """Return what stands there as it is, outside of SQLAlchemy's objects."""
    if isinstance(element, TextClause):
        return element.text
    if isinstance(element, ColumnClause) and not isinstance(element, Column):
        return element.name if element.is_literal else f"{element.table or ''}.{element.name}"
    return ""


def _words(element: object) -> set[str]:
    text = _NO_NAMES.sub(" ", _text(element).replace("`", "")).lower()
    return {*re.findall(r"\w+", text), *re.findall(r"\w+\.", text)}


def _shown(element: Any) -> str:
    return " ".join(str(element).split())[:60]
