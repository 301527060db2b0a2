"""The server and its log: what reading it, exactness and recovery presume. Facts in, checks out."""

from __future__ import annotations

from collections.abc import Iterator

from projector.checks import Check, failed, ok, warning
from projector.databases import Source
from projector.postgres.checks.asking import Facts
from projector.postgres.figures import Figures
from projector.postgres.slot import synchronous_error

_SYNCHRONOUS = "synchronous_standby_names"
_FAILOVER = 170000
_MIB, _GIB = 1 << 20, 1 << 30
_HALF_HOUR_S, _DAY_S = 1800, 86400
_RESTART = "; then restart the server (where it is rented: in its parameters)."


def required(facts: Facts, slot: Figures | None, source: Source) -> list[Check]:
    """Test what the daemon cannot do without."""
    version = ok("postgres.version", f"PostgreSQL {facts.version}")
    return [version, _standby(facts), _wal_level(facts), _synchronous(facts),
            *_free(facts, slot), _slot(facts, slot, source)]  # fmt: skip


def recommended(facts: Facts, slot: Figures | None) -> list[Check]:
    """Test what speed and recovery presume."""
    return [_kept(facts), _sender_timeout(facts), *_idle(facts), _durability(facts),
            _failover(facts, slot)]  # fmt: skip


def _standby(facts: Facts) -> Check:
    name = "postgres.primary"
    if facts.is_standby:
        return failed(
            name,
            "the server is a standby: a slot made there would end with its promotion, and its"
            " snapshots do not say which commits they show",
            "Name the primary in PROJECTOR_SOURCE__URL; PROJECTOR_SOURCE__READ_URL may be the"
            " standby's.",
        )
    return ok(name, "the server is no standby")


def _wal_level(facts: Facts) -> Check:
    name, found = "postgres.wal_level", facts.settings.get("wal_level", "")
    if found == "logical":
        return ok(name, found)
    return failed(
        name,
        f"the log does not say which rows were changed: wal_level is {found}",
        f"ALTER SYSTEM SET wal_level = 'logical'{_RESTART}",
    )


def _synchronous(facts: Facts) -> Check:
    name, names = "postgres.synchronous_standby_names", facts.settings[_SYNCHRONOUS]
    if problem := synchronous_error(names):
        return failed(name, problem.message, problem.remedy)
    return ok(name, names or "no commit waits for a standby")


def _free(facts: Facts, slot: Figures | None) -> Iterator[Check]:
    """Test that there is room for a slot, and for one who reads from it."""
    is_read = slot is not None and slot.is_active
    for setting, used, has_own, what in (
        ("max_replication_slots", facts.slots, slot is not None, "replication slots"),
        ("max_wal_senders", facts.senders, is_read, "connections that send the log"),
    ):
        name, most = f"postgres.{setting}", int(facts.number_of(setting))
        if used < most or has_own:
            yield ok(name, f"{most}, of which {used} are in use")
            continue
        yield failed(
            name,
            f"all {most} {what} are in use",
            f"ALTER SYSTEM SET {setting} = {most + 4}{_RESTART} Or drop what nobody reads:"
            " SELECT slot_name FROM pg_replication_slots WHERE NOT active.",
        )


def _slot(facts: Facts, slot: Figures | None, source: Source) -> Check:
    name = "postgres.slot"
    if slot is None:
        return ok(name, f"{source.slot} is not there: the daemon makes it at its start")
    if slot.plugin != "pgoutput" or slot.database != facts.database:
        return failed(
            name,
            f"{source.slot} is another program's ({slot.plugin}, database {slot.database})",
            "Give the daemon a slot of its own: PROJECTOR_SOURCE__SLOT.",
        )
    if slot.is_lost:
        return warning(
            name,
            f"{source.slot} has lost the log that it kept ({slot.reason or 'wal_status=lost'})",
            "Nothing to do at once: the next run makes it anew and compares all documents. So that"
            " it lasts: a larger max_slot_wal_keep_size.",
        )
    kept = f"{source.slot} keeps {slot.retained_bytes / _MIB:.0f} MiB of log"
    if slot.safe_bytes < slot.retained_bytes:
        return warning(
            name,
            f"{kept}, and is lost after {max(0.0, slot.safe_bytes) / _MIB:.0f} MiB more",
            "Start the daemon, or see what holds it up; or drop the slot: projector slot drop.",
        )
    return ok(name, f"{kept}; {'read by a process' if slot.is_active else 'nobody reads it now'}")


def _kept(facts: Facts) -> Check:
    name, kept = "postgres.max_slot_wal_keep_size", facts.number_of("max_slot_wal_keep_size", -1)
    fix = (
        "ALTER SYSTEM SET max_slot_wal_keep_size = '…GB', half of what is free beside pg_wal;"
        " SELECT pg_reload_conf();"
    )
    if kept < 0:
        return warning(
            name,
            "-1: while no daemon reads, its slot keeps all of the log; a full disk stops the"
            " server, where a lost slot costs a comparison of all documents",
            fix,
        )
    lasts_s = kept / facts.rate if facts.rate else float("inf")
    if lasts_s < _HALF_HOUR_S:
        return warning(
            name,
            f"{kept / _GIB:.1f} GiB, which the server writes in {lasts_s / 60:.0f} min: a daemon"
            " that was away for longer must compare all documents",
            fix,
        )
    return ok(name, f"{kept / _GIB:.1f} GiB")


def _sender_timeout(facts: Facts) -> Check:
    name, found = "postgres.wal_sender_timeout", facts.number_of("wal_sender_timeout", 60)
    fix = "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();"
    if not found:
        return warning(
            name,
            "0: of a reader whose machine has gone the server hears from TCP alone, and until then"
            " no other can read the slot",
            fix,
        )
    if found < 10:
        return warning(name, f"{found:g} s: a short stall ends the stream", fix)
    return ok(name, f"{found:g} s")


def _idle(facts: Facts) -> Iterator[Check]:
    name, found = "idle_replication_slot_timeout", facts.number_of("idle_replication_slot_timeout")
    if 0 < found < _DAY_S:
        yield warning(
            f"postgres.{name}",
            f"{found / 3600:g} h: a daemon that was away for longer must compare all documents",
            f"ALTER SYSTEM SET {name} = 0, or to a day; SELECT pg_reload_conf();",
        )


def _durability(facts: Facts) -> Check:
    name, fsync = "postgres.durability", facts.settings.get("fsync", "on")
    commit = facts.settings.get("synchronous_commit", "on")
    found = f"fsync={fsync}, synchronous_commit={commit}"
    if fsync == "on" and commit != "off":
        return ok(name, found)
    return warning(
        name,
        f"{found}: a crash may take back transactions that Redis shows already",
        "ALTER SYSTEM SET synchronous_commit = 'on', ALTER SYSTEM SET fsync = 'on'; SELECT"
        " pg_reload_conf(). Where they must stay off: `projector verify --repair` after a crash.",
    )


def _failover(facts: Facts, slot: Figures | None) -> Check:
    name = "postgres.failover"
    if facts.number < _FAILOVER:
        return ok(name, "standbys before 17 have no slot: a failover costs a comparison of all")
    if slot is not None and not slot.is_kept_on_standbys:
        return warning(
            name,
            "the slot is not kept on standbys: a failover costs a comparison of all documents",
            "With the daemon stopped: projector slot drop; the next start makes it anew.",
        )
    return ok(name, "the slot is kept on standbys that have sync_replication_slots=on")
