"""The documented account on PostgreSQL: the role of `deploy/postgres-grants.sql`."""

from collections.abc import Iterable
from pathlib import Path

from tests.servers.postgres import PostgresServer

_GRANTS = Path(__file__).resolve().parents[2] / "deploy" / "postgres-grants.sql"
_PASSWORD = "documented-secret"


def helpdesk_role(server: PostgresServer, database: str) -> str:
    """Do all that `deploy/` documents, on the helpdesk's tables; return the role's URL."""
    role = role_of(database)
    for statement in _documented(role):
        server.execute(statement, database=database)
    return role_url(server, database)


def documented_role(
    server: PostgresServer,
    database: str,
    tables: Iterable[str],
    *,
    schema: str = "public",
    publication: str = "projector",
    full: Iterable[str] = (),
) -> str:
    """Make the documented role and publication for other tables; return the role's URL.

    `full`: those whose replica identity becomes FULL.
    """
    role = role_of(database)
    server.execute(_documented(role)[0])
    spelled = {table: f'"{schema}"."{table.replace(chr(34), chr(34) * 2)}"' for table in tables}
    named = ", ".join(spelled.values())
    statements = [
        f'GRANT USAGE ON SCHEMA "{schema}" TO {role}',
        f"GRANT SELECT ON {named} TO {role}",
        f'CREATE PUBLICATION "{publication}" FOR TABLE {named}',
        *(f"ALTER TABLE {spelled[table]} REPLICA IDENTITY FULL" for table in full),
    ]
    for statement in statements:
        server.execute(statement, database=database)
    return role_url(server, database)


def role_of(database: str) -> str:
    """Return the name of a database's role: roles are the server's, not the database's."""
    return f"p_{database}"


def role_url(server: PostgresServer, database: str) -> str:
    """Return the URL of a role that was made there, or came by replication."""
    return server.url(database, user=role_of(database), password=_PASSWORD)


def _documented(role: str) -> list[str]:
    """Return the statements of `deploy/` for a role of another name."""
    lines = _GRANTS.read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("--"))
    text = text.replace("ROLE projector ", f"ROLE {role} ").replace("TO projector;", f"TO {role};")
    text = text.replace("change-me", _PASSWORD)
    return [part.strip() for part in text.split(";") if part.strip()]
