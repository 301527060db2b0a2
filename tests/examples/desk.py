"""A bought helpdesk: prefixed tables without foreign keys, custom fields in key-value rows, zero
dates, local time; its projection, its random history, and its documents evaluated row by row."""

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import func

from projector.projection import (
    Choice,
    First,
    Flags,
    Join,
    Json,
    Many,
    One,
    Pairs,
    Path,
    Projection,
)
from tests.examples.history import Columns, Tables, between, one_of, texts
from tests.examples.reading import Row, by, read
from tests.oracle import Documents

DDL = """
CREATE TABLE hd_ticket (ticket_id INT PRIMARY KEY, user_id INT NOT NULL, dept_id INT NOT NULL,
  status TINYINT UNSIGNED NOT NULL, flags INT UNSIGNED NOT NULL, number VARCHAR(9), extra TEXT,
  created DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00', closed DATETIME NULL,
  KEY (user_id), KEY (dept_id));
CREATE TABLE hd_user (id INT PRIMARY KEY, name VARCHAR(20), org_id INT, KEY (org_id));
CREATE TABLE hd_org (id INT PRIMARY KEY, name VARCHAR(20)) CHARACTER SET latin1;
CREATE TABLE hd_email (id INT PRIMARY KEY, user_id INT, address VARCHAR(20), KEY (user_id));
CREATE TABLE hd_dept (id INT PRIMARY KEY, pid INT, name VARCHAR(20), KEY (pid));
CREATE TABLE hd_thread (id INT PRIMARY KEY, object_id INT, object_type CHAR(1),
  KEY (object_id, object_type));
CREATE TABLE hd_entry (id INT PRIMARY KEY, thread_id INT, user_id INT, created DATETIME, body TEXT,
  KEY (thread_id), KEY (user_id));
CREATE TABLE hd_file (id INT PRIMARY KEY, entry_id INT, name VARCHAR(20), KEY (entry_id));
CREATE TABLE hd_field (id INT PRIMARY KEY, name VARCHAR(20));
CREATE TABLE hd_value (id INT PRIMARY KEY, ticket_id INT, field_id INT, value TEXT,
  KEY (ticket_id), KEY (field_id));
CREATE TABLE hd_tag (ticket_id INT, tag VARCHAR(20), PRIMARY KEY (ticket_id, tag));
CREATE TABLE hd_task (id INT PRIMARY KEY, ticket_id INT, state INT, KEY (ticket_id))
"""
_NAMES = texts("Ann", "Bob", "größe", 'q"u\\o', "")
_MOMENT = one_of("'0000-00-00 00:00:00'", "'2026-07-01 12:00:00'", "'2026-10-25 02:30:00'",
                 "'2026-03-29 02:30:00'", "'2026-01-01 00:10:00'")  # fmt: skip
TABLES: Tables = {
    "hd_ticket": Columns(["ticket_id"], {
        "ticket_id": between(1, 12), "user_id": between(0, 6), "dept_id": between(0, 7),
        "status": between(0, 4), "flags": between(0, 15), "number": texts("a", "b"),
        "extra": one_of("NULL", "''", "'{\"a\": [1]}'", "'no'"), "created": _MOMENT,
        "closed": one_of("NULL", "'2026-07-02 12:00:00'", "'0000-00-00 00:00:00'"),
    }),
    "hd_user": Columns(["id"], {"id": between(1, 6), "name": _NAMES, "org_id": between(1, 3, 0.3)}),
    "hd_org": Columns(["id"], {"id": between(1, 3), "name": texts("Größe", "X")}),
    "hd_email": Columns(["id"], {
        "id": between(1, 12), "user_id": between(1, 6), "address": texts("a@x", "b@x", "c@x"),
    }),
    "hd_dept": Columns(["id"], {"id": between(1, 7), "pid": between(0, 7, 0.2), "name": _NAMES}),
    "hd_thread": Columns(["id"], {
        "id": between(1, 12), "object_id": between(1, 12), "object_type": texts("T", "T", "A"),
    }),
    "hd_entry": Columns(["id"], {
        "id": between(1, 30), "thread_id": between(1, 12), "user_id": between(0, 6),
        "created": _MOMENT, "body": _NAMES,
    }),
    "hd_file": Columns(["id"], {"id": between(1, 30), "entry_id": between(1, 30), "name": _NAMES}),
    "hd_field": Columns(["id"], {"id": between(1, 4), "name": texts("size", "due", "note")}),
    "hd_value": Columns(["id"], {
        "id": between(1, 40), "ticket_id": between(1, 12), "field_id": between(1, 5),
        "value": texts("1", "22", "333"),
    }),
    "hd_tag": Columns(["ticket_id", "tag"], {
        "ticket_id": between(1, 12), "tag": texts("red", "Blue", "ü"),
    }),
    "hd_task": Columns(["id"], {
        "id": between(1, 30), "ticket_id": between(1, 12), "state": between(0, 2, 0.1),
    }),
}  # fmt: skip

_METADATA = sa.MetaData()


def _table(table: str, *key: str, **columns: Any) -> sa.Table:
    return sa.Table(
        table, _METADATA, *(sa.Column(c, k, primary_key=c in key) for c, k in columns.items())
    )


_INT, _TEXT, _TIME = sa.Integer, sa.String(20), sa.DateTime
ticket = _table("hd_ticket", "ticket_id", ticket_id=_INT, user_id=_INT, dept_id=_INT, status=_INT,
                flags=_INT, number=_TEXT, extra=sa.Text, created=_TIME, closed=_TIME)  # fmt: skip
user = _table("hd_user", "id", id=_INT, name=_TEXT, org_id=_INT)
org = _table("hd_org", "id", id=_INT, name=_TEXT)
email = _table("hd_email", "id", id=_INT, user_id=_INT, address=_TEXT)
dept = _table("hd_dept", "id", id=_INT, pid=_INT, name=_TEXT)
thread = _table("hd_thread", "id", id=_INT, object_id=_INT, object_type=_TEXT)
entry = _table("hd_entry", "id", id=_INT, thread_id=_INT, user_id=_INT, created=_TIME, body=_TEXT)
file = _table("hd_file", "id", id=_INT, entry_id=_INT, name=_TEXT)
field = _table("hd_field", "id", id=_INT, name=_TEXT)
value = _table("hd_value", "id", id=_INT, ticket_id=_INT, field_id=_INT, value=_TEXT)
tag = _table("hd_tag", "ticket_id", "tag", ticket_id=_INT, tag=_TEXT)
task = _table("hd_task", "id", id=_INT, ticket_id=_INT, state=_INT)
author = user.alias("author")
reply = entry.alias("reply")

_thread = Join(thread, sa.and_(thread.c.object_id == ticket.c.ticket_id,
                               thread.c.object_type == "T"))  # fmt: skip
desk = Projection(
    "desk", ticket, zone="Europe/Berlin", zero_dates="null",
    fields=[
        ticket.c.ticket_id, ticket.c.number, ticket.c.created, ticket.c.closed,
        Choice(ticket.c.status, {1: "open", 2: "waiting", 3: "closed"}, other="unknown"),
        Flags(ticket.c.flags, {1: "overdue", 2: "answered", 8: "merged"}),
        Json(ticket.c.extra, otherwise="text"),
    ],
    collections=[
        One("requester", user, on=user.c.id == ticket.c.user_id, fields=[user.c.id, user.c.name],
            collections=[
                One("organization", org, on=org.c.id == user.c.org_id, fields=[org.c.name]),
                First("email", email, on=email.c.user_id == user.c.id, value=email.c.address),
            ]),
        Path("department", dept, on=dept.c.id == ticket.c.dept_id, parent=dept.c.pid,
             value=dept.c.name, depth=5),
        Many("thread", entry, on=entry.c.thread_id == thread.c.id, through=[_thread],
             fields=[entry.c.id, entry.c.body, entry.c.created], order_by=[entry.c.created],
             collections=[
                 Many("files", file, on=file.c.entry_id == entry.c.id, value=file.c.name),
             ]),
        First("last_reply", reply, on=reply.c.thread_id == thread.c.id, through=[_thread],
              fields=[reply.c.body], order_by=[reply.c.created.desc(), reply.c.id.desc()],
              collections=[One("author", author, on=author.c.id == reply.c.user_id,
                               fields=[author.c.name])]),
        Pairs("custom_fields", value, on=value.c.ticket_id == ticket.c.ticket_id,
              joins=[Join(field, field.c.id == value.c.field_id)],
              key=field.c.name, value=value.c.value, types={"size": sa.Integer}),
        Many("tags", tag, on=tag.c.ticket_id == ticket.c.ticket_id, value=tag.c.tag,
             order_by=[func.length(tag.c.tag)]),
        Pairs("tasks", task, on=task.c.ticket_id == ticket.c.ticket_id,
              key=Choice(task.c.state, {0: "open", 1: "closed"}), value=func.count()),
    ],
)  # fmt: skip


def documents(connection: Any) -> Documents:
    """What the hash should hold."""
    rows = read(connection, [*TABLES])
    return {str(row["ticket_id"]): _document(row, rows) for row in rows["hd_ticket"]}


def _document(row: Row, rows: dict[str, list[Row]]) -> dict[str, Any]:
    threads = {t["id"] for t in rows["hd_thread"]
               if t["object_id"] == row["ticket_id"] and t["object_type"] == "T"}  # fmt: skip
    entries = [e for e in rows["hd_entry"] if e["thread_id"] in threads]
    entries.sort(key=lambda e: (e["created"], e["id"]))
    names = {f["id"]: f["name"] for f in rows["hd_field"]}
    custom = {names[v["field_id"]]: v["value"] for v in rows["hd_value"]
              if v["ticket_id"] == row["ticket_id"] and v["field_id"] in names}  # fmt: skip
    states = [t["state"] for t in rows["hd_task"] if t["ticket_id"] == row["ticket_id"]]
    tags = [t["tag"] for t in rows["hd_tag"] if t["ticket_id"] == row["ticket_id"]]
    extra = {None: None, "": None, "no": "no"}.get(row["extra"], {"a": [1]})
    last = entries[-1] if entries else None
    return {
        "ticket_id": row["ticket_id"], "number": row["number"], "extra": extra,
        "created": _utc(row["created"]), "closed": _utc(row["closed"]),
        "status": {1: "open", 2: "waiting", 3: "closed"}.get(row["status"], "unknown"),
        "flags": [n for bit, n in ((1, "overdue"), (2, "answered"), (8, "merged"))
                  if row["flags"] & bit],
        "requester": _requester(row["user_id"], rows),
        "department": _departments(row["dept_id"], rows),
        "thread": [
            {"id": e["id"], "body": e["body"], "created": _utc(e["created"]),
             "files": [f["name"] for f in rows["hd_file"] if f["entry_id"] == e["id"]]}
            for e in entries
        ],
        "last_reply": last and {"body": last["body"], "author": _author(last["user_id"], rows)},
        "custom_fields": {k: int(v) if k == "size" else v for k, v in custom.items()},
        "tags": sorted(sorted(tags, key=_as_general), key=lambda t: len(t.encode())),
        "tasks": {n: states.count(s) for s, n in ((0, "open"), (1, "closed")) if s in states},
    }  # fmt: skip


def _as_general(text: str) -> str:
    return text.lower()


def _utc(local: str | None) -> str | None:
    if local is None or local.startswith("0000"):
        return None
    clock = datetime.datetime.fromisoformat(local).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    return clock.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _requester(key: int, rows: dict[str, list[Row]]) -> dict[str, Any] | None:
    found = by(rows["hd_user"], key)
    if found is None:
        return None
    organization = by(rows["hd_org"], found["org_id"])
    emails = [e["address"] for e in rows["hd_email"] if e["user_id"] == key]
    return {
        "id": key, "name": found["name"], "email": emails[0] if emails else None,
        "organization": organization and {"name": organization["name"]},
    }  # fmt: skip


def _author(key: int, rows: dict[str, list[Row]]) -> dict[str, Any] | None:
    found = by(rows["hd_user"], key)
    return found and {"name": found["name"]}


def _departments(key: int | None, rows: dict[str, list[Row]]) -> list[str]:
    names: dict[int, str] = {}
    while key not in names and len(names) < 5 and (found := by(rows["hd_dept"], key)):
        names[found["id"]] = found["name"]
        key = found["pid"]
    return list(names.values())
