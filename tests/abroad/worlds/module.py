"""A spec in the product's words: the text of the Python module that the daemon loads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from tests.abroad.worlds.schemas import Table
from tests.abroad.worlds.spec import Field, Joined, Level, Role

_HEAD = """\
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql as pg

from projector.projection import (
    Aggregate, Fixed, Hashed, Join, Many, Partial, Projection, binary,
)

metadata = sa.MetaData()
"""
_MASKS = {
    "fixed": "Fixed({})", "partial": "Partial({}, first=1, last=1)",
    "hashed": 'Hashed({}, "ABROAD_MASK_KEY")',
}  # fmt: skip


def write(random: Random, specs: Sequence[Level]) -> str:
    """Write the module; its attributes are called like the hashes."""
    body = [_projection(spec) for spec in specs]
    read = {
        (role.table.name, column)
        for spec, text in zip(specs, body, strict=True)
        for role in _roles(spec)
        for column in re.findall(rf"\b{role.variable}\.c\['([^']*)'\]", text)
    }
    tables = {role.table.name: role.table for spec in specs for role in _roles(spec)}
    lines = [_HEAD]
    for number, table in enumerate(tables.values()):
        wanted = {column for name, column in read if name == table.name}
        lines.append(_table(random, f"t{number}", table, wanted))
    variables = {name: f"t{number}" for number, name in enumerate(tables)}
    for spec, text in zip(specs, body, strict=True):
        for role in _roles(spec):
            alias = f".alias({role.name!r})" if role.name != role.table.name else ""
            lines.append(f"{role.variable} = {variables[role.table.name]}{alias}")
        lines.append(text)
    return "\n".join(lines)


def columns_read(text: str, table: Table, specs: Sequence[Level]) -> set[str]:
    """The columns of a table that a module names, its key included."""
    found = {column.name for column in table.key}
    for spec in specs:
        for role in _roles(spec):
            if role.table is table:
                body = _projection(spec)
                found |= set(re.findall(rf"\b{role.variable}\.c\['([^']*)'\]", body))
    return found


def _roles(spec: Level) -> list[Role]:
    return [role for level in spec.all() for role in level.roles]


def _table(random: Random, variable: str, table: Table, wanted: set[str]) -> str:
    """Declare all columns, or only those that are read; in the table's order or in another."""
    key = {column.name for column in table.key}
    columns = list(table.columns)
    if random.random() < 0.5:
        columns = [c for c in columns if c.name in wanted | key]
        if random.random() < 0.3 and len(key) < 2:
            random.shuffle(columns)
    said = [
        f"    sa.Column({c.name!r}, {c.declared}"
        f"{', primary_key=True, autoincrement=False' if c.name in key else ''}),"
        for c in columns
    ]
    head = f"    {table.name!r}, metadata,"
    return "\n".join([f"{variable} = sa.Table(", head, *said, f"    {table.declared}", ")"])


def _projection(spec: Level) -> str:
    parts = [f"{spec.name} = Projection(", f"    {spec.name!r}, {spec.role.variable},"]
    parts += _arguments(spec, "    ")
    return "\n".join([*parts, ")"])


def _arguments(level: Level, indent: str) -> list[str]:
    parts = []
    if level.kind == "values":
        parts.append(f"{indent}value={_field(level.fields[0], is_named=False)},")
    else:
        parts.append(f"{indent}fields=[")
        parts += [f"{indent}    {_field(field)}," for field in level.fields]
        parts.append(f"{indent}],")
    if level.joins:
        parts.append(f"{indent}joins=[{', '.join(map(_join, level.joins))}],")
    if level.where is not None:
        parts.append(f"{indent}where={level.where.python},")
    if level.order:
        parts.append(f"{indent}order_by=[{', '.join(said.python for said in level.order)}],")
    if level.limit is not None:
        parts.append(f"{indent}limit={level.limit},")
    if level.children:
        parts.append(f"{indent}collections=[")
        parts += [_collection(child, indent + "    ") for child in level.children]
        parts.append(f"{indent}],")
    return parts


def _collection(level: Level, indent: str) -> str:
    assert level.on is not None
    word = f"Aggregate({level.role.variable}, on={level.on.python},"
    if level.kind != "aggregate":
        word = f"Many({level.name!r}, {level.role.variable}, on={level.on.python},"
    return "\n".join([f"{indent}{word}", *_arguments(level, indent + "    "), f"{indent}),"])


def _join(joined: Joined) -> str:
    return f"Join({joined.role.variable}, {joined.on.python})"


def _field(field: Field, *, is_named: bool = True) -> str:
    said = f"{field.said.python}.label({field.name!r})" if is_named else field.said.python
    return _MASKS[field.mask].format(said) if field.mask else said
