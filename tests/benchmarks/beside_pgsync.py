"""`make bench-pgsync`: PGSync and the projector on the same database and changes, in one run.

Both make the same documents, each into a hash of its own; `pgsync_to_redis` is PGSync's target.
First each alone: a build, latency beside a load, changes made while it was away. Then both
together, through what changes documents; after each step all documents are compared with what one
query of this module's own says, read as the superuser. Orders of lists are not compared: PGSync has
none.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from projector.projection import Join, Many, One, Projection
from schema import tables as t
from tests.benchmarks.postgres import DATABASE, changes, seed
from tests.projector_process import ROOT, Projector
from tests.servers import start_redis
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.process import launch
from tests.servers.role import helpdesk_role

VERSION = "7.3.0"
_HOME = ROOT / "build" / f"pgsync-{VERSION}"
_LIMIT_S = 180
_QUIET_S = 20

documents = Projection(
    "tickets",
    root=t.tickets,
    fields=[t.tickets.c.id, t.tickets.c.title, t.tickets.c.description,
            t.ticket_statuses.c.name.label("status")],
    joins=[Join(t.ticket_statuses, t.tickets.c.status_id == t.ticket_statuses.c.id)],
    collections=[
        One("department", t.departments, on=t.tickets.c.department_id == t.departments.c.id,
            fields=[t.departments.c.name, t.organizations.c.name.label("organization")],
            joins=[Join(t.organizations,
                        t.departments.c.organization_id == t.organizations.c.id)]),
        One("requester", t.users, on=t.tickets.c.requester_id == t.users.c.id,
            fields=[t.users.c.full_name, t.users.c.email]),
        Many("tags", t.ticket_tags, on=t.ticket_tags.c.ticket_id == t.tickets.c.id,
             joins=[Join(t.tags, t.ticket_tags.c.tag_id == t.tags.c.id)], value=t.tags.c.name),
        Many("comments", t.ticket_comments, on=t.ticket_comments.c.ticket_id == t.tickets.c.id,
             fields=[t.ticket_comments.c.id, t.ticket_comments.c.body]),
    ],
)  # fmt: skip


def _node(table: str, label: str, columns: list[str], kind: str, **more: Any) -> dict[str, Any]:
    relationship = {"variant": "scalar" if kind == "values" else "object", **more}
    relationship["type"] = "one_to_many" if kind in ("many", "values") else "one_to_one"
    return {"table": table, "label": label, "columns": columns, "relationship": relationship}


_STATUS = _node("ticket_statuses", "status", ["name"], "one")
_ORGANIZATION = _node("organizations", "organization", ["name"], "one")
THEIRS = [{
    "database": DATABASE,
    "index": "pgsync",
    "nodes": {
        "table": "tickets",
        "columns": ["id", "title", "description"],
        "children": [
            _STATUS,
            {**_node("departments", "department", ["name"], "one"), "children": [_ORGANIZATION]},
            _node("users", "requester", ["full_name", "email"], "one",
                  foreign_key={"child": ["id"], "parent": ["requester_id"]}),
            _node("tags", "tags", ["name"], "values", through_tables=["ticket_tags"]),
            _node("ticket_comments", "comments", ["id", "body"], "many"),
        ],
    },
}]  # fmt: skip

# What the documents should be: written for this, and by nothing that either of the two uses.
_EXPECTED = """
SELECT t.id::text, jsonb_build_object(
  'id', t.id, 'title', t.title, 'description', t.description,
  'status', (SELECT name FROM ticket_statuses WHERE id = t.status_id),
  'department', (SELECT jsonb_build_object('name', d.name, 'organization', o.name)
    FROM departments d LEFT JOIN organizations o ON o.id = d.organization_id
    WHERE d.id = t.department_id),
  'requester', (SELECT jsonb_build_object('full_name', full_name, 'email', email)
    FROM users WHERE id = t.requester_id),
  'tags', (SELECT jsonb_agg(g.name) FROM ticket_tags l JOIN tags g ON g.id = l.tag_id
    WHERE l.ticket_id = t.id),
  'comments', (SELECT jsonb_agg(jsonb_build_object('id', c.id, 'body', c.body))
    FROM ticket_comments c WHERE c.ticket_id = t.id))
FROM tickets t
"""


def _plain(document: dict[str, Any]) -> str:
    """Write a document without what only PGSync has: its own record, {"name": …} around a name,
    null for an empty list, the orders of lists."""
    document.pop("_meta", None)
    if isinstance(document["status"], dict):
        document["status"] = document["status"]["name"]
    department = document["department"]
    if department and isinstance(department.get("organization"), dict):
        department["organization"] = department["organization"]["name"]
    for name in ("tags", "comments"):
        document[name] = sorted(json.dumps(x, sort_keys=True) for x in document[name] or [])
    return json.dumps(document, sort_keys=True)


class Ours:
    """The projector."""

    name, key = "projector", "tickets"

    def __init__(self, server: PostgresServer, redis_url: str) -> None:
        chosen = {"PROJECTOR_PROJECTION": "tests.benchmarks.beside_pgsync:documents"}
        self._daemon = Projector(helpdesk_role(server, DATABASE), redis_url, **chosen)

    def prepare(self) -> None:
        pass

    def start(self) -> None:
        self._daemon.start()

    def stop(self) -> None:
        self._daemon.stop()

    def kill(self) -> None:
        self._daemon.kill()

    @property
    def pid(self) -> int:
        assert self._daemon.process is not None
        return self._daemon.process.pid


class Pgsync:
    """PGSync in its documented mode (triggers, a queue in Redis), or `--wal`."""

    key = "pgsync"

    def __init__(
        self, server: PostgresServer, redis_url: str, folder: Path, *, is_wal: bool
    ) -> None:
        self.name = "PGSync --wal" if is_wal else "PGSync"
        self._mode = "--wal" if is_wal else "--daemon"
        self._environment = {
            **os.environ, "PG_URL": server.url(DATABASE), "REDIS_URL": redis_url,
            "CHECKPOINT_PATH": str(folder), "CONSOLE_LOGGING_HANDLER_MIN_LEVEL": "ERROR",
        }  # fmt: skip
        self._config = folder / "schema.json"
        self._config.write_text(json.dumps(THEIRS), "utf-8")
        self._log = (folder / "pgsync.log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make triggers and slot, and the documents: `--wal` alone makes none."""
        child = self._launch("--bootstrap")
        if child.wait(_LIMIT_S):
            raise RuntimeError(f"PGSync ended with {child.returncode}: see {self._log.name}")

    def _launch(self, *options: str) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("pgsync_to_redis.py")
        command = [str(_HOME / "bin" / "python"), str(script), "--config", str(self._config)]
        return launch([*command, *options], env=self._environment, stdout=self._log,
                      stderr=self._log)  # fmt: skip

    def start(self) -> None:
        self._process = self._launch(self._mode)

    def stop(self) -> None:
        self.kill()  # a signal ends it no sooner: it joins threads that wait

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    @property
    def pid(self) -> int:
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            raise RuntimeError(f"{self.name} ended with {code}: see {self._log.name}")
        return self._process.pid


Peer = Ours | Pgsync


class Comparison:
    """The database, the store, and what was wrong before."""

    def __init__(self, server: PostgresServer, client: Any, count: int) -> None:
        self.server, self.client, self.count = server, client, count
        self._wrong: dict[str, set[str]] = {}

    def wrong(self, key: str) -> set[str]:
        """Return the ids whose document is not as the database says now."""
        rows = self.server.execute(_EXPECTED, database=DATABASE)
        wanted = {str(i): _plain(document) for i, document in rows}
        stored = {k.decode(): _plain(json.loads(v)) for k, v in self.client.hgetall(key).items()}
        return {i for i in wanted.keys() | stored.keys() if wanted.get(i) != stored.get(i)}

    def settle(self, key: str) -> set[str]:
        """Wait until nothing is wrong, or nothing has changed for a while; return what is wrong."""
        began = changed = time.monotonic()
        before: set[str] | None = None
        while True:
            wrong, now = self.wrong(key), time.monotonic()
            if wrong != before:
                before, changed = wrong, now
            if not wrong or now > changed + _QUIET_S or now > began + _LIMIT_S:
                return wrong
            time.sleep(0.1)

    def report(self, peer: Peer, what: str, began: float) -> None:
        """Wait, and print how long it took and what is wrong."""
        wrong = self.settle(peer.key)
        took = time.monotonic() - began - (_QUIET_S if wrong else 0)
        print(f"{peer.name}: {what}: {took:.1f} s, {len(wrong):,} wrong", flush=True)

    def step(self, what: str, peers: list[Peer]) -> None:
        """Compare after a step; print what is wrong since."""
        said = []
        for peer in peers:
            wrong = self.settle(peer.key)
            new = wrong - self._wrong.get(peer.key, set())
            self._wrong[peer.key] = wrong
            said.append(f"{peer.name} {len(new):,}")
        print(f"{what}: wrong documents: {', '.join(said)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tickets", type=int, default=5_000)
    parser.add_argument("--rate", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    install()
    for is_wal in (False, True):
        with (
            start_postgres() as server,
            start_redis() as redis_server,
            tempfile.TemporaryDirectory(prefix="pgsync-") as folder,
        ):
            seed(server, arguments.tickets)
            run = Comparison(server, redis_server.client(1), arguments.tickets)
            ours = Ours(server, redis_server.url(db=1))
            theirs = Pgsync(server, redis_server.url(db=1), Path(folder), is_wal=is_wal)
            alone(run, ours, arguments)
            alone(run, theirs, arguments)
            together(run, [ours, theirs], arguments)


def install() -> None:
    """Make PGSync an environment of its own, once."""
    if not (_HOME / "bin" / "pgsync").exists():
        venv.create(_HOME, with_pip=True)
        subprocess.run(
            [_HOME / "bin" / "python", "-m", "pip", "install", "-q", f"pgsync=={VERSION}"],
            check=True,
        )


def alone(run: Comparison, peer: Peer, arguments: argparse.Namespace) -> None:
    """Measure a build, latency and memory beside a load, and changes made while it was away."""
    began = time.monotonic()
    peer.prepare()
    peer.start()
    run.report(peer, "build with the start", began)
    before = _cpu_s(peer.pid)
    with load(run.server, arguments.rate, run.count) as made:
        times = probes(run, peer.key, arguments.seconds)
    began = time.monotonic()
    wrong = run.settle(peer.key)
    behind = time.monotonic() - began - (_QUIET_S if wrong else 0)
    used = (_cpu_s(peer.pid) - before) / max(1, made())
    print(
        f"{peer.name}: beside {arguments.rate} commits/s:"
        f" p50 {1e3 * times[len(times) // 2]:.1f} ms, most {1e3 * times[-1]:.0f} ms"
        f" of {len(times)}, {behind:.1f} s behind in the end,"
        f" {1e3 * used:.2f} ms of CPU a commit, resident {_resident_mb(peer.pid):.0f} MB,"
        f" {len(wrong):,} wrong",
        flush=True,
    )
    peer.stop()
    changes(run.server, run.count, run.count)
    began = time.monotonic()
    peer.start()
    run.report(peer, f"{run.count:,} changes while it was away, with the start", began)
    peer.stop()


@contextlib.contextmanager
def load(server: PostgresServer, rate: int, count: int) -> Iterator[Callable[[], int]]:
    """Change the status of tickets at a rate meanwhile; yields how many were committed."""
    done, made = threading.Event(), 0

    def work() -> None:
        nonlocal made
        with server.connect(DATABASE) as connection:
            due = time.monotonic()
            while not done.is_set():
                due += 1 / rate
                time.sleep(max(0.0, due - time.monotonic()))
                made += 1
                connection.execute(
                    "UPDATE tickets SET status_id = 3 - status_id WHERE id = %s",
                    (2 + made * 7919 % (count - 1),),
                )

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: made
    finally:
        done.set()
        thread.join()


def probes(run: Comparison, key: str, seconds: float) -> list[float]:
    """Return, sorted, the seconds from a commit until its document is there, of many commits; of
    one that takes over ten seconds at least these."""
    found: list[float] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        mark = f"probe {time.monotonic_ns()}"
        sql = f"UPDATE tickets SET title = '{mark}' WHERE id = 1"
        run.server.execute(sql, database=DATABASE)
        began = time.perf_counter()
        while mark.encode() not in run.client.hget(key, "1"):
            if time.perf_counter() > began + 10:
                return sorted([*found, time.perf_counter() - began])
            time.sleep(0.0005)
        found.append(time.perf_counter() - began)
    return sorted(found)


def together(run: Comparison, peers: list[Peer], arguments: argparse.Namespace) -> None:
    """Take both through what changes documents; print what each gets wrong."""
    for peer in peers:
        peer.start()
    run.step("start", peers)
    n = run.count
    for what, statements in {
        "100 comments moved to other tickets": [
            f"UPDATE ticket_comments SET ticket_id = 1 + ticket_id % {n} WHERE id <= 100"
        ],
        "100 comments deleted": ["DELETE FROM ticket_comments WHERE id BETWEEN 101 AND 200"],
        "100 tags taken off": ["DELETE FROM ticket_tags WHERE ticket_id BETWEEN 201 AND 300"],
        "100 tags put on": [
            "INSERT INTO ticket_tags SELECT i, 7 FROM generate_series(201, 300) i"
            " ON CONFLICT DO NOTHING"
        ],
        "100 tickets of another department": [
            "INSERT INTO departments (id, organization_id, name) VALUES (nextval("
            "'departments_id_seq') + 100, 1, 'other')",
            "UPDATE tickets SET department_id = (SELECT max(id) FROM departments)"
            " WHERE id BETWEEN 301 AND 400",
        ],
        "a tag renamed": ["UPDATE tags SET name = name || '!' WHERE id = 3"],
        "an organization renamed": ["UPDATE organizations SET name = name || '!' WHERE id = 1"],
        "a ticket whose id is changed": [
            "INSERT INTO tickets (id, title, status_id, priority_id, department_id, requester_id)"
            " VALUES (9000001, 'moved', 1, 1, 1, 1)",
            "UPDATE tickets SET id = 9000002 WHERE id = 9000001",
            "DELETE FROM tickets WHERE id = 9000002",
        ],
        "both killed (-9) beside a load, and started again": [],
        "TRUNCATE ticket_comments": ["TRUNCATE ticket_comments CASCADE"],
        "100 comments written": [
            "INSERT INTO ticket_comments (ticket_id, author_id, body)"
            " SELECT i, 1, 'later' FROM generate_series(1, 100) i"
        ],
    }.items():
        if not statements:
            _kill_under_load(run, peers, arguments)
        for statement in statements:
            run.server.execute(statement, database=DATABASE)
        run.step(what, peers)
    for peer in peers:
        peer.kill()


def _kill_under_load(run: Comparison, peers: list[Peer], arguments: argparse.Namespace) -> None:
    """Kill both amid changes to all that a document is made of; start them amid others."""
    with load(run.server, arguments.rate, run.count), run.server.connect(DATABASE) as connection:
        for turn in range(300):
            if turn == 100:
                for peer in peers:
                    peer.kill()
            if turn == 200:
                for peer in peers:
                    peer.start()
            ticket = 401 + turn * 3
            connection.execute("UPDATE ticket_comments SET ticket_id = %s WHERE id = %s",
                               (ticket + 1, ticket))  # fmt: skip
            connection.execute("DELETE FROM ticket_tags WHERE ticket_id = %s", (ticket,))
            connection.execute("DELETE FROM ticket_comments WHERE id = %s", (ticket + 2,))
            time.sleep(0.01)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
