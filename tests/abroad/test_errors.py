"""Errors of the database about its state: the daemon waits, says which, and goes on by itself."""

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from projector.mysql.errors import NAME_BY_CODE
from projector.projection import Join, Many, Projection
from tests.abroad.world import MakeWorld, World
from tests.projector_process import wait_for
from tests.servers import Flavour, RefusingProxy

pytestmark = pytest.mark.server

_meta = sa.MetaData()
_owner = sa.Table(
    "owner", _meta, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(40))
)
_case = sa.Table(
    "cases", _meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("owner_id", sa.Integer),
    sa.Column("title", sa.String(40)),
)  # fmt: skip
_note = sa.Table(
    "note", _meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("case_id", sa.Integer),
    sa.Column("body", sa.String(40)),
)  # fmt: skip
cases = Projection(
    "cases",
    root=_case,
    fields=[_case.c.id, _case.c.title, _owner.c.name.label("owner")],
    joins=[Join(_owner, _owner.c.id == _case.c.owner_id)],
    collections=[
        Many("notes", _note, _note.c.case_id == _case.c.id, fields=[_note.c.id, _note.c.body])
    ],
)

DDL = """
CREATE TABLE owner (id INT PRIMARY KEY, name VARCHAR(40));
CREATE TABLE cases (id INT PRIMARY KEY, owner_id INT, title VARCHAR(40), KEY (owner_id));
CREATE TABLE note (id INT PRIMARY KEY, case_id INT, body VARCHAR(40), KEY (case_id));
INSERT INTO owner VALUES (1, 'Ann'), (2, 'Bob');
INSERT INTO cases VALUES (1, 1, 'a'), (2, 2, 'b'), (3, NULL, 'c');
INSERT INTO note VALUES (1, 1, 'x'), (2, 1, 'y'), (3, 3, 'z');
"""
NAME = "tests.abroad.test_errors:cases"


def _expected(world: World) -> dict[str, Any]:
    """Return what root reads, table by table, put together by hand."""
    owner = dict(world.execute("SELECT id, name FROM owner"))
    notes: dict[int, list[dict[str, Any]]] = {}
    for number, case, body in world.execute("SELECT id, case_id, body FROM note ORDER BY id"):
        notes.setdefault(case, []).append({"id": number, "body": body})
    return {
        str(number): {
            "id": number, "title": title, "owner": owner.get(of), "notes": notes.get(number, []),
        }
        for number, of, title in world.execute("SELECT id, owner_id, title FROM cases")
    }  # fmt: skip


def _check(world: World) -> None:
    world.expect(_expected(world))
    assert world.quarantined() == {}


def _epoch(world: World) -> int:
    return int(world.redis.hget("{cases}:checkpoint", "epoch"))


def _status(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.daemon.http("/status.json")[1])
    return found


def _errors(world: World) -> list[dict[str, Any]]:
    return [e for e in world.daemon.events() if e["level"] == "error"]


def _warnings(world: World) -> list[dict[str, Any]]:
    return [e for e in _failures(world) if e["level"] == "warning"]


def _failures(world: World) -> list[dict[str, Any]]:
    """Return what was logged of failures, also of a connection that broke off alone."""
    return [e for e in world.daemon.events() if "message" in e]


@contextmanager
def _before(world: World) -> Iterator[RefusingProxy]:
    """Put a refusing proxy between the daemon and its server."""
    with RefusingProxy(world.database.host, world.database.port) as proxy:
        url = make_url(world.url).set(host=proxy.host, port=proxy.port)
        world.daemon.environment["PROJECTOR_MYSQL__URL"] = url.render_as_string(False)
        yield proxy


def test_one_refused_read_is_one_more_read(abroad: MakeWorld) -> None:
    """The lease is kept, MySQL is not called away, nothing is an error, the pause stays short."""
    codes = [1213, 1205, 1412, 1317, 1615, 1020, 1105, 1290, 145, 3032, 1146, 1142, 1927, 4999]
    world = abroad(DDL, NAME)
    with _before(world) as proxy:
        world.start()
        epoch = _epoch(world)
        for code in codes:
            proxy.refuse(code, of="FROM cases", times=2)
            world.execute(f"UPDATE cases SET title = 'n{code}' WHERE id = 1")
            wait_for(lambda: proxy.is_relenting, world.daemon)
            _check(world)
        assert _epoch(world) == epoch
        assert _errors(world) == []
        events = world.daemon.events()
        assert not any("does not answer" in e["event"] for e in events)
        waited_s = [e["waited_s"] for e in events if e["event"] == "goes on"]
        assert len(waited_s) >= len(codes) - 1
        assert max(waited_s) < 2
        assert sorted(waited_s)[len(waited_s) // 2] < 0.5
        for code in set(codes) - {1927}:
            assert sum(str(code) in e["message"] for e in _warnings(world)) == 1, code
        status = _status(world)
        assert (status["last_error"], status["waiting_for"]) == (None, None)


def test_a_lasting_refusal_is_said_and_forgotten(abroad: MakeWorld) -> None:
    """Status and probes tell what is waited for; the last error goes with its cause."""
    world = abroad(DDL, NAME)
    with _before(world) as proxy:
        world.start()
        proxy.refuse(1146, "Table 'cases' doesn't exist", of="FROM cases", times=10_000)
        world.execute("UPDATE cases SET title = 'new' WHERE id = 1")
        wait_for(lambda: "1146" in (_status(world)["last_error"] or ""), world.daemon)
        assert "1146" in _status(world)["waiting_for"]
        assert world.daemon.http("/livez")[0] == 200
        said = json.loads(world.daemon.run("status", "--json").stdout)
        assert "1146" in said["waiting_for"]
        proxy.relent()
        _check(world)
        wait_for(lambda: _status(world)["last_error"] is None, world.daemon)
        assert _status(world)["waiting_for"] is None
        assert world.daemon.stop() == 0


@pytest.mark.parametrize("anywhere", [Flavour.MYSQL], indirect=True, ids=str)
def test_an_offline_server_is_waited_for(abroad: MakeWorld) -> None:
    """offline_mode throws ordinary accounts out and refuses them: under way, and at a start."""
    world = abroad(DDL, NAME)
    world.start()
    try:
        world.execute("SET GLOBAL offline_mode = ON", "UPDATE cases SET title = 'off' WHERE id = 1")
        wait_for(lambda: "3032" in (_status(world)["last_error"] or ""), world.daemon)
        assert world.daemon.stop() == 0
        world.daemon.start()
        wait_for(lambda: "3032" in (_status(world)["last_error"] or ""), world.daemon)
    finally:
        world.execute("SET GLOBAL offline_mode = OFF")
    _check(world)


def _away(world: World, *statements: str, back: str, seconds: float) -> None:
    """Change a definition for a while; meanwhile rows of it and of others are changed."""
    world.execute(*statements)
    time.sleep(seconds)  # how long it is away is what is tried
    world.execute(back)


def test_tables_and_columns_that_are_away_for_a_moment_come_back(abroad: MakeWorld) -> None:
    """Rotations and online migrations: root, joined table, child, a column; also at a start."""
    world = abroad(DDL, NAME)
    world.start()
    change = "UPDATE cases SET title = CONCAT(title, '.') WHERE id IN (1, 3)"
    for table in ("cases", "owner", "note"):
        hurry = [] if table == "cases" else [change]
        _away(
            world, f"RENAME TABLE {table} TO {table}_old", *hurry,
            back=f"RENAME TABLE {table}_old TO {table}", seconds=0.4,
        )  # fmt: skip
        _check(world)
        world.execute(change)
    world.execute("CREATE TABLE note_new LIKE note", "INSERT INTO note_new SELECT * FROM note")
    _away(
        world, change, "DROP TABLE note", change, back="RENAME TABLE note_new TO note", seconds=0.4
    )
    _check(world)
    _away(
        world, "ALTER TABLE owner RENAME COLUMN name TO called", change,
        back="ALTER TABLE owner RENAME COLUMN called TO name", seconds=0.4,
    )  # fmt: skip
    _check(world)
    assert world.daemon.stop() == 0
    world.execute(change, "RENAME TABLE note TO note_old")
    world.daemon.start()
    time.sleep(0.8)  # it has begun to look
    world.execute("RENAME TABLE note_old TO note")
    _check(world)
    assert _errors(world) == []


def test_privileges_and_accounts_that_are_away_for_a_moment_come_back(abroad: MakeWorld) -> None:
    """A role's grants made again, an account locked: what was connected, and what connects."""
    world = abroad(DDL, NAME)
    world.start()
    user = f"'{make_url(world.url).username}'@'%'"
    change = "UPDATE cases SET title = CONCAT(title, '.') WHERE id = 1"
    _away(
        world, f"REVOKE SELECT ON `{world.schema}`.note FROM {user}", change,
        back=f"GRANT SELECT ON `{world.schema}`.note TO {user}", seconds=0.5,
    )  # fmt: skip
    _check(world)
    world.execute(f"ALTER USER {user} ACCOUNT LOCK", change)
    _kill_all(world)
    time.sleep(0.5)
    world.execute(f"ALTER USER {user} ACCOUNT UNLOCK")
    _check(world)


def _kill_all(world: World) -> int:
    """End every connection of the daemon."""
    user = make_url(world.url).username
    sql = f"SELECT id FROM information_schema.processlist WHERE user = '{user}'"
    found = world.execute(sql)
    for (number,) in found:
        try:
            world.execute(f"KILL {number}")
        except Exception:
            pass  # gone already
    return len(found)


def test_a_connection_closed_while_idle_is_made_again_without_a_word(abroad: MakeWorld) -> None:
    """By wait_timeout, a KILL or a proxy: no error, no retry, no new term, no pause."""
    world = abroad(DDL, NAME)
    with _before(world) as proxy:
        world.start()
        world.execute("UPDATE cases SET title = 'first' WHERE id = 1")  # connects
        _check(world)
        epoch = _epoch(world)
        for number in range(3):
            proxy.refuse(0, of="FROM cases")  # breaks the line off when it is next used
            started = time.monotonic()
            world.execute(f"UPDATE cases SET title = 'n{number}' WHERE id = 1")
            _check(world)
            assert time.monotonic() - started < 5
        assert proxy.is_relenting
        assert _failures(world) == []
        assert _epoch(world) == epoch


def test_a_small_wait_timeout_costs_nothing(abroad: MakeWorld) -> None:
    """The server's limit for idle connections is below the pauses between changes."""
    world = abroad(DDL, NAME)
    [(usual,)] = world.execute("SELECT @@GLOBAL.wait_timeout")
    world.execute("SET GLOBAL wait_timeout = 1")
    try:
        world.start()
        time.sleep(2.5)  # connections that were used are idle for longer than the limit
        world.execute("UPDATE cases SET title = 'late' WHERE id = 1")
        _check(world)
    finally:
        world.execute(f"SET GLOBAL wait_timeout = {usual}")
    assert _failures(world) == []


def test_a_value_that_the_server_cannot_compute_is_one_documents_own(abroad: MakeWorld) -> None:
    """One row makes the query fail: its document is set aside with the error's number and name, the
    others are written."""
    world = abroad(
        "CREATE TABLE reading (id INT PRIMARY KEY, v BIGINT UNSIGNED);"
        "INSERT INTO reading VALUES (1, 5), (2, 1), (3, 7)",
        "tests.abroad.test_errors:readings",
    )
    world.start()
    world.expect({"1": {"id": 1, "less": 2}, "3": {"id": 3, "less": 4}})
    assert {k: "1690 DATA_OUT_OF_RANGE" in v for k, v in world.quarantined().items()} == {"2": True}
    world.execute("UPDATE reading SET v = v + 10", "INSERT INTO reading VALUES (4, 0)")
    world.expect(
        {"1": {"id": 1, "less": 12}, "2": {"id": 2, "less": 8}, "3": {"id": 3, "less": 14}}
    )
    assert set(world.quarantined()) == {"4"}


_reading = sa.Table(
    "reading", _meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("v", sa.BigInteger),
)  # fmt: skip
readings = Projection(
    "readings", root=_reading, fields=[_reading.c.id, (_reading.c.v - 3).label("less")]
)


@pytest.mark.parametrize("anywhere", [Flavour.MYSQL, Flavour.MARIADB], indirect=True, ids=str)
def test_a_scrub_beside_changes_that_wait_raises_no_false_alarm(abroad: MakeWorld) -> None:
    """Under load, after a restart and while reads are refused, the tail is behind what a chunk of
    the scrub has seen: that is no difference."""
    world = abroad(DDL, NAME, PROJECTOR_RECONCILE__SCRUB_INTERVAL_S="1")
    with _before(world) as proxy:
        world.start()
        for turn in range(2):
            proxy.refuse(1412, of="FROM cases LEFT", times=10_000, chance=0.4)
            for number in range(150):
                world.execute(f"UPDATE cases SET title = '{turn}.{number}'")
            assert world.daemon.stop() == 0
            world.execute("UPDATE cases SET title = 'meanwhile'")
            proxy.relent()
            world.start()
        _check(world)
        wait_for(lambda: _status(world)["verified_at"], world.daemon, 60)
        assert not [e for e in world.daemon.events() if e["event"] == "scrub_found_differences"]


def test_every_known_error_at_any_query_ends_in_the_right_documents(abroad: MakeWorld) -> None:
    """Numbers, queries and moments at random: the daemon never ends, and nothing is wrong or set
    aside that the error does not concern."""
    seeds = range(int(os.environ.get("ABROAD_SEEDS", "1")))
    world = abroad(DDL, NAME)
    for seed in seeds:
        _try_errors(world, seed)


def _try_errors(world: World, seed: int) -> None:
    chance = random.Random(seed)
    codes = [code for code in NAME_BY_CODE if not 2000 <= code < 2100]
    world.redis.flushdb()
    with _before(world) as proxy:
        world.daemon.start()
        for number in range(24):
            code = chance.choice([*codes, 0, 0, 0, 4999])
            part = chance.choice(
                ["", "", "FROM cases", "FROM note", "information_schema", "SET ", "SHOW"]
            )
            proxy.refuse(code, of=part, times=chance.choice([1, 1, 2, 3]), chance=0.7)
            case = chance.randint(1, 6)
            world.execute(
                chance.choice(
                    [
                        f"REPLACE INTO cases VALUES ({case}, {chance.randint(1, 2)}, 't{number}')",
                        f"REPLACE INTO note VALUES ({chance.randint(1, 9)}, {case}, 'b{number}')",
                        f"DELETE FROM note WHERE id = {chance.randint(1, 9)}",
                        f"UPDATE owner SET name = 'o{number}' WHERE id = {chance.randint(1, 2)}",
                    ]
                )
            )
            if number % 8 == 7:
                time.sleep(chance.random() / 2)
        proxy.relent()
        for name, value in (("owner", "o"), ("cases", "c"), ("note", "n")):  # what was set aside
            column = {"owner": "name", "cases": "title", "note": "body"}[name]
            world.execute(f"UPDATE {name} SET {column} = CONCAT({column}, '{value}')")
        _check(world)
        assert world.daemon.stop() == 0, (seed, proxy.refused)
        assert "Traceback" not in world.daemon.log(), (seed, proxy.refused)
