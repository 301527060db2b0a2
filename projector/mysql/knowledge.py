"""What is known of the database beside the log: keys, types, generated columns, what to watch.

Read again when a definition changes; as it is, never as it was when a change was logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from projector.model import TableName, Watch, merged
from projector.mysql.collations import foldings_of
from projector.mysql.columns import table_types, types_of
from projector.mysql.connection import Connection
from projector.mysql.foreign_keys import ForeignKey, foreign_keys, logs_actions
from projector.mysql.generated import Generated, generated
from projector.mysql.linked import needed, widened
from projector.ports import Knowledge
from projector.projection import Plan
from projector.projection.columns import TableTypes


@dataclass(frozen=True, slots=True)
class Learned:
    """`keys` that change rows by themselves; `generated`: what columns are computed from;
    `versioned`: tables that are (MariaDB); `types`: of the watched columns of linked tables.
    `logs_actions`: the server's log now shows what keys do to rows."""

    knowledge: Knowledge = field(default_factory=lambda: Knowledge(()))
    keys: Sequence[ForeignKey] = ()
    generated: Mapping[TableName, Generated] = field(default_factory=dict)
    versioned: frozenset[TableName] = frozenset()
    types: Mapping[TableName, TableTypes] = field(default_factory=dict)
    logs_actions: bool = True


def learn(connection: Connection, plans: Sequence[Plan], schema: str) -> Learned:
    """Read what there is to know of the tables of projections. `schema`: the default one."""
    [[[folds]]] = connection.query("SELECT @@lower_case_table_names")
    for plan in plans:
        plan.folds_names = int(folds) != 0
    watches = [watch for plan in plans for watch in plan.watches(schema)]
    tables = {watch.table for watch in watches}
    keys = foreign_keys(connection, tables, folds_names=int(folds) != 0)
    linked = {table for key in keys.known for table in (key.parent, key.child)}
    computed = generated(connection, sorted(tables | linked))
    are_logged = logs_actions(connection)
    watches += [Watch(t, (), frozenset(), is_read=False, keys_unseen=True) for t in keys.unseen]
    wide = widened(merged(watches), keys.known, computed)
    linked_types = _types(connection, wide, needed(keys.known, wide))
    private = (tuple(keys.known), keys.versioned, linked_types, are_logged)
    types = types_of(plans, connection)
    foldings = foldings_of(plans, types, connection)
    known = Knowledge(wide, types, private, foldings)
    return Learned(known, keys.known, computed, keys.versioned, linked_types, are_logged)


def _types(
    connection: Connection, watches: Sequence[Watch], keys: Sequence[ForeignKey]
) -> dict[TableName, TableTypes]:
    """Read the types of the watched columns of the tables that these keys link."""
    columns = {watch.table: {name.lower() for name in watch.columns} for watch in watches}
    tables = dict.fromkeys(table for key in keys for table in (key.parent, key.child))
    return {
        table: {name: kind for name, kind in types.items() if name in columns[table]}
        for table, types in table_types(connection, list(tables)).items()
    }
