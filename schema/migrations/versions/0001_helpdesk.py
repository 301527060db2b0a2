"""Create the twelve tables of the helpdesk.

Written out: `schema.tables` is the present, this is the history.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_PG = "postgresql"

_BIG = mysql.BIGINT(unsigned=True).with_variant(sa.BigInteger(), _PG)
_INT = mysql.INTEGER(unsigned=True).with_variant(sa.Integer(), _PG)
_SMALL = mysql.SMALLINT(unsigned=True).with_variant(sa.SmallInteger(), _PG)
_TINY = mysql.TINYINT(unsigned=True).with_variant(sa.SmallInteger(), _PG)
_FLAG = mysql.TINYINT(1).with_variant(sa.Boolean(), _PG)
_INSTANT = mysql.DATETIME(fsp=6).with_variant(postgresql.TIMESTAMP(timezone=True), _PG)
_SECOND = mysql.DATETIME().with_variant(postgresql.TIMESTAMP(timezone=True, precision=0), _PG)
_ROLE = sa.Enum("customer", "agent", "admin", name="user_role")
_LONG_TEXT = mysql.MEDIUMTEXT().with_variant(sa.Text(), _PG)
_JSON = mysql.JSON().with_variant(postgresql.JSONB(), _PG)
_NOW = sa.text("CURRENT_TIMESTAMP(6)")
_NOW_AND_ON_UPDATE = sa.text("CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)")

_TABLES_CHILDREN_LAST = (
    "organizations",
    "departments",
    "users",
    "ticket_statuses",
    "ticket_priorities",
    "categories",
    "tickets",
    "ticket_comments",
    "ticket_attachments",
    "tags",
    "ticket_tags",
    "ticket_watchers",
)


def upgrade() -> None:
    _create_people()
    _create_vocabularies()
    _create_tickets()
    _create_ticket_parts()
    _create_ticket_links()


def downgrade() -> None:
    for name in reversed(_TABLES_CHILDREN_LAST):
        op.drop_table(name)
    if _is_postgres():
        op.execute("DROP TYPE user_role")


def _is_postgres() -> bool:
    return op.get_context().dialect.name == _PG


def _create(name: str, *parts: sa.Column[Any] | sa.Constraint | sa.Index) -> None:
    op.create_table(name, *parts, mysql_engine="InnoDB", mysql_default_charset="utf8mb4")


def _column(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=options.pop("nullable", False), **options)


def _refers(
    table: str, column: str, target: str, ondelete: str | None = None
) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{target}.id"], name=f"fk_{table}_{column}", ondelete=ondelete
    )


def _create_people() -> None:
    _create(
        "organizations",
        _column("id", _BIG, autoincrement=True),
        _column("name", mysql.VARCHAR(120)),
        _column("domain", mysql.VARCHAR(190)),
        _column("created_at", _INSTANT, server_default=_NOW),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("domain", name="uq_organizations_domain"),
    )
    _create(
        "departments",
        _column("id", _INT, autoincrement=True),
        _column("organization_id", _BIG),
        _column("name", mysql.VARCHAR(120)),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_departments_organization_id", "organization_id"),
        _refers("departments", "organization_id", "organizations"),
    )
    _create(
        "users",
        _column("id", _BIG, autoincrement=True),
        _column("department_id", _INT, nullable=True),
        _column("email", mysql.VARCHAR(190)),
        _column("full_name", mysql.VARCHAR(120)),
        _column(
            "role",
            _ROLE,
            server_default=sa.text("'customer'"),
        ),
        _column("is_active", _FLAG, server_default=sa.true()),
        _column("created_at", _INSTANT, server_default=_NOW),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sa.Index("ix_users_department_id", "department_id"),
        _refers("users", "department_id", "departments", "SET NULL"),
    )


def _create_vocabularies() -> None:
    _create(
        "ticket_statuses",
        _column("id", _SMALL, autoincrement=False),
        _column("name", mysql.VARCHAR(40)),
        _column("is_closed", _FLAG, server_default=sa.false()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="uq_ticket_statuses_name"),
    )
    _create(
        "ticket_priorities",
        _column("id", _SMALL, autoincrement=False),
        _column("name", mysql.VARCHAR(40)),
        _column("level", _TINY),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="uq_ticket_priorities_name"),
    )
    _create(
        "categories",
        _column("id", _INT, autoincrement=True),
        _column("parent_id", _INT, nullable=True),
        _column("name", mysql.VARCHAR(120)),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_categories_parent_id", "parent_id"),
        _refers("categories", "parent_id", "categories", "SET NULL"),
    )
    _create(
        "tags",
        _column("id", _INT, autoincrement=True),
        _column("name", mysql.VARCHAR(60)),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="uq_tags_name"),
    )


def _create_tickets() -> None:
    _create(
        "tickets",
        _column("id", _BIG, autoincrement=True),
        _column("title", mysql.VARCHAR(200)),
        _column("description", _LONG_TEXT, nullable=True),
        _column("status_id", _SMALL),
        _column("priority_id", _SMALL),
        _column("category_id", _INT, nullable=True),
        _column("department_id", _INT),
        _column("requester_id", _BIG),
        _column("assignee_id", _BIG, nullable=True),
        _column("estimated_hours", mysql.DECIMAL(6, 2), nullable=True),
        _column("custom_fields", _JSON, nullable=True),
        _column("created_at", _INSTANT, server_default=_NOW),
        _column(
            "updated_at",
            _INSTANT,
            server_default=_NOW if _is_postgres() else _NOW_AND_ON_UPDATE,
        ),
        _column("due_at", _SECOND, nullable=True),
        _column("closed_at", _INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_tickets_status_id", "status_id"),
        sa.Index("ix_tickets_priority_id", "priority_id"),
        sa.Index("ix_tickets_category_id", "category_id"),
        sa.Index("ix_tickets_department_id", "department_id"),
        sa.Index("ix_tickets_requester_id", "requester_id"),
        sa.Index("ix_tickets_assignee_id", "assignee_id"),
        _refers("tickets", "status_id", "ticket_statuses"),
        _refers("tickets", "priority_id", "ticket_priorities"),
        _refers("tickets", "category_id", "categories", "SET NULL"),
        _refers("tickets", "department_id", "departments"),
        _refers("tickets", "requester_id", "users", "CASCADE"),
        _refers("tickets", "assignee_id", "users", "SET NULL"),
    )


def _create_ticket_parts() -> None:
    _create(
        "ticket_comments",
        _column("id", _BIG, autoincrement=True),
        _column("ticket_id", _BIG),
        _column("author_id", _BIG),
        _column("body", mysql.TEXT()),
        _column("is_internal", _FLAG, server_default=sa.false()),
        _column("created_at", _INSTANT, server_default=_NOW),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_ticket_comments_ticket_id", "ticket_id"),
        sa.Index("ix_ticket_comments_author_id", "author_id"),
        _refers("ticket_comments", "ticket_id", "tickets", "CASCADE"),
        _refers("ticket_comments", "author_id", "users", "CASCADE"),
    )
    _create(
        "ticket_attachments",
        _column("id", _BIG, autoincrement=True),
        _column("ticket_id", _BIG),
        _column("comment_id", _BIG, nullable=True),
        _column("filename", mysql.VARCHAR(255)),
        _column("content_type", mysql.VARCHAR(100)),
        _column("size_bytes", _BIG),
        _column("created_at", _INSTANT, server_default=_NOW),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_ticket_attachments_ticket_id", "ticket_id"),
        sa.Index("ix_ticket_attachments_comment_id", "comment_id"),
        _refers("ticket_attachments", "ticket_id", "tickets", "CASCADE"),
        _refers("ticket_attachments", "comment_id", "ticket_comments", "SET NULL"),
    )


def _create_ticket_links() -> None:
    _create(
        "ticket_tags",
        _column("ticket_id", _BIG),
        _column("tag_id", _INT),
        sa.PrimaryKeyConstraint("ticket_id", "tag_id"),
        sa.Index("ix_ticket_tags_tag_id", "tag_id"),
        _refers("ticket_tags", "ticket_id", "tickets", "CASCADE"),
        _refers("ticket_tags", "tag_id", "tags", "CASCADE"),
    )
    _create(
        "ticket_watchers",
        _column("ticket_id", _BIG),
        _column("user_id", _BIG),
        sa.PrimaryKeyConstraint("ticket_id", "user_id"),
        sa.Index("ix_ticket_watchers_user_id", "user_id"),
        _refers("ticket_watchers", "ticket_id", "tickets", "CASCADE"),
        _refers("ticket_watchers", "user_id", "users", "CASCADE"),
    )
