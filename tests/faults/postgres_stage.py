"""The helpdesk on PostgreSQL as faults need it."""

from sqlalchemy.engine import make_url

from tests.faults.stage import once_noticed
from tests.postgres.world import PostgresWorld
from tests.projector_process import Projector
from tests.servers import PostgresServer, RedisServer, TcpProxy, start_standby

_QUICK = {
    "PROJECTOR_SOURCE__HEARTBEAT_S": "0.3",
    "PROJECTOR_SOURCE__CONNECT_TIMEOUT_S": "2",
    "PROJECTOR_SOURCE__READ_TIMEOUT_S": "3",
    "PROJECTOR_REDIS__TIMEOUT_S": "1",
    "PROJECTOR_REDIS__LEASE_TTL_S": "2",
    "PROJECTOR_RECONCILE__SCRUB_INTERVAL_S": "0",  # it would mend what a fault broke
}

# So a standby keeps its primary's slots, from 17 on (manual, "Replication Slot Synchronization").
_KEEPS_SLOTS = (
    "--sync-replication-slots=on", "--hot-standby-feedback=on", "--primary-slot-name=standby",
)  # fmt: skip


def standby_of(primary: PostgresServer, *, keeps_slots: bool) -> PostgresServer:
    """Return a new standby that has caught up. Slots are kept from 17 on."""
    if keeps_slots:
        primary.execute("SELECT pg_create_physical_replication_slot('standby', true)")
    return start_standby(primary, options=_KEEPS_SLOTS if keeps_slots else ())


class PostgresStage(PostgresWorld):
    """A helpdesk whose daemon sees its servers through proxies; workload and oracle do not."""

    def __init__(self, server: PostgresServer, name: str, redis_server: RedisServer) -> None:
        self.to_mysql = TcpProxy(server.host, server.port)  # the database's, to the faults
        self.to_redis = TcpProxy(redis_server.host, redis_server.port)
        self.database, self.redis_server = server, redis_server
        super().__init__(server, name, redis_server)
        self.daemon.environment |= self.another().environment

    @property
    def names(self) -> list[str]:
        return ["tickets"]

    def another(self) -> Projector:
        """Return a further daemon with the same settings, not started."""
        through = make_url(self.url).set(host="127.0.0.1", port=self.to_mysql.port)
        url = through.render_as_string(hide_password=False)
        to_redis = f"redis://127.0.0.1:{self.to_redis.port}/1"
        return Projector(url, to_redis, PROJECTOR_SOURCE__SLOT=self.slot, **_QUICK)

    def is_kept_by(self, standby: PostgresServer) -> bool:
        """Return whether the standby keeps the daemon's slot for good, at a place that its own log
        has: once the daemon has confirmed what lies before it."""
        kept = (
            "SELECT count(*) > 0 FROM pg_replication_slots WHERE slot_name = %s AND synced"
            " AND NOT temporary AND invalidation_reason IS NULL"
        )
        return bool(standby.execute(kept, self.slot)[0][0])

    def check(self, *, is_rewound: bool = False) -> None:
        """Wait, then compare the whole hash with hand-written SQL. `is_rewound`: a checkpoint may
        say that all is applied of a hash that is not there."""
        once_noticed(super().check, is_rewound=is_rewound)

    def fail_over(self, standby: PostgresServer) -> None:
        """Kill the primary, promote its standby, and lead the daemon's address there. What was the
        primary's object is the standby's from then on."""
        self.database.kill()
        standby.execute("SELECT pg_promote()")
        self.to_mysql.retarget(standby.host, standby.port)
        self.database.discard()
        self.database.port, self.database.process = standby.port, standby.process
        self.reconnect()

    def __exit__(self, *failure: object) -> None:
        super().__exit__(*failure)
        self.to_mysql.close()
        self.to_redis.close()
