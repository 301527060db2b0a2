"""`python -m tests.servers ensure|up [KIND ...]`: fetch what is missing, or run servers until Ctrl-C."""

import argparse
import signal
import sys
import threading

from tests.servers import Flavour, RedisKind, ServerUnavailable, ensure, find_database, find_redis

_KINDS: dict[str, Flavour | RedisKind] = {kind.value: kind for kind in (*Flavour, *RedisKind)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("command", choices=["ensure", "up"])
    parser.add_argument(
        "kinds", nargs="*", choices=[[], *_KINDS], metavar="KIND", help=", ".join(_KINDS)
    )
    arguments = parser.parse_args()
    kinds = [_KINDS[name] for name in arguments.kinds]
    try:
        if arguments.command == "ensure":
            ensure(*kinds)
        else:
            _up(kinds or [Flavour.MYSQL, RedisKind.REDIS])
    except ServerUnavailable as problem:
        print(f"servers: {problem}", file=sys.stderr)
        return 1
    return 0


def _up(kinds: list[Flavour | RedisKind]) -> None:
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
        else:
            redis = find_redis(kind)
            print(f"{kind.value:10} {redis.url()}", flush=True)
            servers.append(redis.discard)
    print("servers: running; Ctrl-C stops them", file=sys.stderr, flush=True)
    stop.wait()
    for discard in servers:
        discard()


sys.exit(main())
