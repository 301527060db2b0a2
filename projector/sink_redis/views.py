"""The lists of one store, as far as they are not written: what stands in them, and how much.

In use once views are declared, and until the last list of former ones is gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from projector.errors import DeniedError, OperatorError
from projector.model import ViewFigures
from projector.projection.timed import LIST as TIMED
from projector.record import read_number, text_of
from projector.sink_redis.act import NO_VIEWS, Keys, chunked
from projector.sink_redis.client import Server, UnusableKeyError
from projector.sink_redis.lists import DISPLACED, DUE, LOOK, RENEW_LISTS, STRAYS, UNKNOWN
from projector.sink_redis.names import Names

_IDS_AT_ONCE = 500
_LISTS_AT_ONCE = 100
_KEYS_AT_ONCE = 1000  # of which one SCAN looks at
_SCAN_COST = 100  # entries that could be looked at instead of a scan of names
_SAMPLED = 5  # lists of a view whose memory is asked for


class Lists:
    """`keep`: by name of each view that is declared, how many entries stay for certain, 0: all."""

    def __init__(self, server: Server, keys: Keys, keep: Mapping[str, int]) -> None:
        self._server = server
        self._hash = keys.hash
        self._prefix = f"{{{keys.hash}}}:by:"
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
        self._looking = (view, following) if following != "0" else (self._beyond(view), "0")
        return list(reply[:4])

    def displaced(self, places: Mapping[str, str]) -> frozenset[str]:
        """Return those ids that do not stand in these lists."""
        kept = [part for item in self.keep.items() for part in item]
        found: set[str] = set()
        for some in chunked(list(places), _IDS_AT_ONCE):
            pairs = [part for k in some for part in (k, places[k])]
            given = [*pairs, *kept, len(self.keep)]
            with self.named({k: places[k] for k in some}):
                found.update(map(text_of, self._server.script(DISPLACED, self._looked_at, given)))
        return frozenset(found)

    def strays(
        self, cursor: str | None, count: int
    ) -> tuple[str | None, int, frozenset[tuple[str, str]]]:
        """Look at some entries of lists; see `ports.Sink`. The cursor is where among the views,
        their lists and the entries of one it stands; last come lists that no view has recorded."""
        at = json.loads(cursor) if cursor else (self._beyond(""), "0", None, "0")
        view, place, lists, entry = at
        looked, strays = 0, set[tuple[str, str]]()
        while looked < count:
            if lists is None:
                place, lists = self._more(view, place)
                looked += _SCAN_COST
            ended = view if place == "0" else ""
            if lists or ended:
                given = [entry, _IDS_AT_ONCE, ended, *lists]
                with self.named({}, lists):
                    reply = self._server.script(STRAYS, self._looked_at, given)
                lists, entry = lists[int(reply[0]) :], text_of(reply[1])
                looked += int(reply[2])
                strays |= _pairs(reply[3])
            if not lists:
                lists = None
                if place == "0":
                    if not view:
                        return None, looked, frozenset(strays)
                    view = self._beyond(view)
        return json.dumps([view, place, lists, entry]), looked, frozenset(strays)

    def due(self, until_us: int, limit: int) -> dict[str, str]:
        """Return ids that stand in the list of moments to come with one that has; see
        `ports.Sink`."""
        with self.named({}, [TIMED]):
            reply = self._server.script(DUE, self._looked_at, [TIMED, until_us, limit])
        return {text_of(k): text_of(v) for k, v in zip(reply[::2], reply[1::2], strict=True)}

    def _beyond(self, view: str) -> str:
        return next((each for each in self.views if each > view), "")

    def _more(self, view: str, place: str) -> tuple[str, list[str]]:
        """Return names of lists: of a view, or else such as no view has recorded."""
        if view:
            following, found = self._server.call(
                "HSCAN", self._of_view(view), place, "COUNT", _LISTS_AT_ONCE
            )
            place = text_of(following) if isinstance(following, bytes) else str(following)
            return place, [f"{view}:{text_of(name)}" for name in _fields(found)]
        pattern = re.sub(r"[\\*?\[\]]", r"\\\g<0>", self._prefix) + "*"
        try:
            cursor, keys = self._server.sorted_sets(pattern, self._hash, int(place), _KEYS_AT_ONCE)
        except DeniedError:  # by a user with less than deploy/redis.acl
            return "0", []
        lists = [text_of(key).removeprefix(self._prefix) for key in keys]
        named = [name for name in lists if ":" in name]
        unknown = self._server.script(UNKNOWN, self._looked_at, named) if named else []
        return str(cursor), [text_of(name) for name in unknown]

    @contextmanager
    def named(self, places: Mapping[str, str], lists: Iterable[str] = ()) -> Iterator[None]:
        """Name the key that holds another type than it should, of the lists in which ids stand or
        are to stand, and of `lists`."""
        try:
            yield
        except UnusableKeyError as error:
            stood = self._server.call("HMGET", self._listed, *places) if places else []
            texts = [*places.values(), *(text_of(value) for value in stood if value)]
            lines = [line for text in texts for line in text.split("\n")]
            key = self.unusable_key([*lists, *(line.partition(" ")[2] for line in lines)])
            if key is None:
                raise
            raise UnusableKeyError.of(key) from error

    def unusable_key(self, lists: Iterable[str] = ()) -> str | None:
        """Find a key among those of views and of some lists that holds something else."""
        asked = [("HLEN", self._of_view(view)) for view in self.views]
        asked += [("ZCARD", self._prefix + name) for name in dict.fromkeys(lists) if name]
        for command, key in asked:
            try:
                self._server.call(command, key)
            except UnusableKeyError:
                return key
        return None

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
            count = int(read_number(members))
            found[view] = ViewFigures(count, int(read_number(lists)), self._bytes(view, count))
        return found

    def _bytes(self, view: str, members: int) -> int | None:
        """Estimate by the largest of some lists and by the smaller ones alike."""
        try:
            _, found = self._server.call("HSCAN", self._of_view(view), "0", "COUNT", _SAMPLED)
            sampled, size = 0, 0
            for value, count in list(_fields(found).items())[:_SAMPLED]:
                key = f"{self._prefix}{view}:{text_of(value)}"
                size += int(self._server.call("MEMORY USAGE", key, "SAMPLES", "20") or 0)
                sampled += int(read_number(text_of(count).split(" ")[0]))
        except OperatorError:
            return None
        return round(size / sampled * members) if sampled else 0

    def _of_view(self, view: str) -> str:
        return f"{{{self._hash}}}:lists:{view}"


def mark_of(checkpoint: Mapping[str, str]) -> str:
    """Return the mark of the views that a store has, "" for none."""
    found = checkpoint.get("views", "")
    return "" if found == NO_VIEWS else found


def _pairs(reply: Sequence[bytes]) -> set[tuple[str, str]]:
    """Read lists with ids. Where a list has to be counted again its view has to be, too."""
    pairs = {(text_of(k), text_of(v)) for k, v in zip(reply[::2], reply[1::2], strict=True)}
    return pairs | {(f"{name.partition(':')[0]}:", "") for name, k in pairs if not k}


def _fields(reply: Any) -> dict[bytes, bytes]:
    """Read an answer to HSCAN, which the client may have made a mapping."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))
