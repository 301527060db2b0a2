"""What Redis should hold: ticket documents made from hand-written SQL, and the comparison.

Shares nothing with the projection or its encoders: the SQL is written out here, the server formats
dates and decimals, Python assembles. The comparison is of parsed JSON, but exact: `true` is not
`1`, `1.0` is not `1`, every digit of a number counts, and so do missing and surplus fields. Only
the order of an object's members may differ.

    assert_hash_equals_database(redis_client, connection)
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pymysql
import redis
from pymysql.cursors import Cursor

Documents = dict[str, dict[str, Any]]

_FIELDS = """
    id title description status_id status_name is_closed priority_id priority_name priority_level
    category_id category_name parent_category_name department_id department_name organization_id
    organization_name requester_id requester_name requester_email requester_department_name
    assignee_id assignee_name assignee_email estimated_hours custom_fields created_at updated_at
    due_at closed_at
""".split()


def _iso(column: str) -> str:
    return f"""CONCAT(DATE_FORMAT({column}, '%Y-%m-%dT%H:%i:%s'),
        IF(MICROSECOND({column}) = 0, '', DATE_FORMAT({column}, '.%f')), 'Z')"""


_TICKETS = f"""
    SELECT t.id, t.title, t.description,
           t.status_id, s.name, s.is_closed,
           t.priority_id, p.name, p.level,
           t.category_id, c.name, (SELECT up.name FROM categories up WHERE up.id = c.parent_id),
           t.department_id, d.name,
           d.organization_id, o.name,
           t.requester_id, r.full_name, r.email,
           (SELECT rd.name FROM departments rd WHERE rd.id = r.department_id),
           t.assignee_id, a.full_name, a.email,
           CAST(t.estimated_hours AS CHAR), CAST(t.custom_fields AS CHAR),
           {_iso("t.created_at")}, {_iso("t.updated_at")}, {_iso("t.due_at")}, {_iso("t.closed_at")}
    FROM tickets t
    LEFT JOIN ticket_statuses s ON s.id = t.status_id
    LEFT JOIN ticket_priorities p ON p.id = t.priority_id
    LEFT JOIN categories c ON c.id = t.category_id
    LEFT JOIN departments d ON d.id = t.department_id
    LEFT JOIN organizations o ON o.id = d.organization_id
    LEFT JOIN users r ON r.id = t.requester_id
    LEFT JOIN users a ON a.id = t.assignee_id
    WHERE {{t.id}}"""

_TAGS = """
    SELECT l.ticket_id, g.name FROM ticket_tags l LEFT JOIN tags g ON g.id = l.tag_id
    WHERE {l.ticket_id}"""

_WATCHERS = """
    SELECT w.ticket_id, w.user_id, u.full_name
    FROM ticket_watchers w LEFT JOIN users u ON u.id = w.user_id WHERE {w.ticket_id}"""

_ATTACHMENTS = f"""
    SELECT ticket_id, id, filename, content_type, size_bytes, {_iso("created_at")}
    FROM ticket_attachments WHERE {{ticket_id}}"""

_COMMENTS = f"""
    SELECT ticket_id, number, {_iso("latest")}
    FROM (SELECT ticket_id, COUNT(*) AS number, MAX(created_at) AS latest
          FROM ticket_comments WHERE {{ticket_id}} GROUP BY ticket_id) AS counted"""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_SPACE = re.compile(rb"\s")


class Difference(NamedTuple):
    """`kind` is `missing`, `stale`, `orphan` or `malformed`."""

    id: str
    kind: str
    detail: str = ""


def oracle_documents(
    connection: "pymysql.Connection[Any]", ids: Iterable[int | str] | None = None
) -> Documents:
    """The documents of all tickets, or of those among `ids` that exist, of one snapshot.

    The connection must be outside a transaction and on the helpdesk's database.
    """
    only = None if ids is None else [int(i) for i in ids]
    if only == []:
        return {}
    with connection.cursor(Cursor) as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        try:
            return _read(cursor, only)
        finally:
            cursor.execute("ROLLBACK")


def _read(cursor: Cursor, only: Sequence[int] | None) -> Documents:
    tags: dict[int, list[str | None]] = defaultdict(list)
    for ticket, name in _rows(cursor, _TAGS, only):
        tags[ticket].append(name)
    watchers: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for ticket, user, name in _rows(cursor, _WATCHERS, only):
        watchers[ticket].append({"user_id": user, "name": name})
    attachments: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for ticket, number, filename, kind, size, created in _rows(cursor, _ATTACHMENTS, only):
        attachments[ticket].append(
            {
                "id": number,
                "filename": filename,
                "content_type": kind,
                "size_bytes": size,
                "created_at": created,
            }
        )
    comments = {ticket: figures for ticket, *figures in _rows(cursor, _COMMENTS, only)}
    documents = {}
    for row in _rows(cursor, _TICKETS, only):
        document = dict(zip(_FIELDS, row, strict=True))
        if document["is_closed"] is not None:
            document["is_closed"] = document["is_closed"] != 0
        if document["custom_fields"] is not None:
            document["custom_fields"] = parse(document["custom_fields"])
        ticket = document["id"]
        # A tag can be missing: MySQL 9.7 leaves orphans behind some of its cascades.
        document["tags"] = sorted(tags.get(ticket, ()), key=lambda name: (name or "").encode())
        document["watchers"] = sorted(watchers.get(ticket, ()), key=lambda w: w["user_id"])
        document["attachments"] = sorted(attachments.get(ticket, ()), key=lambda a: a["id"])
        document["comment_count"], document["last_comment_at"] = comments.get(ticket, (0, None))
        documents[str(ticket)] = document
    return documents


def _rows(cursor: Cursor, sql: str, only: Sequence[int] | None) -> Sequence[tuple[Any, ...]]:
    head, column, tail = re.split(r"\{([\w.]+)\}", sql)
    condition = "TRUE" if only is None else f"{column} IN ({','.join(map(str, only))})"
    cursor.execute(head + condition + tail)  # without arguments, so that %Y stays as it is
    return cursor.fetchall()


def parse(value: bytes | str) -> Any:
    """JSON in which a number with a fraction or exponent keeps its very digits."""
    return json.loads(value, parse_float=lambda digits: {"number": digits})


def compare(stored: Mapping[Any, Any], expected: Documents) -> list[Difference]:
    """Every difference between a Redis hash and the documents it should hold."""
    differences = []
    fields = {field.decode() for field in stored}
    for identity in sorted(expected.keys() - fields):
        differences.append(Difference(identity, "missing"))
    for identity in sorted(fields - expected.keys()):
        differences.append(Difference(identity, "orphan"))
    for identity in sorted(fields & expected.keys()):
        difference = _difference(identity, stored[identity.encode()], expected[identity])
        if difference is not None:
            differences.append(difference)
    return differences


def _difference(identity: str, value: bytes, expected: dict[str, Any]) -> Difference | None:
    try:
        found = parse(value.decode("utf-8", "strict"))
    except ValueError as problem:
        return Difference(identity, "malformed", f"{problem}: {value[:200]!r}")
    if not isinstance(found, dict):
        return Difference(identity, "malformed", f"not an object: {value[:200]!r}")
    if _SPACE.search(_STRING.sub(b"", value)):
        return Difference(identity, "malformed", "not compact")
    if _exact(found) == _exact(expected):
        return None
    absent = object()
    details = [
        f"{name}: {found.get(name, 'nothing')!r:.200}, not {expected.get(name, 'nothing')!r:.200}"
        for name in [*expected, *(found.keys() - expected.keys())]
        if _exact(found.get(name, absent)) != _exact(expected.get(name, absent))
    ]
    return Difference(identity, "stale", "; ".join(details))


def _exact(value: Any) -> str:
    # As a text, since to Python True equals 1.
    return json.dumps(value, sort_keys=True, default=repr)


def assert_hash_equals_database(
    client: "redis.Redis", connection: "pymysql.Connection[Any]", key: str = "tickets"
) -> int:
    """Fail with the first differences unless the hash holds exactly the tickets; their number."""
    expected = oracle_documents(connection)
    differences = compare(client.hgetall(key), expected)
    shown = "\n".join(map(str, differences[:10]))
    assert not differences, f"{len(differences)} differences of {len(expected)} tickets\n{shown}"
    return len(expected)
