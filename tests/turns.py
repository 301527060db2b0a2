"""`python -m tests.turns FOLDER`: daemons of this checkout and of another take turns on one store.

On each MySQL and MariaDB, under a random load over all tables: each turn a daemon is started from
the other checkout, works for a moment, and is stopped or killed (-9). In the end the hash must be
right, and nothing may have been compared whole but for the first build.
"""

import argparse
import sys
import time
from pathlib import Path
from random import Random

from tests.acceptance.worlds import HelpdeskWorld
from tests.projector_process import ROOT
from tests.servers import Flavour, start_database, start_redis
from tests.workload import Workload


def main() -> int:
    """Return 1 where a turn cost more than it should, or the hash is not right."""
    parser = argparse.ArgumentParser(prog="python -m tests.turns", description=__doc__)
    parser.add_argument("folder", type=Path, help="a checkout of another commit")
    parser.add_argument("--turns", type=int, default=8)
    chosen = parser.parse_args()
    return max([_play(flavour, chosen.folder.resolve(), chosen.turns) for flavour in Flavour])


def _play(flavour: Flavour, other: Path, turns: int) -> int:
    random = Random(f"turns:{flavour}")
    with start_database(flavour) as database, start_redis() as redis_server:
        database.create_database("helpdesk")
        with HelpdeskWorld(database, "helpdesk", redis_server) as world:
            world.daemon.environment["PROJECTOR_REDIS__LEASE_TTL_S"] = "2"
            workload = Workload(
                lambda: database.connect("helpdesk"), seed=5, cascades=True, rate=100
            )
            for turn in range(turns):
                world.daemon.folder = (ROOT, other)[turn % 2]
                world.daemon.start()
                if turn == 0:
                    world.check()
                    workload.start()
                time.sleep(random.uniform(2, 5))
                if random.random() < 0.5:
                    world.daemon.kill()
                else:
                    world.daemon.stop()
            workload.stop()
            world.daemon.start()
            world.check()
            events = world.daemon.events()
            walks = [e["reason"] for e in events if e.get("event") == "resync_needed"]
            print(f"{flavour}: {turns} turns, {workload.stats['transactions']} transactions, right;"
                  f" compared whole: {walks}")  # fmt: skip
            return walks != ["initial_build"]


if __name__ == "__main__":
    sys.exit(main())
