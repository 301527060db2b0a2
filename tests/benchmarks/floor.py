"""The floor: the same SELECTs by a bare PyMySQL loop, and a bare pipeline of HSETs."""

import time
from typing import Any

from projector.projection import Plan

_CHUNK = 500


def floor_s(plan: Plan, connection: Any, redis: Any, ids: list[str]) -> tuple[float, float]:
    """Return the seconds for reading all documents' rows, and for writing as many documents."""
    values = dict(zip(ids, redis.hmget("tickets", ids), strict=True))
    began = time.perf_counter()
    with connection.cursor() as cursor:
        for first in range(0, len(ids), _CHUNK):
            for query in plan.queries(ids[first : first + _CHUNK]):
                cursor.execute(query)
                cursor.fetchall()
    read = time.perf_counter() - began
    began = time.perf_counter()
    for first in range(0, len(ids), _CHUNK):
        with redis.pipeline(transaction=False) as pipe:
            for document_id in ids[first : first + _CHUNK]:
                pipe.hset("floor", document_id, values[document_id] or b"")
            pipe.execute()
    written = time.perf_counter() - began
    redis.delete("floor")
    return read, written
