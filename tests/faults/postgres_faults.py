"""What befalls a daemon on PostgreSQL: the same as elsewhere, and what only this server does."""

import contextlib
import time
from random import Random
from typing import Any

import psycopg

from tests.faults import faults
from tests.faults.faults import FAULTS
from tests.faults.postgres_stage import standby_of
from tests.projector_process import wait_for
from tests.servers import PostgresFlavour


def sessions_terminated(stage: Any, random: Random) -> None:
    """The walsender ends, and some of the reading sessions."""
    with contextlib.suppress(psycopg.Error):
        stage.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'p\\_%%'"
            f" AND (backend_type = 'walsender' OR {random.random()} < 0.3)"
        )


def server_crashed(stage: Any, random: Random) -> None:
    """Immediate shutdown: the next start recovers from the log."""
    stage.database.stop_immediately()
    stage.database.start()


def slot_dropped(stage: Any, random: Random) -> None:
    """The log that the daemon needs goes away while it is down."""
    stage.daemon.kill()
    time.sleep(random.uniform(0.1, 0.6))
    named = f"FROM pg_replication_slots WHERE slot_name = '{stage.slot}'"
    stage.database.execute(f"SELECT pg_terminate_backend(active_pid, 5000) {named} AND active")
    stage.database.execute(f"SELECT pg_drop_replication_slot(slot_name) {named}")
    stage.daemon.start()


def failed_over(stage: Any, random: Random) -> None:
    """A standby is promoted in its primary's place, with the slot (18) or without it, and with the
    last transactions or without them."""
    is_18 = stage.database.flavour is PostgresFlavour.POSTGRES_18
    standby = standby_of(stage.database, keeps_slots=is_18)
    if is_18 and random.random() < 0.7:
        with contextlib.suppress(AssertionError):  # the daemon may be busy with another fault
            wait_for(lambda: stage.is_kept_by(standby), stage.daemon, 15)
    stage.fail_over(standby)


_OWN = [sessions_terminated, server_crashed, slot_dropped]
_OTHERS = {faults.dump_thread_killed, faults.logs_purged}  # of MySQL's statements
# A world's server is others', too: it is not promoted away.
OF_WORLDS = [*(fault for fault in FAULTS if fault not in _OTHERS), *_OWN]
ALL = [*OF_WORLDS, failed_over]
