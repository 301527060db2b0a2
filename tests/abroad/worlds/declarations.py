"""Made-up documents over made-up tables: joins, lists, figures, whole conditions, masks.

`accepts` asks the server whether it takes a join at all: of two collations neither of which is
better it does not, and then no projection can be meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from tests.abroad.worlds import terms
from tests.abroad.worlds.schemas import Column, Schema, Table
from tests.abroad.worlds.spec import Field, Joined, Level, Role, Said

Accepts = Callable[[str], bool]
_DEPTH = 2


def generate(random: Random, name: str, schema: Schema, accepts: Accepts) -> Level:
    """Make up one document."""
    return _Author(random, schema.watched, accepts).document(name)


class _Author:
    """Writes one declaration; no role stands in it twice."""

    def __init__(self, random: Random, tables: Sequence[Table], accepts: Accepts) -> None:
        self._random, self._tables, self._accepts = random, tables, accepts
        self._taken: set[str] = set()
        self._fields = 0

    def document(self, name: str) -> Level:
        random = self._random
        tables = [table for table in self._tables if table.key]
        fit = [t for t in tables if all(c.kind.can_be_id for c in t.key)]
        table = random.choice(fit or tables or list(self._tables))
        root = Level("root", name, self._role(table))
        self._join(root, random.choice([0, 1, 1, 2]))
        self._show(root, [])
        for _ in range(random.choice([1, 2, 2, 3])):
            self._collect(root, 1)
        if random.random() < 0.3:
            root.where = terms.condition(random, root.roles)
        return root

    def _role(self, table: Table) -> Role:
        number, name = len(self._taken), table.name
        if name in self._taken or self._random.random() < 0.15:
            name = f"{table.name}_{number}"
        self._taken.add(name)
        return Role(table, name, f"r{number}")

    def _join(self, level: Level, count: int) -> None:
        for _ in range(count):
            above = self._random.choice(level.roles)
            table = self._random.choice(self._tables)
            candidates = [columns for columns in [table.key, *table.unique] if columns]
            if not candidates:
                continue
            role = self._role(table)
            on = self._edge(role, above, self._random.choice(candidates), is_unique=True)
            if on is not None:
                level.joins.append(Joined(role, on))

    def _collect(self, outer: Level, depth: int) -> None:
        random = self._random
        above = random.choice([outer.role, outer.role, *outer.roles])
        table = random.choice(self._tables)
        role = self._role(table)
        on = self._edge(role, above, self._own_columns(table), is_unique=False)
        if on is None:
            return
        kind = random.choice(["many", "many", "values", "aggregate"])
        if not table.key:
            kind = random.choice(["values", "aggregate"])
        level = Level(kind, f"c{role.variable[1:]}", role, on)
        if table.key and random.random() < 0.5:
            self._join(level, random.choice([1, 1, 2]))
        around = [above]
        if random.random() < 0.35:
            level.where = terms.condition(random, [*level.roles, *around])
        if kind == "aggregate":
            level.fields = [self._figure(level) for _ in range(random.choice([1, 2, 3]))]
        elif kind == "values":
            self._list_values(level)
        else:
            self._show(level, around)
            self._arrange(level)
            while depth < _DEPTH and random.random() < 0.4:
                self._collect(level, depth + 1)
        outer.children.append(level)

    def _own_columns(self, table: Table) -> list[Column]:
        """The columns by which rows belong to something: mostly those that are not the key."""
        random = self._random
        if table.pairs and random.random() < 0.6:
            return list(random.choice(table.pairs))
        generated = [c for c in table.columns if c.generated and c.kind.can_be_key]
        if generated and random.random() < 0.5:
            return generated[:1]
        columns = [c for c in table.columns if c.kind.can_be_key and c.kind.family]
        return random.sample(columns, min(len(columns), random.choice([1, 1, 1, 2])))

    def _edge(
        self, role: Role, above: Role, own: Sequence[Column], *, is_unique: bool
    ) -> Said | None:
        """Equate own columns with those above; a column that finds no partner gets a constant."""
        random, parts, pairs = self._random, [], 0
        for column in own:
            partners = terms.partners(column, above.table, is_unique)
            if partners and not (pairs and random.random() < 0.25):
                weighted = [c for c in partners if c in above.table.key] * 2 + partners
                parts.append(terms.equal(random, role, column, above, random.choice(weighted)))
                pairs += 1
            elif is_unique and not terms.has_constant(column.kind):
                return None
            else:
                parts.append(terms.constant(random, role, column))
        if not pairs:
            return None
        if random.random() < 0.3:
            parts.append(terms.condition(random, [role, above]))
        random.shuffle(parts)
        on = terms.both(parts)
        sql = f"SELECT 1 FROM {above.source} JOIN {role.source} ON {on.sql} LIMIT 0"
        return on if self._accepts(sql) else None

    def _next(self) -> str:
        self._fields += 1
        odd = self._random.random() < 0.05
        return f"f{self._fields}" + (
            self._random.choice([' "q"', "ü", " %s", "\\n"]) if odd else ""
        )

    def _show(self, level: Level, around: Sequence[Role]) -> None:
        random = self._random
        for column in level.role.table.key:
            if random.random() < 0.7:
                said = level.role.column(column)
                level.fields.append(Field(self._next(), said, column.shape))
        roles = [*level.roles, *(level.roles if level.joins else []), *around]
        for _ in range(random.choice([2, 3, 4, 5])):
            level.fields.append(self._field(random.choice(roles)))

    def _field(self, role: Role) -> Field:
        random = self._random
        generated = [c for c in role.table.columns if c.generated]
        column = random.choice([*role.table.columns, *generated])
        name, kind, said = self._next(), column.kind, role.column(column)
        if column.misdeclared:
            return Field(name, said, "any")
        if kind.shape == "plain" and random.random() < 0.1:
            return Field(name, said, "plain", random.choice(["fixed", "partial", "hashed"]))
        if random.random() < 0.25:
            said, shape = terms.computed(random, said, kind)
            return Field(name, said, shape)
        return Field(name, said, kind.shape)

    def _list_values(self, level: Level) -> None:
        field = self._field(level.role)
        level.fields = [field]
        if level.role.table.key:
            self._arrange(level)
        else:  # rows that nothing tells apart: in the order of all they are
            level.order = [
                level.role.column(c) for c in level.role.table.columns if c.kind.can_be_key
            ]
            level.fields = [Field(field.name, level.order[0], self._first_shape(level))]

    @staticmethod
    def _first_shape(level: Level) -> str:
        return next(c.kind.shape for c in level.role.table.columns if c.kind.can_be_key)

    def _arrange(self, level: Level) -> None:
        random = self._random
        if random.random() < 0.5:
            columns = [(r, c) for r in level.roles for c in r.table.columns if c.kind.can_be_key]
            for role, column in random.sample(columns, min(len(columns), random.choice([1, 1, 2]))):
                level.order.append(terms.ordering(random, role.column(column), column.kind))
        if random.random() < 0.25:
            level.limit = random.choice([1, 2, 3])

    def _figure(self, level: Level) -> Field:
        random = self._random
        role = random.choice(level.roles)
        said, shape = terms.figure(random, role)
        return Field(self._next(), said, shape)
