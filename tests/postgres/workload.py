"""Seed and random workload of the helpdesk on PostgreSQL, over all twelve tables.

    workload = Workload(lambda: server.connect("helpdesk"), seed=7)
    workload.run(30)

Each transaction is one to five random changes; some are rolled back, whole or to a savepoint.
Deadlocks, duplicate keys and refused foreign keys belong to it, and so does a server that is away.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import psycopg

from tests import values

_TABLES = (
    "organizations departments users ticket_statuses ticket_priorities categories tickets"
    " ticket_comments ticket_attachments tags"
).split()


def text(random: Random, length: int = 100) -> str:
    """Ordinary and odd, without what PostgreSQL's texts cannot hold."""
    chosen = random.choice([values.title(random), *values.EDGE_TEXTS, values.sentence(random, 9)])
    return chosen.replace("\0", "")[:length]


def json_text(random: Random) -> str | None:
    chosen = random.choice([values.custom_fields(random), *values.EDGE_JSON])
    return None if chosen is None or "\\u0000" in chosen else chosen


def seed(connection: Any, tickets: int = 300, seed: int = 1) -> None:
    """Fill the empty tables."""
    random = Random(seed)
    with connection.transaction(), connection.cursor() as cursor:

        def many(table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
            places = ", ".join(["%s"] * len(rows[0]))
            cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", rows)

        users = range(1, 41)
        many("organizations", "id, name, domain",
             [(n, text(random), f"org{n}.example") for n in range(1, 5)])  # fmt: skip
        many("departments", "id, organization_id, name",
             [(n, random.randint(1, 4), text(random)) for n in range(1, 9)])  # fmt: skip
        many("users", "id, department_id, email, full_name, role",
             [(n, random.choice([None, *range(1, 9)]), f"u{n}@x.example", values.full_name(random),
               random.choice(["customer", "agent"])) for n in users])  # fmt: skip
        many("ticket_statuses", "id, name, is_closed",
             [(n, f"status {n} ✅", n > 3) for n in range(1, 6)])  # fmt: skip
        many("ticket_priorities", "id, name, level",
             [(n, f"priority {n}", n * 10) for n in range(1, 5)])  # fmt: skip
        parents = [random.randint(1, 8) if n > 8 else None for n in range(1, 21)]
        many("categories", "id, parent_id, name",
             [(n, parent, text(random)) for n, parent in enumerate(parents, 1)])  # fmt: skip
        names = ["Zebra", "apple", "Äpfel", "éclair", "_x", "10", "9", "日本", "😀", "a b", "a\\b"]
        many("tags", "id, name", list(enumerate(names, 1)))
        many("tickets", "id, title, description, status_id, priority_id, category_id,"
             " department_id, requester_id, assignee_id, estimated_hours, custom_fields,"
             " created_at, due_at",
             [_ticket(random, n) for n in range(1, tickets + 1)])  # fmt: skip
        many("ticket_comments", "ticket_id, author_id, body, created_at",
             [(random.randint(1, tickets), random.choice(users), text(random),
               values.instant(random)) for _ in range(tickets)])  # fmt: skip
        many("ticket_attachments", "ticket_id, filename, content_type, size_bytes",
             [(random.randint(1, tickets), text(random), "image/png", random.randrange(2**63))
              for _ in range(tickets // 2)])  # fmt: skip
        tagged = [(n, random.sample(range(1, 12), 2)) for n in range(1, tickets + 1)]
        many("ticket_tags", "ticket_id, tag_id", [(n, t) for n, two in tagged for t in two])
        many("ticket_watchers", "ticket_id, user_id",
             [(n, random.choice(users)) for n in range(1, tickets + 1, 2)])  # fmt: skip
        for table in _TABLES:
            if table not in ("ticket_statuses", "ticket_priorities"):
                cursor.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 1 + max(id))"
                    f" FROM {table}"
                )


def _ticket(random: Random, number: int) -> tuple[Any, ...]:
    return (
        number, text(random), text(random), random.randint(1, 5), random.randint(1, 4),
        random.choice([None, *range(1, 21)]), random.randint(1, 8), random.randint(1, 40),
        random.choice([None, random.randint(1, 40)]),
        random.choice([None, *values.EDGE_HOURS]), json_text(random), _instant(random),
        random.choice([None, values.instant(random, with_fraction=False)]),
    )  # fmt: skip


def _instant(random: Random) -> str:
    return f"{random.choice([values.instant(random), *values.EDGE_TIMES])}+00"


class Workload:
    """Random transactions until stopped; `stats` counts what was done."""

    def __init__(
        self, connect: Callable[[], Any], seed: int, *, connections: int = 3, rate: float = 150,
        definitions: float = 0.0, is_durable: bool = True,
    ) -> None:  # fmt: skip
        self.stats: Counter[str] = Counter()
        self._connect, self._pause_s = connect, connections / rate
        self._definitions = definitions  # of the transactions, before them
        self._is_durable = is_durable  # else a crash takes the last commits back
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(Random(f"{seed}/{number}"),), daemon=True)
            for number in range(connections)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the transactions under way. Raises what a connection failed with."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        if self._failures:
            raise self._failures[0]
        assert not any(thread.is_alive() for thread in self._threads), "a transaction hangs"

    def run(self, seconds: float) -> None:
        self.start()
        self._stopping.wait(seconds)
        self.stop()

    def _work(self, random: Random) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    with self._connect() as connection:
                        self._work_connected(connection, random)
                except psycopg.OperationalError:
                    self.stats["connections lost"] += 1
                    self._stopping.wait(0.2)
        except BaseException as error:
            self._failures.append(error)
            self._stopping.set()

    def _work_connected(self, connection: Any, random: Random) -> None:
        connection.execute("SET lock_timeout = '2s'")
        if not self._is_durable:
            connection.execute("SET synchronous_commit = off")
        while not self._stopping.is_set():
            try:
                if random.random() < self._definitions:
                    self._define(connection, random)
                with connection.transaction(force_rollback=random.random() < 0.08):
                    for _ in range(random.choice([1, 1, 1, 2, 3, 5])):
                        self._change(connection, random)
                self.stats["transactions"] += 1
            except psycopg.errors.Error as error:
                if isinstance(error, psycopg.OperationalError) and not isinstance(
                    error, psycopg.errors.DeadlockDetected | psycopg.errors.LockNotAvailable
                ):
                    raise
                self.stats[type(error).__name__] += 1
            time.sleep(self._pause_s)

    def _define(self, connection: Any, random: Random) -> None:
        """Change a definition; several statements are a transaction."""
        statements = definition(random)
        is_whole = contextlib.nullcontext() if len(statements) == 1 else connection.transaction()
        with contextlib.suppress(psycopg.errors.ProgrammingError), is_whole:  # it is there, or gone
            for statement in statements:
                connection.execute(statement)
            self.stats["definitions"] += 1

    def _change(self, connection: Any, random: Random) -> None:
        """One change, undone alone where it is refused, and now and then without a reason."""
        sql, arguments = change(random)
        try:
            with connection.transaction(force_rollback=random.random() < 0.05):
                connection.execute(sql, arguments)
        except (psycopg.errors.IntegrityError, psycopg.errors.DataError) as error:
            self.stats[type(error).__name__] += 1


def definition(random: Random) -> list[str]:
    """Return statements that change a definition: what documents show stays, or says so itself."""
    table, number = random.choice([*_TABLES, "ticket_tags", "ticket_watchers"]), random.randrange(4)
    return random.choice([
        [f"ALTER TABLE {table} ADD COLUMN extra_{number} text DEFAULT random()::text"],
        [f"ALTER TABLE {table} DROP COLUMN extra_{number}"],
        [f"CREATE INDEX extra_{number} ON {table} ((1))"],
        [f"DROP INDEX extra_{number}"],
        [f"VACUUM {random.choice(['', 'FULL ', 'FREEZE '])}{table}"], [f"ANALYZE {table}"],
        [f"ALTER TABLE {table} REPLICA IDENTITY {random.choice(['FULL', 'DEFAULT'])}"],
        ["ALTER TABLE tickets ALTER title TYPE varchar(200) USING left(title || '.', 200)"],
        ["ALTER TABLE tags ALTER name TYPE varchar(60) USING left(name || '.', 60)"],
        ["ALTER TABLE users RENAME full_name TO gone",
         "ALTER TABLE users RENAME gone TO full_name"],
        ["ALTER TABLE organizations RENAME TO gone",
         "UPDATE gone SET name = left(name || '!', 60) WHERE id = 1",
         "ALTER TABLE gone RENAME TO organizations"],
    ])  # fmt: skip


def change(random: Random) -> tuple[str, list[Any]]:
    """Return a random statement with its arguments."""

    def any_of(table: str) -> str:
        return (
            f"(SELECT id FROM {table} WHERE id >= (SELECT min(id) + {random.random()} * (max(id)"
            f" - min(id)) FROM {table}) ORDER BY id LIMIT 1)"
        )

    def maybe(table: str) -> str:
        return any_of(table) if random.random() < 0.7 else "NULL"

    new = random.choice([10**7, 2**62]) + random.randrange(10**6)
    number = random.randrange(10**9)
    columns = [
        ("title", text(random)), ("description", text(random)),
        ("custom_fields", json_text(random)),
        ("estimated_hours", random.choice(values.EDGE_HOURS)), ("created_at", _instant(random)),
        ("closed_at", _instant(random)), ("due_at", None),
    ]  # fmt: skip
    column, value = random.choice(columns)
    reference, table = random.choice(
        [("status_id", "ticket_statuses"), ("priority_id", "ticket_priorities"),
         ("category_id", "categories"), ("department_id", "departments"),
         ("requester_id", "users"), ("assignee_id", "users")]
    )  # fmt: skip
    child = random.choice(["ticket_comments", "ticket_attachments"])
    link, other = random.choice([("ticket_tags", "tag_id"), ("ticket_watchers", "user_id")])
    others = "tags" if other == "tag_id" else "users"
    name_of = random.choice(
        ["organizations", "departments", "categories", "ticket_statuses", "ticket_priorities",
         "tags"]
    )  # fmt: skip
    picked = f"(SELECT ctid FROM {link} OFFSET {random.randrange(200)} LIMIT 1)"
    choices: list[tuple[float, str, list[Any]]] = [
        (8, f"UPDATE tickets SET {column} = %s WHERE id = {any_of('tickets')}", [value]),
        (5, f"UPDATE tickets SET {reference} = {any_of(table)} WHERE id = {any_of('tickets')}", []),
        (1, "UPDATE tickets SET title = left(title, 90) || '…'"
            f" WHERE id < {any_of('tickets')}", []),
        (1, f"UPDATE tickets SET title = title WHERE id = {any_of('tickets')}", []),
        (3, "INSERT INTO tickets (id, title, status_id, priority_id, category_id, department_id,"
            f" requester_id, assignee_id) VALUES (%s, %s, {any_of('ticket_statuses')},"
            f" {any_of('ticket_priorities')}, {maybe('categories')}, {any_of('departments')},"
            f" {any_of('users')}, {maybe('users')})", [new, text(random)]),
        (2, f"DELETE FROM tickets WHERE id = {any_of('tickets')}", []),
        (1, f"UPDATE tickets SET id = %s WHERE id = {any_of('tickets')}", [new]),
        (4, "INSERT INTO ticket_comments (ticket_id, author_id, body, created_at) VALUES"
            f" ({any_of('tickets')}, {any_of('users')}, %s, %s)", [text(random), _instant(random)]),
        (2, "INSERT INTO ticket_attachments (ticket_id, comment_id, filename, content_type,"
            f" size_bytes) VALUES ({any_of('tickets')}, {maybe('ticket_comments')}, %s, 'a/b', %s)",
            [text(random), random.randrange(2**63)]),
        (3, f"UPDATE {child} SET ticket_id = {any_of('tickets')} WHERE id = {any_of(child)}", []),
        (2, f"DELETE FROM {child} WHERE id = {any_of(child)}", []),
        (1, f"UPDATE {child} SET id = %s WHERE id = {any_of(child)}", [new]),
        (4, f"INSERT INTO {link} (ticket_id, {other}) VALUES ({any_of('tickets')},"
            f" {any_of(others)}) ON CONFLICT DO NOTHING", []),
        (2, f"UPDATE {link} SET ticket_id = {any_of('tickets')} WHERE ctid = {picked}", []),
        (2, f"UPDATE {link} SET {other} = {any_of(others)} WHERE ctid = {picked}", []),
        (2, f"DELETE FROM {link} WHERE ctid = {picked}", []),
        (0.5, "INSERT INTO organizations (id, name, domain) VALUES (%s, %s, %s)",
              [new, text(random), f"{new}.example"]),
        (0.5, f"INSERT INTO departments (id, organization_id, name) VALUES (%s,"
              f" {any_of('organizations')}, %s)", [10**6 + number % 10**6, text(random)]),
        (0.5, "INSERT INTO ticket_statuses (id, name) VALUES (%s, %s)",
              [10 + number % 9000, text(random, 40)]),
        (0.5, "INSERT INTO ticket_priorities (id, name, level) VALUES (%s, %s, %s)",
              [10 + number % 9000, text(random, 40), number % 100]),
        (0.5, f"INSERT INTO categories (parent_id, name) VALUES ({maybe('categories')}, %s)",
              [text(random)]),
        (0.5, "INSERT INTO tags (name) VALUES (%s)", [text(random, 60)]),
        (2, f"UPDATE {name_of} SET name = %s WHERE id = {any_of(name_of)}", [f"name {number} ß"]),
        (1, f"UPDATE departments SET organization_id = {any_of('organizations')}"
            f" WHERE id = {any_of('departments')}", []),
        (1, f"UPDATE categories SET parent_id = {maybe('categories')}"
            f" WHERE id = {any_of('categories')}", []),
        (2, f"UPDATE users SET full_name = %s, department_id = {maybe('departments')}"
            f" WHERE id = {any_of('users')}", [text(random)]),
        (1, "INSERT INTO users (id, email, full_name) VALUES (%s, %s, %s)",
            [new, f"new{number}@x.example", text(random)]),
        (1, f"DELETE FROM users WHERE id = {any_of('users')}", []),
        (0.5, f"DELETE FROM tags WHERE id = {any_of('tags')}", []),
        (0.5, f"DELETE FROM categories WHERE id = {any_of('categories')}", []),
        (0.3, f"DELETE FROM departments WHERE id = {any_of('departments')}", []),
        (0.5, f"UPDATE ticket_statuses SET is_closed = NOT is_closed"
              f" WHERE id = {any_of('ticket_statuses')}", []),
    ]  # fmt: skip
    [(_, sql, arguments)] = random.choices(choices, [weight for weight, *_ in choices])
    return sql, arguments
