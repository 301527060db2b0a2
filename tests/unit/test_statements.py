"""What a statement in the log does to watched tables: forms that servers take and few write."""

import pytest

from projector.binlog.statements import Effect, Watched, defined, effects
from projector.model import TableName

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
