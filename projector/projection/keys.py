"""Ids of documents: from key columns to the field name in Redis and back, unambiguously.

A single whole number or text stands for itself, BINARY(16) as a UUID, other bytes in hex. The
parts of a composite key are joined with `:`, in which `%` and `:` of a part are written %25, %3A.

With the columns' types from the catalog an id that no row can have is known as such, and keys are
compared in the order in which the server sorts them.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Integer, LargeBinary, String, Uuid

from projector.errors import ConfigurationError
from projector.projection.columns import APPROXIMATE, EXACT, MEMBERS, NUMBERS, ColumnType
from projector.projection.dialect import Dialect, Write

Value = int | float | str | bytes | Decimal

_DATE = r"\d{4}-(?:0\d|1[0-2])-(?:[0-2]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
_FORMS = {
    "date": re.compile(_DATE),
    "datetime": re.compile(f"{_DATE} {_TIME}"),
    "timestamp": re.compile(f"{_DATE} {_TIME}"),
    "time": re.compile(r"-?\d{2,3}:[0-5]\d:[0-5]\d(?:\.\d{1,6})?"),
    **dict.fromkeys([*EXACT, "year"], re.compile(r"-?\d{1,65}(?:\.\d{1,38})?")),
    **dict.fromkeys(APPROXIMATE, re.compile(r"-?\d{1,65}(?:\.\d{1,38})?(?:e[+-]?\d{1,3})?")),
}


@dataclass(frozen=True, slots=True)
class _Part:
    """One column of the key. `write` writes a value in SQL, None as the dialect does."""

    to_text: Callable[[Any], str]
    from_text: Callable[[str], Value]
    write: Write | None = None
    type: ColumnType | None = None


_LONGEST_KEY_BYTES = 2 * 65535  # of a VARBINARY, in hex


def _uuid_text(value: bytes) -> str:
    return str(uuid.UUID(bytes=bytes(value))) if len(value) == 16 else value.hex()


def _uuid_bytes(text: str) -> bytes:
    return uuid.UUID(text).bytes if "-" in text else bytes.fromhex(_text(text))


def _whole_number(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**64:
        raise ValueError("no column holds such a number")
    return number


def _text(text: str) -> str:
    if len(text.encode()) > _LONGEST_KEY_BYTES:  # encode: ValueError for what was no UTF-8
        raise ValueError("no key is as long")
    return text


# int: ZEROFILL comes with zeros
_WHOLE_NUMBER = _Part(lambda value: str(int(value)), _whole_number, str)
_TEXT = _Part(lambda value: value.decode() if isinstance(value, bytes) else str(value), _text)
_UUID = _Part(_uuid_text, _uuid_bytes)
_BYTES = _Part(lambda value: value.hex(), lambda text: bytes.fromhex(_text(text)))


class KeyCodec:
    """Ids of one root table. Raises ConfigurationError for key types that cannot name a field."""

    def __init__(
        self,
        columns: Sequence[Column[object]],
        dialect: Dialect,
        types: Sequence[ColumnType | None] = (),
    ) -> None:
        self._dialect = dialect
        self._parts = [_part(column) for column in columns]
        if types:
            fitted = zip(self._parts, types, strict=True)
            self._parts = [_fitted(part, kind, dialect) for part, kind in fitted]
        self._single = self._parts[0] if len(self._parts) == 1 else None

    def to_id(self, values: Sequence[Any]) -> str:
        """Return the id of a row with these key values (as the server or the log gave them)."""
        if self._single is not None:
            return self._single.to_text(values[0])
        return ":".join(
            part.to_text(value).replace("%", "%25").replace(":", "%3A")
            for part, value in zip(self._parts, values, strict=True)
        )

    def to_values(self, document_id: str) -> tuple[Value, ...]:
        """Return the key values of an id. Raises ValueError for what no row can have as id."""
        if self._single is not None:
            return (self._single.from_text(document_id),)
        texts = document_id.split(":")
        if len(texts) != len(self._parts):
            raise ValueError(f"an id has {len(self._parts)} parts, separated by ':'")
        return tuple(
            part.from_text(text.replace("%3A", ":").replace("%25", "%"))
            for part, text in zip(self._parts, texts, strict=True)
        )

    def among(self, columns: Sequence[str], keys: Iterable[Sequence[Any]]) -> str:
        """Write `columns IN keys`."""
        return among(columns, keys, [self._write(part) for part in self._parts])

    def beyond(self, columns: Sequence[str], key: Sequence[Any]) -> str:
        """Write `columns > key` in key order, in the form that is read as an index range; for no
        key that all are."""
        if not key:
            return "TRUE"
        *firsts, last = zip(self._parts, columns, key, strict=True)
        predicate = self._beyond(*last)
        for each in reversed(firsts):
            from_here = self._beyond(*each, or_equal=True)
            predicate = f"({from_here} AND ({self._beyond(*each)} OR {predicate}))"
        return predicate

    def _beyond(self, part: _Part, column: str, value: Any, *, or_equal: bool = False) -> str:
        write = self._write(part)
        return self._dialect.beyond(column, part.type, value, write, or_equal=or_equal)

    def _write(self, part: _Part) -> Write:
        return part.write or self._dialect.literal


def _part(column: Column[object]) -> _Part:
    kind = column.type
    if isinstance(kind, Integer):
        return _WHOLE_NUMBER
    if isinstance(kind, Uuid) or (isinstance(kind, String) and not isinstance(kind, LargeBinary)):
        return _TEXT
    if isinstance(kind, LargeBinary) or kind.__class__.__name__ in {"BINARY", "VARBINARY"}:
        return _UUID if getattr(kind, "length", None) == 16 else _BYTES
    raise ConfigurationError(
        f"{column} cannot be part of a document's id: its type is {kind}",
        "Use a key of whole numbers, texts or binary columns.",
    )


def _fitted(part: _Part, kind: ColumnType | None, dialect: Dialect) -> _Part:
    """Read and write only what the column can hold."""
    if part is not _TEXT or kind is None:
        return part

    def formed(text: str) -> Value:
        if not _FORMS[kind.kind].fullmatch(text):
            raise ValueError(f"{kind.full} has no such value")
        if kind.kind not in NUMBERS:
            return text
        if kind.kind not in APPROXIMATE:
            return Decimal(text)
        if math.isinf(number := float(text)):
            raise ValueError(f"{kind.full} has no such value")
        return number

    def member(text: str) -> Value:
        kind.number_of(text)
        return text

    if kind.kind in MEMBERS:
        return replace(part, from_text=member, write=dialect.writer(kind), type=kind)
    if kind.kind in _FORMS:
        return replace(part, from_text=formed)
    return replace(part, write=dialect.writer(kind))


def among(
    columns: Sequence[str],
    values: Iterable[Sequence[Any]],
    writers: Sequence[Write],
) -> str:
    """Write `columns IN values` so that every server uses an index for it.

    MariaDB turns long lists of rows into a subquery (in_predicate_conversion_threshold), hence OR
    and AND for composite keys.
    """
    if len(columns) == 1:
        [write] = writers
        inner = ",".join([write(value[0]) for value in values])
        return f"{columns[0]} IN ({inner})" if inner else "FALSE"
    rows = (
        "("
        + " AND ".join(f"{c}={w(v)}" for c, w, v in zip(columns, writers, row, strict=True))
        + ")"
        for row in values
    )
    return "(" + (" OR ".join(rows) or "FALSE") + ")"
