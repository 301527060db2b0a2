"""The queries that read documents, and how their rows become JSON.

One query for the root with all its to-one joins, one for each collection or aggregate, at any
depth: a constant number, whatever the number of documents. All are keyed by the root's ids alone,
so that they can be sent together. Pure: nothing here talks to a server.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.sql import functions

from projector.errors import ConfigurationError
from projector.projection.declaration import (
    Aggregate,
    Expression,
    Field,
    Fixed,
    Hashed,
    Many,
    Partial,
    Projection,
    expression_of,
)
from projector.projection.encoding import (
    Promises,
    Raw,
    RowWriter,
    SentRows,
    form_for,
    name_of,
    text,
)
from projector.projection.figures import form_for_figure, settled
from projector.projection.graph import Node, determines_id, joined_for, nodes_read
from projector.projection.keys import KeyCodec, literal

_KEYS = "/*keys*/TRUE"  # stands for the predicate in a compiled query
_DIALECT = mysql.dialect(paramstyle="named")  # named: a % in a query stays a single one
_NULL_OVER_NOTHING = {"sum", "min", "max", "avg", "group_concat"}

Rows = Sequence[Sequence[Raw]]
Statement = Any  # a sa.Select, whatever its columns' types
RowKey = Any  # the raw key value of a row, or the tuple of them


@dataclass(frozen=True, slots=True)
class Level:
    """The rows of the root, a collection or an aggregate: how to ask for and how to write them.

    A row is: the root's key, the enclosing collections' keys, the own key, the fields (slices
    `parent` and `own` are keys of rows; both begin with the root's key).
    """

    node: Node
    sql: str
    key_names: tuple[str, ...]
    key_width: int
    parent: Callable[[Sequence[Raw]], RowKey]
    own: Callable[[Sequence[Raw]], RowKey]
    writer: RowWriter
    before: bytes
    after: bytes
    empty: bytes  # without rows, unless one whose keys are all NULL (`nothing`) says otherwise
    nothing: RowKey
    is_object: bool
    signature: str
    children: tuple[Level, ...] = field(default=())

    def all(self) -> list[Level]:
        """Give this level and those below, in the order of queries."""
        return [self, *(level for child in self.children for level in child.all())]

    def query(self, keys: Sequence[Sequence[Any]], codec: KeyCodec) -> str:
        """Write the query for these keys of the root."""
        return self.sql.replace(_KEYS, codec.among(self.key_names, keys))


def compile_sql(statement: Statement) -> str:
    """Write a statement without parameters, in MySQL's and MariaDB's common dialect."""
    try:
        return str(_Compiler(_DIALECT, statement, compile_kwargs={"literal_binds": True}))
    except sa.exc.CompileError as error:
        raise ConfigurationError(
            f"a constant of the projection cannot be written in SQL: {str(error).split(';')[0]}",
            "Write a number, a text, bytes, a date or a time.",
        ) from None


class _Compiler(_DIALECT.statement_compiler):  # type: ignore[name-defined, misc]
    """Writes constants as they stand; refuses a parameter without one, which would be NULL."""

    def visit_bindparam(self, bindparam: Any, *arguments: Any, **options: Any) -> str:
        if bindparam.required and bindparam.callable is None:
            raise sa.exc.CompileError(f"the parameter {bindparam.key} has no value")
        return str(super().visit_bindparam(bindparam, *arguments, **options))

    def render_literal_value(self, value: Any, type_: Any) -> str:
        if isinstance(value, bytes):
            return literal(value)
        return str(super().render_literal_value(value, type_))


def keys_mark() -> sa.TextClause:
    """Give the predicate that `among` or another takes the place of."""
    return sa.text(_KEYS)


def with_keys(sql: str, predicate: str) -> str:
    """Put a predicate in place of the mark."""
    return sql.replace(_KEYS, predicate)


def spelled(column: sa.Column[Any]) -> str:
    """Write a column as in a compiled query."""
    return str(column.compile(dialect=_DIALECT))


def spelled_at(node: Node, name: str) -> str:
    """Write a column of a node as in a compiled query, also one that the projection leaves out."""
    column: Any = sa.column(name, _selectable=node.source)
    return str(column.compile(dialect=_DIALECT))


def levels(projection: Projection, root: Node) -> Level:
    """Plan all queries of a projection."""
    fields = list(projection.fields)
    names = [name_of(f) for f in fields]
    width = len(root.key)
    source: sa.FromClause = root.source
    for node in root.to_one:
        source = sa.outerjoin(source, node.source, node.on)
    columns = [*root.key, *map(expression_of, fields)]
    statement = sa.select(*_labelled(columns)).select_from(source).where(keys_mark())
    if projection.where is not None:
        statement = statement.where(projection.where)
    children = _children(root, width)
    _refuse_double(projection.name, [*names, *(n for c in children for n in _names(c))])
    key = _key_reader(0, width)
    return Level(
        node=root, sql=compile_sql(statement), key_names=tuple(spelled(c) for c in root.key),
        key_width=width, parent=key, own=key,
        writer=RowWriter(tuple(names), tuple(map(form_for, fields)), width),
        before=b"", after=b"", empty=b"", nothing=None, is_object=True,
        signature=_signature(fields), children=children,
    )  # fmt: skip


def _names(level: Level) -> list[str]:
    declared = level.node.declared
    if isinstance(declared, Many):
        return [declared.name]
    return [name_of(f) for f in declared.fields] if declared is not None else []


def _refuse_double(name: str, names: Sequence[str]) -> None:
    double = {n for n in names if names.count(n) > 1}
    if double or "" in names:
        raise ConfigurationError(
            f"{name}: fields without a name or with the same name: {sorted(double)}",
            'Give each its own: column.label("owner_name").',
        )


def _signature(fields: Sequence[Field]) -> str:
    """Spell names, types and masks: what the SQL does not show. A mask's key is named only."""
    said = []
    for declared in fields:
        if isinstance(declared, Fixed | Hashed | Partial):
            mask = repr(declared).replace(repr(declared.column), "")
            said.append(f"{name_of(declared)} {mask}")
        else:
            said.append(f"{name_of(declared)} {declared.type!r}")
    return "\n".join(said)


def _labelled(columns: Sequence[Expression]) -> list[Expression]:
    return [column.label(f"c{index}") for index, column in enumerate(columns)]


def _key_reader(first: int, end: int) -> Callable[[Sequence[Raw]], RowKey]:
    if end - first == 1:
        return lambda row: row[first]
    return lambda row: tuple(row[first:end])


def _children(base: Node, width: int) -> tuple[Level, ...]:
    return tuple(_level(child, width) for node in base.scope for child in node.children)


@dataclass(frozen=True, slots=True)
class Descent:
    """The way from the root down to a node: what to select from, the root's key as read there, and
    the conditions that no join in `source` says."""

    source: sa.FromClause
    keys: list[Expression]
    conditions: Sequence[Expression] = ()


def from_root(node: Node, read: Collection[Node] = ()) -> Descent:
    """Join the path from the root down to `node`, and `read` too. The root itself is left out where
    the topmost edge already holds its key; what else its condition says stays."""
    path = list(node.path())[::-1]
    root, top = path[0], path[1]
    own_by_parent = {other.key: own for own, other in top.pairs}
    joined = joined_for(node, read)
    bare = (
        top.declared is not None
        and determines_id(top.pairs, root)
        and root not in read
        and not any(other.parent is root for other in joined if other is not top)
        and root not in nodes_read(top, top.conditions)
    )
    first, *following = joined[1:] if bare else joined
    source = first.source
    for other in following:
        source = sa.join(source, other.source, other.on, isouter=other not in path)
    if not bare:
        return Descent(source, list(root.key))
    return Descent(source, [own_by_parent[c.key] for c in root.key], top.conditions)


def _level(node: Node, width: int) -> Level:
    declared = node.declared
    assert declared is not None
    assert node.parent is not None
    fields = _fields(declared)
    conditions = [
        (above, above.declared.where)
        for above in node.path()
        if above.declared is not None and above.declared.where is not None
    ]
    read = nodes_read(node, [*map(expression_of, fields), *getattr(declared, "order_by", ())])
    for above, condition in conditions:
        read |= nodes_read(above, [condition])
    descent = from_root(node, read | set(node.to_one))
    source, root_key = descent.source, descent.keys
    # All keys on the way, not the nearest: a row may hang on several rows of one document.
    enclosing = [above for above in node.parent.path() if above.declared is not None]
    keys = [*root_key, *(column for above in reversed(enclosing) for column in above.key)]
    children = _children(node, width) if isinstance(declared, Many) else ()
    own_key = list(node.key) if children else []
    if isinstance(declared, Aggregate):
        asked, forms = [settled(f, node.key) for f in fields], [form_for_figure(f) for f in fields]
    else:
        asked, forms = [expression_of(f) for f in fields], [form_for(f) for f in fields]
    columns = [*keys, *own_key, *asked]
    statement = sa.select(*_labelled(columns)).select_from(source).where(keys_mark())
    statement = statement.where(*descent.conditions, *(condition for _, condition in conditions))
    arranged: Statement = _arranged(statement, declared, node, keys, len(columns))
    if isinstance(declared, Aggregate) and not all(map(_is_known_over_nothing, fields)):
        arranged = sa.union_all(arranged, _over_nothing(source, keys, asked))
    first = len(keys) + len(own_key)
    names = [name_of(f) for f in fields]
    before, after, empty, is_object = _brackets(declared, names)
    if isinstance(declared, Many) and declared.value is None:  # a plain value needs no name
        _refuse_double(declared.name, [*names, *(n for c in children for n in _names(c))])
    plain = isinstance(declared, Many) and declared.value is not None
    writer = RowWriter(tuple(names), tuple(forms), first, _path_of(node), plain)
    return Level(
        node=node, sql=compile_sql(arranged),
        key_names=tuple(spelled(c) for c in root_key), key_width=width,  # type: ignore[arg-type]
        parent=_key_reader(0, len(keys)), own=_key_reader(0, first), writer=writer,
        before=before, after=after, empty=empty,
        nothing=_key_reader(0, len(keys))((None,) * len(keys)), is_object=is_object,
        signature=_signature(fields), children=children,
    )  # fmt: skip


def _path_of(node: Node) -> str:
    """Spell where the rows of a collection stand in the document; an aggregate's stand beside."""
    names = [n.declared.name for n in node.path() if isinstance(n.declared, Many)]
    return ".".join(reversed(names))


def _fields(declared: Many | Aggregate) -> list[Any]:
    if isinstance(declared, Aggregate):
        return list(declared.fields)
    if (declared.value is None) == (not declared.fields):
        raise ConfigurationError(
            f"{declared.name} needs either fields or a value", "Give one of the two."
        )
    if declared.value is not None and declared.collections:
        raise ConfigurationError(
            f"{declared.name} has a value and nested collections", "Give fields instead."
        )
    return [declared.value] if declared.value is not None else list(declared.fields)


def _brackets(declared: Many | Aggregate, names: Sequence[str]) -> tuple[bytes, bytes, bytes, bool]:
    if isinstance(declared, Aggregate):
        nothing = [
            text(name.encode()) + (b":0" if isinstance(_bare(f), functions.count) else b":null")
            for name, f in zip(names, declared.fields, strict=True)
        ]
        return b",", b"", b"," + b",".join(nothing), False
    label = b",%b:[" % text(declared.name.encode())
    return label, b"]", label + b"]", declared.value is None


def _is_known_over_nothing(expression: Expression) -> bool:
    function = _bare(expression)
    return isinstance(function, functions.count) or (
        isinstance(function, functions.FunctionElement)
        and getattr(function, "name", "") in _NULL_OVER_NOTHING
    )


def _over_nothing(
    source: sa.FromClause, keys: Sequence[Expression], fields: Sequence[Expression]
) -> Statement:
    """Ask for the one row that figures over no rows give. Its keys are NULL, of the keys' types."""
    columns = [*map(sa.func.max, keys), *fields]
    return sa.select(*_labelled(columns)).select_from(source).where(sa.false())


def _bare(expression: Expression) -> Expression:
    return expression.element if isinstance(expression, sa.Label) else expression


def _arranged(
    statement: sa.Select[Any],
    declared: Many | Aggregate,
    node: Node,
    keys: Sequence[Expression],
    width: int,
) -> sa.Select[Any]:
    """Group, or order and limit. Ties in the order are broken by the primary key."""
    if isinstance(declared, Aggregate):
        return statement.group_by(*keys)
    chosen = list(declared.order_by)
    ties = [c for c in node.key if not any(c is other for other in chosen)]
    order = [*chosen, *(c for c in ties if not any(c is key for key in keys))]
    if declared.limit is None:
        return statement.order_by(*keys, *order)
    rank = sa.func.row_number().over(partition_by=list(keys), order_by=order).label("n")
    ranked = statement.add_columns(rank).subquery("ranked")
    return (
        sa.select(*list(ranked.c)[:width])
        .where(ranked.c.n <= declared.limit)
        .order_by(*list(ranked.c)[: len(keys)], ranked.c.n)
    )


def assemble(
    top: Level, rows_by_level: Sequence[Rows], codec: KeyCodec
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Make documents by id of the rows of `top.all()`; and the reasons, by id, of those that
    have a value without a JSON form."""
    failed: dict[RowKey, str] = {}
    rows_of = {id(level): rows for level, rows in zip(top.all(), rows_by_level, strict=True)}
    below = [_grouped(child, rows_of, failed) for child in top.children]
    documents: dict[str, bytes] = {}
    rows = rows_of[id(top)]
    promises = _promises(rows)
    encode = top.writer.encoder(promises)
    for row in rows:
        key = top.own(row)
        try:
            fragment = encode(row)
        except ValueError:
            failed[key] = top.writer.reason(row, promises)
            continue
        if failed and key in failed:
            continue
        for groups, empty in below:
            fragment += groups.get(key, empty)
        parts = (key,) if top.key_width == 1 else key
        documents[codec.to_id(parts)] = b"{%b}" % fragment
    width = top.key_width
    reasons = {codec.to_id((k,) if width == 1 else k): why for k, why in failed.items()}
    return documents, reasons


def _grouped(
    level: Level, rows_of: Mapping[int, Rows], failed: dict[RowKey, str]
) -> tuple[dict[RowKey, bytes], bytes]:
    below = [_grouped(child, rows_of, failed) for child in level.children]
    lists: dict[RowKey, list[bytes]] = {}
    rows, parent, own = rows_of[id(level)], level.parent, level.own
    promises = _promises(rows)
    encode = level.writer.encoder(promises)
    root_key = _key_reader(0, level.key_width)
    for row in rows:
        try:
            fragment = encode(row)
        except ValueError:
            reason = level.writer.reason(row, promises)
            if parent(row) == level.nothing:
                column, _, why = reason.partition(": ")
                raise ConfigurationError(
                    f"figures over no rows of {level.node.source.description}: {why} ({column})",
                    "Give them another value over no rows.",
                ) from None
            failed[root_key(row)] = reason
            continue
        for groups, empty in below:
            fragment += groups.get(own(row), empty)
        lists.setdefault(parent(row), []).append(
            b"{%b}" % fragment if level.is_object else fragment
        )
    before, after = level.before, level.after
    groups = {key: before + b",".join(found) + after for key, found in lists.items()}
    return groups, groups.pop(level.nothing, level.empty)


def _promises(rows: Rows) -> Promises:
    return rows.promises if isinstance(rows, SentRows) else ()
