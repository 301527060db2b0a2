"""The stores that the contract suite runs on: Redis and Valkey, a cluster of three, and memory."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

from redis.cluster import RedisCluster

from projector.model import Damage
from projector.mysql.position import Position
from projector.ports import Sink
from projector.settings import Redis as RedisSettings
from projector.sink_redis import RedisSink
from tests.memory_sink import MemorySink, MemoryStore
from tests.servers import RedisServer, TcpProxy

NAME = "tickets"
LATE_S = 0.4  # of a chunk through a slow proxy; the reply is later than the sink waits
PATIENCE_S = 0.6


class Store(Protocol):
    """A store and what tests do to it behind the sinks' backs."""

    def sink(self, ttl_s: float = 5.0, *, views: Mapping[str, int] = {}) -> Sink: ...
    def close(self) -> None: ...
    def wipe(self) -> None: ...
    def forget_scripts(self) -> None: ...
    def copy(self) -> Any: ...
    def restore(self, copied: Any) -> None: ...
    def expire_lease(self) -> None: ...
    def lose(self, document_id: str) -> None: ...
    def add(self, document_id: str) -> None: ...
    def forgive(self) -> None: ...
    def lose_checkpoint(self) -> None: ...
    def lists(self) -> dict[str, list[tuple[str, float]]]: ...
    def lose_list(self, name: str) -> None: ...
    def lose_listed(self) -> None: ...
    def put(self, name: str, document_id: str, score: float) -> None: ...
    def ask(self, payload: dict[str, Any]) -> str: ...
    def records(self, name: str) -> dict[str, str]: ...
    def limit_values(self, size: int) -> None: ...


class OfMemory:
    """The store in memory."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def sink(self, ttl_s: float = 5.0, *, views: Mapping[str, int] = {}) -> Sink:
        return MemorySink(self.store, ttl_s, views=views)

    def close(self) -> None:
        pass

    def wipe(self) -> None:
        self.store.wipe()

    def forget_scripts(self) -> None:
        pass

    def copy(self) -> MemoryStore:
        return self.store.copy()

    def restore(self, copied: MemoryStore) -> None:
        self.store.restore(copied)

    def expire_lease(self) -> None:
        self.store.holder_until = 0.0

    def lose(self, document_id: str) -> None:
        del self.store.documents[document_id]

    def add(self, document_id: str) -> None:
        self.store.documents[document_id] = b"x"

    def forgive(self) -> None:
        self.store.debts.clear()

    def lose_checkpoint(self) -> None:
        self.store.checkpoint, self.store.stamp = None, ""
        self.store.recorded, self.store.owed, self.store.damage = 0, 0, Damage.NONE
        self.store.listed_recorded, self.store.are_lists_lost = 0, False

    def lists(self) -> dict[str, list[tuple[str, float]]]:
        return {
            name: sorted(found.items(), key=lambda item: (item[1], item[0].encode()), reverse=True)
            for name, found in self.store.lists.items()
        }

    def lose_list(self, name: str) -> None:
        del self.store.lists[name]

    def lose_listed(self) -> None:
        self.store.listed.clear()

    def put(self, name: str, document_id: str, score: float) -> None:
        self.store.lists.setdefault(name, {})[document_id] = score

    def ask(self, payload: dict[str, Any]) -> str:
        key = secrets.token_hex(8)
        self.store.requests[key] = json.dumps(payload)
        return key

    def records(self, name: str) -> dict[str, str]:
        found: dict[str, str] = getattr(self.store, name)
        return dict(found)

    def limit_values(self, size: int) -> None:
        self.store.max_value_bytes = size


class OfServer:
    """A server of its own, or a cluster of several."""

    def __init__(self, servers: list[RedisServer]) -> None:
        self.servers = servers
        self.is_cluster = len(servers) > 1
        self._sinks: list[RedisSink] = []
        self.url = servers[0].url(db=0 if self.is_cluster else 1)
        self.client: Any = (
            RedisCluster.from_url(self.url) if self.is_cluster else servers[0].client(db=1)
        )

    def sink(self, ttl_s: float = 5.0, **settings: Any) -> RedisSink:
        given = {"url": self.url, "cluster": self.is_cluster, "lease_ttl_s": ttl_s, **settings}
        feed, views = given.pop("change_feed_max_length", 0), given.pop("views", {})
        made = RedisSink(
            RedisSettings(**given), NAME, Position.parse, change_feed_max_length=feed, views=views
        )
        self._sinks.append(made)
        return made

    def impatient_sink(self, proxy: TcpProxy) -> RedisSink:
        """A sink that waits `PATIENCE_S` and goes through the proxy."""
        return self.sink(url=f"redis://127.0.0.1:{proxy.port}/1", timeout_s=PATIENCE_S)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
        self._sinks.clear()

    def discard(self) -> None:
        self.client.close()
        for server in self.servers:
            server.discard()

    def wipe(self) -> None:
        for server in self.servers:
            with server.client(db=0) as client:
                client.flushall()

    def forget_scripts(self) -> None:
        for server in self.servers:
            with server.client(db=0) as client:
                client.script_flush()

    def copy(self) -> dict[bytes, tuple[bytes, int]]:
        names = [NAME, *(f"{{{NAME}}}:{rest}" for rest in
                 ("checkpoint", "lease", "debts", "quarantine", "resync", "requests", "listed",
                  "views"))]  # fmt: skip
        names += [name.decode() for name in self._keys("by") + self._keys("lists")]
        found = {name: (self.client.dump(name), self.client.pttl(name)) for name in names}
        return {k.encode(): (v, max(ttl, 0)) for k, (v, ttl) in found.items() if v is not None}

    def restore(self, copied: dict[bytes, tuple[bytes, int]]) -> None:
        self.wipe()
        for name, (value, ttl) in copied.items():
            self.client.restore(name, ttl, value)

    def expire_lease(self) -> None:
        self.client.delete(f"{{{NAME}}}:lease")

    def lose(self, document_id: str) -> None:
        assert self.client.hdel(NAME, document_id)

    def add(self, document_id: str) -> None:
        assert self.client.hset(NAME, document_id, b"x")

    def forgive(self) -> None:
        assert self.client.delete(f"{{{NAME}}}:debts")

    def lose_checkpoint(self) -> None:
        assert self.client.delete(f"{{{NAME}}}:checkpoint")

    def lists(self) -> dict[str, list[tuple[str, float]]]:
        found = {}
        for key in self._keys("by"):
            name = key.decode().removeprefix(f"{{{NAME}}}:by:")
            entries = self.client.zrange(key, 0, -1, desc=True, withscores=True)
            found[name] = [(k.decode(), score) for k, score in entries]
        return found

    def lose_list(self, name: str) -> None:
        assert self.client.delete(f"{{{NAME}}}:by:{name}")

    def lose_listed(self) -> None:
        assert self.client.delete(f"{{{NAME}}}:listed")

    def put(self, name: str, document_id: str, score: float) -> None:
        self.client.zadd(f"{{{NAME}}}:by:{name}", {document_id: score})

    def _keys(self, kind: str) -> list[bytes]:
        return sorted(self.client.scan_iter(f"{{{NAME}}}:{kind}:*"))

    def ask(self, payload: dict[str, Any]) -> str:
        return self.sink().request(payload)

    def records(self, name: str) -> dict[str, str]:
        found = self.client.hgetall(f"{{{NAME}}}:{name}")
        return {k.decode(): v.decode() for k, v in found.items()}

    def limit_values(self, size: int) -> None:
        for server in self.servers:
            with server.client(db=0) as client:
                client.config_set("proto-max-bulk-len", size)
