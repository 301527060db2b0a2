"""What is measured: each scenario gives figures by name; rates are per second."""

import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from projector.projection import Plan, load_projections
from tests.benchmarks.floor import floor_s
from tests.projector_process import (
    ROOT,
    Projector,
    await_checkpoint,
    committed,
    is_settled,
    wait_for,
)
from tests.seed import seed
from tests.servers import DatabaseServer, Flavour, start_database, start_redis

HELPDESK = (Path(__file__).parent.parent / "helpdesk.sql").read_text("utf-8")
_WRITERS = 4
_LOAD_RATE, _LOAD_S = 300, 20.0
Figures = dict[str, float]


class Bench:
    """Servers with a seeded helpdesk, and a daemon whose hash is built by the first scenario."""

    def __init__(self, database: DatabaseServer, redis_server: Any, size: int) -> None:
        self.database, self.size = database, size
        self.connection = database.connect("helpdesk")
        self.redis = redis_server.client(db=1)
        self.redis_url = redis_server.url(db=1)
        self.daemon = Projector(
            database.url("helpdesk"), self.redis_url,
            PROJECTOR_RECONCILE__SCRUB_INTERVAL_S="0", PROJECTOR_LOG__LEVEL="warning",
        )  # fmt: skip
        [self.plan] = load_projections("schema.projection:tickets")

    @classmethod
    @contextmanager
    def open(cls, flavour: Flavour, size: int) -> Iterator[Self]:
        """Start servers and seed them."""
        with ExitStack() as stack:
            database = stack.enter_context(start_database(flavour))
            redis_server = stack.enter_context(start_redis())
            database.create_database("helpdesk")
            database.load_sql(HELPDESK, "helpdesk")
            with contextlib.closing(database.connect("helpdesk")) as connection:
                seed(connection, size)
            made = cls(database, redis_server, size)
            stack.callback(made.connection.close)
            stack.push(made.daemon.__exit__)
            yield made

    def ids(self) -> list[str]:
        """All tickets' ids."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT id FROM tickets ORDER BY id")
            return [str(row[0]) for row in cursor.fetchall()]

    def until_current_s(self) -> float:
        """Time a daemon, as seen in Redis: from its lease until nothing is left to be done."""
        target = committed(self.connection)
        self.daemon.start("--until-current")
        wait_for(lambda: self.redis.exists("{tickets}:lease"), self.daemon)
        began = time.perf_counter()
        wait_for(lambda: is_settled(self.redis, target), self.daemon, timeout_s=1800)
        took = time.perf_counter() - began
        assert self.daemon.wait(60) == 0, self.daemon.log()[-3000:]
        return took

    def follow(self) -> None:
        """Start a daemon that has worked off everything, and has seen a first live change."""
        self.daemon.start()
        wait_for(lambda: self.redis.exists("{tickets}:lease"), self.daemon)
        with self.connection.cursor() as cursor:
            cursor.execute("UPDATE tickets SET title = CONCAT('_', title) ORDER BY id LIMIT 1")
        await_checkpoint(self.redis, self.connection, self.daemon)

    def write(self, statement: Callable[[int], str], count: int) -> float:
        """Run statements from several connections; give the seconds."""

        def work(first: int) -> None:
            with contextlib.closing(self.database.connect("helpdesk")) as connection:
                cursor = connection.cursor()
                for number in range(first, count, _WRITERS):
                    cursor.execute(statement(number))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(_WRITERS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - began

    def rss_mb(self) -> float:
        """Resident memory of the daemon."""
        assert self.daemon.process is not None
        for line in Path(f"/proc/{self.daemon.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0

    def cpu_s(self, pid: int) -> float:
        """CPU seconds that a process has used."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def questions(self) -> int:
        """Statements that the server has run."""
        return int(self.database.execute("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])


def _floor(bench: Bench) -> float:
    read, written = floor_s(bench.plan, bench.connection, bench.redis, bench.ids())
    return bench.size / (read + written)


def build(bench: Bench) -> Figures:
    """An empty hash is filled."""
    bench.redis.flushdb()
    took = bench.until_current_s()
    floor, rate = _floor(bench), bench.size / took
    return {"documents/s": rate, "floor documents/s": floor, "ratio to the floor": rate / floor}


def _backlog(bench: Bench, statement: Callable[[int], str], count: int) -> Figures:
    wrote = bench.write(statement, count)
    return {"changes/s": count / bench.until_current_s(), "written/s": count / wrote}


def backlog(bench: Bench) -> Figures:
    """As many single-row updates as tickets, each on another ticket; the baseline on the last."""
    run = str(time.time())
    figures = _backlog(
        bench, lambda n: f"UPDATE tickets SET title = '{run} {n}' WHERE id = {n + 1}", bench.size
    )
    floor = _floor(bench)
    figures |= {"floor": floor, "ratio to the floor": figures["changes/s"] / floor}
    baseline = _baseline(bench, min(2000, bench.size))
    return figures | {
        "baseline changes/s": baseline,
        "ratio to the baseline": figures["changes/s"] / baseline,
    }


def _baseline(bench: Bench, count: int) -> float:
    bench.database.execute("FLUSH BINARY LOGS")
    words = ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
    place: Any = None
    for statement in words:
        with contextlib.suppress(Exception):
            place = bench.database.execute(statement)[0]
    bench.redis.hset("baseline:checkpoint", mapping={"file": place[0], "offset": place[1]})
    bench.write(lambda n: f"UPDATE tickets SET title = 'b {n}' WHERE id = {n + 1}", count)
    answer = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.baseline", bench.database.url("helpdesk"),
         bench.redis_url, str(count)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    bench.redis.delete("baseline", "baseline:checkpoint")
    bench.until_current_s()
    return count / float(answer.stdout.split()[-1])


def hot(bench: Bench) -> Figures:
    """The same number of updates over 1,000 tickets."""
    run = str(time.time())
    return _backlog(
        bench,
        lambda n: f"UPDATE tickets SET title = '{run} {n}' WHERE id = {n % 1000 + 1}",
        bench.size,
    )


def compressed(bench: Bench) -> Figures:
    """The same updates of distinct tickets, in a compressed log."""
    mysql = bench.database.flavour is Flavour.MYSQL
    name = "binlog_transaction_compression" if mysql else "log_bin_compress"
    bench.database.execute(f"SET GLOBAL {name} = ON")
    run = str(time.time())
    try:
        return _backlog(
            bench, lambda n: f"UPDATE tickets SET title = '{run} {n}' WHERE id = {n + 1}",
            bench.size,
        )  # fmt: skip
    finally:
        bench.database.execute(f"SET GLOBAL {name} = OFF")


def large(bench: Bench) -> Figures:
    """Transactions of 1,000 rows; the figure is rows."""
    run = str(time.time())
    count = max(1, bench.size // 1000)
    found = _backlog(
        bench,
        lambda n: (
            f"UPDATE tickets SET title = '{run}' WHERE id BETWEEN {n * 1000 + 1}"
            f" AND {n * 1000 + 1000}"
        ),
        count,
    )
    return {"rows/s": found["changes/s"] * bench.size / count}


def comments(bench: Bench) -> Figures:
    """Inserts of comments, each on another ticket."""
    return _backlog(
        bench,
        lambda n: (
            "INSERT INTO ticket_comments (ticket_id, author_id, body)"
            f" VALUES ({n % bench.size + 1}, 1, 'a comment')"
        ),
        bench.size // 2,
    )


def verify(bench: Bench) -> Figures:
    """Everything compared, nothing different."""
    began = time.perf_counter()
    result = bench.daemon.run("verify", timeout_s=900)
    took = time.perf_counter() - began
    assert result.returncode == 0, result.stdout + result.stderr
    floor = _floor(bench)
    rate = bench.size / took
    return {"documents/s": rate, "ratio to the floor": rate / floor}


def latency(bench: Bench) -> Figures:
    """Lone commits at a rate; from commit to readable, seen from outside."""
    figures: Figures = {}
    bench.follow()
    for rate in (50, 500, 2000):
        found = sorted(_latencies(bench, rate, seconds=4))
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            figures[f"{rate}/s {name} ms"] = found[int(len(found) * share)] * 1000
        figures[f"{rate}/s max ms"] = found[-1] * 1000
        await_checkpoint(bench.redis, bench.connection, bench.daemon)
    figures["rss MB"] = bench.rss_mb()
    bench.daemon.stop()
    return figures


def _latencies(bench: Bench, rate: int, seconds: float) -> list[float]:
    """Poll for one commit in so many, while a writer keeps the pace."""
    every = max(1, rate // 50)
    committed: list[tuple[bytes, int, float]] = []
    run = time.time()

    def write() -> None:
        with contextlib.closing(bench.database.connect("helpdesk")) as connection:
            cursor = connection.cursor()
            began = time.perf_counter()
            for number in range(round(rate * seconds)):
                pause = began + number / rate - time.perf_counter()
                if pause > 0:
                    time.sleep(pause)
                ticket = number % bench.size + 1
                title = f"l {run} {number}"
                cursor.execute(f"UPDATE tickets SET title = '{title}' WHERE id = {ticket}")
                if number % every == 0:
                    committed.append((title.encode(), ticket, time.perf_counter()))

    writer = threading.Thread(target=write)
    writer.start()
    found: list[float] = []
    while writer.is_alive() or committed:
        if not committed:
            time.sleep(0.0002)
            continue
        title, ticket, at = committed.pop(0)
        while b'"title":"%b"' % title not in (bench.redis.hget("tickets", ticket) or b""):
            if time.perf_counter() - at > 10:
                break
        found.append(time.perf_counter() - at)
    writer.join()
    return found


def idle(bench: Bench) -> Figures:
    """Nothing happens for ten seconds."""
    bench.follow()
    time.sleep(2)
    assert bench.daemon.process is not None
    pid = bench.daemon.process.pid
    cpu, questions = bench.cpu_s(pid), bench.questions()
    time.sleep(10)
    figures = {
        "CPU %": (bench.cpu_s(pid) - cpu) * 10,
        "statements/s": (bench.questions() - questions - 1) / 10,
        "rss MB": bench.rss_mb(),
    }
    bench.daemon.stop()
    return figures


def cost(bench: Bench) -> Figures:
    """What 300 transactions a second cost the servers, without a daemon and with it."""
    bench.until_current_s()
    without = _load(bench)
    bench.follow()
    time.sleep(2)
    assert bench.daemon.process is not None
    before = bench.cpu_s(bench.daemon.process.pid)
    beside = _load(bench)
    used = bench.cpu_s(bench.daemon.process.pid) - before
    await_checkpoint(bench.redis, bench.connection, bench.daemon)
    bench.daemon.stop()
    figures = {"daemon CPU %": used / _LOAD_S * 100}
    for name, figure in without.items():
        figures |= {f"{name} without": figure, f"{name} with": beside[name]}
    more = beside["statements/s"] - without["statements/s"]
    return figures | {"statements a change": more / _LOAD_RATE}


def _load(bench: Bench) -> Figures:
    """Single-row updates at a steady rate; give what the servers did meanwhile."""
    redis_cpu_s = _redis_cpu_s(bench)
    cpu_s, questions = bench.cpu_s(bench.database.pid), bench.questions()
    began = time.perf_counter()
    for number in range(round(_LOAD_RATE * _LOAD_S)):
        time.sleep(max(0.0, began + number / _LOAD_RATE - time.perf_counter()))
        with bench.connection.cursor() as cursor:
            ticket = number % bench.size + 1
            cursor.execute(f"UPDATE tickets SET title = 'c {began} {number}' WHERE id = {ticket}")
    took = time.perf_counter() - began
    return {
        "transactions/s": _LOAD_RATE * _LOAD_S / took,
        "statements/s": (bench.questions() - questions - 1) / took,
        "server CPU %": (bench.cpu_s(bench.database.pid) - cpu_s) / took * 100,
        "Redis CPU %": (_redis_cpu_s(bench) - redis_cpu_s) / took * 100,
    }


def _redis_cpu_s(bench: Bench) -> float:
    used = bench.redis.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def memory(bench: Bench) -> Figures:
    """What a document takes in Redis, over all tickets."""
    bench.redis.flushall()
    empty = bench.redis.info("memory")["used_memory"]
    bench.until_current_s()
    used = bench.redis.info("memory")["used_memory"] - empty
    document_sizes = [len(document) for document in bench.redis.hvals("tickets")]
    hash_size = bench.redis.memory_usage("tickets", samples=0)
    return {
        "documents": len(document_sizes),
        "mean document bytes": statistics.mean(document_sizes),
        "largest document bytes": max(document_sizes),
        "MEMORY USAGE a document": hash_size / len(document_sizes),
        "used_memory a document": used / len(document_sizes),
    }


def fan_out(bench: Bench) -> Figures:
    """A status that every ticket carries is renamed; other tickets' changes go on meanwhile."""
    with bench.connection.cursor() as cursor:
        cursor.execute("UPDATE tickets SET status_id = (SELECT MIN(id) FROM ticket_statuses)")
    bench.until_current_s()
    bench.follow()
    with bench.connection.cursor() as cursor:
        cursor.execute("UPDATE ticket_statuses SET name = 'all of them' ORDER BY id LIMIT 1")
    began = time.perf_counter()
    found = sorted(_latencies(bench, 100, seconds=3))
    await_checkpoint(bench.redis, bench.connection, bench.daemon)
    took = time.perf_counter() - began
    figures = {"worked off s": took, "others' p99 ms": found[int(len(found) * 0.99)] * 1000}
    figures["rss MB"] = bench.rss_mb()
    bench.daemon.stop()
    return figures


SCENARIOS: dict[str, Callable[[Bench], Figures]] = {
    "build": build, "backlog": backlog, "hot": hot, "compressed": compressed, "large": large,
    "comments": comments, "verify": verify, "latency": latency, "idle": idle, "cost": cost,
    "memory": memory, "fan_out": fan_out,
}  # fmt: skip

__all__ = ["SCENARIOS", "Bench", "Plan"]
