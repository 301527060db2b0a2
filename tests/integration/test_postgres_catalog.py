"""What is read of PostgreSQL's catalog, on a real server."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from projector.model import TableName
from projector.postgres import catalog
from projector.postgres.connection import Session, connect
from projector.postgres.dialect import POSTGRES
from projector.projection import Plan, Projection
from projector.projection.columns import ColumnType
from tests.integration.postgres_reading import made
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.server

_FOLDING = (
    "CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
)


@pytest.fixture
def session(postgres_server: PostgresServer, fresh_postgres: str) -> Iterator[Session]:
    """A session of the documented role, on a table of odd columns."""
    folding = _FOLDING if postgres_server.has_icu else 'CREATE COLLATION folding FROM "C"'
    tables = made(
        postgres_server,
        fresh_postgres,
        folding,
        "CREATE DOMAIN amount AS numeric(10,2)",
        "CREATE DOMAIN price AS amount CHECK (VALUE >= 0)",
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        'CREATE TABLE "Odd" ("Id" int PRIMARY KEY, id text, price price, mood mood, few int[],'
        ' c text COLLATE "C", folded text COLLATE folding, at timestamptz, n varchar(5),'
        ' "doubled" int GENERATED ALWAYS AS ("Id" * 2) STORED,'
        ' "sum" int GENERATED ALWAYS AS ("Id" + length(id)) STORED,'
        " one int GENERATED ALWAYS AS (1) STORED)",
    )
    session = connect(tables.url)
    yield session
    session.close()


def test_types_are_those_below_domains(session: Session, postgres_server: PostgresServer) -> None:
    """With collations but the default one; what folds is marked; names keep their case."""
    names = ["price", "mood", "few", "c", "folded", "at", "n"]
    odd = sa.Table(
        "Odd",
        sa.MetaData(),
        sa.Column("Id", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.Text) for name in names),
    )
    plan = Plan(Projection(name="odd", root=odd, fields=[odd.c[n] for n in names]), POSTGRES)
    folds = "folds" if postgres_server.has_icu else None
    assert catalog.types_of([plan], session) == {
        (None, "Odd"): {
            "id": ColumnType("int4", "integer"),
            "price": ColumnType("numeric", "price"),
            "mood": ColumnType("mood", "mood"),
            "few": ColumnType("_int4", "integer[]"),
            "c": ColumnType("text", "text", None, 'pg_catalog."C"'),
            "folded": ColumnType("text", "text", folds, "public.folding"),
            "at": ColumnType("timestamptz", "timestamp with time zone"),
            "n": ColumnType("varchar", "character varying(5)"),
        }
    }


def test_generated_columns_name_what_they_are_computed_from(session: Session) -> None:
    """Also where that is nothing; plain columns are not named."""
    table = TableName("public", "Odd")
    assert catalog.unsent(session, [table, TableName("public", "odd")], "projector") == {
        table: {
            "doubled": frozenset({"Id"}),
            "sum": frozenset({"Id", "id"}),
            "one": frozenset(),
        }
    }
