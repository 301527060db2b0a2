"""What a hash should hold: the spec in plain SQL, run as root, put together row by row.

Each level is one statement that joins what is declared to be joined, for all rows at once: no keys
are put in, nothing is left out that the declaration names, and what is compared with what is the
server's affair alone. Values are made JSON by the words of the contract (`document.md`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.abroad.worlds.spec import Field, Level

MASK_KEY = "a key"
Row = Sequence[Any]
Identity = tuple[Any, ...]  # of the rows from the root down to one


class Anything:
    """The value of a column that is declared as something else: nobody can say what it is."""


ANYTHING = Anything()


class NoForm(Exception):
    """A value that JSON has no form for, as a date that no calendar has."""


@dataclass
class Expected:
    """Documents by id; ids whose documents have no JSON form, and ids of which the declaration
    does not say what they should be (a to-one join that found two rows)."""

    documents: dict[str, Any] = field(default_factory=dict)
    impossible: set[str] = field(default_factory=set)
    ambiguous: set[str] = field(default_factory=set)


SESSION = (
    "SET SESSION sql_mode = ''", "SET SESSION time_zone = '+00:00'",
    "SET SESSION sql_select_limit = 18446744073709551615", "SET SESSION sql_big_selects = 1",
    "SET SESSION max_sort_length = 8388608", "SET SESSION group_concat_max_len = 1000000",
    "SET SESSION autocommit = 1", "SET SESSION completion_type = NO_CHAIN",
    "SET SESSION sql_auto_is_null = 0", "SET SESSION sql_safe_updates = 0",
    "SET SESSION div_precision_increment = 4", "SET SESSION wait_timeout = 3600",
    "SET SESSION foreign_key_checks = 1", "SET SESSION unique_checks = 1",
    "SET SESSION innodb_lock_wait_timeout = 1", "SET SESSION lock_wait_timeout = 5",
    "SET SESSION max_statement_time = 0", "SET SESSION max_execution_time = 0",
    "SET SESSION transaction_isolation = 'REPEATABLE-READ'",
    "SET SESSION tx_isolation = 'REPEATABLE-READ'", "SET SESSION transaction_read_only = 0",
    "SET SESSION tx_read_only = 0", "SET SESSION old_mode = ''",
)  # fmt: skip


def expected(connection: Any, spec: Level) -> Expected:
    """Ask for everything and put it together."""
    found = Expected()
    with connection.cursor() as cursor:
        children = [_Found(cursor, child, [spec]) for child in spec.children]
        seen: set[Identity] = set()
        for identity, values in _rows(cursor, spec, []):
            name = _document_id(spec, identity)
            if identity in seen or any(child.is_ambiguous(identity) for child in children):
                found.ambiguous.add(name)
            seen.add(identity)
            try:
                document = _object(spec, identity, values, children)
            except NoForm:
                found.impossible.add(name)
            else:
                found.documents[name] = document
    return found


class _Found:
    """The rows of a collection by the row that they belong to, and what is nested in them."""

    def __init__(self, cursor: Any, level: Level, above: list[Level]) -> None:
        self.level = level
        self._by_parent: dict[Identity, list[tuple[Identity, Row]]] = {}
        self._ambiguous: set[Identity] = set()
        seen: set[Identity] = set()
        width = sum(len(outer.role.keys) for outer in above)
        for identity, values in _rows(cursor, level, above):
            parent = identity[:width]
            if identity in seen and (level.role.table.key or level.kind == "aggregate"):
                self._ambiguous.add(identity[: len(above[0].role.keys)])
            seen.add(identity)
            self._by_parent.setdefault(parent, []).append((identity, values))
        self.children = [_Found(cursor, child, [*above, level]) for child in level.children]

    def is_ambiguous(self, root: Identity) -> bool:
        return root in self._ambiguous or any(child.is_ambiguous(root) for child in self.children)

    def put(self, document: dict[str, Any], parent: Identity) -> None:
        level, rows = self.level, self._by_parent.get(parent, [])
        if level.kind == "aggregate":
            for declared, value in zip(level.fields, rows[0][1], strict=True):
                document[declared.name] = _json(declared, value)
            return
        if level.limit is not None:
            rows = rows[: level.limit]
        if level.kind == "values":
            document[level.name] = [_json(level.fields[0], values[0]) for _, values in rows]
        else:
            document[level.name] = [
                _object(level, identity, values, self.children) for identity, values in rows
            ]


def _object(
    level: Level, identity: Identity, values: Row, children: Sequence[_Found]
) -> dict[str, Any]:
    document = {
        declared.name: _json(declared, value)
        for declared, value in zip(level.fields, values, strict=True)
    }
    for child in children:
        child.put(document, identity)
    return document


def _rows(cursor: Any, level: Level, above: list[Level]) -> list[tuple[Identity, Row]]:
    sql = statement(level, above)
    cursor.execute(sql)
    width = sum(len(outer.role.keys) for outer in above)
    width += len(level.role.keys) if level.kind != "aggregate" else 0
    return [(tuple(row[:width]), row[width:]) for row in cursor.fetchall()]


def statement(level: Level, above: list[Level]) -> str:
    """Write the statement of a level: keys from the root down, then the fields."""
    keys = [key for outer in above for key in outer.role.keys]
    source = ""
    for outer in above:
        source += _joined(outer)
    if level.kind == "aggregate":
        inner = f"{level.role.source}{_beside(level)}"
        wheres = [f"({said.sql})" for said in (level.on, level.where) if said is not None]
        figures = [
            f"(SELECT {f.said.sql} FROM {inner} WHERE {' AND '.join(wheres)})" for f in level.fields
        ]
        return f"SELECT {', '.join([*keys, *figures])} FROM {source}"
    source += _joined(level)
    own = level.role.keys
    columns = [*keys, *own, *(f.said.sql for f in level.fields)]
    where = f" WHERE {level.where.sql}" if level.where is not None else ""
    order = [said.sql for said in level.order] + (own if level.role.table.key else [])
    return f"SELECT {', '.join(columns)} FROM {source}{where} ORDER BY {', '.join(order)}"


def _joined(level: Level) -> str:
    if level.on is None:
        return f"{level.role.source}{_beside(level)}"
    return f" JOIN {level.role.source} ON {level.on.sql}{_beside(level)}"


def _beside(level: Level) -> str:
    return "".join(f" LEFT JOIN {j.role.source} ON {j.on.sql}" for j in level.joins)


def _document_id(spec: Level, identity: Identity) -> str:
    parts = [
        _IDS.get(column.kind.shape, str)(value)
        for column, value in zip(spec.role.table.key, identity, strict=True)
    ]
    if len(parts) == 1:
        return parts[0]
    return ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def _json(declared: Field, value: Any) -> Any:
    if value is None:
        return None
    if declared.shape == "any":
        return ANYTHING
    if declared.mask:
        return _masked(declared.mask, value)
    return SHAPES[declared.shape](value)


def _masked(mask: str, value: str) -> str:
    if mask == "fixed":
        return "***"
    if mask == "hashed":
        return hmac.new(MASK_KEY.encode(), value.encode(), hashlib.sha256).hexdigest()
    return value[0] + "*" * (len(value) - 2) + value[-1] if len(value) > 2 else "*" * len(value)


def _moment(value: str) -> str:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise NoForm(value) from None
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    return text + (f".{moment.microsecond:06}" if moment.microsecond else "") + "Z"


def _date(value: str) -> str:
    try:
        return datetime.strptime(value, "%Y-%m-%d").strftime("%Y-%m-%d").rjust(10, "0")
    except ValueError:
        raise NoForm(value) from None


def _clock(value: str) -> str:
    """A time of day; durations and 24 o'clock are none."""
    head, _, fraction = value.partition(".")
    try:
        datetime.strptime(head, "%H:%M:%S")
    except ValueError:
        raise NoForm(value) from None
    return f"{head}.{fraction:<06}" if fraction.strip("0") else head


def _float(value: str) -> float:
    if not math.isfinite(found := float(value)):
        raise NoForm(value)
    return found


def _object_of(value: str) -> Any:
    return json.loads(value, object_pairs_hook=_members)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NoForm("a member stands twice")
    return members


def _text(value: Any) -> str:
    assert isinstance(value, str), value
    return value


SHAPES: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": _float,
    "bool": lambda value: int(value) != 0,
    "plain": _text,
    "moment": _moment,
    "date": _date,
    "clock": _clock,
    "json": _object_of,
    "bits": lambda value: int.from_bytes(value, "big"),
    "base64": lambda value: base64.b64encode(value).decode(),
    "uuid": lambda value: str(uuid.UUID(bytes=value)),
}
_IDS: dict[str, Callable[[Any], str]] = {
    "int": lambda value: str(int(value)),
    "base64": lambda value: value.hex(),
    "uuid": lambda value: str(uuid.UUID(bytes=value)),
}
