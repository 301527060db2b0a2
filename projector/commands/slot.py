"""`projector slot`: how PostgreSQL's replication slot stands, and its end."""

from __future__ import annotations

import math
from typing import Any

from projector.errors import OperatorError
from projector.postgres.connection import Session, connect
from projector.postgres.figures import Figures, figures
from projector.postgres.names import quoted
from projector.settings import Settings


def status(settings: Settings) -> dict[str, Any]:
    """Return how the slot stands, as `--json` prints it. Raises OperatorError where there is
    none."""
    session = _session(settings)
    try:
        found = _required(session, settings.source.slot)
    finally:
        session.close()
    return {
        "slot": settings.source.slot,
        "database": found.database,
        "state": found.status,
        "lost_because": found.reason or None,
        "active": found.is_active,
        "retained_bytes": _finite(found.retained_bytes),
        "unconfirmed_bytes": _finite(found.unconfirmed_bytes),
        "safe_bytes": _finite(found.safe_bytes),
        "catalog_xmin_age": _finite(found.catalog_age),
        "kept_on_standbys": found.is_kept_on_standbys,
    }


def drop(settings: Settings) -> None:
    """Drop the slot. Raises OperatorError where somebody reads from it, or there is none."""
    name, session = settings.source.slot, _session(settings)
    try:
        found = _required(session, name)
        if found.is_active:
            raise OperatorError(
                f"the slot {name} is read by process {found.process}", "Stop the daemon first."
            )
        session.run(f"SELECT pg_drop_replication_slot({quoted(name)})")
    finally:
        session.close()


def _session(settings: Settings) -> Session:
    source = settings.source
    return connect(
        source.conninfo, source.read_timeout_s, schema=source.default_schema,
        connect_timeout_s=source.connect_timeout_s,
    )  # fmt: skip


def _required(session: Session, name: str) -> Figures:
    found = figures(session, name)
    if found is None:
        raise OperatorError(
            f"there is no replication slot {name}", "The daemon makes it at its start."
        )
    return found


def _finite(number: float) -> int | None:
    return int(number) if math.isfinite(number) else None
