"""Redis: whether documents can be kept there, and stay there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from projector.checks import Check, failed, numbered, ok, skipped, warning
from projector.errors import OperatorError
from projector.model import ViewFigures
from projector.position import Position
from projector.projection import Plan
from projector.record import printable, text_of
from projector.settings import Redis, Settings
from projector.sink_redis import RedisInfo, RedisSink
from projector.sink_redis.act import Keys
from projector.sink_redis.client import Server, unusable_key_remedy
from projector.sink_redis.scripts import Script

_LEAST = {"redis": (6, 2), "valkey": (7, 2)}
_ALERT_RATIO = 0.85  # alert ProjectorRedisMemoryHigh
_OVERHEAD_BYTES = 200  # of a field of the hash (the runbook, Capacity)
_VIEW_BYTES = 135  # of a document in a list, with the record of it
_SCANS = 1000  # of a thousand keys
_LOCAL = {"localhost", "127.0.0.1", "::1"}

# ARGV: commands as a JSON list of lists. Gives what the server says against each, "" for nothing.
_TRY = """
local answers = {}
for i, command in ipairs(cjson.decode(ARGV[1])) do
  local answer = redis.pcall(unpack(command))
  answers[i] = type(answer) == 'table' and answer.err or ''
end
return answers
"""
_DENIALS = ("NOPERM", "ACL failure", "can't run this command", "can't access", "No permissions")


def required(settings: Settings, plans: Sequence[Plan], server: Server) -> list[Check]:
    """Test what the daemon cannot do without. Raises TransientError or OperatorError."""
    info = server.info(plans[0].name)
    checks = [_version(info), *_cluster(settings.redis, server)]
    if checks[-1].status == "failed":
        return checks  # no key can be asked for
    for plan in plans:
        checks.append(_permissions(settings, plan, server))
        if checks[-1].status == "ok":
            checks.append(_types(settings, plan))
    return checks


def recommended(settings: Redis, info: RedisInfo, snapshots: str | None) -> list[Check]:
    """Test what keeps the documents there. `snapshots`: their schedule, None: unknown."""
    return [
        _role(info),
        _eviction(info),
        _persistence(info, snapshots),
        *_memory(info),
        _encryption(settings),
    ]


def _version(info: RedisInfo) -> Check:
    least = _LEAST[info.server]
    title = f"{info.server.capitalize()} {info.version}"
    if numbered(info.version) < least:
        wanted = ".".join(map(str, least))
        return failed(
            "redis.version",
            f"{title} is too old",
            f"Upgrade to {info.server.capitalize()} {wanted} or later.",
        )
    return ok("redis.version", title)


def _cluster(settings: Redis, server: Server) -> Iterator[Check]:
    """Test that a cluster's node or a Sentinel is not taken for a server of its own."""
    if settings.cluster:
        yield ok("redis.cluster", "a cluster; the keys of a projection share a slot")
    elif server.call("INFO", "cluster").get("cluster_enabled"):
        yield failed(
            "redis.cluster",
            "the server is a node of a Redis Cluster",
            "Set PROJECTOR_REDIS__CLUSTER=true, and database 0 in PROJECTOR_REDIS__URL.",
        )
    elif not settings.sentinel_master and _mode(server) == "sentinel":
        yield failed(
            "redis.sentinel",
            "the server is a Sentinel: it keeps no documents",
            "Set PROJECTOR_REDIS__SENTINEL_MASTER to the name of the master.",
        )


def _mode(server: Server) -> str:
    found = server.call("INFO", "server")
    return str(found.get("redis_mode") or found.get("server_mode") or "")


def _types(settings: Settings, plan: Plan) -> Check:
    """Test that our keys hold what we keep there, or nothing."""
    name = f"redis.keys.{plan.name}"
    sink = RedisSink(settings.redis, plan.name, _unread, views=plan.views.keep)
    try:
        if key := sink.unusable_key():
            return failed(
                name,
                f"the key {key} holds something that is not the projector's",
                unusable_key_remedy(key),
            )
        return ok(name, f"{sink.count()} documents in the hash {plan.name}")
    finally:
        sink.close()


def _unread(text: str) -> Position:
    """The checkpoint is not looked into here."""
    raise ValueError(text)


def _commands(name: str, *, feeds: bool) -> list[list[str]]:
    """Return each command that the sink sends, in a form that fails or does nothing.

    The server asks the ACL before it looks at the values. DEL and HDEL have no such form, hence a
    key of our own that never exists.
    """
    keys, none = Keys.of(name), _absent(name)
    lease, checkpoint = keys.lease, keys.checkpoint
    records = [checkpoint, keys.debts, keys.quarantine, keys.resync, keys.requests]
    commands = [
        ["GET", lease], ["SET", lease, "x", "PX", "0"], ["PEXPIRE", lease, "x"], ["DEL", none],
        ["HLEN", name], ["HMGET", name, "x"], ["HSTRLEN", name, "x"],
        ["HSCAN", name, "0", "COUNT", "1"],
        ["HDEL", none, "x"],
        ["HGET", checkpoint, "x"],
    ]  # fmt: skip
    commands += [["HSET", key, "x", "x", "x"] for key in (name, *records)]
    commands += [["HGETALL", key] for key in records]
    if feeds:
        commands.append(["XADD", keys.changes, "x", "x", "x"])
    return commands


def _list_commands(name: str) -> list[list[str]]:
    """Return those that lists are kept with, of keys that nobody has."""
    listed, sizes = f"{{{name}}}:by:none:none", f"{{{name}}}:lists:none"
    commands = [
        ["ZADD", listed, "x", "x"], ["ZREM", listed, "x"], ["ZCARD", listed],
        ["ZSCORE", listed, "x"], ["ZRANGE", listed, "0", "0"], ["ZSCAN", listed, "0"],
        ["ZREMRANGEBYRANK", listed, "0", "0"], ["HLEN", sizes], ["HSCAN", sizes, "0"],
    ]  # fmt: skip
    return commands + [["HLEN", f"{{{name}}}:{rest}"] for rest in ("listed", "views")]


def _absent(name: str) -> str:
    return f"{{{name}}}:none"


def _permissions(settings: Settings, plan: Plan, server: Server) -> Check:
    name = f"redis.permissions.{plan.name}"
    commands = _commands(plan.name, feeds=settings.change_feed_max_length > 0)
    commands += _list_commands(plan.name) if plan.views.in_use else []
    script = Script(_TRY, "0" * 40)  # never known, so that EVALSHA and EVAL are both tried
    # Declared keys are held against the ACL before the script runs; a cluster needs one to find it.
    keys = [plan.name] if settings.redis.cluster else []
    answers = server.script(script, keys, [json.dumps(commands)])
    refused: list[list[str]] = []
    unreachable: list[list[str]] = []
    for command, answer in zip(commands, answers, strict=True):
        text = answer.decode("utf-8", "replace")
        if not any(denial in text for denial in _DENIALS):
            continue
        (unreachable if "key" in text else refused).append(command)
    verbs = sorted({command[0].lower() for command in refused})
    out_of_reach = sorted({command[1] for command in unreachable} - {_absent(plan.name)})
    if not verbs and not out_of_reach:
        return ok(name, "scripts, and every command and key that is used")
    what = [*verbs, *(f"the key {key}" for key in out_of_reach)]
    user = _user(settings.redis)
    rules = [f"+{verb}" for verb in verbs]
    rules += [f"~{plan.name}", f"'~{{{plan.name}}}:*'"] if out_of_reach else []
    return failed(
        name,
        f"the Redis user {user} may not use {', '.join(what)}",
        f"ACL SETUSER {user} {' '.join(rules)} (deploy/redis.acl has all of it).",
    )


def _user(settings: Redis) -> str:
    return unquote(urlsplit(settings.url.get_secret_value()).username or "") or "default"


def _role(info: RedisInfo) -> Check:
    if info.role == "master":
        return ok("redis.role", "primary")
    return failed(
        "redis.role",
        "the server is a replica: it takes no writes",
        "Name the primary in PROJECTOR_REDIS__URL, or its Sentinels"
        " (PROJECTOR_REDIS__SENTINEL_MASTER).",
    )


def _eviction(info: RedisInfo) -> Check:
    name, found = "redis.maxmemory_policy", info.eviction
    fix = "CONFIG SET maxmemory-policy noeviction; and the same in redis.conf."
    if found.startswith("allkeys"):
        return failed(
            name,
            f"{found}: a Redis that is full evicts the hash, and with it all documents at once",
            fix,
        )
    if found.startswith("volatile"):
        return warning(
            name, f"{found}: a Redis that is full evicts the lease, and the daemon stops", fix
        )
    return ok(name, found)


def _persistence(info: RedisInfo, snapshots: str | None) -> Check:
    name = "redis.persistence"
    if info.has_aof:
        return ok(name, "AOF")
    if snapshots is None:  # the ACL keeps CONFIG for administrators
        if info.has_snapshots:
            return ok(name, "snapshots; their schedule may not be asked")
        return skipped(name, "no AOF; whether snapshots are made may not be asked")
    if snapshots:
        return ok(name, "snapshots (RDB)")
    return warning(
        name,
        "neither AOF nor snapshots: after a restart of Redis all documents are rebuilt",
        "CONFIG SET appendonly yes; and the same in redis.conf (deploy/redis.conf).",
    )


def _memory(info: RedisInfo) -> Iterator[Check]:
    used = f"{info.memory / 1e6:.0f} MB used"
    if not info.memory_limit:
        yield warning(
            "redis.memory",
            f"{used}, no limit: Redis may take the whole machine's memory, and be killed for it",
            "Set maxmemory in redis.conf; the runbook, Capacity, says how much.",
        )
    elif info.memory > _ALERT_RATIO * info.memory_limit:
        yield warning(
            "redis.memory",
            f"{used} of {info.memory_limit / 1e6:.0f} MB: writes are refused at the limit",
            "Raise maxmemory, or remove what is not the projector's.",
        )
    else:
        yield ok("redis.memory", f"{used} of {info.memory_limit / 1e6:.0f} MB")


def left_behind(settings: Redis, plans: Sequence[Plan], server: Server) -> Check:
    """Look for hashes that nobody keeps: of a projection that had another name, for instance."""
    name = "redis.left_behind"
    if settings.cluster:
        return skipped(name, "not looked for in a cluster")
    try:
        names = sorted(_projections(server) - {plan.name for plan in plans})
    except OperatorError:
        return skipped(name, "which other hashes stand there may not be asked (SCAN)")
    unled = [other for other in names if not server.call("GET", Keys.of(other).lease)]
    if not unled:
        return ok(name, "no other hash without a projector")
    return warning(
        name,
        f"no projector keeps the hash of {', '.join(map(printable, unled))}: its documents get old",
        "The runbook, Changing the projection, says which keys to delete.",
    )


def _projections(server: Server) -> set[str]:
    """Find the names of projections that have a checkpoint, in a part of a very large database."""
    found: set[str] = set()
    cursor = "0"
    for _ in range(_SCANS):
        following, keys = server.call("SCAN", cursor, "MATCH", "{*}:checkpoint", "COUNT", 1000)
        found.update(text_of(key)[1:].removesuffix("}:checkpoint") for key in keys)
        cursor = str(following)
        if cursor == "0":
            break
    return found


def needs(info: RedisInfo, plan: Plan, stored: int, rows: int, mean_bytes: float) -> Check:
    """Test that all documents fit, by the mean size of some: `rows` is the server's estimate."""
    name, rows = f"redis.memory.{plan.name}", max(rows, stored)
    if not rows:
        return ok(name, "no documents yet: run the check again when there are")
    listed_bytes = _VIEW_BYTES * len(plan.views.keep)
    more = max(0, rows - stored) * (mean_bytes + _OVERHEAD_BYTES + listed_bytes)
    expected, limit = info.memory + more, info.memory_limit
    said = f"about {rows} documents of {mean_bytes:.0f} bytes need {expected / 1e6:.0f} MB in all"
    if limit and expected > _ALERT_RATIO * limit:
        return warning(
            name,
            f"{said}, the limit is {limit / 1e6:.0f} MB",
            f"CONFIG SET maxmemory {round(expected / _ALERT_RATIO / 1e6 + 1)}mb or more; and the"
            " same in redis.conf.",
        )
    return ok(name, said)


def views(plan: Plan, found: Mapping[str, ViewFigures]) -> list[Check]:
    """Return how much each view holds."""
    checks = []
    for view in plan.views.keep:
        figures = found.get(view, ViewFigures(0, 0))
        said = f"{figures.members} entries in {figures.lists} lists"
        if figures.bytes is not None:
            said += f", about {figures.bytes / 1e6:.1f} MB"
        checks.append(ok(f"{plan.name}.by_{view}", said))
    return checks


def _encryption(settings: Redis) -> Check:
    url = settings.url.get_secret_value()
    parts = urlsplit(url)
    if parts.scheme == "rediss":
        return ok("redis.tls", "on, with a verified certificate")
    hosts = [host.rpartition("@")[2].partition(":")[0] for host in parts.netloc.split(",")]
    is_here = parts.scheme == "unix" or all(
        host.lower() in _LOCAL or host.startswith(("127.", "[::1]")) for host in hosts if host
    )
    if is_here:
        return skipped("redis.tls", "not in use; the server is on this machine")
    return warning(
        "redis.tls",
        "documents cross the network in the clear",
        "Write rediss:// in PROJECTOR_REDIS__URL, and the CA in PROJECTOR_REDIS__CA.",
    )
