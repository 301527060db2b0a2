"""One reader of the log in a process that holds nothing else: `reader` starts it and prints."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from projector.databases import Mysql
from projector.model import RowsChange, TableName, Watch
from projector.mysql.binlog import BinlogSource
from projector.mysql.position import Position

LIBRARY_LIMIT_S = 8.0


def read_ours(url: str, start: Position, end: Position, watches: Sequence[Watch]) -> dict[str, Any]:
    source = BinlogSource(Mysql(url=url))
    source.start(start, watches)
    rows, begun = 0, time.perf_counter()
    while True:
        part = source.read(30)
        assert part is not None
        rows += sum(c.row_count for c in part.changes if isinstance(c, RowsChange))
        if part.position is not None and part.position.reaches(end):
            break
    seconds = time.perf_counter() - begun
    source.close()
    return {"rows": rows, "seconds": seconds, "resident_mb": resident_mb()}


def read_library(
    url: str, start: Position, end: Position, watches: Sequence[Watch]
) -> dict[str, Any]:
    """mysql-replication with the same job: the keys of the rows, until the end or for a while."""
    from pymysqlreplication import BinLogStreamReader
    from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

    parsed = Mysql(url=url).parsed_url
    stream = BinLogStreamReader(
        connection_settings={
            "host": parsed.host, "port": parsed.port,
            "user": parsed.username, "passwd": parsed.password,
        },
        server_id=99, log_file=start.file, log_pos=start.offset, resume_stream=True, blocking=False,
        only_schemas=[watches[0].table.schema], only_tables=[watch.table.name for watch in watches],
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
    )  # fmt: skip
    rows, begun = 0, time.perf_counter()
    for event in stream:
        rows += len(event.rows)
        if stream.log_pos >= end.offset or time.perf_counter() - begun > LIBRARY_LIMIT_S:
            break
    seconds = time.perf_counter() - begun
    stream.close()
    return {"rows": rows, "seconds": seconds, "resident_mb": resident_mb()}


PEERS = {"projector": read_ours, "mysql-replication": read_library}


def resident_mb() -> float:
    """The largest resident memory of this process (getrusage counts its parent's before exec)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    name, url, start, end, watched = sys.argv[1:]
    watches = [
        Watch(TableName(schema, table), tuple(columns), frozenset(read))
        for schema, table, columns, read in json.loads(watched)
    ]
    print(json.dumps(PEERS[name](url, Position.parse(start), Position.parse(end), watches)))


if __name__ == "__main__":
    main()
