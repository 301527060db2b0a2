"""What is measured: each scenario gives figures by name; rates are per second.

Here what is worked off at a stretch; what happens live is in `live`.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.benchmarks import debezium, live
from tests.benchmarks.floor import floor_s
from tests.benchmarks.live import place_baseline, start_baseline
from tests.benchmarks.stage import Bench, Figures
from tests.servers import Flavour
from tests.workload import Workload


def _floor(bench: Bench) -> float:
    read, written = floor_s(bench.plan, bench.connection, bench.redis, bench.ids())
    return bench.size / (read + written)


def build(bench: Bench) -> Figures:
    """An empty hash is filled."""
    bench.redis.flushdb()
    took, used = bench.worked_off(bench.size)
    floor, rate = _floor(bench), bench.size / took
    figures = {"documents/s": rate, "floor documents/s": floor, "ratio to the floor": rate / floor}
    return figures | used


def _backlog(bench: Bench, statement: Callable[[int], str], count: int) -> Figures:
    # In a file of its own: the server itself looks through a file for the place to send from.
    bench.database.execute("FLUSH BINARY LOGS")
    bench.until_current_s()
    wrote = bench.write(statement, count)
    took, used = bench.worked_off(count)
    return {"changes/s": count / took, "written/s": count / wrote} | used


def backlog(bench: Bench) -> Figures:
    """As many single-row updates as tickets, each on another ticket; the peers on the same."""
    run = str(time.time())

    def statement(number: int) -> str:
        return f"UPDATE tickets SET title = '{run} {number}' WHERE id = {number + 1}"

    figures = _backlog(bench, statement, bench.size)
    floor = _floor(bench)
    figures |= {"floor": floor, "ratio to the floor": figures["changes/s"] / floor}
    if not bench.has_peers:
        return figures
    found = {"baseline": _baseline(bench, min(2000, bench.size))}
    if debezium.is_installed() and bench.database.flavour is Flavour.MYSQL:
        with suppress(TimeoutError), tempfile.TemporaryDirectory() as folder:
            found["Debezium"] = debezium.changes_per_s(
                bench.database.url("helpdesk"), Path(folder), bench.size,
                touch=lambda: bench.write(lambda _: f"UPDATE tickets SET title = '{time.time()}'"
                                                    " WHERE id = 1", 1),
                write=lambda: bench.write(statement, bench.size),
            )  # fmt: skip
        bench.until_current_s()
    for peer, rate in found.items():
        figures |= {f"{peer} changes/s": rate, f"ratio to {peer}": figures["changes/s"] / rate}
    return figures


def _baseline(bench: Bench, count: int) -> float:
    place_baseline(bench)
    bench.write(lambda n: f"UPDATE tickets SET title = 'b {n}' WHERE id = {n + 1}", count)
    told, _ = start_baseline(bench, count).communicate(timeout=300)
    bench.redis.delete("baseline", "baseline:checkpoint")
    bench.until_current_s()
    return count / float(told)


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


def mix(bench: Bench) -> Figures:
    """What a helpdesk does to all twelve tables, as fast as four connections can, for some time."""
    bench.database.execute("FLUSH BINARY LOGS")
    bench.until_current_s()
    workload = Workload(
        lambda: bench.database.connect("helpdesk"), seed=1, cascades=False, rate=1e6
    )
    workload.run(10)
    done = workload.stats["transactions"]
    return {"transactions/s": done / bench.until_current_s(), "written/s": done / 10}


def verify(bench: Bench) -> Figures:
    """Everything compared, nothing different."""
    began = time.perf_counter()
    result = bench.daemon.run("verify", timeout_s=900)
    took = time.perf_counter() - began
    assert result.returncode == 0, result.stdout + result.stderr
    floor = _floor(bench)
    rate = bench.size / took
    return {"documents/s": rate, "ratio to the floor": rate / floor}


SCENARIOS: dict[str, Callable[[Bench], Figures]] = {
    "build": build, "backlog": backlog, "hot": hot, "compressed": compressed, "large": large,
    "comments": comments, "mix": mix, "verify": verify, "latency": live.latency,
    "idle": live.idle, "cost": live.cost, "gather": live.gather, "memory": live.memory,
    "fan_out": live.fan_out, "resync": live.resync, "killed_build": live.killed_build,
}  # fmt: skip
