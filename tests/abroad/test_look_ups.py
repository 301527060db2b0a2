"""A look-up by literals finds what the join finds, and a walk's order is its cursor's order."""

import contextlib
import itertools
import os
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa

from projector.databases import Mysql
from projector.fetch import Fetcher
from projector.model import Need, RowsChange, TableName, Watch
from projector.mysql.barrier import choose
from projector.mysql.binlog import BinlogSource
from projector.mysql.columns import fitted
from projector.mysql.connection import Connection, engine
from projector.mysql.dialect import MYSQL
from projector.mysql.position import Position
from projector.mysql.reader import MysqlReader
from projector.projection import Join, Many, Plan, Projection
from tests.abroad.world import MakeWorld
from tests.servers import DatabaseServer, Flavour

pytestmark = pytest.mark.server

_SEEDS = int(os.environ.get("ABROAD_SEEDS", "1"))
_PAIRS = 100  # of columns, for each seed
_ROWS = 40

_NUMBERS = ["1", "2", "0", "10", "42", "-5", "1.50", "0.1", "2.000"]
_LARGE = [*_NUMBERS, "9007199254740993", "9007199254740992"]
_WORDS = ["1", "1.5", "2", "2.000", "01", "abc", "A", "a", "a ", "", "0", "é", "e", "0.1", "😀",
          "ß", "ss", "Ж", "ж", "?", "2023-01-02", "2023-01-02 00:00:00", "20230102", "10:00:00",
          "2023", " 5", "1e1", "42", "b"]  # fmt: skip
_DAYS = ["2023-01-02", "2024-02-29", "2001-01-01"]
_MOMENTS = ["2023-01-02 00:00:00", "2023-01-02 10:00:00", "2024-02-29 23:59:59.5"]
_ANY: dict[str, tuple[str, Sequence[str]]] = {
    "ti": ("TINYINT", _NUMBERS), "i": ("INT", _NUMBERS), "bi": ("BIGINT", _LARGE),
    "ubi": ("BIGINT UNSIGNED", [*_LARGE, "18446744073709551615"]),
    "zf": ("INT(6) ZEROFILL", _NUMBERS), "de": ("DECIMAL(10,2)", _NUMBERS),
    "de0": ("DECIMAL(20,0)", _LARGE), "fl": ("FLOAT", _NUMBERS), "do": ("DOUBLE", _LARGE),
    "vc": ("VARCHAR(20)", _WORDS), "vb": ("VARCHAR(20) COLLATE utf8mb4_bin", _WORDS),
    "vu": ("VARCHAR(20) COLLATE utf8mb4_unicode_ci", _WORDS),
    "vg": ("VARCHAR(20) COLLATE utf8mb4_general_ci", _WORDS), "ch": ("CHAR(20)", _WORDS),
    "te": ("TEXT", _WORDS), "l": ("VARCHAR(20) CHARACTER SET latin1", _WORDS),
    "lb": ("VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin", _WORDS),
    "cy": ("VARCHAR(20) CHARACTER SET cp1251", _WORDS),
    "u3": ("VARCHAR(20) CHARACTER SET utf8mb3", _WORDS),
    "u16": ("VARCHAR(20) CHARACTER SET utf16", _WORDS),
    "as": ("VARCHAR(20) CHARACTER SET ascii", _WORDS),
    "en": ("ENUM('b','a','1','2','é','')", ["a", "b", "1", "2", "é", "", "wrong"]),
    "el": ("ENUM('a','B','é') CHARACTER SET latin1", ["a", "B", "é", "wrong"]),
    "se": ("SET('b','a','1')", ["a", "b", "b,a", "1", ""]),
    "d": ("DATE", _DAYS), "dt": ("DATETIME", _MOMENTS), "d6": ("DATETIME(6)", _MOMENTS),
    "ts": ("TIMESTAMP NULL", _MOMENTS), "tm": ("TIME", ["10:00:00", "-01:00:00", "00:00:00"]),
    "y": ("YEAR", ["2023", "2001", "0"]), "bt": ("BIT(8)", ["1", "2", "42", "49"]),
    "b4": ("BINARY(4)", ["abcd", "1", "a"]), "vy": ("VARBINARY(20)", _WORDS),
    "bl": ("BLOB", _WORDS),
}  # fmt: skip
_MARIADBS: dict[str, tuple[str, Sequence[str]]] = {
    "uu": ("UUID", ["00000000-0000-0000-0000-000000000001"]),
    "i6": ("INET6", ["::1", "2001:db8::5", "::ffff:10.0.0.1"]), "i4": ("INET4", ["10.0.0.1"]),
    "vn": ("VARCHAR(45)", ["00000000-0000-0000-0000-000000000001",
                           "00000000000000000000000000000001", "::1", "0:0:0:0:0:0:0:1",
                           "10.0.0.1", "::ffff:10.0.0.1", "ABC"]),
}  # fmt: skip


@dataclass
class Stage:
    """Two tables with a column of every type, what the log says of the child's rows, and SQL."""

    schema: str
    types: dict[str, tuple[str, Sequence[str]]]
    connection: Any
    settings: Mysql
    engine: Any
    start: Position
    rows: dict[int, dict[str, Any]]

    def ask(self, sql: str) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def fetcher(self, projection: Projection) -> Fetcher:
        barrier = choose(self.start, {}, is_replica=False)
        connection = Connection(self.engine)
        return Fetcher(
            fitted(Plan(projection, MYSQL), connection), MysqlReader(connection, barrier)
        )


@pytest.fixture
def stage(anywhere: DatabaseServer) -> Iterator[Stage]:
    """The same rows on each server."""
    types = _ANY if anywhere.flavour is Flavour.MYSQL else {**_ANY, **_MARIADBS}
    schema = f"abroad_{uuid.uuid4().hex[:10]}"
    anywhere.create_database(schema)
    mysql = Mysql(url=anywhere.url(schema), heartbeat_s=0.2)
    connection = anywhere.connect(schema)
    with contextlib.ExitStack() as stack:
        stack.callback(anywhere.drop_database, schema)
        stack.callback(connection.close)
        source, made = BinlogSource(mysql), engine(mysql.parsed_url, mysql)
        stack.callback(made.dispose)
        stack.callback(source.close)
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode='', time_zone='+00:00'")
            columns = ", ".join(f"`{name}` {ddl}" for name, (ddl, _) in types.items())
            for table in ("parent", "child"):
                cursor.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, {columns})")
            start = source.current()
            source.start(start, [Watch(TableName(schema, "child"), ("id", *types), frozenset())])
            for table, number in itertools.product(("parent", "child"), range(_ROWS)):
                cursor.execute(*_insert(table, number, types, random.Random(f"{table}{number}")))
        rows = _logged(source, types)
        yield Stage(schema, types, connection, mysql, made, source.current(), rows)


def _insert(
    table: str, number: int, types: dict[str, tuple[str, Sequence[str]]], chance: random.Random
) -> tuple[str, list[Any]]:
    values = [int(chance.choice(v)) if n == "bt" else chance.choice(v)
              for n, (_, v) in types.items()]  # fmt: skip
    places = ", ".join(["%s"] * (len(values) + 1))
    return f"INSERT INTO {table} VALUES ({places})", [number, *values]


def _logged(source: BinlogSource, types: dict[str, Any]) -> dict[int, dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    deadline = time.monotonic() + 30
    while len(rows) < _ROWS:
        assert time.monotonic() < deadline
        transactions = source.read(0.5)
        for change in transactions.changes if transactions is not None else ():
            assert isinstance(change, RowsChange), change
            rows.update((row[0], dict(zip(types, row[1:], strict=True))) for row in change.after)
    return rows


def _projection(stage: Stage, pairs: Sequence[tuple[str, str]]) -> tuple[Projection, str]:
    """Return parents with the ids of their children, and the name of the look-up by a child."""
    metadata = sa.MetaData()
    parent, child = (
        sa.Table(table, metadata, sa.Column("id", sa.Integer, primary_key=True),
                 *(sa.Column(name, sa.String(20)) for name in stage.types))
        for table in ("parent", "child")
    )  # fmt: skip
    on = sa.and_(*(child.c[own] == parent.c[other] for own, other in pairs))
    many = Many("children", child, on=on, value=child.c.id)
    name = "parent/" + "+".join(other for _, other in pairs)
    return Projection("parents", parent, [parent.c.id], collections=[many]), name


def test_a_look_up_finds_what_the_join_finds(stage: Stage) -> None:
    """Any two types, alone or two pairs at once, as the log gives the values; the join is asked."""
    chance = random.Random(os.environ.get("ABROAD_SEED", "7"))
    judged = 0
    for _ in range(_SEEDS * _PAIRS):
        count = chance.choice([1, 1, 1, 2])
        owns, others = (chance.sample(list(stage.types), count) for _ in range(2))
        judged += _compare(stage, list(zip(owns, others, strict=True)), chance)
    assert judged > _SEEDS * _PAIRS / 2


def test_the_same_types_and_the_likeliest_unlike(stage: Stage) -> None:
    """Each type with itself; a number with a text, a text with a text of another character set."""
    chance = random.Random(3)
    pairs = [(name, name) for name in stage.types]
    pairs += itertools.permutations(["i", "bi", "de", "fl", "vc", "l", "en", "d", "vy", "bt"], 2)
    for pair in pairs:
        _compare(stage, [pair], chance, len(stage.rows))


def _compare(
    stage: Stage, pairs: Sequence[tuple[str, str]], chance: random.Random, count: int = 0
) -> bool:
    chosen = chance.sample(sorted(stage.rows), count or chance.choice([1, 2, 6]))
    on = " AND ".join(f"c.`{own}` = p.`{other}`" for own, other in pairs)
    keys = ", ".join(map(str, chosen))
    try:
        expected = {str(row[0]) for row in stage.ask(
            f"SELECT p.id FROM child c JOIN parent p ON {on} WHERE c.id IN ({keys})")}  # fmt: skip
    except pymysql.Error:  # unlike collations: `check` refuses such a projection
        return False
    projection, name = _projection(stage, pairs)
    if ("bt", "tm") in pairs:
        return False  # refused as well
    values = {tuple(stage.rows[key][own] for own, _ in pairs) for key in chosen}
    fetcher = stage.fetcher(projection)
    with contextlib.closing(fetcher):
        found = fetcher.look_up({name: values}, Need(stage.start), 10**6)
    assert expected <= found.ids, (pairs, values, expected - found.ids)
    return True


_KEYLESS = {"fl", "te", "bl", "b4", "vy", "bt"}  # no id, or bytes: not declared as texts


def test_a_walk_meets_every_key_once(stage: Stage) -> None:
    """Keys of every type, alone and before a number, in chunks of three; whatever id is asked for
    besides is answered."""
    for name, (ddl, values) in stage.types.items():
        if name in _KEYLESS:
            continue
        for is_composite in (False, True):
            _walk(stage, f"walked_{name}_{is_composite:d}", ddl, values, is_composite)


def _walk(stage: Stage, table: str, ddl: str, values: Sequence[str], is_composite: bool) -> None:
    key = "k, n" if is_composite else "k"
    stage.ask(f"CREATE TABLE {table} (k {ddl.removesuffix(' NULL')} NOT NULL, n INT, "
              f"PRIMARY KEY ({key}))")  # fmt: skip
    with stage.connection.cursor() as cursor:
        if "" in values:  # what is no member would be another row of the same name: refused
            values = [value for value in values if value != "wrong"]
        for value, n in itertools.product(values, range(3)):
            cursor.execute(f"INSERT IGNORE INTO {table} VALUES (%s, %s)", [value, n])
    declared = sa.Table(
        table, sa.MetaData(), sa.Column("k", sa.String(50), primary_key=True),
        sa.Column("n", sa.Integer, primary_key=is_composite),
    )  # fmt: skip
    fetcher = stage.fetcher(Projection("walked", declared, [declared.c.k, declared.c.n]))
    need, walked = Need(stage.start), list[str]()
    with contextlib.closing(fetcher):
        while part := fetcher.ids_after(walked[-1] if walked else None, 3, need):
            walked += part
            assert len(walked) < 200, table
        [(count,)] = stage.ask(f"SELECT COUNT(*) FROM {table}")
        assert len(walked) == len(set(walked)) == count, (table, walked)
        assert set(fetcher.documents(walked, need).documents) == set(walked), table
        assert fetcher.existing(walked, need) == set(walked)
        for strange in ("😀", "abc", "-1", "", "9" * 30, "1e400", "2023-02-30", "2023-13-45", "é:1",
                        "b,b", "x:1", "::1", "\udcff"):  # fmt: skip
            ids = [strange, f"{strange}:1"]
            fetched = fetcher.documents(ids, need)
            # MySQL refuses to compare with a date that no calendar has, but a row may hold it.
            assert set(ids) <= fetched.gone | fetched.documents.keys() | fetched.failed.keys()
            fetcher.existing(ids, need)


_METADATA = sa.MetaData()
_people = sa.Table(
    "people", _METADATA, sa.Column("name", sa.String(20), primary_key=True),
    sa.Column("age", sa.Integer),
)  # fmt: skip
_visits = sa.Table(
    "visits", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(20)),
)  # fmt: skip
people = Projection(
    "people", _people, [_people.c.name, _people.c.age],
    collections=[Many("visits", _visits, _visits.c.name == _people.c.name, value=_visits.c.id)],
)  # fmt: skip
visits = Projection(
    "visits", _visits, [_visits.c.id, _visits.c.name, _people.c.age],
    joins=[Join(_people, _people.c.name == _visits.c.name)],
)  # fmt: skip

_LATIN_CHILD = """
CREATE TABLE people (name VARCHAR(20) PRIMARY KEY, age INT) CHARACTER SET utf8mb4;
CREATE TABLE visits (id INT PRIMARY KEY, name VARCHAR(20), KEY (name)) CHARACTER SET latin1;
INSERT INTO people VALUES ('é', 1), ('?', 2);
INSERT INTO visits VALUES (1, 'É'), (2, '?');
"""


def test_a_character_that_the_other_side_lacks(abroad: MakeWorld) -> None:
    """A parent's key that a child of another character set cannot hold touches nothing."""
    module = "tests.abroad.test_look_ups"
    world = abroad(_LATIN_CHILD, f"{module}:people,{module}:visits")
    world.start()
    world.execute("INSERT INTO people VALUES ('😀', 3)", "UPDATE people SET age = age + 10")
    world.execute("INSERT INTO visits VALUES (3, 'é')", "UPDATE visits SET name='é' WHERE id = 2")
    world.expect({
        "é": {"name": "é", "age": 11, "visits": [1, 2, 3]},
        "?": {"name": "?", "age": 12, "visits": []},
        "😀": {"name": "😀", "age": 13, "visits": []},
    })  # fmt: skip
    world.expect({
        "1": {"id": 1, "name": "É", "age": 11}, "2": {"id": 2, "name": "é", "age": 11},
        "3": {"id": 3, "name": "é", "age": 11},
    }, "visits")  # fmt: skip
    done = world.daemon.run("resync", "--projection", "people", "--ids", "😀,é")
    assert done.returncode == 0, done.stderr
    world.settle()


_LATIN_KEY = """
CREATE TABLE people (name VARCHAR(20) PRIMARY KEY, age INT) CHARACTER SET latin1;
CREATE TABLE visits (id INT PRIMARY KEY, name VARCHAR(20), KEY (name)) CHARACTER SET latin1;
INSERT INTO people VALUES ('é', 1), ('?', 2);
"""


def test_an_id_that_cannot_exist_is_answered(abroad: MakeWorld) -> None:
    """Asked for and found in the hash: the daemon goes on, and the id goes."""
    world = abroad(_LATIN_KEY, "tests.abroad.test_look_ups:people")
    world.start()
    for ids in ("😀", "😀,é", "a:b:c"):
        done = world.daemon.run("resync", "--ids", ids)
        assert done.returncode == 0, done.stderr
        assert world.daemon.run("document", ids.split(",")[0]).returncode in (0, 1)
    assert world.daemon.run("verify", "--ids", "😀").returncode == 0
    world.redis.hset("people", "😀", "{}")
    world.execute("UPDATE people SET age = 5 WHERE name = 'é'")
    assert world.daemon.run("verify", "--repair").returncode == 0
    assert world.daemon.run("document", os.fsdecode(b"\xff")).returncode in (0, 1, 2)
    assert world.daemon.run("resync", "--ids", os.fsdecode(b"\xff")).returncode in (0, 2)
    world.expect({
        "é": {"name": "é", "age": 5, "visits": []}, "?": {"name": "?", "age": 2, "visits": []},
    })  # fmt: skip


_prices = sa.Table(
    "prices", _METADATA, sa.Column("price", sa.Numeric(10, 2), primary_key=True),
    sa.Column("label", sa.String(20)),
)  # fmt: skip
_goods = sa.Table(
    "goods", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("price", sa.String(20)),
)  # fmt: skip
goods = Projection(
    "goods", _goods, [_goods.c.id, _goods.c.price, _prices.c.label],
    joins=[Join(_prices, _prices.c.price == _goods.c.price)],
)  # fmt: skip

_PRICED = """
CREATE TABLE prices (price DECIMAL(10,2) PRIMARY KEY, label VARCHAR(20));
CREATE TABLE goods (id INT PRIMARY KEY, price VARCHAR(20), KEY (price));
INSERT INTO prices VALUES (1.5, 'cheap'), (2, 'dear');
INSERT INTO goods VALUES (1, '1.5'), (2, '1.50'), (3, '2'), (4, '2.000'), (5, 'none'), (6, '0');
"""


@pytest.mark.parametrize("fanout", ["1000", "1"], ids=["at once", "put off"])
def test_a_number_finds_the_texts_that_equal_it(abroad: MakeWorld, fanout: str) -> None:
    """However they are written, at once and put off."""
    world = abroad(
        _PRICED, "tests.abroad.test_look_ups:goods", PROJECTOR_FANOUT_MAX_DOCUMENTS=fanout
    )
    world.start()
    world.execute(
        "UPDATE prices SET label = CONCAT(label, '!')", "INSERT INTO prices VALUES (0,'')"
    )
    wanted = {"1": "cheap!", "2": "cheap!", "3": "dear!", "4": "dear!", "5": "", "6": ""}
    world.settle()
    assert {k: d["label"] for k, d in world.documents().items()} == wanted
    world.execute("DELETE FROM prices WHERE price = 1.5", "DELETE FROM prices WHERE price = 0")
    wanted |= dict.fromkeys("1256")
    world.settle()
    assert {k: d["label"] for k, d in world.documents().items()} == wanted


_kinds = sa.Table(
    "kinds", _METADATA, sa.Column("kind", sa.String(9), primary_key=True),
    sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", sa.Integer),
)  # fmt: skip
kinds = Projection("kinds", _kinds, [_kinds.c.kind, _kinds.c.id, _kinds.c.v])


@pytest.mark.parametrize("kind", ["ENUM('z','m','a')", "SET('z','m','a')"])
def test_a_key_of_members_is_built_whole(abroad: MakeWorld, kind: str) -> None:
    """Sorted by the member's number: the build and a resync meet all 900 documents."""
    numbers = " UNION ALL ".join(f"SELECT {i} AS n" for i in range(300))
    world = abroad(
        f"CREATE TABLE kinds (kind {kind}, id INT, v INT, PRIMARY KEY (kind, id));"
        + "".join(f"INSERT INTO kinds SELECT '{k}', n, n FROM ({numbers}) AS t;" for k in "zma"),
        "tests.abroad.test_look_ups:kinds",
        PROJECTOR_RECONCILE__CHUNK_DOCUMENTS="70",
    )
    world.start()
    assert len(world.documents()) == 900
    world.execute("UPDATE kinds SET v = -1 WHERE kind = 'm'", "DELETE FROM kinds WHERE kind = 'z'")
    assert world.daemon.run("resync").returncode == 0
    world.expect({
        f"{k}:{n}": {"kind": k, "id": n, "v": n if k == "a" else -1}
        for k in "ma" for n in range(300)
    })  # fmt: skip
    assert world.daemon.run("verify").returncode == 0
