"""Work put off, recorded beside the checkpoint that passed it, and struck off when done.

Values with a text form that round-trips; never contains row values but the keys of a look-up.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

ALL = "all"  # the key of the one walk over everything
REQUESTED = "requested"  # the reason of what somebody asked for, and may cancel


@dataclass(frozen=True, slots=True)
class Debt:
    """A walk that is owed.

    `scope`: `all` documents, certain `ids`, or those of a look-up (`route`: `name`, `values`).
    `phase`: `write` goes through the database's ids, `orphans` through the store's. `cursor`: the
    last id (or scan cursor) done, None before the first chunk. `again`: one more round is owed.
    `onto_empty`: the hash was empty when the walk began, so that no orphan can stand in it.
    """

    scope: Literal["all", "ids", "route"]
    reason: str
    ids: tuple[str, ...] = ()
    name: str = ""
    values: tuple[tuple[Any, ...], ...] = ()
    phase: Literal["write", "orphans"] = "write"
    cursor: str | None = None
    again: bool = False
    onto_empty: bool = False
    done: int = 0
    total: int = 0
    written: int = 0
    removed: int = 0
    started_at: float = 0.0

    def to_json(self) -> str:
        """Write the debt; `from_json` reads it back."""
        said = {k: v for k, v in asdict(self).items() if v not in ((), "", None, False)}
        if self.values:
            said["values"] = [[_pack(v) for v in row] for row in self.values]
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Debt:
        """Read what `to_json` wrote."""
        said = json.loads(text)
        said["ids"] = tuple(said.get("ids", ()))
        said["values"] = tuple(tuple(_unpack(v) for v in row) for row in said.get("values", ()))
        return cls(**said)


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


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _pack(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return value if isinstance(value, int | str) else str(value)


def _unpack(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
