"""What Redis should hold of the helpdesk on PostgreSQL, made from hand-written SQL.

As `tests.oracle` on MySQL: shares nothing with the projection or its encoders; the server formats
dates and decimals, Python assembles, and the comparison is `tests.oracle`'s.
"""

from collections import defaultdict
from typing import Any

from tests.oracle import Documents, compare, parse

_FIELDS = """
    id title description status_id status_name is_closed priority_id priority_name priority_level
    category_id category_name parent_category_name department_id department_name organization_id
    organization_name requester_id requester_name requester_email requester_department_name
    assignee_id assignee_name assignee_email estimated_hours custom_fields created_at updated_at
    due_at closed_at
""".split()


def _iso(column: str) -> str:
    utc = f"({column} AT TIME ZONE 'UTC')"
    fraction = f"CASE WHEN to_char({utc}, 'US') = '000000' THEN '' ELSE to_char({utc}, '.US') END"
    return f"to_char({utc}, 'YYYY-MM-DD\"T\"HH24:MI:SS') || {fraction} || 'Z'"


_TICKETS = f"""
    SELECT t.id, t.title, t.description, t.status_id, s.name, s.is_closed,
           t.priority_id, p.name, p.level,
           t.category_id, c.name, (SELECT up.name FROM categories up WHERE up.id = c.parent_id),
           t.department_id, d.name, d.organization_id, o.name, t.requester_id, r.full_name, r.email,
           (SELECT rd.name FROM departments rd WHERE rd.id = r.department_id),
           t.assignee_id, a.full_name, a.email, t.estimated_hours::text, t.custom_fields::text,
           {_iso("t.created_at")}, {_iso("t.updated_at")}, {_iso("t.due_at")}, {_iso("t.closed_at")}
    FROM tickets t
    LEFT JOIN ticket_statuses s ON s.id = t.status_id
    LEFT JOIN ticket_priorities p ON p.id = t.priority_id
    LEFT JOIN categories c ON c.id = t.category_id
    LEFT JOIN departments d ON d.id = t.department_id
    LEFT JOIN organizations o ON o.id = d.organization_id
    LEFT JOIN users r ON r.id = t.requester_id
    LEFT JOIN users a ON a.id = t.assignee_id"""
_TAGS = "SELECT l.ticket_id, g.name FROM ticket_tags l LEFT JOIN tags g ON g.id = l.tag_id"
_WATCHERS = """
    SELECT w.ticket_id, w.user_id, u.full_name
    FROM ticket_watchers w LEFT JOIN users u ON u.id = w.user_id"""
_ATTACHMENTS = f"""
    SELECT ticket_id, id, filename, content_type, size_bytes, {_iso("created_at")}
    FROM ticket_attachments"""
_COMMENTS = f"""
    SELECT ticket_id, count(*), {_iso("max(created_at)")} FROM ticket_comments GROUP BY ticket_id"""


def oracle_documents(connection: Any) -> Documents:
    """The documents of all tickets, of one snapshot. The connection commits by itself."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

        def rows(sql: str) -> list[tuple[Any, ...]]:
            return list(cursor.execute(sql).fetchall())

        tags: dict[int, list[str]] = defaultdict(list)
        for ticket, name in rows(_TAGS):
            tags[ticket].append(name)
        watchers: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for ticket, user, name in rows(_WATCHERS):
            watchers[ticket].append({"user_id": user, "name": name})
        attachments: dict[int, list[dict[str, Any]]] = defaultdict(list)
        names = ("id", "filename", "content_type", "size_bytes", "created_at")
        for ticket, *values in rows(_ATTACHMENTS):
            attachments[ticket].append(dict(zip(names, values, strict=True)))
        comments = {ticket: figures for ticket, *figures in rows(_COMMENTS)}
        documents: Documents = {}
        for row in rows(_TICKETS):
            document = dict(zip(_FIELDS, row, strict=True))
            ticket = document["id"]
            if document["custom_fields"] is not None:
                document["custom_fields"] = parse(document["custom_fields"])
            document["tags"] = sorted(tags[ticket], key=str.encode)
            document["watchers"] = sorted(watchers[ticket], key=lambda w: w["user_id"])
            document["attachments"] = sorted(attachments[ticket], key=lambda a: a["id"])
            document["comment_count"], document["last_comment_at"] = comments.get(ticket, (0, None))
            documents[str(ticket)] = document
        return documents


def assert_hash_equals_database(client: Any, connection: Any, key: str = "tickets") -> int:
    """Fail with the first differences unless the hash holds exactly the tickets; their number."""
    expected = oracle_documents(connection)
    differences = compare(client.hgetall(key), expected)
    shown = "\n".join(map(str, differences[:10]))
    assert not differences, f"{len(differences)} differences of {len(expected)} tickets\n{shown}"
    return len(expected)
