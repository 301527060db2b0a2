"""Projections made up at random, each with what it means evaluated row by row in Python.

Four tables (by number, by two columns, by string, and a free link) whose columns all draw from one
small domain, so that any may be joined with any other of its type. `Spec` is a table in its role;
`projection` declares it in the product's words, `documents` says what that should give.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from projector.projection import Aggregate, Join, Many, Projection
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

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Row]]  # by table
Environment = Mapping[str, Row | None]  # the row that stands in each role; None: no such row


@dataclass
class Spec:
    """A table in a role. `pairs`: own column, the other role, its column. `conditions`: what `on`
    says beside them: role, column and the number that it is. `where`: role, column, and the number
    that it must be above."""

    table: str
    role: str
    pairs: Sequence[tuple[str, str, str]] = ()
    conditions: Sequence[tuple[str, str, int]] = ()
    fields: Sequence[tuple[str, str]] = ()
    joins: list["Spec"] = field(default_factory=list)
    collections: list["Spec"] = field(default_factory=list)
    where: tuple[str, str, int] | None = None
    limit: int | None = None
    kind: str = "many"  # or `aggregate`

    @property
    def roles(self) -> list["Spec"]:
        return [self, *self.joins]


def generate(chance: random.Random) -> Spec:
    """Make up a projection: one to three levels."""
    root = Spec(chance.choice(list(KEYS)), "")
    root.role = root.table
    _fill(chance, root, [], 0)
    return root


def _fill(chance: random.Random, spec: Spec, outer: list[Spec], depth: int) -> None:
    """`outer`: the roles that are taken above; those of the level around are at its end."""
    taken = {other.role for other in outer}
    for _ in range(chance.choice([0, 1, 2, 3])):
        above = chance.choice(spec.roles)
        table = chance.choice(list(KEYS))
        role = _role(table, taken | {other.role for other in spec.roles})
        pairs = [
            (own, above.role, own if own == "s" else chance.choice(NUMBERS)) for own in KEYS[table]
        ]
        spec.joins.append(Spec(table, role, pairs, _conditions(chance, role, above.role)))
    spec.fields = [
        (other.role, column)
        for other in spec.roles
        for column in chance.sample(["id", "k", "a", "b", "s"], 2)
    ]
    if chance.random() < 0.4:
        around = spec.roles if not spec.pairs else [*spec.roles, *_around(spec, outer)]
        spec.where = (chance.choice(around).role, chance.choice(NUMBERS), chance.randint(0, 4))
    if spec.kind == "aggregate" or depth == 3:
        return
    for _ in range(chance.choice([0, 1, 2]) if depth else 3):
        above = chance.choice(spec.roles)
        table = chance.choice(list(KEYS))
        role = _role(table, taken | {other.role for other in spec.roles})
        own = chance.choice([*NUMBERS, "s"])
        pairs = [(own, above.role, "s" if own == "s" else chance.choice(NUMBERS))]
        kind = "aggregate" if chance.random() < 0.3 else "many"
        child = Spec(table, role, pairs, _conditions(chance, role, above.role), kind=kind)
        child.limit = chance.choice([None, None, 2]) if kind == "many" else None
        spec.collections.append(child)
        _fill(chance, child, [*outer, *spec.roles], depth + 1)


def _conditions(chance: random.Random, role: str, above: str) -> list[tuple[str, str, int]]:
    """Mostly none, else one or two of the own row or of the row above."""
    return [
        (chance.choice([role, role, above]), chance.choice(["k", "a"]), chance.randint(1, 2))
        for _ in range(chance.choice([0, 0, 1, 2]))
    ]


def _around(spec: Spec, outer: list[Spec]) -> list[Spec]:
    """The role that a collection hangs on: its conditions may read it, and what is joined to it."""
    above = spec.pairs[0][1]
    return [other for other in outer if other.role == above]


def _role(table: str, taken: set[str]) -> str:
    """The table's own name, or an alias where that is taken."""
    return next(name for name in (table, *(f"{table}_{i}" for i in range(99))) if name not in taken)


def projection(spec: Spec, name: str) -> Projection:
    """Say it in the product's words."""
    sources: dict[str, sa.FromClause] = {}
    root = _source(spec, sources)
    joins = [Join(_source(j, sources), _on(j, sources)) for j in spec.joins]
    return Projection(
        name, root, _fields(spec, sources), joins, _collections(spec, sources),
        _where(spec, sources),
    )  # fmt: skip


def _source(spec: Spec, sources: dict[str, sa.FromClause]) -> sa.FromClause:
    table = _TABLES[spec.table]
    sources[spec.role] = table if spec.role == spec.table else table.alias(spec.role)
    return sources[spec.role]


def _on(spec: Spec, sources: Mapping[str, sa.FromClause]) -> Any:
    own = sources[spec.role]
    pairs = [own.c[c] == sources[role].c[other] for c, role, other in spec.pairs]
    return sa.and_(*pairs, *(sources[role].c[c] == number for role, c, number in spec.conditions))


def _fields(spec: Spec, sources: Mapping[str, sa.FromClause]) -> list[Any]:
    return [sources[role].c[c].label(f"{role}_{c}") for role, c in spec.fields]


def _where(spec: Spec, sources: Mapping[str, sa.FromClause]) -> Any:
    if spec.where is None:
        return None
    role, column, number = spec.where
    return sources[role].c[column] > number


def _collections(spec: Spec, outer: Mapping[str, sa.FromClause]) -> list[Many | Aggregate]:
    found: list[Many | Aggregate] = []
    for number, child in enumerate(spec.collections):
        sources = dict(outer)
        table = _source(child, sources)
        on = _on(child, sources)
        joins = [Join(_source(j, sources), _on(j, sources)) for j in child.joins]
        where = _where(child, sources)
        if child.kind == "aggregate":
            column = table.c.a
            figures = [
                sa.func.count().label(f"c{number}_n"),
                sa.func.max(column).label(f"c{number}_max"),
                sa.func.count(column.distinct()).label(f"c{number}_distinct"),
            ]
            found.append(Aggregate(table, on, figures, joins, where))
        else:
            found.append(Many(
                f"c{number}", table, on, fields=_fields(child, sources), joins=joins,
                collections=_collections(child, sources), where=where, limit=child.limit,
            ))  # fmt: skip
    return found


def documents(spec: Spec, rows: Rows) -> dict[str, Any]:
    """Say what the hash should hold."""
    found = {}
    for row in rows[spec.table]:
        for environment in _admitted(spec, row, {}, rows):
            identity = ":".join(str(row[c]) for c in KEYS[spec.table])
            found[identity] = _document(spec, environment, rows)
    return found


def _admitted(spec: Spec, row: Row, outer: Environment, rows: Rows) -> Iterator[Environment]:
    environment = {**outer, spec.role: row}
    for join in spec.joins:
        matching = [r for r in rows[join.table] if _hangs(join, r, environment)]
        environment[join.role] = matching[0] if matching else None
    if spec.where is not None:
        role, column, number = spec.where
        value = (environment[role] or {}).get(column)
        if value is None or value <= number:
            return
    yield environment


def _hangs(spec: Spec, row: Row, environment: Environment) -> bool:
    pairs = [(row[own], (environment[role] or {}).get(c)) for own, role, c in spec.pairs]
    held = {**environment, spec.role: row}
    return all(own is not None and own == other for own, other in pairs) and all(
        (held[role] or {}).get(column) == number for role, column, number in spec.conditions
    )


def _document(spec: Spec, environment: Environment, rows: Rows) -> dict[str, Any]:
    made = {f"{role}_{c}": (environment[role] or {}).get(c) for role, c in spec.fields}
    for number, child in enumerate(spec.collections):
        standing = [
            (row, inner)
            for row in sorted(rows[child.table], key=lambda r: [r[c] for c in KEYS[child.table]])
            if _hangs(child, row, environment)
            for inner in _admitted(child, row, environment, rows)
        ]
        if child.kind == "aggregate":
            values = [row["a"] for row, _ in standing if row["a"] is not None]
            made[f"c{number}_n"] = len(standing)
            made[f"c{number}_max"] = max(values, default=None)
            made[f"c{number}_distinct"] = len(set(values))
        else:
            made[f"c{number}"] = [
                _document(child, inner, rows) for _, inner in standing[: child.limit]
            ]
    return made


def parsed(stored: Mapping[str, bytes]) -> dict[str, Any]:
    """Read a hash."""
    return {identity: json.loads(value) for identity, value in stored.items()}
