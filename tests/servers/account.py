"""The documented account: the user of `deploy/grants-*.sql`, over the tables of a test."""

from collections.abc import Iterable
from pathlib import Path

from tests.servers.database import DatabaseServer
from tests.servers.flavours import Flavour

_DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_PASSWORD = "documented-secret"


def documented_account(
    database: DatabaseServer,
    schema: str,
    tables: Iterable[str] | None = None,
    *,
    grants: Iterable[str] = (),
    name: str = "",
) -> str:
    """Create the user that `deploy/` documents; return the SQLAlchemy URL that it connects with.

    `tables`: those that it may read whole, every table and view of `schema` by default. `grants`
    are added as they stand, with `{user}` for the account and `{schema}`:
    `GRANT SELECT (id) ON {schema}.t TO {user}`.
    """
    user = name or f"p_{schema}"[:32]
    account = f"'{user}'@'%'"
    if tables is None:
        found = database.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", schema
        )
        tables = [row[0] for row in found]
    database.execute(f"DROP USER IF EXISTS {account}")
    for statement in _documented(database.flavour):
        database.execute(statement.replace("'projector'@'%'", account))
    for table in tables:
        database.execute(f"GRANT SELECT ON `{schema}`.`{table}` TO {account}")
    for grant in grants:
        database.execute(grant.replace("{user}", account).replace("{schema}", schema))
    return documented_url(database, schema, name=user)


def documented_url(database: DatabaseServer, schema: str, *, name: str = "") -> str:
    """Return the URL of an account that was created there, or came by replication."""
    return database.url(schema, user=name or f"p_{schema}"[:32], password=_PASSWORD)


def _documented(flavour: Flavour) -> list[str]:
    """Return the statements of `deploy/` but for those that name the helpdesk's tables."""
    brand = "mysql" if flavour is Flavour.MYSQL else "mariadb"
    text = (_DEPLOY / f"grants-{brand}.sql").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    statements = [part.strip() for part in "\n".join(lines).split(";") if part.strip()]
    assert any("helpdesk." in statement for statement in statements)
    return [
        statement.replace("change-me", _PASSWORD)
        for statement in statements
        if "helpdesk." not in statement
    ]
