"""A helpdesk full of tickets, the same for the same seed, quickly.

    seed(connection, tickets=5000)      # the twelve tables exist and are empty

The first tickets are written by Python; beyond `BLOCK` of them the server copies blocks of rows
with other users and departments, so that hundreds of thousands take seconds.
"""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import pymysql
from pymysql.cursors import Cursor

from tests import values

BLOCK = 5000
_ROWS_A_STATEMENT = 1000

STATUSES = [(1, "new", 0), (2, "open", 0), (3, "waiting", 0), (4, "solved ✅", 1), (5, "closed", 1)]
PRIORITIES = [(1, "low", 10), (2, "normal", 20), (3, "high", 30), (4, "urgent 🔥", 255)]


def seed(connection: "pymysql.Connection[Any]", tickets: int = 5000, seed: int = 1) -> None:
    """Fill the empty tables; commits."""
    random = Random(seed)
    users = max(20, tickets // 20)
    departments = max(4, min(200, tickets // 100))
    with connection.cursor(Cursor) as cursor:
        cursor.execute("SET SESSION foreign_key_checks = 0, unique_checks = 0")
        cursor.execute("START TRANSACTION")
        _seed_surroundings(cursor, random, users, departments)
        block = min(BLOCK, tickets)
        _seed_tickets(cursor, random, block, users, departments)
        cursor.execute("COMMIT")
        for first in range(BLOCK, tickets, BLOCK):
            _copy(cursor, first, min(BLOCK, tickets - first), users, departments)
            cursor.execute("COMMIT")
        cursor.execute("SET SESSION foreign_key_checks = 1, unique_checks = 1")


def _seed_surroundings(cursor: Cursor, random: Random, users: int, departments: int) -> None:
    organizations = max(2, departments // 4)
    _insert(
        cursor,
        "organizations (id, name, domain, created_at)",
        (
            (n, f"{random.choice(values.LAST_NAMES)} & Co {n}", f"org{n}.example", "2025-01-01")
            for n in range(1, organizations + 1)
        ),
    )
    _insert(
        cursor,
        "departments (id, organization_id, name)",
        (
            (n, random.randint(1, organizations), f"{random.choice(values.SUBJECTS)} desk {n}")
            for n in range(1, departments + 1)
        ),
    )
    _insert(
        cursor,
        "users (id, department_id, email, full_name, role, is_active, created_at)",
        (
            (
                n,
                random.randint(1, departments) if random.random() < 0.9 else None,
                f"user{n}@org{random.randint(1, organizations)}.example",
                values.full_name(random),
                random.choice(["customer", "customer", "agent", "admin"]),
                random.random() < 0.95,
                values.instant(random),
            )
            for n in range(1, users + 1)
        ),
    )
    _insert(cursor, "ticket_statuses (id, name, is_closed)", STATUSES)
    _insert(cursor, "ticket_priorities (id, name, level)", PRIORITIES)
    _insert(
        cursor,
        "categories (id, parent_id, name)",
        (
            (n, random.randint(1, 8) if n > 8 else None, f"{random.choice(values.SUBJECTS)} {n}")
            for n in range(1, 41)
        ),
    )
    # Names whose order depends on the collation, so that a wrong order shows.
    names = ["Zebra", "apple", "Äpfel", "éclair", "_x", "10", "9", "日本", "😀", "a b"]
    names += [f"{random.choice(values.WORDS)}-{n}" for n in range(40)]
    _insert(cursor, "tags (id, name)", enumerate(names, start=1))


def _seed_tickets(
    cursor: Cursor, random: Random, tickets: int, users: int, departments: int
) -> None:
    ids = range(1, tickets + 1)
    _insert(
        cursor,
        "tickets (id, title, description, status_id, priority_id, category_id, department_id,"
        " requester_id, assignee_id, estimated_hours, custom_fields, created_at, updated_at,"
        " due_at, closed_at)",
        (_ticket(random, n, users, departments) for n in ids),
    )
    comments = [
        (
            random.choice(ids),
            random.randint(1, users),
            values.sentence(random, random.randint(1, 30)),
            random.random() < 0.2,
            values.instant(random),
        )
        for _ in range(tickets * 3 // 2)
    ]
    _insert(
        cursor,
        "ticket_comments (id, ticket_id, author_id, body, is_internal, created_at)",
        ((n, *comment) for n, comment in enumerate(comments, start=1)),
    )
    _insert(
        cursor,
        "ticket_attachments"
        " (id, ticket_id, comment_id, filename, content_type, size_bytes, created_at)",
        (_attachment(random, n, comments, ids) for n in range(1, tickets // 2 + 1)),
    )
    _insert(
        cursor,
        "ticket_tags (ticket_id, tag_id)",
        ((n, tag) for n in ids for tag in random.sample(range(1, 51), random.choice([0, 1, 2, 5]))),
    )
    _insert(
        cursor,
        "ticket_watchers (ticket_id, user_id)",
        (
            (n, user)
            for n in ids
            for user in random.sample(range(1, users + 1), random.choice([0, 0, 1, 3]))
        ),
    )


def _ticket(random: Random, number: int, users: int, departments: int) -> tuple[Any, ...]:
    status = random.randint(1, 5)
    return (
        number,
        values.title(random),
        values.sentence(random, random.randint(3, 60)) if random.random() < 0.9 else None,
        status,
        random.randint(1, 4),
        random.randint(1, 40) if random.random() < 0.8 else None,
        random.randint(1, departments),
        random.randint(1, users),
        random.randint(1, users) if random.random() < 0.7 else None,
        random.randrange(100_000) / 100 if random.random() < 0.5 else None,
        values.custom_fields(random),
        values.instant(random),
        values.instant(random),
        values.instant(random, with_fraction=False) if random.random() < 0.5 else None,
        values.instant(random) if status > 3 else None,
    )


def _attachment(
    random: Random, number: int, comments: Sequence[tuple[Any, ...]], ids: range
) -> tuple[Any, ...]:
    comment = random.randint(1, len(comments)) if comments and random.random() < 0.5 else None
    return (
        number,
        comments[comment - 1][0] if comment else random.choice(ids),
        comment,
        f"{random.choice(values.SUBJECTS)} {number}.bin",
        random.choice(values.CONTENT_TYPES),
        random.choice([0, random.randrange(10**7), 2**64 - 1]),
        values.instant(random),
    )


def _copy(cursor: Cursor, first: int, count: int, users: int, departments: int) -> None:
    """Copy the first `count` tickets of the first block, with all rows that belong to them."""
    shift = {"first": first, "count": count, "users": users, "departments": departments}
    for statement in _COPIES:
        cursor.execute(statement, shift)


_COPIES = (
    """INSERT INTO tickets
       SELECT id + %(first)s, CONCAT(title, ' #', id + %(first)s), description, status_id,
              priority_id, category_id, 1 + (department_id + %(first)s) %% %(departments)s,
              1 + (requester_id + %(first)s) %% %(users)s,
              1 + (assignee_id + %(first)s) %% %(users)s,
              estimated_hours, custom_fields, created_at, updated_at, due_at, closed_at
       FROM tickets WHERE id <= %(count)s""",
    """INSERT INTO ticket_comments
       SELECT id + 2 * %(first)s, ticket_id + %(first)s, 1 + (author_id + %(first)s) %% %(users)s,
              body, is_internal, created_at
       FROM ticket_comments WHERE ticket_id <= %(count)s""",
    """INSERT INTO ticket_attachments
       SELECT id + %(first)s, ticket_id + %(first)s, comment_id + 2 * %(first)s, filename,
              content_type, size_bytes, created_at
       FROM ticket_attachments WHERE ticket_id <= %(count)s""",
    """INSERT INTO ticket_tags
       SELECT ticket_id + %(first)s, tag_id FROM ticket_tags WHERE ticket_id <= %(count)s""",
    """INSERT INTO ticket_watchers
       SELECT ticket_id + %(first)s, 1 + (user_id + %(first)s) %% %(users)s
       FROM ticket_watchers WHERE ticket_id <= %(count)s""",
)


def _insert(cursor: Cursor, target: str, rows: Iterable[Sequence[Any]]) -> None:
    chunk: list[Sequence[Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _ROWS_A_STATEMENT:
            _insert_chunk(cursor, target, chunk)
            chunk = []
    if chunk:
        _insert_chunk(cursor, target, chunk)


def _insert_chunk(cursor: Cursor, target: str, rows: Sequence[Sequence[Any]]) -> None:
    row = f"({','.join(['%s'] * len(rows[0]))})"
    arguments = [value for one in rows for value in one]
    cursor.execute(f"INSERT INTO {target} VALUES {','.join([row] * len(rows))}", arguments)
