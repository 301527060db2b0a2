"""What `projector check` looks at in MySQL and MariaDB, and what a start requires of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from sqlalchemy.engine import URL

from projector import fitness
from projector.checks import Check, ok
from projector.commands.judging import guarded
from projector.errors import OperatorError
from projector.model import TableName
from projector.mysql.checks import access, fit, log, projection, replica
from projector.mysql.checks.asking import Asker, Facts, refused
from projector.mysql.checks.catalog import TableFacts, look
from projector.mysql.columns import fitted
from projector.mysql.connection import ServerError
from projector.mysql.indexes import explained
from projector.mysql.position import Position, own
from projector.position import Parse
from projector.position import Position as AnyPosition
from projector.projection import Plan
from projector.settings import Settings

SETTING: str = "PROJECTOR_MYSQL__URL"
NEEDED: tuple[str, ...] = (
    "mysql.reachable",
    "mysql.privileges",
)  # before documents are compared with rows
UNFORESEEN: type[Exception] = ServerError
parse: Parse = Position.parse

_NO_ENTRY = 1044  # ER_DBACCESS_DENIED_ERROR
_READ = "PROJECTOR_MYSQL__READ_URL"


def every(settings: Settings, plans: Sequence[Plan]) -> list[Check]:
    """Look at everything."""
    return _or_grants(settings, plans, partial(_mysql, settings, plans))


def required(
    settings: Settings,
    plans: Sequence[Plan],
    unfit: list[Check],
    on_answer: Callable[[], None],
) -> list[Check]:
    """Look at what `run` needs; what is wrong with the projection goes to `unfit`."""
    look_at = partial(_mysql_required, settings, plans, unfit, on_answer)
    return _or_grants(settings, plans, look_at)


def check_position(settings: Settings, position: AnyPosition) -> None:
    """Raise PositionLostError where the log cannot be read on from there."""
    projection.check_position(settings.mysql, own(position))


def sizes(settings: Settings, plan: Plan) -> tuple[int, float]:
    """Return how many documents there may be, and their mean size in bytes."""
    with _asking(settings, [plan], settings.mysql.parsed_read_url) as (asker, _):
        table = look(asker, plan.table_name(plan.root, settings.mysql.default_schema))
        return table.rows if table is not None else 0, projection.mean_bytes(plan, asker)


@contextmanager
def _asking(
    settings: Settings,
    plans: Sequence[Plan],
    url: URL,
    on_answer: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Asker, Facts]]:
    asker = Asker(url, settings.mysql, on_answer)
    try:
        facts = asker.facts()
        for plan in plans:
            plan.folds_names = facts.folds_names
        yield asker, facts
    finally:
        asker.close()


def _or_grants(
    settings: Settings, plans: Sequence[Plan], look_at: Callable[[], list[Check]]
) -> list[Check]:
    """Look; name the GRANTs where the account may not even enter the database."""
    try:
        return look_at()
    except OperatorError as error:
        refusal = refused(error)
        if refusal is None or refusal.code != _NO_ENTRY:
            raise
        url = settings.mysql.parsed_url.set(database="")
        with _asking(settings, plans, url) as (asker, facts):
            _, names = _tables(settings, plans)
            return access.privileges(asker, facts, names)


def _tables(settings: Settings, plans: Sequence[Plan]) -> tuple[str, list[TableName]]:
    schema = settings.mysql.parsed_url.database or ""
    names = {watch.table: None for plan in plans for watch in plan.watches(schema)}
    return schema, list(names)


def _mysql_required(
    settings: Settings,
    plans: Sequence[Plan],
    unfit: list[Check],
    on_answer: Callable[[], None],
) -> list[Check]:
    """Look at what `run` needs; what is wrong with the projection goes to `unfit`."""
    with _asking(settings, plans, settings.mysql.parsed_url, on_answer) as (asker, facts):
        schema, names = _tables(settings, plans)
        checks = log.required(facts, settings.mysql)
        checks += access.privileges(asker, facts, names)
        checks += access.filters(asker, facts, [name.schema for name in names])
        if not any(check.status == "failed" for check in checks):
            found = {name: look(asker, name) for name in names}
            for plan in plans:
                unfit += [c for c in _fits(plan, schema, found, asker) if c.status == "failed"]
    return checks


def _fits(
    plan: Plan, schema: str, found: dict[TableName, TableFacts | None], asker: Asker
) -> list[Check]:
    mine = {watch.table: found[watch.table] for watch in plan.watches(schema)}
    checks = fit.tables(plan, schema, mine)
    if any(check.status == "failed" for check in checks):
        return checks
    views = fitness.views(fitted(plan, asker.connection))
    return [*checks, projection.queries(plan, asker), *views]


def _mysql(settings: Settings, plans: Sequence[Plan]) -> list[Check]:
    with _asking(settings, plans, settings.mysql.parsed_url) as (asker, facts):
        checks = [ok("mysql.reachable", f"as {facts.account}")]
        if (unchosen := _unchosen(settings, plans, asker)) is not None:
            plans, checks = (), [unchosen, *checks]
        schema, names = _tables(settings, plans)
        checks += log.required(facts, settings.mysql)
        checks += access.privileges(asker, facts, names)
        checks += access.filters(asker, facts, [name.schema for name in names])
        checks += log.recommended(facts, settings.mysql)
        checks += [access.replication(asker, facts), access.clock(asker)]
        checks += [access.time_zone(asker, facts), access.definitions(asker, facts, names)]
        checks += [_encryption(settings, asker, settings.mysql.parsed_url, "mysql.tls")]
        found = {name: look(asker, name) for name in names}
        for plan in plans:
            mine = {watch.table: found[watch.table] for watch in plan.watches(schema)}
            fits = _fits(plan, schema, found, asker)
            checks += fits + fit.shape(plan, schema, mine, facts)
            if not any(check.status == "failed" for check in fits):
                checks += fitness.indexes(plan, explained(plan, asker.connection))
        if settings.mysql.read_url is not None:
            look_there = partial(_read, settings, plans, asker, facts, names)
            checks += guarded("mysql.read_url", _READ, look_there, ServerError)
    return checks


def _unchosen(settings: Settings, plans: Sequence[Plan], asker: Asker) -> Check | None:
    """Return the next step of whoever has chosen no projection, in a database without the tables of
    the one that comes along."""
    schema = settings.mysql.parsed_url.database or ""
    roots = [plan.table_name(plan.root, schema) for plan in plans]
    way = "Have one written: projector scaffold TABLE > mine.py"
    return fitness.unchosen(settings, roots, lambda root: look(asker, root) is not None, way)


def _encryption(settings: Settings, asker: Asker, url: URL, name: str) -> Check:
    tls = settings.mysql.tls
    return access.encryption(asker, url, name, is_verified=bool(tls.ca or tls.cert))


def _read(
    settings: Settings,
    plans: Sequence[Plan],
    primary: Asker,
    facts: Facts,
    names: Sequence[TableName],
) -> list[Check]:
    """Look at the server that documents are read from."""
    url = settings.mysql.parsed_read_url
    with _asking(settings, plans, url) as (asker, other):
        checks = [replica.follows(primary, facts, asker, other)]
        checks += [access.readable(asker, other, names)]
        checks += [_encryption(settings, asker, url, "mysql.read_tls")]
        if checks[1].status == "ok":
            checks += [projection.queries(plan, asker) for plan in plans]
    return checks
