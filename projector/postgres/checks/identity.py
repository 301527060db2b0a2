"""What the log says of rows as they were: the replica identity of each table.

Documents that a row has left are found by the row's old values. The identity says which of them
are logged; of the others nothing is known, and then a walk over all documents must find out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from projector.checks import Check, failed, ok, warning
from projector.model import TableName, Watch
from projector.postgres.checks.tables import Identity, Table
from projector.postgres.names import LONGEST, identifier, spelled
from projector.projection import Plan

_NAME = "postgres.replica_identity"
_REFUSES_UNSENT = 180000  # changes by an identity with generated columns that are not published

_FAILS = "as it is published, each UPDATE and DELETE of its rows fails, the application's too"

Unsent = Mapping[TableName, Mapping[str, frozenset[str]]]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why old values are not logged, and what mends it: `statements` for the table's owner, what
    else there is to say, and `constraints` that the table must have first. `is_failure`: the server
    refuses changes of the table."""

    detail: str
    statements: tuple[str, ...]
    words: str = ""
    constraints: tuple[str, ...] = ()
    is_failure: bool = False

    @property
    def fix(self) -> str:
        """What to do, to be pasted."""
        pasted = [f"{each};" for each in (*self.constraints, *self.statements)]
        return " ".join([*pasted, self.words] if self.words else pasted)


def needed(plans: Sequence[Plan], schema: str) -> dict[TableName, frozenset[str]]:
    """Return the columns of each table whose old values lead to documents."""
    found: dict[TableName, frozenset[str]] = {}
    for plan in plans:
        for route in plan.routes:
            table = plan.table_name(route.node, schema)
            found[table] = found.get(table, frozenset()) | set(route.columns)
    return found


def identities(found: Iterable[Problem]) -> list[Check]:
    """Test that each table's identity has what is needed of its old rows."""
    checks = [
        (failed if each.is_failure else warning)(_NAME, each.detail, each.fix) for each in found
    ]
    return checks or [ok(_NAME, "the log has all old values by which documents are found")]


def problems(
    needed: Mapping[TableName, frozenset[str]],
    watches: Sequence[Watch],
    tables: Mapping[TableName, Table],
    unsent: Unsent,
    number: int,
) -> Iterator[Problem]:
    """Report what is not logged of old rows. `unsent`: the generated columns that the stream leaves
    out, with what they are computed from; `number`: the server's version."""
    for watch in watches:
        table, left_out = tables.get(watch.table), unsent.get(watch.table, {})
        if table is None:
            continue
        wanted = needed.get(watch.table, frozenset()) & table.columns.keys()
        yield from _generated(watch.table, wanted, left_out, number)
        bases = {base for name in wanted for base in left_out.get(name, ())}
        wanted = wanted - left_out.keys() | bases
        breaking = frozenset(left_out) if number >= _REFUSES_UNSENT else frozenset()
        for identity in table.identities:
            yield from _identity(identity, wanted, table, breaking)


def _generated(
    name: TableName, wanted: frozenset[str], unsent: Mapping[str, frozenset[str]], number: int
) -> Iterator[Problem]:
    """Report routes that begin with what is never in the log."""
    for column in sorted(wanted & unsent.keys()):
        bases = ", ".join(sorted(unsent[column]))
        newer = (
            " Or make it STORED, and as the publication's owner: ALTER PUBLICATION … SET"
            " (publish_generated_columns = 'stored');"
        )
        yield Problem(
            f"documents are found by {name}.{column}, which is generated and not in the log: each"
            f" DELETE there, and each UPDATE of {bases or 'its row'}, costs a walk over all"
            " documents",
            (),
            "Join by what it is computed from, or by a column that holds the value."
            + (newer if number >= _REFUSES_UNSENT else ""),
        )


def _identity(
    identity: Identity, wanted: frozenset[str], table: Table, breaking: frozenset[str]
) -> Iterator[Problem]:
    """Compare what is wanted with what an identity has; with one of `breaking` the server refuses
    each UPDATE and DELETE (PostgreSQL 18)."""
    unpublished = sorted(identity.columns & breaking)
    missing = sorted(wanted - identity.columns)
    is_failure = True
    if not identity.columns and identity.mode != "f":
        detail = f"{identity.table} has {_why(identity)}: {_FAILS}"
    elif unpublished:
        detail = (
            f"{identity.table} has a replica identity with generated columns that are not"
            f" published ({', '.join(unpublished)}): {_FAILS}"
        )
    elif missing:
        is_failure = False
        detail = (
            f"the log has no old values of {identity.table}.{', '.join(missing)}: each UPDATE"
            " and DELETE there costs a walk over all documents"
        )
    else:
        return
    yield replace(_remedy(identity, wanted, table, breaking), detail=detail, is_failure=is_failure)


def _why(identity: Identity) -> str:
    if identity.mode == "d" and identity.is_deferrable:
        return "a primary key that is DEFERRABLE, which is no replica identity"
    return {
        "d": "no primary key",
        "i": "lost the index that was its replica identity",
    }.get(identity.mode, "no replica identity")


def _remedy(
    identity: Identity, wanted: frozenset[str], table: Table, breaking: frozenset[str]
) -> Problem:
    """Return what makes these columns the identity of a table, the cheapest way."""
    table_name = spelled(identity.table)
    alter = f"ALTER TABLE {table_name} REPLICA IDENTITY"
    key = set(identity.key)
    if key and wanted <= key and not identity.is_deferrable and not key & breaking:
        return Problem("", (f"{alter} DEFAULT",))
    columns = [*identity.key, *sorted(wanted - key)]
    known = [table.columns[name] for name in columns if name in table.columns]
    nullable = [column.name for column in known if column.is_nullable]
    if (fitting := _fitting(identity, wanted, table, breaking)) is not None:
        return Problem("", (f"{alter} USING INDEX {identifier(fitting)}",))
    if not breaking and (nullable or not key):
        cost = "(each UPDATE and DELETE there then logs the whole old row)"
        return Problem("", (f"{alter} FULL",), cost)
    if not key or key & breaking:
        way = (
            f"Give {table_name} a primary key of columns that are not generated; or, with none that"
            " is VIRTUAL, ALTER PUBLICATION … SET (publish_generated_columns = 'stored');"
            f" {alter} FULL;"
        )
        return Problem("", (), way)
    name = _free_name(identity)
    index, listed = identifier(name), ", ".join(map(identifier, columns))
    broken = spelled(TableName(identity.table.schema, name))
    statements = (
        *([f"DROP INDEX CONCURRENTLY {broken}"] if name in identity.broken else []),
        f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON {table_name} ({listed})",
        f"{alter} USING INDEX {index}",
    )
    constraints = [f"ALTER TABLE {table_name} ALTER {identifier(c)} SET NOT NULL" for c in nullable]
    return Problem("", statements, constraints=tuple(constraints))


def _fitting(
    identity: Identity, wanted: frozenset[str], table: Table, breaking: frozenset[str]
) -> str | None:
    """Return the narrowest index that is there and has what is wanted."""
    nullable = {column.name for column in table.columns.values() if column.is_nullable}
    fitting = [
        (len(columns), name)
        for name, columns in identity.indexes.items()
        if columns and wanted <= columns and not columns & (breaking | nullable)
    ]
    return min(fitting)[1] if fitting else None


def _free_name(identity: Identity) -> str:
    """Return a name for an index that none which works has."""
    stem = identity.table.name[: LONGEST - 12] + "_identity"
    names = (stem if number == 1 else f"{stem}_{number}" for number in itertools.count(1))
    return next(name for name in names if name not in identity.indexes)
