"""Made-up tables: keys of every type, columns that refer to them in another type, generated ones.

Everything is decided by the chance that is passed in. Foreign keys, triggers and views are
statements of their own: what a server refuses is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from tests.abroad.worlds.kinds import FAMILIES, Kind, payloads
from tests.servers import Flavour

_PLAIN_NAMES = ("ticket", "form", "task", "entry", "owner", "link", "note", "part")
_ODD_NAMES = ("Order", "größe", "Group Items", "x-y", "select", "T1", "äöü", "Key")
_COLUMN_NAMES = ("a", "b", "c", "d", "e", "f", "g", "h", "k", "m", "n", "p", "q", "r", "s")
_ODD_COLUMNS = ("Select", "größe", "x y", "per%cent", "order", "C1", "v-w", "Δ", "_k", "Key")
_PLAIN = Kind("INT", "sa.Integer", "int", ("1", "2", "3", "4"), "number", can_be_id=True)
_FREE = Kind("INT", "sa.Integer", "int", ("1", "2", "3"))
_TYPES = ("sa.Integer", "sa.String(30)", "sa.Text", "sa.Numeric(10, 2)", "sa.DateTime", "sa.Date",
          "sa.Boolean", "sa.Float", "sa.JSON", "sa.LargeBinary", "mysql.YEAR")  # fmt: skip
_PAIR_TYPES = (
    Kind("VARCHAR(10)", "sa.String(10)", "plain", ("'T'", "'F'", "'t'", "'X'"), "kind",
         "utf8mb4", "utf8mb4_general_ci"),
    Kind("ENUM('T','F','X')", 'mysql.ENUM("T", "F", "X")', "plain", ("'T'", "'F'", "'X'"),
         "kind", "utf8mb4", "utf8mb4_bin"),
    Kind("INT", "sa.Integer", "int", ("1", "2", "3"), "kind"),
)  # fmt: skip
ACTIONS = ("CASCADE", "CASCADE", "SET NULL", "RESTRICT", "NO ACTION")


@dataclass(slots=True)
class Column:
    """A column; `generated` is its expression and how it is kept. `misdeclared` is the type that it
    is declared with by mistake: its values are of no certain form then."""

    name: str
    kind: Kind
    is_nullable: bool = True
    generated: str = ""
    base: str = ""
    misdeclared: str = ""

    @property
    def declared(self) -> str:
        """The type in a declaration."""
        return self.misdeclared or self.kind.declared

    @property
    def shape(self) -> str:
        """How its values stand in JSON."""
        return "any" if self.misdeclared else self.kind.shape

    @property
    def definition(self) -> str:
        generated = f" {self.generated}" if self.generated else ""
        null = "" if self.generated else (" NULL" if self.is_nullable else " NOT NULL")
        kind = self.kind.type.removesuffix(" NULL")
        return f"{quoted(self.name)} {kind}{generated}{null}"


@dataclass(slots=True)
class Table:
    """A table. `key` is in the order of the columns, as a declaration has it; the server's own may
    be another (`is_reversed`). `unique` are further unique keys; `pairs` are polymorphic (type, id)
    columns."""

    name: str
    columns: list[Column]
    key: list[Column]
    unique: list[list[Column]] = field(default_factory=list)
    indexes: list[list[Column]] = field(default_factory=list)
    pairs: list[tuple[Column, Column]] = field(default_factory=list)
    options: str = "ENGINE=InnoDB"
    is_reversed: bool = False
    is_watched: bool = True

    listing: ClassVar[tuple[str, str]] = (
        "sa.func.group_concat(sa.literal('item'))", "GROUP_CONCAT('item')",
    )  # fmt: skip

    @staticmethod
    def quoted(name: str) -> str:
        """A name as this server takes it."""
        return quoted(name)

    @property
    def sql(self) -> str:
        """The table's name in a statement."""
        return self.quoted(self.name)

    @property
    def declared(self) -> str:
        """What a declaration says of it besides its columns."""
        return ""

    @property
    def definition(self) -> str:
        parts = [column.definition for column in self.columns]
        if self.key:
            key = self.key[::-1] if self.is_reversed else self.key
            parts.append(f"PRIMARY KEY ({listed(key)})")
        parts += [f"UNIQUE KEY ({listed(columns)})" for columns in self.unique]
        parts += [f"KEY ({listed(columns)})" for columns in self.indexes]
        body = ",\n  ".join(parts)
        return f"CREATE TABLE {quoted(self.name)} (\n  {body}\n) {self.options}"

    @property
    def writable(self) -> list[Column]:
        return [column for column in self.columns if not column.generated]


@dataclass(slots=True)
class Schema:
    """Tables, and statements that add what a server may refuse."""

    tables: list[Table]
    extras: list[str]

    @property
    def watched(self) -> list[Table]:
        return [table for table in self.tables if table.is_watched]


def quoted(name: str) -> str:
    return f"`{name}`"


def listed(columns: list[Column]) -> str:
    return ", ".join(quoted(column.name) for column in columns)


def generate(chance: Callable[[str], Random], flavour: Flavour, is_folding: bool) -> Schema:
    """Make up tables. `chance` gives a source of chance for each ingredient."""
    random = chance("schema")
    families = [random.choice(FAMILIES)(flavour) for _ in range(random.choice([1, 2, 2, 3]))]
    beside = payloads(flavour)
    if chance("unlike-keys").random() > 0.9:
        collation = random.choice(["utf8mb4_general_ci", "utf8mb4_bin", "latin1_swedish_ci"])
        families = [_alike(collation, family) or [_PLAIN] for family in families]
        beside = _alike(collation, beside)
    odd = chance("odd-names").random() < 0.25
    names = random.sample(_ODD_NAMES if odd else _PLAIN_NAMES, random.choice([2, 3, 3, 4, 5, 7]))
    if is_folding:
        names = [name.capitalize() for name in names]
    maker = Maker(random, beside, families, _ODD_COLUMNS if odd else _COLUMN_NAMES)
    tables = [maker.table(name) for name in names]
    _add_generated(chance("generated"), flavour, tables)
    add_pairs(chance("polymorphic"), tables, _PAIR_TYPES)
    misdeclare(chance("misdeclared"), tables, _TYPES)
    _choose_engines(chance("engines"), flavour, tables)
    extras = foreign_keys(chance("foreign-keys"), tables, lambda t: bool(t.key), _foreign_key)
    beyond = outside(chance("outside"), tables, extras, Table, _FREE, _foreign_key)
    extras += _triggers(chance("triggers"), tables, beyond)
    extras += views(chance("views"), tables)
    return Schema([*tables, *beyond], extras)


def _alike(collation: str, kinds: list[Kind]) -> list[Kind]:
    """Of some types those that are compared with each other in one way only."""
    own = {"UUID", "INET6"} & {kind.ddl for kind in kinds}
    return [
        kind for kind in kinds
        if not kind.charset
        or (kind.family == "text" and kind.collation == collation and kind.ddl[0] in "VC")
        or (kind.family in ("uuid", "inet") and not own and kind.ddl.startswith("VARCHAR"))
        or not kind.family
    ]  # fmt: skip


class Maker:
    """Makes tables of one world's families of keys."""

    def __init__(
        self, random: Random, beside: list[Kind], families: list[list[Kind]],
        names: tuple[str, ...], make: type[Table] = Table, usual: Kind = _PLAIN,
    ) -> None:  # fmt: skip
        self._random, self._families, self._names = random, families, names
        self._make, self._usual = make, usual
        self._payloads = beside
        self._keys: list[Kind] = []

    def table(self, name: str) -> Table:
        random = self._random
        free = iter(random.sample(self._names, len(self._names)))
        key = [
            Column(next(free), self._key_kind(), is_nullable=False)
            for _ in range(random.choice([1, 1, 1, 2, 2, 3]))
        ]
        self._keys.append(key[0].kind)
        references = [
            Column(next(free), self._reference_kind(), random.random() < 0.8)
            for _ in range(random.choice([1, 2, 2, 3]))
        ]
        beside = [
            Column(next(free), random.choice(self._payloads))
            for _ in range(random.choice([1, 2, 3]))
        ]
        columns = [*key, *references, *beside]
        if random.random() < 0.4:
            random.shuffle(columns)
        key = [column for column in columns if column in key]
        table = self._make(name, columns, key, is_reversed=random.random() < 0.2)
        if random.random() < 0.15:  # found by no key: only a link or a list of values
            table.key = []
        if random.random() < 0.4:
            table.unique.append(
                random.sample(references, min(len(references), random.choice([1, 2])))
            )
        table.indexes += [[c] for c in references if random.random() < 0.7]
        return table

    def _key_kind(self) -> Kind:
        random = self._random
        family = random.choice(self._families)
        kinds = [kind for kind in family if kind.can_be_id or random.random() < 0.1]
        if not kinds and random.random() < 0.9:
            kinds = [kind for other in self._families for kind in other if kind.can_be_id]
            return random.choice(kinds or [self._usual])
        return random.choice(kinds or family)

    def _reference_kind(self) -> Kind:
        random = self._random
        if self._keys and random.random() < 0.45:
            return random.choice(self._keys)  # the very type of a key: a foreign key may be
        return random.choice(random.choice(self._families))


def _add_generated(random: Random, flavour: Flavour, tables: list[Table]) -> None:
    """Columns that the server computes, some to show and some to join by."""
    for table in tables:
        if random.random() > 0.4:
            continue
        candidates = [c for c in table.writable if c not in table.key]
        if not candidates:
            continue
        base = random.choice(candidates)
        made = _expression(random, flavour, base)
        if made is None:
            continue
        kind, expression = made
        kept = random.choice(["VIRTUAL", "STORED"])
        column = Column(
            f"gen_{len(table.columns)}", kind, True, f"AS ({expression}) {kept}", base.name
        )
        table.columns.insert(random.randrange(len(table.columns) + 1), column)
        if kind.can_be_key and random.random() < 0.6:
            table.indexes.append([column])


def _expression(random: Random, flavour: Flavour, base: Column) -> tuple[Kind, str] | None:
    name, shape = quoted(base.name), base.kind.shape
    if shape == "json":
        path = f"{name}->'$.p'" if flavour is Flavour.MYSQL else f"JSON_VALUE({name}, '$.p')"
        return _PLAIN, path
    if shape == "int" and "BIGINT" not in base.kind.ddl and "INT UNSIGNED" not in base.kind.ddl:
        return _PLAIN, f"{name} DIV {random.choice([1, 2])}"
    if base.kind.ddl.startswith(("VARCHAR", "CHAR")):
        kind = Kind("VARCHAR(60)", "sa.String(60)", "plain", ("'a'",), base.kind.family,
                    base.kind.charset, base.kind.collation, True)  # fmt: skip
        return kind, random.choice([f"CONCAT({name}, 'x')", f"CONCAT({name}, '')"])
    if base.kind.ddl.startswith("DECIMAL"):
        kind = Kind("VARCHAR(40)", "sa.String(40)", "plain", ("'1'",), "number", "utf8mb4",
                    "utf8mb4_general_ci", True)  # fmt: skip
        return kind, f"CONCAT('', {name})"
    if shape in ("date", "moment") and "TIMESTAMP" not in base.kind.ddl:
        return _PLAIN, f"DAYOFMONTH({name})"
    return None


def add_pairs(random: Random, tables: list[Table], kinds: Sequence[Kind]) -> None:
    """Add a column that says what the other one's number belongs to."""
    for table in tables:
        if random.random() > 0.35:
            continue
        types = random.choice(kinds)
        targets = [other.key[0] for other in tables if other.key]
        if not targets:
            return
        kind = Column("obj_type", types, random.random() < 0.5)
        identity = Column("obj_id", random.choice(targets).kind, True)
        table.columns += [kind, identity]
        table.pairs.append((kind, identity))
        table.indexes += random.choice([[], [[kind, identity]], [[identity]], [[identity, kind]]])


def misdeclare(random: Random, tables: list[Table], types: Sequence[str]) -> None:
    """Declare a column that nothing is joined by as something else than it is."""
    columns = [
        column for table in tables for column in table.columns
        if not column.kind.can_be_key and not column.generated
    ]  # fmt: skip
    if columns and random.random() < 0.06:
        random.choice(columns).misdeclared = random.choice(types)


def _choose_engines(random: Random, flavour: Flavour, tables: list[Table]) -> None:
    others = ["MyISAM"] if flavour is Flavour.MYSQL else ["MyISAM", "Aria"]
    for table in tables:
        if random.random() < 0.08:
            table.options = f"ENGINE={random.choice(others)}"
        elif table.key and len(table.key) == 1 and table.key[0].kind.shape == "int":
            if not table.unique and random.random() < 0.06:
                table.options += f" PARTITION BY HASH ({quoted(table.key[0].name)}) PARTITIONS 3"
        elif flavour is not Flavour.MYSQL and random.random() < 0.06:
            table.options += " WITH SYSTEM VERSIONING"


Fits = Callable[[Table], bool]
Refer = Callable[[Random, Table, Column, Table], str]


def foreign_keys(random: Random, tables: list[Table], fits: Fits, refer: Refer) -> list[str]:
    """Make foreign keys between columns of one type, to tables that fit; `refer` writes one."""
    found: list[str] = []
    wish = random.choice([0.0, 0.5, 0.9])
    for table in tables:
        for column in table.writable:
            targets = [
                other for other in tables
                if fits(other) and other.key[0].kind == column.kind and other.key[0] is not column
            ]  # fmt: skip
            if targets and random.random() < wish:
                found.append(refer(random, table, column, random.choice(targets)))
    return found


def _foreign_key(random: Random, table: Table, column: Column, target: Table) -> str:
    actions = f"ON DELETE {random.choice(ACTIONS)} ON UPDATE {random.choice(ACTIONS)}"
    return (
        f"ALTER TABLE {table.sql} ADD FOREIGN KEY ({quoted(column.name)})"
        f" REFERENCES {target.sql} ({quoted(target.key[0].name)}) {actions}"
    )


def outside(
    random: Random, tables: list[Table], extras: list[str], make: type[Table], free: Kind,
    refer: Refer,
) -> list[Table]:  # fmt: skip
    """Make a table that no document reads: parent of a foreign key, and what triggers stand on."""
    if random.random() > 0.5:
        return []
    child = random.choice(tables)
    column = random.choice(child.writable)
    if not column.kind.can_be_key or "NULL" in column.kind.ddl:
        return []
    key = Column("id", column.kind, is_nullable=False)
    found = make("outside", [key, Column("v", free)], [key], is_watched=False)
    if random.random() < 0.7:
        extras.append(refer(random, child, column, found))
    return [found]


def _triggers(random: Random, tables: list[Table], outside: list[Table]) -> list[str]:
    """A trigger of a table that no document reads, which writes one that documents read."""
    if not outside or random.random() > 0.5:
        return []
    found = []
    for moment in random.sample(["INSERT", "UPDATE", "DELETE"], 2):
        target = random.choice(tables)
        columns = [c for c in target.writable if c not in target.key] or target.writable
        column = random.choice(columns)
        verb = random.choice([
            f"UPDATE IGNORE {quoted(target.name)} SET {quoted(column.name)} ="
            f" {random.choice(column.kind.literals)} LIMIT 2",
            f"DELETE FROM {quoted(target.name)} WHERE {quoted(column.name)} ="
            f" {random.choice(column.kind.literals)}",
        ])  # fmt: skip
        found.append(
            f"CREATE TRIGGER tr_{moment.lower()} AFTER {moment} ON outside FOR EACH ROW {verb}"
        )
    return found


def views(random: Random, tables: list[Table]) -> list[str]:
    """Make a view of a table, at times."""
    if random.random() > 0.4:
        return []
    return [f"CREATE VIEW seen AS SELECT * FROM {random.choice(tables).sql}"]
