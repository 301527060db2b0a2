"""What is measured while the daemon follows: latency, cost, and what goes on beside a walk."""

import contextlib
import statistics
import subprocess
import sys
import threading
import time

from tests.benchmarks.stage import Bench, Figures
from tests.oracle import compare, oracle_documents
from tests.projector_process import ROOT, await_checkpoint, wait_for
from tests.servers import Flavour
from tests.workload import Workload

_WINDOWS_MS = (0, 2, 4, 6, 10)
_RATES, _LOAD_S = (50, 300, 1000, 2000), 10.0


def place_baseline(bench: Bench) -> None:
    """Let the baseline begin at the end of the log, as it is now."""
    bench.database.execute("FLUSH BINARY LOGS")
    mysql = bench.database.flavour is Flavour.MYSQL
    [place] = bench.database.execute(f"SHOW {'BINARY LOG' if mysql else 'MASTER'} STATUS")
    bench.redis.hset("baseline:checkpoint", mapping={"file": place[0], "offset": place[1]})


def start_baseline(bench: Bench, count: int) -> subprocess.Popen[str]:
    """Let it follow so many commits; it prints the seconds."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.baseline", bench.database.url("helpdesk"),
         bench.redis_url, str(count)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def latency(bench: Bench) -> Figures:
    """Lone commits at a rate; from commit to readable, seen from outside; then the baseline's."""
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
    if not bench.has_peers:
        return figures
    place_baseline(bench)
    baseline = start_baseline(bench, 500 * 4)
    wait_for(lambda: _is_read(bench))
    found = sorted(_latencies(bench, 500, seconds=4, key="baseline"))
    baseline.communicate(timeout=60)
    bench.redis.delete("baseline", "baseline:checkpoint")
    theirs = found[len(found) // 2] * 1000
    figures["baseline 500/s p50 ms"] = theirs
    figures["500/s p50 to the baseline's"] = figures["500/s p50 ms"] / theirs
    return figures


def _is_read(bench: Bench) -> bool:
    return any("Binlog Dump" in str(row[4]) for row in bench.database.execute("SHOW PROCESSLIST"))


def _latencies(bench: Bench, rate: int, seconds: float, key: str = "tickets") -> list[float]:
    """Poll for one commit in so many, while a writer keeps the pace."""
    every = max(1, rate // 50)
    committed: list[tuple[bytes, int, float]] = []
    run = time.time()
    with bench.connection.cursor() as cursor:
        cursor.execute("SELECT id FROM tickets ORDER BY id LIMIT 20000")
        tickets = [row[0] for row in cursor.fetchall()]

    def write() -> None:
        with contextlib.closing(bench.database.connect("helpdesk")) as connection:
            cursor = connection.cursor()
            began = time.perf_counter()
            for number in range(round(rate * seconds)):
                pause = began + number / rate - time.perf_counter()
                if pause > 0:
                    time.sleep(pause)
                ticket = tickets[number % len(tickets)]
                title = f"l {run} {number}."
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
        while title not in (bench.redis.hget(key, ticket) or b""):
            assert time.perf_counter() - at < 30, "a change does not arrive"
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
    """What live changes cost at several rates: CPU of all, without a daemon and with it."""
    figures: Figures = {}
    bench.until_current_s()
    without = {rate: _load(bench, rate) for rate in _RATES}
    bench.follow()
    time.sleep(2)
    for rate in _RATES:
        for name, figure in _load(bench, rate).items():
            before = without[rate][name]
            figures[f"{rate}/s {name}"] = figure
            if name.startswith(("database", "Redis", "statements")):
                figures[f"{rate}/s {name} added"] = figure - before
        await_checkpoint(bench.redis, bench.connection, bench.daemon)
    bench.daemon.stop()
    return figures


def _load(bench: Bench, rate: int) -> Figures:
    """Single-row updates at a steady rate; give what was used meanwhile, a thousand changes."""
    count = round(rate * _LOAD_S)
    used, questions = bench.used(), bench.questions()
    began = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        with bench.connection.cursor() as cursor:
            ticket = number % bench.size + 1
            cursor.execute(f"UPDATE tickets SET title = 'c {began} {number}' WHERE id = {ticket}")
    took = time.perf_counter() - began
    return {
        "written/s": count / took,
        "statements a change": (bench.questions() - questions - 1) / count,
        **bench.used().since(used, count),
    }


def gather(bench: Bench) -> Figures:
    """What the window for lone changes costs and spares, at 300/s and at 50/s: latency, and the CPU
    that a thousand changes take of database and daemon."""
    figures: Figures = {}
    bench.until_current_s()
    for rate in (300, 50):
        figures[f"{rate}/s without: database CPU s a thousand"] = _load(bench, rate)[
            "database CPU s a thousand"
        ]
    for window_ms in _WINDOWS_MS:
        bench.daemon.environment["PROJECTOR_MYSQL__GATHER_S"] = str(window_ms / 1000)
        bench.follow()
        for rate in (300, 50):
            used, count = bench.used(), rate * _LOAD_S
            found = sorted(_latencies(bench, rate, seconds=_LOAD_S))
            cpu = bench.used().since(used, count)
            name = f"{rate}/s window {window_ms} ms:"
            figures |= {
                f"{name} p50 ms": statistics.median(found) * 1000,
                f"{name} p99 ms": found[int(len(found) * 0.99)] * 1000,
                f"{name} database CPU s a thousand": cpu["database CPU s a thousand"],
                f"{name} daemon CPU s a thousand": cpu["daemon CPU s a thousand"],
            }
        bench.daemon.stop()
    del bench.daemon.environment["PROJECTOR_MYSQL__GATHER_S"]
    return figures


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
    usual = statistics.median(_latencies(bench, 100, seconds=4))
    with bench.connection.cursor() as cursor:
        cursor.execute(f"UPDATE ticket_statuses SET name = 'all {time.time()}' ORDER BY id LIMIT 1")
    began = time.perf_counter()
    figures = _meanwhile(bench, usual)
    await_checkpoint(bench.redis, bench.connection, bench.daemon, timeout_s=1800)
    figures["worked off s"] = time.perf_counter() - began
    bench.daemon.stop()
    return figures


def resync(bench: Bench) -> Figures:
    """Everything is read again and compared; live changes go on meanwhile."""
    bench.follow()
    usual = statistics.median(_latencies(bench, 100, seconds=4))
    assert bench.daemon.run("resync", "--no-wait").returncode == 0
    began = time.perf_counter()
    figures = _meanwhile(bench, usual)
    await_checkpoint(bench.redis, bench.connection, bench.daemon, timeout_s=1800)
    figures["documents/s"] = bench.size / (time.perf_counter() - began)
    bench.daemon.stop()
    return figures


def _meanwhile(bench: Bench, usual_s: float) -> Figures:
    """Changes at 100/s, for as long as about half of such a walk takes; peak of memory."""
    found = sorted(_latencies(bench, 100, seconds=max(2.0, bench.size / 40_000)))
    return {
        "usual p50 ms": usual_s * 1000,
        "meanwhile p50 ms": statistics.median(found) * 1000,
        "meanwhile p99 ms": found[int(len(found) * 0.99)] * 1000,
        "meanwhile p50 to the usual": statistics.median(found) / usual_s,
        "rss MB": bench.rss_mb("VmHWM"),
    }


def killed_build(bench: Bench) -> Figures:
    """A build under 300 transactions a second, killed in the middle; no ticket that stands in the
    hash may vanish. Then everything is compared."""
    bench.redis.flushdb()
    workload = Workload(lambda: bench.database.connect("helpdesk"), seed=2, cascades=False)
    watched = [str(number * (bench.size // 500) + 1) for number in range(500)]
    stopped = threading.Event()
    vanished: list[str] = []
    seen: set[str] = set()

    def watch() -> None:
        while not stopped.wait(0.05):
            now = {k for k, v in zip(watched, bench.redis.hmget("tickets", watched), strict=True)
                   if v is not None}  # fmt: skip
            vanished.extend(seen - now)
            seen.update(now)

    watcher = threading.Thread(target=watch)
    workload.start()
    watcher.start()
    try:
        bench.daemon.start()
        began = time.perf_counter()
        wait_for(lambda: bench.redis.hlen("tickets") > bench.size / 2, bench.daemon, 900)
        peak = bench.rss_mb("VmHWM")
        bench.daemon.kill()
        bench.daemon.start()
        wait_for(lambda: bench.redis.hlen("tickets") > bench.size * 0.97, bench.daemon, 900)
        wait_for(lambda: not _is_building(bench), bench.daemon, 900)
        took = time.perf_counter() - began
    finally:
        stopped.set()
        watcher.join()
        workload.stop()
    await_checkpoint(bench.redis, bench.connection, bench.daemon, timeout_s=1800)
    peak = max(peak, bench.rss_mb("VmHWM"))
    bench.daemon.stop()
    ids = bench.ids()
    assert not set(vanished) & set(ids), "a ticket that exists had vanished"
    _compare(bench, sorted({*ids, *(key.decode() for key in bench.redis.hkeys("tickets"))}))
    return {
        "documents/s": bench.size / took, "rss MB": peak, "vanished": 0, "differences": 0,
        "transactions/s": workload.stats["transactions"] / took,
    }  # fmt: skip


def _is_building(bench: Bench) -> bool:
    # Under so many wide changes one round follows another, but the build is over.
    return b'"initial_build"' in (bench.redis.hget("{tickets}:debts", "all") or b"")


def _compare(bench: Bench, ids: list[str]) -> None:
    """Compare the whole hash with the oracle, in pieces."""
    for first in range(0, len(ids), 20_000):
        some = ids[first : first + 20_000]
        values = zip(some, bench.redis.hmget("tickets", some), strict=True)
        stored = {key.encode(): value for key, value in values if value is not None}
        found = compare(stored, oracle_documents(bench.connection, some))
        assert not found, found[:5]
