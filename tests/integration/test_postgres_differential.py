"""Random changes, as our reader gives them and as PostgreSQL's own `test_decoding` spells them."""

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from projector.model import MISSING, RowsChange
from tests.integration.postgres_reading import Tables, made, reading, watch
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.server

COLUMNS = ("id", "a", "b")
_VALUE = re.compile(r"(\w+)\[[a-z ]+\]:(null|unchanged-toast-datum|-?\d+|'(?:[^']|'')*')")
_LARGE = "x" * 3000

Row = tuple[str, str, Any, Any]  # of a table, what was done, and the row before and after


@pytest.mark.parametrize("identity", ["DEFAULT", "USING INDEX t_key", "FULL"])
def test_rows_are_those_of_the_servers_own_text(
    postgres_server: PostgresServer, fresh_postgres: str, identity: str
) -> None:
    """With each replica identity, also for what is stored out of line, in the same order."""
    tables = made(
        postgres_server, fresh_postgres,
        *(f"CREATE TABLE {name} (id int PRIMARY KEY, a int NOT NULL, b text)" for name in "tu"),
        "CREATE UNIQUE INDEX t_key ON t (id, a)", "CREATE UNIQUE INDEX u_key ON u (id, a)",
        *(f"ALTER TABLE {name} ALTER b SET STORAGE EXTERNAL" for name in "tu"),
        *(f"ALTER TABLE {n} REPLICA IDENTITY {identity.replace('t_', n + '_')}" for n in "tu"),
    )  # fmt: skip
    known = {"DEFAULT": ("id",), "FULL": COLUMNS}.get(identity, ("id", "a"))
    tables.ask(f"SELECT pg_create_logical_replication_slot('o_{fresh_postgres}', 'test_decoding')")
    with reading(tables, watch("t", COLUMNS), watch("u", COLUMNS)) as log:
        chance = random.Random(7)
        for _ in range(120):
            tables.run(*_transaction(chance))
        log.read_to_end()
    assert list(_flat(log.changes)) == list(_spelled(tables, fresh_postgres, known))


def _transaction(chance: random.Random) -> list[str]:
    statements = [_statement(chance) for _ in range(chance.randint(1, 4))]
    return ["BEGIN", *statements, chance.choice(["COMMIT"] * 4 + ["ROLLBACK"])]


def _statement(chance: random.Random) -> str:
    table, row, a = chance.choice("tu"), chance.randint(1, 8), chance.randint(1, 3)
    b = chance.choice(["NULL", "'it''s'", f"'{_LARGE}'"])
    return chance.choice(
        [
            f"INSERT INTO {table} VALUES ({row}, {a}, {b}) ON CONFLICT (id) DO UPDATE SET a = {a}",
            f"INSERT INTO {table} VALUES ({row}, {a}, {b}) ON CONFLICT (id) DO NOTHING",
            f"UPDATE {table} SET a = {a} WHERE id < {row}",
            f"UPDATE {table} SET b = {b} WHERE id = {row}",
            f"UPDATE {table} SET id = id + 100 WHERE id = {row} AND NOT EXISTS"
            f" (SELECT FROM {table} WHERE id = {row + 100})",
            f"UPDATE {table} SET b = b",
            f"DELETE FROM {table} WHERE id = {row} OR id > 100",
            *([f"TRUNCATE {table}"] if chance.random() < 0.1 else []),
        ]
    )


def _flat(changes: Any) -> Iterator[Row]:
    for change in changes:
        if not isinstance(change, RowsChange):
            yield (change.table.name, change.reason, None, None)
            continue
        nothing = [None] * max(len(change.before), len(change.after))
        pairs = zip(change.before or nothing, change.after or nothing, strict=True)
        for before, after in pairs:
            yield (change.table.name, change.kind.value, before, after)


def _spelled(tables: Tables, name: str, known: tuple[str, ...]) -> Iterator[Row]:
    """What the server says; updates that change nothing left out where that can be known."""
    for [text] in tables.ask(
        f"SELECT data FROM pg_logical_slot_get_changes('o_{name}', NULL, NULL)"
    ):
        if not text.startswith("table "):
            continue
        table, what, rest = re.match(r"table public\.(\w+): (\w+): (.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        if what == "TRUNCATE":
            yield (table, "truncate", None, None)
            continue
        old_text, _, new_text = rest.rpartition("new-tuple: ")
        if what == "INSERT":
            yield (table, "insert", None, _row(rest))
        elif what == "DELETE":
            yield (table, "delete", _old(rest, known), None)
        elif old_text:
            old, new = _old(old_text, known), _row(new_text)
            if len(known) == len(COLUMNS):
                new = tuple(o if n is MISSING else n for o, n in zip(old, new, strict=True))
            if old != new:
                yield (table, "update", old, new)
        else:
            new = _row(rest)
            places = zip(COLUMNS, new, strict=True)
            yield (table, "update", tuple(v if c in known else MISSING for c, v in places), new)


def _row(text: str) -> tuple[Any, ...]:
    found = {name: _value(value) for name, value in _VALUE.findall(text)}
    return tuple(found.get(name, MISSING) for name in COLUMNS)


def _old(text: str, known: tuple[str, ...]) -> tuple[Any, ...]:
    """Read an old row, of which NULLs are left out."""
    of_identity = zip(COLUMNS, _row(text), strict=True)
    return tuple(None if c in known and v is MISSING else v for c, v in of_identity)


def _value(text: str) -> Any:
    if text == "unchanged-toast-datum":
        return MISSING
    if text == "null":
        return None
    return text[1:-1].replace("''", "'") if text[0] == "'" else int(text)
