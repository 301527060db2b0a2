"""schema/ describes the helpdesk's database exactly on PostgreSQL, too."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from schema.tables import metadata
from tests.servers import PostgresServer

pytestmark = pytest.mark.server

HELPDESK_SQL = Path(__file__).parent.parent / "helpdesk.postgres.sql"
ALEMBIC_INI = Path(__file__).parent.parent.parent / "schema" / "alembic.ini"

# What makes two databases the same to every reader and writer.
ASPECTS = {
    "tables": """
        SELECT relname, relkind::text, relpersistence::text, relreplident::text
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')""",
    "columns": """
        SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation::text, a.attidentity
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, contype::text, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "types": """
        SELECT t.typname, e.enumsortorder, e.enumlabel
        FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid""",
}


def describe(server: PostgresServer, database: str) -> dict[str, list[tuple[object, ...]]]:
    described = {
        aspect: sorted(server.execute(sql, database=database), key=repr)
        for aspect, sql in ASPECTS.items()
    }
    return {
        aspect: [row for row in rows if row[0] != "alembic_version"]
        for aspect, rows in described.items()
    }


@pytest.fixture
def reference(postgres_server: PostgresServer) -> Iterator[str]:
    name = "reference_of_schema"
    postgres_server.create_database(name)
    postgres_server.load_sql(HELPDESK_SQL, name)
    yield name
    postgres_server.drop_database(name)


def alembic_for(server: PostgresServer, name: str) -> Config:
    config = Config(str(ALEMBIC_INI))
    address = server.url(name).replace("postgresql:", "postgresql+psycopg:")
    config.set_main_option("sqlalchemy.url", address.replace("%", "%%"))
    return config


def test_the_migrated_database_equals_the_helpdesks_ddl(
    postgres_server: PostgresServer, fresh_postgres: str, reference: str
) -> None:
    """Every table, column, key and foreign key after `upgrade head` is that of the file."""
    command.upgrade(alembic_for(postgres_server, fresh_postgres), "head")
    expected = describe(postgres_server, reference)
    assert len([row for row in expected["tables"] if row[1] == "r"]) == 12
    assert len([row for row in expected["constraints"] if row[2] == "f"]) == 17
    assert describe(postgres_server, fresh_postgres) == expected


def test_the_declared_tables_equal_the_helpdesks_ddl(
    postgres_server: PostgresServer, fresh_postgres: str, reference: str
) -> None:
    """What `schema.tables` creates is what helpdesk.postgres.sql creates."""
    metadata.create_all(create_engine(postgres_server.url(fresh_postgres), poolclass=NullPool))
    assert describe(postgres_server, fresh_postgres) == describe(postgres_server, reference)


def test_a_downgrade_leaves_nothing_behind(
    postgres_server: PostgresServer, fresh_postgres: str
) -> None:
    """Down to the base and up again works: no table, sequence or type is left over."""
    config = alembic_for(postgres_server, fresh_postgres)
    command.upgrade(config, "head")
    command.downgrade(config, "base")
    left = describe(postgres_server, fresh_postgres)
    assert (left["tables"], left["types"]) == ([], [])
    command.upgrade(config, "head")


def test_migrations_lead_to_the_declared_tables(
    postgres_server: PostgresServer, fresh_postgres: str
) -> None:
    """`alembic check` finds nothing left to migrate."""
    config = alembic_for(postgres_server, fresh_postgres)
    command.upgrade(config, "head")
    command.check(config)
