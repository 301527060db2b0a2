"""What a term knows of the database beside the projections: keys, types, what to watch.

Read again when a definition changes; as it is, never as it was when a change was logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from projector.model import TableName, Watch
from projector.mysql.cascade import ForeignKey, foreign_keys, hidden, logs_actions, with_parents
from projector.mysql.columns import types_of
from projector.mysql.connection import Connection
from projector.mysql.generated import Generated, generated, with_bases
from projector.projection import Plan
from projector.projection.columns import Types


@dataclass(frozen=True, slots=True)
class Knowledge:
    """`watches`: the tables of the projections, hidden keys' parents, and what generated columns
    are computed from. `logs_actions`: the server's log now shows what foreign keys do to rows (see
    `cascade`). `types`: of the columns that the projections read."""

    watches: Sequence[Watch]
    keys: Sequence[ForeignKey] = ()
    generated: Mapping[TableName, Generated] = field(default_factory=dict)
    logs_actions: bool = True
    types: Types = field(default_factory=dict)


def learn(connection: Connection, plans: Sequence[Plan], schema: str) -> Knowledge:
    """Read what there is to know of the tables of projections. `schema`: the default one."""
    [[[folds]]] = connection.query("SELECT @@lower_case_table_names")
    for plan in plans:
        plan.folds_names = int(folds) != 0
    tables = {w.table for plan in plans for w in plan.watches(schema)}
    keys = foreign_keys(connection, tables, folds_names=int(folds) != 0)
    parents = {key.parent for key in keys.known}
    computed = generated(connection, sorted(tables | parents))
    are_logged = logs_actions(connection)
    wanted = [Watch(t, (), frozenset(), is_read=False, keys_unseen=True) for t in keys.unseen]
    for plan in plans:
        found = hidden(keys.known, plan, schema, computed)
        wanted += with_parents(plan.watches(schema), found, keys.known)
    watches = [with_bases(watch, computed.get(watch.table, {})) for watch in merged(wanted)]
    return Knowledge(watches, keys.known, computed, are_logged, types_of(plans, connection))


def merged(watches: Sequence[Watch]) -> list[Watch]:
    """Join what several projections want of the same table."""
    by_table: dict[object, Watch] = {}
    for watch in watches:
        known = by_table.get(watch.table, watch)
        columns = tuple(dict.fromkeys([*known.columns, *watch.columns]))
        by_table[watch.table] = Watch(
            watch.table,
            columns,
            known.read | watch.read,
            is_read=known.is_read or watch.is_read,
            keys_unseen=known.keys_unseen or watch.keys_unseen,
        )
    return list(by_table.values())
