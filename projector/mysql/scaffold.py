"""Writes the module of a projection for a table that exists, from the server's catalog.

The root with all its columns, foreign keys followed to-one, the tables that refer to the root as
collections, those that refer to these nested in them. What it prints runs as printed; whoever takes
it strikes out what is not wanted. Never guesses: where no foreign key is declared, nothing is
joined.
"""

from __future__ import annotations

import keyword
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL

from projector.errors import OperatorError
from projector.mysql.connection import ServerError, engine, meaning
from projector.settings import Mysql

_DEPTH = 3  # tables followed one after the other, from the root
_NESTED = 2  # lists in each other: each one is a query, and a wide schema has no end of them
_OWN_NAMES = {"documents", "metadata", "sa", "mysql", "Join", "Many", "Projection"}


@dataclass(frozen=True, slots=True)
class _ForeignKey:
    columns: tuple[str, ...]
    schema: str | None
    table: str
    referred: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Table:
    schema: str | None
    name: str
    types: dict[str, str]  # by column, as Python; empty: of no use in a document
    key: tuple[str, ...]
    foreign_keys: tuple[_ForeignKey, ...]


@dataclass(slots=True)
class _Role:
    """A table as it stands in the document. `source`: its variable."""

    table: _Table
    source: str
    name: str
    on: str = ""
    hidden: set[str] = field(default_factory=set)  # columns that say what another one says
    joins: list[_Role] = field(default_factory=list)
    lists: list[_Role] = field(default_factory=list)


def module(url: URL, settings: Mysql, table: str) -> str:
    """Write the module. `table` may be `database.table`. Raises OperatorError, TransientError."""
    source = engine(url, settings)
    schema, _, name = table.rpartition(".")
    try:
        with source.connect() as connection, warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)  # types that it does not know
            return _Writer(connection, schema or None, name).text()
    except sa.exc.NoSuchTableError:
        raise OperatorError(
            f"there is no table {table} in {url.database}", "Write its name as SHOW TABLES does."
        ) from None
    except sa.exc.OperationalError as error:
        if not isinstance(error.orig, ServerError):
            raise
        raise meaning(error.orig) from error
    finally:
        source.dispose()


class _Writer:
    def __init__(self, connection: sa.Connection, schema: str | None, name: str) -> None:
        self._connection = connection
        self._inspector: sa.Inspector = sa.inspect(connection)
        self._tables: dict[tuple[str | None, str], _Table] = {}
        self._sources = set(_OWN_NAMES)
        self._variables: dict[tuple[str | None, str], str] = {}
        self._aliases: list[str] = []
        self._plain: set[str] = set()  # tables that stand somewhere without an alias
        self._referring: dict[str | None, list[tuple[str, list[_ForeignKey]]]] = {}
        if (kind := self._kind(schema, name)) not in {"BASE TABLE", "SYSTEM VERSIONED"}:
            raise OperatorError(
                f"{name} is a {kind.lower()}: the log has no rows of it",
                "Scaffold the tables below it.",
            )
        root = self._table(schema, name)
        if not root.key:
            raise OperatorError(f"{name} has no primary key", "Give it one: it names documents.")
        self._root = self._role(root, name)
        self._follow(self._root, self._root, _DEPTH)
        self._nest(self._root, [root], _NESTED)

    def _table(self, schema: str | None, name: str) -> _Table:
        if (schema, name) not in self._tables:
            columns = self._inspector.get_columns(name, schema)
            own = self._own_types(schema, name)
            self._tables[schema, name] = _Table(
                schema, name,
                {c["name"]: own.get(c["name"]) or _type(c["type"]) for c in columns},
                tuple(self._inspector.get_pk_constraint(name, schema)["constrained_columns"]),
                tuple(_foreign_key(k) for k in self._inspector.get_foreign_keys(name, schema)),
            )  # fmt: skip
        return self._tables[schema, name]

    def _kind(self, schema: str | None, name: str) -> str:
        found = self._connection.execute(
            sa.text("SELECT TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_NAME = :name"
                    " AND TABLE_SCHEMA = COALESCE(:schema, DATABASE())"),
            {"name": name, "schema": schema},
        ).scalar()  # fmt: skip
        return str(found or "BASE TABLE")

    def _own_types(self, schema: str | None, name: str) -> dict[str, str]:
        """MariaDB's types that SQLAlchemy does not see: JSON is a text with a check."""
        parts = [part.replace("`", "``") for part in (schema, name) if part]
        said = self._connection.exec_driver_sql(f"SHOW CREATE TABLE `{'`.`'.join(parts)}`")
        definition = str(said.one()[1])
        json = re.findall(r"json_valid\(`((?:[^`]|``)+)`\)", definition)
        addresses = re.findall(r"^  `((?:[^`]|``)+)` inet[46]\b", definition, re.MULTILINE)
        types = [(json, "mysql.JSON()"), (addresses, "sa.String(45)")]
        return {column.replace("``", "`"): kind for columns, kind in types for column in columns}

    def _role(self, table: _Table, name: str) -> _Role:
        """Let a table stand by itself the first time, by an alias from then on."""
        key = (table.schema, table.name)
        if key not in self._variables:
            self._variables[key] = self._unused(table.name)
        variable = self._variables[key]
        if variable not in self._plain:
            self._plain.add(variable)
            return _Role(table, variable, name)
        alias = self._unused(name)
        self._aliases.append(f"{alias} = {variable}.alias({alias!r})")
        return _Role(table, alias, name)

    def _unused(self, wanted: str) -> str:
        name = re.sub(r"\W", "_", wanted)
        if keyword.iskeyword(name) or not name.isidentifier():
            name = f"t_{name}"
        if name in self._sources:
            name = next(n for i in range(2, 10**6) if (n := f"{name}_{i}") not in self._sources)
        self._sources.add(name)
        return name

    def _follow(
        self, base: _Role, top: _Role, depth: int, *, skip: _ForeignKey | None = None
    ) -> None:
        """Join what the foreign keys of `base` refer to; all joins stand at `top`."""
        for key in base.table.foreign_keys:
            if key == skip or not depth:
                continue
            referred = self._table(key.schema, key.table)
            if referred.name == self._root.table.name and top is not self._root:
                continue  # the document itself
            short = re.sub(r"_(id|code|key)$", "", key.columns[0])
            name = short if base is top else f"{base.name}_{short}"
            role = self._role(referred, name)
            role.on = _on(role.source, key.referred, base.source, key.columns)
            role.hidden = set(key.referred)
            top.joins.append(role)
            if referred.name != base.table.name:
                self._follow(role, top, depth - 1)

    def _nest(self, base: _Role, path: list[_Table], depth: int) -> None:
        """Hang on `base` what refers to it. `path`: the tables of it and around it, of which but
        the root may stand in a list once more."""
        if not depth or not base.table.key:
            return
        own = base.table
        for name, keys in self._foreign_keys(own.schema):
            to_base = [k for k in keys if (k.schema, k.table) == (own.schema, own.name)]
            for key in to_base:
                table = self._table(own.schema, name)
                if table in path and base is not self._root:
                    continue
                told_apart = name if len(to_base) == 1 else f"{name}_by_{'_'.join(key.columns)}"
                role = self._role(table, told_apart)
                role.on = _on(role.source, key.columns, base.source, key.referred)
                role.hidden = set(key.columns)
                self._follow(role, role, 1, skip=key)
                base.lists.append(role)
                if table not in path:
                    self._nest(role, [*path, table], depth - 1)

    def _foreign_keys(self, schema: str | None) -> list[tuple[str, list[_ForeignKey]]]:
        """Give the foreign keys of a database's tables, by the table that has them."""
        if schema not in self._referring:
            found = self._inspector.get_multi_foreign_keys(schema)
            self._referring[schema] = sorted(
                (name, [_foreign_key(key) for key in keys]) for (_, name), keys in found.items()
            )
        return self._referring[schema]

    def text(self) -> str:
        """Give the module."""
        tables = [line for key in self._variables for line in self._declared(key)]
        root, name = self._root, self._root.table.name
        taken: set[str] = set()
        own = _fields(root, taken, "        ")
        body = [
            "documents = Projection(",
            f"    name={name!r},",
            f"    root={root.source},",
            *_list("joins", [_join(j, " " * 8) for j in root.joins], "    "),
            *_list("fields", own, "    "),
            *_list(
                "collections", [t for c in root.lists for t in _many(c, taken, " " * 8)], "    "
            ),
            ")",
        ]
        head = [
            f'"""Documents of {name}: one for each row. Strike out what is not wanted."""',
            "",
            "import sqlalchemy as sa",
            "from sqlalchemy.dialects import mysql",
            "",
            f"from projector.projection import {', '.join(self._imports())}",
            "",
            "metadata = sa.MetaData()",
            "",
        ]
        aliases = [*self._aliases, ""] if self._aliases else []
        return "\n".join([*head, *tables, "", *aliases, *body, ""])

    def _imports(self) -> list[str]:
        has_joins = any(role.joins for role in _all(self._root))
        wanted = [("Join", has_joins), ("Many", self._root.lists), ("Projection", True)]
        return [name for name, is_used in wanted if is_used]

    def _declared(self, key: tuple[str | None, str]) -> Iterator[str]:
        table = self._tables[key]
        yield f"{self._variables[key]} = sa.Table("
        yield f"    {table.name!r},"
        yield "    metadata,"
        for name, kind in table.types.items():
            if kind:
                primary = ", primary_key=True" if name in table.key else ""
                yield f"    sa.Column({name!r}, {kind}{primary}),"
            else:
                yield f"    # {name}: its type has no form in JSON"
        if table.schema:
            yield f"    schema={table.schema!r},"
        yield ")"


def _type(kind: Any) -> str:
    if isinstance(kind, sa.types.NullType):
        return ""
    for attribute in ("charset", "collation"):
        if getattr(kind, attribute, None) is not None:
            setattr(kind, attribute, None)
    home = "mysql" if hasattr(mysql, type(kind).__name__) else "sa"
    return f"{home}.{kind!r}"


def _foreign_key(said: Any) -> _ForeignKey:
    return _ForeignKey(
        tuple(said["constrained_columns"]), said["referred_schema"], said["referred_table"],
        tuple(said["referred_columns"]),
    )  # fmt: skip


def _column(source: str, name: str) -> str:
    is_plain = name.isidentifier() and not keyword.iskeyword(name)
    if is_plain and not hasattr(sa.ColumnCollection, name):
        return f"{source}.c.{name}"
    return f"{source}.c[{name!r}]"


def _on(own: str, columns: Sequence[str], other: str, referred: Sequence[str]) -> str:
    pairs = [
        f"{_column(own, c)} == {_column(other, r)}" for c, r in zip(columns, referred, strict=True)
    ]
    return pairs[0] if len(pairs) == 1 else f"sa.and_({', '.join(pairs)})"


def _all(role: _Role) -> Iterator[_Role]:
    yield role
    for below in role.lists:
        yield from _all(below)


def _join(role: _Role, indent: str) -> str:
    return f"{indent}Join({role.source}, {role.on}),"


def _fields(role: _Role, taken: set[str], indent: str) -> list[str]:
    """The columns of a role and what is joined to it, each with a name that no other has."""
    found = []
    for part in [role, *role.joins]:
        shown = [c for c, kind in part.table.types.items() if kind and c not in part.hidden]
        for column in shown or (list(part.table.types) if part is role else []):
            wanted = column if part is role else f"{part.name}_{column}"
            name = next(n for i in range(1, 10**6)
                        if (n := wanted if i == 1 else f"{wanted}_{i}") not in taken)  # fmt: skip
            taken.add(name)
            label = "" if name == column else f".label({name!r})"
            found.append(f"{indent}{_column(part.source, column)}{label},")
    return found


def _many(role: _Role, taken: set[str], indent: str) -> Iterator[str]:
    name = next(n for n in (role.name, f"{role.name}_rows", role.source) if n not in taken)
    taken.add(name)
    inner, deeper = indent + " " * 4, indent + " " * 8
    own: set[str] = set()
    yield f"{indent}Many("
    yield f"{inner}{name!r},"
    yield f"{inner}{role.source},"
    yield f"{inner}on={role.on},"
    yield from _list("joins", [_join(join, deeper) for join in role.joins], inner)
    yield from _list("fields", _fields(role, own, deeper), inner)
    lists = [line for below in role.lists for line in _many(below, own, deeper)]
    yield from _list("collections", lists, inner)
    yield f"{indent}),"


def _list(name: str, lines: Sequence[str], indent: str) -> list[str]:
    return [f"{indent}{name}=[", *lines, f"{indent}],"] if lines else []
