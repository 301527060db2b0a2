"""Where documents stand: in which lists, and with which score, of the rows that they are made of.

One text says it: `score list` for each list, joined by line feeds; a score that is the one before
it is left out. A list's name is `view:value`, with the parts of a value joined by `|`. Pure.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from projector.errors import ConfigurationError
from projector.projection.clock import day_us, microseconds
from projector.projection.columns import ColumnType
from projector.projection.dialect import Dialect, Sameness
from projector.projection.encoding import (
    Encoder,
    Promise,
    Raw,
    any_number_as_text,
    bits,
    whole_number,
)
from projector.projection.folding import Folding, Foldings
from projector.projection.forms import typed
from projector.projection.levels import Level, Rows
from projector.projection.timed import LIST, VIEW, moments
from projector.projection.values import expression_of
from projector.projection.views import Part, Place, PlannedView, Views

FORMAT_VERSION = 2  # raise when the same rows give other lists: all are then rebuilt
UNSCORED = "-inf"  # of a document whose `newest` is NULL: the last
_MASKED = 32  # hexadecimal digits of a masked value
_UNSAFE = re.compile(r"[%|\x00-\x1f\x7f]")
_KNOWN_MAX = 65536  # values whose spelling is kept
_DIGITS_MAX = 400  # before or behind the point: a DOUBLE has fewer
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?").fullmatch
_MOMENT = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?)?"
).fullmatch

_CompiledPart = tuple[int, dict[Raw, str], Callable[[Raw], str]]
_Scorer = Callable[[Raw], str]
_Figures = tuple[Mapping[Any, Raw], Raw]  # by the root's key, and of documents that have none


class Placer:
    """Says where documents stand. `types`: of the columns, from the catalog."""

    def __init__(
        self,
        views: Views,
        levels: Sequence[Level],
        types: Callable[[sa.Column[Any]], ColumnType | None],
        foldings: Foldings,
        dialect: Dialect,
    ) -> None:
        self._views, self._timed = views.planned, views.timed
        self._levels = levels
        self._spellings = [
            [_Spelling(view, part, types, foldings, dialect) for part in view.parts]
            for view in self._views
        ]
        said = [str(FORMAT_VERSION), *(_spelled(v, dialect) for v in self._views)]
        said += [spelling.mark for row in self._spellings for spelling in row]
        self._compiled = [
            (
                (f" {view.name}:", view.newest),
                view.where.index if view.where is not None else 0,
                0 if view.newest.level else view.newest.index,
                [s.compiled for s in spelled],
            )
            for view, spelled in zip(self._views, self._spellings, strict=True)
        ]
        said += [VIEW] if views.timed else []
        digest = hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]
        self.mark = digest if views.in_use else ""

    @property
    def definitions(self) -> dict[str, str]:
        """What readers need to know of each view, as JSON by name; and its foldings."""
        found: dict[str, str] = {}
        for view, spellings in zip(self._views, self._spellings, strict=True):
            parts = [spelling.definition for spelling in spellings]
            said = {"parts": parts, "keep": view.keep, "is_time": view.is_time}
            found[view.name] = json.dumps(said, separators=(",", ":"))
            for spelling in spellings:
                if spelling.folding is not None:
                    found[f"fold:{_name(spelling.folding)}"] = spelling.folding.packed
        return found

    def places(
        self, rows_by_level: Sequence[Rows], to_id: Callable[[Sequence[Any]], str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return where the documents of these rows stand, by id; and the reasons, by id, of those
        with a value that is none of its kind."""
        failed_by_key: dict[Any, str] = {}
        values = [
            self._of_many(view, spelled, rows_by_level, failed_by_key)
            for view, spelled in zip(self._views, self._spellings, strict=True)
        ]
        scorers = [_scorer(view, rows_by_level[view.newest.level]) for view in self._views]
        figures = self._figures(rows_by_level)
        due = moments(self._timed, self._levels, rows_by_level)
        own, width = self._levels[0].own, self._levels[0].key_width
        places: dict[str, str] = {}
        failed: dict[str, str] = {}
        for row in rows_by_level[0]:
            document_id, key = to_id(row[:width]), own(row)
            try:
                if key in failed_by_key:
                    raise ValueError(failed_by_key[key])
                stand = self._stand(key, row, values, scorers, figures)
                places[document_id] = _and_due(stand, due[key]) if key in due else stand
            except ValueError as error:
                failed[document_id] = f"(views).{error}"
        return places, failed

    def _stand(
        self,
        key: Any,
        row: Sequence[Raw],
        values: Sequence[Mapping[Any, Any] | None],
        scorers: Sequence[_Scorer],
        figures: Mapping[Place, _Figures],
    ) -> str:
        """Write one document's lists. For each document of each batch: hence so little is asked
        of objects here. Raises ValueError with the view's name."""
        lines: list[str] = []
        last = ""
        scores: dict[int, str] = {}  # by column of the root's query
        try:
            for (head, where, newest, parts), of_many, scored in zip(
                self._compiled, values, scorers, strict=True
            ):
                if where and row[where] is None:
                    continue
                if newest:
                    score = scores.get(newest) or scores.setdefault(newest, scored(row[newest]))
                else:
                    by_key, of_none = figures[head[1]]
                    score = scored(by_key.get(key, of_none))
                names: Sequence[str]
                if of_many is not None:
                    names = [_joined(parts, row, value) for value in sorted(of_many.get(key, ()))]
                elif len(parts) == 1:
                    index, texts, text = parts[0]
                    raw = row[index]
                    name = texts.get(raw)
                    names = (text(raw) if name is None else name,)
                else:
                    names = (_joined(parts, row, ()),)
                for name in names:
                    if name:
                        lines.append(head[0] + name if score == last else score + head[0] + name)
                        last = score
        except ValueError as error:
            raise ValueError(f"by_{head[0][1:]} {error}") from None
        return "\n".join(lines)

    def _of_many(
        self,
        view: PlannedView,
        spelled: Sequence[_Spelling],
        rows_by_level: Sequence[Rows],
        failed: dict[Any, str],
    ) -> Mapping[Any, Mapping[tuple[str, ...], None]] | None:
        """Collect the values of a collection that are (parts of) keys, by the root's key; in
        `failed` the reasons of those that are none of their kind."""
        if view.many is None:
            return None
        level = self._levels[view.many]
        width = level.key_width
        found: dict[Any, dict[tuple[str, ...], None]] = {}
        mine = [(s.part.place.index, s) for s in spelled if s.part.place.level == view.many]
        for row in rows_by_level[view.many]:
            key = row[0] if width == 1 else tuple(row[:width])
            try:
                texts = tuple(s.text(row[index]) for index, s in mine)
            except ValueError as error:
                failed[key] = f"by_{view.name}: {error}"
                continue
            if "" not in texts:
                found.setdefault(key, {})[texts] = None
        return found

    def _figures(self, rows_by_level: Sequence[Rows]) -> dict[Place, _Figures]:
        """Return the figures that lists are ordered by. What one is over no rows the query says in
        a row without keys, but for a count."""
        found: dict[Place, _Figures] = {}
        for view in self._views:
            place = view.newest
            if place.level and place not in found:
                level = self._levels[place.level]
                width = level.key_width
                by_key = {
                    (row[0] if width == 1 else tuple(row[:width])): row[place.index]
                    for row in rows_by_level[place.level]
                }
                nothing = by_key.pop(level.nothing, b"0" if view.is_count else None)
                found[place] = by_key, nothing
        return found


def _and_due(stand: str, at: int) -> str:
    return "\n".join(filter(None, (stand, f"{at} {LIST}")))


def _scorer(view: PlannedView, rows: Rows) -> _Scorer:
    """Return what writes the scores of a view; by a clock that is not UTC's through the form by
    which documents show such a time."""
    if not view.is_time:
        return _number
    newest = view.declared.newest
    if view.manner.zone == "UTC" or not isinstance(newest.type, sa.DateTime):
        return _moment
    promises = getattr(rows, "promises", ())
    promise = promises[view.newest.index] if promises else Promise.NOTHING
    encode = typed(newest.type, view.manner).encoder(promise)
    return functools.partial(_by_clock, encode) if encode is not None else _moment


def _joined(parts: Sequence[_CompiledPart], row: Sequence[Raw], value: Sequence[str]) -> str:
    """Join the parts of a list's name; "" where one is NULL or empty."""
    of_many = iter(value)
    texts = [
        next(of_many) if index < 0 else known.get(row[index]) or text(row[index])
        for index, known, text in parts
    ]
    return "|".join(texts) if all(texts) else ""


class _Spelling:
    """How values of one part are written. `text`: of NULL and of nothing it is empty."""

    def __init__(
        self,
        view: PlannedView,
        part: Part,
        types: Callable[[sa.Column[Any]], ColumnType | None],
        foldings: Foldings,
        dialect: Dialect,
    ) -> None:
        self.part = part
        self.folding: Folding | None = None
        self.pads = False
        kind = types(part.column) if part.column is not None else None
        self.is_bits = kind is not None and kind.kind == "bit"
        if part.kind == "text" and kind is not None:
            self._understand(view, part, kind, foldings, dialect)
        self._texts: dict[Raw, str] = {}  # as far as they are known

    def _understand(
        self,
        view: PlannedView,
        part: Part,
        kind: ColumnType,
        foldings: Foldings,
        dialect: Dialect,
    ) -> None:
        sameness = dialect.sameness(kind)
        if sameness in (Sameness.BYTES, Sameness.PADDED):
            self.pads = sameness is Sameness.PADDED
            return
        self.folding = foldings.get(kind.collation or "")
        if self.folding is None and sameness is Sameness.UNKNOWN:
            raise ConfigurationError(
                f"view {view.declared.name}: which texts are one value in {part.column}"
                f" ({kind.collation}) is not known beforehand",
                "Write binary(column) to tell all texts apart, or give the column a collation such"
                f" as {dialect.known_collations}.",
            )

    @property
    def definition(self) -> dict[str, Any]:
        said: dict[str, Any] = {"kind": self.part.kind}
        if self.folding is not None:
            said["fold"] = _name(self.folding)
        if self.pads:
            said["pads"] = True
        if self.part.mask is not None:
            said["variable"] = self.part.mask.key_variable
        return said

    @property
    def mark(self) -> str:
        mask = self.part.mask.key_mark() if self.part.mask is not None else ""
        return json.dumps([self.definition, mask])

    @property
    def compiled(self) -> _CompiledPart:
        """Where it stands in a row of the root (below 0: in a collection's), the texts known by
        now, and what writes others."""
        place = self.part.place
        return -1 if place.level else place.index, self._texts, self.text

    def text(self, raw: Raw) -> str:
        """Return the part as it stands in a list's name."""
        if raw is None:
            return ""
        found = self._texts.get(raw)
        if found is None:
            if len(self._texts) > _KNOWN_MAX:
                self._texts.clear()  # several threads read at once: none relies on what it holds
            found = self._texts[raw] = self._spell(raw)
        return found

    def _spell(self, raw: bytes) -> str:
        said = canonical(bits(raw) if self.is_bits else raw, self.part.kind)
        if self.folding is not None:
            said = self.folding.fold(said)
        elif self.pads:
            said = said.rstrip(" ")
        if not said:
            return ""
        if self.part.mask is not None:
            return self.part.mask.mask(said)[:_MASKED]
        return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", said)


def _name(folding: Folding) -> str:
    """Name a folding by what it contains: readers keep those that they have read."""
    return f"{folding.collation}-{folding.mark}"


def canonical(raw: bytes, kind: str) -> str:
    """Write a value in the one way of its kind. Raises ValueError."""
    match kind:
        case "hex":
            return raw.hex()
        case "uuid":
            return _uuid(raw)
        case "whole":
            return whole_number(raw).decode()
        case "flag":
            return "0" if raw == b"\0" or (raw != b"\1" and _decimal(raw) == "0") else "1"
        case "decimal":
            return _decimal(raw)
        case _:
            return _text(raw)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ValueError("bytes that are no text in UTF-8") from None


def _uuid(raw: bytes) -> str:
    """Write 16 bytes, or a text with or without dashes, as documents do; all else in hexadecimal
    (an address of IPv4 in a column for those of IPv6)."""
    if len(raw) == 16:
        return str(uuid.UUID(bytes=raw))
    try:
        return str(uuid.UUID(raw.decode()))
    except ValueError:
        return raw.hex()


def _decimal(raw: bytes) -> str:
    """Write a number with all of its digits, but for zeros that say nothing."""
    number = Decimal(any_number_as_text(raw)[1:-1].decode())
    if abs(number.adjusted()) > _DIGITS_MAX:
        raise ValueError("not a number of so many digits")
    said = format(number, "f")
    said = said.rstrip("0").rstrip(".") if "." in said else said
    return "0" if said == "-0" else said


def _number(raw: Raw) -> str:
    """Write the score of a number; exact below 2^53."""
    if raw is None:
        return UNSCORED
    if _NUMBER(raw) is None or not math.isfinite(float(raw)):
        raise ValueError("newest is not a number")
    return raw.decode()


def _by_clock(encode: Encoder, raw: Raw) -> str:
    if raw is None or day_us(raw[:10]) is None:
        return _moment(raw)
    return _moment(encode(raw)[1:-2])


def _moment(raw: Raw) -> str:
    """Write the score of a time in UTC: microseconds since 1970; exact below 2^53."""
    if raw is None:
        return UNSCORED
    if _MOMENT(raw) is None:
        raise ValueError("newest is not a time")
    at = microseconds(raw)
    return UNSCORED if at is None else str(at)  # a zero date


def _spelled(view: PlannedView, dialect: Dialect) -> str:
    declared = view.declared
    expressions = [*map(expression_of, declared.keys), declared.newest]
    expressions += [declared.where] if declared.where is not None else []
    texts = [dialect.compile(sa.select(expression)) for expression in expressions]
    return "\n".join([view.name, str(view.keep), *texts])
