"""Alembic's entry: the address comes from `-x url=...` or from PROJECTOR_MYSQL__URL."""

import os

from alembic import context
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from schema.tables import metadata


def _url() -> str:
    url = context.get_x_argument(as_dictionary=True).get("url")
    url = url or context.config.get_main_option("sqlalchemy.url")
    url = url or os.environ.get("PROJECTOR_MYSQL__URL")
    if not url:
        raise CommandError("no database: give -x url=mysql+pymysql://user@host/database")
    return url


def _migrate() -> None:
    if context.is_offline_mode():
        context.configure(dialect_name="mysql", target_metadata=metadata, literal_binds=True)
        context.run_migrations()
        return
    engine = create_engine(_url(), poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()


_migrate()
