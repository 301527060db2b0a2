"""Checks of a projection that hold for any database, beside what each asks of its own catalog."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from projector.checks import Check, failed, ok, warning
from projector.errors import ConfigurationError, PositionLostError
from projector.indexes import Explained
from projector.model import TableName
from projector.position import Parse, Position
from projector.projection import Plan
from projector.projection.nodes import Node
from projector.settings import Settings
from projector.variables import variable


class Unique(Protocol):
    """A table of the database's catalog."""

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns; none where there is none."""
        ...

    def is_unique_by(self, names: Sequence[str]) -> bool:
        """Return whether values of these columns belong to at most one row."""
        ...


def masks(plan: Plan) -> list[Check]:
    """Test that every mask has its key."""
    wanted = {mask.key_variable for mask in [*plan.hashed, *plan.views.masks]}
    return [
        failed(f"{plan.name}.masks", f"{name} is not set", "Set it to the key that masks a column.")
        for name in sorted(wanted)
        if not os.environ.get(name)
    ]


def unchosen(
    settings: Settings, roots: Sequence[TableName], is_there: Callable[[TableName], bool], way: str
) -> Check | None:
    """Return the next step of whoever has chosen no projection, in a database without the tables of
    the one that comes along. `way`: how to get one."""
    if "projection" in settings.model_fields_set or any(map(is_there, roots)):
        return None
    return failed(
        "projection",
        f"PROJECTOR_PROJECTION is not set, and there is no table {roots[0]} for the example that"
        " comes along",
        f"{way}; then set PROJECTOR_PROJECTION=mine.py:documents (docs/projection.md).",
    )


def views(plan: Plan) -> list[Check]:
    """Test that it is known which values of views' keys are one, of a plan that is fitted."""
    if not plan.views.in_use:
        return []
    name = f"{plan.name}.views"
    try:
        mark = plan.placer.mark
    except ConfigurationError as error:
        return [failed(name, error.message, error.remedy)]
    return [ok(name, f"{len(plan.views.keep)} views: {mark}")]


def keys(plan: Plan, there: Iterable[tuple[Node, Unique]]) -> list[Check]:
    """Test that what is declared unique is."""
    name = f"{plan.name}.keys"
    return list(_keys(name, there)) or [ok(name, "every key is unique")]


def _keys(name: str, there: Iterable[tuple[Node, Unique]]) -> Iterator[Check]:
    """Test what is declared unique: the keys, and the right side of each to-one join."""
    seen: set[str] = set()
    for node, facts in there:
        declared = tuple(c.name for c in node.table.primary_key)
        if declared and not facts.is_unique_by(declared) and node.table.name not in seen:
            seen.add(node.table.name)
            detail = f"{node.table.name}: ({', '.join(declared)}) is declared as primary key, and "
            detail += f"the table's is ({', '.join(facts.key)})" if facts.key else "it has none"
            judge = failed if node.parent is None else warning
            yield judge(
                name, f"{detail}: several rows may share it",
                "Declare primary_key=True on the columns of the table's primary key.",
            )  # fmt: skip
        own = [*(column.name for column, _ in node.pairs), *node.constants]
        is_to_one = node.parent is not None and node.declared is None and not node.is_through
        if is_to_one and not node.pick and not facts.is_unique_by(own):
            yield warning(
                name,
                f"{_role(node)} is joined to-one by ({', '.join(own)}), which is not unique:"
                " which of several rows a document shows is left to chance",
                "Join by a unique key; say which row counts, with Join(…, pick=order) or First; or"
                " declare a collection (Many).",
            )


def indexes(plan: Plan, found: Iterable[Explained]) -> list[Check]:
    """Test that every query and look-up has the indexes that it seeks by."""
    name = f"{plan.name}.indexes"
    return [
        warning(name, f"{missing.detail}, at each change along this join", missing.fix)
        for missing in dict.fromkeys(m for each in found for m in each.missing)
    ] or [ok(name, "every look-up and join has an index")]


def _role(node: Node) -> str:
    """Name a table, and the alias by which it stands there."""
    alias = node.source.description
    return alias if alias == node.table.name else f"{node.table.name} (as {alias})"


def checkpoint(
    settings: Settings,
    plan: Plan,
    fields: Mapping[str, str],
    parse: Parse,
    check: Callable[[Position], None],
) -> list[Check]:
    """Return what the daemon will do with what is stored: go on, or rebuild. `check` raises
    PositionLostError where the log cannot be read on from a position."""
    if "position" not in fields:
        return [ok(f"{plan.name}.checkpoint", "none: the first run builds all documents")]
    position = _position(settings, plan, fields["position"], parse, check)
    return [_fingerprint(settings, plan, fields), position]


def _fingerprint(settings: Settings, plan: Plan, fields: Mapping[str, str]) -> Check:
    name, stored = f"{plan.name}.fingerprint", fields.get("fingerprint", "")
    if stored == plan.fingerprint:
        return ok(name, f"{stored}: the stored documents were made with this projection")
    if settings.reconcile.on_projection_change == "stop":
        return failed(
            name,
            "the stored documents were made with another projection, and"
            " PROJECTOR_RECONCILE__ON_PROJECTION_CHANGE is stop",
            "Set it to resync for one run, or go back to the other projection.",
        )
    return ok(name, "the stored documents were made with another projection: all are rebuilt")


def _position(
    settings: Settings, plan: Plan, text: str, parse: Parse, check: Callable[[Position], None]
) -> Check:
    name = f"{plan.name}.position"
    try:
        position = parse(text)
    except ValueError:
        return failed(
            name,
            "the checkpoint in Redis cannot be read by this version",
            f"Go back to the version that wrote it, or DEL {{{plan.name}}}:checkpoint to build"
            " all documents again.",
        )
    try:
        check(position)
    except PositionLostError as error:
        if settings.database.on_position_lost == "stop":
            setting = variable((settings.database.section, "on_position_lost"))
            return failed(
                name,
                f"the log cannot be read on from the checkpoint: {error}",
                f"Set {setting}=resync to have all documents compared.",
            )
        return warning(
            name,
            f"the log cannot be read on from the checkpoint: {error}",
            "Nothing to do, if this is meant: the next run compares all documents and mends them.",
        )
    return ok(name, "the log can be read on from the checkpoint")
