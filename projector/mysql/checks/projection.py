"""A projection on the servers that it is for: its queries, masks, size and checkpoint."""

from __future__ import annotations

import re

from projector.checks import Check, failed, ok
from projector.databases import Mysql
from projector.fetch import Fetcher
from projector.indexes import role
from projector.model import Need
from projector.mysql.advice import UNLIKE
from projector.mysql.barrier import LockedRows
from projector.mysql.binlog.connection import connect, identify
from projector.mysql.binlog.start import check as check_start
from projector.mysql.checks.asking import Asker, Refusal
from projector.mysql.columns import fitted
from projector.mysql.position import Flavour, Position
from projector.mysql.reader import MysqlReader
from projector.projection import Plan
from projector.projection.declaration import Aggregate
from projector.projection.levels import Level

_NONE = Position(Flavour.MYSQL, "", "", 0, None)  # without changes: as of now
_STRICTLY = "SET SESSION sql_mode='ONLY_FULL_GROUP_BY'"
_COLUMN = re.compile(r"'(?:[^'.]+\.)?([^'.]+)\.[^'.]+'")  # 'database.alias.column', in its text
_UNGROUPED = {1055, 1140}  # ER_WRONG_FIELD_WITH_GROUP, ER_MIX_OF_GROUP_FUNC_AND_FIELDS
_UNLIKE = {1267, 1270, 1271, 4078}  # collations; types (MariaDB's own)
_SYNTAX = 1064  # ER_PARSE_ERROR
_SAMPLE = 200  # documents made to learn their size


def queries(plan: Plan, asker: Asker) -> Check:
    """Have the server parse every query and look-up, for no document.

    Strictly grouped: an aggregate function where rows are meant would otherwise be taken.
    """
    name = f"{plan.name}.queries"
    plan = fitted(plan, asker.connection)
    if strange := [x for x in plan.look_ups.values() if not x.is_known]:
        return failed(name, f"{strange[0].name} compares what cannot be compared", UNLIKE)
    levels = {role(level.node): level for level in plan.asked}
    statements = {title: level.query([], plan.codec) for title, level in levels.items()}
    statements |= {found.name: found.query([], (), 1) for found in plan.look_ups.values()}
    statements[f"{plan.root.table.name} ids"] = plan.ids_among([])
    for title, sql in statements.items():
        answer = asker.attempt(_STRICTLY, sql)
        if isinstance(answer, Refusal) and _is_known_better(answer, levels.get(title)):
            answer = asker.attempt(sql)
        if isinstance(answer, Refusal):
            return failed(
                name,
                f"the query for {title} is refused ({answer.code}: {answer.text})",
                _remedy(answer, sql),
            )
    asker.connection.close()  # and with it the session's mode
    return ok(name, f"the server takes all {len(statements)} queries")


def _remedy(answer: Refusal, sql: str) -> str:
    if answer.code in _UNGROUPED:
        return (
            "Figures over several rows belong into an Aggregate, each column in one of its"
            " functions."
        )
    if answer.code in _UNLIKE or (answer.code == _SYNTAX and "JSON_TABLE" in sql):
        return UNLIKE  # the latter: MariaDB before 10.6
    return "Mend the projection; or the privileges, where access is denied."


def _is_known_better(answer: Refusal, level: Level | None) -> bool:
    """Whether a column of an enclosing table is refused, which the keys determine: MariaDB does not
    know what depends on what, and no server knows it of a table without a unique key."""
    if level is None or not isinstance(level.node.declared, Aggregate):
        return False
    named = _COLUMN.search(answer.text)
    own = {node.source.description.lower() for node in level.node.scope}
    return answer.code in _UNGROUPED and (named is None or named[1].lower() not in own)


def mean_bytes(plan: Plan, asker: Asker) -> float:
    """Make some documents; give their mean size, 0 where there are none."""
    plan, anything = fitted(plan, asker.connection), Need(_NONE)
    fetcher = Fetcher(plan, MysqlReader(asker.connection, LockedRows({})))
    ids = fetcher.ids_after(None, _SAMPLE, anything)
    documents = fetcher.documents(ids, anything).documents
    return sum(map(len, documents.values())) / max(1, len(documents))


def check_position(mysql: Mysql, position: Position) -> None:
    """Raise PositionLostError where the log cannot be read on from there."""
    with connect(mysql) as connection:
        check_start(connection, mysql, identify(connection), position)
