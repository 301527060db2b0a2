"""Row images: the wanted columns are decoded, every other one is stepped over by its type.

For each table map, and each set of columns that an image holds, one function is generated that
steps through an image without a loop over columns. Never gives a key of damaged rows: rows must end
exactly where the event ends, else DamagedEventError. Layout: MySQL's
libs/mysql/binlog/event/rows_event.h (Rows_event), MariaDB's sql/log_event.h for compressed ones.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from projector import compiled
from projector.model import MISSING, Row
from projector.mysql.binlog.damage import DamagedEventError, UnlikeValueError
from projector.mysql.binlog.tablemap import ColumnInfo, TableMap, Type, length_encoded
from projector.mysql.binlog.values import decimal_size, inflated, reader

Step = Callable[[bytes, int], tuple[int, Row, Any]]  # place after the image, row, raw read columns

_V1 = {23, 24, 25, 166, 167, 168}
_UPDATES = {24, 31, 39, 167, 170}
_DELETES = {25, 32, 168, 171}
_COMPRESSED = range(166, 172)
_PARTIAL_UPDATE = 39

_WRONG_END = "rows that do not end with their event"
_STEPS_KEPT = 1024  # by the columns that an image holds: under MINIMAL there may be many
_FIXED = {
    Type.TINY: 1, Type.SHORT: 2, Type.LONG: 4, Type.FLOAT: 4, Type.DOUBLE: 8, Type.NULL: 0,
    Type.TIMESTAMP: 4, Type.LONGLONG: 8, Type.INT24: 3, Type.DATE: 3, Type.TIME: 3,
    Type.DATETIME: 8, Type.YEAR: 1, Type.NEWDATE: 3,
}  # fmt: skip
_INTEGERS = {Type.TINY: "b", Type.SHORT: "<h", Type.LONG: "<i", Type.LONGLONG: "<q"}
# MariaDB's temporal types of before 10.1 (mysql56_temporal_format=OFF) by digits of the fraction,
# which the log does not tell (sql/compat56.h, sql/field.cc).
_OLD_TEMPORAL = {
    Type.TIMESTAMP: (4, 5, 5, 6, 6, 7, 7),
    Type.DATETIME: (8, 6, 6, 7, 7, 7, 8),
    Type.TIME: (3, 4, 4, 5, 5, 6, 6),
}


class RowsDecoder:
    """Rows of one table map. `columns` are wanted, in that order, and behind them digests of
    `digested`; an update that changes none of `compared` is left out. Raises LookupError when a
    wanted column is of a type that cannot be a key."""

    def __init__(
        self,
        table_map: TableMap,
        columns: Sequence[int],
        infos: Sequence[ColumnInfo | None],
        compared: Sequence[int] | None = None,
        digested: Sequence[int] = (),
    ) -> None:
        self._map = table_map
        self._columns = tuple(columns)
        self._digested = tuple(digested)
        self._infos = tuple(infos)
        count = len(table_map.types)
        is_partial_read = compared is not None and len(set(compared)) < count
        self._compared = tuple(compared or ()) if is_partial_read else ()
        self._width_bytes = (count + 7) // 8
        self._json_bytes = (sum(t == Type.JSON for t in table_map.types) + 7) // 8
        self._steps: dict[bytes, Step] = {}
        self._all = (1 << count) - 1
        self._step(self._all)  # tell of unreadable types at once
        self._nothing = self._step(0)
        self.compiled = compiled.core and self._compiled(compiled.core)

    def decode(
        self, kind: int, buf: bytes, offset: int, end: int
    ) -> tuple[list[Row], list[Row], int]:
        """Return wanted columns of the images before and after, and the number of rows changed.

        `offset` is the place of the event's table id, `end` the end of its rows (no checksum).
        Raises DamagedEventError; UnlikeValueError where the rows are whole, but their values are
        not.
        """
        if self.compiled is not None:
            found: tuple[list[Row], list[Row], int] | None = self.compiled.decode(
                kind, buf, offset, end
            )
            if found is not None:
                return found
        try:
            return self._decode(kind, buf, offset, end)
        except DamagedEventError:
            raise
        except ValueError as error:
            raise UnlikeValueError(f"values that do not parse: {error}") from error
        except (
            IndexError,
            struct.error,
            zlib.error,
            MemoryError,
            OverflowError,
        ) as error:
            raise DamagedEventError(f"rows that do not parse: {error}") from error

    def _decode(self, kind: int, buf: bytes, at: int, end: int) -> tuple[list[Row], list[Row], int]:
        at += 8
        if kind not in _V1:
            at += buf[at] | buf[at + 1] << 8
        width, at = length_encoded(buf, at)
        if width != len(self._map.types):
            raise DamagedEventError("rows of another width than their table map")
        size = self._width_bytes
        present = buf[at : at + size]
        at += size
        after = present
        is_update = kind in _UPDATES
        if is_update:
            after = buf[at : at + size]
            at += size
        if kind in _COMPRESSED:
            buf = inflated(buf[at:end])
            at, end = 0, len(buf)
        first = self._steps.get(present) or self._step_for(present)
        if is_update:
            second = self._steps.get(after) or self._step_for(after)
            if first is second is self._nothing:
                raise DamagedEventError("updated rows without a column")
            return self._updates(buf, at, end, first, second, kind == _PARTIAL_UPDATE)
        rows: list[Row] = []
        if first is self._nothing:  # a row of defaults under MINIMAL: the image has no byte
            rows.append(first(buf, at)[1])
        else:
            while at < end:
                at, row, _ = first(buf, at)
                rows.append(row)
        if at != end or not rows:
            raise DamagedEventError(_WRONG_END)
        return (rows, [], len(rows)) if kind in _DELETES else ([], rows, len(rows))

    def _updates(
        self, buf: bytes, at: int, end: int, first: Step, second: Step, is_partial: bool
    ) -> tuple[list[Row], list[Row], int]:
        before: list[Row] = []
        after: list[Row] = []
        count = 0
        is_comparing = bool(self._compared) and first is second
        while at < end:
            at, old, old_raw = first(buf, at)
            if is_partial:
                at = self._past_options(buf, at)
            at, new, new_raw = second(buf, at)
            count += 1
            if is_comparing and old_raw == new_raw:
                continue
            before.append(old)
            after.append(new)
        if at != end or not count:
            raise DamagedEventError(_WRONG_END)
        return before, after, count

    def _past_options(self, buf: bytes, at: int) -> int:
        """PARTIAL_UPDATE_ROWS: value options, then a bit a JSON column if some are partial."""
        options, at = length_encoded(buf, at)
        return at + (self._json_bytes if options & 1 else 0)

    def _step_for(self, present: bytes) -> Step:
        if len(present) != self._width_bytes:
            raise DamagedEventError("an event that ends in its column bitmap")
        held = int.from_bytes(present, "little") & self._all
        step = self._step(held) if held else self._nothing
        if len(self._steps) < _STEPS_KEPT:
            self._steps[present] = step
        return step

    def _step(self, present: int) -> Step:
        """Generate the function that steps through images which hold these columns."""
        held = [i for i in range(len(self._map.types)) if present >> i & 1]
        scope: dict[str, Any] = {"MISSING": MISSING}
        lines = ["def step(b, p):"]
        null_bytes = (len(held) + 7) // 8
        if any(self._map.nullable[i] for i in held):
            lines.append(f" n = int.from_bytes(b[p:p+{null_bytes}], 'little')")
        fixed = null_bytes  # bytes of fixed size to step over before the next column
        raws: list[str] = []
        is_raw = False
        for bit, column in enumerate(held):
            if (column in self._compared) != is_raw:
                is_raw = not is_raw
                fixed = _run(lines, raws, fixed, begins=is_raw)
            fixed = self._column(lines, scope, column, bit, fixed)
        if is_raw:
            fixed = _run(lines, raws, fixed, begins=False)
        if fixed:
            lines.append(f" p += {fixed}")
        if nulls := sum(
            1 << bit for bit, i in enumerate(held) if i in self._compared and self._map.nullable[i]
        ):
            raws.append(f"n & {nulls}")
        if not set(self._compared) <= set(held):
            # MariaDB 11 leaves generated columns out: nobody can tell that they are as before.
            raws = ["p"]  # differs with each image
        names = [f"v{i}" if i in held else "MISSING" for i in self._columns]
        names += [f"d{i}" if i in held else "MISSING" for i in self._digested]
        row = f"({', '.join(names)},)" if names else "()"
        raw = f"({', '.join(raws)},)" if len(raws) > 1 else "".join(raws) or "None"
        lines.append(f" return p, {row}, {raw}")
        exec("\n".join(lines), scope)
        step: Step = scope["step"]
        return step

    def _column(
        self, lines: list[str], scope: dict[str, Any], column: int, bit: int, fixed: int
    ) -> int:
        """Write the lines for one column; give the fixed bytes not yet stepped over."""
        nullable, size = self._map.nullable[column], self._fixed_size(column)
        end = "e" if size is None else f"p+{size}"
        taken = {}
        if column in self._columns:
            taken[f"v{column}"] = self._value(scope, column, end)
        if column in self._digested:
            taken[f"d{column}"] = f"hash(b[p:{end}])"
        if size is not None and not (taken or nullable):
            return fixed + size
        if fixed:
            lines.append(f" p += {fixed}")
        pad = " "
        if nullable:
            lines += [f" {name} = None" for name in taken]
            lines.append(f" if not n & {1 << bit}:")
            pad = "  "
        if size is None:
            prefix, length = _length(self._map.types[column], self._map.metadata[column])
            if not taken:
                lines.append(f"{pad}p += {prefix} + {length}")
                return 0
            lines.append(f"{pad}e = p + {prefix} + {length}; p += {prefix}")
            lines += [f"{pad}{name} = {value}" for name, value in taken.items()]
            lines.append(f"{pad}p = e")
            return 0
        lines += [f"{pad}{name} = {value}" for name, value in taken.items()]
        if nullable:
            lines.append(f"{pad}p += {size}")
            return 0
        return size

    def _compiled(self, core: Any) -> Any:
        """Make the compiled core's decoder of the same rows; it leaves to us what is unusual."""
        columns = []
        for column in range(len(self._map.types)):
            size = self._fixed_size(column)
            prefix = 0
            if size is None:
                prefix, _ = _length(self._map.types[column], self._map.metadata[column])
            is_nullable, is_compared = self._map.nullable[column], column in self._compared
            columns.append((-1 if size is None else size, prefix, is_nullable, is_compared))
        wanted = []
        for column in self._columns:
            read = self._reader(column)
            number = read if isinstance(read, int) else 0
            wanted.append((column, number, None if number else read))
        wanted += [(column, 0, None) for column in self._digested]
        return core.Decoder(tuple(columns), tuple(wanted), MISSING, inflated)

    def _reader(self, column: int) -> int | Callable[[bytes], Any]:
        """Return how a wanted column is read; of a whole number its size, below 0 with a sign."""
        code, metadata = self._map.types[column], self._map.metadata[column]
        if code not in _INTEGERS and code != Type.INT24:
            return reader(code, metadata, self._infos[column])
        size = _FIXED[Type(code)]
        return size if self._is_unsigned(column) else -size

    def _fixed_size(self, column: int) -> int | None:
        code, info = self._map.types[column], self._infos[column]
        if code in _OLD_TEMPORAL:
            if info is None:  # the log does not say how long it is
                raise LookupError("a column of an old temporal type that the catalog does not show")
            return _OLD_TEMPORAL[Type(code)][info.fraction]
        return fixed_size(code, self._map.metadata[column])

    def _value(self, scope: dict[str, Any], column: int, end: str) -> str:
        """Write the expression for a wanted column between `p` and `end`."""
        read = self._reader(column)
        if not isinstance(read, int):
            scope[f"u{column}"] = read
            return f"u{column}(b[p:{end}])"
        if self._map.types[column] == Type.INT24:
            return f"int.from_bytes(b[p:{end}], 'little', signed={read < 0})"
        form = _INTEGERS[Type(self._map.types[column])]
        scope[f"u{column}"] = struct.Struct(form if read < 0 else form.upper()).unpack_from
        return f"u{column}(b, p)[0]"

    def _is_unsigned(self, column: int) -> bool:
        info = self._infos[column]
        if info is not None:
            return info.unsigned
        if self._map.unsigned is None:
            raise LookupError("the log does not say whether the number has a sign")
        return self._map.unsigned[column]


def fixed_size(code: int, metadata: int) -> int | None:
    """Bytes of a value that is always as long; None where its length stands before it."""
    if code in _FIXED:
        return _FIXED[Type(code)]
    computed: dict[int, int] = {
        Type.NEWDECIMAL: decimal_size(metadata),
        Type.BIT: (metadata >> 8) + bool(metadata & 0xFF),
        Type.TIMESTAMP2: 4 + (metadata + 1) // 2,
        Type.DATETIME2: 5 + (metadata + 1) // 2,
        Type.TIME2: 3 + (metadata + 1) // 2,
        Type.ENUM: metadata & 0xFF,
        Type.SET: metadata & 0xFF,
    }
    return computed.get(code)


def _run(lines: list[str], raws: list[str], fixed: int, *, begins: bool) -> int:
    """Begin or end the bytes of neighbouring columns that are compared as one."""
    if fixed:
        lines.append(f" p += {fixed}")
    if begins:
        raws.append(f"r{len(raws)}")
        lines.append(" s = p")
    else:
        lines.append(f" {raws[-1]} = b[s:p]")
    return 0


def _length(code: int, metadata: int) -> tuple[int, str]:
    """Return the size of a value's length, and write the expression for that length at `p`."""
    match code:
        case Type.VARCHAR | Type.VAR_STRING | Type.VARCHAR_COMPRESSED | Type.STRING:
            size = 1 if metadata < 256 else 2
        case (
            Type.BLOB | Type.TINY_BLOB | Type.MEDIUM_BLOB | Type.LONG_BLOB | Type.BLOB_COMPRESSED
            | Type.JSON | Type.GEOMETRY | Type.VECTOR
        ):  # fmt: skip
            size = metadata
        case _:
            raise LookupError(f"column type {code}")
    if size == 1:
        return size, "b[p]"
    if size == 2:
        return size, "(b[p] | b[p+1] << 8)"
    return size, f"int.from_bytes(b[p:p+{size}], 'little')"
