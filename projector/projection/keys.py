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
    """One column of the key. `write` writes a value in SQL."""

    to_text: Callable[[Any], str]
    from_text: Callable[[str], Value]
    write: Callable[[Any], str]
    type: ColumnType | None = None

    def beyond(self, column: str, value: Any, *, or_equal: bool = False) -> str:
        """Write `column > value`, or `>=`, in the order by which the server sorts the column."""
        if self.type is None or self.type.kind not in MEMBERS:
            return f"{column}{'>=' if or_equal else '>'}{self.write(value)}"
        number = self.type.number_of(value)
        if self.type.kind == "set":  # sorted by number, and compared with a text as a text
            return f"{column}+0{'>=' if or_equal else '>'}{number}"
        following = self.type.members[max(0, number - 1 if or_equal else number) :]
        every = ["", *following] if or_equal and not number else following
        return f"{column} IN ({','.join(map(self.write, every))})" if every else "FALSE"


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


def literal(value: Any) -> str:
    """Write a value as a SQL literal that no SQL mode, charset or content can break out of."""
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, str):
        return f"_utf8mb4 0x{value.encode().hex()}" if value else "''"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"0x{bytes(value).hex()}" if value else "''"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return repr(value) if "e" in repr(value) else f"{value!r}e0"
    return f"'{value}'"  # dates and times: digits and punctuation only


def writer_for(kind: ColumnType | None) -> Callable[[Any], str]:
    """Return how literals are written for a column. What its character set lacks would be an error:
    it is converted, and finds rows with a question mark at most."""
    if kind is None or not kind.is_text or kind.charset in (None, "utf8mb4"):
        return literal
    form = f"CONVERT({{}} USING {kind.charset}) COLLATE {kind.collation}"

    def write(value: Any) -> str:
        is_plain = not isinstance(value, str) or value.isascii()
        return literal(value) if is_plain else form.format(literal(value))

    return write


# int: ZEROFILL comes with zeros
_WHOLE_NUMBER = _Part(lambda value: str(int(value)), _whole_number, str)
_TEXT = _Part(
    lambda value: value.decode() if isinstance(value, bytes) else str(value), _text, literal
)
_UUID = _Part(_uuid_text, _uuid_bytes, literal)
_BYTES = _Part(lambda value: value.hex(), lambda text: bytes.fromhex(_text(text)), literal)


class KeyCodec:
    """Ids of one root table. Raises ConfigurationError for key types that cannot name a field."""

    def __init__(
        self, columns: Sequence[Column[object]], types: Sequence[ColumnType | None] = ()
    ) -> None:
        self._parts = [_part(column) for column in columns]
        if types:
            self._parts = [_fitted(*pair) for pair in zip(self._parts, types, strict=True)]
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
        return among(columns, keys, [part.write for part in self._parts])

    def beyond(self, columns: Sequence[str], key: Sequence[Any]) -> str:
        """Write `columns > key` in key order, in the form that is read as an index range; for no
        key that all are."""
        if not key:
            return "TRUE"
        *firsts, last = zip(self._parts, columns, key, strict=True)
        predicate = last[0].beyond(*last[1:])
        for part, column, value in reversed(firsts):
            from_here = part.beyond(column, value, or_equal=True)
            predicate = f"({from_here} AND ({part.beyond(column, value)} OR {predicate}))"
        return predicate


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


def _fitted(part: _Part, kind: ColumnType | None) -> _Part:
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
        return replace(part, from_text=member, write=writer_for(kind), type=kind)
    if kind.kind in _FORMS:
        return replace(part, from_text=formed)
    return replace(part, write=writer_for(kind))


def among(
    columns: Sequence[str],
    values: Iterable[Sequence[Any]],
    writers: Sequence[Callable[[Any], str]] | None = None,
) -> str:
    """Write `columns IN values` so that every server uses an index for it.

    MariaDB turns long lists of rows into a subquery (in_predicate_conversion_threshold), hence OR
    and AND for composite keys.
    """
    writers = writers or [literal] * len(columns)
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
