"""What every connection states of its session, so that the server's settings cannot change it.

A global variable is where each new session begins, and anybody may set one under a running daemon;
`init_connect` runs before our first statement. All variables of both servers have been sorted
(`SHOW SESSION VARIABLES` of MySQL 9.7, MariaDB 10.11 and 11.8): here stand those that change which
rows or values a query returns, or whether it is let run to its end. Those that only change how
fast it is stay as the server has them, and so do those that change only what is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

# The first word on a connection, since these decide over the next ones: quotes, numbers of rows,
# limits, what COMMIT and ROLLBACK do besides (RELEASE ends the connection).
_FIRST: Final = (
    "SET SESSION sql_mode='', sql_select_limit=18446744073709551615,"
    " max_join_size=18446744073709551615, sql_big_selects=1, completion_type=0"
)
_FIRST_OF_MYSQL: Final = "max_execution_time=0"
_FIRST_OF_MARIADB: Final = (
    "max_statement_time=0, max_session_mem_used=9223372036854775807,"
    " tmp_disk_table_size=18446744073709551615"
)
_FIRST_OF_NEW: Final = "max_tmp_session_space_usage=1099511627776"

# Spelled as the server shows them; names that a server does not have are left out there.
_EXACTLY: Final = {
    # Transactions: each statement is one, but for the snapshots that are opened.
    "autocommit": "ON",
    "transaction_isolation": "REPEATABLE-READ",
    "tx_isolation": "REPEATABLE-READ",
    "transaction_read_only": "OFF",
    "tx_read_only": "OFF",
    "innodb_snapshot_isolation": "OFF",
    "idle_transaction_timeout": "0",
    "idle_readonly_transaction_timeout": "0",
    # Rows: which ones, of which time, from which copy.
    "sql_auto_is_null": "OFF",
    "sql_safe_updates": "OFF",
    "system_versioning_asof": "DEFAULT",
    "query_cache_type": "OFF",
    "use_secondary_engine": "OFF",
    "skip_replication": "OFF",
    "standard_compliant_cte": "ON",
    # Values: digits, languages, lengths, meanings.
    "time_zone": "+00:00",
    "group_concat_max_len": "1073741824",  # as long as a packet can be
    "div_precision_increment": "4",
    "windowing_use_high_precision": "ON",
    "lc_time_names": "en_US",
    "default_week_format": "0",
    "block_encryption_mode": "aes-128-ecb",
    "default_regex_flags": "",
    "old_mode": "UTF8_IS_UTF8MB3",
    "max_sort_length": "65536",  # by so many bytes of a text rows are ordered
    # What the catalog and the server's messages look like.
    "lc_messages": "en_US",
    "sql_quote_show_create": "ON",
    "show_create_table_verbosity": "OFF",
    "show_create_table_skip_secondary_engine": "OFF",
    "show_gipk_in_create_table_and_information_schema": "ON",  # it is a column in the log
    "information_schema_stats_expiry": "86400",
    "terminology_use_previous": "NONE",
    # How long the server waits. A reader that has gone is cut off by keepalive; a query that waits
    # for a lock on a table's definition outlives the one who asked it by no more than a minute.
    "wait_timeout": "31536000",
    "innodb_lock_wait_timeout": "50",
    "lock_wait_timeout": "60",
}
# Limits that may be wider than this.
_AT_LEAST: Final = {
    "net_read_timeout": 600,
    "net_write_timeout": 600,
    "sort_buffer_size": 1 << 22,  # rows with texts as keys, see max_sort_length
    "cte_max_recursion_depth": 1000,
    "max_recursive_iterations": 1000,
    "parser_max_mem_size": 2**64 - 1,
}
_COLLATIONS: Final = "character_set_collations"  # of MariaDB: a character set's default collation
_OF_UTF8MB4: Final = "default_collation_for_utf8mb4"  # the same of MySQL
_UCA: Final = ("utf8mb3", "ucs2", "utf8mb4", "utf16", "utf32")


def state(connection: Any) -> None:
    """State everything on a new connection (the driver's). Raises the driver's errors."""
    version = str(connection.get_server_info()).removeprefix("5.5.5-")
    is_mariadb = "mariadb" in version.lower()
    is_new = is_mariadb and _number(version) >= (11, 5)
    names = ",".join(f"'{name}'" for name in (*_EXACTLY, *_AT_LEAST, _COLLATIONS, _OF_UTF8MB4))
    shown = f"SHOW SESSION VARIABLES WHERE Variable_name IN ({names})"
    rows = _run(connection, _first(is_mariadb, is_new), "ROLLBACK", shown)
    collation = _default_collation(is_mariadb, is_new)
    found = {str(name).lower(): str(value) for name, value in rows}
    assignments = [
        f"{name}={_literal(value)}"
        for name, value in _wanted(found, collation, is_new)
        if found[name].upper() != value.upper()
    ]
    # A frozen clock is a property of the session alone; DEFAULT lets it go on.
    statements = [f"SET SESSION {', '.join([*assignments, 'timestamp=DEFAULT'])}"]
    # After the default collation, by which literals are understood.
    statements.append(f"SET NAMES utf8mb4 COLLATE {collation}")
    if connection.db:
        name = connection.db.decode() if isinstance(connection.db, bytes) else connection.db
        statements.append(f"USE `{name.replace('`', '``')}`")
    _run(connection, *statements)


def _first(is_mariadb: bool, is_new: bool) -> str:
    own = [_FIRST_OF_MARIADB, *([_FIRST_OF_NEW] if is_new else [])]
    return ", ".join([_FIRST, *(own if is_mariadb else [_FIRST_OF_MYSQL])])


def _wanted(found: Mapping[str, str], collation: str, is_new: bool) -> Iterator[tuple[str, str]]:
    wanted = {
        **_EXACTLY,
        **{name: str(max(least, int(found.get(name, 0)))) for name, least in _AT_LEAST.items()},
        _COLLATIONS: ",".join(f"{s}={s}_uca1400_ai_ci" for s in _UCA) if is_new else "",
        _OF_UTF8MB4: collation,
    }
    return ((name, value) for name, value in wanted.items() if name in found)


def _default_collation(is_mariadb: bool, is_new: bool) -> str:
    """Return the collation that the server itself gives to utf8mb4 where nobody set another."""
    if not is_mariadb:
        return "utf8mb4_0900_ai_ci"
    return "utf8mb4_uca1400_ai_ci" if is_new else "utf8mb4_general_ci"


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdigit())


def _literal(value: str) -> str:
    return value if value.isdigit() or value == "DEFAULT" else f"'{value}'"


def _run(connection: Any, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements in one round trip; return the rows of the last one that has some."""
    rows: list[tuple[Any, ...]] = []
    with connection.cursor() as cursor:
        cursor.execute(";".join(statements))
        while True:
            if cursor.description:
                rows = list(cursor.fetchall())
            if not cursor.nextset():
                return rows
