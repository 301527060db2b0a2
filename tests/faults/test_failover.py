"""Failover of the database by GTID under load: the daemon follows the address."""

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.faults.stage import HELPDESK, Stage
from tests.projector_process import Projector, wait_for
from tests.seed import seed
from tests.servers import DatabaseServer, Flavour, start_database, start_redis
from tests.servers.account import documented_url
from tests.servers.replica import start_replica, wait_for_replica
from tests.workload import Workload

pytestmark = [pytest.mark.server]


@contextlib.contextmanager
def replicated(flavour: Flavour) -> Iterator[tuple[Stage, DatabaseServer]]:
    """A stage on a primary, and its replica. The daemon is not started."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(start_database(flavour))
        redis_server = stack.enter_context(start_redis())
        primary.create_database("helpdesk")
        primary.load_sql(HELPDESK, "helpdesk")
        with contextlib.closing(primary.connect("helpdesk")) as connection:
            seed(connection, 200)
        replica = stack.enter_context(start_replica(primary))
        world = Stage(primary, redis_server)
        stack.callback(world.to_mysql.close)
        stack.callback(world.to_redis.close)
        stack.callback(world.redis.close)
        stack.push(world.daemon.__exit__)
        yield world, replica


@pytest.mark.timeout(180)
@pytest.mark.parametrize("flavour", [Flavour.MYSQL, Flavour.MARIADB], ids=str)
def test_a_promoted_replica_is_followed(flavour: Flavour) -> None:
    """The primary dies under load; its replica takes over at the same address; nothing is lost and
    nobody restarts the daemon."""
    with replicated(flavour) as (world, replica):
        primary = world.database
        world.daemon.start()
        world.check()
        Workload(world.connect, seed=4, cascades=False, rate=100).run(3)
        wait_for_replica(primary, replica)
        primary.kill()
        _promote(flavour, replica)
        world.to_mysql.retarget(replica.host, replica.port)
        world.database = replica
        Workload(world.connect, seed=5, cascades=False, rate=100).run(3)
        world.check()
        events = [event.get("event", "") for event in world.daemon.events()]
        assert not any("resync_needed" in e for e in events[events.index("listening") + 4 :])


@pytest.mark.timeout(180)
def test_a_replica_that_lacks_transactions_is_noticed() -> None:
    """What the daemon has read is not in the new primary: everything is compared and mended."""
    with replicated(Flavour.MYSQL) as (world, replica):
        primary = world.database
        world.daemon.start()
        world.check()
        replica.execute("STOP REPLICA")
        primary.execute("UPDATE helpdesk.tickets SET title = 'never replicated'")
        world.check()
        primary.kill()
        _promote(Flavour.MYSQL, replica)
        world.to_mysql.retarget(replica.host, replica.port)
        world.database = replica
        # The old checkpoint is beyond all that the new primary has: it says nothing.
        wait_for(lambda: _is_compared(world.daemon), world.daemon)
        world.check()


def _is_compared(daemon: Projector) -> bool:
    """Whether everything was compared because the log could not be read on."""
    done = [e for e in daemon.events() if e.get("event") == "resync_done"]
    return any(e.get("reason") == "position_lost" for e in done)


def _promote(flavour: Flavour, replica: DatabaseServer) -> None:
    word = "REPLICA" if flavour is Flavour.MYSQL else "SLAVE"
    replica.execute(f"STOP {word}")
    replica.execute(f"RESET {word} ALL")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("flavour", [Flavour.MYSQL, Flavour.MARIADB], ids=str)
def test_documents_are_read_from_a_replica_that_lags(flavour: Flavour) -> None:
    """The barrier waits for the replica; no document is older than its checkpoint."""
    with replicated(flavour) as (world, replica):
        primary = world.database
        world.daemon.environment["PROJECTOR_MYSQL__READ_URL"] = documented_url(replica, "helpdesk")
        world.daemon.start()
        world.check()
        word = "REPLICA" if flavour is Flavour.MYSQL else "SLAVE"
        replica.execute(f"STOP {word} SQL_THREAD")
        primary.execute("UPDATE helpdesk.tickets SET title = 'late on the replica'")
        time.sleep(1.5)
        first = world.redis.hvals("tickets")[0]
        assert b"late on the replica" not in first
        replica.execute(f"START {word} SQL_THREAD")
        world.check()
        assert b"late on the replica" in world.redis.hvals("tickets")[0]
