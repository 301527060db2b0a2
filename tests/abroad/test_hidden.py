"""What neither the log nor the catalog shows: columns not granted, generated columns, actions of
foreign keys, and names that the server spells in another case."""

import json
import re
from typing import Any

import pytest
import sqlalchemy as sa

from projector.projection import Many, Projection
from tests.abroad.world import MakeWorld, World
from tests.projector_process import wait_for
from tests.servers import DatabaseServer, Flavour, RedisServer, start_database

pytestmark = pytest.mark.server

MARIADB = [Flavour.MARIADB, Flavour.MARIADB_11]
ONE_OF_EACH = [Flavour.MARIADB, Flavour.MYSQL]
IMAGES = ["FULL", "MINIMAL", "NOBLOB"]


def on(flavours: list[Flavour]) -> pytest.MarkDecorator:
    """Restrict a test that takes `anywhere` or `abroad`."""
    return pytest.mark.parametrize("anywhere", flavours, indirect=True, ids=str)


def both(flavours: list[Flavour], *cases: str) -> list[Any]:
    """Parameters for `anywhere` and a case."""
    return [pytest.param(f, c, id=f"{f}-{c}") for f in flavours for c in cases]


def table(name: str, *columns: str, key: tuple[str, ...] = ("id",), text: str = "") -> sa.Table:
    """A table of whole numbers; the columns in `text` are texts."""
    return sa.Table(
        name, sa.MetaData(),
        *(sa.Column(c, sa.String(40) if c in text.split() else sa.Integer, primary_key=c in key)
          for c in columns),
    )  # fmt: skip


# D: what the account may not see

_p = table("p", "id")
_t = table("t", "id", "pid", "v")
granted = Projection(
    "granted", root=_p, fields=[_p.c.id],
    collections=[Many("ts", _t, on=_t.c.pid == _p.c.id, fields=[_t.c.id, _t.c.v])],
)  # fmt: skip


def test_columns_that_may_not_be_read_keep_their_places(abroad: MakeWorld) -> None:
    """Some columns are granted: the log still numbers them all, and names none."""
    world = abroad(
        "CREATE TABLE p (id INT PRIMARY KEY);"
        "CREATE TABLE t (secret INT DEFAULT 2, id INT PRIMARY KEY, other INT DEFAULT 1,"
        " pid INT, v INT, more INT DEFAULT 2);"
        "INSERT INTO p VALUES (1), (2); INSERT INTO t (id, pid, v) VALUES (1, 1, 1)",
        "tests.abroad.test_hidden:granted",
        tables=["p"],
        grants=["GRANT SELECT (id, pid, v) ON {schema}.t TO {user}"],
    )
    world.start()
    world.execute("UPDATE t SET v = 2", "INSERT INTO t (id, pid, v) VALUES (2, 1, 5)",
                  "UPDATE t SET pid = 2 WHERE id = 1", "UPDATE t SET secret = 7")  # fmt: skip
    world.expect({
        "1": {"id": 1, "ts": [{"id": 2, "v": 5}]}, "2": {"id": 2, "ts": [{"id": 1, "v": 2}]},
    })  # fmt: skip
    world.execute("DELETE FROM t WHERE id = 1")
    world.expect({"1": {"id": 1, "ts": [{"id": 2, "v": 5}]}, "2": {"id": 2, "ts": []}})
    world.execute("ALTER TABLE t DROP COLUMN other", "UPDATE t SET pid = 2")
    world.expect({"1": {"id": 1, "ts": []}, "2": {"id": 2, "ts": [{"id": 2, "v": 5}]}})


# C: generated columns

_c, _s = table("c", "id", "pid"), table("s", "id", "pid")
_g = table("g", "id", "g", text="g")
computed = Projection(
    "computed", root=_p, fields=[_p.c.id],
    collections=[Many("cs", _c, on=_c.c.pid == _p.c.id, value=_c.c.id),
                 Many("ss", _s, on=_s.c.pid == _p.c.id, value=_s.c.id)],
)  # fmt: skip
shown = Projection("shown", root=_g, fields=[_g.c.id, _g.c.g])


_COMPUTED = """
CREATE TABLE {c} (id INT PRIMARY KEY, src JSON, n INT, half INT AS (JSON_EXTRACT(src, '$.p')) {how},
  pid INT AS (half + n) {how}, x INT);
INSERT INTO {c} (id, src, n) VALUES (1, '{{"p": 1}}', 0), (2, '{{"p": 1}}', 0);
"""


def test_rows_move_by_a_generated_column(abroad: MakeWorld) -> None:
    """A change of what the join's column is computed from, through another one and not; virtual
    and stored, under every row image."""
    world = abroad(
        "CREATE TABLE p (id INT PRIMARY KEY); INSERT INTO p VALUES (1), (2), (3);"
        + _COMPUTED.format(c="c", how="VIRTUAL")
        + _COMPUTED.format(c="s", how="STORED"),
        "tests.abroad.test_hidden:computed",
    )  # fmt: skip
    world.start()
    for image in IMAGES:
        world.execute(f"SET SESSION binlog_row_image = {image}")
        for changes in (
            ["""UPDATE {} SET src = '{{"p": 2}}' WHERE id = 1"""],
            ["UPDATE {} SET x = 5"],
            ["UPDATE {} SET n = 2 WHERE id = 2"],
            ["""INSERT INTO {} (id, src, n) VALUES (3, '{{"p": 2}}', 0)""",
             """REPLACE INTO {} (id, src, n) VALUES (1, '{{"p": 3}}', 0)"""],
            ["DELETE FROM {} WHERE id < 3"],
            ["DELETE FROM {}", """INSERT INTO {} (id, src, n) VALUES (1, '{{"p": 1}}', 0),
              (2, '{{"p": 1}}', 0)"""],
        ):  # fmt: skip
            for name in "cs":  # one by one: a walk for one mends the other
                world.execute(*(change.format(name) for change in changes))
                _computed(world)


def _computed(world: World) -> None:
    rows = {name: world.execute(f"SELECT pid, id FROM {name} ORDER BY id") for name in "cs"}
    world.expect({
        str(p): {"id": p} | {f"{n}s": [i for pid, i in rows[n] if pid == p] for n in "cs"}
        for p in (1, 2, 3)
    })  # fmt: skip


def test_a_redefined_column_changes_what_is_computed_from_it(abroad: MakeWorld) -> None:
    """ALTER of a base, directly and through another generated column, changes every row's value."""
    world = abroad(
        "CREATE TABLE g (id INT PRIMARY KEY, a DECIMAL(10,2),"
        " m VARCHAR(30) AS (CONCAT('y', a)) VIRTUAL, g VARCHAR(40) AS (CONCAT('x', m)) STORED);"
        "INSERT INTO g (id, a) VALUES (1, 1.5), (2, 2)",
        "tests.abroad.test_hidden:shown",
    )
    world.start()
    world.expect({"1": {"id": 1, "g": "xy1.50"}, "2": {"id": 2, "g": "xy2.00"}})
    world.execute("ALTER TABLE g MODIFY A DECIMAL(10,4)")
    world.expect({"1": {"id": 1, "g": "xy1.5000"}, "2": {"id": 2, "g": "xy2.0000"}})
    world.execute("UPDATE g SET a = 3 WHERE id = 1")
    world.expect({"1": {"id": 1, "g": "xy3.0000"}, "2": {"id": 2, "g": "xy2.0000"}})


# M: what foreign keys do has an after side

_k = table("k", "code", "n", "v", key=("code", "n"), text="code")
keyed = Projection("keyed", root=_k, fields=[_k.c.code, _k.c.n, _k.c.v])
_top = table("top", "code", "v", key=("code",), text="code")
_under = table("under", "id", "code", text="code")
listed = Projection(
    "listed", root=_top, fields=[_top.c.code, _top.c.v],
    collections=[Many("us", _under, on=_under.c.code == _top.c.code, value=_under.c.id)],
)  # fmt: skip
_KEYED = """
CREATE TABLE grand (code VARCHAR(9) PRIMARY KEY);
CREATE TABLE parent (code VARCHAR(9) PRIMARY KEY, x INT,
  FOREIGN KEY (code) REFERENCES grand (code) ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE k (code VARCHAR(9), n INT, v INT, PRIMARY KEY (code, n),
  FOREIGN KEY (code) REFERENCES parent (code) ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE top (code VARCHAR(9) PRIMARY KEY, v INT);
CREATE TABLE under (id INT PRIMARY KEY, code VARCHAR(9),
  FOREIGN KEY (code) REFERENCES parent (code) ON UPDATE CASCADE ON DELETE SET NULL);
INSERT INTO grand VALUES ('a'), ('b'); INSERT INTO parent VALUES ('a', 1), ('b', 1);
INSERT INTO k VALUES ('a', 1, 1), ('a', 2, 2), ('b', 1, 3);
INSERT INTO top VALUES ('a', 1), ('b', 2), ('z', 3), ('y', 4);
INSERT INTO under VALUES (1, 'a'), (2, 'b')
"""


def _keyed(world: World) -> None:
    """What is in the hashes equals SQL of its own."""
    rows = world.execute("SELECT code, n, v FROM k")
    world.expect({f"{c}:{n}": {"code": c, "n": n, "v": v} for c, n, v in rows}, "keyed")
    under = world.execute("SELECT id, code FROM under ORDER BY id")
    world.expect(
        {
            c: {"code": c, "v": v, "us": [i for i, own in under if own == c]}
            for c, v in world.execute("SELECT code, v FROM top")
        },
        "listed",
    )


def _snapshots(world: World) -> float:
    """How many cascades have been followed in a snapshot so far."""
    text = world.daemon.http("/metrics")[1].decode()
    found = re.search(r'^projector_cascades_total\{found="snapshot"\} (\S+)', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _warm(world: World) -> None:
    """Let cascades pass until a snapshot is in use."""

    def is_warm() -> bool:
        before = _snapshots(world)
        world.execute("INSERT INTO grand VALUES ('w')", "DELETE FROM grand WHERE code = 'w'")
        world.settle()
        return _snapshots(world) > before

    wait_for(is_warm, world.daemon)


@pytest.mark.parametrize(
    ("anywhere", "parent"), [*both(list(Flavour), "grand"), *both(ONE_OF_EACH, "parent")],
    indirect=["anywhere"],
)  # fmt: skip
def test_rows_whose_key_follows_another_come_as_they_are_now(
    anywhere: DatabaseServer, abroad: MakeWorld, parent: str
) -> None:
    """ON UPDATE CASCADE into a document's key and into a join, also through a table between."""
    world = abroad(_KEYED, "tests.abroad.test_hidden:keyed,tests.abroad.test_hidden:listed")
    if parent == "parent":
        world.execute("ALTER TABLE parent DROP FOREIGN KEY parent_ibfk_1")
    world.start()
    hides = anywhere.flavour is not Flavour.MYSQL
    for image in ("FULL", "MINIMAL"):
        if hides and parent == "grand":
            _warm(world)
        before = _snapshots(world)
        world.execute(f"SET SESSION binlog_row_image = {image}")
        world.execute(f"UPDATE {parent} SET code = 'z' WHERE code = 'a'")
        _keyed(world)
        assert not (hides and parent == "grand") or _snapshots(world) > before
        world.execute(f"UPDATE {parent} SET code = 'y' WHERE code = 'z'",
                      f"UPDATE {parent} SET code = 'a' WHERE code = 'b'")  # fmt: skip
        _keyed(world)
        world.execute(f"UPDATE {parent} SET code = 'b' WHERE code = 'y'")
        _keyed(world)
    world.execute(f"DELETE FROM {parent} WHERE code = 'b'")
    _keyed(world)


# N: MariaDB's system-versioned tables

_sv = table("sv", "id", "v")
versioned = Projection("versioned", root=_sv, fields=[_sv.c.id, _sv.c.v])
_EXPLICIT = (
    "rs TIMESTAMP(6) GENERATED ALWAYS AS ROW START, re TIMESTAMP(6) GENERATED ALWAYS AS ROW END,"
    " PERIOD FOR SYSTEM_TIME (rs, re)"
)


@pytest.mark.parametrize(
    ("anywhere", "how"),
    [*both(MARIADB, "implicit"), *both([Flavour.MARIADB], "explicit", "partitions")],
    indirect=["anywhere"],
)
def test_versioned_tables_are_followed(abroad: MakeWorld, anywhere: Any, how: str) -> None:
    """Documents show the rows of now; versioning may begin and end beneath a daemon."""
    columns = f"id INT PRIMARY KEY, v INT{', ' + _EXPLICIT if how == 'explicit' else ''}"
    more = " PARTITION BY SYSTEM_TIME LIMIT 2 PARTITIONS 3" if how == "partitions" else ""
    world = abroad(
        f"CREATE TABLE sv ({columns}) WITH SYSTEM VERSIONING{more};"
        "INSERT INTO sv (id, v) VALUES (1, 1), (2, 2); UPDATE sv SET v = v + 10",
        "tests.abroad.test_hidden:versioned",
    )
    world.start()
    world.expect({"1": {"id": 1, "v": 11}, "2": {"id": 2, "v": 12}})
    world.execute("UPDATE sv SET v = 5 WHERE id = 1", "DELETE FROM sv WHERE id = 2",
                  "INSERT INTO sv (id, v) VALUES (3, 3)", "DELETE HISTORY FROM sv")  # fmt: skip
    world.expect({"1": {"id": 1, "v": 5}, "3": {"id": 3, "v": 3}})
    assert world.daemon.run("check").returncode in (0, 1)
    report = json.loads(world.daemon.run("check", "--json").stdout)
    assert not [c for c in report if c["name"] == "versioned.columns" and c["status"] != "ok"]
    if how == "implicit":
        world.execute("ALTER TABLE sv DROP SYSTEM VERSIONING", "UPDATE sv SET v = 6 WHERE id = 1",
                      "DELETE FROM sv WHERE id = 3")  # fmt: skip
        world.expect({"1": {"id": 1, "v": 6}})
        world.execute("ALTER TABLE sv ADD SYSTEM VERSIONING", "UPDATE sv SET v = 7",
                      "INSERT INTO sv (id, v) VALUES (4, 4)",
                      "DELETE FROM sv WHERE id = 1")  # fmt: skip
        world.expect({"4": {"id": 4, "v": 4}})
        assert world.daemon.stop() == 0
        world.execute("UPDATE sv SET v = 8")
        world.start()
        world.expect({"4": {"id": 4, "v": 8}})


@on([Flavour.MARIADB])
def test_other_kinds_of_tables_are_refused_by_name(abroad: MakeWorld) -> None:
    """A sequence and a view have no rows in the log: the message says what they are."""
    world = abroad(
        "CREATE SEQUENCE sv", "tests.abroad.test_hidden:versioned",
    )  # fmt: skip
    world.daemon.start()
    assert world.daemon.wait() in (2, 3)
    assert "is a sequence" in world.daemon.log()


# L: names


_PARENT = table("Parent", "ID", "name", key=("ID",), text="name")
_CHILD = table("Child", "id", "Parent_ID", "v")
cased = Projection(
    "cased", root=_CHILD, fields=[_CHILD.c.id, _CHILD.c.v],
    collections=[Many("ps", _PARENT, on=_CHILD.c.Parent_ID == _PARENT.c.ID,
                      fields=[_PARENT.c.ID, _PARENT.c.name])],
)  # fmt: skip


@pytest.mark.parametrize("flavour", list(Flavour), ids=str)
def test_names_in_another_case(flavour: Flavour, fresh_redis: RedisServer) -> None:
    """Tables, columns and the database itself, where names ignore case."""
    options = ["--lower-case-table-names=1"]
    with start_database(flavour, options=options) as database:
        database.create_database("Shop")
        database.load_sql(
            "CREATE TABLE PARENT (id INT PRIMARY KEY, Name VARCHAR(9));"
            "CREATE TABLE child (Id INT PRIMARY KEY, parent_id INT, V INT,"
            " FOREIGN KEY (PARENT_ID) REFERENCES parent (ID) ON DELETE CASCADE);"
            "INSERT INTO parent VALUES (1, 'a'), (2, 'b');"
            "INSERT INTO child VALUES (1, 1, 1), (2, 2, 2)",
            "shop",
        )
        world = World(database, "SHOP", fresh_redis, "tests.abroad.test_hidden:cased")
        try:
            world.start()
            assert world.daemon.run("check").returncode == 0, world.daemon.run("check").stdout
            world.execute("UPDATE Parent SET name = 'c' WHERE ID = 1")
            world.expect(_cased("c"))
            world.execute("UPDATE shop.PARENT SET name = 'd' WHERE ID = 1",
                          "SET SESSION binlog_format = STATEMENT",
                          "UPDATE PaRent SET name = 'e' WHERE ID = 2",
                          "SET SESSION binlog_format = ROW")  # fmt: skip
            world.expect(_cased("d", "e"))
            world.execute("DELETE FROM pARENT WHERE id = 2", "TRUNCATE TABLE CHILD")
            world.expect({})
            found = world.daemon.run("explain", "--table", "PARENT", "--key", "1", "--json")
            assert json.loads(found.stdout)["touched"]
        finally:
            world.close()


def _cased(first: str, second: str = "b") -> dict[str, Any]:
    return {
        "1": {"id": 1, "v": 1, "ps": [{"ID": 1, "name": first}]},
        "2": {"id": 2, "v": 2, "ps": [{"ID": 2, "name": second}]},
    }


# E: the log may be from before today's settings


_EVENTS = """
CREATE TABLE parent (id INT PRIMARY KEY); CREATE TABLE p (id INT PRIMARY KEY);
CREATE TABLE t (id INT PRIMARY KEY, pid INT, v INT, up INT,
  FOREIGN KEY (up) REFERENCES parent (id) ON DELETE CASCADE);
INSERT INTO parent VALUES (1), (2), (3); INSERT INTO p VALUES (1);
INSERT INTO t VALUES (1, 1, 1, 1), (2, 1, 2, 2), (3, 1, 3, 3)
"""


def test_a_delete_logged_by_another_setting_takes_its_children_along(
    fresh_redis: RedisServer,
) -> None:
    """MySQL: InnoDB carried out the cascade, and the daemon reads of it after a restart that makes
    the server log them."""
    options = ["--innodb-native-foreign-keys=ON"]
    with start_database(Flavour.MYSQL, options=options) as database:
        database.create_database("abroad")
        database.load_sql(_EVENTS, "abroad")
        world = World(database, "abroad", fresh_redis, "tests.abroad.test_hidden:granted")
        try:
            world.start()
            world.execute("DELETE FROM parent WHERE id = 1")
            world.expect({"1": {"id": 1, "ts": [{"id": 2, "v": 2}, {"id": 3, "v": 3}]}})
            assert world.daemon.stop() == 0
            world.execute("DELETE FROM parent WHERE id = 2")
            world.connection.close()
            database.process.command = [
                part.replace("keys=ON", "keys=OFF") for part in database.process.command
            ]
            database.stop()
            database.start()
            world.connection = database.connect("abroad")
            world.start()
            world.expect({"1": {"id": 1, "ts": [{"id": 3, "v": 3}]}})
            world.execute("DELETE FROM parent WHERE id = 3")
            world.expect({"1": {"id": 1, "ts": []}})
        finally:
            world.close()


_UNNAMED = """
CREATE TABLE parent (id INT PRIMARY KEY); CREATE TABLE p (id INT PRIMARY KEY);
CREATE TABLE t (id INT PRIMARY KEY, pid INT, v INT, up INT,
  FOREIGN KEY (up) REFERENCES parent (id) ON DELETE CASCADE);
CREATE TABLE noise (n INT); CREATE VIEW seen_as AS SELECT id, v FROM t;
CREATE TRIGGER noisy AFTER INSERT ON noise FOR EACH ROW UPDATE t SET v = NEW.n WHERE id = 1;
INSERT INTO parent VALUES (1), (2), (3); INSERT INTO p VALUES (1);
INSERT INTO t VALUES (1, 1, 1, 1), (2, 1, 2, 2), (3, 1, 3, 3)
"""
_LOUD = """
CREATE FUNCTION loud(n INT) RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN
  UPDATE t SET v = n WHERE id = 2; RETURN n; END
"""
_STATEMENTS = {
    "a trigger": "INSERT INTO noise VALUES (7)",
    "a trigger of a view's table": "INSERT INTO {schema}.noise SELECT 8",
    "a view": "UPDATE seen_as SET v = 9 WHERE id = 1",
    "a function": "DO loud(10)",
    "a function in a select": "CREATE TABLE made SELECT loud(11) AS n",
    "a key": "DELETE FROM parent WHERE id = 3",
}


def _ts(world: World) -> None:
    rows = world.execute("SELECT id, v FROM t WHERE pid = 1 ORDER BY id")
    world.expect({"1": {"id": 1, "ts": [{"id": i, "v": v} for i, v in rows]}})


def _unnamed(abroad: MakeWorld, database: DatabaseServer) -> World:
    database.execute("SET GLOBAL log_bin_trust_function_creators = ON")
    world = abroad(_UNNAMED, "tests.abroad.test_hidden:granted", tables=["t", "p"])
    world.execute(_LOUD)
    return world


def test_statements_that_name_no_watched_table(abroad: MakeWorld, anywhere: DatabaseServer) -> None:
    """The account sees neither triggers nor views, routines or keys: whatever is logged as a
    statement may have changed anything."""
    world = _unnamed(abroad, anywhere)
    world.start()
    world.execute("SET SESSION binlog_format = MIXED")
    for title, statement in _STATEMENTS.items():
        if anywhere.flavour is Flavour.MYSQL and title == "a function in a select":
            continue  # refused there: "Can't update table 't' while 'made' is being created"
        world.execute(statement.replace("{schema}", world.schema))
        _ts(world)


@pytest.mark.parametrize(
    ("anywhere", "account"),
    [*both(list(Flavour), "documented"), *both([Flavour.MARIADB], "root")],
    indirect=["anywhere"],
)
def test_what_acted_when_the_log_was_written_may_be_gone(
    abroad: MakeWorld, anywhere: DatabaseServer, account: str
) -> None:
    """Trigger, view and function are dropped before the daemon reads of what they did."""
    world = _unnamed(abroad, anywhere)
    if account == "root":
        world.daemon.environment["PROJECTOR_MYSQL__URL"] = anywhere.url(world.schema)
    world.start()
    assert world.daemon.stop() == 0
    world.execute("SET SESSION binlog_format = MIXED", "INSERT INTO noise VALUES (7)")
    world.execute("DROP TRIGGER noisy", "SET SESSION binlog_format = ROW")
    world.start()
    _ts(world)
    assert world.daemon.stop() == 0
    world.execute("SET SESSION binlog_format = MIXED", "UPDATE seen_as SET v = 9 WHERE id = 1",
                  "DO loud(10)", "DROP VIEW seen_as", "DROP FUNCTION loud",
                  "SET SESSION binlog_format = ROW")  # fmt: skip
    world.start()
    _ts(world)


_ABOVE = """
CREATE TABLE grand (id INT PRIMARY KEY);
CREATE TABLE parent (id INT PRIMARY KEY, gid INT, x INT,
  FOREIGN KEY (gid) REFERENCES grand (id) ON DELETE CASCADE);
CREATE TABLE p (id INT PRIMARY KEY);
CREATE TABLE t (id INT PRIMARY KEY, pid INT, v INT, up INT,
  FOREIGN KEY (up) REFERENCES parent (id) ON DELETE CASCADE);
CREATE TABLE far (id INT PRIMARY KEY);
INSERT INTO grand VALUES (1), (2); INSERT INTO parent VALUES (1, 1, 0), (2, 2, 0), (3, 2, 0);
INSERT INTO p VALUES (1);
INSERT INTO t VALUES (1, 1, 1, 1), (2, 1, 2, 2), (3, 1, 3, 3)
"""


@pytest.mark.parametrize("grants", ["whole", "columns"])
def test_keys_that_the_account_is_not_shown_still_act(
    abroad: MakeWorld, anywhere: DatabaseServer, grants: str
) -> None:
    """Only the projection's tables are granted, as a whole or some columns: nothing is known of
    the keys above, and rows go all the same."""
    columns = ["GRANT SELECT (id, pid, v) ON {schema}.t TO {user}"]
    world = abroad(
        _ABOVE,
        "tests.abroad.test_hidden:granted",
        tables=["t", "p"] if grants == "whole" else ["p"],
        grants=[] if grants == "whole" else columns,
    )
    world.start()
    world.execute("UPDATE parent SET x = 1", "INSERT INTO far VALUES (1)")
    world.settle()  # a walk for this would find the next, too
    world.execute("DELETE FROM grand WHERE id = 1")
    _ts(world)
    world.execute("DELETE FROM parent WHERE id = 3")
    _ts(world)
    world.execute("SET foreign_key_checks = 0", "DELETE FROM parent")
    _ts(world)


# Keys beside what the log tells in another way, or not where documents are read

_doc = table("doc", "id", "pid")
_member = table("member", "id", "doc")
followed = Projection(
    "followed", root=_doc, fields=[_doc.c.id, _doc.c.pid],
    collections=[Many("members", _member, on=_member.c.doc == _doc.c.id, value=_member.c.id)],
)  # fmt: skip


def _follow(world: World) -> None:
    members = world.execute("SELECT doc, id FROM member ORDER BY id")
    world.expect({
        str(i): {"id": i, "pid": pid, "members": [m for doc, m in members if doc == i]}
        for i, pid in world.execute("SELECT id, pid FROM doc")
    })  # fmt: skip


@on(MARIADB)
@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_keys_of_versioned_tables_are_followed(abroad: MakeWorld, action: str) -> None:
    """A parent's DELETE is logged as an update; a child's update with its earlier state."""
    world = abroad(
        "CREATE TABLE p (id INT PRIMARY KEY, x INT) WITH SYSTEM VERSIONING;"
        f"CREATE TABLE doc (id INT PRIMARY KEY, pid INT, FOREIGN KEY (pid) REFERENCES p (id)"
        f" ON DELETE {action}) WITH SYSTEM VERSIONING;"
        "CREATE TABLE member (id INT PRIMARY KEY, doc INT);"
        "INSERT INTO p SELECT seq, 0 FROM seq_1_to_40;"
        "INSERT INTO doc SELECT seq, seq FROM seq_1_to_40;",
        "tests.abroad.test_hidden:followed",
    )
    world.start()
    for number in range(1, 31, 3):
        world.execute(
            f"UPDATE doc SET pid = {number + 1} WHERE id = {number}",
            f"UPDATE p SET x = 5 WHERE id = {number + 2}",
            f"DELETE FROM p WHERE id = {number + 1}",
        )
        _follow(world)


@on(ONE_OF_EACH)
def test_keys_that_share_a_column_are_followed(abroad: MakeWorld) -> None:
    """One changes what the other refers by, and no document reads either."""
    world = abroad(
        "CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE ax (id INT, x INT, PRIMARY KEY (id, x));"
        "CREATE TABLE doc (id INT PRIMARY KEY, pid INT); INSERT INTO doc VALUES (1, 0), (2, 0);"
        "CREATE TABLE member (id INT PRIMARY KEY, doc INT, a INT, x INT,"
        " FOREIGN KEY (a) REFERENCES a (id) ON DELETE CASCADE,"
        " FOREIGN KEY (a, x) REFERENCES ax (id, x) ON UPDATE CASCADE ON DELETE SET NULL);"
        "INSERT INTO a VALUES (1), (2), (3); INSERT INTO ax VALUES (1, 1), (1, 2), (2, 1);"
        "INSERT INTO member VALUES (1, 1, 1, 1), (2, 1, 1, 2), (3, 2, 2, 1)",
        "tests.abroad.test_hidden:followed",
    )
    world.start()
    for change in (
        "DELETE FROM ax WHERE (id, x) = (1, 2)",
        "UPDATE ax SET x = 7 WHERE (id, x) = (1, 1)",
        "DELETE FROM a WHERE id = 1",
        "DELETE FROM a WHERE id = 2",
    ):
        world.execute(change)
        _follow(world)
