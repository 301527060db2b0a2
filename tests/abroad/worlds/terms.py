"""Conditions, expressions and figures: each written in the product's Python and in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.abroad.worlds.kinds import Kind
from tests.abroad.worlds.schemas import Column, Table
from tests.abroad.worlds.spec import Role, Said

_TEXTS = ("a", "b", "A", "T", "1", "z", "")


def partners(column: Column, table: Table, is_unique: bool) -> list[Column]:
    """The columns of a table that may be equal to `column`. `is_unique`: at most one row of the
    column's table may be equal to each; texts of digits are not, against numbers."""
    found = [c for c in table.columns if c.kind.can_be_key and c.kind.family == column.kind.family]
    if is_unique and column.kind.family == "number" and column.kind.charset:
        found = [c for c in found if c.kind == column.kind]
    return found


def equal(random: Random, role: Role, own: Column, above: Role, other: Column) -> Said:
    left, right = role.column(own), above.column(other)
    if random.random() < 0.5:
        left, right = right, left
    return Said(f"{left.python} == {right.python}", f"{left.sql} = {right.sql}")


def both(parts: Sequence[Said]) -> Said:
    if len(parts) == 1:
        return parts[0]
    python = f"sa.and_({', '.join(part.python for part in parts)})"
    return Said(python, " AND ".join(f"({part.sql})" for part in parts))


def constant(random: Random, role: Role, column: Column) -> Said:
    """A column equated with a constant, on either side."""
    value = _literal(random, column.kind)
    said = role.column(column)
    if value is None:
        return Said(f"{said.python}.is_not(None)", f"{said.sql} IS NOT NULL")
    if random.random() < 0.2:
        return Said(f"sa.literal({value.python}) == {said.python}", f"{value.sql} = {said.sql}")
    return Said(f"{said.python} == {value.python}", f"{said.sql} = {value.sql}")


def has_constant(kind: Kind) -> bool:
    return _literal(Random(0), kind) is not None


def _literal(random: Random, kind: Kind) -> Said | None:
    """A constant that can be compared with values of this kind; None: there is none."""
    if kind.shape == "int" or (kind.family == "number" and not kind.charset):
        value = str(random.choice([1, 2, 3]))
        return Said(value, value)
    if kind.shape != "plain" or not kind.charset:
        return None
    text = random.choice(kind.literals).strip("'") if kind.is_choice else random.choice(_TEXTS)
    return Said(repr(text), f"'{text}'")


def condition(random: Random, roles: Sequence[Role]) -> Said:
    """Something that is true of some rows: one term, or two of them."""
    first = _term(random, roles)
    if random.random() < 0.7:
        return first
    second = _term(random, roles)
    if random.random() < 0.5:
        return both([first, second])
    return Said(f"sa.or_({first.python}, {second.python})", f"({first.sql}) OR ({second.sql})")


def _term(random: Random, roles: Sequence[Role]) -> Said:
    role = random.choice(roles)
    column = random.choice([c for c in role.table.columns if c.kind.can_be_key])
    said, value = role.column(column), _literal(random, column.kind)
    if value is None or random.random() < 0.2:
        if random.random() < 0.5:
            return Said(f"{said.python}.is_(None)", f"{said.sql} IS NULL")
        return Said(f"{said.python}.is_not(None)", f"{said.sql} IS NOT NULL")
    kind = random.choice(["=", "!=", ">", "in", "not", "constant"])
    if kind == "constant":
        return constant(random, role, column)
    if kind == "in":
        other = _literal(random, column.kind) or value
        python = f"{said.python}.in_([{value.python}, {other.python}])"
        return Said(python, f"{said.sql} IN ({value.sql}, {other.sql})")
    if kind == "not":
        return Said(f"sa.not_({said.python} == {value.python})", f"NOT ({said.sql} = {value.sql})")
    operator = {"=": "=="}.get(kind, kind)
    if kind == ">" and column.kind.is_choice:
        kind, operator = "!=", "!="  # by number or by text: that is not what we ask here
    return Said(f"{said.python} {operator} {value.python}", f"{said.sql} {kind} {value.sql}")


def computed(random: Random, said: Said, kind: Kind) -> tuple[Said, str]:
    """An expression over a column, and the shape of its values."""
    if random.random() < 0.3:
        return Said(f"{said.python}.is_(None)", f"{said.sql} IS NULL"), "bool"
    if kind.shape == "int" and "ZEROFILL" not in kind.ddl and kind.ddl != "YEAR":
        return random.choice([
            (Said(f"({said.python} > 2)", f"{said.sql} > 2"), "bool"),
            (Said(f"sa.func.coalesce({said.python}, 0)", f"COALESCE({said.sql}, 0)"), "int"),
            (Said(f"sa.case(({said.python} > 2, 'big'), else_='small')",
                  f"CASE WHEN {said.sql} > 2 THEN 'big' ELSE 'small' END"), "plain"),
        ])  # fmt: skip
    if kind.shape == "plain" and kind.charset and not kind.is_choice:
        return random.choice([
            (Said(f"sa.func.upper({said.python})", f"UPPER({said.sql})"), "plain"),
            (Said(f"sa.func.concat({said.python}, '-')", f"CONCAT({said.sql}, '-')"), "plain"),
            (Said(f"sa.func.char_length({said.python}, type_=sa.Integer)",
                  f"CHAR_LENGTH({said.sql})"), "int"),
        ])  # fmt: skip
    return Said("sa.literal('const')", "'const'"), "plain"


def ordering(random: Random, said: Said, kind: Kind) -> Said:
    """An order by a column: up, down, or by bytes."""
    if kind.charset and random.random() < 0.3:
        return Said(f"binary({said.python})", kind.by_bytes(said.sql))
    if random.random() < 0.5:
        return Said(f"{said.python}.desc()", f"{said.sql} DESC")
    return said


def figure(random: Random, role: Role) -> tuple[Said, str]:
    """An aggregate function over a column, and the shape of its value."""
    kind = random.choice(["count", "count", "column", "distinct", "sum", "least", "total", "list"])
    column = random.choice([c for c in role.table.columns if c.kind.can_be_key])
    said = role.column(column)
    numbers = [c for c in role.table.columns if c.kind.shape == "int" and "ZERO" not in c.kind.ddl]
    if kind == "column":
        return Said(f"sa.func.count({said.python})", f"COUNT({said.sql})"), "int"
    if kind == "distinct":
        return Said(
            f"sa.func.count({said.python}.distinct())", f"COUNT(DISTINCT {said.sql})"
        ), "int"
    if kind == "list":  # of constants: no order is right for one of values
        return Said(*role.table.listing), "plain"
    if kind == "count" or not numbers:
        return Said("sa.func.count()", "COUNT(*)"), "int"
    number = role.column(random.choice(numbers))
    if kind == "sum":
        return Said(f"sa.func.sum({number.python})", f"SUM({number.sql})"), "int"
    if kind == "least":
        name = random.choice(["min", "max"])
        return Said(f"sa.func.{name}({number.python})", f"{name.upper()}({number.sql})"), "int"
    python = f"sa.func.coalesce(sa.func.sum({number.python}), 0)"
    return Said(python, f"COALESCE(SUM({number.sql}), 0)"), "int"
