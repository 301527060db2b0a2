"""`projector setup`: what PostgreSQL must have for a projection, made as the owner of its tables.

Role, grants, publication, replica identities: each found missing by what `projector check` judges
by. The slot is made by the daemon: one that nobody reads would fill the server's disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy.engine import make_url

from projector.checks import Check, warning
from projector.databases import Source
from projector.errors import ConfigurationError, OperatorError, RefusedError, TransientError
from projector.model import TableName, merged
from projector.postgres import catalog, publication
from projector.postgres.checks import access, fit, identity, server
from projector.postgres.checks.asking import MAY_REPLICATE, RENTED, Asker, Facts
from projector.postgres.checks.tables import Table, look
from projector.postgres.names import identifier, quoted
from projector.projection import Plan
from projector.settings import Settings

_OWNER = "PROJECTOR_SOURCE__OWNER_URL"
_PASSWORD = re.compile(r" PASSWORD '[^']*'$")
_LOCK_S = 5  # as long as the application may be held up

Print = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """How many statements were run, or would be, and what is left for somebody to do."""

    count: int = 0
    left: list[Check] = field(default_factory=list)


def setup(
    settings: Settings, plans: Sequence[Plan], on_statement: Print, *, is_dry: bool = False
) -> Outcome:
    """Run what is missing, each statement shown before; `is_dry`: only show it. No password is
    shown.

    Raises OperatorError where the projection does not fit, or the owner may not.
    """
    asker = Asker(_as_owner(settings.source))
    try:
        work = _Work(settings.source, plans, asker, _facts(asker, settings.source))
        found = Outcome()
        for step in (work.role, work.grants, work.published, work.identities):
            for statement in step():
                on_statement(_shown(statement))
                found.count += 1
                if not is_dry:
                    _run(asker, statement, work.facts.account, settings.source)
        found.left = list(work.left())
        return found
    finally:
        asker.close()


class _Work:
    """What is missing, step by step, each looking at what the ones before have made; the tables'
    own definitions are looked at once."""

    def __init__(self, source: Source, plans: Sequence[Plan], asker: Asker, facts: Facts) -> None:
        self.facts = facts
        self._source, self._plans, self._asker = source, plans, asker
        self._account = _account(source) or facts.account
        self._watches = merged(w for plan in plans for w in plan.watches(source.default_schema))
        self._tables = self._fitting()

    def role(self) -> Iterator[str]:
        """Return what makes the role, or lets it read the log."""
        name = identifier(self._account)
        ask = self._asker.rows
        is_rented = bool(ask(f"SELECT 1 FROM pg_roles WHERE rolname = '{RENTED}'"))
        found = ask(
            f"SELECT rolcanlogin, {MAY_REPLICATE} FROM pg_roles r"
            f" WHERE rolname = {quoted(self._account)}"
        )
        may_log_in, may_replicate = ("f", "f") if not found else found[0]
        attributes = [] if may_log_in == "t" else ["LOGIN"]
        attributes += [] if may_replicate == "t" or is_rented else ["REPLICATION"]
        if not found:
            yield f"CREATE ROLE {name} {' '.join([*attributes, *self._password()])}"
        elif attributes:
            yield f"ALTER ROLE {name} {' '.join(attributes)}"
        if may_replicate != "t" and is_rented:
            yield f"GRANT {RENTED} TO {name}"

    def grants(self) -> Iterator[str]:
        """Return what lets the role read the tables."""
        yield from access.grants(self._account, self._watches, self._tables)

    def published(self) -> Iterator[str]:
        """Return what makes the publication whole."""
        name = self._source.publication
        for problem in publication.unpublished(self._asker.rows, name, self._tables):
            yield from problem.statements

    def identities(self) -> Iterator[str]:
        """Return what has the log hold the old values that documents are found by."""
        for problem in self._problems:
            if not problem.constraints:
                yield from problem.statements

    def left(self) -> Iterator[Check]:
        """Return what no statement of the owner mends by itself."""
        for check in server.required(self.facts, None, self._source):
            if check.status == "failed":
                yield check
        for problem in self._problems:
            if problem.constraints or not problem.statements:
                yield warning("postgres.replica_identity", problem.detail, problem.fix)

    @cached_property
    def _problems(self) -> list[identity.Problem]:
        """What is wrong with identities, given what is published by now."""
        wanted = identity.needed(self._plans, self._source.default_schema)
        unsent = catalog.unsent(self._asker.session, list(self._tables), self._source.publication)
        number = self.facts.number
        return list(identity.problems(wanted, self._watches, self._tables, unsent, number))

    def _fitting(self) -> dict[TableName, Table]:
        """Return the tables, with what the role may read of them."""
        names = [watch.table for watch in self._watches]
        found = {name: look(self._asker, name, self._account) for name in names}
        for plan in self._plans:
            for check in fit.tables(plan, self._source.default_schema, found):
                if check.status == "failed":
                    raise OperatorError(check.detail, check.fix)
        return {name: table for name, table in found.items() if table is not None}

    def _password(self) -> list[str]:
        """Return the clause with the verifier: the password itself is in no log of the server's."""
        url = self._source.url
        password = make_url(url.get_secret_value()).password if url is not None else None
        if not password:
            return []
        [[algorithm]] = self._asker.rows("SHOW password_encryption")
        encrypt = self._asker.session.raw.encrypt_password
        verifier = encrypt(password.encode(), self._account.encode(), algorithm.encode())
        return ["PASSWORD", quoted(verifier.decode())]


def _as_owner(source: Source) -> Source:
    """Return the settings of a connection as whoever owns the tables."""
    if source.owner_url is None:
        return source
    given = {name: getattr(source, name) for name in Source.model_fields}
    return Source(**{**given, "url": source.owner_url})


def _account(source: Source) -> str | None:
    """Return whom the daemon will be; None where the URL leaves that to libpq."""
    assert source.url is not None
    url = make_url(source.url.get_secret_value())
    user = url.username or url.query.get("user")
    owner = make_url((source.owner_url or source.url).get_secret_value())
    if owner.database != url.database:
        raise ConfigurationError(
            f"{_OWNER} names the database {owner.database}, PROJECTOR_SOURCE__URL {url.database}",
            "Name the database of the tables in both.",
        )
    if source.owner_url is not None and not user:
        raise ConfigurationError(
            "PROJECTOR_SOURCE__URL names no user: nobody to give the rights to",
            "Write postgresql://USER:PASSWORD@HOST/DATABASE.",
        )
    return user if isinstance(user, str) else None


def _facts(asker: Asker, source: Source) -> Facts:
    try:
        facts = asker.facts()
    except RefusedError as error:
        if source.owner_url is None:
            raise RefusedError(error.message, f"{_way(source)} {error.remedy}") from error
        remedy = error.remedy.replace("PROJECTOR_SOURCE__URL", _OWNER)
        raise RefusedError(error.message, remedy) from error
    if facts.is_standby:
        raise OperatorError(
            "the server is a standby: nothing can be made there",
            f"Name the primary in {_OWNER if source.owner_url else 'PROJECTOR_SOURCE__URL'}.",
        )
    return facts


def _way(source: Source) -> str:
    if source.owner_url is None:
        return f"Set {_OWNER} to the URL of whoever owns the tables."
    return "Run it as the owner of the tables, who may also create roles."


def _run(asker: Asker, statement: str, account: str, source: Source) -> None:
    """Run one statement, for as long as it takes. Whoever waits for a table's lock has others wait
    behind it, but for what is made concurrently."""
    session = asker.session
    limit_s = 0 if " CONCURRENTLY " in statement else _LOCK_S
    try:
        session.run(f"SET lock_timeout = '{limit_s}s'")
        session.run(statement, on_tick=lambda: None)
    except (OperatorError, TransientError) as error:
        way = _way(source) if isinstance(error, OperatorError) else "Try again a little later."
        raise OperatorError(
            f"{account} may not, or cannot: {_shown(statement)} {error.__cause__ or error}",
            f"{way} What is done stays done: `projector setup` again goes on from there.",
        ) from error
    except BaseException:
        session.cancel()
        raise


def _shown(statement: str) -> str:
    text, is_hidden = _PASSWORD.subn("", statement)
    return f"{text};" + (" -- with the password of PROJECTOR_SOURCE__URL" if is_hidden else "")
