"""Failover of PostgreSQL under load, with and without the slot: the daemon follows the address."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.faults.postgres_stage import PostgresStage, standby_of
from tests.projector_process import wait_for
from tests.servers import (
    PostgresFlavour,
    PostgresServer,
    start_postgres,
    start_redis,
    wait_for_standby,
)

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]


@contextlib.contextmanager
def replicated(
    flavour: PostgresFlavour, *, keeps_slot: bool = False
) -> Iterator[tuple[PostgresStage, PostgresServer]]:
    """A helpdesk on a primary, and its standby. The daemon runs, and has built its hash."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(start_postgres(flavour))
        redis_server = stack.enter_context(start_redis())
        primary.create_database("helpdesk")
        world = stack.enter_context(PostgresStage(primary, "helpdesk", redis_server))
        standby = stack.enter_context(standby_of(primary, keeps_slots=keeps_slot))
        world.daemon.environment["PROJECTOR_SOURCE__CONFIRM_AFTER_S"] = "2"
        world.daemon.start()
        world.check()
        yield world, standby


def comparisons(world: PostgresStage) -> int:
    """Return how often everything was compared because the log could not be read on."""
    done = [event for event in world.daemon.events() if event.get("event") == "resync_done"]
    return sum(event.get("reason") == "position_lost" for event in done)


def test_a_promoted_standby_that_has_the_slot_is_followed() -> None:
    """Nothing is lost, nothing is compared, and nobody restarts the daemon."""
    with replicated(PostgresFlavour.POSTGRES_18, keeps_slot=True) as (world, standby):
        wait_for(lambda: world.is_kept_by(standby), world.daemon, 60)
        world.workload(4, rate=100).run(3)
        wait_for_standby(world.database, standby)
        world.fail_over(standby)
        world.workload(5, rate=100).run(3)
        world.check()
        assert comparisons(world) == 0


@pytest.mark.parametrize("flavour", PostgresFlavour, ids=str)
def test_a_promoted_standby_without_the_slot_is_followed(flavour: PostgresFlavour) -> None:
    """All documents are compared once, and the log of the new primary is read on."""
    with replicated(flavour) as (world, standby):
        world.workload(4, rate=100).run(3)
        wait_for_standby(world.database, standby)
        world.fail_over(standby)
        world.workload(5, rate=100).run(3)
        world.check()
        assert comparisons(world) == 1


@pytest.mark.parametrize("keeps_slot", [False, True])
def test_a_standby_that_lacks_transactions_is_noticed(*, keeps_slot: bool) -> None:
    """What documents show was never on the new primary, which says nothing of it."""
    with replicated(PostgresFlavour.POSTGRES_18, keeps_slot=keeps_slot) as (world, standby):
        if keeps_slot:
            wait_for(lambda: world.is_kept_by(standby), world.daemon, 60)
        wait_for_standby(world.database, standby)
        standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        standby.execute("SELECT pg_reload_conf()")
        receivers = "SELECT count(*) FROM pg_stat_wal_receiver"
        wait_for(lambda: standby.execute(receivers)[0][0] == 0, world.daemon)
        world.execute("UPDATE tickets SET title = 'never replicated'")
        world.check()
        world.fail_over(standby)
        world.check()
        assert comparisons(world) == 1
