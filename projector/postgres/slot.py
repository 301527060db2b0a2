"""The replication slot and the publication: their making, and whether the log can be read on.

START_REPLICATION says nothing when it cannot do what it is asked: below `confirmed_flush_lsn` it
skips in silence, beyond the end of the log it waits in silence. Both are looked up here first.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Final

import structlog

from projector.errors import (
    OperatorError,
    PositionLostError,
    ProjectorError,
    RefusedError,
    TransientError,
)
from projector.ports import Patience
from projector.postgres.connection import NAME, Session
from projector.postgres.errors import IN_USE, MISSING_OBJECT, PEER, state_of
from projector.postgres.names import identifier, quoted
from projector.postgres.position import Position, parse_lsn
from projector.postgres.visibility import Snapshot

log = structlog.get_logger()

_OLDEST: Final = 140000  # earlier ones send no messages
_NEW_SYNTAX: Final = 150000
_FAILOVER: Final = 170000
_LONGEST_PAUSE_S: Final = 0.1
_SAID_AFTER_S: Final = 2.0  # shorter waits are everyday life
_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_STANDBYS = re.compile(r"\"([^\"]*)\"|([\w$.]+|\*)").finditer


@dataclass(frozen=True, slots=True)
class System:
    """Which cluster this is."""

    identifier: str
    timeline: int
    database: str
    version: int  # server_version_num


@dataclass(frozen=True, slots=True)
class Slot:
    """A row of pg_replication_slots. `status`: reserved, extended, unreserved or lost."""

    plugin: str
    database: str
    is_active: bool
    confirmed_lsn: int
    status: str


def identify(replication: Session) -> System:
    """Ask which cluster a connection leads to. Raises RefusedError for one without a log."""
    [[identifier, timeline, _, database]] = replication.ask("IDENTIFY_SYSTEM")
    [[version]] = replication.ask("SHOW server_version_num")
    [[level]] = replication.ask("SHOW wal_level")
    require_version(int(version))
    if level != "logical":
        raise RefusedError(
            f"PostgreSQL writes no log that rows can be read from (wal_level={level})",
            "Set wal_level=logical and restart it.",
        )
    [[standby]] = replication.ask("SHOW in_hot_standby")
    if standby == "on":
        raise RefusedError(
            "PROJECTOR_SOURCE__URL leads to a standby, where no replication slot can be made",
            "Name the primary there; PROJECTOR_SOURCE__READ_URL may be the standby's.",
        )
    return System(identifier, int(timeline), database, int(version))


def require_version(number: int) -> None:
    """Raise RefusedError for a server that is too old. `number`: its server_version_num."""
    if number < _OLDEST:
        raise RefusedError(
            "PostgreSQL before 14 does not send what is needed", "Upgrade it to 14 or later."
        )


def find(queries: Session, name: str) -> Slot | None:
    """Return the slot of this name."""
    rows = queries.ask(
        "SELECT plugin, database, active, coalesce(confirmed_flush_lsn, '0/0'),"
        f" coalesce(wal_status, 'lost') FROM pg_replication_slots WHERE slot_name = {quoted(name)}"
    )
    if not rows:
        return None
    [[plugin, database, active, confirmed, status]] = rows
    return Slot(str(plugin), str(database), active == "t", parse_lsn(confirmed), status)


def require_own(slot: Slot, name: str, system: System) -> None:
    """Raise OperatorError for another program's slot of our name."""
    if slot.plugin != "pgoutput" or slot.database != system.database:
        raise OperatorError(
            f"the replication slot {name} is another program's ({slot.plugin}, {slot.database})",
            "Give this daemon a slot of its own: PROJECTOR_SOURCE__SLOT.",
        )


def check(queries: Session, replication: Session, name: str, position: Position) -> System:
    """Raise PositionLostError when the log cannot be read on from `position`, with the reason."""
    system = identify(replication)
    if position.system != system.identifier:
        raise PositionLostError("the checkpoint is of another cluster, or of one before pg_upgrade")
    _check_timeline(replication, system, position)
    slot = find(queries, name)
    if slot is None:
        raise PositionLostError(f"the replication slot {name} is gone")
    require_own(slot, name, system)
    if slot.status == "lost":
        raise PositionLostError(f"the replication slot {name} has lost the log that it kept")
    if position.lsn > flushed_end(queries):
        raise PositionLostError("the log ends before the checkpoint: the cluster was restored")
    if position.lsn < slot.confirmed_lsn:
        raise PositionLostError("the log was confirmed beyond the checkpoint, by another reader")
    return system


def flushed_end(queries: Session) -> int:
    """Return the end of what the log has on disk."""
    [[end]] = queries.ask("SELECT pg_current_wal_flush_lsn()")
    return parse_lsn(end)


def _check_timeline(replication: Session, system: System, position: Position) -> None:
    """Raise PositionLostError when the position lies beyond where its timeline was left."""
    if position.timeline == system.timeline:
        return
    if position.timeline > system.timeline:
        raise PositionLostError("the checkpoint is of a later timeline: the cluster was restored")
    [[_, text]] = replication.ask(f"TIMELINE_HISTORY {system.timeline}")
    for line in str(text).splitlines():
        fields = line.split("\t")
        if len(fields) >= 2 and fields[0].strip() == str(position.timeline):
            if position.lsn > parse_lsn(fields[1].strip()):
                raise PositionLostError(
                    "the checkpoint holds what was never on the server that was promoted"
                )
            return
    raise PositionLostError("the checkpoint's timeline does not lead to this server")


def create(
    replication: Session, queries: Session, name: str, patience: Patience, *, failover: bool
) -> Position:
    """Make the slot anew; return the position that it begins at, with everything before it visible.

    A transaction that waits for a synchronous standby while the slot is made is never streamed and
    not seen by plain snapshots yet. The slot's own snapshot shows it, so it is waited for until a
    plain one shows as much. Raises TransientError when the patience ends.
    """
    system = identify(replication)
    _drop(queries, name, system)
    options = "LOGICAL pgoutput USE_SNAPSHOT"
    if system.version >= _NEW_SYNTAX:
        also = ", FAILOVER" if failover and system.version >= _FAILOVER else ""
        options = f"LOGICAL pgoutput (SNAPSHOT 'use'{also})"
    waiting = Waiting(patience, lambda: _who_writes(queries, replication))
    replication.run(_BEGIN)
    try:
        statement = f"CREATE_REPLICATION_SLOT {identifier(name)} {options}"
        [[_, lsn, *_]] = replication.ask(statement, on_tick=waiting.tick)
        born = snapshot(replication)
        replication.run("COMMIT")
    except BaseException:
        replication.cancel()  # or it would go on to wait, and nobody could make the slot
        raise
    finally:
        waiting.end()
    _wait_for(queries, born, patience)
    log.info("slot_created", slot=name, lsn=lsn)
    return Position(system.identifier, system.timeline, parse_lsn(lsn), seen=born.xmin,
                    published=born.xmin)  # fmt: skip


def _drop(queries: Session, name: str, system: System) -> None:
    slot = find(queries, name)
    if slot is None:
        return
    require_own(slot, name, system)
    if slot.is_active:
        raise in_use(name)
    try:
        queries.run(f"SELECT pg_drop_replication_slot({quoted(name)})")
    except ProjectorError as error:
        if state_of(error) == IN_USE:
            raise in_use(name) from error
        if state_of(error) != MISSING_OBJECT:
            raise


def in_use(name: str) -> TransientError:
    """Return what is said of a slot that somebody reads from."""
    return TransientError(
        PEER,
        f"the replication slot {name} is read by another process, or PostgreSQL has not noticed yet"
        " that the last one has gone (wal_sender_timeout)",
        answered=True,
    )


def snapshot(session: Session) -> Snapshot:
    """Return which transactions can be seen by now."""
    [[text]] = session.ask("SELECT pg_current_snapshot()")
    return Snapshot.parse(text)


def _wait_for(queries: Session, born: Snapshot, patience: Patience) -> None:
    waiting = Waiting(patience, lambda: "a commit to be seen that waits for a synchronous standby")
    pause_s = 0.001
    try:
        while not snapshot(queries).shows_as_much(born):
            waiting.tick()
            time.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
    finally:
        waiting.end()


def _who_writes(queries: Session, replication: Session) -> str:
    """Name the transactions that a slot's making waits for, as far as the account may see them."""
    rows = queries.ask(
        "SELECT pid FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
        f" AND pid <> {replication.raw.backend_pid} ORDER BY xact_start LIMIT 5"
    )
    pids = ", ".join(str(pid) for [pid] in rows)
    return "transactions to end that began before the replication slot" + (
        f" (processes {pids})" if pids else ""
    )


class Waiting:
    """One wait that somebody may be told of, by `cause`."""

    def __init__(self, patience: Patience, cause: Any) -> None:
        self._patience, self._cause = patience, cause
        self._since = time.monotonic()
        self._is_told = False

    def tick(self) -> None:
        """It goes on. Raises TransientError when the patience ends."""
        waited_s = time.monotonic() - self._since
        if self._patience.is_stopping() or waited_s > self._patience.seconds:
            raise TransientError(PEER, f"stopped while waiting for {self._cause()}")
        if waited_s > _SAID_AFTER_S and not self._is_told:
            self._is_told = True
            self._patience.on_wait(self._cause())

    def end(self) -> None:
        """It is over."""
        if self._is_told:
            self._patience.on_wait(None)


def require_asynchronous(queries: Session) -> None:
    """Raise OperatorError where commits would wait for this program, which confirms late."""
    [[names]] = queries.ask("SHOW synchronous_standby_names")
    if problem := synchronous_error(names):
        raise problem


def synchronous_error(synchronous_standby_names: str) -> OperatorError | None:
    """Return what is wrong where commits would wait for this program."""
    found = _STANDBYS(synchronous_standby_names)
    if {each[1] or each[2].lower() for each in found}.isdisjoint({"*", NAME}):
        return None
    return OperatorError(
        "PostgreSQL would take the reader of its log for a synchronous standby"
        f" ({synchronous_standby_names}), and commits would wait for it",
        f"Name the standbys in synchronous_standby_names, instead of * and {NAME}.",
    )
