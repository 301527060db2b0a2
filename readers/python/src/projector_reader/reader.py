"""The reader for blocking clients of redis-py: `redis.Redis`, of a Sentinel too, `RedisCluster`."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar, overload

from redis.client import NEVER_DECODE
from redis.exceptions import RedisError

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
from projector_reader.replies import Change, Checkpoint, Health, Page

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M", bound=PydanticModel)


class Client(Protocol):
    """What a reader needs of a client."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command."""
        ...


class Reader(Generic[T]):
    """The documents of one projection. As thread-safe as its client, which stays the caller's."""

    @overload
    def __init__(
        self: Reader[M],
        client: Client,
        name: str,
        model: type[M],
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        client: Client,
        name: str,
        model: Callable[[bytes], T],
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: Reader[Any], client: Client, name: str, *, secrets: Mapping[str, str] | None = None
    ) -> None: ...
    def __init__(
        self,
        client: Client,
        name: str,
        model: Any = None,
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """`name`: the projection's. `model`: a Pydantic model or whatever makes a value of a
        document's bytes; without one, `json.loads`. `secrets`: keys that mask values of views, by
        the name that the projection has for them; else they are read from the environment."""
        if inspect.iscoroutinefunction(client.execute_command):
            raise TypeError("an asynchronous client: use AsyncReader")
        self._client = client
        self._operations: Operations[T] = Operations(name, model, secrets)

    @property
    def name(self) -> str:
        """The projection's name, and the key of the hash."""
        return self._operations.name

    def get(self, key: DocumentId, *, after: str | None = None, timeout_s: float = 2.0) -> T | None:
        """Return one document, None when there is none. `after`: wait for this token first."""
        return self._run(self._operations.get(key, after, timeout_s))

    def get_many(
        self, keys: Iterable[Id], *, after: str | None = None, timeout_s: float = 2.0
    ) -> dict[Id, T]:
        """Return those of these documents that exist, in the order of the keys."""
        return self._run(self._operations.get_many(keys, after, timeout_s))

    def count(self) -> int:
        """Return the number of documents."""
        return self._run(self._operations.count())

    def page(self, cursor: int = 0, count: int = 100) -> Page[T]:
        """Return about `count` documents, and the cursor of the next page."""
        return self._run(self._operations.page(cursor, count))

    def view(
        self, view: str, *values: Value, cursor: str | None = None, count: int = 20
    ) -> Listed[T]:
        """Return a page of the list of `values`, one for each part of the view's key, the newest
        first; `cursor`: of the page before. A document that is moved to the front meanwhile is not
        met again. Raises ViewError."""
        return self._run(self._operations.view(view, values, cursor, count))

    def values(self, view: str, count: int = 1000) -> dict[str, int]:
        """Return the values of a view's key that documents have, as they are spelled in lists, and
        how many documents each has; `count` of them at most."""
        return self._run(self._operations.values(view, count))

    def scan(
        self, *, max_count: int = 1000, max_bytes: int = 4 * 1024 * 1024
    ) -> Iterator[tuple[str, T]]:
        """Go through all documents: each that stands there from beginning to end comes at least
        once; one that changes meanwhile may come twice, the later one with the later state.

        A call to Redis asks for at most `max_count` documents, and for so many as should make
        `max_bytes`, judged by those before.
        """
        walk = Walk(max_count, max_bytes)
        while not walk.is_done:
            yield from self._run(self._operations.next_documents(walk)).items()

    def ids(self, *, max_count: int = 1000, max_bytes: int = 4 * 1024 * 1024) -> Iterator[str]:
        """Go through all ids, as `scan` does; before Redis 7.4 the documents come along unseen."""
        walk = Walk(max_count, max_bytes)
        while not walk.is_done:
            yield from self._run(self._operations.next_ids(walk))

    def changes(
        self,
        after: str | None = None,
        *,
        count: int = 500,
        heartbeat_s: float | None = None,
        patience_s: float = 60.0,
    ) -> Iterator[Change]:
        """Follow the change stream for ever: from now on, or after the change with this id ("0":
        from the oldest one kept).

        Where to begin is found by this call itself, not by the first change asked for. With
        `heartbeat_s` a change without ids comes at once, and whenever nothing came for so long.
        Connections that break are made again for `patience_s`; then the client's error comes out.
        Raises ChangesLostError when changes have been trimmed that were not read.
        """
        timeout_s = socket_timeout_s(self._client)
        begin = self._operations.feed(after, count, heartbeat_s, patience_s, timeout_s)
        feed = self._run(begin)

        def follow() -> Iterator[Change]:
            while True:
                yield from self._run(self._operations.listen(feed))

        return follow()

    def wait(self, token: str, timeout_s: float = 2.0, *, complete: bool = True) -> Checkpoint:
        """Wait until the documents include what the token names: what `commit_token` gave after a
        commit. Return the checkpoint that says so.

        A change that touches very many documents, and a walk over all of them, are worked off
        behind the checkpoint; `complete=False` does not wait for what is owed so.

        Raises WaitTimeoutError, InvalidTokenError, NotComparableError. A Redis that is away is
        waited for, too; one that is silent for as long as the client's own timeouts.
        """
        return self._run(self._operations.wait(token, timeout_s, is_complete=complete))

    def checkpoint(self) -> Checkpoint | None:
        """Return up to where the documents are complete; None where no projector has ever run."""
        return self._run(self._operations.checkpoint())

    def health(self) -> Health:
        """Return whether the documents are kept up to date."""
        return self._run(self._operations.health())

    def _run(self, operation: Operation[R]) -> R:
        try:
            step = next(operation)
            while True:
                try:
                    reply = self._do(step)
                except RedisError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(reply)
        except StopIteration as done:
            result: R = done.value
            return result
        finally:
            operation.close()

    def _do(self, step: Call | Pause) -> Any:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        options = {**step.options, NEVER_DECODE: True}  # documents as bytes, whatever the client
        return self._client.execute_command(*step.command, **options)


def socket_timeout_s(client: Any) -> float | None:
    """Return how long the client waits for an answer; None: for ever, or unknown."""
    for holder in (
        getattr(client, "connection_pool", None),
        getattr(client, "nodes_manager", None),
        client,
    ):
        settings = getattr(holder, "connection_kwargs", None)
        if isinstance(settings, dict) and settings.get("socket_timeout"):
            return float(settings["socket_timeout"])
    return None
