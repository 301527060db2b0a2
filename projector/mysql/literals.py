"""Values written out in SQL, in MySQL's and MariaDB's common dialect."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from projector.projection.columns import ColumnType


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
