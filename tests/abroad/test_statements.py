"""Statements in the log: every modifier, the client's character set, and any size."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa

from projector.projection import Projection
from tests.abroad.world import MakeWorld, World
from tests.servers import Flavour

pytestmark = pytest.mark.server

SEEDS = int(os.environ.get("ABROAD_SEEDS", "2"))
ROUNDS, A_ROUND = 6, 5


def _table(name: str) -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("a", sa.Integer),
    )


def _projection(name: str, table: sa.Table) -> Projection:
    return Projection(name, root=table, fields=[table.c.id, table.c.a])


goods = _projection("goods", _table("goods"))
tests_ = _projection("tests", _table("тест"))
tables = _projection("tables", _table("表"))
ALL = ",".join(f"{__name__}:{name}" for name in ("goods", "tests_", "tables"))
ROOT_BY_NAME = {"goods": "goods", "tests": "тест", "tables": "表"}
COLUMNS = "(id INT PRIMARY KEY, a INT, KEY (a))"
DDL = ";".join(
    [f"CREATE TABLE `{name}` {COLUMNS}" for name in (*ROOT_BY_NAME.values(), "other", "spare")]
    + [f"INSERT INTO `{name}` VALUES (1, 5), (2, 5), (3, 6)" for name in ROOT_BY_NAME.values()]
    + ["INSERT INTO other VALUES (1, 1), (2, 2)"]
)


def matches(world: World) -> None:
    """Compare each hash with its table."""
    world.settle()
    for name, table in ROOT_BY_NAME.items():
        rows = world.execute(f"SELECT id, a FROM `{table}`")
        assert world.documents(name) == {str(i): {"id": i, "a": a} for i, a in rows}, name


def run(world: World, *statements: str, charset: str = "utf8mb4", **settings: Any) -> None:
    """Run statements in a session of their own, with a client that speaks `charset`."""
    with world.database.connect(world.schema, charset=charset, **settings) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.parametrize("anywhere", list(Flavour), indirect=True, ids=str)
def test_the_clients_character_set_is_the_statements(abroad: MakeWorld) -> None:
    """Names in Cyrillic and Chinese, whose second byte may be a backslash, from old clients."""
    world = abroad(DDL, ALL)
    world.start()
    for charset, name in [("cp1251", "тест"), ("koi8r", "тест"), ("gbk", "表"), ("sjis", "表"),
                          ("cp932", "表"), ("cp866", "тест")]:  # fmt: skip
        run(world, f"TRUNCATE TABLE {name}", charset=charset)
        matches(world)
        statement = "SET SESSION binlog_format = 'STATEMENT'"
        run(world, statement, f"INSERT INTO `{name}` VALUES (1, 1), (2, 2)", charset=charset)
        matches(world)
    run(world, "DROP TABLE IF EXISTS тест_2", charset="cp1251")
    matches(world)


@pytest.mark.parametrize("anywhere", [Flavour.MARIADB, Flavour.MARIADB_11], indirect=True, ids=str)
def test_alter_ignore_deletes_rows(abroad: MakeWorld) -> None:
    """MariaDB removes the rows that a new key does not admit."""
    world = abroad(DDL, ALL)
    world.start()
    world.execute("ALTER IGNORE TABLE goods ADD UNIQUE KEY u (a)")
    matches(world)
    world.execute("ALTER TABLE goods COMMENT = 'x' ENGINE = BLACKHOLE") if _has_blackhole(
        world
    ) else None
    matches(world)


def _has_blackhole(world: World) -> bool:
    rows = world.execute("SELECT engine FROM information_schema.engines WHERE support <> 'NO'")
    return "BLACKHOLE" in {row[0].upper() for row in rows}


@pytest.mark.parametrize("anywhere", list(Flavour), indirect=True, ids=str)
def test_megabytes_that_nobody_watches_cost_little(abroad: MakeWorld) -> None:
    """A statement of 12 MB of another table neither fills the memory nor delays for seconds."""
    world = abroad(DDL + "; CREATE TABLE bulk (id INT, v LONGTEXT)", ALL)
    world.start()
    before = _peak_kb(world)
    values = ",".join(f"({i},'some text of number {i}')" for i in range(340_000))
    run(
        world,
        "SET SESSION binlog_format = 'MIXED'",
        f"INSERT INTO bulk VALUES {values}",
        max_allowed_packet=64 << 20,
    )
    world.execute("UPDATE goods SET a = 77 WHERE id = 1")
    matches(world)
    assert _peak_kb(world) - before < 150_000
    assert not world.daemon.process or world.daemon.process.poll() is None


def _peak_kb(world: World) -> int:
    assert world.daemon.process is not None
    text = Path(f"/proc/{world.daemon.process.pid}/status").read_text("utf-8")
    return int(text.partition("VmHWM:")[2].split()[0])


class Grammar:
    """Statements at random: forms that servers take and few write."""

    def __init__(self, seed: int, world: World) -> None:
        self._random = random.Random(seed)
        self._schema = world.schema
        self._is_mariadb = world.database.flavour is not Flavour.MYSQL
        self._ansi = False

    def session(self) -> list[str]:
        """Settings of a session."""
        self._ansi = self._random.random() < 0.3
        modes = ["ANSI_QUOTES"] * self._ansi + ["NO_BACKSLASH_ESCAPES"] * self._chance(0.3)
        log = self._random.choice(["STATEMENT", "MIXED", "ROW"])
        return [
            f"SET SESSION binlog_format = '{log}'",
            f"SET SESSION sql_mode = '{','.join(modes)}'",
        ]

    def statement(self) -> str:
        """One statement."""
        form = self._random.choice([self._dml, self._dml, self._ddl])
        gap = self._random.choice(["", "/* goods */ ", "-- it's\n", "# тест `\n", "/*!50000 */ "])
        prefix = ""
        if self._is_mariadb and self._chance(0.2):
            prefix = "SET STATEMENT lock_wait_timeout = 9 FOR "
        return gap + prefix + form()

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _pick(self, *words: str) -> str:
        return self._random.choice(words)

    def _name(self) -> str:
        name = self._random.choice(list(ROOT_BY_NAME.values()))
        quote = '"' if self._ansi and self._chance(0.5) else "`"
        spelled = self._pick(name, f"{quote}{name}{quote}", f"/*!{quote}{name}{quote}*/")
        if self._chance(0.3):
            spelled = self._pick(f"{self._schema}.{spelled}", f"`{self._schema}` . {spelled}")
            spelled = spelled.replace("/*!", "").replace("*/", "")
        return spelled

    def _text(self) -> str:
        return self._pick("''", "'it''s'", "'goods'", "'тест /*'", "'-- '", "' ` '")

    def _dml(self) -> str:
        name, key, a = self._name(), self._random.randint(1, 9), self._random.randint(1, 5)
        ignore = self._pick("", "IGNORE ", "LOW_PRIORITY ")
        forms = [
            f"INSERT {ignore}INTO {name} VALUES ({key}, {a}) ON DUPLICATE KEY UPDATE a = {a}",
            f"REPLACE INTO {name} (id, a) VALUES ({key}, LENGTH({self._text()}))",
            f"REPLACE {name} SET id = {key}, a = {a}",
            f"UPDATE {ignore}{name} SET a = {a} WHERE id <= {key} AND {self._text()} <> 'x'",
            f"DELETE {self._pick('', 'QUICK ')}FROM {name} WHERE id = {key}",
            f"UPDATE other, {name} AS x SET x.a = {a} WHERE x.id = other.id",
            f"DELETE x FROM other JOIN {name} AS x ON x.id = other.id WHERE x.a = {a}",
            f"INSERT IGNORE INTO {name} SELECT id + {key}, a FROM other",
            f"UPDATE other SET a = {a} WHERE id = 1 AND {self._text()} <> 'x'",
        ]
        if not self._is_mariadb:
            forms.append(f"WITH c AS (SELECT {a} AS a) UPDATE {name}, c SET {name}.a = c.a")
            forms.append(f"UPDATE /*+ NO_ICP(x) */ {name} SET a = a + 1")
        else:
            forms.append(f"UPDATE /*M! {ignore}*/ {name} SET a = a + 1")
            forms.append(f"ANALYZE UPDATE {name} SET a = {a} WHERE id = {key}")
        return self._random.choice(forms)

    def _ddl(self) -> str:
        name = self._name()
        swap = f"RENAME TABLE {name} TO away, spare TO {name}, away TO spare"
        forms = [
            f"TRUNCATE {name}",
            f"TRUNCATE TABLE {name}",
            swap,
            f"ALTER TABLE {name} ADD COLUMN z INT, DROP COLUMN z",
            f"ALTER TABLE {name} MODIFY a BIGINT",
            f"ALTER TABLE {name} ENGINE = InnoDB, ORDER BY id",
            f"CREATE TABLE IF NOT EXISTS {name} (id INT)",
            f"DROP TEMPORARY TABLE IF EXISTS {name}",
            f"OPTIMIZE TABLE {name}",
            f"ALTER TABLE {name} ADD UNIQUE KEY u (a)",
            f"ALTER TABLE {name} DROP KEY u",
        ]
        if self._is_mariadb:
            forms += [
                f"ALTER IGNORE TABLE {name} ADD UNIQUE KEY u (a)",
                f"ALTER ONLINE TABLE {name} NOWAIT COMMENT = 'goods'",
                f"CREATE OR REPLACE TABLE {name} {COLUMNS} AS SELECT 4 AS id, 4 AS a",
                f"CREATE OR REPLACE TABLE {name} LIKE other",
                f"TRUNCATE TABLE {name} WAIT 5",
            ]
        return self._random.choice(forms)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("anywhere", list(Flavour), indirect=True, ids=str)
def test_statements_of_a_grammar(abroad: MakeWorld, seed: int) -> None:
    """Whatever a server takes, in any session, the hashes are the tables; ABROAD_SEEDS of them."""
    world = abroad(DDL, ALL)
    world.start()
    grammar = Grammar(seed, world)
    history: list[str] = []
    for _ in range(ROUNDS):
        settings = grammar.session()
        with world.database.connect(world.schema) as connection:
            cursor = connection.cursor()
            for statement in settings:
                cursor.execute(statement)
            for _ in range(A_ROUND):
                statement = grammar.statement()
                try:
                    cursor.execute(statement)
                    history.append(statement)
                except pymysql.err.Error as error:
                    history.append(f"{statement}  -- {error}")
        try:
            matches(world)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error)[:3000], *history[-2 * A_ROUND :]])) from None
