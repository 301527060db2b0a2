"""What `projector check` looks at in PostgreSQL, and what a start requires."""

from __future__ import annotations

from collections.abc import Sequence

from projector.checks import Check, ok
from projector.databases import Source
from projector.postgres.connection import connect
from projector.projection import Plan


def all_checks(source: Source, plans: Sequence[Plan]) -> list[Check]:
    """Look at the server, the account and the tables. Raises what `connect` does."""
    session = connect(
        source.conninfo,
        source.read_timeout_s,
        schema=source.search_schema,
        connect_timeout_s=source.connect_timeout_s,
    )
    try:
        [[account, version]] = session.ask("SELECT current_user, current_setting('server_version')")
        return [ok("postgres.reachable", f"{version}, as {account}")]
    finally:
        session.close()
