"""What the server's catalog says of watched tables, on a connection of its own.

Always says up to which place of the log its knowledge holds: a definition that changes before that
place was known too early, and rows logged before it may have been decoded by it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

import pymysql

from projector.databases import Mysql
from projector.errors import TransientError
from projector.model import TableName
from projector.mysql.binlog.connection import Rows, ask, connect, log_end
from projector.mysql.binlog.tablemap import ColumnInfo
from projector.mysql.position import file_number

_CLOCK_INTERVAL_S: Final = 60.0
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "0": "\0", "t": "\t", "Z": "\x1a"}
_COLUMNS: Final = (
    "SELECT ORDINAL_POSITION, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME,"
    " DATETIME_PRECISION, COALESCE(GENERATION_EXPRESSION = 'ROW END', 0)"
    " FROM information_schema.COLUMNS"
    " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)
# With these in every schema, information_schema shows all that _INDIRECT asks for.
_ALL_SEEING: Final = {"SELECT", "UPDATE", "TRIGGER", "SHOW VIEW", "EXECUTE"}
# Names through which a statement can change tables that it does not name.
_INDIRECT: Final = (
    "SELECT TABLE_NAME FROM information_schema.VIEWS"
    " WHERE TABLE_SCHEMA NOT IN ('sys', 'mysql', 'information_schema', 'performance_schema')"
    " UNION SELECT EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS"
    " WHERE TRIGGER_SCHEMA NOT IN ('sys', 'mysql')"
    " UNION SELECT ROUTINE_NAME FROM information_schema.ROUTINES"
    " WHERE ROUTINE_SCHEMA NOT IN ('sys', 'mysql')"
    " UNION SELECT REFERENCED_TABLE_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS"
    " WHERE DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION')"
    " OR UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION')"
)


class Catalog:
    """Definitions by table, read when needed. For one thread."""

    def __init__(self, settings: Mysql) -> None:
        self._settings = settings
        self._connection: pymysql.Connection[Any] | None = None
        self._columns: dict[TableName, tuple[ColumnInfo | None, ...]] = {}
        self._known_at: dict[TableName, tuple[int, int]] = {}
        self._begun_at = (0, 0)
        self.sees_all = False
        self._indirect: frozenset[str] | None = None
        self._indirect_at = (0, 0)
        self._clock_read_at = 0.0
        self.clock_offset_s = 0.0

    def begin(self) -> None:
        """Note where the log ends: readers before this one may have known what it says by then."""
        self._begun_at = self._log_end()
        self.sees_all = _sees_all([str(row[0]) for row in self._ask("SHOW GRANTS")])
        if self.sees_all:
            self._learn_indirect()

    def columns(self, table: TableName) -> tuple[ColumnInfo | None, ...]:
        """Return a table's columns by their places, None for one that the account may not see;
        none at all where there is no table."""
        known = self._columns.get(table)
        if known is None:
            known = _placed(self._ask(_COLUMNS, table.schema, table.name))
            # Asked after the columns: whatever they show was logged before this place.
            self._columns[table], self._known_at[table] = known, self._log_end()
        return known

    def was_early(self, table: TableName, file: str, offset: int) -> bool:
        """Return whether what is known of a table, here or to a reader before, may be younger than
        this place in the log."""
        return self._known_at.get(table, self._begun_at) >= (file_number(file), offset)

    def forget(self, table: TableName) -> None:
        """Read the table's definition again when it is next needed."""
        self._columns.pop(table, None)

    def note_defined(self, names: frozenset[str] | None) -> None:
        """Count these among the names through which tables may change unnamed; None: ask again for
        all of them when next needed."""
        if names is None:
            self._indirect = None
        elif self._indirect is not None:
            self._indirect |= names

    def may_act_unnamed(self, names: Collection[str], place: tuple[int, int]) -> bool:
        """Return whether a statement with these names, in lower case, which ends at a place of the
        log (the file's number, the offset), may have changed a table that it does not name.

        It may, unless the account is shown all triggers, views, routines and keys, and those of
        before that place are known: the ones of today tell nothing of yesterday's log.
        """
        if not self.sees_all:
            return True
        known = self._indirect if self._indirect is not None else self._learn_indirect()
        return place < self._indirect_at or not known.isdisjoint(names)

    def _learn_indirect(self) -> frozenset[str]:
        """Read what acts unnamed; holds from the place on where the log ends afterwards: what is
        defined between the two, the log tells when the stream comes to it."""
        known = frozenset(str(row[0]).lower() for row in self._ask(_INDIRECT))
        self._indirect, self._indirect_at = known, self._log_end()
        return known

    def read_clock(self, *, now: bool = False) -> None:
        """Measure the server's clock against ours, at most once a minute."""
        if not now and time.monotonic() - self._clock_read_at < _CLOCK_INTERVAL_S:
            return
        self._connected()
        before = time.time()
        server = float(self._ask("SELECT UNIX_TIMESTAMP(NOW(6))")[0][0])
        self.clock_offset_s = server - (before + time.time()) / 2
        self._clock_read_at = time.monotonic()

    def close(self) -> None:
        """Free the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection._force_close()  # type: ignore[attr-defined]

    def _ask(self, sql: str, *values: object) -> Rows:
        """Ask; an idle connection may have been closed by the server, so ask twice."""
        try:
            return ask(self._connected(), sql, *values)
        except TransientError:
            self.close()
            return ask(self._connected(), sql, *values)

    def _log_end(self) -> tuple[int, int]:
        file, offset, _ = log_end(self._connected())
        return file_number(file), offset

    def _connected(self) -> pymysql.Connection[Any]:
        if self._connection is None:
            self._connection = connect(self._settings)
        return self._connection


def _sees_all(grants: Sequence[str]) -> bool:
    """Return whether SHOW GRANTS says that nothing is kept from the account, in any schema."""
    held: set[str] = set()
    for grant in grants:
        if grant.startswith("REVOKE"):
            return False
        if found := re.match(r"GRANT (.+?) ON \*\.\* TO ", grant, re.DOTALL):
            held |= set(found[1].split(", "))
    return "ALL PRIVILEGES" in held or held >= _ALL_SEEING


def _placed(rows: Rows) -> tuple[ColumnInfo | None, ...]:
    """Put each column in its own place: the log numbers those too that the account may not see."""
    infos = {int(row[0]): _column(row[1:]) for row in rows}
    return tuple(infos.get(place) for place in range(1, max(infos, default=0) + 1))


def _column(row: Sequence[Any]) -> ColumnInfo:
    name, type_name, full_type, charset, fraction, ends_row = row
    lowered = str(type_name).lower()
    members = _members(str(full_type)) if lowered in {"enum", "set"} else ()
    unsigned = any(word in str(full_type).lower() for word in ("unsigned", "zerofill"))
    unsigned = unsigned and not members
    return ColumnInfo(
        str(name), lowered, unsigned, charset, members, int(fraction or 0), bool(ends_row)
    )


def _members(full_type: str) -> tuple[str, ...]:
    """Take the members out of `enum('a','b''c')`."""
    quoted = re.findall(r"'((?:[^'\\]|''|\\.)*)'", full_type, re.DOTALL)
    return tuple(_ESCAPE.sub(_unescaped, text.replace("''", "'")) for text in quoted)


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[1], match[1])
