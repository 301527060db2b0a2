"""Events recorded from real servers, for tests without one; `python -m tests.unit.recorded_rows`
records them again.

Of each server a table of many types and rows of it, also compressed and with partial JSON, as the
log holds them. `rows` is what they were read as when the differential test agreed.
"""

import gzip
import json
import struct
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from random import Random
from typing import Any

from projector.model import TableName
from projector.mysql.binlog.catalog import Catalog
from projector.mysql.binlog.rows import RowsDecoder
from projector.mysql.binlog.tablemap import ColumnInfo, TableMap
from tests.integration.random_tables import Table, random_statements, random_table
from tests.integration.source_reading import settings
from tests.servers import DatabaseServer, Flavour, start_database

FOLDER = Path(__file__).parent / "recorded"
TABLE_MAP = 19
ROWS = (*range(23, 26), *range(30, 33), 39, *range(166, 172))
LOGGING = {
    Flavour.MYSQL: ["", "SET SESSION binlog_row_value_options = 'PARTIAL_JSON'",
                    "SET SESSION binlog_row_image = MINIMAL"],
    Flavour.MARIADB: ["", "SET SESSION binlog_row_image = NOBLOB",
                      "SET GLOBAL log_bin_compress = 1"],
    Flavour.MARIADB_11: ["", "SET GLOBAL log_bin_compress = 1"],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recorded:
    """A table with the events of its rows: type, and the bytes after the header."""

    infos: tuple[ColumnInfo, ...]
    wanted: tuple[int, ...]
    table_map: bytes
    events: tuple[tuple[int, bytes], ...]
    rows: tuple[str, ...]

    def decoder(self, table_map: bytes | None = None) -> RowsDecoder:
        parsed = TableMap.parse(self.table_map if table_map is None else table_map)
        return RowsDecoder(parsed, self.wanted, self.infos)


def recorded(name: str) -> Recorded:
    """What was recorded of a server."""
    found = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    return Recorded(
        tuple(ColumnInfo(*info[:4], tuple(info[4]), info[5]) for info in found["infos"]),
        tuple(found["wanted"]),
        bytes.fromhex(found["table_map"]),
        tuple((kind, bytes.fromhex(body)) for kind, body in found["events"]),
        tuple(found["rows"]),
    )


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for flavour in Flavour:
        options = ["--binlog-checksum=NONE"]
        if flavour is not Flavour.MYSQL:
            options.append("--log-bin-compress-min-len=10")
        with start_database(flavour, options=options) as server:
            text = json.dumps(_record(server, Random(flavour.value)))
        packed = gzip.compress(text.encode(), mtime=0)
        (FOLDER / f"{flavour.value}.json.gz").write_bytes(packed)


def _record(server: DatabaseServer, random: Random) -> dict[str, Any]:
    table = random_table(random, server.flavour, is_for_library=False, size=30)
    server.create_database("recorded")
    with server.connect("recorded") as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = '', time_zone = '+00:00'")
        cursor.execute(table.definition())
        for change in LOGGING[server.flavour]:
            if change:
                cursor.execute(change)
            for statement in random_statements(random, table, 6):
                cursor.execute(statement)
    catalog = Catalog(settings(server))
    infos = catalog.columns(TableName("recorded", "t"))
    catalog.close()
    events = list(_events(server))
    table_map = next(body for kind, body in events if kind == TABLE_MAP)
    wanted = _wanted(table)
    rows = [(kind, body) for kind, body in events if kind in ROWS]
    decoder = RowsDecoder(TableMap.parse(table_map), wanted, infos)
    return {
        "infos": [astuple(info) for info in infos],
        "wanted": wanted,
        "table_map": table_map.hex(),
        "events": [(kind, body.hex()) for kind, body in rows],
        "rows": [repr(decoder.decode(kind, body, 0, len(body))) for kind, body in rows],
    }


def _wanted(table: Table) -> list[int]:
    return [i for i, column in enumerate(table.columns) if column.can_be_key]


def _events(server: DatabaseServer) -> Iterator[tuple[int, bytes]]:
    """Type and body of the events in the files of the server's log."""
    folder = Path(server.execute("SELECT @@datadir")[0][0])
    for file, *_ in server.execute("SHOW BINARY LOGS"):
        data, at = (folder / file).read_bytes(), 4
        while at < len(data):
            kind, size = struct.unpack_from("<4xB4xI", data, at)
            yield kind, data[at + 19 : at + size]
            at += size


if __name__ == "__main__":
    main()
