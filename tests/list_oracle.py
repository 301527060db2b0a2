"""Which lists Redis should hold beside the tickets (`schema.lists`), from hand-written SQL.

The server itself says which values are one (it ranks them by their column's collation) and in which
order ids stand. Shares nothing with the projection: names of lists are compared where a value is
ASCII, and masked ones are hashed here.

    assert_lists_equal_database(redis_client, connection)
"""

import hashlib
import hmac
from collections import defaultdict
from typing import Any

from pymysql.cursors import Cursor

SECRET = "a key for tests"
KEEP = 10_000  # of by_tag

# Of each entry: the value as a name and as a number that is one for equal values, the id.
_ORDER = "ORDER BY {moment} IS NULL, {moment} DESC, CAST(t.id AS CHAR) COLLATE utf8mb4_bin DESC"
_VIEWS = {
    "status": (
        """SELECT LOWER(s.name), DENSE_RANK() OVER (ORDER BY s.name), t.id
        FROM tickets t JOIN ticket_statuses s ON s.id = t.status_id""",
        "t.updated_at",
    ),
    "assignee": (
        """SELECT t.assignee_id, t.assignee_id, t.id FROM tickets t
        WHERE t.assignee_id IS NOT NULL""",
        "t.updated_at",
    ),
    "department_status": (
        """SELECT CONCAT(t.department_id, '|', LOWER(s.name)),
        DENSE_RANK() OVER (ORDER BY t.department_id, s.name), t.id
        FROM tickets t JOIN ticket_statuses s ON s.id = t.status_id""",
        "t.created_at",
    ),
    "requester_email": (
        """SELECT LOWER(u.email), DENSE_RANK() OVER (ORDER BY u.email), t.id
        FROM tickets t JOIN users u ON u.id = t.requester_id""",
        "t.created_at",
    ),
    "tag": (
        """SELECT LOWER(MIN(g.name)), DENSE_RANK() OVER (ORDER BY g.name), t.id
        FROM tickets t JOIN ticket_statuses s ON s.id = t.status_id
        JOIN ticket_tags l ON l.ticket_id = t.id JOIN tags g ON g.id = l.tag_id
        WHERE s.is_closed = 0 AND g.name <> '' GROUP BY g.name, t.id, t.created_at""",
        "t.created_at",
    ),
}


def oracle_lists(connection: Any) -> dict[str, dict[str, list[str]]]:
    """Ids in order, by name of the value, by view."""
    found: dict[str, dict[str, list[str]]] = {}
    with connection.cursor(Cursor) as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        cursor.execute("SELECT name = CONCAT(name, ' ') FROM ticket_statuses LIMIT 1")
        pads = bool(cursor.fetchone()[0])
        for view, (sql, moment) in _VIEWS.items():
            cursor.execute(f"{sql} {_ORDER.format(moment=moment)}")
            lists: dict[Any, list[str]] = defaultdict(list)
            names: dict[Any, str] = {}
            for name, rank, ticket in cursor.fetchall():
                lists[rank].append(str(ticket))
                names[rank] = str(name)
            found[view] = {_named(view, names[rank], pads): ids for rank, ids in lists.items()}
        cursor.execute("ROLLBACK")
    return found


def _named(view: str, name: str, pads: bool) -> str:
    if not (name.isascii() and name.isprintable()):
        return f"not ASCII: {name}"
    if view == "requester_email":
        return hmac.new(SECRET.encode(), name.encode(), hashlib.sha256).hexdigest()[:32]
    number, bar, rest = name.partition("|") if view == "department_status" else ("", "", name)
    rest = rest.rstrip(" ") if pads else rest
    return number + bar + rest.replace("%", "%25").replace("|", "%7C")


def assert_lists_equal_database(client: Any, connection: Any) -> int:
    """Fail unless each list holds exactly the ids it should, in their order; the lists' number."""
    expected = oracle_lists(connection)
    stored: dict[str, dict[str, list[str]]] = {view: {} for view in expected}
    for key in client.scan_iter("{tickets}:by:*", count=1000):
        _, _, rest = key.decode().partition(":by:")
        view, _, value = rest.partition(":")
        stored[view][value] = [k.decode() for k in client.zrange(key, 0, -1, desc=True)]
    for view, lists in expected.items():
        plain = {k: ids for k, ids in lists.items() if not k.startswith("not ASCII")}
        others = sorted(ids for k, ids in lists.items() if k not in plain)
        found = {k: ids for k, ids in stored[view].items() if k in plain}
        left = sorted(ids for k, ids in stored[view].items() if k not in plain)
        wrong = [k for k in plain if plain[k] != found.get(k)]
        shown = [(k, plain[k][:8], found.get(k, [])[:8]) for k in wrong[:3]]
        assert not wrong, f"{view}: {len(wrong)} of {len(plain)} lists differ: {shown}"
        assert others == left, f"{view}: lists of other names: {left[:3]}, not {others[:3]}"
        directory = {
            k.decode(): int(v.split(b" ")[0])
            for k, v in client.hgetall(f"{{tickets}}:lists:{view}").items()
        }
        assert directory == {k: len(ids) for k, ids in stored[view].items()}, view
    return sum(map(len, expected.values()))
