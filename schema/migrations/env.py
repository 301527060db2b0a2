"""Alembic's entry: the address comes from `-x url=...` or from the projector's settings."""

import os

from alembic import context
from alembic.util import CommandError
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from schema.tables import metadata


def _url() -> str | None:
    url = context.get_x_argument(as_dictionary=True).get("url")
    url = url or context.config.get_main_option("sqlalchemy.url")
    return url or os.environ.get("PROJECTOR_SOURCE__URL") or os.environ.get("PROJECTOR_MYSQL__URL")


def _required_url() -> str:
    url = _url()
    if not url:
        raise CommandError("no database: give -x url=mysql+pymysql://user@host/database")
    return url


def _dialect() -> str:
    return make_url(_url() or "mysql://").get_backend_name()


def _migrate() -> None:
    if context.is_offline_mode():
        context.configure(dialect_name=_dialect(), target_metadata=metadata, literal_binds=True)
        context.run_migrations()
        return
    engine = create_engine(_required_url(), poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()


_migrate()
