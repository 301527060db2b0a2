"""The servers, a seeded helpdesk on them, and the daemon that is measured."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from projector.mysql.dialect import MYSQL
from projector.projection import load_projections
from tests.projector_process import Projector, await_checkpoint, committed, is_settled, wait_for
from tests.seed import seed
from tests.servers import DatabaseServer, Flavour, start_database, start_redis
from tests.servers.account import documented_account

HELPDESK = (Path(__file__).parent.parent / "helpdesk.sql").read_text("utf-8")
_WRITERS = 4
# As a server of such a size has it: the default of 128 MB does not hold a million tickets.
_OPTIONS = ["--innodb-buffer-pool-size=2G"]
Figures = dict[str, float]


class Cpu(NamedTuple):
    """Seconds of processors that each has used."""

    daemon: float
    database: float
    redis: float

    def since(self, before: "Cpu", count: float) -> Figures:
        """Return what was used meanwhile a thousand of `count`."""
        return {
            f"{name} CPU s a thousand": (now - then) / count * 1000
            for name, now, then in zip(("daemon", "database", "Redis"), self, before, strict=True)
        }


class Bench:
    """Servers with a seeded helpdesk, and a daemon whose hash is built by the first scenario."""

    def __init__(self, database: DatabaseServer, redis_server: Any, size: int) -> None:
        self.database, self.size = database, size
        self.has_peers = True  # that run the same beside it
        self.connection = database.connect("helpdesk")
        self.redis = redis_server.client(db=1)
        self.redis_url = redis_server.url(db=1)
        self.daemon = Projector(
            documented_account(database, "helpdesk"), self.redis_url,
            PROJECTOR_RECONCILE__SCRUB_INTERVAL_S="0", PROJECTOR_LOG__LEVEL="warning",
        )  # fmt: skip
        [self.plan] = load_projections("schema.projection:tickets", MYSQL)

    @classmethod
    @contextmanager
    def open(cls, flavour: Flavour, size: int) -> Iterator[Self]:
        """Start servers and seed them."""
        with ExitStack() as stack:
            database = stack.enter_context(start_database(flavour, options=_OPTIONS))
            redis_server = stack.enter_context(start_redis())
            database.create_database("helpdesk")
            database.load_sql(HELPDESK, "helpdesk")
            with contextlib.closing(database.connect("helpdesk")) as connection:
                seed(connection, size)
            made = cls(database, redis_server, size)
            stack.callback(made.connection.close)
            stack.push(made.daemon.__exit__)
            yield made

    def ids(self) -> list[str]:
        """All tickets' ids."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT id FROM tickets ORDER BY id")
            return [str(row[0]) for row in cursor.fetchall()]

    def until_current_s(self) -> float:
        """Time a daemon, as seen in Redis: from its lease until nothing is left to be done."""
        return self.worked_off(1)[0]

    def worked_off(self, count: float) -> tuple[float, Figures]:
        """The same, with what it has used a thousand of `count`."""
        target = committed(self.connection)
        self.daemon.start("--until-current")
        wait_for(lambda: self.redis.exists("{tickets}:lease"), self.daemon)
        began, before, used = time.perf_counter(), self.used(), [self.used()]

        def is_done() -> bool:
            used.append(self.used())  # before it ends
            return is_settled(self.redis, target)

        wait_for(is_done, self.daemon, timeout_s=1800)
        took = time.perf_counter() - began
        assert self.daemon.wait(60) == 0, self.daemon.log()[-3000:]
        return took, used[-1].since(before, count)

    def follow(self) -> None:
        """Start a daemon that has worked off everything, and has seen a first live change."""
        self.daemon.start()
        wait_for(lambda: self.redis.exists("{tickets}:lease"), self.daemon)
        with self.connection.cursor() as cursor:
            cursor.execute("UPDATE tickets SET title = CONCAT('_', title) ORDER BY id LIMIT 1")
        await_checkpoint(self.redis, self.connection, self.daemon)

    def write(self, statement: Callable[[int], str], count: int) -> float:
        """Run statements from several connections; give the seconds."""

        def work(first: int) -> None:
            with contextlib.closing(self.database.connect("helpdesk")) as connection:
                cursor = connection.cursor()
                for number in range(first, count, _WRITERS):
                    cursor.execute(statement(number))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(_WRITERS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - began

    def rss_mb(self, figure: str = "VmRSS") -> float:
        """Resident memory of the daemon; `VmHWM`: its peak."""
        assert self.daemon.process is not None
        for line in Path(f"/proc/{self.daemon.process.pid}/status").read_text().splitlines():
            if line.startswith(figure):
                return int(line.split()[1]) / 1024
        return 0.0

    def used(self) -> Cpu:
        """CPU seconds of the daemon, if it runs, and of the servers, so far."""
        process, redis = self.daemon.process, self.redis.info("cpu")
        return Cpu(
            self.cpu_s(process.pid) if process is not None and process.poll() is None else 0.0,
            self.cpu_s(self.database.pid),
            redis["used_cpu_user"] + redis["used_cpu_sys"],
        )

    def cpu_s(self, pid: int) -> float:
        """CPU seconds that a process has used."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def questions(self) -> int:
        """Statements that the server has run."""
        return int(self.database.execute("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])
