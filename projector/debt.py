"""Work put off, recorded beside the checkpoint that passed it, and struck off when done.

Values with a text form that round-trips; never contains row values but the keys of a look-up.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from projector.position import Parse, Position
from projector.projection import Plan
from projector.record import read_object

ALL = "all"  # the key of the one walk over everything
LISTS = "lists"  # the key of a walk that puts every document into its lists
ORPHANS = "orphans"  # the key of a look for documents that the database does not have
REQUESTED = "requested"  # the reason of what somebody asked for, and may cancel
REPAIR = "repair"  # the reason of what a verification asked for
LISTS_CHANGED = "lists_changed"  # the reason where lists are not as they were written
VIEWS_CHANGED = "views_changed"  # where other views are declared
DOUBTED = "doubted"  # of what was read shortly before the database was away
DUE = "due"  # of documents that show a moment which has come
GREW = "hash_grew"  # the reason of a look for orphans: others wrote to the hash

# Reasons of debts that no commit waits for.
NO_LAG = frozenset({REQUESTED, REPAIR, DOUBTED, DUE, GREW, LISTS_CHANGED, VIEWS_CHANGED})


@dataclass(frozen=True, slots=True)
class Debt:
    """A walk that is owed.

    `scope`: `all` documents, certain `ids`, or those of a look-up (`route`: `name`, `values`).
    `phase`: `write` goes through the database's ids, `orphans` through the store's, `strays`
    through the entries of lists. `cursor`: the last id (or scan cursor) done, None before the first
    chunk. `again`: why one more round is owed.
    `onto_empty`: the hash was empty when the walk began, so that no orphan can stand in it.
    `barrier`: the position behind which its cause can be seen; None where nothing in the log caused
    it, and in what an older version recorded.
    """

    scope: Literal["all", "ids", "route"]
    reason: str
    ids: tuple[str, ...] = ()
    name: str = ""
    values: tuple[tuple[Any, ...], ...] = ()
    phase: Literal["write", "orphans", "strays"] = "write"
    cursor: str | None = None
    again: str = ""
    barrier: Position | None = None
    onto_empty: bool = False
    done: int = 0
    total: int = 0
    written: int = 0
    removed: int = 0
    started_at: float = 0.0

    def to_json(self) -> str:
        """Write the debt; `from_json` reads it back."""
        fields = ((name, getattr(self, name)) for name in _SHAPES)
        said = {name: value for name, value in fields if value not in ((), "", None, False)}
        if self.barrier is not None:
            said["barrier"] = str(self.barrier)
        if self.values:
            said["values"] = [[_pack(v) for v in row] for row in self.values]
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, parse: Parse) -> Debt:
        """Read what `to_json` wrote; `parse` reads positions. Raises ValueError for all else: what
        a newer version means by a field that this one does not know, nobody here can tell."""
        said = read_object(text)
        if not {"scope", "reason"} <= said.keys() <= _SHAPES.keys():
            raise ValueError("not the fields of a debt")
        for name, value in said.items():
            if not _SHAPES[name](value):
                raise ValueError(f"{name} of a debt is not what it can be")
        said["ids"] = tuple(said.get("ids", ()))
        said["values"] = tuple(tuple(_unpack(v) for v in row) for row in said.get("values", ()))
        if "barrier" in said:
            said["barrier"] = parse(said["barrier"])
        return cls(**said)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_moment(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e11


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_values(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and row and all(_is_packed(item) for item in row) for row in value
    )


def _is_packed(value: Any) -> bool:
    if isinstance(value, dict):
        return value.keys() == {"hex"} and isinstance(value["hex"], str)
    return isinstance(value, int | str)


_SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "scope": ("all", "ids", "route").__contains__,
    "reason": _is_text,
    "ids": _are_ids,
    "name": _is_text,
    "values": _are_values,
    "phase": ("write", "orphans", "strays").__contains__,
    "cursor": _is_text,
    "again": _is_text,
    "barrier": _is_text,
    "onto_empty": _is_flag,
    "done": _is_count,
    "total": _is_count,
    "written": _is_count,
    "removed": _is_count,
    "started_at": _is_moment,
}


def usable(texts: Mapping[str, str], plan: Plan, parse: Parse) -> tuple[dict[str, Debt], set[str]]:
    """Read what is owed; return it with the keys of what cannot be read or done for this plan."""
    found: dict[str, Debt] = {}
    for key, text in texts.items():
        try:
            debt = Debt.from_json(text, parse)
            _check(debt, plan)
        except ValueError:
            continue
        # A scan's cursor means something to the server process that gave it, which may have ended.
        found[key] = replace(debt, cursor=None) if debt.phase != "write" else debt
    return found, texts.keys() - found.keys()


def _check(debt: Debt, plan: Plan) -> None:
    """Raise ValueError for what this projection cannot work off."""
    if debt.scope == "ids":
        if not 0 <= int(debt.cursor or 0) < len(debt.ids):
            raise ValueError("a place behind the end")
    elif debt.cursor is not None and debt.phase == "write":
        plan.codec.to_values(debt.cursor)
    if debt.scope == "route":
        look_up = plan.look_ups.get(debt.name)
        if look_up is None or {len(row) for row in debt.values} != {len(look_up.columns)}:
            raise ValueError("not a look-up of this projection")


def full(reason: str) -> Debt:
    """Owe a walk over everything."""
    return Debt("all", reason, started_at=time.time())


def ids_debt(ids: Iterable[str], reason: str) -> tuple[str, Debt]:
    """Owe certain documents; give the debt with its key."""
    chosen = tuple(sorted(set(ids)))
    return f"ids:{_digest(chosen)}", Debt("ids", reason, ids=chosen, started_at=time.time())


def route_debt(name: str, values: Iterable[tuple[Any, ...]]) -> tuple[str, Debt]:
    """Owe the documents of a look-up; the same look-up owed twice has the same key."""
    chosen = tuple(sorted(values, key=repr))
    debt = Debt("route", "fanout", name=name, values=chosen, started_at=time.time())
    return f"route:{_digest((name, chosen))}", debt


def read_request(text: str) -> tuple[str, list[str], str] | None:
    """Read what the command line asked for: kind, ids, reason; None where nobody can."""
    try:
        said = read_object(text)
    except ValueError:
        return None
    kind, ids, reason = said.get("kind"), said.get("ids") or [], said.get("reason", REQUESTED)
    is_readable = isinstance(ids, list) and all(isinstance(each, str) for each in ids)
    if not is_readable or not isinstance(kind, str) or reason not in (REQUESTED, REPAIR):
        return None
    return kind, ids, reason


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _pack(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return value if isinstance(value, int | str) else str(value)


def _unpack(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
