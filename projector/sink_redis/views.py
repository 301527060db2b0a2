"""The lists of one store, as far as they are not written: what stands in them, and how much.

In use once views are declared, and until the last list of former ones is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from projector.errors import OperatorError
from projector.model import ViewFigures
from projector.record import text_of
from projector.sink_redis.act import NO_VIEWS, Keys, chunked
from projector.sink_redis.client import Server
from projector.sink_redis.lists import DISPLACED, LOOK, RENEW_LISTS, STRAYS
from projector.sink_redis.names import Names

_IDS_AT_ONCE = 500
_LISTS_AT_ONCE = 100
_SAMPLED = 5  # lists of a view whose memory is asked for


class Lists:
    """`keep`: by name of each view that is declared, how many entries stay for certain, 0: all."""

    def __init__(self, server: Server, keys: Keys, keep: Mapping[str, int]) -> None:
        self._server = server
        self._hash = keys.hash
        self._keys = keys.with_lists()
        *_, self._listed, _, _ = self._keys
        self._looked_at = [keys.hash, keys.checkpoint, *self._keys[-3:]]
        self.keep = {view: count for view, count in keep.items() if count}
        self.views = sorted(keep)
        self.in_use = bool(keep)
        self._looking = ("", "0")  # the view whose lists are looked at next, and from where
        self._listed_names = Names(server, self._listed)

    @property
    def keys(self) -> list[str]:
        """The keys of scripts that write lists."""
        return self._keys

    def load(self, checkpoint: Mapping[str, str]) -> bool:
        """Learn from a checkpoint which lists there are; whether they are not as recorded."""
        stored = {k.removeprefix("view:") for k in checkpoint if k.startswith("view:")}
        self.views = sorted({*self.views, *stored})
        is_known = checkpoint.get("listed", "0") != "0" or bool(stored)
        self.in_use = self.in_use or is_known or mark_of(checkpoint) != ""
        return self.in_use and bool(self._server.script(LOOK, self._looked_at, []))

    def renew(self, names: Sequence[str], given: Sequence[Any]) -> list[Any]:
        """Extend the lease, and look at some lists, others each time; see `RENEW_LISTS`."""
        views = self.views
        view = next((each for each in views if each >= self._looking[0]), "")
        place = self._looking[1] if view == self._looking[0] else "0"
        reply = self._server.script(
            RENEW_LISTS, [*names, *self._keys[-3:]], [*given, view, place, _LISTS_AT_ONCE]
        )
        if len(reply) < 5:  # not held, or no checkpoint
            return [*reply, 0]
        following = text_of(reply[4])
        beyond = next((each for each in views if each > view), "")
        self._looking = (view, following) if following != "0" else (beyond, "0")
        return list(reply[:4])

    def displaced(self, places: Mapping[str, str]) -> frozenset[str]:
        """Return those ids that do not stand in these lists."""
        kept = [part for item in self.keep.items() for part in item]
        found: set[str] = set()
        for some in chunked(list(places), _IDS_AT_ONCE):
            pairs = [part for k in some for part in (k, places[k])]
            given = [*pairs, *kept, len(self.keep)]
            found.update(map(text_of, self._server.script(DISPLACED, self._looked_at, given)))
        return frozenset(found)

    def strays(
        self, cursor: str | None, count: int
    ) -> tuple[str | None, int, frozenset[tuple[str, str]]]:
        """Look at some entries of lists; see `ports.Sink`. The cursor is where among the views,
        their lists and the entries of one it stands."""
        if not self.views:
            return None, 0, frozenset()
        view, place, lists, entry = json.loads(cursor) if cursor else (self.views[0], "0", [], "0")
        if not lists:
            following, found = self._server.call(
                "HSCAN", self._of_view(view), place, "COUNT", _LISTS_AT_ONCE
            )
            place = text_of(following) if isinstance(following, bytes) else str(following)
            lists = [f"{view}:{text_of(name)}" for name in _fields(found)]
        looked, strays = 0, set[tuple[str, str]]()
        while lists and looked < count:
            given = [lists[0], entry, _IDS_AT_ONCE]
            following, seen, ids = self._server.script(STRAYS, self._looked_at, given)
            strays.update((lists[0], text_of(each)) for each in ids)
            looked += int(seen) + 1
            entry = text_of(following)
            if entry == "0":
                lists = lists[1:]
        return self._after(view, place, lists, entry), looked, frozenset(strays)

    def _after(self, view: str, place: str, lists: Sequence[str], entry: str) -> str | None:
        if not lists and place == "0":
            beyond = [other for other in self.views if other > view]
            return json.dumps([beyond[0], "0", [], "0"]) if beyond else None
        return json.dumps([view, place, lists, entry])

    def listed(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """Return some ids that stand in lists, and the cursor to go on with."""
        following, found = self._listed_names.after(cursor, count)
        return following, [text_of(each) for each in found]

    def recorded(self, ids: Sequence[str]) -> set[str]:
        """Return those ids that stand in lists."""
        found: set[str] = set()
        for some in chunked(ids, _IDS_AT_ONCE):
            values = self._server.call("HMGET", self._listed, *some)
            found.update(k for k, value in zip(some, values, strict=True) if value is not None)
        return found

    def figures(self) -> dict[str, ViewFigures]:
        """Return how much each view holds; its bytes by a sample, where the ACL allows to ask."""
        found: dict[str, ViewFigures] = {}
        names = [f"view:{view}" for view in self.views]
        values = self._server.call("HMGET", self._looked_at[1], *names) if names else []
        for view, value in zip(self.views, values, strict=True):
            members, _, lists = text_of(value or b"0 0").partition(" ")
            found[view] = ViewFigures(int(members), int(lists), self._bytes(view, int(members)))
        return found

    def _bytes(self, view: str, members: int) -> int | None:
        """Estimate by the largest of some lists and by the smaller ones alike."""
        try:
            _, found = self._server.call("HSCAN", self._of_view(view), "0", "COUNT", _SAMPLED)
            sampled, size = 0, 0
            for value, count in list(_fields(found).items())[:_SAMPLED]:
                key = f"{{{self._hash}}}:by:{view}:{text_of(value)}"
                size += int(self._server.call("MEMORY USAGE", key, "SAMPLES", "20") or 0)
                sampled += int(text_of(count).split(" ")[0])
        except OperatorError:
            return None
        return round(size / sampled * members) if sampled else 0

    def _of_view(self, view: str) -> str:
        return f"{{{self._hash}}}:lists:{view}"


def mark_of(checkpoint: Mapping[str, str]) -> str:
    """Return the mark of the views that a store has, "" for none."""
    found = checkpoint.get("views", "")
    return "" if found == NO_VIEWS else found


def _fields(reply: Any) -> dict[bytes, bytes]:
    """Read an answer to HSCAN, which the client may have made a mapping."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))
