"""The reader for asynchronous clients of redis-py; `Reader` with `await`."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar, overload

from redis.client import NEVER_DECODE
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from projector_reader.ids import DocumentId
from projector_reader.lists import Listed, Value
from projector_reader.operations import (
    Call,
    Id,
    Operation,
    Operations,
    Pause,
    PydanticModel,
    Walk,
)
from projector_reader.reader import socket_timeout_s
from projector_reader.replies import Change, Checkpoint, Health, Page

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M", bound=PydanticModel)


class AsyncClient(Protocol):
    """What a reader needs of a client: `redis.asyncio.Redis` or `redis.asyncio.RedisCluster`."""

    def execute_command(self, *args: Any, **options: Any) -> Awaitable[Any]:
        """Run one command."""
        ...


class AsyncReader(Generic[T]):
    """The documents of one projection. The client stays the caller's. Methods as `Reader`'s."""

    @overload
    def __init__(
        self: AsyncReader[M],
        client: AsyncClient,
        name: str,
        model: type[M],
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        client: AsyncClient,
        name: str,
        model: Callable[[bytes], T],
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncReader[Any],
        client: AsyncClient,
        name: str,
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> None: ...
    def __init__(
        self,
        client: AsyncClient,
        name: str,
        model: Any = None,
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """See `Reader`."""
        if not inspect.iscoroutinefunction(client.execute_command):
            raise TypeError("a blocking client: use Reader")
        self._client = client
        self._operations: Operations[T] = Operations(name, model, secrets)

    @property
    def name(self) -> str:
        """The projection's name, and the key of the hash."""
        return self._operations.name

    async def get(
        self, key: DocumentId, *, after: str | None = None, timeout_s: float = 2.0
    ) -> T | None:
        """See `Reader.get`."""
        return await self._run(self._operations.get(key, after, timeout_s))

    async def get_many(
        self, keys: Iterable[Id], *, after: str | None = None, timeout_s: float = 2.0
    ) -> dict[Id, T]:
        """See `Reader.get_many`."""
        return await self._run(self._operations.get_many(keys, after, timeout_s))

    async def count(self) -> int:
        """See `Reader.count`."""
        return await self._run(self._operations.count())

    async def page(self, cursor: int = 0, count: int = 100) -> Page[T]:
        """See `Reader.page`."""
        return await self._run(self._operations.page(cursor, count))

    async def view(
        self, view: str, *values: Value, cursor: str | None = None, count: int = 20
    ) -> Listed[T]:
        """See `Reader.view`."""
        return await self._run(self._operations.view(view, values, cursor, count))

    async def values(self, view: str, count: int = 1000) -> dict[str, int]:
        """See `Reader.values`."""
        return await self._run(self._operations.values(view, count))

    async def scan(
        self, *, max_count: int = 1000, max_bytes: int = 4 * 1024 * 1024
    ) -> AsyncIterator[tuple[str, T]]:
        """See `Reader.scan`."""
        walk = Walk(max_count, max_bytes)
        while not walk.is_done:
            for item in (await self._run(self._operations.next_documents(walk))).items():
                yield item

    async def ids(
        self, *, max_count: int = 1000, max_bytes: int = 4 * 1024 * 1024
    ) -> AsyncIterator[str]:
        """See `Reader.ids`."""
        walk = Walk(max_count, max_bytes)
        while not walk.is_done:
            for found in await self._run(self._operations.next_ids(walk)):
                yield found

    async def changes(
        self,
        after: str | None = None,
        *,
        count: int = 500,
        heartbeat_s: float | None = None,
        patience_s: float = 60.0,
    ) -> AsyncIterator[Change]:
        """See `Reader.changes`; where to begin is found when the first change is asked for."""
        timeout_s = socket_timeout_s(self._client)
        begin = self._operations.feed(after, count, heartbeat_s, patience_s, timeout_s)
        feed = await self._run(begin)
        while True:
            for change in await self._run(self._operations.listen(feed)):
                yield change

    async def wait(
        self, token: str, timeout_s: float = 2.0, *, complete: bool = True
    ) -> Checkpoint:
        """See `Reader.wait`; here the time limit holds for a silent Redis, too."""
        return await self._run(self._operations.wait(token, timeout_s, is_complete=complete))

    async def checkpoint(self) -> Checkpoint | None:
        """See `Reader.checkpoint`."""
        return await self._run(self._operations.checkpoint())

    async def health(self) -> Health:
        """See `Reader.health`."""
        return await self._run(self._operations.health())

    async def _run(self, operation: Operation[R]) -> R:
        try:
            step = next(operation)
            while True:
                try:
                    reply = await self._do(step)
                except RedisError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(reply)
        except StopIteration as done:
            result: R = done.value
            return result
        finally:
            operation.close()

    async def _do(self, step: Call | Pause) -> Any:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        options = {**step.options, NEVER_DECODE: True}  # documents as bytes, whatever the client
        answer = self._client.execute_command(*step.command, **options)
        if step.until is None:
            return await answer
        try:
            # Not without any time for an answer, so that a limit of 0 s means one look.
            return await asyncio.wait_for(answer, max(0.1, step.until - time.monotonic()))
        except TimeoutError as error:
            raise RedisTimeoutError("no answer in time") from error
