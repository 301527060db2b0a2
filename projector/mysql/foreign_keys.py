"""Foreign keys that change rows by themselves, as the server's definitions tell.

Names of columns are in lower case here, as they ignore case on every server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from projector.errors import OperatorError, TransientError
from projector.model import TableName
from projector.mysql.connection import Connection, ServerError, code_of

ACTIVE = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})
_NATIVE_KEYS = "innodb_native_foreign_keys"  # MySQL's from 9.6 on
_ABSENT = {1049, 1146}  # ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE
_DENIED = {1044, 1142}  # ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR
_NAME = r"`(?:[^`]|``)+`"
_VERSIONED = "WITH SYSTEM VERSIONING"
_PRIMARY = re.compile(rf"PRIMARY KEY \((?P<columns>{_NAME}(?:,{_NAME})*)\)")
_CONSTRAINT = re.compile(
    rf"FOREIGN KEY \((?P<own>.+?)\) REFERENCES (?:(?P<schema>{_NAME})\.)?(?P<table>{_NAME})"
    r" \((?P<referenced>.+?)\)"
    r"(?: ON DELETE (?P<delete>CASCADE|SET NULL|SET DEFAULT|RESTRICT|NO ACTION))?"
    r"(?: ON UPDATE (?P<update>CASCADE|SET NULL|SET DEFAULT|RESTRICT|NO ACTION))?"
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns of `child` that refer to columns of `parent`, and what follows a change there.
    `child_key`: the child's primary key, empty where it has none."""

    child: TableName
    columns: tuple[str, ...]
    parent: TableName
    referenced: tuple[str, ...]
    on_delete: str
    on_update: str
    child_key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignKeys:
    """The keys that change rows of certain tables, or of those above them, by themselves.

    `denied`: tables whose definitions the account is not shown; `unseen`: these and those below,
    whose rows may change by keys that nobody knows. `versioned`: system-versioned ones (MariaDB).
    """

    known: Sequence[ForeignKey] = ()
    denied: frozenset[TableName] = frozenset()
    unseen: frozenset[TableName] = frozenset()
    versioned: frozenset[TableName] = frozenset()


def foreign_keys(
    connection: Connection, tables: Iterable[TableName], *, folds_names: bool = False
) -> ForeignKeys:
    """Read the keys of these tables, and of their parents, that act by themselves.

    By SHOW CREATE TABLE, for which SELECT is enough: MariaDB shows REFERENTIAL_CONSTRAINTS only to
    who may change a table.
    """
    found: list[ForeignKey] = []
    waiting = list(tables)
    seen = set(waiting)
    denied: set[TableName] = set()
    versioned: set[TableName] = set()
    while waiting:
        table = waiting.pop()
        definition = _definition(connection, table)
        if definition is None:
            denied.add(table)
            continue
        if _VERSIONED in definition:
            versioned.add(table)
        ours = [key for key in _keys_of(table, definition, folds_names) if _is_active(key)]
        found += ours
        further = {key.parent for key in ours} - seen
        seen |= further
        waiting += further
    unseen = set(denied)
    while below := {key.child for key in found if key.parent in unseen} - unseen:
        unseen |= below
    return ForeignKeys(found, frozenset(denied), frozenset(unseen), frozenset(versioned))


def _is_active(key: ForeignKey) -> bool:
    return bool(ACTIVE & {key.on_delete, key.on_update})


def _definition(connection: Connection, table: TableName) -> str | None:
    """Read a table's definition, empty where there is none; None where we may not."""
    try:
        [rows] = connection.query(f"SHOW CREATE TABLE {_spelled(*table)}")
    except (OperatorError, ServerError, TransientError) as error:
        code = code_of(error)
        if code in _ABSENT:  # dropped, or not there yet: then the log will tell of it
            return ""
        if code not in _DENIED:
            raise
        log.warning("foreign_keys_unknown", table=str(table), error=str(error))
        return None
    return str(rows[0][1])


def _keys_of(table: TableName, definition: str, folds_names: bool) -> list[ForeignKey]:
    primary = _PRIMARY.search(definition)
    child_key = _lowered(primary["columns"]) if primary else ()
    return [
        ForeignKey(
            table, _lowered(match["own"]),
            TableName(_names(match["schema"])[0] if match["schema"] else table.schema,
                      _names(match["table"])[0]).folded(folds_names),
            _lowered(match["referenced"]),
            match["delete"] or "RESTRICT", match["update"] or "RESTRICT", child_key,
        )
        for match in _CONSTRAINT.finditer(definition)
    ]  # fmt: skip


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name[1:-1].replace("``", "`") for name in re.findall(_NAME, listed))


def _lowered(listed: str) -> tuple[str, ...]:
    return tuple(name.lower() for name in _names(listed))


def logs_actions(connection: Connection) -> bool:
    """Return whether the server now logs what foreign keys do, and hides nothing of it; what older
    parts of its log hide, their events tell."""
    [version] = connection.query("SELECT VERSION()")
    if "MariaDB" in str(version[0][0]):
        return False
    [rows] = connection.query(f"SHOW GLOBAL VARIABLES LIKE '{_NATIVE_KEYS}'")
    return bool(rows) and str(rows[0][1]).upper() in {"OFF", "0"}


def _spelled(*names: str) -> str:
    return ".".join(f"`{name.replace('`', '``')}`" for name in names)
