"""`make demo`: private servers, 5,000 tickets, the daemon, and what it does, in the terminal.

Ends by itself with exit 0; with KEEP=1 everything stays up until Ctrl-C.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.oracle import assert_hash_equals_database
from tests.postgres import oracle as postgres_oracle
from tests.postgres.world import PostgresWorld
from tests.projector_process import Projector, await_checkpoint
from tests.seed import seed
from tests.servers import Flavour, PostgresFlavour, find_database, find_postgres, find_redis
from tests.servers.account import documented_account

TICKETS = 5000
_LIMIT_S = 10.0
_OWNER = "PROJECTOR_SOURCE__OWNER_URL"

console = Console(highlight=False)


class Demo:
    """One server's demonstration; MySQL's and MariaDB's."""

    def __init__(self, database: Any, redis_server: Any) -> None:
        self.database = database
        self.connection = self._prepared(database, redis_server)
        self.redis = redis_server.client(1)
        self.redis.flushdb()

    def _prepared(self, database: Any, redis_server: Any) -> Any:
        database.load_sql(Path(__file__).with_name("helpdesk.sql").read_text("utf-8"), "helpdesk")
        connection = database.connect("helpdesk")
        seed(connection, TICKETS)
        self.daemon = Projector(documented_account(database, "helpdesk"), redis_server.url(db=1))
        return connection

    def settle(self) -> None:
        """Wait until everything committed by now is in Redis."""
        await_checkpoint(self.redis, self.connection, self.daemon)

    def compare(self) -> None:
        """Fail unless Redis has what hand-written SQL gives."""
        assert_hash_equals_database(self.redis, self.connection)

    def build(self) -> None:
        """Start the daemon and wait for the hash."""
        began = time.perf_counter()
        self.daemon.start()
        self.settle()
        took = time.perf_counter() - began
        count = self.redis.hlen("tickets")
        console.print(f"  {count:,} complete documents in Redis {took:.1f} s after the start\n")

    def scene(self, title: str, sql: str, ticket: int, fields: tuple[str, ...]) -> None:
        """Commit a change, show the document before and after and the time between."""
        before = self._document(ticket)
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
        committed = time.perf_counter()
        after = self._changed(ticket, before)
        took_ms = (time.perf_counter() - committed) * 1000
        console.print(f"[bold]{title}[/bold]\n  [cyan]{sql}[/cyan]")
        table = Table(box=None, padding=(0, 2), show_header=False)
        for name in fields:
            table.add_row(f"  {name}", _shown(before, name), "->", _shown(after, name))
        console.print(table)
        console.print(f"  ticket {ticket}, [green]{took_ms:.1f} ms[/green] after the commit\n")

    def stop(self) -> None:
        """End the daemon cleanly, compare everything with hand-written SQL."""
        self.settle()
        self.compare()
        code = self.daemon.stop()
        if code != 0:
            raise SystemExit(f"the daemon ended with {code}\n{self.daemon.log()[-4000:]}")
        count = self.redis.hlen("tickets")
        console.print(f"  all {count:,} documents equal what the database gives; clean stop\n")
        self.connection.close()

    def _document(self, ticket: int) -> dict[str, Any] | None:
        value = self.redis.hget("tickets", ticket)
        return json.loads(value) if value else None

    def _changed(self, ticket: int, before: dict[str, Any] | None) -> dict[str, Any] | None:
        deadline = time.monotonic() + _LIMIT_S
        while (now := self._document(ticket)) == before:
            if time.monotonic() > deadline:
                raise SystemExit(f"ticket {ticket} did not change\n{self.daemon.log()[-4000:]}")
        return now


class PostgresDemo(Demo):
    """PostgreSQL's: role, grants, publication and identities are made by `projector setup`."""

    def _prepared(self, database: Any, redis_server: Any) -> Any:
        self._world = PostgresWorld(
            database, "helpdesk", redis_server, tickets=TICKETS, is_bare=True
        )
        self.daemon = self._world.daemon
        self.daemon.environment[_OWNER] = database.url("helpdesk")
        made = self.daemon.run("setup")
        del self.daemon.environment[_OWNER]
        if made.returncode != 0:
            raise SystemExit(f"setup: {made.stderr}")
        console.print(f"[bold]projector setup[/bold]\n[cyan]{made.stdout}[/cyan]")
        return self._world.connection

    def settle(self) -> None:
        """Wait until everything committed by now is in Redis."""
        self._world.settle()

    def compare(self) -> None:
        """Fail unless Redis has what hand-written SQL gives."""
        postgres_oracle.assert_hash_equals_database(self.redis, self.connection)


def _shown(document: dict[str, Any] | None, name: str) -> str:
    if document is None:
        return "[dim](no document)[/dim]"
    return str(json.dumps(document[name], ensure_ascii=False))[:70]


def scenes(demo: Demo) -> None:
    """Show the kinds of changes that a denormalized document must follow."""
    ids = _pick(demo)
    demo.scene(
        "A ticket is edited", f"UPDATE tickets SET title = 'Printer on fire' WHERE id = {ids[0]}",
        ids[0], ("title", "updated_at"),
    )  # fmt: skip
    status = _document_field(demo, ids[1], "status_id")
    demo.scene(
        "A status is renamed: every ticket that has it follows",
        f"UPDATE ticket_statuses SET name = 'Waiting for you' WHERE id = {status}",
        ids[1], ("status_name",),
    )  # fmt: skip
    department = _document_field(demo, ids[2], "department_id")
    organization = _document_field(demo, ids[2], "organization_id")
    other = _one(demo, f"SELECT MIN(id) FROM organizations WHERE id <> {organization}")
    demo.scene(
        "A department moves to another organization",
        f"UPDATE departments SET organization_id = {other} WHERE id = {department}",
        ids[2], ("department_name", "organization_name"),
    )  # fmt: skip
    for table in ("ticket_tags", "ticket_watchers", "ticket_attachments", "ticket_comments"):
        with demo.connection.cursor() as cursor:  # foreign keys: the children first
            cursor.execute(f"DELETE FROM {table} WHERE ticket_id = {ids[3]}")
    demo.settle()
    demo.scene(
        "A ticket is deleted", f"DELETE FROM tickets WHERE id = {ids[3]}", ids[3], ("title",)
    )


def _pick(demo: Demo) -> list[int]:
    with demo.connection.cursor() as cursor:
        cursor.execute("SELECT id FROM tickets ORDER BY id LIMIT 4")
        return [int(row[0]) for row in cursor.fetchall()]


def _document_field(demo: Demo, ticket: int, name: str) -> Any:
    return json.loads(demo.redis.hget("tickets", ticket))[name]


def _one(demo: Demo, sql: str) -> Any:
    with demo.connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def _keep(demos: list[Demo]) -> None:
    for demo in demos:
        console.print(f"  status page: http://127.0.0.1:{demo.daemon.http_port}/")
        console.print(f"  database:    {demo.database.url('helpdesk')}")
        console.print(f"  Redis:       {demo.daemon.environment['PROJECTOR_REDIS__URL']}")
    console.print("Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        while all(demo.daemon.process.poll() is None for demo in demos if demo.daemon.process):
            time.sleep(0.5)


def main() -> int:
    """Run the demonstration on MySQL, on MariaDB, on PostgreSQL."""
    keep = os.environ.get("KEEP") == "1"
    running: list[Demo] = []
    with contextlib.ExitStack() as stack:
        for flavour in (Flavour.MYSQL, Flavour.MARIADB, PostgresFlavour.POSTGRES):
            demo = _show(flavour, stack, keep)
            if keep:
                running.append(demo)
                break
        if keep:
            _keep(running)
            for demo in running:
                demo.stop()
    return 0


def _show(flavour: Flavour | PostgresFlavour, stack: contextlib.ExitStack, keep: bool) -> Demo:
    database: Any
    if is_postgres := isinstance(flavour, PostgresFlavour):
        database = find_postgres(flavour)
    else:
        database = find_database(flavour)
    redis_server = find_redis()
    stack.callback(database.discard)
    stack.callback(redis_server.discard)
    asked = "SHOW server_version" if is_postgres else "SELECT VERSION()"
    version = database.execute(asked)[0][0]
    console.rule(f"{flavour.value} {version}")
    console.print(f"  loading {TICKETS:,} tickets with comments, tags, watchers, attachments")
    database.create_database("helpdesk")
    demo = (PostgresDemo if is_postgres else Demo)(database, redis_server)
    stack.push(demo.daemon.__exit__)
    demo.build()
    scenes(demo)
    if not keep:
        demo.stop()
    return demo


if __name__ == "__main__":
    sys.exit(main())
