"""Replicas of private MySQL and MariaDB servers, by GTID, with semi-sync if asked."""

from collections.abc import Sequence

from tests.servers.database import DatabaseServer
from tests.servers.flavours import Flavour
from tests.servers.start import start_database


def start_replica(
    primary: DatabaseServer,
    *,
    semi_sync: bool = False,
    semi_sync_timeout_s: float = 1.5,
    options: Sequence[str] = (),
) -> DatabaseServer:
    """A new replica of a private server, by GTID, that has caught up when this returns.

    With `semi_sync` the primary waits after its sync point (AFTER_SYNC) for the replica's
    acknowledgement, at most `semi_sync_timeout_s`; a paused replica never acknowledges.
    """
    mysql = primary.flavour is Flavour.MYSQL
    updates = "--log-replica-updates=1" if mysql else "--log-slave-updates=1"
    replica = start_database(primary.flavour, options=["--relay-log=relay", updates, *options])
    if semi_sync:
        _enable_semi_sync(primary, replica, semi_sync_timeout_s)
    prefix = "SOURCE" if mysql else "MASTER"
    settings = {
        "HOST": f"'{primary.host}'",
        "PORT": primary.port,
        "USER": f"'{primary.user}'",
        "PASSWORD": f"'{primary.password}'",
        "CONNECT_RETRY": 1,
    }
    address = ", ".join(f"{prefix}_{name}={value}" for name, value in settings.items())
    if mysql:
        how = "SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1"
        replica.execute(f"CHANGE REPLICATION SOURCE TO {address}, {how}")
        replica.execute("START REPLICA")
    else:
        replica.execute(f"CHANGE MASTER TO {address}, MASTER_USE_GTID=slave_pos")
        replica.execute("START SLAVE")
    wait_for_replica(primary, replica)
    return replica


def wait_for_replica(
    primary: DatabaseServer, replica: DatabaseServer, timeout_s: float = 60
) -> None:
    """Wait until the replica has applied all that the primary committed; else TimeoutError."""
    if primary.flavour is Flavour.MYSQL:
        target = primary.execute("SELECT @@global.gtid_executed")[0][0]
        waiting = "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)"
    else:
        target = primary.execute("SELECT @@global.gtid_binlog_pos")[0][0]
        waiting = "SELECT MASTER_GTID_WAIT(%s, %s)"
    if target and replica.execute(waiting, target, timeout_s)[0][0] != 0:
        raise TimeoutError(f"the replica has not reached {target} within {timeout_s:g} s")


def _enable_semi_sync(primary: DatabaseServer, replica: DatabaseServer, timeout_s: float) -> None:
    source, follower = "rpl_semi_sync_master", "rpl_semi_sync_slave"
    if primary.flavour is Flavour.MYSQL:
        source, follower = "rpl_semi_sync_source", "rpl_semi_sync_replica"
        primary.execute("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
        replica.execute("INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'")
    replica.execute(f"SET GLOBAL {follower}_enabled = ON")
    primary.execute(f"SET GLOBAL {source}_wait_point = 'AFTER_SYNC'")
    primary.execute(f"SET GLOBAL {source}_timeout = {round(timeout_s * 1000)}")
    primary.execute(f"SET GLOBAL {source}_enabled = ON")
