"""Made-up tables of PostgreSQL's: identities, partitions, generated columns, several schemas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tests.abroad.postgres.kinds import FAMILIES, PostgresKind, payloads
from tests.abroad.worlds.kinds import Kind
from tests.abroad.worlds.schemas import (
    ACTIONS,
    Column,
    Maker,
    Schema,
    Table,
    add_pairs,
    foreign_keys,
    misdeclare,
    outside,
    views,
)

_PLAIN_NAMES = ("ticket", "form", "task", "entry", "owner", "link", "note", "part")
_ODD_NAMES = (
    "Order",
    "größe",
    "Group Items",
    "x-y",
    "select",
    "T1",
    'q"t',
    "Key",
    "per%cent",
    "a.b",
)
_COLUMNS = ("a", "b", "c", "d", "e", "f", "g", "h", "k", "m", "n", "p", "q", "r", "s")
_ODD_COLUMNS = ("Select", "größe", "x y", "per%cent", "order", "C1", "v-w", 'q"c', "_k", "ctid_",
                "user", ":x", "a.b", "%s", "$1")  # fmt: skip
_PLAIN = PostgresKind("int4", "sa.Integer", "int", ("1", "2", "3", "4"), "number", can_be_id=True)
_TYPES = ("sa.Integer", "sa.String(30)", "sa.Text", "sa.Numeric(10, 2)", "sa.DateTime", "sa.Date",
          "sa.Boolean", "sa.Float", "sa.JSON", "sa.LargeBinary", "sa.Uuid")  # fmt: skip
_PAIR_TYPES = (
    PostgresKind("varchar(10)", "sa.String(10)", "plain", ("'T'", "'F'", "'t'", "'X'"), "kind",
                 "utf8"),
    PostgresKind("int4", "sa.Integer", "int", ("1", "2", "3"), "kind"),
)  # fmt: skip
OTHER_SCHEMA = "Other One"


def quoted(name: str) -> str:
    """A name as PostgreSQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def listed(columns: list[Column]) -> str:
    return ", ".join(quoted(column.name) for column in columns)


@dataclass(slots=True)
class PostgresTable(Table):
    """A table. `schema` is empty for `public`; `parts` is how it is partitioned, `inner` its
    partitions."""

    schema: str = ""
    parts: str = ""
    inner: tuple[str, ...] = ()

    listing: ClassVar[tuple[str, str]] = (
        "sa.func.string_agg(sa.literal('item'), ',')", "string_agg('item', ',')",
    )  # fmt: skip

    @staticmethod
    def quoted(name: str) -> str:
        """A name as this server takes it."""
        return quoted(name)

    @property
    def sql(self) -> str:
        """The table's name in a statement."""
        return f"{quoted(self.schema or 'public')}.{quoted(self.name)}"

    @property
    def declared(self) -> str:
        """What a declaration says of it besides its columns."""
        return f"schema={self.schema!r}," if self.schema else ""

    @property
    def definition(self) -> str:
        """Statements that make it with its indexes."""
        parts = [_defined(column) for column in self.columns]
        if self.key:
            key = self.key[::-1] if self.is_reversed else self.key
            parts.append(f"PRIMARY KEY ({listed(key)})")
        parts += [f"UNIQUE ({listed(columns)})" for columns in self.unique]
        body = ",\n  ".join(parts)
        statements = [f"CREATE TABLE {self.sql} (\n  {body}\n) {self.parts}", *self.inner]
        statements += [
            f"CREATE INDEX ON {self.sql} ({listed(columns)})" for columns in self.indexes
        ]
        return ";\n".join(statements)


def _defined(column: Column) -> str:
    null = "" if column.generated else (" NULL" if column.is_nullable else " NOT NULL")
    return f"{quoted(column.name)} {column.kind.type} {column.generated}{null}"


def generate(chance: Callable[[str], Random], version: int, has_icu: bool) -> Schema:
    """Make up tables. `chance` gives a source of chance for each ingredient."""
    random = chance("schema")
    families = [random.choice(FAMILIES)() for _ in range(random.choice([1, 2, 2, 3]))]
    beside = payloads()
    if chance("unlike-keys").random() > 0.9:
        families = [
            [kind for kind in family if kind.collation in ("", "C")] or [_PLAIN]
            for family in families
        ]
    if not has_icu:
        families = [[k for k in family if _is_everywhere(k)] or [_PLAIN] for family in families]
        beside = [kind for kind in beside if _is_everywhere(kind)]
    odd = chance("odd-names").random() < 0.25
    names = random.sample(_ODD_NAMES if odd else _PLAIN_NAMES, random.choice([2, 3, 3, 4, 5, 7]))
    columns = _ODD_COLUMNS if odd else _COLUMNS
    maker = Maker(random, beside, families, columns, PostgresTable, _PLAIN)
    tables = [maker.table(name) for name in names]
    _add_generated(chance("generated"), version, tables)
    add_pairs(chance("polymorphic"), tables, _PAIR_TYPES)
    misdeclare(chance("misdeclared"), tables, _TYPES)
    _place(chance("engines"), tables)
    extras = _identities(chance("row-image"), tables)
    extras += foreign_keys(chance("foreign-keys"), tables, lambda t: len(t.key) == 1, _foreign_key)
    beyond = outside(chance("outside"), tables, extras, PostgresTable, _PLAIN, _foreign_key)
    extras += _triggers(chance("triggers"), tables, beyond)
    extras += views(chance("views"), tables)
    return Schema([*tables, *beyond], extras)


def _is_everywhere(kind: Kind) -> bool:
    return kind.collation not in ("und-x-icu", "nd")


def _add_generated(random: Random, version: int, tables: list[Table]) -> None:
    """Columns that the server computes, some to show and some to join by."""
    for table in tables:
        candidates = [c for c in table.writable if c not in table.key]
        if random.random() > 0.4 or not candidates:
            continue
        base = random.choice(candidates)
        made = _expression(random, base)
        if made is None:
            continue
        kind, expression = made
        kept = random.choice(["STORED", "VIRTUAL"]) if version >= 18 else "STORED"
        said = f"GENERATED ALWAYS AS ({expression}) {kept}"
        column = Column(f"gen_{len(table.columns)}", kind, True, said, base.name)
        table.columns.insert(random.randrange(len(table.columns) + 1), column)
        if kind.can_be_key and kept == "STORED" and random.random() < 0.6:
            table.indexes.append([column])


def _expression(random: Random, base: Column) -> tuple[Kind, str] | None:
    name, kind = quoted(base.name), base.kind
    if kind.ddl == "jsonb":
        return _PLAIN, f"length({name}->>'p')"
    if kind.ddl in ("int2", "int4"):
        return _PLAIN, f"{name} / {random.choice([1, 2])}"
    if kind.ddl.startswith("varchar") and kind.family == "text":
        made = PostgresKind(
            "text", "sa.Text", "plain", ("'a'",), "text", "utf8", kind.collation, True
        )
        return made, f"{name} || {random.choice(['', 'x'])!r}"
    if kind.ddl in ("date", "timestamp"):
        return _PLAIN, f"date_part('day', {name})::int4"
    return None


def _place(random: Random, tables: list[Table]) -> None:
    """Partition some, and put some into another schema."""
    for table in tables:
        assert isinstance(table, PostgresTable)
        if random.random() < 0.15:
            table.schema = OTHER_SCHEMA
        if table.key and not table.unique and random.random() < 0.15:
            _partition(random, table)


def _partition(random: Random, table: PostgresTable) -> None:
    key = random.choice(table.key)
    schema = quoted(table.schema or "public")

    def part(number: int, values: str) -> str:
        name = f"{schema}.{quoted(f'{table.name}_p{number}')}"
        return f"CREATE TABLE {name} PARTITION OF {table.sql} {values}"

    if random.random() < 0.6:
        table.parts = f"PARTITION BY HASH ({quoted(key.name)})"
        table.inner = tuple(
            part(n, f"FOR VALUES WITH (MODULUS 3, REMAINDER {n})") for n in range(3)
        )
        return
    values = list(dict.fromkeys(key.kind.literals))[:3]
    table.parts = f"PARTITION BY LIST ({quoted(key.name)})"
    table.inner = (part(0, f"FOR VALUES IN ({', '.join(values)})"), part(1, "DEFAULT"))


def identity(random: Random, table: Table) -> str:
    """A statement that sets what the log holds of old rows."""
    how = random.choice(["FULL", "FULL", "DEFAULT", "NOTHING"])
    return f"ALTER TABLE {table.sql} REPLICA IDENTITY {how}"


def _identities(random: Random, tables: list[Table]) -> list[str]:
    wish = random.choice([0.0, 0.5, 1.0])
    found = []
    for table in tables:
        if not table.key or random.random() < wish:
            found.append(identity(random, table))
        fit = [c for c in table.writable if not c.is_nullable and c not in table.key]
        if fit and table.key and random.random() < 0.3 and not getattr(table, "parts", ""):
            name = quoted(f"identity of {table.name}")
            columns = listed([*table.key, *fit])
            found += [f"CREATE UNIQUE INDEX {name} ON {table.sql} ({columns})",
                      f"ALTER TABLE {table.sql} REPLICA IDENTITY USING INDEX {name}"]  # fmt: skip
    return found


def _foreign_key(random: Random, table: Table, column: Column, target: Table) -> str:
    timing = random.choice(["", "", " DEFERRABLE INITIALLY DEFERRED"])
    actions = f"ON DELETE {random.choice(ACTIONS)} ON UPDATE {random.choice(ACTIONS)}"
    return (
        f"ALTER TABLE {table.sql} ADD FOREIGN KEY ({quoted(column.name)})"
        f" REFERENCES {target.sql} ({quoted(target.key[0].name)}) {actions}{timing}"
    )


def _triggers(random: Random, tables: list[Table], outside: list[Table]) -> list[str]:
    """A trigger that writes a table that documents read: on one that none reads, or on one that
    they do."""
    if random.random() > 0.5:
        return []
    found = []
    for moment in random.sample(["INSERT", "UPDATE", "DELETE"], 2):
        on, target = random.choice([*tables, *outside * 4]), random.choice(tables)
        columns = [c for c in target.writable if c not in target.key] or target.writable
        column = random.choice(columns)
        where = f"ctid IN (SELECT ctid FROM {target.sql} LIMIT 2)"
        changed = f"{quoted(column.name)} = {random.choice(column.kind.literals)}"
        verb = random.choice([
            f"UPDATE {target.sql} SET {changed} WHERE {where}",
            f"DELETE FROM {target.sql} WHERE {where} AND random() < 0.2",
        ])  # fmt: skip
        name = f"tr_{moment.lower()}"
        found.append(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN"
            f" IF pg_trigger_depth() < 2 THEN {verb}; END IF; RETURN NULL; END $f$;"
            f" CREATE TRIGGER {name} AFTER {moment} ON {on.sql} FOR EACH ROW"
            f" EXECUTE FUNCTION {name}()"
        )
    return found
