"""Servers for the tests, the demo and development, found or made: databases, Redis and Valkey.

Where a server comes from, first that works:

1. an address in the environment (`PROJECTOR_TEST_MYSQL_URL`, `PROJECTOR_TEST_MARIADB_URL`,
   `PROJECTOR_TEST_POSTGRES_URL`, `PROJECTOR_TEST_REDIS_URL`), for the shared servers of
   `find_database`, `find_postgres` and `find_redis`;
2. Docker, where a daemon answers;
3. `mysqld`, `mariadbd`, `postgres`, `redis-server`, `valkey-server` of the right version on the
   machine;
4. on Debian or Ubuntu, the distribution's packages, fetched and verified by apt into a private
   folder (`$PROJECTOR_SERVERS_DIR`, default `~/.cache/projector-servers`), said aloud first.
   Nothing is installed on the machine, no service is started and no root is needed: the programs
   run from there with their own loader and libraries. What the machine's release does not have
   comes from Debian's unstable, off the machine's own mirror, or out of a wheel (PostgreSQL 18).

Servers never outlive the process that started them, however it ends; each has its own free port on
127.0.0.1 and a throwaway folder. Use:

    from tests.servers import Flavour, RedisKind, start_database, start_redis

    with start_database(Flavour.MYSQL) as server:     # or server.discard() in the end
        server.create_database("helpdesk")
        server.load_sql(Path("schema.sql"), "helpdesk")
        server.execute("SELECT id FROM helpdesk.tickets WHERE id > %s", 5)  # list of tuples
        server.kill(); server.start()                 # SIGKILL; the same port and data again
        server.pause(); server.resume()               # SIGSTOP, SIGCONT
        engine = create_engine(server.url("helpdesk"))
    start_database(Flavour.MARIADB, options=["--log-bin-compress=1"])
    start_database(Flavour.MYSQL, gtid=False)
    start_replica(server, semi_sync=True)
    start_postgres(PostgresFlavour.POSTGRES, options=["--wal-sender-timeout=3s"])
    start_standby(postgres)
    redis = start_redis(RedisKind.VALKEY, options=["--maxmemory", "50mb"])
    redis.url(db=1), redis.client()
    start_redis_cluster(3), start_sentinel({"tickets": redis})
    TcpProxy("127.0.0.1", server.port)                # cut, stall, delay, reset_connections, heal

`python -m tests.servers ensure` fetches what is missing; `python -m tests.servers up mysql redis`
runs servers until Ctrl-C.
"""

from tests.servers.database import ROOT_PASSWORD, DatabaseServer
from tests.servers.flavours import Flavour, PostgresFlavour, RedisKind, ServerUnavailable
from tests.servers.keyvalue import (
    RedisServer,
    find_redis,
    start_redis,
    start_redis_cluster,
    start_sentinel,
)
from tests.servers.postgres import PostgresServer, find_postgres, start_postgres
from tests.servers.programs import available, ensure
from tests.servers.proxy import TcpProxy
from tests.servers.refusing import RefusingProxy
from tests.servers.replica import start_replica, wait_for_replica
from tests.servers.standby import start_standby, wait_for_standby
from tests.servers.start import find_database, start_database

__all__ = [
    "ROOT_PASSWORD",
    "DatabaseServer",
    "Flavour",
    "PostgresFlavour",
    "PostgresServer",
    "RedisKind",
    "RedisServer",
    "RefusingProxy",
    "ServerUnavailable",
    "TcpProxy",
    "available",
    "ensure",
    "find_database",
    "find_postgres",
    "find_redis",
    "start_database",
    "start_postgres",
    "start_redis",
    "start_redis_cluster",
    "start_replica",
    "start_sentinel",
    "start_standby",
    "wait_for_replica",
    "wait_for_standby",
]
