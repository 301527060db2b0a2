"""Random histories over any tables: rows come, change, move and go, by small domains of values.

Statements carry IGNORE, so that what a key forbids is skipped.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Literals = Callable[[random.Random], str]  # gives a SQL literal


@dataclass(frozen=True)
class Columns:
    """The columns of a table by name, each with its values; `key` names the primary key."""

    key: Sequence[str]
    values: Mapping[str, Literals]


Tables = Mapping[str, Columns]


def one_of(*literals: str) -> Literals:
    return lambda chance: chance.choice(literals)


def between(first: int, last: int, null: float = 0.0) -> Literals:
    return lambda chance: "NULL" if chance.random() < null else str(chance.randint(first, last))


def texts(*values: str) -> Literals:
    return one_of(*(f"_utf8mb4 0x{v.encode().hex()}" if v else "''" for v in values))


def uuids(count: int, null: float = 0.0) -> Literals:
    """Some end in zero bytes, which the log leaves away."""
    known = [f"0x{i:02x}{'0' * 28}{'00' if i % 2 else 'ff'}" for i in range(count)]
    return lambda chance: "NULL" if chance.random() < null else chance.choice(known)


def times(fraction: int = 0, null: float = 0.0) -> Literals:
    def give(chance: random.Random) -> str:
        if chance.random() < null:
            return "NULL"
        digits = "".join(chance.choice("0019") for _ in range(fraction))
        return f"'2026-01-{chance.randint(1, 9):02} 10:00:00{'.' if fraction else ''}{digits}'"

    return give


def statement(chance: random.Random, tables: Tables) -> str:
    """One change of some rows of some table."""
    name = chance.choice(list(tables))
    columns = tables[name]
    kind = chance.choices(["insert", "replace", "update", "delete"], [6, 1, 8, 2])[0]
    names = list(columns.values)
    if kind in {"insert", "replace"}:
        rows = ", ".join(
            f"({', '.join(columns.values[c](chance) for c in names)})"
            for _ in range(chance.choice([1, 1, 4]))
        )
        verb = "REPLACE INTO" if kind == "replace" else "INSERT IGNORE INTO"
        return f"{verb} {name} ({', '.join(map(quoted, names))}) VALUES {rows}"
    chosen = chance.choice([*columns.key, *columns.key, *names])
    where = f"{quoted(chosen)} <=> {columns.values[chosen](chance)}"
    if kind == "delete":
        return f"DELETE FROM {name} WHERE {where} LIMIT 3"
    changed = chance.sample(names, min(len(names), chance.choice([1, 1, 2])))
    new = ", ".join(f"{quoted(c)} = {columns.values[c](chance)}" for c in changed)
    return f"UPDATE IGNORE {name} SET {new} WHERE {where} LIMIT 5"


def quoted(name: str) -> str:
    return f"`{name}`"


def run(
    connection: Any, tables: Tables, seed: int, transactions: int, *, one_by_one: bool = False
) -> None:
    """Commit so many transactions of one to four statements; some are rolled back. `one_by_one`:
    statements alone, for tables of several engines, which no transaction with GTIDs may mix."""
    chance = random.Random(seed)
    with connection.cursor() as cursor:
        for _ in range(transactions):
            if one_by_one:
                cursor.execute(statement(chance, tables))
                continue
            cursor.execute("START TRANSACTION")
            for _ in range(chance.choice([1, 1, 2, 4])):
                cursor.execute(statement(chance, tables))
            cursor.execute("ROLLBACK" if chance.random() < 0.1 else "COMMIT")
