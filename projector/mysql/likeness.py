"""How values of one column, written down, find the rows of another that a join by both would find.

What a comparison of two columns means follows from both types: a number equals a text by its value,
a text of another character set by that of the larger one. A literal has a type of its own, and the
server may compare with it otherwise, or refuse to. So it stands for a column only where that is
known to find at least as much; elsewhere values become rows of the column's very type (JSON_TABLE),
and the server compares as in the join. Tested for every pair of types against the join itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Any

from projector.mysql.literals import literal, writer_for
from projector.projection.columns import (
    APPROXIMATE,
    BINARIES,
    EXACT,
    INTEGERS,
    MEMBERS,
    NATIVE,
    NUMBERS,
    TEXTS,
    TIMES,
    ColumnType,
)
from projector.projection.keys import among

_WIDE = frozenset({"utf8mb4", "utf8mb3", "utf8"})
_TWO_BYTES = frozenset({"utf16", "utf16le", "utf32", "ucs2"})
# A text of so many characters at most, and no exponent, is a number that a double holds exactly.
_EXACT_DIGITS = 15
_EXPONENT = re.compile(r"\d[.]?e", re.IGNORECASE)
_WRITTEN = re.compile(r"-?\d{1,65}(?:\.\d{1,40})?(?:e[+-]?\d{1,3})?")  # a number, by str()
_NUMERIC = (int, float, Decimal)
_COMMENT = re.compile(r"/\*.*?\*/")


@dataclass(frozen=True, slots=True)
class Likeness:
    """How values of a column of the type `own` find rows by a column of the type `other`."""

    own: ColumnType
    other: ColumnType

    @property
    def is_known(self) -> bool:
        """Whether there is a way at all; the rest has no meaning in any schema."""
        return self.own.kind != "bit" or self.other.kind not in TIMES

    @property
    def is_plain(self) -> bool:
        """Whether literals find at least what the join finds, whatever the values."""
        own, other = self.own, self.other
        if own.kind == other.kind and own.collation == other.collation:
            return True
        if own.kind in EXACT or own.kind == "year":
            return other.kind in EXACT | APPROXIMATE or other.is_text
        if own.kind in APPROXIMATE:
            return other.kind in APPROXIMATE or other.is_text
        if own.kind in BINARIES:
            return other.kind in BINARIES
        return own.is_text and other.is_text and self._is_coarser()

    def _is_coarser(self) -> bool:
        """Whether the other's collation takes all for equal that the join's does."""
        own, other = self.own, self.other
        if own.charset == other.charset:
            return own.collation == other.collation or other.pads or not own.pads
        return turns_into(own, other)

    def takes(self, value: Any) -> bool:
        """Whether this value's literal finds at least what the join finds."""
        if self.is_plain:
            return True
        if self.own.kind not in TEXTS:
            return False
        if isinstance(value, bytes):  # no text in its character set: equal byte by byte
            return True
        if self.other.kind not in INTEGERS or _EXPONENT.search(str(value)):
            return False
        return len(str(value)) <= _EXACT_DIGITS

    @property
    def write(self) -> Callable[[Any], str]:
        """How a value is written down."""
        return _number if self.own.kind in NUMBERS else writer_for(self.other)

    def suits(self, value: Any) -> bool:
        """Whether a value may have come from such a column."""
        if self.own.kind in NUMBERS:
            return not isinstance(value, bytes) and isinstance(_restored(value), _NUMERIC)
        if self.own.kind in BINARIES:
            return isinstance(value, bytes)
        return isinstance(value, str | bytes) or self.own.kind in MEMBERS

    @property
    def row_type(self) -> str:
        """The type of a column of JSON_TABLE for such values."""
        own = self.own
        if self._by_number:
            return "BIGINT UNSIGNED"
        if own.kind in NATIVE or own.kind in BINARIES:
            return "LONGTEXT CHARACTER SET utf8mb4"
        written = "LONGTEXT" if own.kind in MEMBERS else _COMMENT.sub("", own.full)
        charset = f" CHARACTER SET {own.charset} COLLATE {own.collation}" if own.charset else ""
        return written + charset

    def expression(self, name: str) -> str:
        """Return what is compared, of a column of JSON_TABLE."""
        if self.own.kind in NATIVE:
            return f"CAST({name} AS {self.own.kind.upper()})"
        return f"UNHEX({name})" if self.own.kind in BINARIES else name

    def cells(self, value: Any) -> Sequence[int | float | str]:
        """Return what JSON_TABLE wants for a value; none for a member that is none any more."""
        if isinstance(value, bytes | bytearray):
            return [bytes(value).hex()]
        if self._by_number and isinstance(value, str):
            try:
                number = self.own.number_of(value)
            except ValueError:
                return []
            # The empty text may be a member, and stands for what was none.
            return [number] if value else sorted({0, number})
        if isinstance(value, int | float | str):
            return [value]
        return [format(value, "f") if isinstance(value, Decimal) else str(value)]

    @property
    def _by_number(self) -> bool:
        """Whether the number of a member counts, not its name."""
        return self.own.kind == "bit" or (self.own.kind in MEMBERS and self.other.kind in NUMBERS)


def turns_into(own: ColumnType, other: ColumnType) -> bool:
    """Whether a join compares by the other's collation: it is the own one, or its character set is
    wider, so that the server converts the own texts."""
    if not (own.is_text and other.is_text):
        return False
    if own.charset == other.charset:
        return own.collation == other.collation or (other.collation or "").endswith("_bin")
    return other.charset in _WIDE and own.charset != "utf8mb4" and own.charset not in _TWO_BYTES


def _restored(value: Any) -> Any:
    """Return a number that was put off, and has become a text with that, as the number it was."""
    if not isinstance(value, str) or not _WRITTEN.fullmatch(value):
        return value
    return float(value) if "e" in value else Decimal(value)


def _number(value: Any) -> str:
    return literal(_restored(value))


def sought(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], likenesses: Sequence[Likeness]
) -> str:
    """Write a predicate that holds where the columns equal, as columns, one of the rows."""
    plain: list[Sequence[Any]] = []
    others: list[Sequence[Any]] = []
    for row in rows:
        is_plain = all(x.takes(value) for x, value in zip(likenesses, row, strict=True))
        (plain if is_plain else others).append(row)
    writers = [x.write for x in likenesses]
    if not others and (plain or all(x.is_plain for x in likenesses)):
        return among(columns, plain, writers)
    typed = _typed(columns, others, likenesses)  # of no rows, too: `check` asks if the server can
    return f"({among(columns, plain, writers)} OR {typed})" if plain else typed


def _typed(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], likenesses: Sequence[Likeness]
) -> str:
    cells = [
        cells
        for row in rows
        for cells in product(*(x.cells(v) for x, v in zip(likenesses, row, strict=True)))
    ]
    text = json.dumps(cells, ensure_ascii=False)
    declared = ", ".join(f"c{i} {x.row_type} PATH '$[{i}]'" for i, x in enumerate(likenesses))
    equal = " AND ".join(
        f"{column} = {x.expression(f'sought.c{i}')}"
        for i, (x, column) in enumerate(zip(likenesses, columns, strict=True))
    )
    table = f"JSON_TABLE({literal(text)}, '$[*]' COLUMNS ({declared})) AS sought"
    return f"EXISTS (SELECT 1 FROM {table} WHERE {equal})"
