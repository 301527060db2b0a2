"""Random tables of all types: our reader's rows are those that the server's `test_decoding` spells.

Tables, values and statements are those of the made-up worlds (`tests.abroad.postgres`).
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from projector.model import MISSING, RowsChange, TableName, Watch
from tests.abroad.postgres import kinds, schemas
from tests.abroad.postgres.grammar import Grammar
from tests.abroad.worlds.plan import Plan
from tests.abroad.worlds.schemas import Table
from tests.integration.postgres_reading import Tables, made, reading
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.server

_LEFT_OUT = frozenset({"odd-names", "generated", "engines", "foreign-keys", "triggers", "views"})
_STEPS = 60
# As contrib/test_decoding prints them: numbers as they are, the rest as SQL would have it.
_VALUE = re.compile(
    r"(\w+)\[(?:[^\]:]|\[\]|\(\d+(?:,\d+)?\))*\]:"
    r"(null|unchanged-toast-datum|true|false|B'[01]*'|'(?:[^']|'')*'|[^\s']+)"
)
_CHANGE = re.compile(r"table public\.(\w+): (INSERT|UPDATE|DELETE): (.*)", re.DOTALL)

Values = dict[str, Any]
Row = tuple[str, str, Values, Values]  # of a table, what was done, and what is said before, after


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(6))
def test_rows_of_all_types_are_those_of_the_servers_own_text(
    postgres_server: PostgresServer, fresh_postgres: str, seed: int
) -> None:
    """Keys and values, old and new, with whatever replica identity."""
    plan = Plan(seed, _LEFT_OUT)
    tables = made(postgres_server, fresh_postgres, "CREATE TABLE nothing (id int)")
    with postgres_server.connect(fresh_postgres) as connection:
        schema = schemas.generate(plan.chance, 15, postgres_server.has_icu)
        for statement in (*kinds.TYPES, *(t.definition for t in schema.tables), *schema.extras):
            with contextlib.suppress(psycopg.Error):
                connection.execute(statement)
        connection.execute("DROP PUBLICATION projector")
        connection.execute("CREATE PUBLICATION projector FOR ALL TABLES")
        slot = f"o_{fresh_postgres}"
        tables.ask(f"SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')")
        with reading(tables, *map(_watch, schema.tables)) as log:
            _run(connection, Grammar(plan.chance("history"), schema, "nobody", "", absences=False))
            log.read_to_end()
    known = {table.name: table for table in schema.tables}
    changes = [change for change in log.changes if isinstance(change, RowsChange)]
    ours = [row for change in changes for row in _flat(change, known[change.table.name])]
    theirs = list(_spelled(tables, slot, known))
    assert len(theirs) > _STEPS / 3
    for mine, said in zip(ours, theirs, strict=True):
        assert mine[:2] == said[:2]
        before, after = mine[2:]
        assert {name: before.get(name, MISSING) for name in said[2]} == said[2]
        assert after == said[3]


def _watch(table: Table) -> Watch:
    names = tuple(column.name for column in table.columns)
    return Watch(TableName("public", table.name), names, frozenset(names))


def _run(connection: Any, grammar: Grammar) -> None:
    connection.execute("SET TIME ZONE 'UTC'")
    steps = [[statement] for statement in grammar.fill()]
    steps += [grammar.step(0.0) for _ in range(_STEPS)]
    for step in steps:
        for statement in step:
            try:
                connection.execute(statement)
            except psycopg.Error:
                with contextlib.suppress(psycopg.Error):
                    connection.execute("ROLLBACK TO SAVEPOINT undo_to")
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")


def _flat(change: RowsChange, table: Table) -> Iterator[Row]:
    names = [column.name for column in table.columns]
    nothing: list[Any] = [()] * max(len(change.before), len(change.after))
    for before, after in zip(change.before or nothing, change.after or nothing, strict=True):
        yield (change.table.name, change.kind.value, _named(names, before), _named(names, after))


def _named(names: list[str], row: tuple[Any, ...]) -> Values:
    return {n: v for n, v in zip(names, row, strict=False) if v is not MISSING}


def _spelled(tables: Tables, slot: str, known: dict[str, Table]) -> Iterator[Row]:
    """What the server says; an update that changes nothing is left out where that can be seen."""
    full = {name for [name] in tables.ask("SELECT relname FROM pg_class WHERE relreplident = 'f'")}
    for [text] in tables.ask(f"SELECT data FROM pg_logical_slot_get_changes('{slot}', NULL, NULL)"):
        if (found := _CHANGE.match(text)) is None:
            continue
        name, what, rest = found.groups()
        old_text, _, new_text = rest.rpartition("new-tuple: ")
        if what == "INSERT":
            yield (name, "insert", {}, _read(rest, known[name]))
        elif what == "DELETE":
            yield (name, "delete", _read(rest, known[name]), {})
        else:
            old, new = _read(old_text, known[name]), _read(new_text or rest, known[name])
            if name in full:  # NULLs are left out of what was; TOAST that is the same, of what is
                old = dict.fromkeys(c.name for c in known[name].columns) | old
                new = {**old, **new}
                if old == new:
                    continue
            yield (name, "update", old, new)


def _read(text: str, table: Table) -> Values:
    shapes = {column.name: column.kind for column in table.columns}
    return {
        name: _value(value, shapes[name].ddl)
        for name, value in _VALUE.findall(text)
        if value != "unchanged-toast-datum" and name in shapes
    }


def _value(text: str, ddl: str) -> Any:
    if text == "null":
        return None
    if text in ("true", "false"):
        return int(text == "true")
    plain = text.removeprefix("B")[1:-1].replace("''", "'") if text[-1] == "'" else text
    if ddl in ("int2", "int4", "int8", "small", "smaller"):
        return int(plain)
    if ddl == "bytea":
        return bytes.fromhex(plain[2:])
    return plain
