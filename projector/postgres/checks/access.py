"""What the account may do, how it gets there, and whether both machines agree on the time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from projector.checks import Check, failed, ok, skipped, warning
from projector.errors import RefusedError
from projector.model import TableName, Watch
from projector.postgres.checks.asking import Asker, Facts
from projector.postgres.checks.tables import Table
from projector.postgres.names import identifier

_SKEW_S = 5.0
_LOCAL = {"", "localhost", "127.0.0.1", "::1"}
_VERIFIED = {"verify-ca", "verify-full"}


def privileges(facts: Facts, watches: Sequence[Watch], found: Mapping[TableName, Table]) -> Check:
    """Test what the account may do; name exactly the GRANT that is missing."""
    missing, account = list(grants(facts.account, watches, found)), identifier(facts.account)
    if not facts.may_replicate:
        missing.insert(0, f"ALTER ROLE {account} REPLICATION")
    name = "postgres.privileges"
    if missing:
        words = (grant.removeprefix("GRANT ").removeprefix("ALTER ROLE ") for grant in missing)
        what = ", ".join(each.removeprefix(account).partition(" TO ")[0].strip()
                         for each in words)  # fmt: skip
        return failed(name, f"{facts.account} lacks {what}", _pasted(missing))
    return ok(name, f"{facts.account} may read the log and {len(watches)} tables")


def readable(facts: Facts, watches: Sequence[Watch], found: Mapping[TableName, Table]) -> Check:
    """Test the account where documents are read."""
    missing = list(grants(facts.account, watches, found))
    name = "postgres.read_privileges"
    if missing:
        return failed(name, f"{facts.account} may not read all tables there", _pasted(missing))
    return ok(name, f"{facts.account} may read {len(watches)} tables")


def stranger(primary: Facts, there: Facts, setting: str) -> Check | None:
    """Return a failure where documents would be read from the server of another cluster: places in
    one's log say nothing of the other."""
    if there.system == primary.system and there.database == primary.database:
        return None
    what = "another cluster" if there.system != primary.system else f"database {there.database}"
    return failed(
        "postgres.read_url",
        f"{setting} leads to {what}, not to the primary or a standby of it",
        f"Name a streaming standby of the server in PROJECTOR_SOURCE__URL there, with database"
        f" {primary.database}; or leave it out.",
    )


def grants(
    account: str, watches: Sequence[Watch], found: Mapping[TableName, Table]
) -> Iterator[str]:
    """Return the statements that let an account read what it may not read now."""
    role, schemas = identifier(account), set()
    for watch in watches:
        table = found.get(watch.table)
        if table is None:
            continue
        schema, name = map(identifier, watch.table)
        if not table.may_enter and schema not in schemas:
            schemas.add(schema)
            yield f"GRANT USAGE ON SCHEMA {schema} TO {role}"
        read = [table.columns[name] for name in watch.read if name in table.columns]
        if not all(column.may_read for column in read):
            yield f"GRANT SELECT ON {schema}.{name} TO {role}"


def _pasted(statements: Sequence[str]) -> str:
    return " ".join(f"{each};" for each in statements)


def row_security(facts: Facts, found: Mapping[TableName, Table]) -> Check:
    """Test that no policy hides rows from the account: the log shows them all the same."""
    name = "postgres.row_security"
    hidden = sorted(str(table) for table, facts in found.items() if facts.hides_rows)
    if hidden:
        return failed(
            name,
            f"row-level security hides rows of {', '.join(hidden)} from {facts.account}",
            f"ALTER ROLE {identifier(facts.account)} BYPASSRLS; or name an account that the"
            " policies do not hold for.",
        )
    return ok(name, "no policy hides rows from the account")


def stream(asker: Asker) -> Check:
    """Test by trying that the account gets a connection that the log is sent over: pg_hba.conf and
    a pooler in between have their say, too."""
    name = "postgres.replication"
    try:
        session = asker.open(is_replication=True)
    except RefusedError as error:
        return failed(
            name,
            f"no connection that the log can be sent over: {error.message}",
            "Let the account in by pg_hba.conf, give it REPLICATION, and name the server itself in"
            " PROJECTOR_SOURCE__URL, not a pooler (for reads: PROJECTOR_SOURCE__READ_URL).",
        )
    try:
        session.ask("IDENTIFY_SYSTEM")
    finally:
        session.close()
    return ok(name, "the server opens a connection that the log can be sent over")


def writers(asker: Asker) -> Check:
    """Test that no transaction goes on that the making of a slot would wait for."""
    name, pids = "postgres.open_transactions", _writers(asker)
    if pids:
        time.sleep(0.3)
        pids &= _writers(asker)
    if not pids:
        return ok(name, "none that the making of the slot would wait for")
    listed = ", ".join(sorted(who for who, _ in pids)[:5])
    return warning(
        name,
        f"the slot is made once {len(pids)} transactions have ended that have written: {listed}",
        "Let them end, or end them: SELECT pg_terminate_backend(pid); ROLLBACK PREPARED '…'.",
    )


def _writers(asker: Asker) -> set[tuple[str, str]]:
    rows = asker.rows(
        "SELECT 'process ' || pid, backend_xid::text FROM pg_stat_activity"
        " WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
        " UNION ALL SELECT 'prepared ' || gid, transaction::text FROM pg_prepared_xacts"
    )
    return {(str(who), str(xid)) for who, xid in rows}


def clock(asker: Asker) -> Check:
    """Compare the server's clock with ours."""
    before = time.time()
    [[said]] = asker.rows("SELECT extract(epoch FROM clock_timestamp())")
    skew_s = float(said) - (before + time.time()) / 2
    if abs(skew_s) > _SKEW_S:
        return warning(
            "postgres.clock",
            f"the server's clock is {skew_s:+.1f} s from ours: lag is measured by the server's, but"
            " certificates and logs of both machines are hard to compare",
            "Run NTP (chrony, systemd-timesyncd) on both machines.",
        )
    return ok("postgres.clock", f"{skew_s:+.3f} s from ours")


def encryption(asker: Asker, name: str, setting: str) -> Check:
    """Test that rows cross a network neither in the clear nor to just anybody."""
    raw = asker.session.raw
    mode = {each.keyword: each.val for each in raw.info}.get(b"sslmode") or b""
    host = (raw.host or b"").decode().lower()
    if raw.ssl_in_use and mode.decode() in _VERIFIED:
        return ok(name, f"with a certificate that is verified (sslmode={mode.decode()})")
    if host in _LOCAL or host.startswith(("127.", "/")):
        return skipped(name, "not asked for; the server is on this machine")
    return warning(
        name,
        "whoever is between may pose as the server: its certificate is not verified"
        if raw.ssl_in_use
        else "rows cross the network in the clear",
        f"Write ?sslmode=verify-full&sslrootcert=/etc/projector/ca.pem at the end of {setting}.",
    )
