"""The helpdesk's tables in SQLAlchemy Core: columns, keys and foreign keys, named by convention.

Every DATETIME holds UTC. A test compares what these tables create with the helpdesk's own DDL, on
MySQL, on MariaDB and on PostgreSQL. PostgreSQL has no unsigned numbers: there ids end at half.
"""

from typing import Any

from sqlalchemy import (
    BOOLEAN,
    BigInteger,
    Column,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    false,
    text,
    true,
)
from sqlalchemy.dialects.mysql import (
    BIGINT,
    DATETIME,
    DECIMAL,
    INTEGER,
    JSON,
    MEDIUMTEXT,
    SMALLINT,
    TEXT,
    TINYINT,
    VARCHAR,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

_PG = "postgresql"

_BIG = BIGINT(unsigned=True).with_variant(BigInteger(), _PG)
_INT = INTEGER(unsigned=True).with_variant(Integer(), _PG)
_SMALL = SMALLINT(unsigned=True).with_variant(SmallInteger(), _PG)
_TINY = TINYINT(unsigned=True).with_variant(SmallInteger(), _PG)
_FLAG = TINYINT(1).with_variant(BOOLEAN(), _PG)
_INSTANT = DATETIME(fsp=6).with_variant(TIMESTAMP(timezone=True), _PG)
_SECOND = DATETIME().with_variant(TIMESTAMP(timezone=True, precision=0), _PG)
_ROLE = Enum("customer", "agent", "admin", name="user_role")
_LONG_TEXT = MEDIUMTEXT().with_variant(Text(), _PG)
_JSON = JSON().with_variant(JSONB(), _PG)
_NOW = text("CURRENT_TIMESTAMP(6)")


class _NowAndOnUpdate(ColumnElement[Any]):
    """The time of the row's last change; where the server cannot keep it, the application does."""

    inherit_cache = True


@compiles(_NowAndOnUpdate)
def _now_and_on_update(_element: _NowAndOnUpdate, compiler: Any, **_options: Any) -> str:
    now = "CURRENT_TIMESTAMP(6)"
    return now if compiler.dialect.name == _PG else f"{now} ON UPDATE {now}"


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
        _ROLE,
        nullable=False,
        server_default=text("'customer'"),
    ),
    Column("is_active", _FLAG, nullable=False, server_default=true()),
    _created_at(),
)

ticket_statuses = _table(
    "ticket_statuses",
    Column("id", _SMALL, primary_key=True, autoincrement=False),
    Column("name", VARCHAR(40), nullable=False, unique=True),
    Column("is_closed", _FLAG, nullable=False, server_default=false()),
)

ticket_priorities = _table(
    "ticket_priorities",
    Column("id", _SMALL, primary_key=True, autoincrement=False),
    Column("name", VARCHAR(40), nullable=False, unique=True),
    Column("level", _TINY, nullable=False),
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
    Column("description", _LONG_TEXT),
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
    Column("custom_fields", _JSON),
    _created_at(),
    Column("updated_at", _INSTANT, nullable=False, server_default=_NowAndOnUpdate()),
    Column("due_at", _SECOND),
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
    Column("is_internal", _FLAG, nullable=False, server_default=false()),
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
