"""The server and its log: what reading it, exactness and recovery presume. Facts in, checks out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from projector.checks import Check, failed, ok, warning
from projector.databases import Mysql
from projector.mysql.checks.asking import Facts, Refusal
from projector.mysql.position import Flavour

_LEAST = {Flavour.MYSQL: (8, 0), Flavour.MARIADB: (10, 5)}
_DAY_S = 86400
_RESTART = "in the server's configuration (deploy/{}.cnf), and restart it"


def required(facts: Facts, settings: Mysql) -> list[Check]:
    """Test what the daemon cannot do without."""
    return [_version(facts), _log_bin(facts), _format(facts), _server_id(facts, settings)]


def recommended(facts: Facts, settings: Mysql) -> list[Check]:
    """Test what speed and recovery presume."""
    return [
        _row_image(facts),
        _row_metadata(facts),
        _gtid(facts, settings),
        _retention(facts),
        _durability(facts),
        *_commit_order(facts),
        _packet(facts),
    ]


def _configuration(facts: Facts) -> str:
    return _RESTART.format(facts.flavour)


def _version(facts: Facts) -> Check:
    name, least = "mysql.version", _LEAST[facts.flavour]
    if facts.number < least:
        wanted = ".".join(map(str, least))
        return failed(
            name,
            f"{facts.title} {facts.version} is too old",
            f"Upgrade to {facts.title} {wanted} or later.",
        )
    return ok(name, f"{facts.title} {facts.version}")


def _log_bin(facts: Facts) -> Check:
    if facts.is_on("log_bin", "OFF"):
        return ok("mysql.log_bin", "ON")
    return failed(
        "mysql.log_bin",
        "the server writes no binary log: log_bin is OFF",
        f"Set log_bin=binlog {_configuration(facts)}.",
    )


def _format(facts: Facts) -> Check:
    name, found = "mysql.binlog_format", facts.value("binlog_format", "ROW")
    fix = f"Set binlog_format=ROW {_configuration(facts)}: running sessions keep the old format."
    if found == "STATEMENT":
        return failed(name, "the log holds statements, not rows: binlog_format is STATEMENT", fix)
    if found == "MIXED":
        return warning(
            name,
            "MIXED: the log does not say which rows a statement changed, nor what triggers did in"
            " consequence, so each statement, of whatever table, costs a walk over all documents",
            fix,
        )
    return ok(name, found)


def _server_id(facts: Facts, settings: Mysql) -> Check:
    name, found = "mysql.server_id", int(facts.number_of("server_id"))
    ours = settings.replica_server_id
    if found == 0:
        return failed(
            name,
            "server_id is 0: the server serves no replicas",
            f"Set server_id=1, or another number of its own, {_configuration(facts)}.",
        )
    if found == ours:
        return failed(
            name,
            f"PROJECTOR_MYSQL__SERVER_ID is {ours}, the id of the server itself",
            "Unset it, or take a number that no server in the topology has.",
        )
    return ok(name, f"{found}, ours is {ours}")


def _row_image(facts: Facts) -> Check:
    name, found = "mysql.binlog_row_image", facts.value("binlog_row_image", "FULL")
    if found == "MINIMAL":
        return warning(
            name,
            "MINIMAL: the log does not say where a deleted or moved row stood, so each such change"
            " of a joined table costs a walk over all documents",
            "SET GLOBAL binlog_row_image=FULL; and the same in the server's configuration.",
        )
    return ok(name, found)


def _row_metadata(facts: Facts) -> Check:
    found = facts.value("binlog_row_metadata", "NO_LOG")
    how = "by name" if found == "FULL" else "by their order in the catalog; FULL would name them"
    return ok("mysql.binlog_row_metadata", f"{found}: columns are found {how}")


def _gtid(facts: Facts, settings: Mysql) -> Check:
    name = "mysql.gtid_mode"
    if facts.flavour is Flavour.MARIADB:
        strict = facts.value("gtid_strict_mode", "OFF")
        return ok(name, f"MariaDB always has GTIDs; gtid_strict_mode={strict}")
    mode, is_consistent = facts.value("gtid_mode"), facts.value("enforce_gtid_consistency")
    if mode == "ON":
        return ok(name, f"ON, enforce_gtid_consistency={is_consistent}")
    fix = (
        "Set enforce_gtid_consistency=ON, then gtid_mode OFF_PERMISSIVE, ON_PERMISSIVE, ON in turn;"
        " all of it works on a running server."
    )
    if settings.read_url is not None:
        return failed(
            name,
            f"{mode}, and PROJECTOR_MYSQL__READ_URL needs GTIDs: without them nobody can tell how"
            " far a replica has come",
            f"{fix} Or unset PROJECTOR_MYSQL__READ_URL.",
        )
    return warning(
        name,
        f"{mode}: each read takes shared locks on the rows just changed, and after a failover to"
        " another server all documents are compared again",
        fix,
    )


def _retention(facts: Facts) -> Check:
    name = "mysql.log_retention"
    days, seconds = (
        facts.number_of("expire_logs_days"),
        facts.number_of("binlog_expire_logs_seconds"),
    )
    kept_s = seconds or days * _DAY_S
    purges = kept_s > 0 and facts.is_on("binlog_expire_logs_auto_purge")
    limit = facts.number_of("max_binlog_total_size")
    if purges and kept_s < _DAY_S:
        return warning(
            name,
            f"log files are purged after {kept_s / 3600:g} h: a daemon that was away for longer"
            " must rebuild all documents",
            "SET GLOBAL binlog_expire_logs_seconds=604800; and the same in the server's"
            " configuration; mind the disk.",
        )
    kept = f"{kept_s / _DAY_S:g} days" if purges else "until purged by hand"
    more = f", at most {limit / 1e6:.0f} MB in all" if limit else ""
    return ok(name, f"log files are kept {kept}{more}")


def _durability(facts: Facts) -> Check:
    name = "mysql.durability"
    sync, flush = facts.value("sync_binlog", "1"), facts.value("innodb_flush_log_at_trx_commit")
    found = f"sync_binlog={sync}, innodb_flush_log_at_trx_commit={flush}"
    if (sync, flush) == ("1", "1"):
        return ok(name, found)
    return warning(
        name,
        f"{found}: a crash of the machine may take back transactions that Redis shows already, and"
        " all documents are then compared again",
        "SET GLOBAL sync_binlog=1, GLOBAL innodb_flush_log_at_trx_commit=1; and the same in the"
        " server's configuration.",
    )


def _commit_order(facts: Facts) -> Iterator[Check]:
    if "binlog_order_commits" not in facts.variables:
        return
    if facts.is_on("binlog_order_commits"):
        yield ok("mysql.binlog_order_commits", "ON")
        return
    yield warning(
        "mysql.binlog_order_commits",
        "OFF: transactions may become visible in another order than they are logged in, so that"
        " reads wait longer",
        "SET GLOBAL binlog_order_commits=ON;",
    )


def _packet(facts: Facts) -> Check:
    name, found = "mysql.max_allowed_packet", facts.number_of("max_allowed_packet", 1 << 26)
    if found < 4 << 20:
        return warning(
            name,
            f"{found / (1 << 20):g} MB: queries for many documents, and large rows, may not fit",
            "SET GLOBAL max_allowed_packet=67108864; and the same in the server's configuration.",
        )
    return ok(name, f"{found / (1 << 20):g} MB")


def filters(status: Iterable[str], schemas: Iterable[str]) -> Check:
    """Test that no filter keeps a schema out of the log.

    `status`: what the server gives as Binlog_Do_DB and Binlog_Ignore_DB.
    """
    only, ignored = ({part for part in text.split(",") if part} for text in status)
    hidden = [s for s in sorted(set(schemas)) if s in ignored or (only and s not in only)]
    if hidden:
        return failed(
            "mysql.binlog_filters",
            f"changes of {', '.join(hidden)} are kept out of the log by binlog-do-db or"
            " binlog-ignore-db",
            "Remove these options from the server's configuration, and restart it.",
        )
    return ok("mysql.binlog_filters", "no schema is kept out of the log")


def replicated(facts: Facts, has_source: bool | Refusal) -> Check:
    """Test that what the server gets by replication is in its own log, too."""
    name = "mysql.log_replica_updates"
    logs = facts.is_on("log_replica_updates", facts.value("log_slave_updates", "ON"))
    if logs or has_source is False:
        return ok(name, "what is replicated here is logged" if logs else "not a replica")
    fix = f"Set log_slave_updates=ON {_configuration(facts)}, or read the primary's log instead."
    detail = "the server's log lacks what it gets by replication: log_slave_updates is OFF"
    if has_source is True:
        return failed(name, f"{detail}, and it is a replica", fix)
    return warning(name, f"{detail}, and it has been a replica", fix)
