"""What the account may do, how it gets there, and whether both machines agree on the time."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from sqlalchemy.engine import URL

from projector.checks import Check, failed, ok, skipped, warning
from projector.model import TableName, folded
from projector.mysql.advice import quoted
from projector.mysql.checks import log
from projector.mysql.checks.asking import Asker, Facts, Refusal, text_of
from projector.mysql.foreign_keys import foreign_keys, logs_actions
from projector.mysql.position import Flavour

_NO_SUCH_TABLE = 1146
_NO_SUCH_SCHEMA = 1049
_SKEW_S = 5.0
_LOCAL = {"", "localhost", "127.0.0.1", "::1"}


def privileges(asker: Asker, facts: Facts, tables: Sequence[TableName]) -> list[Check]:
    """Test by trying; name exactly the GRANT that is missing."""
    missing = []
    if not _has_replication(asker):
        missing.append(f"GRANT REPLICATION SLAVE ON *.* TO {facts.account};")
    if _is_denied(log_status(asker, facts)):
        monitor = "BINLOG MONITOR" if facts.flavour is Flavour.MARIADB else "REPLICATION CLIENT"
        missing.append(f"GRANT {monitor} ON *.* TO {facts.account};")
    missing += unreadable(asker, facts, tables)
    if missing:
        return [_missing("mysql.privileges", facts.account, missing)]
    count = len(tables)
    return [ok("mysql.privileges", f"{facts.account} may read the log and {count} tables")]


def readable(asker: Asker, facts: Facts, tables: Sequence[TableName]) -> Check:
    """Test the account on the server that documents are read from."""
    missing = unreadable(asker, facts, tables)
    if missing:
        return _missing("mysql.read_privileges", facts.account, missing)
    return ok("mysql.read_privileges", f"{facts.account} may read {len(tables)} tables")


def unreadable(asker: Asker, facts: Facts, tables: Sequence[TableName]) -> list[str]:
    """Return the GRANTs of tables that may not be read. A table that is not there is not one."""
    grants = []
    for table in tables:
        spelled = f"{quoted(table.schema)}.{quoted(table.name)}"
        answer = asker.attempt(f"SELECT 1 FROM {spelled} LIMIT 0")
        if _is_denied(answer):
            grants.append(f"GRANT SELECT ON {spelled} TO {facts.account};")
    return grants


def definitions(asker: Asker, facts: Facts, tables: Sequence[TableName]) -> Check:
    """Test that the account is shown the foreign keys by which rows change without a word in the
    log: for that it must read whole tables, the parents outside of the projection too."""
    name = "mysql.foreign_keys"
    keys = foreign_keys(asker.connection, tables, folds_names=facts.folds_names)
    if not keys.denied or logs_actions(asker.connection):
        return ok(name, "the account is shown all that matter")
    denied = sorted(keys.denied)
    return warning(
        name,
        f"the account is not shown the definitions of {', '.join(map(str, denied))}, and so not by"
        " which foreign keys rows change there without a word in the log: whatever may have set"
        " one off costs a walk over all documents",
        " ".join(
            f"GRANT SELECT ON {quoted(table.schema)}.{quoted(table.name)} TO {facts.account};"
            for table in denied
        ),
    )


def log_status(asker: Asker, facts: Facts) -> Sequence[Sequence[object]] | Refusal:
    """Ask for the end of the log: SHOW BINARY LOG STATUS, by the name that this server knows."""
    if facts.flavour is Flavour.MARIADB:
        return asker.attempt("SHOW MASTER STATUS")
    new = facts.number >= (8, 2)
    return asker.attempt("SHOW BINARY LOG STATUS" if new else "SHOW MASTER STATUS")


def filters(asker: Asker, facts: Facts, schemas: Sequence[str]) -> list[Check]:
    """Test what is kept out of the log; nothing where the log's state may not be asked."""
    answer = log_status(asker, facts)
    if isinstance(answer, Refusal) or not answer:
        return []
    status = [text_of(value) for value in answer[0][2:4]]
    if facts.folds_names:
        status = [folded(text) for text in status]
    return [log.filters(status, schemas)]


def replication(asker: Asker, facts: Facts) -> Check:
    """Test whether the server is a replica whose log is not whole."""
    known = facts.flavour is Flavour.MARIADB or facts.number < (8, 0, 22)
    answer = asker.attempt("SHOW SLAVE STATUS" if known else "SHOW REPLICA STATUS")
    if not isinstance(answer, Refusal):
        return log.replicated(facts, bool(answer))
    if not facts.variables.get("gtid_slave_pos"):
        return log.replicated(facts, has_source=False)
    return log.replicated(facts, answer)


def clock(asker: Asker) -> Check:
    """Compare the server's clock with ours."""
    before = time.time()
    server = float(asker.rows("SELECT UNIX_TIMESTAMP(NOW(6))")[0][0])
    skew_s = server - (before + time.time()) / 2
    if abs(skew_s) > _SKEW_S:
        return warning(
            "mysql.clock",
            f"the server's clock is {skew_s:+.1f} s from ours: lag is measured by the server's, but"
            " certificates and logs of both machines are hard to compare",
            "Run NTP (chrony, systemd-timesyncd) on both machines.",
        )
    return ok("mysql.clock", f"{skew_s:+.3f} s from ours")


def time_zone(asker: Asker, facts: Facts) -> Check:
    """Test that DATETIMEs which the server sets by itself hold UTC, as documents say they do."""
    zone = facts.variables.get("time_zone", "SYSTEM")
    system = facts.variables.get("system_time_zone", "")
    named = f"{zone} ({system})" if zone == "SYSTEM" else zone
    answers = asker.each(
        "SET SESSION time_zone=@@global.time_zone",
        "SELECT TIMESTAMPDIFF(MINUTE, UTC_TIMESTAMP(), NOW())",
        "SET SESSION time_zone='+00:00'",
    )
    minutes = int(answers[1][0][0])
    if minutes:
        return warning(
            "mysql.time_zone",
            f"{named}, {minutes:+d} minutes from UTC: a DATETIME that the server fills"
            " (CURRENT_TIMESTAMP, NOW()) holds local time, and documents say UTC",
            "SET GLOBAL time_zone='+00:00', or let the application write UTC; TIMESTAMP columns are"
            " right anyway.",
        )
    return ok("mysql.time_zone", f"{named}: UTC")


def encryption(asker: Asker, url: URL, name: str, *, is_verified: bool) -> Check:
    """Test that rows cross a network neither in the clear nor to just anybody.

    `is_verified`: whether the settings ask for a certificate; without, the driver takes any.
    """
    cipher = text_of(asker.rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1])
    if cipher and is_verified:
        return ok(name, f"{cipher}, with a verified certificate")
    host = (url.host or "").lower()
    if host in _LOCAL or "unix_socket" in url.query or host.startswith("127."):
        return skipped(name, "not asked for; the server is on this machine")
    return warning(
        name,
        "whoever is between may pose as the server: its certificate is not verified"
        if cipher
        else "rows cross the network in the clear",
        "Set PROJECTOR_MYSQL__TLS__CA to the CA of the server's certificate, and ALTER USER ..."
        " REQUIRE SSL.",
    )


def _has_replication(asker: Asker) -> bool:
    """Look at SHOW GRANTS, which lists active roles' privileges as well: trying it needs a dump."""
    for row in asker.rows("SHOW GRANTS"):
        found = re.match(r"GRANT (.+?) ON \*\.\* TO ", text_of(row[0]), re.DOTALL)
        if found and re.search(r"\b(REPLICATION SLAVE|ALL PRIVILEGES)\b", found[1]):
            return True
    return False


def _is_denied(answer: object) -> bool:
    gone = {_NO_SUCH_TABLE, _NO_SUCH_SCHEMA}
    return isinstance(answer, Refusal) and answer.code not in gone


def _missing(name: str, account: str, grants: Sequence[str]) -> Check:
    what = ", ".join(grant.removeprefix("GRANT ").partition(" TO ")[0] for grant in grants)
    roles = " A privilege of a role counts once it is a default role." if len(grants) > 1 else ""
    return failed(name, f"{account} lacks {what}", f"{' '.join(grants)}{roles}")
