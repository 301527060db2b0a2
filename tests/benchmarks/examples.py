"""`python -m tests.benchmarks.examples`: a build of each example against its bare SELECTs.

Each example's tables are filled by a random history and then many times over, with other keys. In
turn: the SELECTs of all documents by a bare loop of the driver, and a daemon that builds the hash,
from its lease until nothing is left to be done. Options: `--flavour`, `--size`, `--runs`.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from projector.mysql.dialect import MYSQL
from projector.projection import Plan, load_projections
from tests.examples import desk, forum, history, places
from tests.projector_process import Projector, committed, is_settled, wait_for
from tests.servers import Flavour, start_database, start_redis
from tests.servers.account import documented_account

_CHUNK = 500  # documents whose rows the bare loop asks for at once
_HISTORY = 600  # transactions before the rows are multiplied
_APART = 1000  # between the keys of one copy and those of the next
_DISTINCT = {"mail", "owner", "badge", "address"}  # texts that joins compare: they get a number
EXAMPLES: list[tuple[ModuleType, str]] = [
    (desk, "desk"), (forum, "forum"), (places, "machines"), (places, "places"),
]  # fmt: skip


def main() -> int:
    """Measure each example so many times; print the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.examples")
    parser.add_argument("--flavour", choices=[str(f) for f in Flavour], default="mysql")
    parser.add_argument("--size", type=int, default=10_000, help="documents, at least")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    with start_database(Flavour(chosen.flavour)) as database, start_redis() as redis_server:
        for module, name in EXAMPLES:
            database.create_database(name)
            database.load_sql(f"SET SESSION sql_mode='';{module.DDL}", name)
            projection = f"tests.examples.{module.__name__.rpartition('.')[2]}:{name}"
            [plan] = load_projections(projection, MYSQL)
            with contextlib.closing(database.connect(name)) as connection:
                _fill(connection, module.TABLES, plan, chosen.size)
                redis_client = redis_server.client(db=1)
                daemon = Projector(
                    documented_account(database, name), redis_server.url(db=1),
                    PROJECTOR_PROJECTION=projection, PROJECTOR_LOG__LEVEL="warning",
                    PROJECTOR_RECONCILE__SCRUB_INTERVAL_S="0",
                )  # fmt: skip
                _measure(connection, redis_client, daemon, plan, chosen.runs)
    return 0


def _fill(connection: Any, tables: history.Tables, plan: Plan, size: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = ''")
        history.run(connection, tables, 1, _HISTORY, one_by_one=True)
        cursor.execute(plan.count_query(None))
        copies = size // cursor.fetchone()[0] + 1
        connection.commit()
        for table, columns in tables.items():
            cursor.execute("CREATE TEMPORARY TABLE copies (n INT PRIMARY KEY)")
            cursor.executemany("INSERT INTO copies VALUES (%s)", [(n,) for n in range(1, copies)])
            names = [*columns.values]
            made = ", ".join(map(_copied, names))
            listed = ", ".join(map(history.quoted, names))
            cursor.execute(
                f"INSERT IGNORE INTO {table} ({listed}) SELECT {made} FROM {table} JOIN copies"
            )
            cursor.execute("DROP TEMPORARY TABLE copies")
            connection.commit()
            cursor.execute(f"ANALYZE TABLE {table}")
            cursor.fetchall()


def _copied(column: str) -> str:
    """Write a column of a copy: keys and references are its own."""
    if column in {"id", "pid"} or column.endswith("_id"):
        return f"{history.quoted(column)} + n * {_APART}"
    if column in _DISTINCT:
        return f"CONCAT({history.quoted(column)}, n)"
    return history.quoted(column)


def _measure(connection: Any, redis: Any, daemon: Projector, plan: Plan, runs: int) -> None:
    ids = _ids(connection, plan)
    read, built = [], []
    for _ in range(runs):
        read.append(_selects_s(connection, plan, ids))
        redis.flushdb()
        built.append(_build_s(connection, redis, daemon, plan.name))
        assert redis.hlen(plan.name) == len(ids)
    ratio = statistics.median(b / r for b, r in zip(built, read, strict=True))
    size = statistics.fmean(map(len, redis.hvals(plan.name)))
    print(
        f"{plan.name:9} {len(ids):6} documents of {size:4.0f} bytes, {len(plan.levels)} SELECTs:"
        f" {len(ids) / statistics.median(built):6.0f} documents/s, {ratio:.2f} of their time",
        flush=True,
    )


def _ids(connection: Any, plan: Plan) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(plan.ids_after(None, 10**9))
        return [plan.to_id([str(part).encode() for part in row]) for row in cursor.fetchall()]


def _selects_s(connection: Any, plan: Plan, ids: Sequence[str]) -> float:
    began = time.perf_counter()
    with connection.cursor() as cursor:
        for first in range(0, len(ids), _CHUNK):
            for query in plan.queries(ids[first : first + _CHUNK]):
                cursor.execute(query)
                cursor.fetchall()
    return time.perf_counter() - began


def _build_s(connection: Any, redis: Any, daemon: Projector, name: str) -> float:
    target = committed(connection)
    daemon.start("--until-current")
    wait_for(lambda: redis.exists(f"{{{name}}}:lease"), daemon)
    began = time.perf_counter()
    wait_for(lambda: is_settled(redis, target, name), daemon, timeout_s=600)
    took = time.perf_counter() - began
    assert daemon.wait(60) == 0, daemon.log()[-3000:]
    return took


if __name__ == "__main__":
    raise SystemExit(main())
