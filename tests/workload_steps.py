"""The single changes of which `tests.workload` is made: what users and programs do to a helpdesk.

A step finds its rows by itself, and does nothing when there are none. It locks a parent before it
touches the children, so that with `cascades` off nobody can add a child in between.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from pymysql.cursors import Cursor

from tests import values

_FIRST_NEW_ID = 10_000_000
_MANY = 200  # children of a parent that a single step may still move or delete
_LAST_ID = 2**64 - 1
_ZONES = ((1, _FIRST_NEW_ID - 1), (1, _FIRST_NEW_ID - 1), (_FIRST_NEW_ID, 2 * _FIRST_NEW_ID))


class Steps:
    """The steps of one connection; `numbers` gives every connection numbers of its own."""

    def __init__(
        self, cursor: Cursor, random: Random, numbers: Iterator[int], *, cascades: bool
    ) -> None:
        self._cursor = cursor
        self._random = random
        self._numbers = numbers
        self._cascades = cascades

    # Tickets

    def add_ticket(self) -> None:
        requester, department = self._any("users"), self._any("departments")
        status, priority = self._any("ticket_statuses"), self._any("ticket_priorities")
        if None in (requester, department, status, priority):
            return
        ticket = self._new_ticket_id()
        self._run(
            "INSERT INTO tickets (id, title, description, status_id, priority_id, category_id,"
            " department_id, requester_id, assignee_id, estimated_hours, custom_fields, due_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            ticket,
            self._text(200),
            self._long_text(),
            status,
            priority,
            self._any_or_none("categories"),
            department,
            requester,
            self._any_or_none("users"),
            self._hours(),
            self._json(),
            self._time_or_none(),
        )
        if self._random.random() < 0.5:
            self._comment_on(ticket)

    def edit_ticket(self) -> None:
        ticket = self._any("tickets")
        column, value = self._random.choice(
            [
                ("title", self._text(200)),
                ("description", self._long_text()),
                ("status_id", self._any("ticket_statuses")),
                ("priority_id", self._any("ticket_priorities")),
                ("category_id", self._any_or_none("categories")),
                ("department_id", self._any("departments")),
                ("requester_id", self._any("users")),
                ("assignee_id", self._any_or_none("users")),
                ("estimated_hours", self._hours()),
                ("custom_fields", self._json()),
                ("created_at", self._time()),
                ("due_at", self._time_or_none()),
                ("closed_at", self._time_or_none()),
            ]
        )
        self._run(f"UPDATE tickets SET {column} = %s WHERE id = %s", value, ticket)

    def edit_many_tickets(self) -> None:
        self._run(
            "UPDATE tickets SET priority_id = %s, title = CONCAT(LEFT(title, 190), ' …')"
            " WHERE id >= %s ORDER BY id LIMIT %s",
            self._any("ticket_priorities"),
            self._any("tickets"),
            self._random.randint(2, 50),
        )

    def change_nothing(self) -> None:
        self._run("UPDATE tickets SET title = title WHERE id = %s", self._any("tickets"))

    def delete_ticket(self) -> None:
        self._delete_ticket(self._any("tickets"))

    def renumber_ticket(self) -> None:
        """Only a ticket without children can change its key."""
        ticket = self._any("tickets")
        if self._random.random() < 0.5:
            self._lock("tickets", ticket)
            self._delete_children(ticket)
        self._run("UPDATE tickets SET id = %s WHERE id = %s", self._new_ticket_id(), ticket)

    # What belongs to tickets

    def add_comment(self) -> None:
        self._comment_on(self._any("tickets"))

    def add_comments(self) -> None:
        ticket, author = self._any("tickets"), self._any("users")
        if ticket is None or author is None:
            return
        rows = [(ticket, author, self._text(60000), self._time()) for _ in range(3)]
        self._run(
            "INSERT INTO ticket_comments (ticket_id, author_id, body, created_at)"
            f" VALUES {','.join(['(%s, %s, %s, %s)'] * len(rows))}",
            *(value for row in rows for value in row),
        )

    def edit_comment(self) -> None:
        column, value = self._random.choice(
            [
                ("body", self._text(60000)),
                ("created_at", self._time()),
                ("is_internal", self._random.randrange(2)),
                ("author_id", self._any("users")),
            ]
        )
        comment = self._any("ticket_comments")
        self._run(f"UPDATE ticket_comments SET {column} = %s WHERE id = %s", value, comment)

    def move_comment(self) -> None:
        self._set("ticket_comments", "ticket_id", self._any("tickets"))

    def renumber_comment(self) -> None:
        """Refused for a comment with attachments."""
        comment = self._any("ticket_comments")
        new = 10 * _FIRST_NEW_ID + next(self._numbers)
        self._run("UPDATE ticket_comments SET id = %s WHERE id = %s", new, comment)

    def delete_comment(self) -> None:
        comment = self._any("ticket_comments")
        self._lock("ticket_comments", comment)
        self._unlink("ticket_attachments", "comment_id", comment)
        self._run("DELETE FROM ticket_comments WHERE id = %s", comment)

    def add_attachment(self) -> None:
        ticket = self._any("tickets")
        if ticket is None:
            return
        self._run(
            "INSERT INTO ticket_attachments"
            " (ticket_id, comment_id, filename, content_type, size_bytes, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            ticket,
            self._any_or_none("ticket_comments"),
            self._text(255),
            self._random.choice(values.CONTENT_TYPES),
            self._random.choice([0, 1, 2**63, _LAST_ID, self._random.randrange(2**64)]),
            self._time(),
        )

    def move_attachment(self) -> None:
        self._set("ticket_attachments", "ticket_id", self._any("tickets"))

    def edit_attachment(self) -> None:
        self._set("ticket_attachments", "filename", self._text(255))

    def renumber_attachment(self) -> None:
        new = self._random.choice([10 * _FIRST_NEW_ID, 2**62]) + next(self._numbers)
        self._set("ticket_attachments", "id", new)

    def delete_attachment(self) -> None:
        self._delete("ticket_attachments")

    def add_tag_to_ticket(self) -> None:
        ticket, tag = self._any("tickets"), self._any("tags")
        if ticket is not None and tag is not None:
            verb = self._random.choice(["INSERT", "INSERT IGNORE", "REPLACE"])
            self._run(f"{verb} INTO ticket_tags (ticket_id, tag_id) VALUES (%s, %s)", ticket, tag)

    def change_tag_of_ticket(self) -> None:
        """A change of a composite key: another tag, or another ticket."""
        row = self._any_pair("ticket_tags", "tag_id")
        column = self._random.choice(["ticket_id", "tag_id"])
        value = self._any("tickets" if column == "ticket_id" else "tags")
        if row and value is not None:
            self._run(
                f"UPDATE ticket_tags SET {column} = %s WHERE ticket_id = %s AND tag_id = %s",
                value,
                *row,
            )

    def remove_tag_from_ticket(self) -> None:
        if row := self._any_pair("ticket_tags", "tag_id"):
            self._run("DELETE FROM ticket_tags WHERE ticket_id = %s AND tag_id = %s", *row)

    def add_watcher(self) -> None:
        ticket, user = self._any("tickets"), self._any("users")
        if ticket is not None and user is not None:
            self._run(
                "INSERT INTO ticket_watchers (ticket_id, user_id) VALUES (%s, %s)"
                " ON DUPLICATE KEY UPDATE user_id = user_id",
                ticket,
                user,
            )

    def move_watcher(self) -> None:
        row = self._any_pair("ticket_watchers", "user_id")
        column = self._random.choice(["ticket_id", "user_id"])
        value = self._any("tickets" if column == "ticket_id" else "users")
        if row and value is not None:
            self._run(
                f"UPDATE ticket_watchers SET {column} = %s WHERE ticket_id = %s AND user_id = %s",
                value,
                *row,
            )

    def remove_watcher(self) -> None:
        if row := self._any_pair("ticket_watchers", "user_id"):
            self._run("DELETE FROM ticket_watchers WHERE ticket_id = %s AND user_id = %s", *row)

    # People and their places

    def add_organization(self) -> None:
        self._run(
            "INSERT INTO organizations (name, domain) VALUES (%s, %s)",
            self._text(120),
            f"new{next(self._numbers)}.example",
        )

    def rename_organization(self) -> None:
        self._set("organizations", "name", self._text(120))

    def delete_organization(self) -> None:
        """Refused while it has departments."""
        self._delete("organizations")

    def add_department(self) -> None:
        organization = self._any("organizations")
        if organization is not None:
            self._run(
                "INSERT INTO departments (organization_id, name) VALUES (%s, %s)",
                organization,
                self._text(120),
            )

    def rename_department(self) -> None:
        self._set("departments", "name", self._text(120))

    def move_department(self) -> None:
        self._set("departments", "organization_id", self._any("organizations"))

    def delete_department(self) -> None:
        """Refused while it has tickets."""
        department = self._any("departments")
        if department is None or self._count("tickets", "department_id", department):
            return
        self._lock("departments", department)
        self._unlink("users", "department_id", department)
        self._run("DELETE FROM departments WHERE id = %s", department)

    def add_user(self) -> None:
        number = next(self._numbers)
        new = self._random.choice([_FIRST_NEW_ID, 2**63]) + number
        self._run(
            "INSERT INTO users (id, department_id, email, full_name, role)"
            " VALUES (%s, %s, %s, %s, %s)",
            new,
            self._any_or_none("departments"),
            f"new{number}@example.org",
            self._text(120),
            self._random.choice(["customer", "agent", "admin"]),
        )

    def edit_user(self) -> None:
        column, value = self._random.choice(
            [
                ("full_name", self._text(120)),
                ("email", f"changed{next(self._numbers)}@example.org"),
                ("department_id", self._any_or_none("departments")),
                ("is_active", self._random.randrange(2)),
                ("role", self._random.choice(["customer", "agent", "admin"])),
            ]
        )
        self._set("users", column, value)

    def renumber_user(self) -> None:
        """Refused for a user whom anything refers to."""
        self._set("users", "id", 2**62 + next(self._numbers))

    def delete_user(self) -> None:
        user = self._any("users")
        if user is None or self._count("tickets", "requester_id", user) > _MANY // 20:
            return
        self._lock("users", user)
        if not self._cascades:
            for ticket in self._ids("tickets", "requester_id", user):
                self._delete_ticket(ticket)
            for comment in self._ids("ticket_comments", "author_id", user):
                self._unlink("ticket_attachments", "comment_id", comment)
            self._run("DELETE FROM ticket_comments WHERE author_id = %s", user)
            self._run("DELETE FROM ticket_watchers WHERE user_id = %s", user)
        self._unlink("tickets", "assignee_id", user)
        self._run("DELETE FROM users WHERE id = %s", user)

    # Vocabularies

    def add_status_or_priority(self) -> None:
        number = next(self._numbers)
        table, column, value = self._random.choice(
            [("ticket_statuses", "is_closed", number % 2), ("ticket_priorities", "level", 255)]
        )
        self._run(
            f"INSERT INTO {table} (id, name, {column}) VALUES (%s, %s, %s)",
            100 + number % 65000,
            f"new {number}",
            value,
        )

    def edit_status(self) -> None:
        column, value = self._random.choice(
            [
                ("name", f"status {next(self._numbers)} ✓"),
                ("is_closed", self._random.randrange(2)),
            ]
        )
        self._set("ticket_statuses", column, value)

    def edit_priority(self) -> None:
        column, value = self._random.choice(
            [
                ("name", f"priority {next(self._numbers)}"),
                ("level", self._random.choice([0, 1, 255])),
            ]
        )
        self._set("ticket_priorities", column, value)

    def delete_status_or_priority(self) -> None:
        """Refused while tickets have it."""
        self._delete(self._random.choice(["ticket_statuses", "ticket_priorities"]))

    def renumber_status_or_priority(self) -> None:
        """Refused while tickets have it."""
        table = self._random.choice(["ticket_statuses", "ticket_priorities"])
        self._set(table, "id", 100 + next(self._numbers) % 65000)

    def add_category(self) -> None:
        self._run(
            "INSERT INTO categories (parent_id, name) VALUES (%s, %s)",
            self._any_or_none("categories"),
            self._text(120),
        )

    def rename_category(self) -> None:
        self._set("categories", "name", self._text(120))

    def move_category(self) -> None:
        """Also below itself or in a circle: only one step up is read."""
        self._set("categories", "parent_id", self._any_or_none("categories"))

    def delete_category(self) -> None:
        category = self._any("categories")
        if category is None or self._count("tickets", "category_id", category) > _MANY:
            return
        self._lock("categories", category)
        self._unlink("categories", "parent_id", category)
        self._unlink("tickets", "category_id", category)
        self._run("DELETE FROM categories WHERE id = %s", category)

    def add_tag(self) -> None:
        self._run("INSERT INTO tags (name) VALUES (%s)", self._tag_name())

    def rename_tag(self) -> None:
        self._set("tags", "name", self._tag_name())

    def delete_tag(self) -> None:
        tag = self._any("tags")
        if tag is None or self._count("ticket_tags", "tag_id", tag) > _MANY:
            return
        self._lock("tags", tag)
        if not self._cascades:
            self._run("DELETE FROM ticket_tags WHERE tag_id = %s", tag)
        self._run("DELETE FROM tags WHERE id = %s", tag)

    # Statements

    def _run(self, sql: str, *arguments: Any) -> None:
        self._cursor.execute(sql, arguments)

    def _rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        self._cursor.execute(sql, arguments)
        return list(self._cursor.fetchall())

    def _any(self, table: str) -> int | None:
        """The id of some row: of the seed, of those added since, or of the last rows there are."""
        low, high = self._random.choice(_ZONES)
        near, far = self._rows(
            f"SELECT MIN(id), MAX(id) FROM {table} WHERE id BETWEEN %s AND %s", low, high
        )[0]
        if near is None or self._random.random() < 0.1:
            rows = self._rows(f"SELECT id FROM {table} ORDER BY id DESC LIMIT 20")
            return self._random.choice(rows)[0] if rows else None
        place = self._random.randint(near, far)
        rows = self._rows(f"SELECT id FROM {table} WHERE id >= %s ORDER BY id LIMIT 1", place)
        return int(rows[0][0])

    def _any_or_none(self, table: str) -> int | None:
        return None if self._random.random() < 0.25 else self._any(table)

    def _any_pair(self, table: str, column: str) -> tuple[Any, ...] | None:
        rows = self._rows(
            f"SELECT ticket_id, {column} FROM {table} WHERE ticket_id >= %s"
            f" ORDER BY ticket_id, {column} LIMIT 1",
            self._any("tickets"),
        )
        return rows[0] if rows else None

    def _set(self, table: str, column: str, value: Any) -> None:
        identity = self._any(table)
        self._run(f"UPDATE {table} SET {column} = %s WHERE id = %s", value, identity)

    def _delete(self, table: str) -> None:
        self._run(f"DELETE FROM {table} WHERE id = %s", self._any(table))

    def _count(self, table: str, column: str, value: Any) -> int:
        rows = self._rows(f"SELECT COUNT(*) FROM {table} WHERE {column} = %s", value)
        return int(rows[0][0])

    def _ids(self, table: str, column: str, value: Any) -> list[int]:
        rows = self._rows(f"SELECT id FROM {table} WHERE {column} = %s FOR UPDATE", value)
        return [row[0] for row in rows]

    def _lock(self, table: str, identity: int | None) -> None:
        self._rows(f"SELECT id FROM {table} WHERE id = %s FOR UPDATE", identity)

    def _unlink(self, table: str, column: str, value: Any) -> None:
        """What ON DELETE SET NULL would do, where the log has to show it."""
        if not self._cascades:
            self._run(f"UPDATE {table} SET {column} = NULL WHERE {column} = %s", value)

    def _delete_ticket(self, ticket: int | None) -> None:
        self._lock("tickets", ticket)
        if not self._cascades:
            self._delete_children(ticket)
        self._run("DELETE FROM tickets WHERE id = %s", ticket)

    def _delete_children(self, ticket: int | None) -> None:
        for comment in self._ids("ticket_comments", "ticket_id", ticket):
            self._unlink("ticket_attachments", "comment_id", comment)
        for table in ("ticket_attachments", "ticket_comments", "ticket_tags", "ticket_watchers"):
            self._run(f"DELETE FROM {table} WHERE ticket_id = %s", ticket)

    def _comment_on(self, ticket: int | None) -> None:
        author = self._any("users")
        if ticket is not None and author is not None:
            self._run(
                "INSERT INTO ticket_comments (ticket_id, author_id, body) VALUES (%s, %s, %s)",
                ticket,
                author,
                self._text(60000),
            )

    # Values

    def _new_ticket_id(self) -> int:
        if self._random.random() < 0.1:
            return _LAST_ID - self._random.randrange(50)
        return _FIRST_NEW_ID + next(self._numbers)

    def _text(self, length: int) -> str:
        kind = self._random.random()
        if kind < 0.15:
            return self._random.choice(values.EDGE_TEXTS)
        if kind < 0.2:
            return self._random.choice('a😀é\\"') * min(length, 1000)
        return values.title(self._random)[:length]

    def _tag_name(self) -> str:
        # A name of its own, but for differences that a collation does not see.
        prefix = self._random.choice(["a", "A", "ä", "Z", "_", "日", "😀", "10", "9"])
        return f"{prefix}{next(self._numbers)}"

    def _long_text(self) -> str | None:
        kind = self._random.random()
        if kind < 0.2:
            return None
        if kind < 0.22:
            return values.sentence(self._random, 14_000)  # more than a TEXT could hold
        return self._text(1000)

    def _hours(self) -> str | None:
        return self._random.choice([None, *values.EDGE_HOURS, f"{self._random.random() * 99:.2f}"])

    def _json(self) -> str | None:
        if self._random.random() < 0.3:
            return self._random.choice(values.EDGE_JSON)
        return values.custom_fields(self._random)

    def _time(self) -> str:
        if self._random.random() < 0.1:
            return self._random.choice(values.EDGE_TIMES)
        return values.instant(self._random)

    def _time_or_none(self) -> str | None:
        return None if self._random.random() < 0.3 else self._time()


STEPS: dict[Callable[[Steps], None], float] = {
    # What a step touches by its joins is dear to everyone who watches: such steps are rare.
    Steps.add_ticket: 10,
    Steps.edit_ticket: 20,
    Steps.edit_many_tickets: 1,
    Steps.change_nothing: 1,
    Steps.delete_ticket: 4,
    Steps.renumber_ticket: 2,
    Steps.add_comment: 10,
    Steps.add_comments: 2,
    Steps.edit_comment: 4,
    Steps.move_comment: 4,
    Steps.renumber_comment: 1,
    Steps.delete_comment: 3,
    Steps.add_attachment: 5,
    Steps.move_attachment: 2,
    Steps.edit_attachment: 2,
    Steps.renumber_attachment: 1,
    Steps.delete_attachment: 2,
    Steps.add_tag_to_ticket: 6,
    Steps.change_tag_of_ticket: 2,
    Steps.remove_tag_from_ticket: 3,
    Steps.add_watcher: 5,
    Steps.move_watcher: 2,
    Steps.remove_watcher: 2,
    Steps.add_organization: 0.5,
    Steps.rename_organization: 0.3,
    Steps.delete_organization: 0.3,
    Steps.add_department: 0.5,
    Steps.rename_department: 0.5,
    Steps.move_department: 0.5,
    Steps.delete_department: 0.3,
    Steps.add_user: 3,
    Steps.edit_user: 4,
    Steps.renumber_user: 1,
    Steps.delete_user: 1,
    Steps.add_status_or_priority: 0.3,
    Steps.edit_status: 0.1,
    Steps.edit_priority: 0.1,
    Steps.delete_status_or_priority: 0.3,
    Steps.renumber_status_or_priority: 0.3,
    Steps.add_category: 0.5,
    Steps.rename_category: 0.5,
    Steps.move_category: 0.5,
    Steps.delete_category: 0.5,
    Steps.add_tag: 1,
    Steps.rename_tag: 0.5,
    Steps.delete_tag: 0.5,
}
