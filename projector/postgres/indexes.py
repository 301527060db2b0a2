"""What PostgreSQL is asked of a projection's indexes: its catalog, and EXPLAIN.

No index stands behind a foreign key unless somebody has made it. Whether one serves the planner
alone knows: where it reads a table whole, which is right for few rows, it is asked once more with
every way made dear but bitmaps, which are never made without a condition on the index.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from projector.errors import TooMuchError, ValueRefusedError
from projector.indexes import SAMPLE, Compared, Explained, Lack, Step, Wanted
from projector.indexes import explained as explained_by
from projector.model import TableName
from projector.postgres.advice import UNLIKE, index
from projector.postgres.catalog import types_of
from projector.postgres.checks.asking import Asker
from projector.postgres.dialect import settings_of
from projector.postgres.names import LONGEST, identifier, quoted, spelled
from projector.projection import Plan
from projector.projection.columns import ColumnType
from projector.projection.nodes import Node
from projector.projection.routes import LookUp

_COUNTED = 100_000  # rows that are counted one by one
_SAMPLING_S = 3  # to find values that a look-up is explained for
_SEEKING = {"btree", "hash"}  # methods of access that find equal values
_WAYS = "seqscan indexscan indexonlyscan hashjoin mergejoin material memoize".split()
_DEAR = [f"SET LOCAL enable_{way} = off" for way in _WAYS]
_CONDITIONS = ("Index Cond", "Recheck Cond", "Hash Cond", "Join Filter", "Filter")
_INVENTED = {
    "uuid": "00000000-0000-0000-0000-000000000000", "date": "2000-01-01", "time": "00:00",
    "timestamp": "2000-01-01", "timestamptz": "2000-01-01", "inet": "::", "cidr": "::",
    "macaddr": "00:00:00:00:00:00", "bytea": b"",
    **dict.fromkeys("int2 int4 int8 oid numeric float4 float8 bool bit".split(), 0),
}  # fmt: skip


def explained(plan: Plan, asker: Asker, schema: str) -> list[Explained]:
    """Explain the projection's queries, then its look-ups. `schema`: of tables that are named
    without one."""
    plan = fitted(plan, asker)
    return explained_by(plan, Planner(plan, asker, schema))


def fitted(plan: Plan, asker: Asker) -> Plan:
    """Return the plan for the types that its tables have now."""
    return plan.fitted(types_of([plan], asker.session), {})


class Planner:
    """Implements `indexes.Planner`."""

    UNLIKE = UNLIKE

    def __init__(self, plan: Plan, asker: Asker, schema: str) -> None:
        self._plan, self._asker = plan, asker
        self._table = {node: plan.table_name(node, schema) for node in plan.all_nodes()}
        self._catalog = {table: _look(asker, table) for table in set(self._table.values())}

    def sample(self) -> list[Sequence[Any]]:
        """Return the keys of some documents; invented where there are none."""
        plan = self._plan
        rows = values_of(self._asker, plan.ids_after(None, SAMPLE))
        invented = self._invented(plan.root, [column.name for column in plan.root.key])
        return [plan.codec.to_values(plan.to_id(row)) for row in rows] or [invented]

    def values(self, look_up: LookUp) -> list[Sequence[Any]]:
        """Return values that a look-up begins with; invented where there are none."""
        columns = [identifier(name) for name in look_up.columns]
        known = " AND ".join(f"{column} IS NOT NULL" for column in columns)
        sql = f"SELECT {', '.join(columns)} FROM {spelled(self._table[look_up.start])}"
        try:
            rows = values_of(self._asker, f"{sql} WHERE {known} LIMIT {SAMPLE}", _SAMPLING_S)
        except TooMuchError:  # none among very many rows
            rows = []
        return [*rows] or [self._invented(look_up.start, look_up.columns)]

    def compared(self, look_up: LookUp) -> Compared:
        """Return what the columns that a look-up begins with are compared with."""
        found: dict[str, list[ColumnType]] = {name: [] for name in look_up.columns}
        for likenesses in look_up.likenesses:
            alike: Any = likenesses  # this dialect's own
            for name, likeness in zip(look_up.columns, alike, strict=True):
                found[name].append(likeness.own)
        return found

    def steps(self, sql: str) -> list[Step]:
        """Return how the server reads each table; nothing where a value that was invented is none
        of its type."""
        return self._steps(sql, [])

    def lack(self, node: Node, wanted: Wanted, sql: str, steps: Sequence[Step]) -> Lack | None:
        """Return what keeps the query from seeking in the table of a node."""
        indexes = self._catalog[self._table[node]]["indexes"] or []
        begun = [i for i in indexes if wanted.is_begun_by(i["columns"], str)]
        whole = any(not index["is_partial"] for index in begun)
        if not begun:
            return Lack.MISSING
        partial = {index["name"] for index in begun if index["is_partial"]}
        if self._serves(node, steps, partial, whole=whole):
            return None
        if self._serves(node, self._steps(sql, _DEAR), partial, whole=whole):
            return None
        return Lack.UNFIT if whole else Lack.MISSING

    def remedy(self, node: Node, wanted: Wanted) -> str:
        """Write the statement that makes an index, or say why none would help."""
        table = self._table[node]
        is_partitioned = self._catalog[table]["kind"] == "p"
        types = self._plan.types_of(node)
        return index(table, wanted, types, self._taken, is_partitioned=is_partitioned)

    def table(self, node: Node) -> TableName:
        """Return the server's name of a node's table."""
        return self._table[node]

    def count(self, table: TableName) -> int:
        """Count the rows where that is done at once; the server's estimate may be old."""
        some = f"SELECT 1 FROM {spelled(table)} LIMIT {_COUNTED + 1}"
        [[count]] = self._asker.rows(f"SELECT count(*) FROM ({some}) counted")
        estimate = int(self._catalog[table]["rows"])
        return int(count) if int(count) <= _COUNTED else max(int(count), estimate)

    @cached_property
    def _taken(self) -> set[str]:
        rows = self._asker.rows("SELECT lower(relname) FROM pg_class WHERE relname LIKE 'ix\\_%'")
        return {name for [name] in rows}

    def _steps(self, sql: str, settings: Sequence[str]) -> list[Step]:
        opening = ["BEGIN READ ONLY", *settings, *settings_of(sql)]
        explain = f"EXPLAIN (FORMAT JSON, VERBOSE) {sql}"
        try:
            *_, answer, _ = self._asker.session.run(*opening, explain, "COMMIT")
        except ValueRefusedError:
            self._asker.close()
            return []
        except BaseException:
            self._asker.close()
            raise
        [[text]] = answer
        return list(_scans(json.loads(text or b"[]")[0]["Plan"]))

    def _serves(self, node: Node, steps: Sequence[Step], partial: set[str], *, whole: bool) -> bool:
        own = [step for step in steps if self._is_of(step, node)]
        if whole and not own:
            return True  # it is not read at all, and nothing speaks against an index
        return any(step["condition"] and (whole or step["key"] in partial) for step in own)

    def _is_of(self, step: Step, node: Node) -> bool:
        """Whether a step reads the table of a node. Partitions have names of their own, and the
        alias with a number."""
        alias = node.source.description.encode()[:LONGEST].decode(errors="ignore")
        if step["relation"] == self._table[node].name:
            return bool(step["table"] == alias)
        return re.fullmatch(rf"{re.escape(alias)}(_\d+)?", step["table"]) is not None

    def _invented(self, node: Node, names: Sequence[str]) -> tuple[Any, ...]:
        kinds = [self._plan.type_of(node, name) for name in names]
        return tuple(_INVENTED.get(kind.kind, "") if kind else "" for kind in kinds)


def _look(asker: Asker, table: TableName) -> Mapping[str, Any]:
    """Look a table up; of one that is not there its first query tells."""
    names = {"schema": quoted(table.schema), "name": quoted(table.name)}
    found = asker.objects(_CATALOG.format(**names))
    return found[0] if found else {"kind": "", "rows": 0, "indexes": None}


def values_of(asker: Asker, sql: str, timeout_s: float = 0) -> list[tuple[Any, ...]]:
    """Run a query; return values as look-ups and ids want them: as those of the log. Raises
    TooMuchError where it takes longer than `timeout_s` (0: however long)."""
    session = asker.session
    limit = f"SET LOCAL statement_timeout = {round(timeout_s * 1000)}"
    try:
        *_, answer, _ = session.run("BEGIN READ ONLY", limit, sql, "COMMIT")
        session.kinds.need(answer.oids, session.ask)
    except BaseException:
        asker.close()
        raise
    readers = [session.kinds.reader(oid) for oid in answer.oids]
    return [
        tuple(
            None if value is None else read(bytes(value))
            for read, value in zip(readers, row, strict=True)
        )
        for row in answer
    ]


def _scans(plan: Mapping[str, Any]) -> Iterator[Step]:
    """Yield the reads of tables in a plan, in its order."""
    below = plan.get("Plans", ())
    if "Relation Name" in plan:
        bitmaps = list(_bitmaps(below))
        names = [part["Index Name"] for part in [plan, *bitmaps] if "Index Name" in part]
        sought = [part["Index Cond"] for part in [plan, *bitmaps] if "Index Cond" in part]
        said = {name: plan[name] for name in _CONDITIONS if name in plan}
        yield {
            "table": plan["Alias"],
            "relation": plan["Relation Name"],
            "type": plan["Node Type"],
            "key": " and ".join(names) or None,
            "condition": " and ".join(sought) or None,
            "rows": plan["Plan Rows"],
            "cost": plan["Total Cost"],
            "extra": "; ".join(f"{name}: {value}" for name, value in said.items()),
        }
    for child in below:
        yield from _scans(child)


def _bitmaps(plans: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for plan in plans:
        if plan["Node Type"].startswith("Bitmap"):
            yield plan
            yield from _bitmaps(plan.get("Plans", ()))


# An expression in an index has no column: it is an empty name. Of a partitioned table the rows are
# those of its leaves.
_CATALOG = f"""
SELECT c.relkind AS kind,
  (SELECT coalesce(sum(greatest(l.reltuples, 0)), 0)::int8 FROM pg_class l WHERE l.oid = c.oid
    OR l.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf)) AS rows,
  (SELECT jsonb_agg(jsonb_build_object('name', x.relname, 'is_partial', i.indpred IS NOT NULL,
      'columns', (SELECT jsonb_agg(coalesce(a.attname, '') ORDER BY k.place)
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0
        WHERE k.place <= i.indnkeyatts)))
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    WHERE i.indrelid = c.oid AND i.indisvalid
      AND m.amname IN ({", ".join(map(quoted, sorted(_SEEKING)))})) AS indexes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {{schema}} AND c.relname = {{name}}"""
