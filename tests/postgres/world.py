"""A helpdesk on PostgreSQL with a daemon beside it."""

from pathlib import Path
from typing import Any, Self

from projector.postgres.position import Position, parse_lsn
from tests.postgres.oracle import assert_hash_equals_database
from tests.postgres.workload import Workload, seed
from tests.projector_process import Projector, wait_for
from tests.servers import PostgresServer, RedisServer
from tests.servers.role import helpdesk_role, role_url

HELPDESK = Path(__file__).parent.parent / "helpdesk.postgres.sql"


class PostgresWorld:
    """A helpdesk, an empty Redis, and a daemon that is not started yet. The daemon connects as the
    documented role; with `is_bare` nothing is made for that."""

    def __init__(
        self,
        server: PostgresServer,
        name: str,
        redis_server: RedisServer,
        *,
        tickets: int = 300,
        is_bare: bool = False,
        **settings: str,
    ) -> None:
        self.server, self.name = server, name
        server.load_sql(HELPDESK, name)
        self.connection = server.connect(name)
        seed(self.connection, tickets)
        self.redis = redis_server.client(db=1)
        self.url = role_url(server, name) if is_bare else helpdesk_role(server, name)
        self.slot = f"s_{name}"
        self.daemon = Projector(
            self.url,
            redis_server.url(db=1),
            PROJECTOR_SOURCE__SLOT=self.slot,
            **settings,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        """End the daemon; its log is shown where the test has failed."""
        self.daemon.__exit__(*failure)
        self.redis.close()
        self.connection.close()

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self.connection.execute(statement)

    def reconnect(self) -> None:
        """After the server was away."""
        self.connection.close()
        self.connection = self.server.connect(self.name)

    def workload(self, seed: int, **more: Any) -> Workload:
        return Workload(lambda: self.server.connect(self.name), seed, **more)

    def settle(self, timeout_s: float = 60) -> None:
        """Wait until everything committed by now is in the hash, and nothing is owed. Checkpoints
        of an earlier timeline may be beyond all that the server has, and say nothing."""
        [[end, file]] = self.connection.execute(
            "SELECT pg_current_wal_insert_lsn()::text, pg_walfile_name(pg_current_wal_insert_lsn())"
        ).fetchall()
        self.connection.execute("SELECT pg_switch_wal()")
        timeline = int(file[:8], 16)
        wait_for(
            lambda: is_settled(self.redis, "tickets", parse_lsn(end), timeline),
            self.daemon, timeout_s,
        )  # fmt: skip

    def check(self) -> None:
        """Wait, then compare the whole hash with hand-written SQL."""
        self.settle()
        assert assert_hash_equals_database(self.redis, self.connection) > 0


def is_settled(redis: Any, name: str, end: int, timeline: int | None = None) -> bool:
    """Return whether everything up to a place in the log is in the hash, and nothing is owed.
    `timeline`: of the place, where there may be several."""
    text = redis.hget(f"{{{name}}}:checkpoint", "position")
    owed = {key.decode() for key in redis.hkeys(f"{{{name}}}:debts")} - {"scrub"}
    if not text or owed:
        return False
    position = Position.parse(text.decode())
    return position.lsn >= end and timeline in (None, position.timeline)
