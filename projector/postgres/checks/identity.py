"""What the log says of rows as they were: the replica identity of each table.

Documents that a row has left are found by the row's old values. The identity says which of them
are logged; of the others nothing is known, and then a walk over all documents must find out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from projector.checks import Check, failed, ok, warning
from projector.model import TableName, Watch
from projector.postgres.checks.tables import Identity, Table
from projector.postgres.slot import identifier
from projector.projection import Plan

_NAME = "postgres.replica_identity"
_LONGEST = 63  # of a name


def needed(plans: Sequence[Plan], schema: str) -> dict[TableName, frozenset[str]]:
    """Return the columns of each table whose old values lead to documents."""
    found: dict[TableName, frozenset[str]] = {}
    for plan in plans:
        for route in plan.routes:
            table = plan.table_name(route.node, schema)
            found[table] = found.get(table, frozenset()) | set(route.columns)
    return found


def identities(
    needed: Mapping[TableName, frozenset[str]],
    watches: Sequence[Watch],
    tables: Mapping[TableName, Table],
) -> list[Check]:
    """Test that each table's identity has what is needed of its old rows."""
    problems = [
        problem
        for watch in watches
        if (table := tables.get(watch.table)) is not None
        for identity in table.identities
        for problem in _identity(identity, needed.get(watch.table, frozenset()), table)
    ]
    return problems or [ok(_NAME, "the log has all old values by which documents are found")]


def _identity(identity: Identity, wanted: frozenset[str], table: Table) -> Iterator[Check]:
    generated = {c.name for c in table.columns.values() if c.is_generated}
    wanted = wanted & table.columns.keys() - generated  # the log has none of these anyway
    if not identity.columns and identity.mode != "f":
        yield failed(
            _NAME,
            f"{identity.table} has {_why(identity)}: as it is published, each UPDATE and DELETE of"
            " its rows fails, the application's too",
            remedy(identity, wanted, table),
        )
        return
    missing = sorted(wanted - identity.columns)
    if missing:
        yield warning(
            _NAME,
            f"the log has no old values of {identity.table}.{', '.join(missing)}: each UPDATE and"
            " DELETE there costs a walk over all documents",
            remedy(identity, wanted, table),
        )


def _why(identity: Identity) -> str:
    return {
        "d": "no primary key",
        "i": "lost the index that was its replica identity",
    }.get(identity.mode, "no replica identity")


def remedy(identity: Identity, wanted: frozenset[str], table: Table) -> str:
    """Return the statements that make these columns the identity of a table: the cheapest way."""
    spelled = ".".join(map(identifier, identity.table))
    alter = f"ALTER TABLE {spelled} REPLICA IDENTITY"
    if wanted and wanted <= set(identity.key):
        return f"{alter} DEFAULT;"
    columns = [*identity.key, *sorted(wanted - set(identity.key))]
    known = [table.columns[name] for name in columns if name in table.columns]
    if not identity.key or any(column.is_nullable for column in known):
        return f"{alter} FULL; (each UPDATE and DELETE there then logs the whole old row)"
    index = identifier(f"{identity.table.name[: _LONGEST - 9]}_identity")
    listed = ", ".join(map(identifier, columns))
    return (
        f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON {spelled} ({listed});"
        f" {alter} USING INDEX {index};"
    )
