"""The text of a module: tables, aliases, and a projection for each root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from projector.scaffold.layout import Shape, Shown, shape
from projector.scaffold.models import class_name, models
from projector.scaffold.roles import Role, Roles, column
from projector.scaffold.tables import Table

_PROPOSED = (
    "# Not joined, for want of foreign keys. These agree in name, type and index: run the command",
    "# again with those that are right.",
)


class Writer:
    """Writes what `roles` has found."""

    def __init__(
        self, roles: Roles, roots: Sequence[Role], proposed: Sequence[str], dialect: str
    ) -> None:
        self._roles, self._proposed, self._dialect = roles, proposed, dialect
        self._shapes = [shape(root, root.table.name) for root in roots]
        is_one = len(roots) == 1
        self._attributes = [
            "documents" if is_one else roles.unused(f"{root.source}_documents") for root in roots
        ]

    def text(self, *, with_models: bool = False) -> str:
        """Return the module."""
        names = " and ".join(found.name for found in self._shapes)
        head = [
            f'"""Documents of {names}: one for each row. Strike out what is not wanted."""',
            "",
            *self._imports(with_models=with_models),
            "metadata = sa.MetaData()",
            "",
        ]
        if self._proposed:
            head += [*_PROPOSED, *(f"#   --follow '{said}'" for said in self._proposed), ""]
        tables = [line for table in self._roles.tables.values() for line in self._declared(table)]
        aliases = [*self._roles.aliases, ""] if self._roles.aliases else []
        body = [
            line
            for found, attribute in zip(self._shapes, self._attributes, strict=True)
            for line in self._projection(found, attribute, with_models=with_models)
        ]
        return "\n".join([*head, *tables, "", *aliases, *body])

    def _projection(self, found: Shape, attribute: str, *, with_models: bool) -> Iterator[str]:
        names = {}
        if with_models:
            names = {
                id(part): self._roles.unused(class_name(f"{found.name} {part.name}"))
                for part in found.all()
                if part is not found
            }
            names[id(found)] = self._roles.unused(class_name(f"{found.name} document"))
            yield ""
            yield from models(found, names)
        root = found.role
        yield f"{attribute} = Projection("
        yield f"    name={found.name!r},"
        yield f"    root={root.source},"
        yield from _list("joins", [_join(join, " " * 8) for join in root.joins], "    ")
        yield from _list("fields", [_field(f, " " * 8) for f in found.fields], "    ")
        lists = [line for below in found.lists for line in _many(below, " " * 8)]
        yield from _list("collections", lists, "    ")
        if with_models:
            yield f"    document={names[id(found)]},"
        if any(role.table.has_zero_dates for part in found.all() for role in _roles(part)):
            yield '    zero_dates="null",'
        yield ")"
        yield ""

    def _imports(self, *, with_models: bool) -> Iterator[str]:
        parts = [part for found in self._shapes for part in found.all()]
        wanted = [("Join", any(part.role.joins for part in parts)),
                  ("Many", any(part.lists for part in parts)), ("Projection", True)]  # fmt: skip
        if with_models:
            yield from ("import datetime", "import decimal", "import uuid", "", "import pydantic")
        yield "import sqlalchemy as sa"
        if any(f"{self._dialect}." in kind for t in self._roles.tables.values()
               for kind in t.types.values()):  # fmt: skip
            yield f"from sqlalchemy.dialects import {self._dialect}"
        yield ""
        names = ", ".join(name for name, is_used in wanted if is_used)
        yield f"from projector.projection import {names}"
        yield ""

    def _declared(self, table: Table) -> Iterator[str]:
        yield f"{self._roles.variables[table.place]} = sa.Table("
        yield f"    {table.name!r},"
        yield "    metadata,"
        for name, kind in table.types.items():
            if kind:
                primary = ", primary_key=True" if name in table.key else ""
                said = " ".join(table.comments.get(name, "").split())
                comment = f"  # {said}" if said else ""
                yield f"    sa.Column({name!r}, {kind}{primary}),{comment}"
            else:
                yield f"    # {name}: its type has no form in JSON"
        if table.schema:
            yield f"    schema={table.schema!r},"
        yield ")"


def _roles(part: Shape) -> list[Role]:
    return [part.role, *part.role.joins]


def _join(role: Role, indent: str) -> str:
    pick = f", pick={role.pick}" if role.pick else ""
    return f"{indent}Join({role.source}, {role.on}{pick}),"


def _field(shown: Shown, indent: str) -> str:
    label = "" if shown.name == shown.column else f".label({shown.name!r})"
    said = f"{column(shown.source, shown.column)}{label},"
    return f"{indent}# {said}  # {shown.doubt}" if shown.doubt else f"{indent}{said}"


def _many(part: Shape, indent: str) -> Iterator[str]:
    inner, deeper = indent + " " * 4, indent + " " * 8
    yield f"{indent}Many("
    yield f"{inner}{part.name!r},"
    yield f"{inner}{part.role.source},"
    yield f"{inner}on={part.role.on},"
    yield from _list("joins", [_join(join, deeper) for join in part.role.joins], inner)
    yield from _list("fields", [_field(shown, deeper) for shown in part.fields], inner)
    lists = [line for below in part.lists for line in _many(below, deeper)]
    yield from _list("collections", lists, inner)
    yield f"{indent}),"


def _list(name: str, lines: Sequence[str], indent: str) -> list[str]:
    return [f"{indent}{name}=[", *lines, f"{indent}],"] if lines else []
