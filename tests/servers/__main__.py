"""`python -m tests.servers ensure|up [KIND ...]`: fetch what is missing, or serve."""

import argparse
import signal
import sys
import threading

from tests.servers import (
    Flavour,
    PostgresFlavour,
    RedisKind,
    ServerUnavailable,
    ensure,
    find_database,
    find_postgres,
    find_redis,
)
from tests.servers.flavours import ServerKind

_KINDS: dict[str, ServerKind] = {
    kind.value: kind for kind in (*Flavour, *RedisKind, *PostgresFlavour)
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("command", choices=["ensure", "up"])
    parser.add_argument("kinds", nargs="*", type=_kind, metavar="KIND", help=", ".join(_KINDS))
    arguments = parser.parse_args()
    try:
        if arguments.command == "ensure":
            ensure(*arguments.kinds)
        else:
            _up(arguments.kinds or [Flavour.MYSQL, RedisKind.REDIS])
    except ServerUnavailable as problem:
        print(f"servers: {problem}", file=sys.stderr)
        return 1
    return 0


def _kind(name: str) -> ServerKind:
    if name not in _KINDS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(_KINDS)}")
    return _KINDS[name]


def _up(kinds: list[ServerKind]) -> None:
    """Start the servers, print their addresses, wait for Ctrl-C or SIGTERM, stop them."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    servers = []
    for kind in kinds:
        if isinstance(kind, Flavour):
            database = find_database(kind)
            if database.process is not None:
                database.create_database("helpdesk")
            print(f"{kind.value:10} {database.url()}", flush=True)
            servers.append(database.discard)
        elif isinstance(kind, PostgresFlavour):
            postgres = find_postgres(kind)
            if postgres.process is not None:
                postgres.create_database("helpdesk")
            print(f"{kind.value:10} {postgres.url()}", flush=True)
            servers.append(postgres.discard)
        else:
            redis = find_redis(kind)
            print(f"{kind.value:10} {redis.url()}", flush=True)
            servers.append(redis.discard)
    print("servers: running; Ctrl-C stops them", file=sys.stderr, flush=True)
    stop.wait()
    for discard in servers:
        discard()


sys.exit(main())
