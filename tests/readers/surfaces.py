"""One surface for both readers, so that one test holds for each of them over any client."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import redis
import redis.asyncio
from projector_reader import AsyncReader, Reader
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel

from tests.servers import RedisServer

Model = Callable[[bytes], Any] | type[Any]


class Surface:
    """A reader whose methods block, whichever it is; `take` gives the first of an iteration."""

    def __init__(self, client: Any, name: str, model: Model | None = None) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client = client
        models = () if model is None else (model,)
        if asyncio.iscoroutinefunction(client.execute_command):
            self._loop = asyncio.new_event_loop()
            self.reader: Any = AsyncReader(client, name, *models)
        else:
            self.reader = Reader(client, name, *models)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            found = getattr(self.reader, name)(*arguments, **named)
            if self._loop is None:
                return found
            if hasattr(found, "__anext__"):
                return self._blocking(found)
            return self._loop.run_until_complete(found)

        return call

    def take(self, count: int, iteration: Iterator[Any]) -> list[Any]:
        return list(itertools.islice(iteration, count))

    def close(self) -> None:
        if self._loop is None:
            self._client.close()
            return
        pool = getattr(self._client, "connection_pool", None)
        manager = getattr(pool, "sentinel_manager", None)
        for each in (self._client, *(manager.sentinels if manager else ())):
            self._loop.run_until_complete(each.aclose())
        self._loop.close()

    def _blocking(self, iteration: AsyncIterator[Any]) -> Iterator[Any]:
        assert self._loop is not None
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield self._loop.run_until_complete(anext(iteration))


CLIENTS: dict[str, Callable[[RedisServer], Any]] = {
    "blocking": lambda server: redis.Redis.from_url(server.url()),
    "blocking, decoded": lambda server: redis.Redis.from_url(server.url(), decode_responses=True),
    "blocking, RESP2": lambda server: redis.Redis.from_url(server.url(), protocol=2),
    "blocking, RESP3": lambda server: redis.Redis.from_url(server.url(), protocol=3),
    "async": lambda server: redis.asyncio.Redis.from_url(server.url()),
    "async, decoded, RESP2": lambda server: redis.asyncio.Redis.from_url(
        server.url(), decode_responses=True, protocol=2
    ),
    "async, RESP3": lambda server: redis.asyncio.Redis.from_url(server.url(), protocol=3),
}


CLUSTER_CLIENTS: dict[str, Callable[[RedisServer], Any]] = {
    "blocking": lambda node: RedisCluster.from_url(node.url(0)),
    "blocking, decoded, RESP3": lambda node: RedisCluster.from_url(
        node.url(0), decode_responses=True, protocol=3
    ),
    "async": lambda node: redis.asyncio.RedisCluster.from_url(node.url(0)),
}


def of_sentinel(sentinel: RedisServer, master: str) -> dict[str, Any]:
    """Clients that ask a Sentinel."""
    known = [(sentinel.host, sentinel.port)]
    blocking: Any = Sentinel
    asynchronous: Any = AsyncSentinel
    return {
        "blocking": blocking(known).master_for(master, db=1),
        "async": asynchronous(known).master_for(master, db=1),
    }
