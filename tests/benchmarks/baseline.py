"""What most people would write: mysql-replication, SELECTs a transaction, `json`, HSET, checkpoint.

Run as a process of its own: `python -m tests.benchmarks.baseline MYSQL_URL REDIS_URL COMMITS`.
It reads file and position from Redis, follows until so many commits were applied, and prints the
seconds that took. It has the faults of its kind (no barrier, no atomic checkpoint, tickets only).
"""

import json
import sys
import time
from typing import Any

import pymysql
import redis
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import XidEvent
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent
from sqlalchemy.engine import make_url

from projector.mysql.dialect import MYSQL
from projector.projection import load_projections

_IDS = {
    "tickets": "id",
    "ticket_comments": "ticket_id",
    "ticket_tags": "ticket_id",
    "ticket_watchers": "ticket_id",
    "ticket_attachments": "ticket_id",
}


def main() -> None:
    """Follow the log."""
    url, target, until = make_url(sys.argv[1]), redis.Redis.from_url(sys.argv[2]), int(sys.argv[3])
    settings: dict[str, Any] = {
        "host": url.host, "port": url.port, "user": url.username, "password": url.password,
    }  # fmt: skip
    connection = pymysql.connect(**settings, database=url.database, autocommit=True)
    cursor = connection.cursor(pymysql.cursors.DictCursor)
    [plan] = load_projections("schema.projection:tickets", MYSQL)
    file, offset = target.hmget("baseline:checkpoint", "file", "offset")
    stream = BinLogStreamReader(
        connection_settings=settings, server_id=4242, blocking=True, resume_stream=True,
        log_file=file.decode(), log_pos=int(offset), only_schemas=[url.database],
        only_tables=list(_IDS),
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent, XidEvent],
    )  # fmt: skip
    began = time.perf_counter()
    ids: set[Any] = set()
    commits = 0
    for event in stream:
        if isinstance(event, XidEvent):
            _apply(cursor, plan, target, ids)
            ids.clear()
            target.hset(
                "baseline:checkpoint", mapping={"file": stream.log_file, "offset": stream.log_pos}
            )
            commits += 1
            if commits >= until:
                break
            continue
        for row in event.rows:
            for values in (row.get("values"), row.get("before_values"), row.get("after_values")):
                if values:
                    ids.add(values.get(_IDS[event.table], values.get("UNKNOWN_COL0")))
    sys.stdout.write(f"{time.perf_counter() - began}\n")


def _apply(cursor: Any, plan: Any, target: Any, ids: set[Any]) -> None:
    if not ids:
        return
    rows = []
    for query in plan.queries([str(i) for i in ids]):
        cursor.execute(query)
        rows.append(cursor.fetchall())
    documents = {str(row["c0"]): dict(row) for row in rows[0]}
    for number, found in enumerate(rows[1:]):
        for row in found:
            documents.get(str(row["c0"]), {}).setdefault(f"many{number}", []).append(row)
    if documents:
        target.hset(
            "baseline", mapping={k: json.dumps(v, default=str) for k, v in documents.items()}
        )


if __name__ == "__main__":
    main()
