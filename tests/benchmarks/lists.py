"""What lists cost, in one run: a backlog and memory with three views and without any, a page beside
live changes, and a renamed status that nearly all tickets carry.

    python -m tests.benchmarks.lists --size 30000 --flavour mysql
"""

import argparse
import contextlib
import json
import resource
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from projector_reader import Reader

from tests.benchmarks.stage import Bench, Figures
from tests.projector_process import await_checkpoint, wait_for
from tests.servers import Flavour

_OTHERS = 16  # of so many tickets one does not carry the status that is renamed
_WITH, _WITHOUT = "tests.benchmarks.views:tickets", "schema.projection:tickets"


def cost(bench: Bench, bouts: int) -> Figures:
    """Backlogs of as many updates as tickets, by turns with views and without."""
    found: dict[str, list[tuple[float, float, float]]] = {_WITH: [], _WITHOUT: []}
    for _ in range(bouts):
        for name in (_WITHOUT, _WITH):
            use(bench, name)
            bench.until_current_s()  # adds the views, or takes them away
            bench.database.execute("FLUSH BINARY LOGS")
            run = str(time.time())
            bench.write(
                lambda n, run=run: f"UPDATE tickets SET title = '{run} {n}' WHERE id = {n + 1}",
                bench.size,
            )  # fmt: skip
            found[name].append(_measured(bench))
    figures: Figures = {}
    for at, what in enumerate(("seconds", "processor time", "processor time of Redis")):
        with_, without = ([each[at] for each in found[name]] for name in (_WITH, _WITHOUT))
        ratios = [a / b for a, b in zip(with_, without, strict=True)]
        figures[f"backlog: {what}, with to without"] = statistics.median(ratios)
        figures[f"backlog: {what} without, us a change"] = (
            statistics.median(without) / bench.size * 1e6
        )
    return figures


def _measured(bench: Bench) -> tuple[float, float, float]:
    before, redis_before = _children_s(), _redis_s(bench)
    took = bench.until_current_s()
    return took, _children_s() - before, _redis_s(bench) - redis_before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _redis_s(bench: Bench) -> float:
    found = bench.redis.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def use(bench: Bench, name: str) -> None:
    """Choose the projection of the daemons to come."""
    bench.daemon.environment |= {"PROJECTOR_PROJECTION": name, "TICKETS_LIST_KEY": "key"}


def memory(bench: Bench) -> Figures:
    """Bytes a document: of the hash, of the record of where it stands, of each view."""
    use(bench, _WITH)
    bench.until_current_s()
    count = bench.redis.hlen("tickets")

    def used(*keys: Any) -> int:
        return sum(int(bench.redis.memory_usage(key, samples=0) or 0) for key in keys)

    figures: Figures = {
        "memory: the hash, bytes a document": used("tickets") / count,
        "memory: where it stands, bytes a document": used("{tickets}:listed") / count,
    }
    for view in ("status", "department_status", "requester_email"):
        keys = list(bench.redis.scan_iter(f"{{tickets}}:by:{view}:*", count=1000))
        sizes = used(*keys, f"{{tickets}}:lists:{view}")
        figures[f"memory: {view} in {len(keys)} lists, bytes a document"] = sizes / count
    return figures


def page(bench: Bench, seconds: float) -> Figures:
    """Pages of 20 documents beside 500 changes a second."""
    use(bench, _WITH)
    bench.follow()
    reader: Reader[Any] = Reader(bench.redis, "tickets", json.loads)
    status = max(reader.values("by_status").items(), key=lambda item: item[1])[0]
    took: list[float] = []
    with _updates(bench, 500, lambda n: n * 7919 % bench.size + 1) as written:
        until, cursor = time.monotonic() + seconds, None
        while time.monotonic() < until:
            began = time.perf_counter()
            found = reader.view("by_status", status, cursor=cursor)
            took.append(time.perf_counter() - began)
            cursor = found.cursor
            time.sleep(0.002)
    bench.daemon.stop()
    return {
        "page: changes/s beside": written[0] / seconds,
        "page: p50 ms": statistics.median(took) * 1e3,
        "page: p99 ms": _p99(took) * 1e3,
        **_in_redis(bench),
    }


def _in_redis(bench: Bench) -> Figures:
    """What the server itself took for a page: no other program's share of the cores."""
    said = bench.redis.info("latencystats").get("latency_percentiles_usec_evalsha_ro", {})
    return {f"page: {name} ms in Redis": float(value) / 1e3 for name, value in said.items()}


def rename(bench: Bench) -> Figures:
    """A status that nearly all tickets carry is renamed; the others change meanwhile."""
    use(bench, _WITH)
    bench.database.execute(
        f"UPDATE tickets SET status_id = IF(id % {_OTHERS} = 1, 2, 1)", database="helpdesk"
    )
    bench.until_current_s()
    bench.follow()
    [[name]] = bench.database.execute(
        "SELECT name FROM ticket_statuses WHERE id = 1", database="helpdesk"
    )
    members = bench.redis.zcard(f"{{tickets}}:by:status:{name.lower()}")
    quiet = _latencies(bench, 5.0, lambda: False)
    bench.database.execute(
        "UPDATE ticket_statuses SET name = 'renamed' WHERE id = 1", database="helpdesk"
    )
    began = time.perf_counter()
    is_over = lambda: bench.redis.zcard("{tickets}:by:status:renamed") == members  # noqa: E731
    took = _latencies(bench, 900.0, is_over)
    lasted = time.perf_counter() - began
    wait_for(lambda: not bench.redis.exists(f"{{tickets}}:by:status:{name.lower()}"))
    await_checkpoint(bench.redis, bench.connection, bench.daemon)
    bench.daemon.stop()
    return {
        "rename: tickets": members,
        "rename: seconds": lasted,
        "rename: p99 ms of other tickets before": _p99(quiet) * 1e3,
        "rename: p99 ms of other tickets meanwhile": _p99(took) * 1e3,
        "rename: changes of others": len(took),
    }


def _latencies(bench: Bench, seconds: float, is_over: Callable[[], bool]) -> list[float]:
    """From the commit of an update of a ticket of another status until Redis has it."""
    found: list[float] = []
    until = time.monotonic() + seconds
    with contextlib.closing(bench.database.connect("helpdesk")) as connection:
        cursor, number = connection.cursor(), 0
        while time.monotonic() < until and not is_over():
            number += 1
            other, title = number * 7919 % (bench.size // _OTHERS), f"late {time.time()}"
            ticket = other * _OTHERS + 1
            cursor.execute(f"UPDATE tickets SET title = '{title}' WHERE id = {ticket}")
            began, wanted = time.perf_counter(), title.encode()
            while wanted not in bench.redis.hget("tickets", ticket):
                time.sleep(0.0005)
            found.append(time.perf_counter() - began)
            time.sleep(0.01)
    return found


@contextlib.contextmanager
def _updates(bench: Bench, rate: int, ticket: Callable[[int], int]) -> Any:
    written, stopped = [0], threading.Event()

    def work() -> None:
        with contextlib.closing(bench.database.connect("helpdesk")) as connection:
            cursor, began = connection.cursor(), time.monotonic()
            while not stopped.is_set():
                due = began + written[0] / rate
                if (ahead := due - time.monotonic()) > 0:
                    time.sleep(ahead)
                number = ticket(written[0])
                cursor.execute(f"UPDATE tickets SET title = 'l {due}' WHERE id = {number}")
                written[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield written
    finally:
        stopped.set()
        thread.join()


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] if values else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=30_000)
    parser.add_argument("--bouts", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--flavour", type=Flavour, default=Flavour.MYSQL, choices=list(Flavour))
    parser.add_argument("--only", nargs="*", default=["memory", "cost", "page", "rename"])
    chosen = parser.parse_args()
    with Bench.open(chosen.flavour, chosen.size) as bench:
        scenarios: dict[str, Callable[[], Figures]] = {
            "memory": lambda: memory(bench),
            "cost": lambda: cost(bench, chosen.bouts),
            "page": lambda: page(bench, chosen.seconds),
            "rename": lambda: rename(bench),
        }
        for name in chosen.only:
            for figure, value in scenarios[name]().items():
                print(f"{figure:<60} {value:,.2f}", flush=True)


if __name__ == "__main__":
    main()
