"""What an administrator sets for new sessions changes neither documents nor whether they are made.

Servers of their own: global variables are everybody's.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from projector.projection import Aggregate, Many, Projection
from tests.abroad.world import World
from tests.fix_servers import missing
from tests.servers import DatabaseServer, Flavour, RedisServer, ServerUnavailable, start_database

pytestmark = pytest.mark.server

_metadata = sa.MetaData()
_order = sa.Table(
    "order", _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer),
    sa.Column("code", sa.CHAR(6)),
    sa.Column("made", sa.DateTime),
    sa.Column("seen", sa.TIMESTAMP),
)  # fmt: skip
_line = sa.Table(
    "line", _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.Integer),
    sa.Column("word", sa.String(20)),
    sa.Column("story", sa.Text),
)  # fmt: skip
orders = Projection(
    "orders",
    root=_order,
    fields=[
        _order.c.id,
        _order.c.code,
        _order.c.made,
        _order.c.seen,
        (_order.c.n / 7).label("ratio"),
        sa.func.date_format(_order.c.made, "%W %M", type_=sa.String).label("day"),
        sa.func.week(_order.c.made, type_=sa.Integer).label("week"),
        (_order.c.code + "\\n'\"").label("told"),
    ],
    collections=[
        Many(
            "stories", _line, on=_line.c.order_id == _order.c.id,
            value=sa.func.right(_line.c.story, 2, type_=sa.String), order_by=[_line.c.story],
        ),
        Aggregate(
            _line, on=_line.c.order_id == _order.c.id,
            fields=[sa.func.group_concat(_line.c.word, type_=sa.String).label("words")],
        ),
    ],
    where=_order.c.made < sa.func.now(),
)  # fmt: skip
_DDL = """
CREATE TABLE `order` (id INT PRIMARY KEY, n INT, code CHAR(6), made DATETIME, seen TIMESTAMP NULL);
CREATE TABLE line (id INT PRIMARY KEY AUTO_INCREMENT, order_id INT, word VARCHAR(20),
  story TEXT COLLATE utf8mb4_general_ci, KEY (order_id));
"""
_ORDERS, _LINES = 30, 120

# One value for each variable of which a session begins with the global one and by which what is
# read could change, or whether it is read.
_MODES = "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,PAD_CHAR_TO_FULL_LENGTH"
_MODES += ",ONLY_FULL_GROUP_BY,HIGH_NOT_PRECEDENCE,STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE"
_MODES += ",ERROR_FOR_DIVISION_BY_ZERO,NO_UNSIGNED_SUBTRACTION,REAL_AS_FLOAT,IGNORE_SPACE"
_EVERYWHERE = {
    "sql_mode": _MODES, "sql_select_limit": 2, "max_join_size": 1, "group_concat_max_len": 4,
    "time_zone": "-11:00", "div_precision_increment": 0, "lc_time_names": "de_DE",
    "lc_messages": "de_DE", "default_week_format": 3, "sql_auto_is_null": 1, "max_sort_length": 64,
    "sort_buffer_size": 32768, "autocommit": 0, "completion_type": "RELEASE",
    "transaction_isolation": "READ-UNCOMMITTED", "character_set_results": "latin1",
    "character_set_client": "latin1", "character_set_connection": "latin1",
    "sql_quote_show_create": 0, "big_tables": 1, "sql_safe_updates": 1, "wait_timeout": 1,
    "interactive_timeout": 1, "net_read_timeout": 1, "net_write_timeout": 1,
    "lock_wait_timeout": 1, "innodb_lock_wait_timeout": 1, "tmp_table_size": 1024,
    "max_heap_table_size": 16384, "eq_range_index_dive_limit": 1, "optimizer_search_depth": 1,
    "optimizer_prune_level": 0, "sql_notes": 0, "sql_warnings": 1, "max_error_count": 0,
    "join_buffer_size": 128, "read_rnd_buffer_size": 1, "min_examined_row_limit": 1000,
    "foreign_key_checks": 0, "session_track_state_change": 1, "session_track_schema": 1,
    "session_track_system_variables": "*", "low_priority_updates": 1, "sql_buffer_result": 1,
}  # fmt: skip
_OF_MARIADB = {
    "sql_mode": f"ORACLE,{_MODES},EMPTY_STRING_IS_NULL,TIME_ROUND_FRACTIONAL",
    "max_statement_time": 0.0001, "tx_isolation": "SERIALIZABLE", "tx_read_only": 1,
    "system_versioning_asof": "2001-01-01 00:00:00", "old_mode": "", "idle_transaction_timeout": 1,
    "idle_readonly_transaction_timeout": 1, "in_predicate_conversion_threshold": 2,
    "max_session_mem_used": 500000, "tmp_disk_table_size": 1024,
    "max_tmp_session_space_usage": 65536,
    "default_regex_flags": "EXTENDED", "max_recursive_iterations": 1,
    "innodb_snapshot_isolation": 1,
    "character_set_collations": "utf8mb4=utf8mb4_bin", "collation_connection": "utf8mb4_bin",
    "join_cache_level": 8, "standard_compliant_cte": 0, "optimizer_use_condition_selectivity": 1,
    "note_verbosity": "basic", "max_rowid_filter_size": 1024, "use_stat_tables": "NEVER",
}  # fmt: skip
_OF_MYSQL = {
    "sql_mode": f"{_MODES},TIME_TRUNCATE_FRACTIONAL", "max_execution_time": 1,
    "transaction_read_only": 1, "windowing_use_high_precision": 0, "cte_max_recursion_depth": 0,
    "default_collation_for_utf8mb4": "utf8mb4_general_ci", "information_schema_stats_expiry": 0,
    "show_gipk_in_create_table_and_information_schema": 0, "show_create_table_verbosity": 1,
    "explain_format": "JSON", "parser_max_mem_size": 10000000, "terminology_use_previous":
    "BEFORE_8_2_0", "collation_connection": "utf8mb4_general_ci",
    "block_encryption_mode": "aes-256-cbc", "end_markers_in_json": 1,
    "range_optimizer_max_mem_size": 1, "session_track_gtids": "ALL_GTIDS",
    "optimizer_switch": "subquery_to_derived=on,materialization=off,derived_merge=off",
    "sql_generate_invisible_primary_key": 1, "select_into_disk_sync": 1,
}  # fmt: skip


def _hostile(server: DatabaseServer) -> dict[str, Any]:
    """Return the values above of variables that this server has."""
    mine = _OF_MYSQL if server.flavour is Flavour.MYSQL else _OF_MARIADB
    known = {row[0].lower() for row in server.execute("SHOW GLOBAL VARIABLES")}
    return {name: value for name, value in {**_EVERYWHERE, **mine}.items() if name in known}


@pytest.fixture(scope="module", params=list(Flavour), ids=str)
def private(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A server whose global variables nobody else depends on."""
    try:
        server = start_database(request.param)
    except ServerUnavailable as problem:
        missing(problem)
    yield server
    server.discard()


@pytest.fixture
def world(private: DatabaseServer, fresh_redis: RedisServer) -> Iterator[World]:
    """Orders with long texts and long lists, not yet followed."""
    private.create_database("abroad")
    private.load_sql(_DDL, "abroad")
    world = World(private, "abroad", fresh_redis, "tests.abroad.test_session_state:orders")
    world.execute("SET time_zone='+00:00'")
    for number in range(1, _ORDERS + 1):
        _insert(world, number)
    yield world
    world.close()
    private.drop_database("abroad")


def _insert(world: World, number: int) -> None:
    made = _made(number)
    lines = (f"({number}, 'wwwwwwwwww', CONCAT(REPEAT('é', 1500), {ending}))"
             for ending in _endings(number))  # fmt: skip
    world.execute(
        f"INSERT INTO `order` VALUES ({number}, {number}, 'c', '{made}', '{made}')",
        f"INSERT INTO line (order_id, word, story) VALUES {', '.join(lines)}",
    )


def _made(number: int) -> datetime:
    return datetime(2026, 1, 1, 3) + timedelta(days=number)


def _endings(number: int) -> list[int]:
    return [10 + 7 * n % 90 for n in range(_LINES if number == 1 else 4)]


def _expected(numbers: range) -> dict[str, Any]:
    return {str(number): _document(number) for number in numbers}


def _document(number: int) -> dict[str, Any]:
    made, endings = _made(number), _endings(number)
    return {
        "id": number,
        "code": "c",
        "made": made.isoformat() + "Z",
        "seen": made.isoformat() + "Z",
        "ratio": f"{number / 7:.4f}",
        "day": made.strftime("%A %B"),
        "week": int(made.strftime("%U")),  # from the first Sunday on, as WEEK(d, 0) counts
        "told": "c\\n'\"",
        "stories": [str(ending) for ending in sorted(endings)],
        "words": ",".join(["wwwwwwwwww"] * len(endings)),
    }


@contextlib.contextmanager
def _set(world: World, values: Mapping[str, Any]) -> Iterator[None]:
    """Set global variables for the sessions of others; put them back in the end."""
    names = ", ".join(f"'{name}'" for name in values)
    before = dict(world.execute(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"))
    try:
        for name, value in values.items():
            world.execute(f"SET GLOBAL {name}={_literal(value)}")
        yield
    finally:
        for name, value in before.items():
            world.execute(f"SET GLOBAL {name}={_literal(value)}")


def _literal(value: Any) -> str:
    text = str(value)
    is_bare = text == "DEFAULT" or text.replace(".", "", 1).isdigit()
    return text if is_bare else "'" + text.replace("'", "''") + "'"


def _end_sessions(world: World) -> None:
    """End all connections of the daemon, so that it makes new ones."""
    user = make_url(world.url).username
    for (number,) in world.execute(
        f"SELECT id FROM information_schema.PROCESSLIST WHERE user='{user}'"
    ):
        with contextlib.suppress(pymysql.err.OperationalError):  # ended by itself
            world.execute(f"KILL {number}")


def _warnings(world: World) -> list[Any]:
    return [e for e in world.daemon.events() if e.get("level") in ("warning", "error")]


def test_hostile_settings_at_the_start_change_no_document(world: World) -> None:
    """All of them at once, for a build, for changes, and for the other commands."""
    with _set(world, _hostile(world.database)):
        world.start()
        world.expect(_expected(range(1, _ORDERS + 1)))
        _insert(world, _ORDERS + 1)
        world.expect(_expected(range(1, _ORDERS + 2)))
        verified = world.daemon.run("verify", "--json")
        checked = world.daemon.run("check", "--json")
        explained = world.daemon.run("explain", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert explained.returncode == 0, explained.stdout + explained.stderr
    assert _warnings(world) == []


def test_hostile_settings_under_a_running_daemon_change_no_document(world: World) -> None:
    """New connections meet them, when the old ones are ended."""
    world.start()
    with _set(world, _hostile(world.database)):
        _end_sessions(world)
        _insert(world, _ORDERS + 1)
        world.execute("UPDATE `order` SET code='c' WHERE id=2", "DELETE FROM `order` WHERE id=3")
        world.settle()
        assert world.daemon.run("resync").returncode == 0
        expected = _expected(range(1, _ORDERS + 2))
        del expected["3"]
        world.expect(expected)


def test_what_runs_first_in_a_session_changes_no_document(world: World) -> None:
    """An init_connect may leave a transaction, another schema, a stopped clock behind."""
    statements = [
        "SET autocommit=0", "SET timestamp=86400", "SET sql_select_limit=1", "SET NAMES latin1",
        "SET completion_type=2", "SET TRANSACTION READ ONLY", "USE information_schema",
        "START TRANSACTION", "SELECT 1",
    ]  # fmt: skip
    with _set(world, {"init_connect": "; ".join(statements)}):
        world.start()
        _insert(world, _ORDERS + 1)
        world.expect(_expected(range(1, _ORDERS + 2)))


# MySQL has no such limit.
@pytest.mark.parametrize(
    "private", [f for f in Flavour if f is not Flavour.MYSQL], indirect=True, scope="module"
)
def test_a_time_limit_of_the_account_ends_no_query(world: World) -> None:
    """MariaDB: GRANT ... WITH MAX_STATEMENT_TIME."""
    user = make_url(world.url).username
    world.execute(f"ALTER USER '{user}'@'%' WITH MAX_STATEMENT_TIME 0.0001")
    world.start()
    world.expect(_expected(range(1, _ORDERS + 1)))


@pytest.mark.parametrize("seed", range(int(os.environ.get("ABROAD_SEEDS", "1"))))
def test_any_settings_change_no_document(world: World, seed: int) -> None:
    """Random ones of all variables of a session, at the ends of their ranges."""
    chosen = _random_settings(world, random.Random(seed))
    with _set(world, chosen):
        world.start()
        _insert(world, _ORDERS + 1)
        world.expect(_expected(range(1, _ORDERS + 2)))


# Not for a test to set: what only restarts or other sessions can undo, what the log is like, and
# what ends every session whoever it is (8 KB of max_session_mem_used end MariaDB itself).
_LEFT_ALONE = (
    "binlog_", "gtid_", "wsrep", "log_", "slow", "innodb_", "default_tmp", "storage_engine",
    "default_storage", "enforce_", "max_allowed_packet", "net_buffer", "session_track",
    "connection_memory", "global_connection", "max_user_connections", "server_id", "profiling",
    "optimizer_trace", "character_set_server", "collation_", "character_set_", "external_",
    "system_versioning", "redirect_url", "block_encryption", "init_", "group_replication",
    "max_session_mem", "query_alloc", "query_prealloc", "transaction_alloc",
    "transaction_prealloc", "range_alloc",
)  # fmt: skip


def _random_settings(world: World, chance: random.Random) -> dict[str, Any]:
    """Return half of what is there, each at the lower or upper end or as another of its words."""
    if world.database.flavour is Flavour.MYSQL:
        rows = world.execute(
            "SELECT i.VARIABLE_NAME, s.VARIABLE_VALUE, i.MIN_VALUE, i.MAX_VALUE, NULL"
            " FROM performance_schema.variables_info i"
            " JOIN performance_schema.session_variables s USING (VARIABLE_NAME)"
            " JOIN performance_schema.global_variables g USING (VARIABLE_NAME)"
        )
    else:
        rows = world.execute(
            "SELECT VARIABLE_NAME, GLOBAL_VALUE, NUMERIC_MIN_VALUE, NUMERIC_MAX_VALUE,"
            " ENUM_VALUE_LIST FROM information_schema.SYSTEM_VARIABLES"
            " WHERE VARIABLE_SCOPE='SESSION' AND READ_ONLY='NO'"
        )
    found: dict[str, Any] = {}
    for raw, value, least, most, words in sorted(rows):
        name = raw.lower()
        if name.startswith(_LEFT_ALONE) or chance.random() < 0.5:
            continue
        if value in ("ON", "OFF"):
            found[name] = "OFF" if value == "ON" else "ON"
        elif value and value.isdigit() and least not in (None, "", most):
            found[name] = chance.choice([least, most])
        elif words:
            found[name] = chance.choice(words.split(","))
    return {name: value for name, value in found.items() if _can_be_set(world, name, value)}


def _can_be_set(world: World, name: str, value: Any) -> bool:
    [(before,)] = world.execute(f"SELECT @@global.{name}")
    try:
        world.execute(f"SET SESSION {name}=@@session.{name}")  # some are the server's alone
        world.execute(f"SET GLOBAL {name}={_literal(value)}")
    except pymysql.err.Error:
        return False
    world.execute(f"SET GLOBAL {name}={_literal(before)}")
    return True
