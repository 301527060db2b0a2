"""Writes the module of a projection for a table that exists, from the server's catalog.

The root with all its columns, foreign keys followed to-one, the tables that refer to the root as
collections. What it prints runs as printed; whoever takes it strikes out what is not wanted. Never
guesses: where no foreign key is declared, nothing is joined.
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

from projector.database import connect_arguments
from projector.errors import OperatorError
from projector.settings import Mysql

_DEPTH = 3  # tables followed one after the other, from the root
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


def module(url: URL, settings: Mysql, table: str) -> str:
    """Write the module. `table` may be `database.table`. Raises OperatorError, TransientError."""
    engine = sa.create_engine(
        url.set(drivername="mysql+pymysql"), connect_args=connect_arguments(settings)
    )
    schema, _, name = table.rpartition(".")
    try:
        with engine.connect() as connection, warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)  # types that it does not know
            return _Writer(connection, schema or None, name).text()
    except sa.exc.NoSuchTableError:
        raise OperatorError(
            f"there is no table {table} in {url.database}", "Write its name as SHOW TABLES does."
        ) from None
    except sa.exc.OperationalError as error:
        raise OperatorError(
            f"MySQL refuses or is away ({error.orig.args[0] if error.orig else ''})",
            "See `projector check`.",
        ) from None
    finally:
        engine.dispose()


class _Writer:
    def __init__(self, connection: sa.Connection, schema: str | None, name: str) -> None:
        self._connection = connection
        self._inspector: sa.Inspector = sa.inspect(connection)
        self._tables: dict[tuple[str | None, str], _Table] = {}
        self._sources = set(_OWN_NAMES)
        self._variables: dict[tuple[str | None, str], str] = {}
        self._aliases: list[str] = []
        self._plain: set[str] = set()  # tables that stand somewhere without an alias
        root = self._table(schema, name)
        if not root.key:
            raise OperatorError(f"{name} has no primary key", "Give it one: it names documents.")
        self._root = self._role(root, name)
        self._follow(self._root, self._root, _DEPTH)
        self._collections = list(self._children())

    def _table(self, schema: str | None, name: str) -> _Table:
        if (schema, name) not in self._tables:
            columns = self._inspector.get_columns(name, schema)
            is_json = self._json_columns(schema, name)
            self._tables[schema, name] = _Table(
                schema, name,
                {c["name"]: "mysql.JSON()" if c["name"] in is_json else _type(c["type"])
                 for c in columns},
                tuple(self._inspector.get_pk_constraint(name, schema)["constrained_columns"]),
                tuple(_foreign_key(k) for k in self._inspector.get_foreign_keys(name, schema)),
            )  # fmt: skip
        return self._tables[schema, name]

    def _json_columns(self, schema: str | None, name: str) -> set[str]:
        """MariaDB's JSON is a text with a check."""
        parts = [part.replace("`", "``") for part in (schema, name) if part]
        said = self._connection.exec_driver_sql(f"SHOW CREATE TABLE `{'`.`'.join(parts)}`")
        return set(re.findall(r"json_valid\(`(.+?)`\)", str(said.one()[1])))

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

    def _children(self) -> Iterator[_Role]:
        root = self._root.table
        keys = self._inspector.get_multi_foreign_keys(root.schema)
        for (schema, name), found in sorted(keys.items(), key=lambda item: item[0][1]):
            to_root = [k for k in map(_foreign_key, found) if k.table == root.name]
            for key in to_root:
                table = self._table(schema, name)
                own = name if len(to_root) == 1 else f"{name}_by_{'_'.join(key.columns)}"
                role = self._role(table, own)
                role.on = _on(role.source, key.columns, self._root.source, key.referred)
                role.hidden = set(key.columns)
                self._follow(role, role, 1, skip=key)
                yield role

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
            *_list("joins", [_join(j) for j in root.joins], "    "),
            *_list("fields", own, "    "),
            *_list("collections", [t for c in self._collections for t in _many(c, taken)], "    "),
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
        has_joins = self._root.joins or any(c.joins for c in self._collections)
        wanted = [("Join", has_joins), ("Many", self._collections), ("Projection", True)]
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


def _join(role: _Role) -> str:
    return f"        Join({role.source}, {role.on}),"


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


def _many(role: _Role, taken: set[str]) -> Iterator[str]:
    name = next(n for n in (role.name, f"{role.name}_rows", role.source) if n not in taken)
    taken.add(name)
    yield "        Many("
    yield f"            {name!r},"
    yield f"            {role.source},"
    yield f"            on={role.on},"
    yield from _list("joins", [f"        {_join(join)}" for join in role.joins], "            ")
    yield from _list("fields", _fields(role, set(), " " * 16), "            ")
    yield "        ),"


def _list(name: str, lines: Sequence[str], indent: str) -> list[str]:
    return [f"{indent}{name}=[", *lines, f"{indent}],"] if lines else []
