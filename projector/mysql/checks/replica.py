"""PROJECTOR_MYSQL__READ_URL: whether documents read there can be as new as the log."""

from __future__ import annotations

from projector.checks import Check, failed, ok, warning
from projector.mysql.checks.asking import Asker, Facts
from projector.mysql.position import Flavour

_NAME = "mysql.read_url"
_WAIT_S = 2
_UNSET = "Unset PROJECTOR_MYSQL__READ_URL"


def follows(primary: Asker, facts: Facts, replica: Asker, other: Facts) -> Check:
    """Test that the server to read from is a replica of the one whose log is read."""
    if facts.flavour is not other.flavour:
        return failed(
            _NAME,
            f"the primary is {facts.title}, the server to read from is {other.title}",
            f"Name a replica of the primary, or {_UNSET.lower()}.",
        )
    if facts.flavour is Flavour.MARIADB:
        return _mariadb(primary, facts, replica, other)
    return _mysql(primary, facts, replica, other)


def _mysql(primary: Asker, facts: Facts, replica: Asker, other: Facts) -> Check:
    if facts.value("server_uuid") == other.value("server_uuid"):
        return ok(_NAME, "the same server as PROJECTOR_MYSQL__URL")
    if not (facts.value("gtid_mode") == other.value("gtid_mode") == "ON"):
        return failed(
            _NAME,
            "GTIDs are not on at both servers: nobody can tell how far the replica has come",
            f"Set gtid_mode=ON on both, or {_UNSET.lower()}.",
        )
    own = str(replica.rows("SELECT @@global.gtid_executed")[0][0] or "")
    done = str(primary.rows("SELECT @@global.gtid_executed")[0][0] or "")
    extra = str(replica.rows(f"SELECT GTID_SUBTRACT('{own}', '{done}')")[0][0] or "")
    waited = replica.rows(f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{done}', {_WAIT_S})")[0][0]
    return _judged(is_reached=int(waited or 0) == 0, own=extra)


def _mariadb(primary: Asker, facts: Facts, replica: Asker, other: Facts) -> Check:
    same = ("hostname", "port", "server_id", "datadir", "pid_file")
    if all(facts.value(name) == other.value(name) for name in same):
        return failed(
            _NAME,
            "it names the primary itself, which is no replica: reads would wait for ever",
            f"{_UNSET}, or name a replica.",
        )
    done = str(primary.rows("SELECT @@global.gtid_binlog_pos")[0][0] or "")
    waited = replica.rows(f"SELECT MASTER_GTID_WAIT('{done}', {_WAIT_S})")[0][0]
    return _judged(is_reached=int(waited or 0) == 0, own="")


def _judged(*, is_reached: bool, own: str) -> Check:
    if not is_reached:
        return failed(
            _NAME,
            f"within {_WAIT_S} s it does not reach what the primary has committed: it is no replica"
            " of it, has stopped, or lags",
            f"See SHOW REPLICA STATUS there, and its lag; or {_UNSET.lower()}.",
        )
    if own:
        return warning(
            _NAME,
            f"it has transactions that the primary does not have: {own}",
            "Rebuild the replica, and set super_read_only=ON there: documents show its rows.",
        )
    return ok(_NAME, "a replica that keeps up with the primary")
