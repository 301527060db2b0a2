"""Questions to one PostgreSQL server whose refusals are answers too."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from projector.databases import Source
from projector.errors import OperatorError, TransientError
from projector.postgres.connection import Session, connect
from projector.postgres.errors import state_of
from projector.postgres.names import quoted
from projector.postgres.slot import require_version

_SETTINGS = (
    "wal_level", "max_replication_slots", "max_wal_senders", "max_slot_wal_keep_size",
    "wal_sender_timeout", "idle_replication_slot_timeout", "synchronous_commit", "fsync",
    "sync_replication_slots", "hot_standby_feedback", "synchronous_standby_names",
)  # fmt: skip
_UNITS = {"ms": 0.001, "s": 1, "min": 60, "B": 1, "kB": 1 << 10, "8kB": 8 << 10, "MB": 1 << 20}


@dataclass(frozen=True, slots=True)
class Refusal:
    """The SQLSTATE of a refusal, and what is said of it."""

    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself. `number`: server_version_num. `settings`: in bytes or seconds
    where they have a unit. `system`: the cluster's identifier. `rate`: bytes of log a second, in
    the mean. `slots`, `senders`: in use."""

    number: int
    version: str
    account: str
    database: str
    is_standby: bool
    system: str
    is_superuser: bool
    may_replicate: bool
    may_create: bool
    settings: Mapping[str, str]
    rate: float
    slots: int
    senders: int

    def number_of(self, name: str, default: float = 0) -> float:
        """Return a setting that is a number, in bytes or seconds."""
        return float(self.settings.get(name, default))


class Asker:
    """One connection for questions; made again after each refusal."""

    def __init__(
        self, source: Source, on_answer: Callable[[], None] = lambda: None, *, reads: bool = False
    ) -> None:
        self._source, self._on_answer, self._reads = source, on_answer, reads
        self._session: Session | None = None

    def open(self, *, is_replication: bool = False) -> Session:
        """Open a connection. Raises TransientError, RefusedError or ConfigurationError."""
        source = self._source
        return connect(
            source.read_conninfo if self._reads else source.conninfo,
            source.read_timeout_s,
            schema=source.search_schema,
            is_replication=is_replication,
            connect_timeout_s=source.connect_timeout_s,
        )

    @property
    def session(self) -> Session:
        """The connection, opened at need."""
        if self._session is None:
            self._session = self.open()
        return self._session

    def rows(self, sql: str) -> list[list[Any]]:
        """Ask; return texts. Raises TransientError or OperatorError."""
        try:
            found = self.session.ask(sql)
        except BaseException:
            self.close()
            raise
        self._on_answer()
        return found

    def objects(self, sql: str) -> list[dict[str, Any]]:
        """Ask; return each row with the names of its columns."""
        return [json.loads(text) for [text] in self.rows(f"SELECT to_jsonb(q) FROM ({sql}) q")]

    def attempt(self, sql: str) -> Sequence[Sequence[Any]] | Refusal:
        """Ask what may be refused. Raises TransientError."""
        try:
            return self.rows(sql)
        except (OperatorError, TransientError) as error:
            if not (state := state_of(error)):
                raise
            return Refusal(state, str(error.__cause__))

    def facts(self) -> Facts:
        """Ask the server who it is. Raises RefusedError where it is too old to say."""
        [[number]] = self.rows("SHOW server_version_num")
        require_version(int(number))
        settings = {
            row["name"]: _plain(row["setting"], row["unit"])
            for row in self.objects("SELECT name, setting, unit FROM pg_settings WHERE name IN"
                                    f" ({', '.join(map(quoted, _SETTINGS))})")
        }  # fmt: skip
        [found] = self.objects(_WHO)
        return Facts(**found, settings=settings)

    def close(self) -> None:
        """Free the connection."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


# Stands for the attribute where nobody is a superuser.
RENTED: Final = "rds_replication"
# Of a row `r` of pg_roles: whether it may read the log.
MAY_REPLICATE: Final = f"""(r.rolsuper OR r.rolreplication OR EXISTS (SELECT FROM pg_roles g
    WHERE g.rolname = '{RENTED}' AND pg_has_role(r.oid, g.oid, 'USAGE')))"""
_WHO = f"""
SELECT current_setting('server_version_num')::int AS number,
  current_setting('server_version') AS version,
  current_user AS account, current_database() AS database,
  pg_is_in_recovery() AS is_standby,
  (SELECT system_identifier::text FROM pg_control_system()) AS system, r.rolsuper AS is_superuser,
  {MAY_REPLICATE} AS may_replicate,
  has_database_privilege(current_database(), 'CREATE') AS may_create,
  (SELECT coalesce(wal_bytes / nullif(extract(epoch FROM now() - stats_reset), 0), 0)::float8
    FROM pg_stat_wal) AS rate,
  (SELECT count(*) FROM pg_replication_slots) AS slots,
  (SELECT count(*) FROM pg_stat_replication) AS senders
FROM pg_roles r WHERE r.rolname = current_user"""


def _plain(setting: str, unit: str | None) -> str:
    if unit is None or setting.startswith("-"):
        return setting
    return f"{float(setting) * _UNITS.get(unit, 1):g}"
