"""Views made ready: which columns of which query say in which lists a document stands.

Refuses what cannot be kept right: a key of which nobody can say what is one value, and what time or
chance alone would change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import functions, visitors

from projector.errors import ConfigurationError
from projector.projection.declaration import Aggregate, First, Key, Pairs, Projection, View
from projector.projection.dialect import Dialect
from projector.projection.expressions import require_plain
from projector.projection.levels import Level
from projector.projection.timed import VIEW as DUE
from projector.projection.timed import Timed, timed_in
from projector.projection.values import (
    WRAPPERS,
    Expression,
    Hashed,
    Manner,
    Moment,
    expression_of,
)

_NAME = re.compile(r"by_[a-z0-9_]{1,60}")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`")
_BY_TIME = re.compile(
    r"\b(?:now|sysdate|curdate|curtime|rand|random_bytes|uuid\w*|sys_guid|nextval|lastval|sleep"
    r"|connection_id|last_insert_id|found_rows|row_count|database|schema|version"
    r"|(?:session_|system_)?user)\s*\(|\bunix_timestamp\s*\(\s*\)|@"
    r"|\b(?:current_(?:date|time|timestamp|user|role)|localtime(?:stamp)?"
    r"|utc_(?:date|time|timestamp))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """A column of a result: of the query of which level, and the how manieth."""

    level: int
    index: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a key. `kind`: `text` is one value where the collation says so, `exact` is not;
    `whole`, `decimal`, `flag`, `date`, `uuid` and `hex` are written as in documents."""

    place: Place
    kind: str
    column: sa.Column[Any] | None
    mask: Hashed | None


@dataclass(frozen=True, slots=True)
class PlannedView:
    """A view whose columns are known. `name`: as it stands in keys, without `by_`. `manner`: in
    which `newest` is kept; `is_count`: it counts, so that it is 0 over no rows."""

    name: str
    declared: View
    parts: tuple[Part, ...]
    newest: Place
    is_time: bool
    where: Place | None
    keep: int
    manner: Manner
    is_count: bool

    @property
    def many(self) -> int | None:
        """The level of the collection whose values are keys, if there is one."""
        return next((p.place.level for p in self.parts if p.place.level), None)


@dataclass(frozen=True, slots=True)
class Views:
    """The views of a projection, and what is selected for them beyond the documents' columns.
    `timed`: the moments at which documents change by themselves, kept in a list as well."""

    planned: tuple[PlannedView, ...] = ()
    columns: tuple[Expression, ...] = ()
    timed: tuple[Timed, ...] = ()

    @property
    def in_use(self) -> bool:
        """Whether there are lists beside the documents."""
        return bool(self.planned or self.timed)

    @property
    def keep(self) -> dict[str, int]:
        """How many of each list are certain to be kept, by view; 0: all."""
        found = {view.name: view.keep for view in self.planned}
        return {**found, DUE: 0} if self.timed else found

    @property
    def masks(self) -> list[Hashed]:
        """The masks of keys."""
        return [part.mask for view in self.planned for part in view.parts if part.mask]


def plan_views(projection: Projection, levels: Sequence[Level], dialect: Dialect) -> Views:
    """Find the columns of each view. Raises ConfigurationError for one that cannot be kept."""
    names = [view.name for view in projection.views]
    for name in names:
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            raise ConfigurationError(
                f"{projection.name}: {name!r} is no name of a view, or of two",
                'Write by_ and lower-case letters, digits or _, each name once: "by_status".',
            )
    timed = timed_in(levels)
    if timed and f"by_{DUE}" in names:
        raise ConfigurationError(
            f"{projection.name}: by_{DUE} is the list of moments to come of {timed[0].name}",
            "Give the view another name.",
        )
    columns: list[Expression] = []
    seeker = _Seeker(projection, levels, columns, dialect)
    return Views(tuple(seeker.view(view) for view in projection.views), tuple(columns), timed)


class _Seeker:
    def __init__(
        self,
        projection: Projection,
        levels: Sequence[Level],
        columns: list[Expression],
        dialect: Dialect,
    ) -> None:
        self._dialect = dialect
        self._owner = projection.name
        self._projection = projection
        self._levels = levels
        self._columns = columns
        self._truths: dict[int, Expression] = {}  # by the identity of a `where`

    def view(self, view: View) -> PlannedView:
        owner = f"{self._owner}, view {view.name}"
        if not view.keys:
            raise ConfigurationError(f"{owner}: the key is empty", "Name a column.")
        if view.keep is not None and view.keep < 1:
            raise ConfigurationError(f"{owner}: keep is below 1", "Correct it or leave it out.")
        for name, given in (("newest", view.newest), ("where", view.where)):
            if given is not None and not isinstance(given, sa.ColumnElement):
                raise ConfigurationError(
                    f"{owner}: {name} is no column or expression",
                    "Write one, such as tickets.c.updated_at.",
                )
        parts = tuple(self._part(owner, key) for key in view.keys)
        if len({part.place.level for part in parts} - {0}) > 1:
            raise ConfigurationError(
                f"{owner}: the key is made of two collections", "Declare a view for each."
            )
        newest = self._place(owner, view.newest)
        if newest.level and not _is_one_a_document(self._levels[newest.level]):
            raise ConfigurationError(
                f"{owner}: newest is of a collection, which has many",
                "Name a column of the document's own, or a figure of an Aggregate.",
            )
        where = self._where(owner, view.where)
        is_time = _is_time(owner, view.newest)
        name = view.name.removeprefix("by_")
        manner = self._manner(newest, view.newest)
        is_count = isinstance(_bare(view.newest), functions.count)
        return PlannedView(
            name, view, parts, newest, is_time, where, view.keep or 0, manner, is_count
        )

    def _manner(self, place: Place, newest: Expression) -> Manner:
        """Return by which clock a time was written, as documents are told."""
        manner = self._projection.manner
        for each in _declared(self._projection, self._levels[place.level]):
            if isinstance(each, Moment) and _bare(each.column) is _bare(newest):
                manner = manner.but(each)
        return manner

    def _part(self, owner: str, key: Key) -> Part:
        mask = key if isinstance(key, Hashed) else None
        if mask is None and isinstance(key, WRAPPERS):  # the bare value would name the list
            raise ConfigurationError(
                f"{owner}: a {type(key).__name__} is no key: lists are named by values as they are",
                "Name the column itself, or hide its values with Hashed(column, …).",
            )
        expression = expression_of(key)
        if not isinstance(expression, sa.ColumnElement):
            raise ConfigurationError(
                f"{owner}: {key!r} is no key", "Name a column, binary(column) or Hashed(column, …)."
            )
        bare = _bare(expression)
        is_bytes = isinstance(bare, sa.Cast) and isinstance(bare.type, sa.LargeBinary)
        inner = _bare(bare.clause) if is_bytes else bare
        column = inner if isinstance(inner, sa.Column) else None
        kind = "exact" if is_bytes else _kind(owner, inner, column)
        place = self._place(owner, inner if is_bytes else expression)
        if isinstance(self._levels[place.level].node.declared, Aggregate):
            raise ConfigurationError(
                f"{owner}: a figure of an Aggregate is no key", "Name a column."
            )
        return Part(place, kind, column, mask)

    def _where(self, owner: str, where: Expression | None) -> Place | None:
        """Let the server say what is true: what a column shows need not tell."""
        if where is None:
            return None
        require_plain(owner, [where])
        if any(place.level for place in self._shown(where)):
            raise ConfigurationError(
                f"{owner}: where reads a collection", "Give the collection a where of its own."
            )
        known = self._truths.setdefault(id(where), sa.case((_bare(where), 1)))
        return self._place(owner, known)

    def _shown(self, wanted: Expression) -> list[Place]:
        """Find a column among those that documents show."""
        return [
            Place(number, level.body.writer.first + index)
            for number, level in enumerate(self._levels)
            for index, expression in enumerate(_selected(self._projection, level))
            if _bare(expression) is _bare(wanted)
        ]

    def _place(self, owner: str, wanted: Expression) -> Place:
        """Find a column among those selected, or select it beside them."""
        if _BY_TIME.search(_QUOTED.sub("''", self._dialect.compile(sa.select(wanted)))):
            raise ConfigurationError(
                f"{owner}: time or chance alone would change it without a row that changes",
                "Compare columns with constants only.",
            )
        found = {place.level: place for place in self._shown(wanted)}
        if len(found) > 1:
            raise ConfigurationError(
                f"{owner}: {_bare(wanted)} is shown in several places",
                'Give the table an alias in one of them: users.alias("owner").',
            )
        if found:
            return next(iter(found.values()))
        self._require_own(owner, wanted)
        for index, known in enumerate(self._columns):
            if known is wanted:
                return Place(0, self._width + index)
        self._columns.append(wanted)
        return Place(0, self._width + len(self._columns) - 1)

    @property
    def _width(self) -> int:
        return self._levels[0].width

    def _require_own(self, owner: str, wanted: Expression) -> None:
        """Refuse columns that the root's query does not have."""
        known = [node.source for node in self._levels[0].node.scope]
        for element in visitors.iterate(wanted):
            if isinstance(element, sa.Column) and not any(element.table is k for k in known):
                raise ConfigurationError(
                    f"{owner}: {element} is neither of the root, nor of a table joined to it, nor"
                    " a field of a collection",
                    "Join its table, or show the column in the collection.",
                )


def _is_one_a_document(level: Level) -> bool:
    """Whether a query has at most one row for each document: of a First or an Aggregate, unless
    that is nested in another collection."""
    is_single = isinstance(level.node.declared, Aggregate | First)
    return is_single and level.parent_width == level.key_width


def _selected(projection: Projection, level: Level) -> list[Expression]:
    """Return what a query selects for the document; a mask is no column to be read."""
    return [
        f if isinstance(f, sa.ColumnElement) else expression_of(f)
        for f in _declared(projection, level)
    ]


def _declared(projection: Projection, level: Level) -> list[Any]:
    declared = level.node.declared or projection
    if isinstance(declared, Pairs):
        return []
    value = getattr(declared, "value", None)
    return [value] if value is not None else list(getattr(declared, "fields", ()))


def _bare(expression: Any) -> Any:
    return expression.element if isinstance(expression, sa.Label) else expression


def _kind(owner: str, expression: Any, column: sa.Column[Any] | None) -> str:
    kind = expression.type
    known = (
        (sa.Boolean, "flag"), (sa.Integer, "whole"), (sa.Float, ""), (sa.Numeric, "decimal"),
        (sa.DateTime, ""), (sa.Date, "date"), (sa.Uuid, "uuid"), (sa.LargeBinary, "hex"),
        (sa.types._Binary, "hex"), (sa.JSON, ""), (sa.String, "text"), (sa.Enum, "text"),
    )  # fmt: skip
    found = next((name for each, name in known if isinstance(kind, each)), "")
    if found == "text" and column is None:
        raise ConfigurationError(
            f"{owner}: nobody can say which texts {' '.join(str(expression).split())[:60]} calls"
            " equal",
            "Name a column, or write binary(…) around it to tell all texts apart.",
        )
    if not found:
        raise ConfigurationError(
            f"{owner}: {kind!r} is no type of a key",
            "Use whole numbers, decimals, dates, texts or binary columns.",
        )
    if found == "hex" and getattr(kind, "length", None) == 16:
        return "uuid"
    return found


def _is_time(owner: str, newest: Expression) -> bool:
    kind = newest.type
    if isinstance(kind, sa.DateTime | sa.Date):
        return True
    if isinstance(kind, sa.Integer | sa.Numeric) and not isinstance(kind, sa.Boolean):
        return False
    raise ConfigurationError(
        f"{owner}: newest is neither a time nor a number", "Name a column of such a type."
    )
