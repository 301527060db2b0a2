"""The helpdesk's tables in SQLAlchemy Core: columns, keys and foreign keys, named by convention.

Every DATETIME holds UTC. A test compares what these tables create with the helpdesk's own DDL, on
MySQL and on MariaDB.
"""

from typing import Any

from sqlalchemy import Column, ForeignKey, MetaData, Table, text
from sqlalchemy.dialects.mysql import (
    BIGINT,
    DATETIME,
    DECIMAL,
    ENUM,
    INTEGER,
    JSON,
    MEDIUMTEXT,
    SMALLINT,
    TEXT,
    TINYINT,
    VARCHAR,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

_BIG = BIGINT(unsigned=True)
_INT = INTEGER(unsigned=True)
_SMALL = SMALLINT(unsigned=True)
_FLAG = TINYINT(1)
_INSTANT = DATETIME(fsp=6)
_NOW = text("CURRENT_TIMESTAMP(6)")
_NOW_AND_ON_UPDATE = text("CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)")


def _table(name: str, *columns: Column[Any]) -> Table:
    return Table(name, metadata, *columns, mysql_engine="InnoDB", mysql_default_charset="utf8mb4")


def _created_at() -> Column[Any]:
    return Column("created_at", _INSTANT, nullable=False, server_default=_NOW)


organizations = _table(
    "organizations",
    Column("id", _BIG, primary_key=True),
    Column("name", VARCHAR(120), nullable=False),
    Column("domain", VARCHAR(190), nullable=False, unique=True),
    _created_at(),
)

departments = _table(
    "departments",
    Column("id", _INT, primary_key=True),
    Column("organization_id", _BIG, ForeignKey("organizations.id"), nullable=False, index=True),
    Column("name", VARCHAR(120), nullable=False),
)

users = _table(
    "users",
    Column("id", _BIG, primary_key=True),
    Column("department_id", _INT, ForeignKey("departments.id", ondelete="SET NULL"), index=True),
    Column("email", VARCHAR(190), nullable=False, unique=True),
    Column("full_name", VARCHAR(120), nullable=False),
    Column(
        "role",
        ENUM("customer", "agent", "admin"),
        nullable=False,
        server_default=text("'customer'"),
    ),
    Column("is_active", _FLAG, nullable=False, server_default=text("1")),
    _created_at(),
)

ticket_statuses = _table(
    "ticket_statuses",
    Column("id", _SMALL, primary_key=True, autoincrement=False),
    Column("name", VARCHAR(40), nullable=False, unique=True),
    Column("is_closed", _FLAG, nullable=False, server_default=text("0")),
)

ticket_priorities = _table(
    "ticket_priorities",
    Column("id", _SMALL, primary_key=True, autoincrement=False),
    Column("name", VARCHAR(40), nullable=False, unique=True),
    Column("level", TINYINT(unsigned=True), nullable=False),
)

categories = _table(
    "categories",
    Column("id", _INT, primary_key=True),
    Column("parent_id", _INT, ForeignKey("categories.id", ondelete="SET NULL"), index=True),
    Column("name", VARCHAR(120), nullable=False),
)

tickets = _table(
    "tickets",
    Column("id", _BIG, primary_key=True),
    Column("title", VARCHAR(200), nullable=False),
    Column("description", MEDIUMTEXT()),
    Column("status_id", _SMALL, ForeignKey("ticket_statuses.id"), nullable=False, index=True),
    Column("priority_id", _SMALL, ForeignKey("ticket_priorities.id"), nullable=False, index=True),
    Column("category_id", _INT, ForeignKey("categories.id", ondelete="SET NULL"), index=True),
    Column("department_id", _INT, ForeignKey("departments.id"), nullable=False, index=True),
    Column(
        "requester_id",
        _BIG,
        ForeignKey("users.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("assignee_id", _BIG, ForeignKey("users.id", ondelete="SET NULL"), index=True),
    Column("estimated_hours", DECIMAL(6, 2)),
    Column("custom_fields", JSON()),
    _created_at(),
    Column("updated_at", _INSTANT, nullable=False, server_default=_NOW_AND_ON_UPDATE),
    Column("due_at", DATETIME()),
    Column("closed_at", _INSTANT),
)


def _ticket_id(*, is_key: bool = False) -> Column[Any]:
    reference = ForeignKey("tickets.id", ondelete="CASCADE")
    return Column(
        "ticket_id", _BIG, reference, primary_key=is_key, nullable=False, index=not is_key
    )


ticket_comments = _table(
    "ticket_comments",
    Column("id", _BIG, primary_key=True),
    _ticket_id(),
    Column(
        "author_id", _BIG, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("body", TEXT(), nullable=False),
    Column("is_internal", _FLAG, nullable=False, server_default=text("0")),
    _created_at(),
)

ticket_attachments = _table(
    "ticket_attachments",
    Column("id", _BIG, primary_key=True),
    _ticket_id(),
    Column("comment_id", _BIG, ForeignKey("ticket_comments.id", ondelete="SET NULL"), index=True),
    Column("filename", VARCHAR(255), nullable=False),
    Column("content_type", VARCHAR(100), nullable=False),
    Column("size_bytes", _BIG, nullable=False),
    _created_at(),
)

tags = _table(
    "tags",
    Column("id", _INT, primary_key=True),
    Column("name", VARCHAR(60), nullable=False, unique=True),
)

ticket_tags = _table(
    "ticket_tags",
    _ticket_id(is_key=True),
    Column("tag_id", _INT, ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True, index=True),
)

ticket_watchers = _table(
    "ticket_watchers",
    _ticket_id(is_key=True),
    Column(
        "user_id", _BIG, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    ),
)
