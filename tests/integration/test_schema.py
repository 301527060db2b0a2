"""schema/ describes the helpdesk's database exactly: tables, migrations and document agree."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from schema.tables import metadata
from tests.servers import DatabaseServer

pytestmark = pytest.mark.server

HELPDESK_SQL = Path(__file__).parent.parent / "helpdesk.sql"
ALEMBIC_INI = Path(__file__).parent.parent.parent / "schema" / "alembic.ini"

# What makes two databases the same to every reader and writer.
ASPECTS = {
    "tables": """
        SELECT table_name, engine, table_collation
        FROM information_schema.tables
        WHERE table_schema = %s AND table_type = 'BASE TABLE'""",
    "columns": """
        SELECT table_name, ordinal_position, column_name, column_type, is_nullable, column_default,
               extra, character_set_name, collation_name
        FROM information_schema.columns WHERE table_schema = %s""",
    "keys": """
        SELECT table_name, index_name, seq_in_index, column_name, non_unique, collation, sub_part
        FROM information_schema.statistics WHERE table_schema = %s""",
    "key columns": """
        SELECT table_name, constraint_name, ordinal_position, column_name,
               referenced_table_name, referenced_column_name
        FROM information_schema.key_column_usage WHERE table_schema = %s""",
    "foreign keys": """
        SELECT table_name, constraint_name, unique_constraint_name, update_rule, delete_rule,
               referenced_table_name
        FROM information_schema.referential_constraints WHERE constraint_schema = %s""",
    "checks": """
        SELECT constraint_name, check_clause
        FROM information_schema.check_constraints WHERE constraint_schema = %s""",
}


def describe(server: DatabaseServer, database: str) -> dict[str, list[tuple[object, ...]]]:
    described = {
        aspect: sorted(server.execute(sql, database), key=repr) for aspect, sql in ASPECTS.items()
    }
    return {
        aspect: [row for row in rows if row[0] != "alembic_version"]
        for aspect, rows in described.items()
    }


@pytest.fixture
def reference(database: DatabaseServer) -> Iterator[str]:
    name = "reference_of_schema"
    database.create_database(name)
    database.load_sql(HELPDESK_SQL, name)
    yield name
    database.drop_database(name)


def alembic_for(database: DatabaseServer, name: str) -> Config:
    config = Config(str(ALEMBIC_INI))
    config.set_main_option("sqlalchemy.url", database.url(name).replace("%", "%%"))
    return config


def test_the_migrated_database_equals_the_helpdesks_ddl(
    database: DatabaseServer, fresh_database: str, reference: str
) -> None:
    """Every table, column, key and foreign key after `upgrade head` is that of helpdesk.sql."""
    command.upgrade(alembic_for(database, fresh_database), "head")
    expected = describe(database, reference)
    assert len(expected["tables"]) == 12
    assert len(expected["foreign keys"]) == 17
    assert describe(database, fresh_database) == expected


def test_the_declared_tables_equal_the_helpdesks_ddl(
    database: DatabaseServer, fresh_database: str, reference: str
) -> None:
    """What `schema.tables` creates is what helpdesk.sql creates."""
    engine = create_engine(database.url(fresh_database), poolclass=NullPool)
    metadata.create_all(engine)
    assert describe(database, fresh_database) == describe(database, reference)


def test_a_downgrade_leaves_nothing_behind(database: DatabaseServer, fresh_database: str) -> None:
    """Down to the base and up again works: no table is left over or dropped out of order."""
    config = alembic_for(database, fresh_database)
    command.upgrade(config, "head")
    command.downgrade(config, "base")
    assert describe(database, fresh_database)["tables"] == []
    command.upgrade(config, "head")


def test_migrations_lead_to_the_declared_tables(
    database: DatabaseServer, fresh_database: str
) -> None:
    """`alembic check` finds nothing left to migrate."""
    config = alembic_for(database, fresh_database)
    command.upgrade(config, "head")
    command.check(config)
