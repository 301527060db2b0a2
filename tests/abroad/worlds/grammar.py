"""Statements over made-up tables: rows that come, change, move and are deleted, and definitions.

A step is a few statements on one connection; what a server refuses of it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from tests.abroad.worlds.rows import Rows
from tests.abroad.worlds.schemas import Schema, Table, listed, quoted
from tests.servers import Flavour

Step = list[str]
_SESSIONS = (
    "SET SESSION binlog_format = STATEMENT", "SET SESSION binlog_format = MIXED",
    "SET SESSION sql_mode = ''", "SET SESSION binlog_row_image = MINIMAL",
    "SET SESSION binlog_row_image = FULL", "SET SESSION foreign_key_checks = 0",
    "SET SESSION time_zone = '-03:00'", "SET SESSION sql_mode = 'ANSI_QUOTES'",
    "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'", "SET SESSION unique_checks = 0",
)  # fmt: skip


class Grammar(Rows):
    """Makes steps. `schema_name` is for statements that name the database; `absences` lets tables
    and columns be away for a moment."""

    sessions: ClassVar[Sequence[str]] = _SESSIONS

    def __init__(
        self,
        random: Random,
        schema: Schema,
        flavour: Flavour,
        schema_name: str,
        *,
        absences: bool = True,
    ) -> None:
        super().__init__(random, schema)
        self._flavour, self._name, self._absences = flavour, schema_name, absences

    def step(self, definitions: float) -> Step:
        """Some statements; with the chance `definitions` they define."""
        random = self._random
        if random.random() < definitions:
            return self.definition()
        kind = random.choices(
            ["single", "transaction", "savepoint", "rollback", "xa", "locked"], [8, 4, 1, 1, 1, 1]
        )[0]
        many = [self.statement() for _ in range(random.choice([1, 2, 4]))]
        if kind == "single":
            return many
        if kind == "transaction":
            return ["START TRANSACTION", *many, "COMMIT"]
        if kind == "rollback":
            return ["START TRANSACTION", *many, "ROLLBACK"]
        if kind == "savepoint":
            undone = [self.statement() for _ in range(2)]
            return ["START TRANSACTION", *many, "SAVEPOINT s", *undone, "ROLLBACK TO SAVEPOINT s",
                    self.statement(), "COMMIT"]  # fmt: skip
        if kind == "locked":
            table = random.choice(self._schema.watched)
            return [f"LOCK TABLES {quoted(table.name)} WRITE", self._update(table), "UNLOCK TABLES"]
        return self._xa(many)

    def _xa(self, many: Sequence[str]) -> Step:
        self._counter += 1
        name = f"'{self._name}{self._counter}'"
        ends = [[f"XA COMMIT {name} ONE PHASE"], [f"XA PREPARE {name}", f"XA COMMIT {name}"],
                [f"XA PREPARE {name}", f"XA ROLLBACK {name}"]]  # fmt: skip
        return [f"XA START {name}", *many, f"XA END {name}", *self._random.choice(ends)]

    def statement(self) -> str:
        """One change of rows."""
        random = self._random
        table = random.choice(self._schema.tables)
        made = random.choices(
            [self._any_insert, self._update, self._move, self._delete, self._update_joined,
             self._delete_joined, self._copy, self._truncate, self._through_view],
            [8, 8, 3, 4, 2, 2, 1, 0.6, 1],
        )[0](table)  # fmt: skip
        return made

    def definition(self) -> Step:
        """A definition, or several that belong together."""
        random = self._random
        table = random.choice(self._schema.watched)
        makers = [
            (self._add_column, 3), (self._drop_column, 2), (self._widen, 3), (self._reorder, 3),
            (self._swap, 1), (self._index, 1),
            (self._rebuild, 1), (self._deduplicate, 1), (self._noise, 2), (self._charset, 1),
            (self._triggers, 2), (self._foreign_key, 1),
        ]  # fmt: skip
        if self._absences:
            makers += [(self._rename_twice, 1), (self._table_away, 1)]
        return random.choices([m for m, _ in makers], [w for _, w in makers])[0](table)

    # Rows.

    def _insert(self, table: Table, verb: str = "INSERT IGNORE INTO") -> str:
        rows = self._rows(table)
        return f"{verb} {self._spelled(table)} ({listed(table.writable)}) VALUES {rows}"

    def _any_insert(self, table: Table) -> str:
        kind = self._random.choice(["INSERT INTO", "INSERT IGNORE INTO", "REPLACE INTO", "update"])
        if kind != "update":
            return self._insert(table, kind)
        changed = self._random.choice(table.writable)
        name = quoted(changed.name)
        tail = self._random.choice([f"VALUES({name})", self._value(changed)])
        return f"{self._insert(table, 'INSERT INTO')} ON DUPLICATE KEY UPDATE {name} = {tail}"

    def _where(self, table: Table, prefix: str = "") -> str:
        random = self._random
        column = random.choice([*table.key, *(c for c in table.columns if c.kind.can_be_key)])
        if column.generated:
            column = random.choice(table.writable)
        if column.kind.shape == "json":
            return "TRUE"
        value = self._value(column)
        return f"{prefix}{quoted(column.name)} {'IS NULL' if value == 'NULL' else f'= {value}'}"

    def _update(self, table: Table) -> str:
        columns = self._beside_key(table)
        limit = self._random.choice(["", " LIMIT 3", " ORDER BY 1 LIMIT 2"])
        if "ORDER" in limit:
            limit = f" ORDER BY {quoted(columns[0].name)} LIMIT 2"
        return (
            f"UPDATE IGNORE {self._spelled(table)} SET {self._changes(columns)}"
            f" WHERE {self._where(table)}{limit}"
        )

    def _move(self, table: Table) -> str:
        """Change a key."""
        columns = self._of_keys(table)
        verb = self._random.choice(["UPDATE", "UPDATE IGNORE"])
        where = self._where(table)
        return f"{verb} {self._spelled(table)} SET {self._changes(columns)} WHERE {where} LIMIT 2"

    def _delete(self, table: Table) -> str:
        return f"DELETE FROM {self._spelled(table)} WHERE {self._where(table)} LIMIT 3"

    def _update_joined(self, table: Table) -> str:
        other = self._random.choice(self._schema.tables)
        return (
            f"UPDATE IGNORE {quoted(table.name)} AS x JOIN {quoted(other.name)} AS y"
            f" ON {self._where(other, 'y.')} SET {self._changes(table.writable, 'x.')}"
            f" WHERE {self._where(table, 'x.')}"
        )

    def _delete_joined(self, table: Table) -> str:
        other = self._random.choice(self._schema.tables)
        which = self._random.choice(["x", "x, y", "y"])
        return (
            f"DELETE {which} FROM {quoted(table.name)} AS x JOIN {quoted(other.name)} AS y"
            f" WHERE {self._where(table, 'x.')} AND {self._where(other, 'y.')}"
        )

    def _copy(self, table: Table) -> str:
        return (
            f"INSERT IGNORE INTO {quoted(table.name)} ({listed(table.writable)})"
            f" SELECT {self._copied(table, 0.2)} FROM {quoted(table.name)} AS other LIMIT 2"
        )

    def _truncate(self, table: Table) -> str:
        return self._random.choice(["TRUNCATE TABLE {}", "truncate {}", "DELETE FROM {}"]).format(
            self._spelled(table)
        )

    def _through_view(self, table: Table) -> str:
        if not self._has_view:
            return self._update(table)
        seen = self._seen()
        return f"UPDATE IGNORE seen SET {self._changes(seen.writable)} WHERE {self._where(seen)}"

    def _spelled(self, table: Table) -> str:
        if self._random.random() < 0.2:
            return f"{quoted(self._name)}.{quoted(table.name)}"
        return quoted(table.name)

    # Definitions.

    def _add_column(self, table: Table) -> Step:
        self._counter += 1
        name = f"added_{self._counter}"
        self._added.append((table, name))
        kind = self._random.choice(["INT DEFAULT 7", "VARCHAR(9) DEFAULT 'x'", "BLOB NULL"])
        after = quoted(self._random.choice(table.columns).name)
        place = self._random.choice(["", " FIRST", f" AFTER {after}"])
        return [f"ALTER TABLE {self._spelled(table)} ADD COLUMN {name} {kind}{place}"]

    def _drop_column(self, table: Table) -> Step:
        if not self._added:
            return self._add_column(table)
        table, name = self._added.pop(self._random.randrange(len(self._added)))
        return [f"ALTER TABLE {self._spelled(table)} DROP COLUMN {name}"]

    def _widen(self, table: Table) -> Step:
        column = self._random.choice(table.writable)
        wider = _wider(column.kind.type)
        if wider is None:
            return self._reorder(table)
        null = "NULL" if column.is_nullable else "NOT NULL"
        return [f"ALTER TABLE {self._spelled(table)} MODIFY {quoted(column.name)} {wider} {null}"]

    def _reorder(self, table: Table) -> Step:
        column = self._random.choice(table.writable)
        others = [c for c in table.columns if c is not column]
        place = "FIRST"
        if others and self._random.random() < 0.6:
            place = f"AFTER {quoted(self._random.choice(others).name)}"
        return [f"ALTER TABLE {quoted(table.name)} MODIFY {column.definition} {place}"]

    def _rename_twice(self, table: Table) -> Step:
        name, column = self._spelled(table), quoted(self._random.choice(table.writable).name)
        return [f"ALTER TABLE {name} RENAME COLUMN {column} TO away",
                f"ALTER TABLE {name} RENAME COLUMN away TO {column}"]  # fmt: skip

    def _swap(self, table: Table) -> Step:
        name = quoted(table.name)
        copied = self._random.choice([True, True, False])
        return [
            f"CREATE TABLE new_one LIKE {name}",
            *([f"INSERT IGNORE INTO new_one ({listed(table.writable)})"
               f" SELECT {listed(table.writable)} FROM {name}"] if copied else []),
            *self._random.choice([
                [f"RENAME TABLE {name} TO old_one, new_one TO {name}"],
                [f"RENAME TABLE {name} TO old_one", f"RENAME TABLE new_one TO {name}"],
            ][: 2 if self._absences else 1]),
            "DROP TABLE IF EXISTS old_one", "DROP TABLE IF EXISTS new_one",
        ]  # fmt: skip

    def _table_away(self, table: Table) -> Step:
        name = quoted(table.name)
        return [f"RENAME TABLE {name} TO away", self.statement(), f"RENAME TABLE away TO {name}"]

    def _index(self, table: Table) -> Step:
        self._counter += 1
        column = quoted(self._random.choice(table.columns).name)
        return [f"ALTER TABLE {quoted(table.name)} ADD KEY k{self._counter} ({column})"]

    def _rebuild(self, table: Table) -> Step:
        return [self._random.choice([
            f"OPTIMIZE TABLE {quoted(table.name)}", f"ANALYZE TABLE {quoted(table.name)}",
            f"ALTER TABLE {quoted(table.name)} FORCE",
            f"ALTER TABLE {quoted(table.name)} COMMENT = 'TRUNCATE TABLE x'",
        ])]  # fmt: skip

    def _deduplicate(self, table: Table) -> Step:
        column = quoted(self._random.choice(table.writable).name)
        if self._flavour is Flavour.MYSQL:
            return self._rebuild(table)
        self._counter += 1
        name = quoted(table.name)
        return [f"ALTER IGNORE TABLE {name} ADD UNIQUE KEY u{self._counter} ({column})",
                f"ALTER TABLE {name} DROP KEY u{self._counter}"]  # fmt: skip

    def _triggers(self, table: Table) -> Step:
        """Work through a trigger, and take it away before anybody reads the log."""
        made = [extra for extra in self._schema.extras if extra.startswith("CREATE TRIGGER")]
        outside = [table for table in self._schema.tables if not table.is_watched]
        if not made or not outside:
            return self._noise(table)
        trigger = self._random.choice(made)
        work = [self._any_insert(outside[0]), self._update(outside[0]), self._delete(outside[0])]
        return [trigger, *work, f"DROP TRIGGER {trigger.split()[2]}"]

    def _foreign_key(self, table: Table) -> Step:
        """Take a foreign key away, or add it again."""
        made = [extra for extra in self._schema.extras if "ADD FOREIGN KEY" in extra]
        if not made:
            return self._noise(table)
        self._counter += 1
        name = f"fk_{self._counter}"
        added = self._random.choice(made).replace("ADD FOREIGN", f"ADD CONSTRAINT {name} FOREIGN")
        head = added.partition(" ADD ")[0]
        parent = self._random.choice(self._schema.tables)
        return [added, self._delete(parent), self._move(parent), f"{head} DROP FOREIGN KEY {name}"]

    def pending(self) -> tuple[Step, Step]:
        """A transaction that somebody prepared and forgot; what commits it, what rolls it back."""
        self._counter += 1
        name = f"'pending{self._counter}'"
        table = self._random.choice(self._schema.watched)
        return [f"XA START {name}", self._insert(table, "INSERT IGNORE INTO"), f"XA END {name}",
                f"XA PREPARE {name}"], [f"XA COMMIT {name}", f"XA ROLLBACK {name}"]  # fmt: skip

    def _charset(self, table: Table) -> Step:
        return [f"ALTER TABLE {quoted(table.name)} CONVERT TO CHARACTER SET utf8mb4"]

    def _noise(self, table: Table) -> Step:
        """What concerns nobody."""
        self._counter += 1
        name = f"noise_{self._counter}"
        return [
            f"CREATE TABLE {name} (id INT PRIMARY KEY, v VARCHAR(60))",
            f"INSERT INTO {name} VALUES (1, 'DROP TABLE {table.name}')",
            self._random.choice([f"DROP TABLE {name}", f"RENAME TABLE {name} TO {name}_x",
                                 f"TRUNCATE TABLE {name}", "FLUSH BINARY LOGS"]),
        ]  # fmt: skip


def _wider(kind: str) -> str | None:
    for old, new in (
        ("TINYINT(1)", None), ("BIGINT", None), ("ZEROFILL", None), ("TINYINT", "INT"),
        ("SMALLINT", "INT"), ("MEDIUMINT", "BIGINT"), ("INT", "BIGINT"),
        ("DECIMAL(10,2)", "DECIMAL(14,4)"), ("VARCHAR(20)", "VARCHAR(200)"),
        ("CHAR(8)", "CHAR(12)"),
        ("VARCHAR(40)", "VARCHAR(300)"), ("ENUM('z','b'", "ENUM('q','z','b'"),
        ("VARBINARY(5)", "VARBINARY(40)"), ("DATETIME(6)", None), ("DATETIME", "DATETIME(6)"),
    ):  # fmt: skip
        if old in kind:
            return kind.replace(old, new) if new is not None else None
    return None
