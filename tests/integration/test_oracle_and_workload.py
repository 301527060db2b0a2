"""The measures themselves: the oracle, the seed and the workload do what tests rely on."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymysql.constants import ER

from schema.document import TicketDocument
from tests.oracle import Difference, Documents, compare, oracle_documents, parse
from tests.seed import BLOCK, seed
from tests.servers import DatabaseServer, Flavour
from tests.workload import Workload
from tests.workload_steps import STEPS

pytestmark = pytest.mark.server

HELPDESK_SQL = Path(__file__).parent.parent / "helpdesk.sql"

TABLES = (
    "organizations departments users ticket_statuses ticket_priorities categories tickets"
    " ticket_comments ticket_attachments tags ticket_tags ticket_watchers"
).split()


@pytest.fixture
def helpdesk(database: DatabaseServer, fresh_database: str) -> str:
    database.load_sql(HELPDESK_SQL, fresh_database)
    return fresh_database


@pytest.fixture
def second_helpdesk(database: DatabaseServer) -> Iterator[str]:
    name = f"second_{uuid.uuid4().hex[:12]}"
    database.create_database(name)
    database.load_sql(HELPDESK_SQL, name)
    yield name
    database.drop_database(name)


ONE_TICKET = """
INSERT INTO organizations VALUES (3, 'Org', 'org.example', '2026-01-01');
INSERT INTO departments VALUES (5, 3, 'Desk'), (6, 3, 'Own');
INSERT INTO users VALUES (7, 6, 'r@example.org', 'Réquester 😀', 'customer', 1, '2026-01-01'),
                         (8, NULL, 'a@example.org', 'Agent', 'agent', 1, '2026-01-01');
INSERT INTO ticket_statuses VALUES (1, 'done', 1);
INSERT INTO ticket_priorities VALUES (2, 'high', 30);
INSERT INTO categories VALUES (1, NULL, 'Top'), (2, 1, 'Sub');
INSERT INTO tickets VALUES
  (18446744073709551615, 'T', NULL, 1, 2, 2, 5, 7, 8, 12.5, '{"a": [1.50, true, "x"]}',
   '2026-11-22 21:59:12.452458', '2026-11-22 21:59:12', '2026-12-24 18:00:00', NULL),
  (2, '', '', 1, 2, NULL, 5, 8, NULL, NULL, NULL,
   '2026-11-22 21:59:12.5', '2026-11-22 21:59:12', NULL, '9999-12-31 23:59:59.999999');
INSERT INTO ticket_comments VALUES
  (1, 2, 7, 'x', 0, '2026-11-22 21:00:00'), (2, 2, 7, 'y', 1, '2026-11-22 22:00:00.000001');
INSERT INTO ticket_attachments VALUES
  (9, 2, 1, 'b.txt', 'text/plain', 18446744073709551615, '2026-11-22 21:00:00'),
  (8, 2, NULL, 'a.txt', 'text/plain', 0, '2026-11-22 21:00:00.1');
INSERT INTO tags VALUES (1, 'b'), (2, 'B'), (3, 'ä') ON DUPLICATE KEY UPDATE id = tags.id;
INSERT INTO tags VALUES (4, 'Z'), (5, '😀');
INSERT INTO ticket_tags SELECT 2, id FROM tags;
INSERT INTO ticket_watchers VALUES (2, 8), (2, 7);
"""

BARE = {
    "id": 18446744073709551615,
    "title": "T",
    "description": None,
    "status_id": 1,
    "status_name": "done",
    "is_closed": True,
    "priority_id": 2,
    "priority_name": "high",
    "priority_level": 30,
    "category_id": 2,
    "category_name": "Sub",
    "parent_category_name": "Top",
    "department_id": 5,
    "department_name": "Desk",
    "organization_id": 3,
    "organization_name": "Org",
    "requester_id": 7,
    "requester_name": "Réquester 😀",
    "requester_email": "r@example.org",
    "requester_department_name": "Own",
    "assignee_id": 8,
    "assignee_name": "Agent",
    "assignee_email": "a@example.org",
    "estimated_hours": "12.50",
    "created_at": "2026-11-22T21:59:12.452458Z",
    "updated_at": "2026-11-22T21:59:12Z",
    "due_at": "2026-12-24T18:00:00Z",
    "closed_at": None,
    "tags": [],
    "watchers": [],
    "attachments": [],
    "comment_count": 0,
    "last_comment_at": None,
}

FULL_PARTS = {
    "description": "",
    "category_name": None,
    "requester_department_name": None,
    "assignee_email": None,
    "estimated_hours": None,
    "custom_fields": None,
    "created_at": "2026-11-22T21:59:12.500000Z",
    "closed_at": "9999-12-31T23:59:59.999999Z",
    "watchers": [{"user_id": 7, "name": "Réquester 😀"}, {"user_id": 8, "name": "Agent"}],
    "attachments": [
        {
            "id": 8,
            "filename": "a.txt",
            "content_type": "text/plain",
            "size_bytes": 0,
            "created_at": "2026-11-22T21:00:00.100000Z",
        },
        {
            "id": 9,
            "filename": "b.txt",
            "content_type": "text/plain",
            "size_bytes": 18446744073709551615,
            "created_at": "2026-11-22T21:00:00Z",
        },
    ],
    "comment_count": 2,
    "last_comment_at": "2026-11-22T22:00:00.000001Z",
}


def stored(documents: Documents) -> dict[bytes, bytes]:
    """The documents as a hash would hold them; without fractions, which `parse` marks."""
    return {
        key.encode(): json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        for key, value in documents.items()
    }


def test_the_oracle_gives_documents_written_down_by_hand(
    database: DatabaseServer, helpdesk: str
) -> None:
    """Two tickets, every field of which was computed in the head, come out so."""
    database.load_sql(ONE_TICKET, helpdesk)
    with database.connect(helpdesk) as connection:
        documents = oracle_documents(connection)
        assert oracle_documents(connection, [2, 99]) == {"2": documents["2"]}
        assert oracle_documents(connection, []) == {}
    assert documents.keys() == {"2", "18446744073709551615"}
    bare = dict(documents["18446744073709551615"])
    fields = bare.pop("custom_fields")["a"]
    assert fields[0]["number"] in ("1.50", "1.5")  # MariaDB keeps the text, MySQL the number
    assert fields[1:] == [True, "x"]
    assert bare == BARE
    full = documents["2"]
    assert {name: full[name] for name in FULL_PARTS} == FULL_PARTS
    assert full["tags"] == sorted(full["tags"], key=lambda name: name.encode())
    assert {"Z", "😀"} < set(full["tags"])
    assert full["is_closed"] is True


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ('"comment_count":0|"comment_count":false', "stale"),
        ('"is_closed":true|"is_closed":1', "stale"),
        ('"estimated_hours":"12.50"|"estimated_hours":12.50', "stale"),
        ('"estimated_hours":"12.50"|"estimated_hours":"12.5"', "stale"),
        ('"updated_at":"2026-11-22T21:59:12Z"|"updated_at":"2026-11-22T21:59:12.000000Z"', "stale"),
        ('"id":18446744073709551615|"id":18446744073709551616', "stale"),
        ('"tags":[]|"tags":[],"more":null', "stale"),
        ('"tags":[],|', "stale"),
        ('"tags":[]|"tags": []', "malformed"),
        ('"tags":[]|"tags":[', "malformed"),
    ],
)
def test_the_comparison_sees_the_smallest_difference(change: str, kind: str) -> None:
    """Types, digits, formats, spaces, absent and surplus fields all count."""
    documents: Documents = {"1": {**BARE, "custom_fields": None}}
    right = stored(documents)
    assert compare(right, documents) == []
    old, new = change.split("|")
    assert old.encode() in right[b"1"]
    wrong = {b"1": right[b"1"].replace(old.encode(), new.encode())}
    assert [(found.id, found.kind) for found in compare(wrong, documents)] == [("1", kind)]


def test_the_comparison_names_missing_and_orphaned_documents() -> None:
    """A document too few and one too many are told apart."""
    documents: Documents = {"1": {"id": 1}}
    assert compare({b"2": b'{"id":2}'}, documents) == [
        Difference("1", "missing"),
        Difference("2", "orphan"),
    ]


def test_numbers_are_compared_by_their_digits() -> None:
    """A float that was rounded, or shed its fraction, is another number."""
    assert parse("[1.0]") != parse("[1]")
    assert parse("[0.1]") != parse("[0.10]")
    assert parse("[18446744073709551615]") == [18446744073709551615]


def test_the_seed_is_the_same_every_time(
    database: DatabaseServer, helpdesk: str, second_helpdesk: str
) -> None:
    """The same seed gives the same rows in all twelve tables, copied blocks included."""
    tickets = BLOCK + 300
    for name in (helpdesk, second_helpdesk):
        with database.connect(name) as connection:
            seed(connection, tickets=tickets, seed=5)
    assert database.execute("SELECT COUNT(*) FROM tickets", database=helpdesk) == [(tickets,)]
    for table in TABLES:
        sums = {
            database.execute(f"CHECKSUM TABLE `{name}`.{table}")[0][1]
            for name in (helpdesk, second_helpdesk)
        }
        assert len(sums) == 1, table
        assert sums != {0}, table


def test_seeded_tickets_are_valid_documents(database: DatabaseServer, helpdesk: str) -> None:
    """The model reads each document of the seed, and writes the same bytes again."""
    with database.connect(helpdesk) as connection:
        seed(connection, tickets=500)
        documents = oracle_documents(connection)
    for value in stored(documents).values():
        assert TicketDocument.model_validate_json(value).model_dump_json().encode() == value


def orphans(database: DatabaseServer, name: str) -> list[str]:
    """Foreign keys with a child that has no parent."""
    keys = database.execute(
        "SELECT table_name, column_name, referenced_table_name FROM"
        " information_schema.key_column_usage"
        " WHERE table_schema = %s AND referenced_table_name IS NOT NULL",
        name,
    )
    return [
        f"{table}.{column}"
        for table, column, parent in keys
        if database.execute(
            f"SELECT 1 FROM {table} c LEFT JOIN {parent} p ON p.id = c.{column}"
            f" WHERE c.{column} IS NOT NULL AND p.id IS NULL LIMIT 1",
            database=name,
        )
    ]


def test_seeded_rows_refer_to_rows_that_exist(database: DatabaseServer, helpdesk: str) -> None:
    """Though the seed switches the checks off, every foreign key holds."""
    with database.connect(helpdesk) as connection:
        seed(connection, tickets=BLOCK + 1000)
    assert orphans(database, helpdesk) == []


def forbid_cascades(database: DatabaseServer, name: str) -> None:
    """Make every foreign key refuse what it would otherwise do behind the log's back."""
    keys = database.execute(
        "SELECT k.table_name, k.constraint_name, k.column_name, k.referenced_table_name"
        " FROM information_schema.key_column_usage k"
        " JOIN information_schema.referential_constraints r"
        " ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name"
        " WHERE k.table_schema = %s AND r.delete_rule IN ('CASCADE', 'SET NULL')",
        name,
    )
    assert len(keys) == 13
    for table, key, column, parent in keys:
        database.execute(
            f"ALTER TABLE {table} DROP FOREIGN KEY {key}, ADD CONSTRAINT {key}_strict"
            f" FOREIGN KEY ({column}) REFERENCES {parent} (id)",
            database=name,
        )


STEADY_STEPS = {step.__name__ for step, weight in STEPS.items() if weight >= 1}


def test_the_workload_changes_every_table_in_every_way(
    database: DatabaseServer, helpdesk: str
) -> None:
    """After some seconds every usual step was committed, and the database is whole."""
    with database.connect(helpdesk) as connection:
        seed(connection, tickets=500)
    workload = Workload(lambda: database.connect(helpdesk), seed=3, cascades=True, rate=1000)
    wanted = {"transactions rolled back", "steps rolled back", *STEADY_STEPS}
    workload.run(6, until=lambda: wanted <= workload.stats.keys())
    assert wanted - workload.stats.keys() == set()
    assert workload.stats["transactions"] > 500
    # Not on MySQL 9.7.4: unless innodb_native_foreign_keys is on, DELETE FROM users leaves
    # comments of the user, and tickets assigned to the user, without their parent.
    if database.flavour is not Flavour.MYSQL:
        assert orphans(database, helpdesk) == []


def test_without_cascades_no_foreign_key_changes_a_row(
    database: DatabaseServer, helpdesk: str
) -> None:
    """With every cascade replaced by a refusal, deletions still go through, all of them."""
    with database.connect(helpdesk) as connection:
        seed(connection, tickets=500)
    forbid_cascades(database, helpdesk)
    workload = Workload(lambda: database.connect(helpdesk), seed=4, cascades=False, rate=1000)
    deleted = {f"delete_{step}" for step in ("ticket", "comment", "user", "category", "tag")}
    workload.run(6, until=lambda: deleted <= workload.stats.keys())
    assert deleted - workload.stats.keys() == set()
    for step in ("ticket", "comment", "user", "category", "tag"):
        assert workload.stats[f"delete_{step}: error {ER.ROW_IS_REFERENCED_2}"] == 0
    assert orphans(database, helpdesk) == []
