"""Statements over made-up tables of PostgreSQL's: rows that come, change, move, go; definitions.

A step is a few statements on one connection; what a server refuses of it is left out. In a
transaction each statement stands behind a savepoint, to which what was refused is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import ClassVar

from tests.abroad.postgres.schemas import PostgresTable, identity, listed, quoted
from tests.abroad.worlds.rows import Rows
from tests.abroad.worlds.schemas import Schema, Table

Step = list[str]
SAVEPOINT = "SAVEPOINT undo_to"
_SESSIONS = (
    "SET session_replication_role = replica", "SET synchronous_commit = off",
    "SET TIME ZONE 'Asia/Kolkata'", "SET datestyle = 'SQL, DMY'", "SET search_path = nowhere",
    "SET standard_conforming_strings = off", "SET bytea_output = escape",
    "SET default_transaction_isolation = 'read committed'",
)  # fmt: skip
_WIDER = {
    "int2": "int4", "int4": "int8", "varchar(20)": "text", "numeric(10,2)": "numeric(14,2)",
    "timestamp(0)": "timestamp", "word": "text",
}  # fmt: skip
_COMPUTED = {
    "int4": "{} % 4 + 1", "int8": "{} / 2", "text": "upper({})", "varchar": "{} || 'x'",
    "boolean": "NOT {}", "numeric(12,4)": "{} + 1", "date": "{} + 1",
}  # fmt: skip


class Grammar(Rows):
    """Makes steps. `publication` names the one whose tables are listed in it, if there is such;
    `absences` lets tables and columns be away for a moment."""

    sessions: ClassVar[Sequence[str]] = _SESSIONS
    quoted: ClassVar[Callable[[str], str]] = staticmethod(quoted)

    def __init__(
        self, random: Random, schema: Schema, role: str, publication: str, *, absences: bool
    ) -> None:
        super().__init__(random, schema)
        self._role, self._publication, self._absences = role, publication, absences
        self.hides = False  # some change has been hidden from the publication for a while

    def step(self, definitions: float) -> Step:
        """Some statements; with the chance `definitions` they define."""
        random = self._random
        if random.random() < definitions:
            return self.definition()
        kind = random.choices(
            ["single", "transaction", "savepoint", "rollback", "prepared"], [8, 4, 1, 1, 1]
        )[0]
        many = [self.statement() for _ in range(random.choice([1, 2, 4]))]
        if kind == "single":
            return many
        within = [word for statement in many for word in (SAVEPOINT, statement)]
        if kind == "transaction":
            return ["BEGIN", *within, "COMMIT"]
        if kind == "rollback":
            return ["BEGIN", *within, "ROLLBACK"]
        if kind == "savepoint":
            return ["BEGIN", *within, "SAVEPOINT s", self.statement(), "ROLLBACK TO SAVEPOINT s",
                    SAVEPOINT, self.statement(), "COMMIT"]  # fmt: skip
        name = self._name()
        ends = [f"COMMIT PREPARED {name}", f"ROLLBACK PREPARED {name}"]
        return ["BEGIN", *within, f"PREPARE TRANSACTION {name}", random.choice([*ends, ends[0]])]

    def pending(self) -> tuple[Step, Step]:
        """A transaction that somebody prepared and forgot; what commits it, what rolls it back."""
        name = self._name("pending")
        table = self._random.choice(self._schema.watched)
        steps = ["BEGIN", self._insert(table), f"PREPARE TRANSACTION {name}"]
        return steps, [f"COMMIT PREPARED {name}", f"ROLLBACK PREPARED {name}"]

    def _name(self, prefix: str = "g") -> str:
        self._counter += 1
        return f"'{prefix}{self._role}{self._counter}'"

    def statement(self) -> str:
        """One change of rows."""
        table = self._random.choice(self._schema.tables)
        return self._random.choices(
            [self._any_insert, self._update, self._move, self._delete, self._update_joined,
             self._delete_joined, self._copy, self._truncate, self._through_view, self._merge,
             self._returning],
            [8, 8, 3, 4, 2, 2, 1, 0.6, 1, 1, 1],
        )[0](table)  # fmt: skip

    def definition(self) -> Step:
        """A definition, or several that belong together."""
        random = self._random
        table = random.choice(self._schema.watched)
        makers = [
            (self._add_column, 3), (self._drop_column, 2), (self._widen, 3), (self._identity, 3),
            (self._index, 1), (self._rebuild, 2), (self._noise, 2), (self._swap, 1),
            (self._unpublish, 1), (self._enum, 1), (self._message, 1), (self._default, 1),
            (self._repartition, 2), (self._recompute, 2),
        ]  # fmt: skip
        if self._absences:
            makers += [(self._rename_twice, 1), (self._table_away, 1)]
        return random.choices([m for m, _ in makers], [w for _, w in makers])[0](table)

    def silent(self) -> Step:
        """A definition that changes rows or values, of which the stream tells nothing."""
        table = self._random.choice(self._schema.watched)
        return self._random.choice([self._repartition, self._recompute, self._swap])(table)

    # Rows.

    def _insert(self, table: Table, conflict: str = " ON CONFLICT DO NOTHING") -> str:
        rows = self._rows(table)
        return f"INSERT INTO {table.sql} ({listed(table.writable)}) VALUES {rows}{conflict}"

    def _any_insert(self, table: Table) -> str:
        if self._random.random() < 0.6 or not table.key:
            return self._insert(table)
        column = quoted(self._random.choice(table.writable).name)
        changed = self._random.choice(
            [f"{column} = excluded.{column}", self._changes(table.writable)]
        )
        return self._insert(table, f" ON CONFLICT ({listed(table.key)}) DO UPDATE SET {changed}")

    def _where(self, table: Table, prefix: str = "") -> str:
        columns = [c for c in table.writable if c in table.key or c.kind.can_be_key]
        column = self._random.choice(columns)
        value = self._value(column)
        return f"{prefix}{quoted(column.name)} {'IS NULL' if value == 'NULL' else f'= {value}'}"

    def _some(self, table: Table) -> str:
        return f"ctid IN (SELECT ctid FROM {table.sql} WHERE {self._where(table)} LIMIT 3)"

    def _update(self, table: Table) -> str:
        columns = self._beside_key(table)
        where = self._random.choice([self._some, self._some, self._where])(table)
        return f"UPDATE {table.sql} SET {self._changes(columns)} WHERE {where}"

    def _move(self, table: Table) -> str:
        """Change a key."""
        columns = self._of_keys(table)
        one = f"ctid = (SELECT ctid FROM {table.sql} WHERE {self._where(table)} LIMIT 1)"
        return f"UPDATE {table.sql} SET {self._changes(columns)} WHERE {one}"

    def _delete(self, table: Table) -> str:
        return f"DELETE FROM {table.sql} WHERE {self._some(table)}"

    def _update_joined(self, table: Table) -> str:
        other = self._random.choice(self._schema.tables)
        return (
            f"UPDATE {table.sql} AS x SET {self._changes(table.writable)} FROM {other.sql} AS y"
            f" WHERE {self._where(table, 'x.')} AND {self._where(other, 'y.')}"
        )

    def _delete_joined(self, table: Table) -> str:
        other = self._random.choice(self._schema.tables)
        return (
            f"DELETE FROM {table.sql} AS x USING {other.sql} AS y"
            f" WHERE {self._where(table, 'x.')} AND {self._where(other, 'y.')}"
        )

    def _copy(self, table: Table) -> str:
        return (
            f"INSERT INTO {table.sql} ({listed(table.writable)}) SELECT {self._copied(table, 0.2)}"
            f" FROM {table.sql} AS other LIMIT 2 ON CONFLICT DO NOTHING"
        )

    def _truncate(self, table: Table) -> str:
        other = self._random.choice(self._schema.tables)
        return self._random.choice([
            f"TRUNCATE {table.sql}", f"TRUNCATE TABLE ONLY {table.sql} RESTART IDENTITY",
            f"TRUNCATE {table.sql} CASCADE", f"TRUNCATE {table.sql}, {other.sql} CASCADE",
            f"DELETE FROM {table.sql}",
        ])  # fmt: skip

    def _through_view(self, table: Table) -> str:
        if not self._has_view:
            return self._update(table)
        seen = self._seen()
        return f"UPDATE seen SET {self._changes(seen.writable)} WHERE {self._where(seen)}"

    def _merge(self, table: Table) -> str:
        if not table.key:
            return self._update(table)
        key = table.key[0]
        return (
            f"MERGE INTO {table.sql} AS x"
            f" USING (SELECT {self._value(key)}::{key.kind.ddl} AS v) AS y"
            f" ON x.{quoted(key.name)} = y.v WHEN MATCHED THEN UPDATE SET"
            f" {self._changes([c for c in table.writable if c is not key] or [key])}"
            f" WHEN NOT MATCHED THEN INSERT ({listed(table.writable)}) VALUES {self._row(table)}"
        )

    def _returning(self, table: Table) -> str:
        """Take rows out and put them back changed, in one statement."""
        values = self._copied(table, 0.3)
        return (
            f"WITH gone AS (DELETE FROM {table.sql} WHERE {self._some(table)} RETURNING *)"
            f" INSERT INTO {table.sql} ({listed(table.writable)}) SELECT {values}"
            " FROM gone LIMIT 1 ON CONFLICT DO NOTHING"
        )

    # Definitions.

    def _add_column(self, table: Table) -> Step:
        self._counter += 1
        name = f"added_{self._counter}"
        self._added.append((table, name))
        kind = self._random.choice(["int DEFAULT 7", "text DEFAULT random()::text", "bytea"])
        return [f"ALTER TABLE {table.sql} ADD COLUMN {name} {kind}"]

    def _drop_column(self, table: Table) -> Step:
        if not self._added:
            return self._add_column(table)
        table, name = self._added.pop(self._random.randrange(len(self._added)))
        return [f"ALTER TABLE {table.sql} DROP COLUMN {name}"]

    def _widen(self, table: Table) -> Step:
        column = self._random.choice(table.writable)
        wider = _WIDER.get(column.kind.ddl)
        if wider is None or column.kind.collation:
            return self._identity(table)
        return [f"ALTER TABLE {table.sql} ALTER COLUMN {quoted(column.name)} TYPE {wider}"]

    def _identity(self, table: Table) -> Step:
        return [identity(self._random, table), self._update(table)]

    def _index(self, table: Table) -> Step:
        column = quoted(self._random.choice(table.columns).name)
        how = self._random.choice(["", " CONCURRENTLY"])
        return [f"CREATE INDEX{how} ON {table.sql} ({column})"]

    def _rebuild(self, table: Table) -> Step:
        return [self._random.choice([
            f"VACUUM FULL {table.sql}", f"ANALYZE {table.sql}", f"REINDEX TABLE {table.sql}",
            f"ALTER TABLE {table.sql} SET (fillfactor = 50)",
            f"COMMENT ON TABLE {table.sql} IS 'TRUNCATE TABLE x'", f"VACUUM FREEZE {table.sql}",
        ])]  # fmt: skip

    def _default(self, table: Table) -> Step:
        column = quoted(self._random.choice(table.writable).name)
        how = self._random.choice(["SET STATISTICS 5", "SET STORAGE EXTERNAL", "SET DEFAULT NULL"])
        return [f"ALTER TABLE {table.sql} ALTER COLUMN {column} {how}"]

    def _rename_twice(self, table: Table) -> Step:
        column = quoted(self._random.choice(table.writable).name)
        return [f"ALTER TABLE {table.sql} RENAME COLUMN {column} TO away", self._delete(table),
                f"ALTER TABLE {table.sql} RENAME COLUMN away TO {column}"]  # fmt: skip

    def _table_away(self, table: Table) -> Step:
        schema = quoted(getattr(table, "schema", "") or "public")
        return [f"ALTER TABLE {table.sql} RENAME TO away", self.statement(),
                f"DELETE FROM {schema}.away WHERE ctid IN (SELECT ctid FROM {schema}.away LIMIT 1)",
                f"ALTER TABLE {schema}.away RENAME TO {quoted(table.name)}"]  # fmt: skip

    def _swap(self, table: Table) -> Step:
        """Put a copy in a table's place, in one transaction or in several."""
        assert isinstance(table, PostgresTable)
        if table.parts:
            return self._rebuild(table)
        schema, name = quoted(table.schema or "public"), quoted(table.name)
        granted = [f"GRANT SELECT ON {table.sql} TO {self._role}"]
        self.hides = True
        if self._publication:
            granted.append(f"ALTER PUBLICATION {self._publication} ADD TABLE {table.sql}")
        changed = [
            f"CREATE TABLE {schema}.new_one (LIKE {table.sql} INCLUDING ALL)",
            f"INSERT INTO {schema}.new_one ({listed(table.writable)})"
            f" SELECT {listed(table.writable)} FROM {table.sql} OFFSET 1",
            f"ALTER TABLE {table.sql} RENAME TO old_one",
            f"ALTER TABLE {schema}.new_one RENAME TO {name}", *granted,
        ]  # fmt: skip
        if not self._absences or self._random.random() < 0.6:
            changed = ["BEGIN", *changed, "COMMIT"]
        return [*changed, f"DROP TABLE IF EXISTS {schema}.old_one CASCADE"]

    def _unpublish(self, table: Table) -> Step:
        """Take a table out of the publication, and put it back; changes between are hidden."""
        if not self._publication:
            return self._noise(table)
        self.hides = True
        return [f"ALTER PUBLICATION {self._publication} DROP TABLE {table.sql}",
                self._any_insert(table), self._delete(table),
                f"ALTER PUBLICATION {self._publication} ADD TABLE {table.sql}"]  # fmt: skip

    def _repartition(self, table: Table) -> Step:
        """Take a partition away with its rows, change them there, and put it back, or another."""
        parted = [t for t in self._schema.watched if isinstance(t, PostgresTable) and t.parts]
        if not parted:
            return self._swap(table)
        self.hides = True
        root = self._random.choice(parted)
        made = self._random.choice(root.inner)
        name, _, values = made.removeprefix("CREATE TABLE ").partition(f" PARTITION OF {root.sql} ")
        detached = f"ALTER TABLE {root.sql} DETACH PARTITION {name}"
        some = f"ctid IN (SELECT ctid FROM {name} LIMIT 2)"
        return self._random.choice([
            [f"DROP TABLE {name}", made],
            ["BEGIN", detached, f"DROP TABLE {name}", made, "COMMIT"],
            [detached, f"DELETE FROM {name} WHERE {some}", self._any_insert(root),
             f"ALTER TABLE {root.sql} ATTACH PARTITION {name} {values}"],
        ])  # fmt: skip

    def _recompute(self, table: Table) -> Step:
        """Recompute the values of a column; its type stays the same."""
        fit = [c for c in table.writable if c not in table.key and c.kind.ddl in _COMPUTED]
        if not fit:
            return self._rebuild(table)
        self.hides = True
        column = self._random.choice(fit)
        name = quoted(column.name)
        how = _COMPUTED[column.kind.ddl].format(name)
        return [f"ALTER TABLE {table.sql} ALTER COLUMN {name} TYPE {column.kind.type} USING {how}"]

    def _enum(self, table: Table) -> Step:
        self._counter += 1
        return [f"ALTER TYPE mood ADD VALUE 'new{self._counter}' BEFORE 'b'"]

    def _message(self, table: Table) -> Step:
        return [
            f"SELECT pg_logical_emit_message({self._random.choice(['true', 'false'])}, 'x', 'y')"
        ]

    def _noise(self, table: Table) -> Step:
        """What concerns nobody."""
        self._counter += 1
        name = f"noise_{self._counter}"
        return [
            f"CREATE {self._random.choice(['', 'TEMPORARY ', 'UNLOGGED '])}TABLE {name} (id int)",
            f"INSERT INTO {name} SELECT generate_series(1, 500)",
            self._random.choice([f"DROP TABLE {name}", f"TRUNCATE {name}", "SELECT pg_switch_wal()",
                                 "CHECKPOINT", f"CREATE MATERIALIZED VIEW {name}_v AS SELECT 1"]),
        ]  # fmt: skip
