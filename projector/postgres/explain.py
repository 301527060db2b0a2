"""What `projector explain` asks of PostgreSQL. Only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from projector.databases import Source
from projector.errors import ValueRefusedError
from projector.indexes import Explained
from projector.postgres.checks.asking import Asker
from projector.postgres.indexes import explained, fitted, values_of
from projector.postgres.names import identifier, spelled
from projector.projection import Plan
from projector.projection.keys import KeyCodec
from projector.projection.routes import Route


@contextmanager
def explainer(source: Source, plan: Plan) -> Iterator[Explainer]:
    """Ask where documents are read. Raises OperatorError, TransientError."""
    asker = Asker(source, reads=True)
    try:
        yield Explainer(plan, asker, source.default_schema)
    finally:
        asker.close()


class Explainer:
    """Implements `commands.explain.Explainer`."""

    def __init__(self, plan: Plan, asker: Asker, schema: str) -> None:
        self.plan, self._asker, self._schema = plan, asker, schema

    def fitted(self) -> Plan:
        """Return the plan for the types that its tables have now."""
        return fitted(self.plan, self._asker)

    def explained(self) -> list[Explained]:
        """Explain the projection's queries, then its look-ups."""
        return explained(self.plan, self._asker, self._schema)

    def rows(self, sql: str) -> Sequence[Sequence[Any]]:
        """Run a query."""
        return values_of(self._asker, sql)

    def row(self, route: Route, key: str) -> Sequence[Any] | None:
        """Return the columns that a route begins with, of the row of a key; None where there is
        none. Raises ValueError for what is no key."""
        node, plan = route.node, self.fitted()
        codec = KeyCodec(node.key, plan.dialect, [plan.type_of(node, c.name) for c in node.key])
        where = codec.among([identifier(c.name) for c in node.key], [codec.to_values(key)])
        columns = ", ".join(map(identifier, route.columns))
        table = spelled(plan.table_name(node, self._schema))
        try:
            found = self.rows(f"SELECT {columns} FROM {table} WHERE {where}")
        except ValueRefusedError:
            raise ValueError(f"no value of the key is {key}") from None
        return found[0] if found else None
