"""Foreign keys as the server prints them."""

from typing import Any

from projector.model import TableName
from projector.mysql.foreign_keys import ForeignKey, foreign_keys, logs_actions


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
