"""Which foreign keys hide what from whom."""

from typing import Any

from projector.model import MISSING, Kind, RowsChange, TableName
from projector.mysql.cascade import (
    ForeignKey,
    Hidden,
    foreign_keys,
    hidden,
    logs_actions,
    with_parents,
)
from projector.mysql.knowledge import merged
from projector.projection import Plan
from projector.route import Affected, Router
from schema.projection import tickets

PLAN = Plan(tickets)
NAMES = {
    n: TableName("h", n) for n in ("tickets", "users", "ticket_comments", "ticket_attachments")
}


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


def test_a_server_that_logs_actions_hides_none() -> None:
    """MySQL from 9.6 on, unless InnoDB carries them out by itself; older parts of its log may, so
    that each event tells."""
    logging: Any = Definitions("9.7.4", TEXT)
    hiding: Any = Definitions("10.11.1-MariaDB", TEXT)
    assert logs_actions(logging)
    assert not logs_actions(hiding)
    found = hidden(_keys("9.7.4", "tickets"), PLAN, "h")
    delete = RowsChange(NAMES["users"], Kind.DELETE, [(4,)], [], 1, hides=False)
    assert _routed(found, delete).traces == {}
    assert _routed(found, delete._replace(hides=True)).traces != {}


def test_only_what_stands_in_unknown_documents_matters() -> None:
    """A user's delete hides much; a ticket's or a comment's only what its own row tells."""
    keys = _keys("10.11.1-MariaDB", "tickets", "ticket_comments", "ticket_attachments")
    found = hidden(keys, PLAN, "h")
    assert found[NAMES["users"]].on_delete
    assert not found[NAMES["tickets"]].on_delete
    assert found[NAMES["tickets"]].on_update
    assert NAMES["ticket_comments"] not in found


def _routed(hidden_by: dict[TableName, Hidden], change: RowsChange) -> Affected:
    watches = merged(with_parents(PLAN.watches("h"), hidden_by, []))
    return Router(PLAN, "h", watches, hidden_by).route([change])


def test_hidden_changes_are_traced() -> None:
    """A delete of the parent, and an update of what others refer to; nothing else."""
    keys = _keys("10.11.1-MariaDB", "tickets", "ticket_comments", "ticket_attachments")
    found = hidden(keys, PLAN, "h")
    delete = RowsChange(NAMES["users"], Kind.DELETE, [(4,)], [], 1)
    update = RowsChange(NAMES["users"], Kind.UPDATE, [(4,)], [(4,)], 1)
    moved = RowsChange(NAMES["tickets"], Kind.UPDATE, [(4,)], [(5,)], 1)
    same = RowsChange(NAMES["tickets"], Kind.UPDATE, [(4,)], [(4,)], 1)
    [(trace, values)] = _routed(found, delete).traces.items()
    assert values == {(4,)}
    assert trace.query(values, 9).endswith("tickets.assignee_id IN (4) ORDER BY tickets.id LIMIT 9")
    assert not _routed(found, update).traces
    assert _routed(found, moved).traces
    assert not _routed(found, same).traces


def test_a_row_image_without_the_key_owes_a_walk() -> None:
    """What is not in the log cannot be traced."""
    keys = [
        ForeignKey(NAMES["tickets"], ("assignee_id",), NAMES["users"], ("email",), "SET NULL", "")
    ]
    found = hidden(keys, PLAN, "h")
    affected = _routed(found, RowsChange(NAMES["users"], Kind.DELETE, [(4, MISSING)], [], 1))
    assert affected.repairs == {"cascade"}
    assert not affected.traces


def test_a_chain_is_traced_through_the_tables_between() -> None:
    """Also through one that no document reads; beyond the limit only whether it goes on."""
    team, member = TableName("h", "teams"), TableName("h", "members")
    keys = [
        ForeignKey(team, ("boss",), team, ("id",), "CASCADE", ""),
        ForeignKey(member, ("team_id",), team, ("id",), "CASCADE", ""),
        ForeignKey(NAMES["tickets"], ("assignee_id",), member, ("id",), "SET NULL", ""),
    ]
    traces = hidden(keys, PLAN, "h")[team].on_delete
    first = traces[0].query({(4,)}, 9)
    assert (
        "(tickets.assignee_id) IN (SELECT `h`.`members`.`id` FROM `h`.`members`"
        " WHERE `h`.`members`.`team_id` IN (4))"
    ) in first
    assert [trace.is_end for trace in traces].count(True) == 2
    assert len(traces) == 5


def test_where_a_row_hangs_is_watched_where_it_goes_with_its_parent() -> None:
    """Though no document reads a comment's author; an attachment's comment is only set to NULL."""
    keys = [
        ForeignKey(
            NAMES["ticket_comments"], ("author_id",), NAMES["users"], ("id",), "CASCADE", ""
        ),
        *_keys("10.11.1-MariaDB", "ticket_attachments"),
    ]
    watches = merged(with_parents(PLAN.watches("h"), hidden(keys, PLAN, "h"), keys))
    read = {watch.table: watch.read for watch in watches}
    assert "author_id" in read[NAMES["ticket_comments"]]
    assert "comment_id" not in read[NAMES["ticket_attachments"]]


def test_rows_that_hang_elsewhere_now_are_told() -> None:
    """By a changed link or a changed key; nothing is read for it until something goes."""
    team = TableName("h", "teams")
    keys = [
        ForeignKey(NAMES["users"], ("team_id",), team, ("id",), "CASCADE", "CASCADE"),
        ForeignKey(
            NAMES["ticket_comments"], ("author_id",), NAMES["users"], ("id",), "CASCADE", ""
        ),
    ]
    found = hidden(keys, PLAN, "h")
    assert found[NAMES["users"]].columns == ("id",)
    joined = RowsChange(NAMES["users"], Kind.UPDATE, [(4, 7)], [(4, 8)], 1)
    affected = _routed(found, joined)
    assert list(affected.moved.values()) == [{(4,)}]
    assert not affected.traces
    renumbered = RowsChange(team, Kind.UPDATE, [(7,)], [(8,)], 1)
    assert {(7,)} in _routed(found, renumbered).moved.values()
