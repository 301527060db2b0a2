"""`make bench-reader`: the binlog reader beside mysql-replication and mysqlbinlog, in one run.

One private MySQL, one log for all: UPDATEs of the helpdesk's tickets, one row a transaction, and
1,000 rows a transaction, each plain and with binlog_transaction_compression. The reader watches
what the real projection watches, decodes what its routes need, and keeps positions and GTID sets.
Every reader runs in a process of its own; its figures are rates and the largest resident memory.
`--full` takes 200,000 transactions, else 40,000.
"""

import argparse
import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from projector.databases import Mysql
from projector.mysql.binlog import BinlogSource
from projector.mysql.dialect import MYSQL
from projector.mysql.position import Position
from projector.projection.plan import Plan
from schema.projection import tickets
from tests.servers import DatabaseServer, Flavour, ServerUnavailable, packages, start_database
from tests.servers.flavours import RECIPES

DATABASE = "helpdesk"
SCHEMA = Path(__file__).parent.parent / "helpdesk.sql"
TICKETS = 20_000
LARGE_TRANSACTIONS = 200
LARGE_ROWS = 1000


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of the log, within one file."""

    name: str
    start: Position
    end: Position
    transactions: int
    rows: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    count = 200_000 if arguments.full else 40_000
    # Without the names of columns in the log mysql-replication cannot tell which one is the key.
    options = ["--innodb-buffer-pool-size=256M", "--binlog-row-metadata=FULL"]
    with start_database(Flavour.MYSQL, options=options) as server:
        seed(server)
        for segment in segments(server, count):
            report(server, segment)


def seed(server: DatabaseServer) -> None:
    """Tickets of some 400 bytes, with what they refer to."""
    server.create_database(DATABASE)
    server.load_sql(SCHEMA, DATABASE)
    server.load_sql(
        "INSERT INTO organizations (id, name, domain) VALUES (1, 'o', 'o.example');"
        "INSERT INTO departments (id, organization_id, name) VALUES (1, 1, 'd');"
        "INSERT INTO users (id, department_id, email, full_name) VALUES (1, 1, 'u@o.example', 'u');"
        "INSERT INTO ticket_statuses (id, name) VALUES (1, 'new'), (2, 'open');"
        "INSERT INTO ticket_priorities (id, name, level) VALUES (1, 'low', 1);"
        "CREATE PROCEDURE one_by_one(n INT) BEGIN DECLARE i INT DEFAULT 0; WHILE i < n DO"
        f" UPDATE tickets SET status_id = 3 - status_id, updated_at = NOW(6)"
        f" WHERE id = 1 + i % {TICKETS}; SET i = i + 1; END WHILE; END",
        DATABASE,
    )
    row = "(CONCAT('ticket ', UUID()), REPEAT('description ', 20), 1, 1, 1, 1, '{\"key\": [1, 2]}')"
    for _ in range(TICKETS // 1000):
        server.execute(
            "INSERT INTO tickets (title, description, status_id, priority_id, department_id,"
            f" requester_id, custom_fields) VALUES {','.join([row] * 1000)}",
            database=DATABASE,
        )


def segments(server: DatabaseServer, count: int) -> Iterator[Segment]:
    for compression in ("OFF", "ON"):
        kind = "compressed" if compression == "ON" else "plain"
        with server.connect(DATABASE) as connection, connection.cursor() as cursor:
            cursor.execute(f"SET SESSION binlog_transaction_compression = {compression}")
            start = new_file(server)
            cursor.execute(f"CALL one_by_one({count})")
            yield Segment(f"{kind}, single rows", start, current(server), count, count)
            start = new_file(server)
            for i in range(LARGE_TRANSACTIONS):
                first = 1 + i * LARGE_ROWS % TICKETS
                cursor.execute(
                    "UPDATE tickets SET status_id = 3 - status_id WHERE id BETWEEN %s AND %s",
                    (first, first + LARGE_ROWS - 1),
                )
            rows = LARGE_TRANSACTIONS * LARGE_ROWS
            yield Segment(
                f"{kind}, {LARGE_ROWS} rows", start, current(server), LARGE_TRANSACTIONS, rows
            )


def new_file(server: DatabaseServer) -> Position:
    server.execute("FLUSH BINARY LOGS")
    return current(server)


def current(server: DatabaseServer) -> Position:
    return BinlogSource(Mysql(url=server.url(DATABASE))).current()


def report(server: DatabaseServer, segment: Segment) -> None:
    size = (segment.end.offset - segment.start.offset) / 1e6
    print(f"\n{segment.name}: {segment.transactions:,} transactions, {size:.0f} MB of log")
    figures = {name: run(name, server, segment) for name in ("projector", "mysql-replication")}
    raw_s = mysqlbinlog_s(server, segment)
    library = figures["mysql-replication"]["rows"] / figures["mysql-replication"]["seconds"]
    for name, figure in figures.items():
        rate = figure["rows"] / figure["seconds"]
        share = segment.transactions / segment.rows
        ratio = f"{rate / library:6.1f} x mysql-replication" if library else ""
        print(
            f"  {name:20} {rate * share:11,.0f} transactions/s {rate:11,.0f} rows/s"
            f" {figure['resident_mb']:5.0f} MB {ratio}"
        )
    if raw_s is not None:
        ours_s = figures["projector"]["seconds"]
        times = f"{raw_s:.2f} s; projector {ours_s:.2f} s: {ours_s / raw_s:.2f} x"
        print(f"  {'mysqlbinlog --raw':20} {times}")


def run(name: str, server: DatabaseServer, segment: Segment) -> dict[str, Any]:
    """Run one reader in a process of its own."""
    watches = [
        [*watch.table, watch.columns, sorted(watch.read)]
        for watch in Plan(tickets, MYSQL).watches(DATABASE)
    ]
    places = [server.url(DATABASE), str(segment.start), str(segment.end), json.dumps(watches)]
    command = [sys.executable, "-m", "tests.benchmarks.reader_peers", name, *places]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    if name == "projector" and figures["rows"] != segment.rows:
        raise AssertionError(f"{figures['rows']} rows read, {segment.rows} written")
    return figures


def mysqlbinlog_s(server: DatabaseServer, segment: Segment) -> float | None:
    """The time that mysqlbinlog takes to copy the same part of the log; None if it is not here."""
    command = mysqlbinlog()
    if command is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        subprocess.run(
            [*command, "--read-from-remote-server", "--raw", f"--result-file={folder}/",
             f"--host={server.host}", f"--port={server.port}", f"--user={server.user}",
             f"--password={server.password}", "--get-server-public-key",
             f"--start-position={segment.start.offset}", f"--stop-position={segment.end.offset}",
             segment.start.file],
            check=True, capture_output=True,
        )  # fmt: skip
        return time.perf_counter() - begun


def mysqlbinlog() -> tuple[str, ...] | None:
    if (found := shutil.which("mysqlbinlog")) is not None:
        return (found,)
    recipe = dataclasses.replace(
        RECIPES[Flavour.MYSQL], program="usr/bin/mysqlbinlog", runs_as="mysqlbinlog"
    )
    with contextlib.suppress(ServerUnavailable):
        root = packages.unpacked(Flavour.MYSQL)
        if root is not None and (root / recipe.program).exists():
            return packages.command(root, recipe)
    return None


if __name__ == "__main__":
    main()
