"""Ids of documents: from key columns to the field name in Redis and back, unambiguously.

A single whole number or text stands for itself, BINARY(16) as a UUID, other bytes in hex. The
parts of a composite key are joined with `:`, in which `%` and `:` of a part are written %25, %3A.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Integer, LargeBinary, String, Uuid

from projector.errors import ConfigurationError

Value = int | str | bytes


@dataclass(frozen=True, slots=True)
class _Part:
    to_text: Callable[[Any], str]
    from_text: Callable[[str], Value]


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
_WHOLE_NUMBER = _Part(lambda value: str(int(value)), _whole_number)
_TEXT = _Part(lambda value: value.decode() if isinstance(value, bytes) else str(value), _text)
_UUID = _Part(_uuid_text, _uuid_bytes)
_BYTES = _Part(lambda value: value.hex(), lambda text: bytes.fromhex(_text(text)))


class KeyCodec:
    """Ids of one root table. Raises ConfigurationError for key types that cannot name a field."""

    def __init__(self, columns: Sequence[Column[object]]) -> None:
        self._parts = [_part(column) for column in columns]
        self._single = self._parts[0] if len(self._parts) == 1 else None

    def to_id(self, values: Sequence[Any]) -> str:
        """Give the id of a row with these key values (as the server or the log gave them)."""
        if self._single is not None:
            return self._single.to_text(values[0])
        return ":".join(
            part.to_text(value).replace("%", "%25").replace(":", "%3A")
            for part, value in zip(self._parts, values, strict=True)
        )

    def to_values(self, document_id: str) -> tuple[Value, ...]:
        """Give the key values of an id. Raises ValueError for what no row can have as id."""
        if self._single is not None:
            return (self._single.from_text(document_id),)
        texts = document_id.split(":")
        if len(texts) != len(self._parts):
            raise ValueError(f"an id has {len(self._parts)} parts, separated by ':'")
        return tuple(
            part.from_text(text.replace("%3A", ":").replace("%25", "%"))
            for part, text in zip(self._parts, texts, strict=True)
        )


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


def literal(value: Any) -> str:
    """Write a value as a SQL literal that no SQL mode, charset or content can break out of."""
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, str):
        return f"_utf8mb4 0x{value.encode().hex()}" if value else "''"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"0x{bytes(value).hex()}" if value else "''"
    return f"'{value}'"  # Decimal, dates and times: digits and punctuation only


def among(columns: Sequence[str], values: Iterable[Sequence[Any]]) -> str:
    """Write `columns IN values` so that every server uses an index for it.

    MariaDB turns long lists of rows into a subquery (in_predicate_conversion_threshold), hence OR
    and AND for composite keys.
    """
    if len(columns) == 1:
        inner = ",".join(literal(value[0]) for value in values)
        return f"{columns[0]} IN ({inner})" if inner else "FALSE"
    rows = (
        "(" + " AND ".join(f"{c}={literal(v)}" for c, v in zip(columns, row, strict=True)) + ")"
        for row in values
    )
    return "(" + (" OR ".join(rows) or "FALSE") + ")"


def beyond(columns: Sequence[str], values: Sequence[Any]) -> str:
    """Write `columns > values` in key order, in the form that is read as an index range."""
    if not values:
        return "TRUE"
    first, rest = columns[0], columns[1:]
    if not rest:
        return f"{first}>{literal(values[0])}"
    return (
        f"({first}>={literal(values[0])} AND "
        f"({first}>{literal(values[0])} OR {beyond(rest, values[1:])}))"
    )
