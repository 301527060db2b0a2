"""Foreign keys as the server prints them."""

from typing import Any

from projector.model import TableName
from projector.mysql.foreign_keys import ForeignKey, foreign_keys, logs_actions
from projector.mysql.knowledge import learn
from tests.unit.model_database import PLAN


class Definitions:
    """SHOW CREATE TABLE as MariaDB prints it."""

    def __init__(self, version: str, by_table: dict[str, str]) -> None:
        self._version, self._by_table = version, by_table

    def query(self, *statements: str) -> list[Any]:
        [statement] = statements
        if statement == "SELECT VERSION()":
            return [[(self._version,)]]
        if "VARIABLES" in statement:
            return [[("innodb_native_foreign_keys", "OFF")]]
        name = statement.rpartition(".")[2].strip("`")
        return [[(name, self._by_table.get(name, ""))]]


TEXT = {
    "tickets": "  CONSTRAINT `a` FOREIGN KEY (`assignee_id`) REFERENCES `users` (`id`)"
    " ON DELETE SET NULL,\n  CONSTRAINT `b` FOREIGN KEY (`status_id`) REFERENCES `s` (`id`)",
    "ticket_comments": "  CONSTRAINT `c` FOREIGN KEY (`ticket_id`) REFERENCES `tickets` (`id`)"
    " ON DELETE CASCADE ON UPDATE CASCADE",
    "ticket_attachments": "  CONSTRAINT `d` FOREIGN KEY (`comment_id`) REFERENCES"
    " `ticket_comments` (`id`) ON DELETE SET NULL",
    "keyed": "  PRIMARY KEY (`A`,`b,c`),\n  KEY `x` (`d`),\n"
    "  CONSTRAINT `f` FOREIGN KEY (`d`) REFERENCES `t` (`p`) ON DELETE CASCADE",
    "odd": "  CONSTRAINT `e` FOREIGN KEY (`x``y`,`z`) REFERENCES `o``ther`.`t` (`p`,`q`)"
    " ON UPDATE SET NULL",
}


def _keys(version: str, *tables: str) -> list[ForeignKey]:
    connection: Any = Definitions(version, TEXT)
    return list(foreign_keys(connection, [TableName("h", name) for name in tables]).known)


def test_definitions_are_read_with_quotes_and_schemas() -> None:
    """Names may hold anything; a parent may stand in another database."""
    [key] = _keys("10.11.1-MariaDB", "odd")
    assert key.columns == ("x`y", "z")
    assert key.parent == TableName("o`ther", "t")
    assert key.referenced == ("p", "q")
    assert (key.on_delete, key.on_update) == ("RESTRICT", "SET NULL")


def test_a_server_that_logs_actions_says_so() -> None:
    """MySQL from 9.6 on, unless InnoDB carries them out by itself; MariaDB never does."""
    logging: Any = Definitions("9.7.4", TEXT)
    hiding: Any = Definitions("10.11.1-MariaDB", TEXT)
    assert logs_actions(logging)
    assert not logs_actions(hiding)


def test_the_primary_key_of_the_child_is_read() -> None:
    """By it the images of one row are told apart."""
    [key] = _keys("10.11.1-MariaDB", "keyed")
    assert key.child_key == ("a", "b,c")


def test_versioned_tables_are_told() -> None:
    """Parents too: their log tells a deleted row in another way."""
    text = {
        "c": "  FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE CASCADE\n) ENGINE=InnoDB",
        "p": "  PRIMARY KEY (`id`)\n) ENGINE=InnoDB WITH SYSTEM VERSIONING",
    }
    connection: Any = Definitions("10.11.1-MariaDB", text)
    assert foreign_keys(connection, [TableName("h", "c")]).versioned == {TableName("h", "p")}


class Catalog(Definitions):
    """The same, with the type of a column that a key has and no document reads."""

    def __init__(self, kind: str) -> None:
        text = "  PRIMARY KEY (`id`),\n FOREIGN KEY (`owner`) REFERENCES `owners` (`id`)"
        super().__init__("10.11.1-MariaDB", {"tickets": f"{text} ON DELETE CASCADE"})
        self._columns = [("id", "int", "int", None, None), ("owner", kind, kind, None, None),
                         ("unread", "int", "int", None, None)]  # fmt: skip

    def query(self, *statements: str) -> list[Any]:
        if "lower_case" in statements[0]:
            return [[("0",)]]
        if "GENERATION_EXPRESSION" in statements[0]:
            return [[]]
        if "information_schema" in statements[0]:
            return [self._columns for _ in statements]
        return super().query(*statements)


def test_the_types_of_linked_columns_are_part_of_what_is_known() -> None:
    """Values from a snapshot are read by them: where one changes, the next term has to begin."""
    ints, texts = (learn(as_any(Catalog(kind)), [PLAN], "db") for kind in ("int", "varchar"))
    assert set(ints.types[TableName("db", "tickets")]) == {"id", "owner"}
    assert ints.knowledge != texts.knowledge
    assert ints.knowledge == learn(as_any(Catalog("int")), [PLAN], "db").knowledge


def as_any(value: object) -> Any:
    """For what stands in for another thing."""
    return value
