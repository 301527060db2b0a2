"""Columns that look like references where no foreign key says so: name, type and index agree.

Proposed, never joined: whoever knows the tables runs the command again with those that are right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from projector.scaffold.roles import Follow
from projector.scaffold.tables import Catalog, Column, Table, all_tables

_END = re.compile(r"_?(?:id|uuid|code|key)$", re.IGNORECASE)


def proposals(catalog: Catalog, roots: Sequence[Table], follow: Sequence[Follow]) -> list[str]:
    """Return what may be followed from or to the documents' tables, as `table.column=table.column`.
    Nothing of what is followed already."""
    if any(root.schema is not None for root in roots):
        return []
    columns = catalog.columns()
    keys = _keys(catalog, columns)
    names = {table: _names(table, _prefix(columns)) for table in keys}
    own = {root.name for root in roots}
    known = {(f.table, f.column) for f in follow}
    found = []
    for column in columns:
        if (column.table, column.name) in known or (None, column.name) in known:
            continue
        if _is_foreign_key(catalog, column):
            continue
        for table, key in keys.items():
            if {table, column.table}.isdisjoint(own) or not _agree(column, key, names[table]):
                continue
            found.append(f"{column.table}.{column.name}={table}.{key.name}")
    return found


def _keys(catalog: Catalog, columns: Sequence[Column]) -> dict[str, Column]:
    """Return the primary key of each table that has one of one column."""
    by_place = {(column.table, column.name): column for column in columns}
    found = {}
    for name in all_tables(columns):
        key = catalog.table((None, name)).key
        if len(key) == 1:
            found[name] = by_place[name, key[0]]
    return found


def _agree(column: Column, key: Column, names: set[str]) -> bool:
    if column.table == key.table and column.name == key.name:
        return False
    if column.type != key.type or not column.is_indexed:
        return False
    stem = _END.sub("", column.name).lower()
    is_same = column.name.lower() == key.name.lower() and bool(_END.sub("", key.name))
    return is_same or (stem != column.name.lower() and stem in names)


def _names(table: str, prefix: str) -> set[str]:
    """Return what a reference to a table may be called."""
    bare = table.lower().removeprefix(prefix.lower())
    return set(_singular(table.lower())) | set(_singular(bare))


def _singular(name: str) -> Iterator[str]:
    yield name
    if name.endswith("ies"):
        yield f"{name[:-3]}y"
    if name.endswith("es"):
        yield name[:-2]
    if name.endswith("s"):
        yield name[:-1]


def _prefix(columns: Sequence[Column]) -> str:
    """Return what all names of tables begin with, up to an underscore."""
    names = list(all_tables(columns))
    first = names[0] if len(names) > 1 else ""
    ends = [end for end, letter in enumerate(first, 1) if letter == "_"]
    common = [first[:end] for end in ends if all(n.startswith(first[:end]) for n in names)]
    return max(common, key=len, default="")


def _is_foreign_key(catalog: Catalog, column: Column) -> bool:
    references = catalog.table((None, column.table)).references
    return any(column.name in reference.columns for reference in references)
