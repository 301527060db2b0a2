"""How the replication slot stands: what it keeps, and how much longer it is safe.

A slot keeps the server's log, and old rows of its catalog, for whoever reads from it, also while
nobody does.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from projector import metrics
from projector.postgres.connection import Session
from projector.postgres.names import quoted

STATES = ("reserved", "extended", "unreserved", "lost")  # of wal_status (manual, 54.19)

# As JSON: of columns that an older server does not have there is nothing.
_SLOT = """
SELECT to_jsonb(s) || jsonb_build_object(
  'retained', pg_wal_lsn_diff(e.lsn, s.restart_lsn),
  'unconfirmed', pg_wal_lsn_diff(e.lsn, s.confirmed_flush_lsn),
  'age', age(s.catalog_xmin))
FROM pg_replication_slots s,
  (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
    ELSE pg_current_wal_lsn() END AS lsn) e
WHERE s.slot_name = {}"""


@dataclass(frozen=True, slots=True)
class Figures:
    """A slot. Bytes are NaN where there is nothing to say; `safe_bytes` is infinite where the
    server sets no limit. `process`: its pid that sends the log, 0: nobody reads."""

    plugin: str
    database: str
    process: int
    status: str
    reason: str
    retained_bytes: float
    unconfirmed_bytes: float
    safe_bytes: float
    catalog_age: float
    is_kept_on_standbys: bool

    @property
    def is_active(self) -> bool:
        """Whether somebody reads from it."""
        return self.process != 0

    @property
    def is_lost(self) -> bool:
        """Whether nobody can read from it any more."""
        return self.status == "lost" or bool(self.reason)


def figures(session: Session, slot: str) -> Figures | None:
    """Ask how a slot stands; None where there is none."""
    rows = session.ask(_SLOT.format(quoted(slot)))
    if not rows:
        return None
    found = json.loads(rows[0][0])
    status, safe = str(found.get("wal_status") or "lost"), found.get("safe_wal_size")
    return Figures(
        str(found["plugin"]),
        str(found["database"]),
        int(found.get("active_pid") or 0),
        status,
        str(found.get("invalidation_reason") or ""),
        _number(found["retained"]),
        _number(found["unconfirmed"]),
        float(safe) if safe is not None else 0.0 if status == "lost" else math.inf,
        _number(found["age"]),
        bool(found.get("failover")),
    )


def show(session: Session, slot: str) -> None:
    """Ask how a slot stands, and tell it to whoever reads the metrics."""
    found = figures(session, slot)
    if found is None:
        forget(slot)
        return
    metrics.slot_retained.labels(slot).set(found.retained_bytes)
    metrics.slot_unconfirmed.labels(slot).set(found.unconfirmed_bytes)
    metrics.slot_safe.labels(slot).set(found.safe_bytes)
    metrics.slot_catalog_age.labels(slot).set(found.catalog_age)
    metrics.slot_active.labels(slot).set(found.is_active)
    for state in STATES:
        metrics.slot_status.labels(slot, state).set(state == found.status)


def forget(slot: str) -> None:
    """Tell nothing of a slot any more: another process reads it from now on."""
    for gauge in (
        metrics.slot_retained, metrics.slot_unconfirmed, metrics.slot_safe,
        metrics.slot_catalog_age, metrics.slot_active, metrics.slot_status,
    ):  # fmt: skip
        gauge.remove_by_labels({"slot": slot})


def _number(value: object) -> float:
    return math.nan if value is None else float(str(value))
