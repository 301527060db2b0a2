"""Random schemas whose log hides much: chains of generated columns, foreign keys with composite
keys and actions, columns and parents that the account may not read; random statements, row images
and formats. Right is what SQL of its own says.

ABROAD_SEEDS widens the search, ABROAD_FIRST_SEED moves it.
"""

import contextlib
import os
import random

import pymysql
import pytest
import sqlalchemy as sa

from projector.projection import Many, Projection
from tests.abroad.world import MakeWorld, World

pytestmark = pytest.mark.server

_SEEDS = int(os.environ.get("ABROAD_SEEDS", "1"))
_FIRST = int(os.environ.get("ABROAD_FIRST_SEED", "1"))
_ROUNDS, _STEPS = 10, 3  # few steps each: a walk that one owes mends what was wrong before


def _table(name: str, key: str, columns: str) -> sa.Table:
    return sa.Table(
        name, sa.MetaData(),
        *(sa.Column(c, sa.Integer, primary_key=c in key.split()) for c in columns.split()),
    )  # fmt: skip


_r, _c = _table("r", "a b n", "a b n v"), _table("c", "id", "id pid w h")
hidden = Projection(
    "hidden", root=_r, fields=[_r.c.a, _r.c.b, _r.c.n, _r.c.v],
    collections=[Many("cs", _c, on=_c.c.pid == _r.c.n, fields=[_c.c.id, _c.c.w, _c.c.h])],
)  # fmt: skip


def _ddl(chance: random.Random) -> tuple[str, list[str]]:
    """Make up tables; return them with the columns of `c` that exist beside those of documents."""
    update, delete = chance.choice(["CASCADE", "RESTRICT"]), chance.choice(["CASCADE", "RESTRICT"])
    above = f"FOREIGN KEY (a, b) REFERENCES %s (a, b) ON UPDATE {update} ON DELETE {delete}"
    first, second = (chance.choice(["VIRTUAL", "STORED"]) for _ in range(2))
    key = chance.choice(["k", "up"])
    if key == "k":  # a stored column's base may not be set by a key
        first = second = "VIRTUAL"
    half = chance.choice(["m + IFNULL(k, 0)", "IFNULL(m, 0) * 2 + IFNULL(k, 0)"])
    set_off = chance.choice(["CASCADE", "SET NULL"])
    columns = ["m INT", "k INT", "up INT", "w INT", "secret INT DEFAULT 2"]
    chance.shuffle(columns)
    first_at, second_at = sorted(chance.sample(range(2, 7), 2))  # MariaDB: each behind its bases
    columns.insert(first_at, f"h INT AS ({half}) {first}")
    columns.insert(second_at, f"pid INT AS ({chance.choice(['h % 4', 'h'])}) {second}")
    key_text = f"FOREIGN KEY ({key}) REFERENCES q (id) ON DELETE {set_off}"
    if chance.random() < 0.5:
        key_text += f" ON UPDATE {chance.choice(['CASCADE', 'SET NULL'])}"
    return (
        "CREATE TABLE g0 (a INT, b INT, PRIMARY KEY (a, b));"
        f"CREATE TABLE g1 (x INT, a INT, b INT, PRIMARY KEY (a, b), {above % 'g0'});"
        f"CREATE TABLE r (a INT, b INT, n INT, v INT, PRIMARY KEY (a, b, n), {above % 'g1'});"
        "CREATE TABLE q (id INT PRIMARY KEY, x INT); CREATE TABLE noise (n INT);"
        f"CREATE TABLE c (id INT PRIMARY KEY, {', '.join(columns)}, {key_text});"
        "CREATE TRIGGER noisy AFTER INSERT ON noise FOR EACH ROW"
        " UPDATE c SET w = NEW.n WHERE id = 1;"
    ), [key]


def _session(chance: random.Random) -> list[str]:
    """Settings for a whole run, so that not each is mended by walks that some of them cost."""
    return [
        f"SET SESSION binlog_format = {chance.choice(['ROW', 'ROW', 'ROW', 'MIXED'])}",
        f"SET SESSION binlog_row_image = {chance.choice(['FULL', 'FULL', 'MINIMAL', 'NOBLOB'])}",
    ]


def _statement(chance: random.Random) -> str:
    a, b, m, k = (chance.randint(0, 3) for _ in range(4))
    n, v = chance.randint(0, 8), chance.randint(0, 99)
    on_child = [
        f"REPLACE INTO c (id, m, k, up) VALUES ({n}, {m}, {k}, {b})",
        f"INSERT IGNORE INTO c (id, m) VALUES ({n}, {m})",
        f"UPDATE c SET m = {m} WHERE id = {n}", f"UPDATE c SET k = {k} WHERE id = {n}",
        f"UPDATE c SET m = m + 0.6 WHERE id = {n}", f"UPDATE c SET up = {b} WHERE id = {n}",
        f"UPDATE c SET w = {v} WHERE id = {n}", f"UPDATE c SET secret = {v} WHERE id = {n}",
        f"DELETE FROM c WHERE id = {n}", f"DELETE FROM q WHERE id = {a}",
        f"UPDATE q SET id = {b} WHERE id = {a}", f"INSERT IGNORE INTO q VALUES ({a}, 0)",
    ]  # fmt: skip
    on_key = [
        f"INSERT IGNORE INTO g0 VALUES ({a}, {b})", f"INSERT IGNORE INTO g1 VALUES ({n}, {a}, {b})",
        f"REPLACE INTO r VALUES ({a}, {b}, {n}, {v})",
        f"REPLACE INTO r VALUES ({b}, {a}, {n}, {v})",
        f"UPDATE g0 SET a = {m} WHERE (a, b) = ({a}, {b})",
        f"UPDATE g1 SET b = {m}, x = 1 WHERE (a, b) = ({a}, {b})", f"UPDATE g1 SET x = {n}",
        f"UPDATE r SET v = {v}, n = {n} WHERE (a, b) = ({a}, {b}) LIMIT 1",
        f"DELETE FROM g0 WHERE (a, b) = ({a}, {b})", f"DELETE FROM g1 WHERE (a, b) = ({a}, {b})",
    ]  # fmt: skip
    rare = [
        f"INSERT INTO noise VALUES ({v})", f"INSERT INTO noise VALUES ({v})",
        f"SET SESSION foreign_key_checks = {chance.choice([0, 1])}",
        f"ALTER TABLE c MODIFY m {chance.choice(['INT', 'DECIMAL(8, 1)'])}",
    ]  # fmt: skip
    return chance.choice(chance.choice([on_child, on_child, on_key, on_key, rare]))


def _run(world: World, chance: random.Random, steps: int) -> None:
    for _ in range(steps):
        with contextlib.suppress(pymysql.MySQLError):  # refused by a key
            world.execute(_statement(chance))


def _check(world: World) -> None:
    rows = world.execute("SELECT id, pid, w, h FROM c ORDER BY id")
    world.expect({
        f"{a}:{b}:{n}": {
            "a": a, "b": b, "n": n, "v": v,
            "cs": [{"id": i, "w": w, "h": h} for i, pid, w, h in rows if pid == n],
        }
        for a, b, n, v in world.execute("SELECT a, b, n, v FROM r")
    })  # fmt: skip


@pytest.mark.parametrize("seed", range(_FIRST, _FIRST + _SEEDS))
def test_what_the_log_hides_is_found(abroad: MakeWorld, seed: int) -> None:
    """After each few statements, before and after a restart, every document is right."""
    chance = random.Random(seed)
    ddl, keys = _ddl(chance)
    granted = ", ".join(["id", "pid", "w", "h", "m", "k", *keys])
    tables = chance.choice([None, None, ["r", "c"], ["r"], ["r"]])
    world = abroad(
        ddl,
        "tests.abroad.test_hidden_random:hidden",
        tables=tables,
        grants=[f"GRANT SELECT ({granted}) ON {{schema}}.c TO {{user}}"] if tables == ["r"] else [],
    )
    _run(world, chance, 80)
    world.execute(*_session(chance))
    world.start()
    for round_ in range(_ROUNDS):
        if round_ == _ROUNDS // 2:
            assert world.daemon.stop() == 0
        _run(world, chance, _STEPS)
        if round_ == _ROUNDS // 2:
            world.daemon.start()
        _check(world)
