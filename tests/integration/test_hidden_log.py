"""The completed log: replayed over the rows from before, it gives the rows from after.

The oracle is exact and knows nothing of documents: every change of a watched row, also those that
only a foreign key made, has to stand in the stream. Runs on each server, also on one that logs the
actions of foreign keys by itself.
"""

import collections
import random
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy import make_url

from projector.databases import Mysql
from projector.model import Change, Kind, Row, RowsChange, TableChange, TableName, Watch
from projector.mysql.binlog import BinlogSource
from projector.mysql.connection import Connection, engine
from projector.mysql.dialect import MYSQL
from projector.mysql.log import MysqlLog
from projector.mysql.position import Position
from projector.ports import FOR_EVER
from projector.projection import Plan, Projection
from schema.projection import tickets
from tests.seed import seed
from tests.servers import DatabaseServer, Flavour, start_database
from tests.servers.account import documented_account
from tests.servers.replica import start_replica, wait_for_replica

pytestmark = pytest.mark.server

_CHANGES = 250
_SQL = Path(__file__).parents[1] / "helpdesk.sql"


@pytest.fixture(scope="module", params=["mysql", "mysql-native", "mariadb", "mariadb11"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """MySQL 9.7 logs what foreign keys do; with native keys, and on MariaDB, nothing does."""
    options = ["--innodb-native-foreign-keys=ON"] if request.param == "mysql-native" else []
    with start_database(Flavour(request.param.partition("-")[0]), options=options) as found:
        yield found


@dataclass
class Replay:
    """The rows of watched tables as the stream tells them."""

    rows: dict[TableName, set[Row]]
    unexpected: int = 0  # images of rows that were not there: earlier ones of the same row
    seen: int = 0
    walks: collections.Counter[TableChange] = field(default_factory=collections.Counter)

    def take(self, change: Any) -> None:
        """Carry a change out."""
        if isinstance(change, TableChange):
            self.walks[change] += 1
            return
        assert isinstance(change, RowsChange)
        rows = self.rows[change.table]
        self.seen += len(change.before or change.after)
        if change.kind is Kind.INSERT:
            rows.update(change.after)
            return
        for before, after in zip(change.before, change.after or change.before, strict=True):
            if before not in rows:
                self.unexpected += 1
                continue
            rows.discard(before)
            if change.kind is Kind.UPDATE:
                rows.add(after)


class Stage:
    """A helpdesk and its completed log."""

    def __init__(self, server: DatabaseServer) -> None:
        self.name = f"test_{uuid.uuid4().hex[:12]}"
        server.create_database(self.name)
        server.load_sql(_SQL, self.name)
        self.connection = server.connect(self.name)
        seed(self.connection, 60)
        mysql = Mysql(url=documented_account(server, self.name), heartbeat_s=0.2)
        made = engine(mysql.parsed_url, mysql)
        self.log = MysqlLog(
            BinlogSource(mysql), lambda: Connection(made), self.name, is_replica=False
        )
        self.watches = self.log.learn([Plan(tickets, MYSQL)], FOR_EVER).watches
        start = self.log.current()
        self.replay = Replay({watch.table: self.rows(watch) for watch in self.watches})
        self.log.start(start, self.watches)

    def rows(self, watch: Watch) -> set[Row]:
        """The rows of a table as they are now, as the log would have them."""
        return self.rows_of(watch.table.name, watch.columns)

    def rows_of(self, table: str, columns: Sequence[str]) -> set[Row]:
        """These columns of a table."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(f'`{name}`' for name in columns)} FROM `{table}`")
            return set(cursor.fetchall())

    def read(self, timeout_s: float) -> Position | None:
        """Take what has come; return where the stream is, if it is between transactions."""
        found = self.log.read(timeout_s)
        for change in found.changes if found is not None else ():
            self.replay.take(change)
        return found.position if found is not None else None

    def read_on(self) -> None:
        """Take all that is committed."""
        end = self.log.current()
        while (position := self.read(0.2)) is None or not position.reaches(end):
            pass

    def check(self) -> None:
        """The rows told are those that are there, but for what belongs to tickets that are gone:
        nobody asks, and MySQL 9.7.4 leaves some that one DELETE reaches by two keys."""
        self.read_on()
        left = {row[0] for row in self.rows_of("tickets", ["id"])}
        for watch in self.watches:
            told, there = self.replay.rows[watch.table], self.rows(watch)
            if "ticket_id" in watch.columns:
                place = watch.columns.index("ticket_id")
                told, there = ({r for r in rows if r[place] in left} for rows in (told, there))
            assert told == there, watch.table

    def close(self) -> None:
        self.log.close()
        self.connection.close()


@pytest.fixture
def stage(server: DatabaseServer) -> Iterator[Stage]:
    """A helpdesk whose log is read."""
    made = Stage(server)
    yield made
    made.close()


def _ids(cursor: Any, table: str) -> list[int]:
    cursor.execute(f"SELECT id FROM {table} ORDER BY id")
    return [row[0] for row in cursor.fetchall()] or [0]


def _change(cursor: Any, chance: random.Random, number: int) -> None:
    new = 1000 + number
    users, tickets_, comments, categories = (
        _ids(cursor, name) for name in ("users", "tickets", "ticket_comments", "categories")
    )
    user, ticket, comment = map(chance.choice, (users, tickets_, comments))
    category, other = chance.choice(categories), chance.choice(categories)
    statements = [
        f"INSERT INTO users (id, email, full_name) VALUES ({new}, 'n{new}@x.org', 'n')",
        "INSERT INTO tickets (id, title, status_id, priority_id, department_id, requester_id,"
        f" assignee_id) VALUES ({new}, 't', 1, 1, 1, {user}, {chance.choice(users)})",
        f"INSERT INTO ticket_comments (id, ticket_id, author_id, body) VALUES ({new}, {ticket},"
        f" {user}, 'b')",
        f"UPDATE tickets SET assignee_id = {user} WHERE id = {ticket}",
        f"UPDATE ticket_comments SET author_id = {user}, ticket_id = {ticket} WHERE id = {comment}",
        "INSERT INTO ticket_attachments (id, ticket_id, comment_id, filename, content_type,"
        f" size_bytes) VALUES ({new}, {ticket}, {comment}, 'f', 'c', 1)",
        f"UPDATE users SET id = {new} WHERE id = {user}",
        f"UPDATE categories SET parent_id = {other} WHERE id = {category}",
        f"DELETE FROM ticket_comments WHERE id = {comment}",
        f"DELETE FROM tickets WHERE id = {ticket}",
        f"DELETE FROM categories WHERE id = {category}",
        f"DELETE FROM users WHERE id = {user}",
    ]
    weights = [1, 2, 2, 2, 2, 1, 0.5, 1, 0.5, 0.3, 0.3, 1 if len(users) > 15 else 0]
    [statement] = chance.choices(statements, weights)
    try:
        cursor.execute(statement)
    except pymysql.err.IntegrityError:
        pass  # a key that is referred to, or is taken


def _keep_snapshot(stage: Stage) -> None:
    """Delete users until the rows of one are found without a walk."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        before = stage.replay.walks.total()
        with stage.connection.cursor() as cursor:
            cursor.execute("INSERT INTO users (id, email, full_name) VALUES (999, 'e', 'n')")
            cursor.execute("DELETE FROM users WHERE id = 999")
        stage.read_on()
        if stage.replay.walks.total() == before:
            stage.replay.walks.clear()
            return
    pytest.fail("no snapshot")


def test_the_completed_log_tells_every_row_that_a_key_changes(stage: Stage) -> None:
    """Replayed over the first state it gives the last one, exactly, without a walk; few images of
    rows are told that were not there any more."""
    _keep_snapshot(stage)
    chance = random.Random(7)
    with stage.connection.cursor() as cursor:
        for number in range(_CHANGES):
            _change(cursor, chance, number)
            if chance.random() < 0.3:
                stage.read(0.01)
    stage.check()
    assert not stage.replay.walks
    assert stage.replay.unexpected <= 0.1 * stage.replay.seen


_KEYS = {
    "BIGINT UNSIGNED": "18446744073709551615", "DECIMAL(9,3)": "1.5", "DOUBLE": "0.1",
    "BIT(12)": "b'101010101010'", "YEAR": "2026", "DATE": "'2026-11-25'",
    "DATETIME(3)": "'2026-11-25 10:11:12.120'", "TIMESTAMP": "'2026-11-25 10:11:12'",
    "TIME(2)": "'-10:11:12.5'", "CHAR(9)": "'Ab c'", "VARCHAR(9)": "'x '", "BINARY(4)": "'a'",
    "VARBINARY(9)": "0x6100", "ENUM('a','b')": "'b'", "SET('a','b')": "'a,b'",
    "VARCHAR(5) CHARACTER SET utf8mb4": "'\u00e4\u03b2'",
}  # fmt: skip


def _plan(number: int) -> Plan:
    child = sa.Table(f"c{number}", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                     sa.Column("k", sa.String(9)))  # fmt: skip
    return Plan(Projection(name=f"c{number}", root=child, fields=[child.c.id, child.c.k]), MYSQL)


def test_keys_of_every_type_are_found_in_the_snapshot(server: DatabaseServer) -> None:
    """What the server writes as text is the same value as in the log."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server.create_database(name)
    for number, (kind, value) in enumerate(_KEYS.items()):
        for statement in (
            f"CREATE TABLE p{number} (k {kind} PRIMARY KEY)",
            f"CREATE TABLE c{number} (id INT PRIMARY KEY, k {kind}, FOREIGN KEY (k)"
            f" REFERENCES p{number} (k) ON DELETE SET NULL)",
            f"INSERT INTO p{number} VALUES ({value})",
            f"INSERT INTO c{number} VALUES (1, {value})",
        ):
            server.execute(statement, database=name)
    mysql = Mysql(url=documented_account(server, name), heartbeat_s=0.2)
    made = engine(mysql.parsed_url, mysql)
    log = MysqlLog(BinlogSource(mysql), lambda: Connection(made), name, is_replica=False)
    plans = [_plan(number) for number in range(len(_KEYS))]
    watches = log.learn(plans, FOR_EVER).watches
    log.start(log.current(), watches)
    try:
        _await_snapshot(server, name, log)
        for number, kind in enumerate(_KEYS):
            server.execute(f"DELETE FROM p{number}", database=name)
            told = _read_on(log)
            children = [change for change in told if change.table == TableName(name, f"c{number}")]
            assert [type(change) for change in children] == [RowsChange], (kind, children)
    finally:
        log.close()


def test_keys_are_read_from_a_replica_that_has_the_last_definition() -> None:
    """It is a second behind an ALTER TABLE that the log has told already."""
    with start_database(Flavour.MARIADB) as primary, start_replica(primary) as replica:
        primary.create_database("behind")
        for statement in ("CREATE TABLE p0 (k INT PRIMARY KEY)",
                          "CREATE TABLE c0 (id INT PRIMARY KEY, k INT)"):  # fmt: skip
            primary.execute(statement, database="behind")
        wait_for_replica(primary, replica)
        replica.execute("STOP SLAVE SQL_THREAD")
        primary.execute(
            "ALTER TABLE c0 ADD FOREIGN KEY (k) REFERENCES p0 (k) ON DELETE CASCADE",
            database="behind",
        )
        made = engine(make_url(replica.url("behind")), Mysql(url=replica.url("behind")))
        source = BinlogSource(Mysql(url=primary.url("behind")))
        log = MysqlLog(source, lambda: Connection(made), "behind", is_replica=True)
        later = threading.Timer(1.0, replica.execute, ["START SLAVE SQL_THREAD"])
        later.start()
        log.learn([_plan(0)], FOR_EVER)
        later.join()
        assert [key.parent.name for key in log._learned.keys] == ["p0"]
        made.dispose()


def _await_snapshot(server: DatabaseServer, name: str, log: MysqlLog) -> None:
    deadline = time.monotonic() + 20
    while log._barrier is not None and (log._snapshots is None or log._snapshots.current is None):
        assert time.monotonic() < deadline, "no snapshot"
        server.execute("INSERT INTO c0 VALUES (2, NULL)", database=name)
        server.execute("DELETE FROM c0 WHERE id = 2", database=name)
        _read_on(log)


def _read_on(log: MysqlLog) -> list[Change]:
    end, found = log.current(), list[Change]()
    while (part := log.read(0.2)) is None or not part.position or not part.position.reaches(end):
        found += part.changes if part is not None else ()
    return [*found, *part.changes]
