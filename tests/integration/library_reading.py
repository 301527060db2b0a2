"""Reading a server's log with mysql-replication: the oracle that our reader is compared with."""

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from projector.model import MISSING, Change, Kind, RowsChange
from projector.mysql.position import Position
from tests.servers import DatabaseServer

Flat = tuple[str, Any, Any]  # kind, row before, row after


def flat(changes: Sequence[Change]) -> list[Flat]:
    """One entry a changed row, however the log cuts rows into events."""
    rows: list[Flat] = []
    for change in changes:
        if not isinstance(change, RowsChange):
            rows.append((change.reason, None, None))
        elif change.kind is Kind.INSERT:
            rows += [("insert", None, row) for row in change.after]
        elif change.kind is Kind.DELETE:
            rows += [("delete", row, None) for row in change.before]
        else:
            pairs = zip(change.before, change.after, strict=True)
            rows += [("update", before, after) for before, after in pairs]
    return rows


def library_rows(
    server: DatabaseServer, schema: str, columns: Sequence[str], start: Position, end: Position
) -> Iterator[Flat]:
    """What the library reads of a schema between two places of one file of the log."""
    assert start.file == end.file
    stream = BinLogStreamReader(
        connection_settings={
            "host": server.host, "port": server.port, "user": server.user,
            "password": server.password,
        },
        server_id=98, log_file=start.file, log_pos=start.offset, resume_stream=True, blocking=False,
        only_schemas=[schema], only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
    )  # fmt: skip
    try:
        for event in stream:
            for row in event.rows:
                yield _flat(event, row, columns)
    finally:
        stream.close()


def _flat(event: Any, row: Mapping[str, Any], columns: Sequence[str]) -> Flat:
    if isinstance(event, UpdateRowsEvent):
        before = _picked(row["before_values"], row["before_none_sources"], columns)
        return "update", before, _picked(row["after_values"], row["after_none_sources"], columns)
    values = _picked(row["values"], row["none_sources"], columns)
    is_insert = isinstance(event, WriteRowsEvent)
    return ("insert", None, values) if is_insert else ("delete", values, None)


def _picked(values: Mapping[str, Any], reasons: Mapping[str, str], columns: Sequence[str]) -> Any:
    return tuple(
        MISSING if reasons.get(name) == "cols bitmap" else _Odd(reasons[name])
        if reasons.get(name, "null") != "null" else values[name]
        for name in columns
    )  # fmt: skip


class _Odd(str):
    """A value that the library gives as None, by its reason."""


def same(ours: Any, theirs: Any) -> bool:
    """Whether a value of ours is the same as one of the library, whose types differ."""
    if ours is MISSING or theirs is MISSING or ours is None or theirs is None:
        return ours is theirs
    if isinstance(theirs, _Odd):  # a date that Python does not have, or no member of a set
        return ours == "" or "-00" in str(ours)
    if isinstance(theirs, set):
        return set(ours.split(",")) == theirs
    if isinstance(ours, int) and isinstance(theirs, str):
        return ours == int(theirs, 2)  # BIT
    if isinstance(theirs, datetime.datetime):
        if ours.startswith("0000-00-00"):
            return theirs == datetime.datetime(1970, 1, 1)  # a TIMESTAMP of zero
        return datetime.datetime.fromisoformat(ours) == theirs
    if isinstance(theirs, datetime.date):
        return datetime.date.fromisoformat(ours) == theirs
    if isinstance(theirs, datetime.timedelta):
        return _interval(ours) == theirs
    if isinstance(ours, bytes):
        return ours == (theirs or b"")
    if isinstance(theirs, Decimal):
        return isinstance(ours, Decimal) and ours == theirs
    return type(ours) is type(theirs) and (ours == theirs or (ours, theirs) == (0, 1900))  # YEAR


def _interval(text: str) -> datetime.timedelta:
    found = re.fullmatch(r"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d+))?", text)
    assert found is not None, text
    sign, hours, minutes, seconds, fraction = found.groups()
    span = datetime.timedelta(
        hours=int(hours), minutes=int(minutes), seconds=int(seconds),
        microseconds=int((fraction or "").ljust(6, "0")),
    )  # fmt: skip
    return -span if sign else span
