"""Projections made up at random, each with what it means evaluated row by row in Python.

Four tables (by number, by two columns, by string, and a free link) whose columns all draw from one
small domain, so that any may be joined with any other of its type. `Spec` is a table in its role;
`projection` declares it in the product's words, `documents` says what that should give.
"""

import datetime
import functools
import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from projector.projection import (
    Aggregate,
    Choice,
    Encoded,
    First,
    Fixed,
    Flags,
    Join,
    Json,
    Kind,
    Many,
    Moment,
    One,
    OneOf,
    Pairs,
    Passed,
    Path,
    Projection,
    View,
)
from tests.examples.history import Columns, Tables, between, texts

KEYS = {"one": ["id"], "two": ["id", "k"], "text": ["s"], "link": ["id"]}
NUMBERS = ("id", "k", "a", "b")
DDL = ";".join(
    f"CREATE TABLE `{table}` (id INT{' NOT NULL' if 'id' in key else ''}, k INT NOT NULL, a INT,"
    " b INT, s VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,"
    f" PRIMARY KEY ({', '.join(key)}))"
    for table, key in KEYS.items()
)
HISTORY: Tables = {
    table: Columns(key, {
        "id": between(1, 6, 0 if "id" in key else 0.2), "k": between(1, 2),
        "a": between(1, 6, 0.2), "b": between(1, 6, 0.2), "s": texts("p", "P", "q", "r"),
    })
    for table, key in KEYS.items()
}  # fmt: skip

_METADATA = sa.MetaData()
_TABLES = {
    name: sa.Table(
        name, _METADATA,
        *(sa.Column(c, sa.Integer, primary_key=c in key) for c in NUMBERS),
        sa.Column("s", sa.String(5), primary_key="s" in key),
    )
    for name, key in KEYS.items()
}  # fmt: skip
_NAMES = {1: "low", 2: "high", 3: None}
_BITS = {1: "one", 2: "two", 4: "four"}
_WRAPS = ["", "", "", "choice", "flags", "passed", "moment"]
_OF_TEXT = ["", "", "fixed", "encoded", "json", "no json"]
_ZONE = "Europe/Berlin"
# Of a number above 2, and of others.
_COME, _TO_COME = (datetime.datetime(year, 2, 3, 4, 5, 6) for year in (2001, 2201))

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Row]]  # by table


class NullsGreatest(dict[str, Sequence[Row]]):
    """Rows of PostgreSQL, which sorts NULL behind everything."""


Environment = Mapping[str, Row | None]  # the row that stands in each role; None: no such row
Sources = Mapping[str, sa.FromClause]


@dataclass
class Spec:
    """A table in a role. `pairs`: own column, the other role, its column. `conditions`: what `on`
    says beside them: role, column and the number that it is. `where`: role, column, and the number
    that it must be above. `fields`: role, column, and what wraps it. `order`: column, and whether
    it descends; of a join with several partners it picks one. `kinds`: of a reference, by number.
    `parent`: of a path. `through`: tables on the way."""

    table: str
    role: str
    pairs: Sequence[tuple[str, str, str]] = ()
    conditions: Sequence[tuple[str, str, int]] = ()
    fields: Sequence[tuple[str, str, str]] = ()
    joins: list["Spec"] = field(default_factory=list)
    collections: list["Spec"] = field(default_factory=list)
    where: tuple[str, str, int] | None = None
    limit: int | None = None
    kind: str = "many"
    order: tuple[str, bool] | None = None
    through: list["Spec"] = field(default_factory=list)
    kinds: dict[int, "Spec"] = field(default_factory=dict)
    parent: str = ""
    repeated: str = "last"

    @property
    def roles(self) -> list["Spec"]:
        return [self, *self.joins, *self.through]

    @property
    def taken(self) -> list["Spec"]:
        """All roles that stand in its rows, those of objects within them too."""
        inner = [c for c in self.collections if c.kind in _INSETS]
        inner += [kind for c in inner for kind in c.kinds.values()]
        return [*self.roles, *(role for c in inner for role in c.taken)]


_INSETS = {"one", "one_of", "path"}
_KINDS = ["many"] * 4 + ["aggregate", "aggregate", "first", "first", "pairs", "pairs", "counts"]
_KINDS += ["one", "one", "one", "one_of", "path"]


@dataclass
class ViewSpec:
    """Lists of documents. `key`: of each part the collection (None: the root's), role, column.
    `newest`: role and column, or "" and the name of a figure. `where`: role, column, and the number
    that it must be above, None: it is true."""

    key: Sequence[tuple[int | None, str, str]]
    newest: tuple[str, str]
    where: tuple[str, str, int | None] | None


def generate_views(chance: random.Random, spec: Spec) -> list[ViewSpec]:
    """Make up some views of a projection, with keys of one or two parts, now and then of a
    collection."""
    found = []
    lists = [
        (number, role, column)
        for number, child in enumerate(spec.collections) if child.kind == "many"
        for role, column, wrap in child.fields if not wrap
    ]  # fmt: skip
    for _ in range(chance.choice([1, 2, 3])):
        key: list[tuple[int | None, str, str]] = [
            (None, chance.choice(spec.roles).role, chance.choice([*NUMBERS, "s"]))
            for _ in range(chance.choice([1, 1, 2]))
        ]
        if lists and chance.random() < 0.5:
            key.append(chance.choice(lists))
        newest = (chance.choice(spec.roles).role, chance.choice(NUMBERS))
        figures = [n for n, child in enumerate(spec.collections) if child.kind == "aggregate"]
        if figures and chance.random() < 0.3:
            newest = "", f"c{chance.choice(figures)}_{chance.choice(['n', 'max', 'distinct'])}"
        number = chance.choice([None, *range(5)])
        where = (chance.choice(spec.roles).role, chance.choice(NUMBERS), number)
        found.append(ViewSpec(key, newest, where if chance.random() < 0.4 else None))
    return found


def generate(chance: random.Random) -> Spec:
    """Make up a projection: one to three levels."""
    root = Spec(chance.choice(list(KEYS)), "")
    root.role = root.table
    _Author(chance, root).fill(root, [], 0)
    return root


class _Author:
    """`outer`: the roles that are taken above; those of the level around are at its end."""

    def __init__(self, chance: random.Random, root: Spec) -> None:
        self._chance = chance

    def fill(self, spec: Spec, outer: list[Spec], depth: int, base: Spec | None = None) -> None:
        """`base`: with whose rows those of an object are read."""
        chance, base = self._chance, base or spec
        taken = {other.role for other in [*outer, *base.taken, *spec.taken]}
        for _ in range(chance.choice([0, 1, 2, 3])):
            join = self._to_one(chance.choice(spec.roles), taken)
            if chance.random() < 0.3:
                join.order = (chance.choice(NUMBERS), chance.random() < 0.5)
                own, above, other = join.pairs[0]
                if own != "s":
                    join.pairs = [(chance.choice(NUMBERS), above, other)]
            spec.joins.append(join)
        spec.fields = self._fields(spec)
        if chance.random() < 0.4:
            around = spec.roles if not spec.pairs else [*spec.roles, *_around(spec, outer)]
            spec.where = (chance.choice(around).role, chance.choice(NUMBERS), chance.randint(0, 4))
        if spec.kind not in {"many", "first", "one"} or depth == 3:
            return
        for _ in range(chance.choice([0, 1, 2]) if depth else 3):
            self._collection(spec, outer, depth, base)

    def _fields(self, spec: Spec) -> list[tuple[str, str, str]]:
        chance = self._chance
        found = [
            (other.role, column, "")
            for other in spec.roles
            for column in chance.sample(["id", "k", "a", "b", "s"], 2)
        ]
        if spec.kind == "counts":
            numbers = [(role, c, "listed") for role, c, _ in found if c != "s"]
            return [chance.choice([*numbers, *found])]
        return [(role, c, chance.choice(_OF_TEXT if c == "s" else _WRAPS)) for role, c, _ in found]

    def _to_one(self, above: Spec, taken: set[str], tables: Sequence[str] = tuple(KEYS)) -> Spec:
        chance = self._chance
        table = chance.choice(tables)
        role = _role(table, taken)
        taken.add(role)
        pairs = [
            (own, above.role, own if own == "s" else chance.choice(NUMBERS)) for own in KEYS[table]
        ]
        return Spec(table, role, pairs, self._conditions(role, above.role))

    def _collection(self, spec: Spec, outer: list[Spec], depth: int, base: Spec) -> None:
        chance = self._chance
        taken = {other.role for other in [*outer, *base.taken, *spec.taken]}
        above, kind = chance.choice(spec.roles), chance.choice(_KINDS)
        if kind not in _INSETS:  # belongs to the row that is listed, not on the way to it
            hanging = [role for role in spec.roles if _hangs_on(role, base)]
            if not hanging:
                return
            above = chance.choice(hanging)
        if kind in _INSETS:
            child = self._inset(kind, above, taken)
            spec.collections.append(child)
            if kind == "one":
                child.kind = "one"
                self.fill(child, outer, depth + 1, base)
            return
        through: list[Spec] = []
        for _ in range(chance.choice([0, 0, 0, 1, 1, 2])):
            hop = self._to_many(through[-1] if through else above, taken, above)
            through.append(hop)
        child = self._to_many(through[-1] if through else above, taken, above)
        child.kind, child.through = kind, through
        child.limit = chance.choice([None, None, 2]) if kind == "many" else None
        if kind in {"many", "first", "pairs"} and chance.random() < 0.6:
            child.order = (chance.choice(NUMBERS), chance.random() < 0.5)
        child.repeated = chance.choice(["last", "list"])
        spec.collections.append(child)
        self.fill(child, [*outer, *base.taken], depth + 1)

    def _to_many(self, above: Spec, taken: set[str], top: Spec) -> Spec:
        """`top`: what the way to it begins at, which its conditions may read as well."""
        chance = self._chance
        table = chance.choice(list(KEYS))
        role = _role(table, taken)
        taken.add(role)
        own = chance.choice([*NUMBERS, "s"])
        pairs = [(own, above.role, "s" if own == "s" else chance.choice(NUMBERS))]
        read = chance.choice([above, top]).role
        return Spec(table, role, pairs, self._conditions(role, read))

    def _inset(self, kind: str, above: Spec, taken: set[str]) -> Spec:
        chance = self._chance
        if kind == "one":
            return self._to_one(above, taken)
        by_number = ["one", "link"]
        child = self._to_one(above, taken, by_number)
        child.kind, child.conditions = kind, ()
        if kind == "path":
            others = [column for column in ("a", "b", "id") if column != child.pairs[0][0]]
            child.parent, child.limit = chance.choice(others), chance.randint(1, 4)
            child.fields = [(child.role, chance.choice(["s", "k"]), "")]
            return child
        key = child.pairs[0][2]
        child.parent = chance.choice(NUMBERS)  # says the kind
        for number in (1, 2):
            of = self._to_one(above, taken, by_number)
            of.pairs = [("id", above.role, key)]
            of.conditions = [(above.role, child.parent, number)]
            of.fields = [(of.role, "s", ""), (of.role, "a", "choice")]
            if chance.random() < 0.5:
                of.where = (of.role, chance.choice(NUMBERS), chance.randint(0, 4))
            child.kinds[number] = of
        return child

    def _conditions(self, role: str, above: str) -> list[tuple[str, str, int]]:
        """Mostly none, else one or two of the own row or of the row above."""
        chance = self._chance
        return [
            (chance.choice([role, role, above]), chance.choice(["k", "a"]), chance.randint(1, 2))
            for _ in range(chance.choice([0, 0, 1, 2]))
        ]


def _hangs_on(spec: Spec, base: Spec) -> bool:
    """Whether a role is the list's own, or is joined to it and not to what leads to it."""
    by_role = {other.role: other for other in base.taken}
    while spec is not base:
        if spec in base.through or not spec.pairs or spec.pairs[0][1] not in by_role:
            return False
        spec = by_role[spec.pairs[0][1]]
    return True


def _around(spec: Spec, outer: list[Spec]) -> list[Spec]:
    """The role that a collection belongs to: its conditions may read it, and what is joined to
    it."""
    above = spec.pairs[0][1]
    return [other for other in outer if other.role == above]


def _role(table: str, taken: set[str]) -> str:
    """The table's own name, or an alias where that is taken."""
    return next(name for name in (table, *(f"{table}_{i}" for i in range(99))) if name not in taken)


def projection(spec: Spec, name: str, views: Sequence[ViewSpec] = ()) -> Projection:
    """Say it in the product's words."""
    sources: dict[str, sa.FromClause] = {}
    of_lists: list[Sources] = []
    root = _source(spec, sources)
    joins = _joins(spec, sources)
    collections = _collections(spec, sources, of_lists)
    fields = [f for each in collections if isinstance(each, Aggregate) for f in each.fields]
    figures = {field.name: field for field in fields if isinstance(field, sa.Label)}
    return Projection(
        name, root, _fields(spec, sources), joins, collections, _where(spec, sources),
        views=[_view(n, view, sources, of_lists, figures) for n, view in enumerate(views)],
    )  # fmt: skip


def _view(
    number: int,
    view: ViewSpec,
    sources: Sources,
    of_lists: Sequence[Sources],
    figures: Mapping[str, Any],
) -> View:
    key = [(sources if at is None else of_lists[at])[role].c[c] for at, role, c in view.key]
    role, column = view.newest
    newest = sources[role].c[column] if role else figures[column]
    where = None
    if view.where is not None:
        at, name, least = view.where
        where = sources[at].c[name] if least is None else sources[at].c[name] > least
    return View(f"by_v{number}", key, newest, where)


def _source(spec: Spec, sources: dict[str, sa.FromClause]) -> sa.FromClause:
    table = _TABLES[spec.table]
    sources[spec.role] = table if spec.role == spec.table else table.alias(spec.role)
    return sources[spec.role]


def _joins(spec: Spec, sources: dict[str, sa.FromClause]) -> list[Join]:
    return [Join(_source(j, sources), _on(j, sources), pick=_order(j, sources)) for j in spec.joins]


def _order(spec: Spec, sources: Sources) -> list[Any]:
    if spec.order is None:
        return []
    column, descends = spec.order
    own = sources[spec.role].c[column]
    return [own.desc() if descends else own]


def _on(spec: Spec, sources: Sources) -> Any:
    own = sources[spec.role]
    pairs = [own.c[c] == sources[role].c[other] for c, role, other in spec.pairs]
    return sa.and_(*pairs, *(sources[role].c[c] == number for role, c, number in spec.conditions))


def _fields(spec: Spec, sources: Sources) -> list[Any]:
    return [
        _wrapped(sources[role].c[c].label(f"{role}_{c}"), wrap) for role, c, wrap in spec.fields
    ]


def _wrapped(column: Any, wrap: str) -> Any:
    match wrap:
        case "fixed":
            return Fixed(column)
        case "choice":
            return Choice(column, _NAMES, "other")
        case "listed":
            return Choice(column, _NAMES)
        case "flags":
            return Flags(column, _BITS)
        case "passed" | "moment":
            number = column.element
            come, to_come = (sa.cast(at, sa.DateTime) for at in (_COME, _TO_COME))
            moment = sa.case((number > 2, come), (number <= 2, to_come))
            of = Passed if wrap == "passed" else functools.partial(Moment, zone=_ZONE)
            return of(moment.label(column.name))
        case "encoded":
            return Encoded(column, "utf-8")
        case "json" | "no json":
            return Json(column, otherwise="text" if wrap == "json" else "null")
    return column


def _shown(value: Any, wrap: str) -> Any:
    if value is None or wrap in {"", "encoded", "json"}:
        return value
    if wrap == "no json":
        return None
    if wrap == "moment":  # an hour before, in winter
        return f"{2001 if value > 2 else 2201}-02-03T03:05:06Z"
    if wrap == "fixed":
        return "***"
    if wrap in {"choice", "listed"}:
        return _NAMES.get(value, "other" if wrap == "choice" else None)
    if wrap == "passed":
        return value > 2
    return [name for bit, name in _BITS.items() if value & bit]


def _where(spec: Spec, sources: Sources) -> Any:
    if spec.where is None:
        return None
    role, column, number = spec.where
    return sources[role].c[column] > number


def _collections(
    spec: Spec, outer: Mapping[str, sa.FromClause], kept: list[Sources] | None = None
) -> list[Any]:
    """`kept` gets the sources of each."""
    of_each = [dict(outer) for _ in spec.collections]
    if kept is not None:
        kept += of_each
    return [
        _declared(child, f"c{n}", sources)
        for n, (child, sources) in enumerate(zip(spec.collections, of_each, strict=True))
    ]


def _declared(child: Spec, name: str, sources: dict[str, sa.FromClause]) -> Any:
    if child.kind == "one_of":
        above = sources[child.pairs[0][1]]
        of = {
            number: Kind(
                _source(kind, sources),
                [_wrapped(sources[kind.role].c[c].label(c), w) for _, c, w in kind.fields],
                where=_where(kind, sources),
            )
            for number, kind in child.kinds.items()
        }
        return OneOf(name, above.c[child.parent], above.c[child.pairs[0][2]], of)
    through = [Join(_source(hop, sources), _on(hop, sources)) for hop in child.through]
    table = _source(child, sources)
    on = _on(child, sources)
    if child.kind == "path":
        assert child.limit is not None
        [(_, column, _)] = child.fields
        return Path(name, table, on, table.c[child.parent], table.c[column], child.limit)
    joins, where = _joins(child, sources), _where(child, sources)
    fields, order = _fields(child, sources), _order(child, sources)
    match child.kind:
        case "aggregate":
            figures = [
                sa.func.count().label(f"{name}_n"),
                sa.func.max(table.c.a).label(f"{name}_max"),
                sa.func.count(table.c.a.distinct()).label(f"{name}_distinct"),
                Choice(sa.func.count(table.c.b).label(f"{name}_many"), {0: False}, other=True),
            ]
            return Aggregate(table, on, figures, joins, where, through)
        case "pairs" | "counts":
            key, value = fields[0], fields[-1] if child.kind == "pairs" else sa.func.count()
            return Pairs(name, table, on, key, value, joins, where, order, child.repeated,  # type: ignore[arg-type]
                         through=through)  # fmt: skip
        case "first":
            return First(
                name, table, on, fields=fields, joins=joins, where=where, order_by=order,
                collections=_collections(child, sources), through=through,
            )  # fmt: skip
        case "one":
            return One(name, table, on, fields, joins, _collections(child, sources), where)
    return Many(
        name, table, on, fields=fields, joins=joins, where=where, limit=child.limit,
        order_by=order, collections=_collections(child, sources), through=through,
    )  # fmt: skip


def documents(spec: Spec, rows: Rows) -> dict[str, Any]:
    """Return what the hash should hold."""
    found = {}
    for row in rows[spec.table]:
        for environment in _admitted(spec, row, {}, rows):
            identity = ":".join(str(row[c]) for c in KEYS[spec.table])
            found[identity] = _document(spec, environment, rows)
    return found


def places(spec: Spec, views: Sequence[ViewSpec], rows: Rows) -> dict[str, dict[str, float]]:
    """Say in which lists each document should stand, with which score."""
    found: dict[str, dict[str, float]] = {}
    for row in rows[spec.table]:
        for environment in _admitted(spec, row, {}, rows):
            mine = found[":".join(str(row[c]) for c in KEYS[spec.table])] = {}
            for number, view in enumerate(views):
                for name, score in _lists(spec, view, environment, rows):
                    mine[f"v{number}:{name}"] = score
    return found


def _lists(
    spec: Spec, view: ViewSpec, environment: Environment, rows: Rows
) -> Iterator[tuple[str, float]]:
    if view.where is not None:
        role, column, number = view.where
        value = (environment[role] or {}).get(column)
        if value is None or (value <= number if number is not None else not value):
            return
    role, column = view.newest
    shown = environment[role] or {} if role else _document(spec, environment, rows)
    score = shown.get(column)
    child = next((spec.collections[at] for at, _, _ in view.key if at is not None), None)
    inner = [environment]
    if child is not None:
        inner = [each for _, each in _standing(child, environment, rows)[: child.limit]]
    for each in inner:
        values = [
            ((environment if at is None else each)[role] or {}).get(c) for at, role, c in view.key
        ]
        if None not in values:
            yield "|".join(map(str, values)), -math.inf if score is None else float(score)


def _admitted(spec: Spec, row: Row, outer: Environment, rows: Rows) -> Iterator[Environment]:
    environment = {**outer, spec.role: row}
    for join in spec.joins:
        matching = [r for r in _sorted(join, rows) if _hangs(join, r, environment)]
        environment[join.role] = matching[0] if matching else None
    if spec.where is not None:
        role, column, number = spec.where
        value = (environment[role] or {}).get(column)
        if value is None or value <= number:
            return
    yield environment


def _sorted(spec: Spec, rows: Rows) -> list[Row]:
    """By the order that is declared, in which servers take NULL for the least (PostgreSQL: for the
    greatest), then by key."""
    found = sorted(rows[spec.table], key=lambda r: [r[c] for c in KEYS[spec.table]])
    if spec.order is not None:
        column, descends = spec.order
        is_greatest = isinstance(rows, NullsGreatest)
        found.sort(
            key=lambda r: ((r[column] is None) == is_greatest, r[column] or 0), reverse=descends
        )
        if descends:  # ties stay in the order of the key
            groups = defaultdict(list)
            for row in sorted(found, key=lambda r: [r[c] for c in KEYS[spec.table]]):
                groups[row[column]].append(row)
            found = [row for value in dict.fromkeys(r[column] for r in found)
                     for row in groups[value]]  # fmt: skip
    return found


def _hangs(spec: Spec, row: Row, environment: Environment) -> bool:
    pairs = [(row[own], (environment[role] or {}).get(c)) for own, role, c in spec.pairs]
    held = {**environment, spec.role: row}
    return all(own is not None and own == other for own, other in pairs) and all(
        (held[role] or {}).get(column) == number for role, column, number in spec.conditions
    )


def _ways(hops: Sequence[Spec], environment: Environment, rows: Rows) -> Iterator[Environment]:
    """The rows on the way, in the order of their keys."""
    if not hops:
        yield environment
        return
    for row in _sorted(hops[0], rows):
        if _hangs(hops[0], row, environment):
            yield from _ways(hops[1:], {**environment, hops[0].role: row}, rows)


def _standing(child: Spec, environment: Environment, rows: Rows) -> list[tuple[Row, Environment]]:
    """The rows of a collection, with what is joined to each."""
    ways = list(_ways(child.through, environment, rows))
    return [
        (row, inner)
        for row in _sorted(child, rows)
        for way in ways
        if _hangs(child, row, way)
        for inner in _admitted(child, row, way, rows)
    ]


def _document(spec: Spec, environment: Environment, rows: Rows) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for role, column, wrap in spec.fields:
        made[f"{role}_{column}"] = _shown((environment[role] or {}).get(column), wrap)
    for number, child in enumerate(spec.collections):
        name = f"c{number}"
        if child.kind in _INSETS:
            made[name] = _inset_of(child, environment, rows)
            continue
        standing = _standing(child, environment, rows)
        if child.kind == "aggregate":
            values = [row["a"] for row, _ in standing if row["a"] is not None]
            made[f"{name}_n"] = len(standing)
            made[f"{name}_max"] = max(values, default=None)
            made[f"{name}_distinct"] = len(set(values))
            made[f"{name}_many"] = any(row["b"] is not None for row, _ in standing)
        elif child.kind in {"pairs", "counts"}:
            made[name] = _pairs_of(child, standing)
        else:
            limit = 1 if child.kind == "first" else child.limit
            listed = [_document(child, inner, rows) for _, inner in standing[:limit]]
            made[name] = next(iter(listed), None) if child.kind == "first" else listed
    return made


def _pairs_of(child: Spec, standing: list[tuple[Row, Environment]]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    (role, column, wrap), (other, shown, how) = child.fields[0], child.fields[-1]
    for _, environment in standing:
        raw = (environment[role] or {}).get(column)
        name = _shown(raw, wrap)
        if raw is None or name is None:
            continue
        value = _shown((environment[other] or {}).get(shown), how)
        found.setdefault(_name(name), []).append(value)
    if child.kind == "counts":
        return {name: len(values) for name, values in found.items()}
    return {name: v if child.repeated == "list" else v[-1] for name, v in found.items()}


def _name(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _inset_of(child: Spec, environment: Environment, rows: Rows) -> Any:
    if child.kind == "path":
        return _path_of(child, environment, rows)
    for kind in child.kinds.values() or [child]:
        for row in rows[kind.table]:
            if _hangs(kind, row, environment):
                for inner in _admitted(kind, row, environment, rows):
                    if child.kind == "one":
                        return _document(child, inner, rows)
                    return {c: _shown(row[c], wrap) for _, c, wrap in kind.fields}
    return None


def _path_of(child: Spec, environment: Environment, rows: Rows) -> list[Any]:
    by_id = {row["id"]: row for row in rows[child.table]}
    [(_, above, column)] = child.pairs
    at, found, seen = (environment[above] or {}).get(column), [], set()
    while at in by_id and at not in seen and len(found) < (child.limit or 0):
        seen.add(at)
        found.append(by_id[at][child.fields[0][1]])
        at = by_id[at][child.parent]
    return found


def waits(spec: Spec, document: Any) -> bool:
    """Whether a document shows a moment that is still to come."""
    if document is None:
        return False
    if any(document[f"{role}_{c}"] is False for role, c, wrap in spec.fields if wrap == "passed"):
        return True
    for number, child in enumerate(spec.collections):
        found = document.get(f"c{number}")
        if child.kind == "pairs":
            (_, _, of_key), (_, _, of_value) = child.fields[0], child.fields[-1]
            values = [
                v for each in found.values() for v in (each if isinstance(each, list) else [each])
            ]
            if (of_key == "passed" and "false" in found) or (
                of_value == "passed" and False in values
            ):
                return True
        elif child.kind in {"many", "first", "one"}:
            rows = found if isinstance(found, list) else [found]
            if any(waits(child, row) for row in rows):
                return True
    return False


def parsed(stored: Mapping[str, bytes]) -> dict[str, Any]:
    """Read a hash."""
    return {identity: json.loads(value) for identity, value in stored.items()}
