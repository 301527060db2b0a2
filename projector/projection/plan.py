"""A projection made ready: what the parts of the daemon ask of it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from projector.errors import ConfigurationError
from projector.model import TableName, Watch, merged
from projector.projection import clock
from projector.projection.assembly import assemble
from projector.projection.columns import ColumnType, TableTypes, Types
from projector.projection.declaration import OneOf, Projection
from projector.projection.descent import joined_to_one
from projector.projection.dialect import Dialect, Likeness, keys_mark, with_keys
from projector.projection.folding import Foldings
from projector.projection.graph import build
from projector.projection.keys import KeyCodec
from projector.projection.levels import Level, Rows
from projector.projection.nodes import Node, all_nodes, columns_in
from projector.projection.places import Placer
from projector.projection.routes import LookUp, Route, routes
from projector.projection.selects import levels, names_within
from projector.projection.values import Hashed, Manner, Moment, Passed
from projector.projection.views import Views, plan_views

_UNKNOWN = ColumnType("", "")
ENCODING_VERSION = 2  # raise when the same rows give other bytes: every document is then rebuilt


class Plan:
    """The SELECTs, routes and tables of one projection. Raises ConfigurationError."""

    def __init__(self, projection: Projection, dialect: Dialect) -> None:
        self.projection = projection
        self.dialect = dialect
        self.name = projection.name
        self.folds_names = False  # whether the server's names of tables ignore case; told by it
        self.root: Node = build(projection)
        self.codec = KeyCodec(self.root.key, dialect)
        self.top: Level = levels(projection, self.root, dialect)
        self.levels: list[Level] = self.top.all()
        self.routes: list[Route] = routes(self.root, self.codec, dialect)
        self.views: Views = plan_views(projection, self.levels, dialect)
        self._types: Types = {}
        self._foldings: Foldings = {}
        self._asked = self.levels  # with what views want beside the documents
        if self.views.columns:
            sql = levels(projection, self.root, dialect, self.views.columns).sql
            self._asked = [replace(self.top, sql=sql), *self.levels[1:]]
        self._check_types()
        self._check_document()

    def fitted(self, types: Types, foldings: Foldings = MappingProxyType({})) -> Plan:
        """Return the same plan for tables whose columns have these types: its ids and look-ups find
        what the server's comparisons of columns find, and so do its views."""
        other = copy.copy(self)
        for made in ("look_ups", "placer"):
            other.__dict__.pop(made, None)
        other._types, other._foldings = types, foldings
        key_types = [other.type_of(self.root, c.name) for c in self.root.key]
        other.codec = KeyCodec(self.root.key, self.dialect, key_types)
        return other

    def types_of(self, node: Node) -> TableTypes:
        """Return the types of a table's columns, by lower-case name; none where not `fitted`."""
        return self._types.get((node.table.schema, node.table.name), {})

    def type_of(self, node: Node, column: str) -> ColumnType | None:
        """Return the type of a column, if it is known."""
        return self.types_of(node).get(column.lower())

    @cached_property
    def placer(self) -> Placer:
        """What says where documents stand; of a plan that is `fitted`. Raises ConfigurationError
        where nobody can say which texts are one value."""
        return Placer(self.views, self.levels, self._column_type, self._foldings, self.dialect)

    def view_key_types(self) -> list[ColumnType]:
        """Return the types of texts that are keys of views, as far as they are known."""
        parts = [part for view in self.views.planned for part in view.parts if part.kind == "text"]
        found = [self._column_type(part.column) for part in parts if part.column is not None]
        return [kind for kind in found if kind is not None]

    def _column_type(self, column: sa.Column[Any]) -> ColumnType | None:
        node = next((n for n in self.all_nodes() if n.source is column.table), None)
        return self.type_of(node, column.name) if node is not None else None

    @cached_property
    def look_ups(self) -> Mapping[str, LookUp]:
        """All look-ups by name."""
        found: dict[str, LookUp] = {}
        for route in self.routes:
            both = ((route.columns, route.look_up), (route.key_columns, route.by_key))
            for own, look_up in both:
                if look_up is not None:
                    known = found.get(look_up.name, look_up).likenesses
                    alike = self._likeness(route.node, own, look_up)
                    found[look_up.name] = replace(
                        look_up,
                        codec=self.codec,
                        likenesses=known if alike in known else (*known, alike),
                    )
        return found

    def _likeness(self, node: Node, own: Sequence[str], look_up: LookUp) -> tuple[Likeness, ...]:
        pairs = [
            (self.type_of(node, mine), self.type_of(look_up.start, other))
            for mine, other in zip(own, look_up.columns, strict=True)
        ]
        alike = self.dialect.likeness
        return tuple(
            alike(mine, other) if mine and other else alike(_UNKNOWN, _UNKNOWN)
            for mine, other in pairs
        )

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the same rows would give other documents."""
        said = [str(ENCODING_VERSION), *(level.sql for level in self.levels)]
        said += [level.empty.decode() + level.signature for level in self.levels]
        said += [mask.key_mark() for mask in self.hashed]
        return hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]

    @property
    def hashed(self) -> list[Hashed]:
        """The fields that are masked by a keyed hash, at any depth."""
        return [field for field in self._declared if isinstance(field, Hashed)]

    def is_local(self, column: sa.Column[Any]) -> bool:
        """Whether a DATETIME in this column of a table is taken for the time of a zone, and so
        differs from a TIMESTAMP."""
        if self.projection.zone != Manner().zone:
            return True
        moments = [
            f.column for f in self._declared
            if isinstance(f, Moment | Passed) and f.zone is not None
        ]  # fmt: skip
        return any(read.base_columns & {column} for read in columns_in(moments))

    @cached_property
    def _declared(self) -> list[object]:
        """All declared fields, at any depth."""
        fields: list[object] = [*self.projection.fields]
        for node in self.all_nodes():
            declared: list[Any] = [node.declared] if node.declared is not None else []
            for inset in node.insets:
                found = inset.declared
                declared += found.of.values() if isinstance(found, OneOf) else [found]
            for each in declared:
                fields += getattr(each, "fields", ())
                fields += [getattr(each, "value", None), getattr(each, "key", None)]
        return fields

    @cached_property
    def field_names(self) -> list[str]:
        """The names of the document's fields, in order."""
        return names_within(self.root, self.projection.fields)

    def table_name(self, node: Node, default_schema: str) -> TableName:
        """Return the server's name of a node's table."""
        name = TableName(node.table.schema or default_schema, node.table.name)
        return name.folded(self.folds_names)

    def watches(self, default_schema: str) -> list[Watch]:
        """Return the tables whose changes matter, with the columns that routes need."""
        watches = []
        for route in self.routes:
            wanted = [*(c.name for c in route.node.key), *route.columns]
            table = self.table_name(route.node, default_schema)
            implied = self._implied(route.node, default_schema)
            columns = tuple(dict.fromkeys(wanted))
            read = frozenset(route.node.read) | set(wanted)
            watches.append(Watch(table, columns, read, implied=implied))
        return merged(watches)

    def _implied(
        self, node: Node, default_schema: str
    ) -> frozenset[tuple[TableName, frozenset[tuple[str, str]]]]:
        if node.parent is None:
            return frozenset()
        pairs = frozenset((own.name.lower(), other.name.lower()) for own, other in node.pairs)
        return frozenset({(self.table_name(node.parent, default_schema), pairs)})

    def all_nodes(self) -> list[Node]:
        """Return every table in every role, parents first."""
        return all_nodes(self.root)

    def queries(self, ids: Sequence[str]) -> list[str]:
        """Write the queries whose rows `documents` wants, in that order."""
        keys = [self.codec.to_values(document_id) for document_id in ids]
        return [level.query(keys, self.codec) for level in self._asked]

    @property
    def asked(self) -> Sequence[Level]:
        """The levels as they are asked for."""
        return self._asked

    def places(self, rows: Sequence[Rows]) -> tuple[dict[str, str], dict[str, str]]:
        """Return in which lists each document of the same rows stands; and the reasons by id where
        nobody can say."""
        return self.placer.places(rows, self.codec.to_id) if self.views.in_use else ({}, {})

    def documents(self, rows: Sequence[Rows]) -> tuple[dict[str, bytes], dict[str, str]]:
        """Make documents by id of the queries' rows, and reasons by id for what cannot be one."""
        return assemble(self.top, rows, self.codec)

    def at_one_moment(self) -> AbstractContextManager[None]:
        """Within, documents and their places are made as of one moment."""
        return clock.held() if self.views.timed else nullcontext()

    def ids_after(self, after: str | None, limit: int) -> str:
        """Write the query for the next ids in the order of keys, beyond `after`."""
        return f"{with_keys(self._ids_sql, self._beyond(after))} LIMIT {limit}"

    def ids_among(self, ids: Sequence[str]) -> str:
        """Write the query for those of `ids` that documents exist for."""
        keys = [self.codec.to_values(document_id) for document_id in ids]
        return with_keys(self._ids_sql, self.codec.among(self.top.key_names, keys))

    def cursor(self, after: str | None) -> Sequence[Any]:
        """Return the key to go on beyond; none, from the start, for an id that no row can have
        since the key's type has changed."""
        try:
            return self.codec.to_values(after) if after is not None else ()
        except ValueError:
            return ()

    def _beyond(self, after: str | None) -> str:
        return self.codec.beyond(self.top.key_names, self.cursor(after))

    @cached_property
    def _ids_sql(self) -> str:
        source: sa.FromClause = self.root.source
        statement = sa.select(*self.root.key).where(keys_mark()).order_by(*self.root.key)
        if self.projection.where is not None:
            source = joined_to_one(self.root)
            statement = statement.where(self.projection.where)
        return self.dialect.compile(statement.select_from(source))

    def count_query(self, after: str | None) -> str:
        """Write the query for the number of documents beyond `after`."""
        ids = with_keys(self._ids_sql, self._beyond(after))
        return f"SELECT COUNT(*) FROM ({ids}) AS counted"

    def to_id(self, row: Sequence[Any]) -> str:
        """Return the id of a row that begins with the root's key."""
        return self.codec.to_id(row)

    def _check_types(self) -> None:
        for declared in self._declared:
            kind = getattr(getattr(declared, "column", declared), "type", None)
            if kind is not None:
                self.dialect.require(kind)

    def _check_document(self) -> None:
        model = self.projection.document
        if model is None:
            return
        wanted = {f.alias or name for name, f in model.model_fields.items()}
        missing, unknown = wanted - set(self.field_names), set(self.field_names) - wanted
        if missing or unknown:
            raise ConfigurationError(
                f"the projection {self.name} does not fill {model.__name__}: "
                f"missing {sorted(missing)}, unknown {sorted(unknown)}",
                "Make the projection's fields and the model's the same.",
            )
