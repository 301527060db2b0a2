"""Talk to Redis, Sentinel or Cluster: connections, time limits, and what errors mean.

Never retries by itself, and never keeps a connection to a server that could not do what was asked:
after a failover behind one address the old connection would lead to the replica for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    DataError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from projector.errors import ConfigurationError, DeniedError, OperatorError, TransientError
from projector.record import text_of
from projector.settings import Redis as RedisSettings
from projector.sink_redis.scripts import NOTHING, Script

_MAX_VALUE_BYTES = 512 * 1024 * 1024  # proto-max-bulk-len by default
_DENIED = (
    AuthenticationError, AuthenticationWrongNumberOfArgsError, AuthorizationError,
    NoPermissionError,
)  # fmt: skip
# What passes: the server's words, and the library's names for those that it takes away.
_PASSING = (
    "READONLY", "LOADING", "OOM", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN",
    "BUSY", "UNBLOCKED",
)  # fmt: skip
_REFUSING = ("NOPERM", "ACL", "unknown command", "user executing the script can't")
_PASSING_NAMES = {
    "ReadOnlyError", "OutOfMemoryError", "MasterDownError", "ClusterDownError", "TryAgainError",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RedisInfo:
    """What the server says of itself. Sizes in bytes, `memory_limit` 0: none."""

    server: str
    version: str
    role: str
    memory: int
    memory_limit: int
    eviction: str
    has_aof: bool
    has_snapshots: bool


def unusable_key_remedy(key: str) -> str:
    """Return what to do about a key of ours that holds somebody else's value."""
    return (
        f"Rename it (RENAME '{key}' '{key}:other') or remove it (DEL '{key}'), or name another"
        " database in PROJECTOR_REDIS__URL."
    )


class UnusableKeyError(OperatorError):
    """A key of ours holds something that is not ours. The server does not say which."""

    @classmethod
    def of(cls, key: str) -> UnusableKeyError:
        """Name the key."""
        return cls(
            f"the key {key} in Redis holds something that is not the projector's",
            unusable_key_remedy(key),
        )


class Server:
    """A Redis that answers within a time limit or raises TransientError or OperatorError.

    `looks`: for each key in use a command that fails on whatever else may stand there, and writes
    nothing; thus an error can name the key.
    """

    def __init__(self, settings: RedisSettings, looks: Mapping[str, Sequence[str]] = {}) -> None:
        self._settings = settings
        self._looks = looks

    @cached_property
    def _client(self) -> Any:
        with translated():
            return _connect(self._settings)

    def max_value_bytes(self) -> int:
        """The largest value that the server takes, where it may be asked."""

        def ask(client: Any) -> dict[str, str]:
            try:
                return dict(client.config_get("proto-max-bulk-len"))
            except ResponseError:  # denied, or hidden by a provider
                return {}

        return int(next(iter(self._run(ask).values()), _MAX_VALUE_BYTES))

    def call(self, *command: Any) -> Any:
        """Run one command whose second word is its key."""
        return self._run(lambda client: _sent(client.execute_command, command))

    def hash(self, key: str) -> dict[str, str]:
        """Return a small hash as text."""
        found = self._run(lambda client: client.hgetall(key))
        return {text_of(k): text_of(v) for k, v in found.items()}

    def names(self, key: str, cursor: int, count: int) -> tuple[int, list[bytes]] | None:
        """Return the cursor after some fields of a hash, and the fields; None where the server
        cannot leave the values out."""

        def ask(client: Any) -> Any:
            try:
                return client.hscan(key, cursor, count=count, no_values=True)
            except ResponseError as error:
                if "syntax error" not in str(error):
                    raise
                return None  # before Redis 7.4 and Valkey 8

        found = self._run(ask)
        return None if found is None else (int(found[0]), list(found[1]))

    def sorted_sets(
        self, pattern: str, beside: str, cursor: int, count: int
    ) -> tuple[int, list[bytes]]:
        """Return some keys of sorted sets, and the cursor to go on with; 0 at the end. In a cluster
        of the node that has the key `beside`."""

        def ask(client: Any) -> Any:
            node: dict[str, Any] = {}
            if isinstance(client, RedisCluster):
                found: Any = client.get_node_from_key(beside)  # type: ignore[no-untyped-call]
                node = {"target_nodes": found}
            return client.scan(cursor, match=pattern, count=count, _type="zset", **node)

        following, keys = self._run(ask)
        if isinstance(following, dict):  # by node
            [following] = following.values()
        return int(following), list(keys)

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script by its name; by its text where the server has forgotten it."""

        given = (len(keys), *keys, *arguments)

        def run(client: Any) -> Any:
            try:
                return _sent(client.evalsha, (script.sha, *given))
            except NoScriptError:
                return _sent(client.eval, (script.text, *given))

        return self._run(run)

    def takes(self, key: str, value: bytes) -> bool:
        """Whether the server reads a value of that size. Raises TransientError when it is away."""
        try:
            self.script(NOTHING, [key], [value])
        except TransientError:
            self.call("HLEN", key)
            return False
        return True

    def info(self, key: str) -> RedisInfo:
        """Ask INFO; in a cluster of the node that has the key."""
        found = self._run(lambda client: _info(client, key))
        version = found.get("valkey_version") or found.get("redis_version", "")
        return RedisInfo(
            server="valkey" if "valkey_version" in found else "redis",
            version=str(version),
            role=str(found.get("role", "")),
            memory=int(found.get("used_memory", 0)),
            memory_limit=int(found.get("maxmemory", 0)),
            eviction=str(found.get("maxmemory_policy", "")),
            has_aof=bool(int(found.get("aof_enabled", 0))),
            has_snapshots=str(found.get("rdb_last_bgsave_status", "")) == "ok"
            and int(found.get("rdb_saves", 0)) > 0,
        )

    def close(self) -> None:
        """Free the connections."""
        if "_client" in self.__dict__:
            self._client.close()
            pool = getattr(self._client, "connection_pool", None)  # a cluster has several
            if isinstance(manager := getattr(pool, "sentinel_manager", None), _Sentinels):
                manager.close()

    def unusable_key(self) -> str | None:
        """Find a key that holds what is not ours."""
        for key, look in self._looks.items():
            try:
                with translated():
                    self._client.execute_command(*look)
            except UnusableKeyError:
                return key
            except OperatorError:  # another complaint, as the look is made to raise
                continue
            except TransientError as error:
                if not isinstance(error.__cause__, ReadOnlyError):
                    raise  # a replica takes no look that could write
        return None

    def _run(self, use: Callable[[Any], Any]) -> Any:
        try:
            with translated():
                return use(self._client)
        except TransientError:
            self._disconnect()
            raise
        except UnusableKeyError as error:
            key = self.unusable_key()
            if key is None:
                raise
            raise UnusableKeyError.of(key) from error

    def _disconnect(self) -> None:
        """Drop idle connections; a cluster's client does so by itself."""
        client = self.__dict__.get("_client")
        if isinstance(client, redis.Redis):
            client.connection_pool.disconnect(inuse_connections=False)


def _sent(send: Callable[..., Any], words: Sequence[Any]) -> Any:
    """Send a command; with ids that were no UTF-8 as the bytes that they were (see `record`)."""
    try:
        return send(*words)
    except UnicodeEncodeError:
        return send(*(_bytes(word) if isinstance(word, str) else word for word in words))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _info(client: Any, key: str) -> dict[str, Any]:
    if isinstance(client, RedisCluster):
        node: Any = client.get_node_from_key(key)  # type: ignore[no-untyped-call]
        found: dict[str, Any] = client.info(target_nodes=node)
        return found
    return dict(client.info())


@contextmanager
def translated() -> Iterator[None]:
    """Turn the library's errors into ours. Messages of the server hold no credentials."""
    try:
        yield
    except _DENIED as error:
        raise _denial(error) from error
    except (BusyLoadingError, NoScriptError) as error:
        raise TransientError("redis", f"Redis is not ready: {error}", answered=True) from error
    except AskError as error:  # and MovedError; a cluster's client follows them by itself
        raise ConfigurationError(
            "PROJECTOR_REDIS__URL leads to a Redis Cluster", "Set PROJECTOR_REDIS__CLUSTER=true."
        ) from error
    except ResponseError as error:
        raise _meaning(error) from error
    except DataError:
        raise  # a mistake of ours, not Redis's
    except (RedisError, RedisClusterException, OSError) as error:
        if "Cluster mode is not enabled" in str(error):
            raise ConfigurationError(
                "PROJECTOR_REDIS__CLUSTER: this Redis is no cluster", "Unset it."
            ) from error
        if "certificate" in str(error).lower():
            raise OperatorError(
                f"no TLS with Redis: {_said(error)}",
                "Check PROJECTOR_REDIS__CA and the host name in PROJECTOR_REDIS__URL.",
            ) from error
        if denied := next((e for e in _chain(error) if isinstance(e, _DENIED)), None):
            raise _denial(denied) from error  # met by a cluster's client while it looked around
        raise TransientError("redis", f"Redis is away: {_said(error)}") from error


def _denial(error: BaseException) -> OperatorError:
    return DeniedError(
        f"Redis refuses access: {str(error).rstrip('.')}",
        "Check the user and password in PROJECTOR_REDIS__URL and the ACL (deploy/redis.acl).",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _said(error: BaseException) -> str:
    """Name the error, without the clients that Sentinel's driver appends."""
    said = str(error).partition(" : <")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _meaning(error: ResponseError) -> Exception:
    text = str(error)
    name = type(error).__name__
    # Redis 6 wraps an error met by a script: "ERR Error running script (...): -OOM command ...".
    if name in _PASSING_NAMES or any(
        text.startswith(f"{word} ") or f"-{word} " in text for word in _PASSING
    ):
        return TransientError("redis", f"Redis cannot write now: {text}", answered=True)
    if "invalid bulk length" in text:  # the limit was lowered since it was asked for
        return TransientError("redis", f"Redis refuses a large value: {text}")
    if "WRONGTYPE" in text or "last possible ID" in text:  # the latter: no entry fits in the feed
        return UnusableKeyError(
            "a key of the projector's in Redis holds something else", "`projector check` names it."
        )
    if any(word in text for word in _REFUSING):
        return DeniedError(f"Redis refuses a command: {text}", "Compare deploy/redis.acl.")
    if "DB index" in text or "SELECT is not allowed" in text:
        return ConfigurationError(
            f"PROJECTOR_REDIS__URL: {text}",
            "Name a database that the server has; a cluster has 0 alone.",
        )
    return OperatorError(f"Redis refuses a command: {text}", "`projector check` may say why.")


def _connect(settings: RedisSettings) -> Any:
    options: dict[str, Any] = {
        "socket_timeout": settings.timeout_s,
        "socket_connect_timeout": settings.timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "projector",
    }
    url = settings.url.get_secret_value()
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    if url.startswith("rediss://"):
        for path in (settings.ca, settings.cert, settings.key):
            if path is not None and not os.access(path, os.R_OK):
                raise ConfigurationError(
                    f"a TLS file of PROJECTOR_REDIS cannot be read: {path}",
                    "Name PEM files that this user may read.",
                )
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        options |= {"ssl_ca_certs": str(settings.ca)} if settings.ca else {}
        options |= {"ssl_certfile": str(settings.cert)} if settings.cert else {}
        options |= {"ssl_keyfile": str(settings.key)} if settings.key else {}
    if settings.sentinel_master:
        return _by_sentinel(settings, settings.sentinel_master, options)
    if settings.cluster:
        if urlsplit(url).path.strip("/") not in {"", "0"}:
            raise ConfigurationError(
                "PROJECTOR_REDIS__URL: a cluster has database 0 alone", "End the URL with /0."
            )
        return RedisCluster.from_url(url, **options)
    return redis.Redis.from_url(url, **options)


class _Sentinels(Sentinel):
    """Sentinels that may want a password: then the one in the URL, the master's."""

    def __init__(self, hosts: Any, login: dict[str, str], kwargs: Any, **options: Any) -> None:
        made: Any = super().__init__
        made(hosts, sentinel_kwargs=kwargs, **options, **login)
        known: Any = Sentinel
        self._known = known(hosts, sentinel_kwargs={**kwargs, **login}) if login else None

    def close(self) -> None:
        """Free the connections to Sentinels."""
        for known in (self, self._known):
            for client in known.sentinels if known is not None else ():
                client.close()

    def discover_master(self, service_name: str) -> Any:
        ask: Any = super().discover_master
        try:
            return ask(service_name)
        except MasterNotFoundError as error:
            if not _wants_password(error):
                raise
            if self._known is None:
                raise AuthenticationError("Sentinel wants a password") from error
        try:
            return self._known.discover_master(service_name)
        except MasterNotFoundError as error:
            if _wants_password(error):
                raise AuthenticationError("Sentinel refuses the password in the URL") from error
            raise


def _wants_password(error: MasterNotFoundError) -> bool:
    return "Authentication" in str(error) or "WRONGPASS" in str(error)


def _by_sentinel(settings: RedisSettings, master: str, options: dict[str, Any]) -> Any:
    parts = urlsplit(settings.url.get_secret_value())
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    sentinels = [(name, port or 26379) for name, port in settings.hosts]
    login = {k: unquote(v) for k, v in (("username", user), ("password", password)) if v}
    tls = {"ssl": True} if parts.scheme == "rediss" else {}
    found: Any = _Sentinels(sentinels, login, {**options, **tls}, **options, **tls)
    return found.master_for(master, db=int(parts.path.strip("/") or 0))
