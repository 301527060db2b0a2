"""What a statement in the log does to watched tables: forms that servers take and few write."""

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projector.model import TableName
from projector.mysql.binlog.statements import Effect, Watched, defined, effects
from projector.mysql.binlog.tokens import Session

T = TableName("shop", "goods")
WATCHED = Watched({T: frozenset({"id", "a"})}, False, lambda names: "v" in names)


def of(text: str | bytes, schema: str = "shop") -> set[tuple[str | None, str | None]]:
    """Reasons by table name."""
    raw = text if isinstance(text, bytes) else text.encode()
    return {(e.table.name if e.table else None, e.reason) for e in effects(raw, schema, WATCHED)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "SET STATEMENT max_statement_time = 5, lock_wait_timeout = 1 FOR TRUNCATE goods",
            "truncate",
        ),
        ("/* a */ SET STATEMENT sort_buffer_size = 9 FOR DROP TABLE shop.goods", "drop"),
        ("SET STATEMENT a = 1 FOR UPDATE goods SET a = 1", "statement"),
        ("ANALYZE UPDATE goods SET a = 1", "statement"),
        ("ANALYZE FORMAT = JSON DELETE FROM goods", "statement"),
        ("ALTER TABLE goods NOWAIT TRUNCATE PARTITION p", "alter"),
        ("ALTER TABLE `shop`.goods WAIT 10 DROP PARTITION p", "alter"),
        ("ALTER TABLE IF EXISTS goods WAIT 10 ADD b INT, DROP COLUMN a", "alter"),
        ("ALTER TABLE goods ADD CONSTRAINT f FOREIGN KEY (b) REFERENCES other (id)", "alter"),
        ("ALTER TABLE goods ADD z INT REFERENCES other (id)", "alter"),
        ("ALTER TABLE goods DROP FOREIGN KEY f", "alter"),
        ("ALTER TABLE goods DROP PRIMARY KEY, ADD PRIMARY KEY (id, z)", "alter"),
        ("ALTER TABLE goods ADD CONSTRAINT PRIMARY KEY USING BTREE (z)", "alter"),
        ("ALTER TABLE goods ADD z INT PRIMARY KEY, DROP INDEX a", "alter"),
        ("ALTER TABLE goods DROP CONSTRAINT f", "alter"),
        ("CREATE TABLE goods (id INT, FOREIGN KEY (id) REFERENCES other (id))", "alter"),
        ("TRUNCATE TABLE .goods", "truncate"),
        ("DROP TABLE IF EXISTS .goods", "drop"),
        ("DROP TABLE other, .`goods`", "drop"),
        ("ALTER TABLE p CONVERT TABLE goods TO PARTITION q VALUES LESS THAN (5)", "rename"),
        ("ALTER TABLE p CONVERT PARTITION q TO TABLE shop.goods", "rename"),
        ("CREATE OR REPLACE DATABASE shop", "drop"),
        (b"DROP DATABASE shop /* \xe9 */", "drop"),
    ],
)
def test_it_is_told(text: str | bytes, reason: str) -> None:
    """Nothing that changes rows hides behind what stands before or around it."""
    assert of(text) == {("goods", reason)}


def test_a_view_is_seen_in_any_character_set() -> None:
    """A text that is not UTF-8 changes what is behind a view just as well."""
    assert of(b"UPDATE v SET a = '\xe9'") == {(None, "statement")}


@pytest.mark.parametrize(
    "text",
    [
        "SET STATEMENT max_statement_time = 5 FOR ANALYZE TABLE goods",
        "ANALYZE NO_WRITE_TO_BINLOG TABLE goods",
        "TRUNCATE other.goods",
        "DROP TABLE IF EXISTS other.goods",
        "ALTER TABLE goods WAIT 5 COMMENT = 'x', ADD INDEX (a)",
        "CREATE DATABASE shop",
        "ALTER TABLE p CONVERT TO CHARACTER SET utf8mb4",
        b"UPDATE other SET a = '\xe9'",
    ],
)
def test_it_is_not_told(text: str | bytes) -> None:
    """What leaves watched rows alone costs no walk."""
    assert {reason for _, reason in of(text)} <= {None}


def test_a_definition_moves_columns_whatever_it_waits_for() -> None:
    """The wait is no action."""
    assert Effect(T, None, True) in effects(
        b"ALTER TABLE goods WAIT 5 ADD z INT FIRST", "shop", WATCHED
    )


def test_names_in_a_definition_may_act_unnamed_from_then_on() -> None:
    """A view, a trigger's table, what a rename leads to; not those of a plain new table."""
    assert defined(b"/* a */ CREATE VIEW `V` AS SELECT id FROM goods") >= {"v", "goods"}
    assert defined(b"CREATE TRIGGER x AFTER INSERT ON Other FOR EACH ROW DELETE FROM a") >= {
        "other"
    }
    assert defined(b"RENAME TABLE v TO w") >= {"w"}
    assert defined(b"CREATE TABLE c (id INT, FOREIGN KEY (id) REFERENCES up (id))") >= {"up"}
    assert defined(b"CREATE TABLE c (id INT)") == frozenset()
    assert defined(b"INSERT INTO t VALUES ('CREATE VIEW v')") == frozenset()
    assert defined(b"CREATE VIEW v AS SELECT '\xe9'") is None


def test_where_nobody_knows_a_statement_is_not_even_read() -> None:
    """Triggers and views may be there that the account does not see."""
    unseen = Watched({T: frozenset({"id"})}, False, lambda names: True)
    for text in (b"INSERT INTO far VALUES ('" + b"x" * 1000, b"SELECT f()", b" do f()"):
        assert effects(text, "shop", unseen) == [Effect(None, "statement")]
    assert effects(b"CREATE TABLE far (id INT)", "shop", unseen) == []
    assert effects(b"CREATE TABLE far SELECT f()", "shop", unseen) == [Effect(None, "statement")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ALTER IGNORE TABLE goods ADD UNIQUE KEY (a)", "alter"),
        ("ALTER ONLINE IGNORE TABLE goods ADD UNIQUE KEY (a)", "alter"),
        ("ALTER TABLE goods ENGINE = BLACKHOLE", "alter"),
        ("ALTER TABLE goods COMMENT = 'x' ENGINE=CSV", "alter"),
        ("ALTER TABLE goods UNION = (x, y)", "alter"),
        ("/*!50000 TRUNCATE */ /*M!100000 TABLE */ goods", "truncate"),
        ("TRUNCATE /* a */ -- b\n # c\n shop /* d */ . /* e */ `goods`", "truncate"),
        ("CREATE OR REPLACE TABLE goods (id INT)", "drop"),
        ("CREATE TABLE goods TABLE other", "statement"),
        ("ALTER TABLE other EXCHANGE PARTITION p WITH TABLE goods", "rename"),
        ("ALTER TABLE goods DISCARD TABLESPACE", "alter"),
        ("ALTER TABLE goods IMPORT PARTITION p TABLESPACE", "alter"),
        ("REPAIR TABLE goods", "statement"),
        ("WITH c AS (SELECT 1) DELETE FROM goods", "statement"),
        ("INSERT /*+ NO_ICP(x) */ INTO goods VALUES (1)", "statement"),
        ("UPDATE other, .goods SET a = 1", "statement"),
        ("(SELECT 1) UNION (SELECT 2 FROM goods)", "statement"),
        ("LOAD DATA LOCAL INFILE 'x' INTO TABLE goods", "statement"),
    ],
)
def test_modifiers_hide_nothing(text: str, reason: str) -> None:
    """Words before, behind and between leave a statement what it is."""
    assert of(text) == {("goods", reason)}


@pytest.mark.parametrize(
    "text",
    ["IMPORT TABLE FROM 'x.sdi'", "CREATE GIZMO x", "FROBNICATE x", "INSERT INTO x SELECT v(1)",
     "CREATE TABLE x AS SELECT v(1)"],
)  # fmt: skip
def test_what_is_not_understood_may_have_changed_anything(text: str) -> None:
    """A newer server's statement costs a walk, and no document."""
    assert of(text) == {(None, "statement")}


NAMED = TableName("shop", "表т")
CHARSETS = {"utf8mb4": 45, "gbk": 28, "cp932": 13, "cp949": 19, "gb18030": 248, "euc-jp": 12}


@pytest.mark.parametrize("codec", CHARSETS)
def test_a_name_is_read_in_the_clients_character_set(codec: str) -> None:
    """The second byte of a character may be a backslash, a quote or a letter."""
    name = "表т" if codec != "cp949" else "表"
    table = TableName("shop", name)
    watched = Watched({table: frozenset({"id"})}, False, lambda names: False)
    session = Session(CHARSETS[codec], 0)
    python = "utf-8" if codec == "utf8mb4" else codec
    for text in (f"TRUNCATE TABLE {name}", f"TRUNCATE `{name}`", f"/* 表\\ */ TRUNCATE {name}"):
        found = effects(text.encode(python), "shop", watched, session)
        assert found == [Effect(table, "truncate")]
    found = effects(
        f"UPDATE x SET a = '表' WHERE b = '{name}'".encode(python), "shop", watched, session
    )
    assert found == []
    # What the server writes itself is UTF-8.
    generated = f"DROP TABLE `{name}` /* generated by server */".encode()
    assert Effect(table, "drop", True) in effects(generated, "shop", watched, session)


def test_a_name_that_nobody_can_read_may_be_any() -> None:
    """A character set that Python does not know: a walk."""
    watched = Watched({NAMED: frozenset({"id"})}, False, lambda names: False)
    assert effects(b"TRUNCATE \xb0\xb1", "shop", watched, Session(32, 0)) == [
        Effect(None, "statement", True)
    ]
    assert effects(b"UPDATE x SET a = '\xb0'", "shop", watched, Session(32, 0)) == []


@pytest.mark.parametrize(
    ("text", "mode", "is_told"),
    [
        ('UPDATE "goods" SET a = 1', 4, True),
        ('UPDATE x SET a = "goods"', 0, False),
        ("UPDATE x SET a = '\\', b = ' goods '", 0, True),
        ("UPDATE x SET a = '\\', b = ' goods '", 1 << 20, False),
        ("UPDATE [goods] SET a = 1", 1 << 10, True),
    ],
)
def test_quotes_mean_what_the_sql_mode_says(text: str, mode: int, is_told: bool) -> None:
    """ANSI_QUOTES, NO_BACKSLASH_ESCAPES and MariaDB's MSSQL, from the event itself."""
    assert bool(effects(text.encode(), "shop", WATCHED, Session(45, mode))) == is_told


@pytest.mark.parametrize(
    "body",
    [
        b",".join([b"(1,'some text','it''s \\\\ x',NULL,1.5)"] * 100_000),
        b"('" + b"\\'" * 2_000_000 + b"')",
        b"(" + b"/* " * 1_000_000,
        b"(" + b"`" * 1_000_001,
        b"(" + b"-- " * 1_000_000 + b"'",
    ],
)
def test_a_statement_of_megabytes_that_nobody_watches_costs_little(body: bytes) -> None:
    """Time in proportion to its length, whatever is in it, and memory of a few times its length."""
    text = b"INSERT INTO other VALUES " + body
    session = Session(45, 0)
    tracemalloc.start()
    began = time.process_time()
    assert effects(text, "shop", WATCHED, session) == []
    assert defined(text, session) == frozenset()
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * len(text) + (1 << 20)
    assert seconds < 10  # it was minutes, or never


GAPS = st.sampled_from([" ", "\n", " /* goods */ ", "/**/", " -- x\n", " # goods\n", "\t"])
NAMES = st.sampled_from(["goods", "`goods`", "shop.goods", "`shop`.`goods`", "shop . goods"])
VERBS = st.sampled_from(
    ["TRUNCATE", "TRUNCATE TABLE", "DROP TABLE", "DROP TABLE IF EXISTS", "DELETE FROM",
     "DELETE QUICK IGNORE FROM", "INSERT INTO", "REPLACE", "UPDATE LOW_PRIORITY",
     "CREATE OR REPLACE TABLE", "LOAD DATA INFILE 'goods' INTO TABLE", "ALTER IGNORE TABLE",
     "RENAME TABLE", "REPAIR TABLE", "SET STATEMENT a = 1 FOR UPDATE", "/*!50701 DROP */ TABLE",
     "WITH x AS (SELECT 'it''s') DELETE FROM", "ANALYZE UPDATE", "INSERT INTO x SELECT * FROM"]
)  # fmt: skip
TAILS = st.sampled_from(["", " SET a = 1", " (id) VALUES (1, 'x')", " ADD UNIQUE KEY (a)", " TO b"])


@given(VERBS, NAMES, TAILS, st.data(), st.sampled_from([None, 0, 1 << 20]))
def test_a_watched_table_is_found_however_it_is_written(
    verb: str, name: str, tail: str, data: st.DataObject, mode: int | None
) -> None:
    """Comments and white space anywhere, either case of words."""
    words = (verb + " " + name + tail).split(" ")
    text = data.draw(GAPS) + "".join(
        (word if "goods" in word or not data.draw(st.booleans()) else word.lower())
        + data.draw(GAPS)
        for word in words
    )
    assert any(e.table == T for e in effects(text.encode(), "shop", WATCHED, Session(45, mode)))
