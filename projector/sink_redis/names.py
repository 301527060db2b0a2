"""The names of a hash's fields, a few at a time, without its values.

Never lets one question hold the server up: where it cannot leave the values out, it is asked for as
few as their sizes allow.
"""

from __future__ import annotations

from typing import Any

from projector.sink_redis.client import Server
from projector.sink_redis.scripts import SCAN

_LEAST = 4
_MOST = 100  # the next values may be larger than all before
_MOVED_BYTES = 8 << 20  # from the hash into the script, by one question


class Names:
    """Asks by HSCAN. For one thread at a time, or several: a lost size is learned again."""

    def __init__(self, server: Server, key: str) -> None:
        self._server = server
        self._key = key
        self._has_novalues = True  # until the server says otherwise
        self._count = _LEAST

    def after(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor, 0 at the end, and about `count` names."""
        if self._has_novalues:
            found = self._server.names(self._key, cursor, count)
            if found is not None:
                return found
            self._has_novalues = False
        names: list[bytes] = []
        while len(names) < count:
            following, some, moved = self._ask(cursor)
            names += some
            if moved > _MOVED_BYTES:
                self._count = max(1, self._count * _MOVED_BYTES // moved)
            elif moved < _MOVED_BYTES // 4:
                self._count = min(_MOST, 2 * self._count)
            cursor = following
            if cursor == 0:
                break
        return cursor, names

    def _ask(self, cursor: int) -> tuple[int, list[bytes], int]:
        found: Any = self._server.script(SCAN, [self._key], [cursor, self._count])
        return int(found[0]), found[1], int(found[2])
