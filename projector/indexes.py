"""By which columns a projection's queries and look-ups seek rows, and which indexes are missing.

The one judgement that `check` and `explain` share, on any server: of the catalog, which also knows
about tables that are still empty, and of the server's plans, which know of an index that cannot
serve. Only reads. Queries are explained for some documents that exist, look-ups for values that
stand in their tables, so that the server plans them as it does for the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal, Protocol

from sqlalchemy import Alias

from projector.model import TableName
from projector.projection import Plan
from projector.projection.columns import ColumnType
from projector.projection.nodes import Node
from projector.projection.routes import LookUp

SAMPLE = 3  # documents or values that a query is explained for
_IDS = 1000  # that a look-up asks for: a server asked for one may walk the ids until it finds it

Step = Mapping[str, Any]  # how a table is read: table (its role), type, key, rows, extra, and more
Compared = Mapping[str, Sequence[ColumnType]]  # columns, with the types they are compared with


class Lack(Enum):
    """What keeps a server from seeking rows."""

    MISSING = auto()
    UNFIT = auto()  # an index is there, and cannot be used


@dataclass(frozen=True, slots=True)
class Missing:
    """What a table is sought by without an index that serves. `rows`: the server's estimate;
    `alias`: the role of the table where it stands under another name; `fix`: what to do."""

    table: TableName
    alias: str
    columns: tuple[str, ...]
    rows: int
    is_there: bool  # an index is, and cannot be used
    fix: str

    @property
    def detail(self) -> str:
        """Return what it costs."""
        how = "the index on" if self.is_there else "no index begins with"
        end = " cannot serve" if self.is_there else ""
        columns = " or ".join(self.columns)
        role = f" (as {self.alias})" if self.alias else ""
        return f"{self.table}{role} is read whole (about {self.rows} rows): {how} {columns}{end}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What rows are sought by: columns with the types that they are compared with (none known), and
    columns that are held to constants."""

    compared: Compared
    constant: Sequence[str] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them, those compared first."""
        return tuple(dict.fromkeys([*self.compared, *self.constant]))

    def is_begun_by(self, index: Sequence[str], folded: Callable[[str], str] = str.lower) -> bool:
        """Whether an index leads to the rows: by one compared column at least, behind constants.
        `folded`: what names of columns are compared by."""
        compared, constant = set(map(folded, self.compared)), set(map(folded, self.constant))
        for column in map(folded, index):
            if column in compared:
                return True
            if column not in constant:
                return False
        return False


@dataclass(frozen=True, slots=True)
class Explained:
    """A query or look-up with the server's plan."""

    kind: Literal["query", "look-up"]
    name: str
    sql: str
    steps: Sequence[Step]
    missing: Sequence[Missing]


class Planner(Protocol):
    """What is asked of a server about a plan that is fitted to its tables. `UNLIKE`: what to do
    where the types of a join keep every index from serving."""

    UNLIKE: str

    def sample(self) -> Sequence[Sequence[Any]]:
        """Return the keys of some documents; invented where there are none."""
        ...

    def values(self, look_up: LookUp) -> Sequence[Sequence[Any]]:
        """Return values that a look-up begins with; invented where there are none."""
        ...

    def compared(self, look_up: LookUp) -> Compared:
        """Return what the columns that a look-up begins with are compared with."""
        ...

    def steps(self, sql: str) -> Sequence[Step]:
        """Return the server's plan of a query."""
        ...

    def lack(self, node: Node, wanted: Wanted, sql: str, steps: Sequence[Step]) -> Lack | None:
        """Return what keeps the query from seeking in the table of a node; None where it does, or
        could: a table of few rows is rightly read whole."""
        ...

    def remedy(self, node: Node, wanted: Wanted) -> str:
        """Write the statement that makes an index, or say why none would help."""
        ...

    def table(self, node: Node) -> TableName:
        """Return the server's name of a node's table."""
        ...

    def count(self, table: TableName) -> int:
        """Return how many rows there are, as far as that is known at once."""
        ...


def explained(plan: Plan, planner: Planner) -> list[Explained]:
    """Explain the projection's queries, then its look-ups. `plan` is fitted."""
    keys = [tuple(key) for key in planner.sample()]
    found = []
    for level in plan.asked:
        sql = level.query(keys, plan.codec)
        seeks = _seeks_down(level.node, plan)
        found.append(_explained("query", role(level.node), sql, seeks, planner))
    for name in dict.fromkeys(r.look_up.name for r in plan.routes if r.look_up):
        look_up = plan.look_ups[name]
        sql = look_up.query(planner.values(look_up), (), _IDS)
        seeks = _seeks_up(look_up, plan, planner.compared(look_up))
        found.append(_explained("look-up", look_up.name, sql, seeks, planner))
    return found


_Seek = tuple[Node, Wanted]  # a table in its role, and what it is sought by


def _explained(
    kind: Literal["query", "look-up"],
    name: str,
    sql: str,
    seeks: Iterator[_Seek],
    planner: Planner,
) -> Explained:
    steps = planner.steps(sql)
    missing: list[Missing] = []
    for node, wanted in seeks:
        lack = planner.lack(node, wanted, sql, steps)
        if lack is None or (lack is Lack.UNFIT and missing):
            continue  # for want of an index before it, the server may have begun at another table
        is_there = lack is Lack.UNFIT
        fix = planner.UNLIKE if is_there else planner.remedy(node, wanted)
        alias = node.source.description if isinstance(node.source, Alias) else ""
        table = planner.table(node)
        rows = planner.count(table)
        missing.append(Missing(table, alias, wanted.columns, rows, is_there, fix))
    return Explained(kind, name, sql, steps, missing)


def _seeks_down(node: Node, plan: Plan) -> Iterator[_Seek]:
    """From the root's keys to a collection, and to what is joined to it."""
    for other in dict.fromkeys([*reversed(list(node.path())), *node.to_one]):
        if other.parent is None:
            yield other, Wanted({column.name: () for column in other.key})
            continue
        parent = other.parent
        compared = {o.name: _known(plan.type_of(parent, p.name)) for o, p in other.pairs}
        yield other, Wanted(compared, other.constants)


def _seeks_up(look_up: LookUp, plan: Plan, compared: Compared) -> Iterator[_Seek]:
    """From a changed row's values to the root."""
    yield look_up.start, Wanted(compared)
    for below in look_up.start.path():
        if below.parent is not None:
            others = {o.name: _known(plan.type_of(below, own.name)) for own, o in below.pairs}
            yield below.parent, Wanted(others)


def _known(kind: ColumnType | None) -> list[ColumnType]:
    return [kind] if kind is not None else []


def role(node: Node) -> str:
    """Name a table by its place in the document."""
    return "/".join(reversed([step.source.description for step in node.path()]))


def servable(
    wanted: Wanted,
    types: Mapping[str, ColumnType],
    serves: Callable[[ColumnType | None, ColumnType | None], bool],
    unindexed: Collection[str],
    unlike: str,
) -> tuple[list[str], str]:
    """Return the columns of an index that would serve, those compared first; where there are none,
    why. `types`: by column, in lower case; `serves`: whether an index of one type leads to what
    equals a value of another; `unindexed`: types that have no index."""
    serving = [
        name
        for name, others in wanted.compared.items()
        if all(serves(types.get(name.lower()), other) for other in others)
    ]
    columns = [*serving, *(name for name in wanted.constant if name not in serving)]
    for name in columns:
        if (kind := types.get(name.lower())) and kind.kind in unindexed:
            return [], f"Join by a column that can have an index: {name} is {kind.kind}."
    return (columns, "") if serving else ([], unlike)


def free_name(wanted: str, longest: int, taken: Mapping[str, object] | set[str]) -> str:
    """Return a name of an index that nothing else has, cut where it is too long. `taken`: in lower
    case."""
    candidate, number = _cut(wanted, longest), 1
    while candidate.lower() in taken:
        number += 1
        end = f"_{number}"
        candidate = _cut(wanted, longest - len(end)) + end
    return candidate


def _cut(name: str, longest: int) -> str:
    return name.encode()[:longest].decode(errors="ignore")
