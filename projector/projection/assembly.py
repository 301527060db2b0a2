"""From the rows of a projection's queries to its documents, by the compiled core or in Python.

Both give the same bytes; what the core cannot write is left to Python, which says of which document
and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from projector import compiled
from projector.errors import ConfigurationError
from projector.projection.encoding import Promises, Raw, RowWriter, text
from projector.projection.keys import KeyCodec
from projector.projection.levels import (
    Level,
    Named,
    Nested,
    Object,
    RowKey,
    Rows,
    Trail,
)

_TWICE = "a key that stands twice"
_REPEATED = {"last": 0, "list": 1, "refuse": 2}  # as the compiled core knows them
_TWO_FIGURES = "two groups of rows under one name"
_RowsOf = Mapping[int, Rows]  # by the level's identity
Write = Callable[[Sequence[Raw], RowKey], bytes]  # of a row and its own key


@dataclass(frozen=True, slots=True)
class _Groups:
    """The written rows of a collection by the key of the row that they belong to, what stands where
    there are none, and why those of some keys cannot be written."""

    written: Mapping[RowKey, bytes]
    empty: bytes
    failed: Mapping[RowKey, str]


class _UnwritableError(ValueError):
    """A collection of a row that is shown cannot be written: the column, and why."""


def assemble(
    top: Level, rows_by_level: Sequence[Rows], codec: KeyCodec
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Make documents by id of the rows of `top.all()`; and the reasons, by id, of those that
    have a value without a JSON form."""
    if (pairs := _compiled(top, rows_by_level)) is not None:
        return {codec.to_id(key): document for key, document in pairs}, {}
    failed: dict[RowKey, str] = {}
    rows_of: _RowsOf = {
        id(level): rows for level, rows in zip(top.all(), rows_by_level, strict=True)
    }
    documents: dict[str, bytes] = {}
    rows = rows_of[id(top)]
    promises = _promises(rows)
    write = _object(top.body, rows_of, promises)
    for row in rows:
        key = top.own(row)
        try:
            fragment = write(row, key)
        except ValueError as error:
            failed[key] = _reason(top.body, row, promises, error)
            continue
        parts = (key,) if top.key_width == 1 else key
        documents[codec.to_id(parts)] = b"{%b}" % fragment
    width = top.key_width
    reasons = {codec.to_id((k,) if width == 1 else k): why for k, why in failed.items()}
    return documents, reasons


def _object(body: Object, rows_of: _RowsOf, promises: Promises) -> Write:
    """Make the function that writes the members of an object, without its braces."""
    encode = body.writer.encoder(promises)
    below = [_grouped(child, rows_of) for child in body.children]
    insets = [
        _nested(inset, rows_of, promises) if isinstance(inset, Nested) else _trail(inset, promises)
        for inset in body.insets
    ]
    if not below and not insets:
        return lambda row, key: encode(row)

    def write(row: Sequence[Raw], key: RowKey) -> bytes:
        fragment = encode(row)
        for groups in below:
            if groups.failed and key in groups.failed:
                raise _UnwritableError(groups.failed[key])
            fragment += groups.written.get(key, groups.empty)
        for inset in insets:
            fragment += inset(row, key)
        return fragment

    return write


def _nested(inset: Nested, rows_of: _RowsOf, promises: Promises) -> Write:
    label, nothing = inset.label, inset.label + b"null"
    kinds = [
        (mark, _object(body, rows_of, promises))
        for mark, body in zip(inset.marks, inset.objects, strict=True)
    ]

    def write(row: Sequence[Raw], key: RowKey) -> bytes:
        for mark, inner in kinds:
            if row[mark] is not None:
                return b"%b{%b}" % (label, inner(row, key))
        return nothing

    return write


def _trail(inset: Trail, promises: Promises) -> Write:
    label = inset.label
    steps = [(place, writer.encoder(promises)) for place, writer in inset.steps]

    def write(row: Sequence[Raw], key: RowKey) -> bytes:
        seen: set[Raw] = set()
        values = []
        for place, encode in steps:
            own = row[place]
            if own is None or own in seen:
                break
            seen.add(own)
            values.append(encode(row))
        return b"%b[%b]" % (label, b",".join(values))

    return write


def _reason(body: Object, row: Sequence[Raw], promises: Promises, error: ValueError) -> str:
    """Name the column for which writing a row failed, of the row or of a collection in it."""
    if isinstance(error, _UnwritableError):
        return str(error)
    return _reason_within(body, row, promises) or "unknown"


def _reason_within(body: Object, row: Sequence[Raw], promises: Promises) -> str:
    """Name the column of a row that cannot be written, and say why; "" where all can."""
    if found := body.writer.reason(row, promises):
        return found
    for inset in body.insets:
        if isinstance(inset, Nested):
            kinds = zip(inset.marks, inset.objects, strict=True)
            inner = next((o for mark, o in kinds if row[mark] is not None), None)
            found = _reason_within(inner, row, promises) if inner is not None else ""
        else:
            found = _first(writer.reason(row, promises) for _, writer in inset.steps)
        if found:
            return found
    return ""


def _first(found: Iterable[str]) -> str:
    return next(filter(None, found), "")


def _grouped(level: Level, rows_of: _RowsOf) -> _Groups:
    """Write the rows of a collection, by the key of the row that each belongs to."""
    if level.named is not None:
        return _pairs(level, level.named, rows_of[id(level)])
    lists: dict[RowKey, list[bytes]] = {}
    failed: dict[RowKey, str] = {}
    rows, parent, own = rows_of[id(level)], level.parent, level.own
    promises = _promises(rows)
    write = _object(level.body, rows_of, promises)
    for row in rows:
        try:
            fragment = write(row, own(row))
        except ValueError as error:
            failed[parent(row)] = _reason(level.body, row, promises, error)
            continue
        lists.setdefault(parent(row), []).append(
            b"{%b}" % fragment if level.is_object else fragment
        )
    if level.nothing in failed:
        column, _, why = failed[level.nothing].partition(": ")
        raise ConfigurationError(
            f"figures over no rows of {level.node.source.description}: {why} ({column})",
            "Give them another value over no rows.",
        )
    before, after = level.before, level.after
    groups = {key: before + b",".join(found) + after for key, found in lists.items()}
    return _Groups(groups, groups.pop(level.nothing, level.empty), failed)


def _pairs(level: Level, named: Named, rows: Rows) -> _Groups:
    """Write rows of names and values as objects, their members in the order of the names."""
    promises = _promises(rows)
    name_of, plain = _name(named.key, promises), level.body.writer
    writers = {key: writer.encoder(promises) for key, writer in named.by_key.items()}
    encode, place = plain.encoder(promises), named.key.first
    failed: dict[RowKey, str] = {}
    objects: dict[RowKey, dict[bytes, list[bytes]]] = {}
    for row in rows:
        key = level.parent(row)
        try:
            name = name_of(row)
            value = writers.get(row[place] or b"", encode)(row)
        except ValueError:
            writer = named.by_key.get(row[place] or b"", plain)
            reasons = (named.key.reason(row, promises), writer.reason(row, promises))
            failed[key] = _first(reasons)
            continue
        if name is None:
            continue
        values = objects.setdefault(key, {}).setdefault(name, [])
        if values and (named.is_counted or named.repeated == "refuse"):
            failed[key] = f"{plain.path}: {_TWO_FIGURES if named.is_counted else _TWICE}"
        values.append(value)
    is_list = named.repeated == "list"
    written = {
        key: level.before
        + b",".join(
            b"%b:%b" % (name, b"[%b]" % b",".join(found[name]) if is_list else found[name][-1])
            for name in sorted(found)
        )
        + level.after
        for key, found in objects.items()
    }
    return _Groups(written, level.empty, failed)


def _name(writer: RowWriter, promises: Promises) -> Callable[[Sequence[Raw]], bytes | None]:
    """Make the function that writes the name of a member: a text, whatever the key's type."""
    encode = writer.encoder(promises)

    def name(row: Sequence[Raw]) -> bytes | None:
        written = encode(row)
        if written.startswith(b'"'):
            return written
        return None if written == b"null" else text(written)

    return name


def _promises(rows: Rows) -> Promises:
    promises: Promises = getattr(rows, "promises", ())
    return promises


def _compiled(
    top: Level, rows_by_level: Sequence[Rows]
) -> list[tuple[tuple[bytes, ...], bytes]] | None:
    """Let the compiled core make pairs of key and document; None where Python is to do it."""
    core = compiled.core
    if core is None or not all(isinstance(rows, core.Rows) for rows in rows_by_level):
        return None
    promises = tuple(map(_promises, rows_by_level))
    if promises not in top.encoders:
        top.encoders[promises] = core.Encoder(_spelled(top.all(), promises))
    found: list[tuple[tuple[bytes, ...], bytes]] | None
    found = top.encoders[promises].documents(list(rows_by_level))
    return found


def _spelled(levels: Sequence[Level], promises: Sequence[Promises]) -> tuple[Any, ...]:
    """Return what the core has to know of each level (see `_native.pyi`)."""
    number = {id(level): index for index, level in enumerate(levels)}

    def spelled(body: Object, promised: Promises) -> tuple[Any, ...]:
        insets = tuple(
            (inset.label, False, tuple(spelled(inner, promised) for inner in inset.objects))
            if isinstance(inset, Nested)
            else (
                inset.label, True,
                tuple((writer.spelled(promised), (), ()) for _, writer in inset.steps),
            )
            for inset in body.insets
        )  # fmt: skip
        children = tuple(number[id(child)] for child in body.children)
        return body.writer.spelled(promised), children, insets

    return tuple(
        (
            level.parent_width,
            level.named.key.first if level.named is not None else level.body.writer.first,
            level.body.writer.is_plain, level.is_object, level.before, level.after, level.empty,
            spelled(level.body, promised), _spelled_names(level.named, promised),
        )
        for level, promised in zip(levels, promises, strict=True)
    )  # fmt: skip


def _spelled_names(named: Named | None, promises: Promises) -> tuple[Any, ...] | None:
    if named is None:
        return None
    [key] = named.key.spelled(promises)
    values = tuple((name, *writer.spelled(promises)) for name, writer in named.by_key.items())
    return key, values, 2 if named.is_counted else _REPEATED[named.repeated]
