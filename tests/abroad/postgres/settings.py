"""What somebody set for the daemon's role, for the database, and for the server."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

_CHOICES = {
    "datestyle": ("German, DMY", "SQL, DMY", "Postgres, YMD"),
    "timezone": ("Asia/Tokyo", "America/New_York", "-03:30"),
    "intervalstyle": ("iso_8601",),
    "bytea_output": ("escape",),
    "extra_float_digits": ("-15", "0"),
    "standard_conforming_strings": ("off",),
    "search_path": ('"Other One"', "nowhere", "''"),
    "default_transaction_isolation": ("serializable", "read committed"),
    "default_transaction_read_only": ("on",),
    "default_transaction_deferrable": ("on",),
    "statement_timeout": ("1ms", "20ms"),
    "lock_timeout": ("1ms",),
    "idle_in_transaction_session_timeout": ("50ms",),
    "idle_session_timeout": ("300ms",),
    "transform_null_equals": ("on",),
    "enable_nestloop": ("off",),
    "enable_seqscan": ("off",),
    "enable_indexscan": ("off",),
    "enable_sort": ("off",),
    "work_mem": ("64kB",),
    "client_encoding": ("LATIN1", "SQL_ASCII", "UTF8"),
    "row_security": ("off",),
    "array_nulls": ("off",),
    "backslash_quote": ("on",),
    "quote_all_identifiers": ("on",),
    "client_min_messages": ("debug5",),
    "plan_cache_mode": ("force_generic_plan",),
    "parallel_setup_cost": ("0",),
    "min_parallel_table_scan_size": ("0",),
    "join_collapse_limit": ("1",),
    "geqo_threshold": ("2",),
    "geqo_effort": ("1",),
    "jit_above_cost": ("0",),
    "synchronous_commit": ("off",),
    "wal_sender_timeout": ("1s",),
    "logical_decoding_work_mem": ("64kB",),
    "default_tablespace": ("pg_default",),
    "xmloption": ("document",),
    "gin_fuzzy_search_limit": ("1",),
}
_SINCE_17 = {"transaction_timeout": ("100ms",)}
# What a server must be started with.
PROFILES: tuple[tuple[str, ...], ...] = (
    ("--logical-decoding-work-mem=64kB", "--synchronous-commit=off"),
    ("--wal-sender-timeout=2s", "--timezone=Asia/Tokyo", "--datestyle=German,DMY"),
    ("--enable-hashjoin=off", "--enable-mergejoin=off", "--default-toast-compression=pglz"),
)


def choose(chance: Callable[[str], Random], version: int) -> list[tuple[str, str, str]]:
    """Make up none to five settings: of whom, its name, its value."""
    random = chance("settings")
    choices = {**_CHOICES, **(_SINCE_17 if version >= 17 else {})}
    wanted = random.choice([1, 2, 3, 5]) if random.random() < 0.75 else 0
    return [
        (random.choice(["role", "role", "database"]), name, random.choice(choices[name]))
        for name in random.sample(sorted(choices), wanted)
    ]


def statement(whose: str, name: str, value: str, role: str, database: str) -> str:
    """The statement that makes a setting hold for each new session."""
    written = value if name in ("search_path", "datestyle") else f"'{value}'"
    owner = f"ROLE {role}" if whose == "role" else f'DATABASE "{database}"'
    return f"ALTER {owner} SET {name} = {written}"
