"""The read barrier, made certain: under semi-sync AFTER_SYNC without an acknowledgement a commit
stands in the log long before other connections can see it."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from projector.databases import Mysql
from projector.fetch import Fetcher
from projector.model import Need, Transactions
from projector.mysql.barrier import Barrier, choose
from projector.mysql.binlog import BinlogSource
from projector.mysql.connection import Connection, Rows, engine
from projector.mysql.dialect import MYSQL
from projector.mysql.reader import MysqlReader
from projector.projection import Plan
from schema.projection import tickets
from tests.seed import seed
from tests.servers import DatabaseServer, Flavour, start_database
from tests.servers.account import documented_account

pytestmark = pytest.mark.server

HELPDESK = (Path(__file__).parent.parent / "helpdesk.sql").read_text("utf-8")
ACK_TIMEOUT_S = 1.5
ROUNDS = 4


class NoBarrier:
    """What most programs do: read at once."""

    def opening(self, need: Need, before: Sequence[Rows] = ()) -> list[str]:
        return ["START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"]

    def reached(self, need: Need, results: Sequence[Rows]) -> bool:
        return True


@pytest.fixture(
    scope="module",
    params=["mariadb", "mariadb-rotating", "mariadb11", "mysql", "mysql-without-gtid"],
)
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """Each kind of server that has a barrier of its own; one whose commits each end a log file."""
    flavour, _, how = request.param.partition("-")
    options = ["--max-binlog-size=4096"] if how == "rotating" else []
    with start_database(Flavour(flavour), gtid=how != "without-gtid", options=options) as found:
        found.create_database("helpdesk")
        found.load_sql(HELPDESK, "helpdesk")
        with contextlib.closing(found.connect("helpdesk")) as connection:
            seed(connection, 50)
        yield found


def _semi_sync(server: DatabaseServer) -> list[str]:
    """Wait for an acknowledgement that never comes; a timeout turns it off until said again."""
    if server.flavour is Flavour.MYSQL:
        with contextlib.suppress(Exception):  # installed in an earlier round
            server.execute("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
        name, none = "rpl_semi_sync_source", "replica"
    else:
        name, none = "rpl_semi_sync_master", "slave"
    timeout_ms = round(ACK_TIMEOUT_S * 1000)
    return [
        f"SET GLOBAL {name}_enabled = 0",
        f"SET GLOBAL {name}_timeout = {timeout_ms}",
        f"SET GLOBAL {name}_wait_point = 'AFTER_SYNC'",
        f"SET GLOBAL {name}_wait_no_{none} = 1",
        f"SET GLOBAL {name}_enabled = 1",
    ]


def _read_change(source: BinlogSource) -> Transactions:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = source.read(0.5)
        if found is not None and found.changes:
            return found
    raise AssertionError("no change came")


def _titles(fetcher: Fetcher, change: Transactions, ticket: int) -> str:
    found = fetcher.documents([str(ticket)], Need(change.barrier, change.changes))
    return found.documents[str(ticket)].decode().partition('"title":"')[2].partition('"')[0]


def test_a_document_is_never_read_before_its_change_is_visible(server: DatabaseServer) -> None:
    """Without the barrier the old title is read every time; with it the new one, no write after."""
    settings = Mysql(url=documented_account(server, "helpdesk"))
    plan = Plan(tickets, MYSQL)
    source = BinlogSource(settings)
    watches = plan.watches("helpdesk")
    place = {w.table: {c: i for i, c in enumerate(w.columns)} for w in watches}
    keys = {
        plan.table_name(n, "helpdesk"): tuple(
            (place[plan.table_name(n, "helpdesk")][c.name], c.name) for c in n.key
        )
        for n in plan.all_nodes()
    }
    position = source.current()
    source.start(position, watches)
    pool = engine(settings.parsed_url, settings)

    def fetcher(barrier: Barrier) -> Fetcher:
        return Fetcher(plan, MysqlReader(Connection(pool), barrier))

    naive, sound = fetcher(NoBarrier()), fetcher(choose(position, keys, is_replica=False))
    setup = _semi_sync(server)
    ticket = server.execute("SELECT MIN(id) FROM helpdesk.tickets")[0][0]
    stale = 0
    try:
        for number in range(ROUNDS):
            for statement in setup:
                server.execute(statement)
            writer = threading.Thread(
                target=server.execute,
                args=(
                    f"UPDATE helpdesk.tickets SET title = 'n{number}',"
                    f" description = REPEAT('x', 5000 + {number}) WHERE id = {ticket}",
                ),
            )
            writer.start()
            change = _read_change(source)
            stale += _titles(naive, change, ticket) != f"n{number}"
            assert _titles(sound, change, ticket) == f"n{number}"
            writer.join()
    finally:
        naive.close()
        sound.close()
        source.close()
        pool.dispose()
    assert stale == ROUNDS, "the fault that the barrier is for did not happen"


def test_thousands_of_lone_commits_at_the_head_are_never_stale(server: DatabaseServer) -> None:
    """One after the other, each read at once behind the barrier."""
    settings = Mysql(url=documented_account(server, "helpdesk"))
    plan = Plan(tickets, MYSQL)
    source = BinlogSource(settings)
    position = source.current()
    source.start(position, plan.watches("helpdesk"))
    pool = engine(settings.parsed_url, settings)
    keys: Any = {plan.table_name(plan.root, "helpdesk"): ((0, "id"),)}
    barrier = choose(position, keys, is_replica=False)
    sound = Fetcher(plan, MysqlReader(Connection(pool), barrier))
    last = 1500
    ticket = server.execute("SELECT MIN(id) FROM helpdesk.tickets")[0][0]
    problems: list[BaseException] = []

    def write() -> None:
        try:
            with contextlib.closing(server.connect("helpdesk")) as connection:
                cursor = connection.cursor()
                for number in range(1, last + 1):
                    cursor.execute(
                        f"UPDATE tickets SET estimated_hours = {number} WHERE id = {ticket}"
                    )
        except BaseException as problem:  # told by the test's own thread
            problems.append(problem)

    writer = threading.Thread(target=write)
    writer.start()
    seen = read = 0
    try:
        while seen < last:
            change = _read_change(source)
            seen += change.count
            found = sound.documents([str(ticket)], Need(change.barrier, change.changes))
            text = found.documents[str(ticket)].decode()
            hours = float(text.partition('"estimated_hours":"')[2].partition('"')[0])
            assert hours >= seen, f"stale: {hours} after {seen} commits"
            read += 1
    finally:
        writer.join()
        sound.close()
        source.close()
        pool.dispose()
    assert not problems
    assert read > last / 20
