"""What the company's hash should hold, by hand-written SQL; tables, and values for its history."""

from typing import Any

from tests.examples.history import Columns, Tables, between, texts
from tests.oracle import Documents

DATABASES = ("example_hr", "example_assets")
OTHER_TABLES = ("example_hr.notes", "example_hr.replies", "example_assets.notes")

EMPLOYEES = """
    CREATE TABLE employees (
      id INT NOT NULL PRIMARY KEY, manager_id INT NULL, mentor_id INT NULL, team VARCHAR(20) NULL,
      name VARCHAR(40) NOT NULL, KEY (manager_id), KEY (mentor_id), KEY (team))"""
HR = """
    CREATE TABLE notes (id INT NOT NULL PRIMARY KEY, author_id INT NULL, subject_id INT NULL,
      text TEXT NULL, KEY (author_id), KEY (subject_id));
    CREATE TABLE replies (note_id INT NOT NULL, number INT NOT NULL, author_id INT NULL,
      PRIMARY KEY (note_id, number), KEY (author_id))"""
ASSETS = """
    CREATE TABLE notes (serial VARCHAR(10) NOT NULL PRIMARY KEY, owner_id INT NULL,
      KEY (owner_id))"""

_WORDS = texts("red", "Red", "blue", "grün", "")
_PERSON = between(1, 12, null=0.15)
TABLES: Tables = {
    "employees": Columns(["id"], {
        "id": between(1, 12), "manager_id": _PERSON, "mentor_id": _PERSON, "team": _WORDS,
        "name": texts("Ann", "Bob", "s1", "Eve"),
    }),
    "example_hr.notes": Columns(["id"], {
        "id": between(1, 20), "author_id": _PERSON, "subject_id": _PERSON, "text": _WORDS,
    }),
    "example_hr.replies": Columns(["note_id", "number"], {
        "note_id": between(1, 20), "number": between(1, 3), "author_id": _PERSON,
    }),
    "example_assets.notes": Columns(["serial"], {
        "serial": texts("s1", "S1", "s2", "s3"), "owner_id": _PERSON,
    }),
}  # fmt: skip

_EMPLOYEES = """
    SELECT e.id, e.name,
           (SELECT name FROM employees WHERE id = e.manager_id),
           (SELECT b.name FROM employees a, employees b
            WHERE a.id = e.manager_id AND b.id = a.manager_id),
           (SELECT name FROM employees WHERE id = e.mentor_id),
           (SELECT b.name FROM employees a, employees b
            WHERE a.id = e.mentor_id AND b.id = a.manager_id),
           (SELECT COUNT(*) FROM example_assets.notes WHERE owner_id = e.id)
    FROM employees e"""
_REPORTS = "SELECT id, name FROM employees WHERE manager_id = %s ORDER BY id"
_PEERS = """
    SELECT p.name FROM employees p, employees e
    WHERE e.id = %s AND p.team = e.team AND p.id <> e.id ORDER BY p.id"""
_NOTES = "SELECT id, text FROM example_hr.notes WHERE {0} = %s AND {1} ORDER BY id"
_REPLIES = """
    SELECT (SELECT name FROM employees WHERE id = r.author_id) FROM example_hr.replies r
    WHERE r.note_id = %s ORDER BY number"""
_MENTORS_ASSETS = """
    SELECT n.serial FROM example_assets.notes n, employees e, employees d, employees m
    WHERE e.id = %s AND d.id = e.mentor_id AND n.owner_id = d.id AND m.id = e.manager_id
      AND n.serial <> m.name ORDER BY n.serial"""


def employees(connection: Any) -> Documents:
    def rows(sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall())

    def column(sql: str, *values: Any) -> list[Any]:
        return [row[0] for row in rows(sql, *values)]

    def notes(who: str, condition: str, key: int) -> list[dict[str, Any]]:
        found = rows(_NOTES.format(who, condition), key)
        return [{"text": text, "replies": column(_REPLIES, note)} for note, text in found]

    documents: Documents = {}
    for key, name, manager, top_manager, mentor, mentors_manager, assets in rows(_EMPLOYEES):
        documents[str(key)] = {
            "id": key, "name": name, "manager": manager, "top_manager": top_manager,
            "mentor": mentor, "mentors_manager": mentors_manager,
            "reports": [
                {"id": i, "name": n, "reports": [m for _, m in rows(_REPORTS, i)]}
                for i, n in rows(_REPORTS, key)
            ],
            "peers": column(_PEERS, key),
            "written": notes("author_id", "TRUE", key),
            "about": notes("subject_id", "author_id <> subject_id", key),
            "mentors_assets": column(_MENTORS_ASSETS, key),
            "asset_count": assets,
        }  # fmt: skip
    return documents
