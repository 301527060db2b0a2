"""`make bench-postgres`: the daemon on PostgreSQL, beside the server's own tools, in one run.

- the reader alone, single-row transactions, beside `pg_recvlogical` and its walsender;
- a build, and a backlog of distinct tickets, against the floor: the same SELECTs by a bare cursor
  and a bare pipeline of HSETs;
- live, at several rates: commit to Redis, as the daemon measures it, and CPU.
"""

import argparse
import contextlib
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from projector.ports import FOR_EVER
from projector.postgres.dialect import POSTGRES
from projector.postgres.log import Address, PostgresLog
from projector.projection import Plan
from schema.projection import tickets
from tests.projector_process import Projector, wait_for
from tests.servers import start_redis
from tests.servers.postgres import PostgresServer, beside, find_program, start_postgres
from tests.servers.role import helpdesk_role

HELPDESK = Path(__file__).parent.parent / "helpdesk.postgres.sql"
DATABASE = "helpdesk"
PLAN = Plan(tickets, POSTGRES)
_CHUNK = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--tickets", type=int, default=20_000)
    parser.add_argument("--rates", type=int, nargs="*", default=[50, 500, 2000])
    parser.add_argument("--seconds", type=float, default=15)
    arguments = parser.parse_args()
    with start_postgres() as server, start_redis() as redis_server:
        seed(server, arguments.tickets)
        url = helpdesk_role(server, DATABASE)
        reader(server, url, arguments.transactions, arguments.tickets)
        with Projector(url, redis_server.url(db=1)) as daemon:
            client = redis_server.client(1)
            build_and_backlog(server, daemon, client, arguments.tickets)
            for rate in arguments.rates:
                live(server, daemon, rate, arguments.seconds, arguments.tickets)


def seed(server: PostgresServer, count: int) -> None:
    """Tickets of some 400 bytes, with what they refer to."""
    server.create_database(DATABASE)
    server.load_sql(HELPDESK, DATABASE)
    server.load_sql(
        "INSERT INTO organizations (id, name, domain) VALUES (1, 'o', 'o.example');"
        "INSERT INTO departments (id, organization_id, name) VALUES (1, 1, 'd');"
        "INSERT INTO users (id, department_id, email, full_name)"
        " SELECT i, 1, 'u' || i || '@o.example', 'User ' || i FROM generate_series(1, 200) i;"
        "INSERT INTO ticket_statuses (id, name) VALUES (1, 'new'), (2, 'open');"
        "INSERT INTO ticket_priorities (id, name, level) VALUES (1, 'low', 1);"
        "INSERT INTO tickets (id, title, description, status_id, priority_id, department_id,"
        " requester_id, custom_fields) SELECT i, 'ticket ' || i, repeat('description ', 20), 1, 1,"
        f" 1, 1 + i % 200, '{{\"key\": [1, 2]}}' FROM generate_series(1, {count}) i;"
        "INSERT INTO tags (id, name) SELECT i, 'tag ' || i FROM generate_series(1, 50) i;"
        "INSERT INTO ticket_tags (ticket_id, tag_id) SELECT i, 1 + i % 50"
        f" FROM generate_series(1, {count}) i;"
        "INSERT INTO ticket_comments (ticket_id, author_id, body) SELECT i, 1 + i % 200, 'comment'"
        f" FROM generate_series(1, {count}) i; ANALYZE",
        DATABASE,
    )
    server.load_sql(
        "CREATE PROCEDURE one_by_one(n INT, among INT) LANGUAGE plpgsql AS $$ BEGIN"
        " FOR i IN 1..n LOOP UPDATE tickets SET status_id = 3 - status_id, updated_at = now()"
        " WHERE id = 1 + i % among; COMMIT; END LOOP; END $$",
        DATABASE,
    )


def changes(server: PostgresServer, count: int, tickets_count: int) -> None:
    """Commit so many transactions of one row."""
    with server.connect(DATABASE) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(f"CALL one_by_one({count}, {tickets_count})")


def reader(server: PostgresServer, url: str, count: int, tickets_count: int) -> None:
    """The reader alone, beside the server's own."""
    source = PostgresLog(Address(url, "ours", "projector"))
    source.learn([PLAN], FOR_EVER)
    start = source.begin()
    server.execute(
        "SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')", database=DATABASE
    )
    changes(server, count, tickets_count)
    server.execute("SELECT pg_switch_wal()", database=DATABASE)
    [[end]] = server.execute("SELECT pg_current_wal_flush_lsn()::text", database=DATABASE)
    theirs = recvlogical_s(server, str(end))
    cpu = time.process_time()
    began = time.perf_counter()
    source.start(start, source.learn([PLAN], FOR_EVER).watches)
    read = 0
    while read < count:
        transactions = source.read(5.0)
        read += transactions.count if transactions is not None else 0
    ours, cpu = time.perf_counter() - began, time.process_time() - cpu
    source.close()
    server.execute("SELECT pg_drop_replication_slot('ours')", database=DATABASE)
    print(
        f"reader: {count / ours:,.0f} transactions/s, {1e6 * cpu / count:.1f} µs of CPU each;"
        f" pg_recvlogical {count / theirs:,.0f}/s: {theirs / ours:.2f} of its rate"
    )


def recvlogical_s(server: PostgresServer, end: str) -> float:
    """How long `pg_recvlogical` takes for the same log."""
    command = [
        *beside(find_program(server.flavour), "pg_recvlogical"),
        f"--dbname={server.url(DATABASE)}", "--slot=theirs", "--start", f"--endpos={end}",
        "--no-loop", "--file=/dev/null", "--option=proto_version=1",
        "--option=publication_names=projector",
    ]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    took = time.perf_counter() - began
    server.execute("SELECT pg_drop_replication_slot('theirs')", database=DATABASE)
    return took


def build_and_backlog(server: PostgresServer, daemon: Projector, client: Any, count: int) -> None:
    """All documents, then as many distinct tickets changed while the daemon was down."""
    began = time.perf_counter()
    wait_for(lambda: client.hlen("tickets") == count and current(daemon), daemon, 120)
    metric = daemon.events()
    built = next(e["seconds"] for e in metric if e.get("event") == "resync_done")
    floor = sum(floor_s(server, client, count))
    print(
        f"build: {count / built:,.0f} documents/s, {floor / built:.2f} of the floor"
        f" ({time.perf_counter() - began:.1f} s with the start)"
    )
    daemon.stop()
    changes(server, count, count)
    daemon.start()
    wait_for(lambda: daemon.metric("projector_transactions_total"), daemon, 60)
    began, cpu = time.perf_counter(), cpu_s(daemon)
    wait_for(lambda: current(daemon), daemon, 120)
    took, cpu = time.perf_counter() - began, cpu_s(daemon) - cpu
    print(
        f"backlog: {count / took:,.0f} changes/s, {1e6 * cpu / count:.0f} µs of"
        f" CPU a change, {floor / took:.2f} of the floor, resident {resident_mb(daemon):.0f} MB"
    )


def floor_s(server: PostgresServer, client: Any, count: int) -> tuple[float, float]:
    """The seconds for reading all documents' rows, and for writing as many documents."""
    ids = [str(number) for number in range(1, count + 1)]
    values = dict(zip(ids, client.hmget("tickets", ids), strict=True))
    began = time.perf_counter()
    with contextlib.closing(server.connect(DATABASE)) as connection:
        for first in range(0, count, _CHUNK):
            for query in PLAN.queries(ids[first : first + _CHUNK]):
                connection.execute(query.encode()).fetchall()
    read = time.perf_counter() - began
    began = time.perf_counter()
    for first in range(0, count, _CHUNK):
        with client.pipeline(transaction=False) as pipe:
            for document_id in ids[first : first + _CHUNK]:
                pipe.hset("floor", document_id, values[document_id] or b"")
            pipe.execute()
    written = time.perf_counter() - began
    client.delete("floor")
    return read, written


def live(server: PostgresServer, daemon: Projector, rate: int, seconds: float, count: int) -> None:
    """Single-row commits at a rate, by two connections."""
    before, before_ms = cpu_s(daemon), buckets(daemon)
    ended = time.monotonic() + seconds

    def work(number: int) -> None:
        with server.connect(DATABASE) as connection:
            turn, due = 0, time.monotonic()
            while due < ended:
                due += 2 / rate
                time.sleep(max(0.0, due - time.monotonic()))
                key = 1 + (number + 2 * turn * 7919) % count
                connection.execute("UPDATE tickets SET updated_at = now() WHERE id = %s", (key,))
                turn += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = buckets(daemon)
    p50, p99 = (quantile(q, before_ms, after) for q in (0.5, 0.99))
    used = cpu_s(daemon) - before
    print(
        f"live, {rate}/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms;"
        f" the daemon takes {100 * used / seconds:.0f} % of a core,"
        f" resident {resident_mb(daemon):.0f} MB"
    )


def buckets(daemon: Projector) -> list[tuple[float, float]]:
    """The histogram of commit to Redis: upper bounds in milliseconds, and how many by then."""
    name = "projector_commit_to_redis_seconds_bucket"
    lines = [x for x in daemon.http("/metrics")[1].decode().splitlines() if x.startswith(name)]
    return [(1e3 * float(x.split('"')[1]), float(x.split()[-1])) for x in lines]


def quantile(
    wanted: float, before: list[tuple[float, float]], after: list[tuple[float, float]]
) -> float:
    """A quantile of what was observed between two looks, within its bucket by its share."""
    counts = [(bound, now - then) for (bound, now), (_, then) in zip(after, before, strict=True)]
    target, lower, below = wanted * counts[-1][1], 0.0, 0.0
    for bound, count in counts:
        if count >= target:
            return lower + (bound - lower) * (target - below) / max(1.0, count - below)
        lower, below = bound, count
    return lower


def current(daemon: Projector) -> bool:
    """Whether nothing is left to do."""
    said = json.loads(daemon.http("/status.json")[1])
    return bool(said["state"] == "leading" and not said["debts"] and (said["lag_s"] or 0) < 0.5)


def cpu_s(daemon: Projector) -> float:
    assert daemon.process is not None
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(daemon: Projector) -> float:
    assert daemon.process is not None
    pages = int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
