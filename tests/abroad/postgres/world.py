"""One world on PostgreSQL: made from its number, followed by the daemon, and judged."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any, ClassVar

import psycopg
from psycopg.pq import TransactionStatus

from projector.postgres.position import parse_lsn
from tests.abroad.postgres import grammar, kinds, schemas, settings
from tests.abroad.worlds import oracle
from tests.abroad.worlds.module import columns_read
from tests.abroad.worlds.plan import Judged
from tests.abroad.worlds.schemas import Table
from tests.abroad.worlds.world import World
from tests.postgres.world import is_settled
from tests.servers import PostgresServer, TcpProxy
from tests.servers.role import role_of, role_url

_SESSION = (
    "SET client_encoding = UTF8", "SET TIME ZONE 'UTC'", "SET datestyle = 'ISO, MDY'",
    "SET bytea_output = hex", "SET extra_float_digits = 1", "SET standard_conforming_strings = on",
    "SET search_path = public", "SET statement_timeout = 0", "SET lock_timeout = '2s'",
    "SET idle_session_timeout = 0", "SET idle_in_transaction_session_timeout = 0",
    "SET default_transaction_read_only = off", "SET transform_null_equals = off",
    "SET default_transaction_isolation = 'read committed'", "SET array_nulls = on",
    "SET row_security = on", "SET quote_all_identifiers = off", "SET enable_nestloop = on",
    "SET transaction_timeout = 0", "SET client_min_messages = warning",
    "SET synchronous_commit = on", "SET gin_fuzzy_search_limit = 0",
)  # fmt: skip
_BOOLEAN, _BYTEA = 16, 17  # type oids
_NOTICED_S = 4.0  # the daemon looks at the publication each second
_ARRAYS: dict[str, Any] = {
    "{}": [], "{1,NULL,3}": [1, None, 3], "{{1,2},{3,4}}": [[1, 2], [3, 4]], "[2:3]={7,8}": [7, 8],
    '{"a,b",NULL,"NULL","","q\\"\\\\"}': ["a,b", None, "NULL", "", 'q"\\'],
    "{z,b}": ["z", "b"], "{NULL,ab}": [None, "ab"],
}  # fmt: skip


def _numeric(value: str) -> str:
    if value in ("NaN", "Infinity", "-Infinity"):
        raise oracle.NoForm(value)
    return str(Decimal(value))


oracle.SHAPES.update({
    "numeric": _numeric, "int[]": _ARRAYS.__getitem__,
    "text[]": _ARRAYS.__getitem__,
})  # fmt: skip


@dataclass
class PostgresWorld(World):
    """As `World`; `database` is a PostgresServer."""

    section: ClassVar[str] = "SOURCE"
    refusals: ClassVar[type[Exception]] = psycopg.Error
    incomparable: ClassVar[tuple[str, ...]] = ("(42P22", "(42883")

    def _make(self, stack: contextlib.ExitStack) -> None:
        server: Any = self.database
        self._server: PostgresServer = server
        self._stack, self.documents = stack, 0
        self.role = role_of(self.name)
        self._drop()
        self._create_database(self.plan.chance("server"))
        stack.callback(self._drop)
        self.root = stack.enter_context(contextlib.closing(self._connect(self.name)))
        [[number]] = self._rows(self.root, "SHOW server_version_num")
        version = int(number) // 10000
        for statement in (f'CREATE SCHEMA "{schemas.OTHER_SCHEMA}"', *kinds.TYPES):
            self._try(self.root, statement)
        self.schema = schemas.generate(self.plan.chance, version, self._server.has_icu)
        self._create()
        publication = self._publication()
        self.grammar: Any = grammar.Grammar(
            self.plan.chance("history"), self.schema, self.role, publication,
            absences=self.plan.chance("absences").random() < 0.9,
        )  # fmt: skip
        self.log.append("-- first rows")
        for statement in self.grammar.fill():
            self._run(self.root, statement)
        self._declare(stack)
        for whose, name, value in settings.choose(self.plan.chance, version):
            self._try(self.root, settings.statement(whose, name, value, self.role, self.name))
        self._start_parts(stack)

    def _create_database(self, random: Random) -> None:
        """Mostly as others are; at times with another encoding, or with other rules for texts."""
        kinds = ["ENCODING LATIN1 LOCALE 'C'", "ENCODING EUC_JP LOCALE 'C'", "LOCALE 'C'"]
        said = f"TEMPLATE template0 {random.choice(kinds)}" if random.random() < 0.2 else ""
        if said:
            said += " LOCALE_PROVIDER libc"
        self._server.execute(f'CREATE DATABASE "{self.name}" {said}')
        self.log.append(f"CREATE DATABASE {said}")

    def _publication(self) -> str:
        """Make role and publication; return its name if it lists its tables."""
        random = self.plan.chance("account")
        named = ", ".join(table.sql for table in self.schema.watched)
        other = schemas.quoted(schemas.OTHER_SCHEMA)
        what, listed = random.choice([
            (f"FOR TABLE {named}", True), (f"FOR TABLE {named}", True), ("FOR ALL TABLES", False),
            (f"FOR TABLES IN SCHEMA public, {other}", False),
        ])  # fmt: skip
        self._do_all(
            f"CREATE ROLE {self.role} LOGIN REPLICATION PASSWORD 'documented-secret'",
            f"GRANT USAGE ON SCHEMA public, {other} TO {self.role}",
            f"CREATE PUBLICATION projector {what}",
        )
        return "projector" if listed else ""

    def _account(self, stack: contextlib.ExitStack) -> str:
        """Grant the tables whole, or at times only the columns that are read."""
        random = self.plan.chance("account")
        by_column = random.random() < 0.15
        for table in self.schema.watched:
            read = [
                c for c in table.columns if c.name in columns_read(self.text, table, self.specs)
            ]
            columns = f" ({schemas.listed(read)})" if by_column and read else ""
            self._do_all(f"GRANT SELECT{columns} ON {table.sql} TO {self.role}")
        return role_url(self._server, self.name)

    def _proxy(self) -> type[TcpProxy]:
        return TcpProxy  # no refusals in the words of this protocol

    @property
    def slot(self) -> str:
        return f"s_{self.name}"

    def _settings_of_the_daemon(self, url: str, random: Random) -> dict[str, str]:
        usual = super()._settings_of_the_daemon(url, random)
        return {**usual, "PROJECTOR_SOURCE__SLOT": self.slot}

    def _do_all(self, *statements: str) -> None:
        for statement in statements:
            self._rows(self.root, statement)
            self.log.append(statement)

    def _drop(self) -> None:
        with contextlib.closing(self._connect(None)) as connection:
            self._end_prepared(connection, but="")
        self._server.drop_database(self.name)
        self._server.execute(f"DROP ROLE IF EXISTS {self.role}")

    def _connect(self, name: str | None, charset: str = "utf8mb4") -> Any:
        connection = self._server.connect(name)
        for statement in _SESSION:
            with contextlib.suppress(psycopg.Error):
                connection.execute(statement)  # type: ignore[arg-type]
        if charset == "latin1":
            with contextlib.suppress(psycopg.Error):  # the database may have another encoding
                connection.execute("SET client_encoding = LATIN1")
        return connection

    def _live(self) -> None:
        """As elsewhere; and in the end something that no later change mends."""
        super()._live()
        if self.plan.chance("silent").random() < 0.5:
            for statement in self.grammar.silent():
                self._run(self.root, statement)
            self._mend()
            self._check()

    def _lose_log(self, random: Random) -> None:
        """Drop the slot at times."""
        if random.random() < 0.15:
            named = f"FROM pg_replication_slots WHERE slot_name = '{self.slot}'"
            self._try(
                self.root, f"SELECT pg_terminate_backend(active_pid, 5000) {named} AND active"
            )
            self._try(self.root, f"SELECT pg_drop_replication_slot(slot_name) {named}")

    def _leave_nothing_open(self, connection: Any) -> None:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        self._end_prepared(connection, but="pending")

    def _end_prepared(self, connection: Any, but: str) -> None:
        """Roll transactions back that were prepared, but for those whose names begin so."""
        sql = f"SELECT gid FROM pg_prepared_xacts WHERE database = '{self.name}'"
        with contextlib.suppress(psycopg.Error):
            for [name] in self._rows(connection, sql):
                if not but or not name.startswith(but):
                    connection.execute(f"ROLLBACK PREPARED '{name}'")

    def _mend(self) -> None:
        """Put back what a refused statement left half done."""
        with contextlib.closing(self._connect(self.name)) as connection:
            self._leave_nothing_open(connection)
            for table in self.schema.watched:
                schema = schemas.quoted(getattr(table, "schema", "") or "public")
                name = schemas.quoted(table.name)
                for away in ("away", "old_one", "new_one"):
                    if not self._columns(connection, table):
                        self._try(connection, f"ALTER TABLE {schema}.{away} RENAME TO {name}")
                missing = {c.name for c in table.columns} - self._columns(connection, table)
                if len(missing) == 1:
                    gone = schemas.quoted(missing.pop())
                    self._try(connection, f"ALTER TABLE {table.sql} RENAME away TO {gone}")
                if {c.name for c in table.columns} - self._columns(connection, table):
                    raise Judged("skipped", f"{table.name} is gone, or a column of it")
                self._try(connection, f"GRANT SELECT ON {table.sql} TO {self.role}")
                self._publish(connection, table)

    def _publish(self, connection: Any, table: Table) -> None:
        literal = "'" + table.sql.replace("'", "''") + "'"
        sql = (
            "SELECT FROM pg_publication_tables WHERE pubname = 'projector' AND"
            " format('%I.%I', schemaname, tablename)::regclass = ANY("
            f" SELECT {literal}::regclass UNION SELECT relid FROM pg_partition_tree({literal}))"
        )
        if not self._rows(connection, sql):
            self._try(connection, f"ALTER PUBLICATION projector ADD TABLE {table.sql}")

    def _columns(self, connection: Any, table: Table) -> set[str]:
        literal = "'" + table.sql.replace("'", "''") + "'"
        sql = (
            f"SELECT attname FROM pg_attribute WHERE attrelid = to_regclass({literal})"
            " AND attnum > 0 AND NOT attisdropped"
        )
        return {name for [name] in self._rows(connection, sql)}

    @staticmethod
    def _rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
        cursor = connection.execute(sql)
        return list(cursor.fetchall()) if cursor.description is not None else []

    def _try(self, connection: Any, sql: str) -> Any:
        """Run a statement; return the SQLSTATE of the error that it met, None without. What is
        refused in a transaction is undone to the savepoint before it."""
        try:
            connection.execute(sql)
        except UnicodeEncodeError:
            return "22P05"  # the client's character set lacks it
        except psycopg.Error as error:
            self.log.append(f"-- {error.sqlstate}: {sql}")
            if connection.info.transaction_status == TransactionStatus.INERROR:
                with contextlib.suppress(psycopg.Error):
                    connection.execute("ROLLBACK TO SAVEPOINT undo_to")
            return error.sqlstate or "?"
        self.log.append(sql)
        return None

    # Judging.

    def _asking(self) -> Any:
        return _Asking(self.root)

    def _unnoticed_s(self) -> float:
        """As elsewhere; what the stream does not tell is noticed within a second or two."""
        hides, self.grammar.hides = self.grammar.hides, False
        return max(super()._unnoticed_s(), _NOTICED_S if hides else 0.0)

    def _end_of_log(self) -> int:
        self._rows(self.root, "SELECT pg_logical_emit_message(true, 'settle', '')")
        [[end]] = self._rows(self.root, "SELECT pg_current_wal_lsn()::text")
        return parse_lsn(end)

    def _is_settled(self, name: str, end: Any) -> bool:
        return is_settled(self.redis, name, end)


class _Asking:
    """A connection whose rows are the server's own texts: no type is read by anything of ours."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def cursor(self) -> contextlib.AbstractContextManager[_Cursor]:
        return contextlib.nullcontext(_Cursor(self._connection))


class _Cursor:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, sql: str) -> None:
        self._found = self._connection.execute(sql)  # type: ignore[arg-type]

    def fetchall(self) -> list[tuple[Any, ...]]:
        result = self._found.pgresult
        assert result is not None
        types = [result.ftype(column) for column in range(result.nfields)]
        return [
            tuple(_plain(result.get_value(row, n), oid) for n, oid in enumerate(types))
            for row in range(result.ntuples)
        ]


def _plain(value: bytes | None, oid: int) -> str | bytes | None:
    if value is None:
        return None
    if oid == _BOOLEAN:
        return "1" if value == b"t" else "0"
    return bytes.fromhex(value[2:].decode()) if oid == _BYTEA else value.decode()
