"""What somebody set on the server before we came, and how the daemon's account is granted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pymysql

from tests.abroad.worlds.module import columns_read
from tests.abroad.worlds.schemas import Schema, listed, quoted
from tests.abroad.worlds.spec import Level
from tests.servers import Flavour

_EVERYWHERE = {
    "binlog_row_image": ("MINIMAL", "MINIMAL", "NOBLOB", "FULL"),
    "binlog_row_metadata": ("FULL", "MINIMAL"),
    "sql_mode": ("", "ANSI", "PAD_CHAR_TO_FULL_LENGTH", "ANSI_QUOTES,PIPES_AS_CONCAT",
                 "NO_BACKSLASH_ESCAPES", "TRADITIONAL", "HIGH_NOT_PRECEDENCE"),
    "sql_select_limit": ("1", "3"),
    "time_zone": ("+05:30", "-11:00"),
    "group_concat_max_len": ("4",),
    "max_sort_length": ("8",),
    "max_join_size": ("1",),
    "autocommit": ("0",),
    "completion_type": ("CHAIN", "RELEASE"),
    "transaction_isolation": ("READ-COMMITTED", "SERIALIZABLE"),
    "max_binlog_size": ("4096",),
    "binlog_checksum": ("NONE",),
    "sql_auto_is_null": ("1",),
    "sql_safe_updates": ("1",),
    "character_set_server": ("latin1", "utf16"),
    "collation_connection": ("latin1_bin", "utf8mb4_bin"),
    "div_precision_increment": ("0",),
    "sql_quote_show_create": ("0",),
    "default_week_format": ("3",),
    "lc_time_names": ("de_DE",),
    "wait_timeout": ("2",),
    "transaction_read_only": ("1",),
}  # fmt: skip
_MYSQL: dict[str, tuple[str, ...]] = {
    "binlog_transaction_compression": ("ON",),
    "binlog_row_value_options": ("PARTIAL_JSON",),
    "binlog_rows_query_log_events": ("ON",),
    "max_execution_time": ("2", "1000"),
    "range_optimizer_max_mem_size": ("1000",),
    "eq_range_index_dive_limit": ("1",),
}
_MARIADB: dict[str, tuple[str, ...]] = {
    "log_bin_compress": ("ON",),
    "binlog_annotate_row_events": ("OFF",),
    "max_statement_time": ("0.002", "1"),
    "in_predicate_conversion_threshold": ("2",),
    "tx_isolation": ("READ-COMMITTED",),
    "sql_mode": ("ORACLE", "EMPTY_STRING_IS_NULL", "", "PAD_CHAR_TO_FULL_LENGTH"),
    "old_mode": ("", "ZERO_DATE_TIME_CAST"),
    "gtid_strict_mode": ("ON",),
}


def choose(chance: Callable[[str], Random], flavour: Flavour) -> dict[str, str]:
    """Make up none to five globals, in the server's words."""
    own = _MYSQL if flavour is Flavour.MYSQL else _MARIADB
    choices = {**_EVERYWHERE, **own}
    random = chance("settings")
    wanted = random.choice([1, 2, 3, 5]) if random.random() < 0.75 else 0
    names = random.sample(sorted(choices), wanted)
    found = {name: random.choice(choices[name]) for name in names}
    if chance("row-image").random() < 0.3:
        found["binlog_row_image"] = chance("row-image").choice(["MINIMAL", "NOBLOB", "MINIMAL"])
    return found


class Globals:
    """Sets globals, and sets them back. `connect` makes a connection that is used once."""

    def __init__(self, connect: Callable[[None], Any]) -> None:
        self._connect = connect
        self._before: dict[str, Any] = {}

    def apply(self, wanted: dict[str, str]) -> dict[str, str]:
        """Set what the server has and takes; give that."""
        taken = {}
        with contextlib.closing(self._connect(None)) as connection, connection.cursor() as cursor:
            for name, value in wanted.items():
                try:
                    cursor.execute(f"SELECT @@global.{name}")
                    before = cursor.fetchone()[0]
                    cursor.execute(f"SET GLOBAL {name} = {_written(value)}")
                except pymysql.err.MySQLError:
                    continue
                self._before[name] = before
                taken[name] = value
        return taken

    def restore(self) -> None:
        with contextlib.closing(self._connect(None)) as connection, connection.cursor() as cursor:
            for name, value in self._before.items():
                cursor.execute(f"SET GLOBAL {name} = {_written(value)}")
        self._before = {}


def _written(value: Any) -> str:
    text = value.decode() if isinstance(value, bytes) else str(value)
    is_number = text.replace(".", "", 1).isdigit()
    return text if is_number else f"'{text}'"


def grants(
    random: Random, schema: Schema, name: str, text: str, specs: Sequence[Level]
) -> tuple[list[str], list[str]]:
    """Return the tables granted whole, and further grants: a few columns of a table at times."""
    if random.random() > 0.15:
        return [table.name for table in schema.watched], []
    whole, further = [], []
    for table in schema.watched:
        read = [c for c in table.columns if c.name in columns_read(text, table, specs)]
        if read and random.random() < 0.5:
            further.append(
                f"GRANT SELECT ({listed(read)}) ON {quoted(name)}.{quoted(table.name)} TO {{user}}"
            )
        else:
            whole.append(table.name)
    return whole, further
