"""A projection on the servers that it is for: its queries, masks, size and checkpoint."""

from __future__ import annotations

import os
import re

from projector.checks import Check, failed, ok, warning
from projector.errors import ConfigurationError, PositionLostError
from projector.fetch import Fetcher
from projector.model import Need
from projector.mysql.advice import unlike
from projector.mysql.barrier import LockedRows
from projector.mysql.binlog.connection import connect, identify
from projector.mysql.binlog.start import check as check_start
from projector.mysql.checks.asking import Asker, Refusal
from projector.mysql.columns import fitted
from projector.mysql.indexes import explained, role
from projector.mysql.position import Flavour, Position
from projector.mysql.reader import MysqlReader
from projector.projection import Plan
from projector.projection.declaration import Aggregate
from projector.projection.levels import Level
from projector.settings import Settings

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
        return failed(name, f"{strange[0].name} compares what cannot be compared", unlike())
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
        return unlike()  # the latter: MariaDB before 10.6
    return "Mend the projection; or the privileges, where access is denied."


def _is_known_better(answer: Refusal, level: Level | None) -> bool:
    """Whether a column of an enclosing table is refused, which the keys determine: MariaDB does not
    know what depends on what, and no server knows it of a table without a unique key."""
    if level is None or not isinstance(level.node.declared, Aggregate):
        return False
    named = _COLUMN.search(answer.text)
    own = {node.source.description.lower() for node in level.node.scope}
    return answer.code in _UNGROUPED and (named is None or named[1].lower() not in own)


def views(plan: Plan, asker: Asker) -> list[Check]:
    """Test that it is known which values of views' keys are one."""
    if not plan.views.planned:
        return []
    name = f"{plan.name}.views"
    try:
        mark = fitted(plan, asker.connection).placer.mark
    except ConfigurationError as error:
        return [failed(name, error.message, error.remedy)]
    return [ok(name, f"{len(plan.views.planned)} views: {mark}")]


def indexes(plan: Plan, asker: Asker) -> list[Check]:
    """Test that every query and look-up has the indexes that it seeks by."""
    name = f"{plan.name}.indexes"
    found = dict.fromkeys(m for e in explained(plan, asker.connection) for m in e.missing)
    return [
        warning(name, f"{missing.detail}, at each change along this join", missing.fix)
        for missing in found
    ] or [ok(name, "every look-up and join has an index")]


def masks(plan: Plan) -> list[Check]:
    """Test that every mask has its key."""
    wanted = {mask.key_variable for mask in [*plan.hashed, *plan.views.masks]}
    return [
        failed(
            f"{plan.name}.masks", f"{variable} is not set", "Set it to the key that masks a column."
        )
        for variable in sorted(wanted)
        if not os.environ.get(variable)
    ]


def mean_bytes(plan: Plan, asker: Asker) -> float:
    """Make some documents; give their mean size, 0 where there are none."""
    plan, anything = fitted(plan, asker.connection), Need(_NONE)
    fetcher = Fetcher(plan, MysqlReader(asker.connection, LockedRows({})))
    ids = fetcher.ids_after(None, _SAMPLE, anything)
    documents = fetcher.documents(ids, anything).documents
    return sum(map(len, documents.values())) / max(1, len(documents))


def checkpoint(settings: Settings, plan: Plan, fields: dict[str, str]) -> list[Check]:
    """Return what the daemon will do with what is stored: go on, or rebuild."""
    if "position" not in fields:
        return [ok(f"{plan.name}.checkpoint", "none: the first run builds all documents")]
    return [_fingerprint(settings, plan, fields), _position(settings, plan, fields["position"])]


def _fingerprint(settings: Settings, plan: Plan, fields: dict[str, str]) -> Check:
    name, stored = f"{plan.name}.fingerprint", fields.get("fingerprint", "")
    if stored == plan.fingerprint:
        return ok(name, f"{stored}: the stored documents were made with this projection")
    if settings.reconcile.on_projection_change == "stop":
        return failed(
            name,
            "the stored documents were made with another projection, and"
            " PROJECTOR_RECONCILE__ON_PROJECTION_CHANGE is stop",
            "Set it to resync for one run, or go back to the other projection.",
        )
    return ok(name, "the stored documents were made with another projection: all are rebuilt")


def _position(settings: Settings, plan: Plan, text: str) -> Check:
    name = f"{plan.name}.position"
    try:
        position = Position.parse(text)
    except ValueError:
        return failed(
            name,
            "the checkpoint in Redis cannot be read by this version",
            f"Go back to the version that wrote it, or DEL {{{plan.name}}}:checkpoint to build"
            " all documents again.",
        )
    try:
        with connect(settings.mysql) as connection:
            check_start(connection, settings.mysql, identify(connection), position)
    except PositionLostError as error:
        if settings.mysql.on_position_lost == "stop":
            return failed(
                name,
                f"the log cannot be read on from the checkpoint: {error}",
                "Set PROJECTOR_MYSQL__ON_POSITION_LOST=resync to have all documents compared.",
            )
        return warning(
            name,
            f"the log cannot be read on from the checkpoint: {error}",
            "Nothing to do, if this is meant: the next run compares all documents and mends them.",
        )
    return ok(name, "the log can be read on from the checkpoint")
