"""What the faults are done to: a private database and Redis behind proxies, and a daemon."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from tests.list_oracle import SECRET, assert_lists_equal_database
from tests.oracle import assert_hash_equals_database
from tests.projector_process import Projector, await_checkpoint
from tests.seed import seed
from tests.servers import (
    DatabaseServer,
    Flavour,
    RedisServer,
    TcpProxy,
    start_database,
    start_redis,
)
from tests.servers.account import documented_account

HELPDESK = (Path(__file__).parent.parent / "helpdesk.sql").read_text("utf-8")
_QUICK = {
    "PROJECTOR_MYSQL__HEARTBEAT_S": "0.3",
    "PROJECTOR_MYSQL__CONNECT_TIMEOUT_S": "2",
    "PROJECTOR_MYSQL__READ_TIMEOUT_S": "3",
    "PROJECTOR_REDIS__TIMEOUT_S": "1",
    "PROJECTOR_REDIS__LEASE_TTL_S": "2",
    "PROJECTOR_RECONCILE__SCRUB_INTERVAL_S": "0",  # it would mend what a fault broke
    "PROJECTOR_PROJECTION": "schema.lists:tickets",
    "TICKETS_LIST_KEY": SECRET,
}

NOTICED_S = 6.0  # three leases: a renewal looks at the store, and so does each new term


class Stage:
    """One helpdesk. The daemon sees its servers through proxies; workload and oracle do not."""

    def __init__(self, database: DatabaseServer, redis_server: RedisServer) -> None:
        self.database, self.redis_server = database, redis_server
        self.to_mysql = TcpProxy(database.host, database.port)
        self.to_redis = TcpProxy(redis_server.host, redis_server.port)
        self.redis = redis_server.client(db=1)
        self.url = documented_account(database, "helpdesk")
        self.daemon = self.another()

    @property
    def names(self) -> list[str]:
        """The hashes."""
        return ["tickets"]

    def another(self) -> Projector:
        """Return a further daemon with the same settings, not started."""
        through = make_url(self.url).set(host=self.to_mysql.host, port=self.to_mysql.port)
        redis_url = f"redis://127.0.0.1:{self.to_redis.port}/1"
        return Projector(through.render_as_string(hide_password=False), redis_url, **_QUICK)

    def connect(self) -> Any:
        """Return a direct connection to the helpdesk."""
        return self.database.connect("helpdesk")

    def check(self, *, is_rewound: bool = False) -> None:
        """Wait until everything committed is applied; compare the whole hash and all lists.
        `is_rewound`: a checkpoint may say so of a hash that is not there."""
        connection = self.connect()

        def compare() -> None:
            await_checkpoint(self.redis, connection, self.daemon, timeout_s=60)
            assert assert_hash_equals_database(self.redis, connection) > 0
            assert assert_lists_equal_database(self.redis, connection) > 0

        try:
            once_noticed(compare, is_rewound=is_rewound)
        finally:
            connection.close()


def once_noticed(compare: Callable[[], None], *, is_rewound: bool) -> None:
    """Compare. Of a store that is rewound, where it fails, again, until the daemon must have looked
    at it: a checkpoint says nothing of a hash that others have deleted."""
    deadline = time.monotonic() + (NOTICED_S if is_rewound else 0.0)
    while True:
        try:
            compare()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


@contextmanager
def stage(flavour: Flavour) -> Iterator[Stage]:
    """Start everything but the daemon."""
    with ExitStack() as stack:
        database = stack.enter_context(start_database(flavour))
        redis_server = stack.enter_context(start_redis())
        database.create_database("helpdesk")
        database.load_sql(HELPDESK, "helpdesk")
        connection = database.connect("helpdesk")
        seed(connection, 200)
        connection.close()
        made = Stage(database, redis_server)
        stack.callback(made.to_mysql.close)
        stack.callback(made.to_redis.close)
        stack.callback(made.redis.close)
        stack.push(made.daemon.__exit__)
        yield made
