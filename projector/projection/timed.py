"""When a document has to be made again though no row changes: a moment that it shows has come.

Of each document the soonest moment that is still to come is kept as an entry of one list beside it
(`{tickets}:by:due:next`), written in the act that writes the document. An entry says of the
document as it stands there when it will be wrong, and goes only with another document: whoever
makes again what the list has up to now, and nothing else, misses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from projector.projection import clock
from projector.projection.encoding import Form, Promise, RowWriter
from projector.projection.levels import Level, Nested, Object, Rows

VIEW = "due"  # the list's view, as it stands in keys
LIST = f"{VIEW}:next"


@dataclass(frozen=True, slots=True)
class Timed:
    """A column of a result that holds a moment: of the query of which level, and the how manieth.
    `form`: how documents write the moment itself; `name`: where it stands in them."""

    level: int
    index: int
    form: Form
    name: str


def timed_in(levels: Sequence[Level]) -> tuple[Timed, ...]:
    """Find all columns whose moments documents wait for."""
    return tuple(
        Timed(number, writer.first + index, form.moment, _name(writer, index))
        for number, level in enumerate(levels)
        for writer in _writers(level)
        for index, form in enumerate(writer.forms)
        if form.moment is not None
    )


def _name(writer: RowWriter, index: int) -> str:
    name = "" if writer.is_plain else writer.names[index]
    return ".".join(filter(None, (writer.path, name)))


def _writers(level: Level) -> Iterator[RowWriter]:
    yield from _within(level.body)
    if level.named is not None:
        yield level.named.key


def _within(body: Object) -> Iterator[RowWriter]:
    yield body.writer
    for inset in body.insets:
        if isinstance(inset, Nested):
            for inner in inset.objects:
                yield from _within(inner)
        else:
            yield from (writer for _, writer in inset.steps)


def moments(
    timed: Sequence[Timed], levels: Sequence[Level], rows_by_level: Sequence[Rows]
) -> Mapping[Any, int]:
    """Return the soonest moment to come, in microseconds since 1970, by the root's key as it stands
    in rows; of documents that wait for one. What is no moment says nothing here: the document
    itself cannot be written."""
    now, found = clock.now_us(), dict[Any, int]()
    for each in timed:
        rows, width = rows_by_level[each.level], levels[each.level].key_width
        promises = getattr(rows, "promises", ())
        encode = each.form.encoder(promises[each.index] if promises else Promise.NOTHING)
        assert encode is not None
        for row in rows:
            raw = row[each.index]
            if raw is None:
                continue
            try:
                at = clock.microseconds(encode(raw)[1:-2])
            except ValueError:
                continue
            if at is not None and at > now:
                key = row[0] if width == 1 else tuple(row[:width])
                found[key] = min(at, found.get(key, at))
    return found
