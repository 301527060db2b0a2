"""What `projector explain` asks of MySQL and MariaDB. Only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import URL

from projector.databases import Mysql
from projector.indexes import Explained
from projector.mysql.advice import quoted
from projector.mysql.columns import fitted
from projector.mysql.connection import Connection, engine
from projector.mysql.dialect import MYSQL
from projector.mysql.indexes import are_numbers, explained, native, spelled
from projector.mysql.literals import literal
from projector.projection import Plan
from projector.projection.keys import KeyCodec, among
from projector.projection.routes import Route


@contextmanager
def explainer(url: URL, settings: Mysql, plan: Plan) -> Iterator[Explainer]:
    """Ask where documents are read. Raises OperatorError, TransientError."""
    connection = Connection(engine(url, settings))
    try:
        yield Explainer(plan, connection)
    finally:
        connection.close()


class Explainer:
    """Implements `commands.explain.Explainer`."""

    def __init__(self, plan: Plan, connection: Connection) -> None:
        self.plan, self._connection = plan, connection

    def fitted(self) -> Plan:
        """Return the plan for the types that its tables have now."""
        return fitted(self.plan, self._connection)

    def explained(self) -> list[Explained]:
        """Explain the projection's queries, then its look-ups."""
        return explained(self.plan, self._connection)

    def rows(self, sql: str) -> Sequence[Sequence[Any]]:
        """Run a query."""
        [rows] = self._connection.query_raw(sql)
        return rows

    def row(self, route: Route, key: str) -> Sequence[Any] | None:
        """Return the columns that a route begins with, of the row of a key; None where there is
        none. Raises ValueError for what is no key."""
        node = route.node
        values = KeyCodec(node.key, MYSQL).to_values(key)
        columns = ", ".join(map(quoted, route.columns))
        names = [quoted(name) for name in route.key_columns]
        where = among(names, [values], [literal] * len(values))
        found = self.rows(f"SELECT {columns} FROM {spelled(node)} WHERE {where}")
        numbers = are_numbers(node, route.columns)
        return tuple(map(native, found[0], numbers)) if found else None
