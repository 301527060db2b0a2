"""PGSync with a hash in Redis as its target: `pgsync_to_redis.py --config FILE --daemon`.

Run by an interpreter that has PGSync (`beside_pgsync` makes one), so it imports nothing of ours.
The target is put in as PGSync provides for (`pgsync.sink.Sink`, `Sync.make_search_client`). In
favour of PGSync: what it writes can be searched at once, where a search engine takes up to a second
to show it, and the search for documents by what they hold is a look into this process's own memory.
"""

import collections
import itertools
import json
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import redis
from pgsync.constants import META
from pgsync.sink import Sink
from pgsync.sync import Sync, main

_CHUNK = 500


class RedisHash(Sink):
    """Documents by id in the hash of the index's name; places of what they hold, in memory."""

    name = "Redis"

    def __init__(self) -> None:
        self._redis = redis.Redis.from_url(os.environ["REDIS_URL"])
        self._lock = threading.Lock()
        self._holding: dict[tuple[str, str, str], set[str]] = collections.defaultdict(set)
        self._places: dict[str, list[tuple[str, str, str]]] = {}

    def _create_setting(self, index: str, tree: Any, **_: Any) -> None:
        """Find out what the hash holds from before."""
        for key, value in self._redis.hscan_iter(index, count=_CHUNK):
            self._place(key.decode(), json.loads(value)[META])

    def bulk(self, index: str, actions: Iterable[Any], **_: Any) -> None:
        """Write documents and delete some, in the order in which they come."""
        coming = iter(actions)
        while chunk := list(itertools.islice(coming, _CHUNK)):
            with self._lock, self._redis.pipeline(transaction=False) as pipe:
                for action in chunk:
                    key = action["_id"]
                    if action.get("_op_type") == "delete":
                        pipe.hdel(index, key)
                        self._place(key, {})
                    else:
                        pipe.hset(index, key, json.dumps(action["_source"], default=str))
                        self._place(key, action["_source"][META])
                pipe.execute()
            self.doc_count += len(chunk)

    def _search(self, index: str, table: str, fields: Any = None) -> Iterator[str]:
        """Yield the ids of documents that hold one of the values in each of the fields."""
        with self._lock:
            if not fields:  # as a search without a condition
                found = set(self._places)
            else:
                each = [
                    set().union(*(self._holding.get((table, key, str(v)), ()) for v in values))
                    for key, values in fields.items()
                ]
                found = set.intersection(*each)
        yield from sorted(found)

    def _place(self, key: str, meta: dict[str, Any]) -> None:
        for place in self._places.pop(key, ()):
            self._holding[place].discard(key)
        self._places[key] = [
            (table, name, str(value))
            for table, names in meta.items()
            for name, values in names.items()
            for value in values
        ]
        for place in self._places[key]:
            self._holding[place].add(key)
        if not meta:
            del self._places[key]


if __name__ == "__main__":
    Sync.make_search_client = lambda self: RedisHash()
    main()
