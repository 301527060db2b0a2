"""`make dev`: private MySQL and Redis with the helpdesk's tables and 200 tickets, until Ctrl-C.

Standard output has the lines to export, and nothing else: with these lines in another terminal
`projector run` works there.
"""

import contextlib
import signal
import sys
import threading
from pathlib import Path

from tests.seed import seed
from tests.servers import Flavour, ServerUnavailable, find_database, find_redis
from tests.servers.account import documented_account

TICKETS = 200


def main() -> int:
    """Start, fill, print, wait. Give the status."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        database, redis = find_database(Flavour.MYSQL), find_redis()
    except ServerUnavailable as problem:
        print(f"dev: {problem}", file=sys.stderr)
        return 1
    with contextlib.ExitStack() as ending:
        ending.callback(database.discard)
        ending.callback(redis.discard)
        database.create_database("helpdesk")
        database.load_sql(Path(__file__).with_name("helpdesk.sql"), "helpdesk")
        with database.connect("helpdesk") as connection:
            seed(connection, TICKETS)
        print(f"export PROJECTOR_MYSQL__URL='{documented_account(database, 'helpdesk')}'")
        print(f"export PROJECTOR_REDIS__URL='{redis.url(db=1)}'")
        print("export PROJECTOR_PROJECTION=schema.projection:tickets", flush=True)
        print(
            f"dev: {TICKETS} tickets; export these lines elsewhere, then .venv/bin/projector run\n"
            f"dev: to write as root: {database.url('helpdesk')}\ndev: Ctrl-C ends it all",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
