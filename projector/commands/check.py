"""`projector check`: all that the daemon presumes of MySQL, Redis and the projection, beforehand.

Every finding is one line with what to do about it. Never writes to either server, and never ends
with a traceback for what a server or a setting is like.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from redis import RedisError
from sqlalchemy.engine import URL

from projector import compiled
from projector.checks import Check, Status, failed, ok, reason, skipped, warning, way_there
from projector.errors import ConfigurationError, OperatorError, TransientError
from projector.model import TableName
from projector.mysql.checks import access, fit, log, projection, replica
from projector.mysql.checks.asking import Asker, Facts, refused
from projector.mysql.checks.catalog import TableFacts, look
from projector.mysql.connection import ServerError
from projector.mysql.position import Position
from projector.projection import Plan
from projector.settings import Settings
from projector.sink_redis import RedisSink
from projector.sink_redis import checks as store
from projector.sink_redis.client import Server

__all__ = ["Check", "Status", "require", "run_checks"]

_LOOK_AGAIN_S = 0.25
_NO_ENTRY = 1044  # ER_DBACCESS_DENIED_ERROR
_MYSQL, _READ = "PROJECTOR_MYSQL__URL", "PROJECTOR_MYSQL__READ_URL"
_REDIS = "PROJECTOR_REDIS__URL"
_POSTGRES = "PROJECTOR_SOURCE__URL"


def run_checks(settings: Settings, plans: Sequence[Plan]) -> list[Check]:
    """Look at everything; what cannot be looked at is said, and the rest goes on."""
    checks = [ok("projection", f"{plan.name}: {plan.fingerprint}") for plan in plans]
    checks.append(_core(settings))
    checks += [check for plan in plans for check in projection.masks(plan)]
    if settings.is_postgres:
        mysql = _guarded("postgres.reachable", _POSTGRES, partial(_postgres, settings, plans))
    else:
        look_at_mysql = partial(_or_grants, settings, plans, partial(_mysql, settings, plans))
        mysql = _guarded("mysql.reachable", _MYSQL, look_at_mysql)
    redis = _guarded("redis.reachable", _REDIS, lambda: _redis(settings, plans))
    if any(check.name == "projection" for check in mysql):  # of nobody's choice
        return [*mysql, *redis]
    checks += mysql + redis
    if {"mysql.reachable", "mysql.privileges", "postgres.reachable", "redis.reachable"} & {
        check.name for check in checks if check.status == "failed"
    }:
        return [*checks, skipped("stored documents", "both servers must answer first")]
    for plan in plans:
        checks += _guarded(f"{plan.name}.checkpoint", _REDIS, partial(_stored, settings, plan))
    return checks


def _postgres(settings: Settings, plans: Sequence[Plan]) -> list[Check]:
    """Look at PostgreSQL; its driver is an extra."""
    from projector.postgres import checks as postgres

    return postgres.all_checks(settings.source, plans)


def _core(settings: Settings) -> Check:
    """Return whether the compiled core is in use; without it all is right, but slow."""
    said = compiled.described()
    if compiled.core is not None or not settings.compiled:
        return ok("compiled core", said)
    return warning(
        "compiled core", f"{said}: a third of the throughput",
        "Install projector where a C compiler is, or from a wheel that was built there.",
    )  # fmt: skip


def require(
    settings: Settings,
    plans: Sequence[Plan],
    patience_s: float = 0.0,
    on_answer: Callable[[], None] = lambda: None,
) -> None:
    """Refuse to start where only somebody can help; a server that is away is waited for later.

    Raises ConfigurationError when a projection does not fit its database, else OperatorError; all
    that is wrong in one message. Looks again for `patience_s`: a migration's tables, or an
    account's privileges, may be missing at this moment only.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            _require(settings, plans, on_answer)
        except OperatorError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_AGAIN_S)
        else:
            return


def _require(settings: Settings, plans: Sequence[Plan], on_answer: Callable[[], None]) -> None:
    unfit = _failures(lambda: [c for plan in plans for c in projection.masks(plan)])
    if settings.is_postgres:
        wrong = _failures(partial(_postgres, settings, plans))
    else:
        at_mysql = partial(_mysql_required, settings, plans, unfit, on_answer)
        wrong = _failures(partial(_or_grants, settings, plans, at_mysql))
    wrong += _failures(lambda: _redis_required(settings, plans))
    kind = OperatorError if wrong else ConfigurationError
    wrong += unfit
    if wrong:
        fixes = dict.fromkeys(check.fix for check in wrong if check.fix)
        raise kind("; ".join(check.detail for check in wrong), " ".join(fixes))


def _guarded(name: str, setting: str, look_at: Callable[[], list[Check]]) -> list[Check]:
    """Look; what stops it from looking becomes a failed check. `setting` names the server."""
    try:
        return look_at()
    except TransientError as error:
        text = reason(error)
        return [failed(name, text, way_there(text, setting))]
    except OperatorError as error:
        return [failed(name, error.message, error.remedy)]
    except (ServerError, RedisError) as error:
        return [_unforeseen(name, error)]


def _failures(look_at: Callable[[], list[Check]]) -> list[Check]:
    try:
        return [check for check in look_at() if check.status == "failed"]
    except TransientError:
        return []
    except (ServerError, RedisError) as error:
        return [_unforeseen("server", error)]


def _unforeseen(name: str, error: Exception) -> Check:
    return failed(name, f"the server answers: {error}", "See its manual and log.")


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
    return [*checks, projection.queries(plan, asker), *projection.views(plan, asker)]


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
                checks += projection.indexes(plan, asker)
        if settings.mysql.read_url is not None:
            checks += _guarded(
                "mysql.read_url", _READ, lambda: _read(settings, plans, asker, facts, names)
            )
    return checks


def _unchosen(settings: Settings, plans: Sequence[Plan], asker: Asker) -> Check | None:
    """Return the next step of whoever has chosen no projection, in a database without the tables of
    the one that comes along."""
    schema = settings.mysql.parsed_url.database or ""
    roots = [plan.table_name(plan.root, schema) for plan in plans]
    is_chosen = "projection" in settings.model_fields_set
    if is_chosen or any(look(asker, root) is not None for root in roots):
        return None
    return failed(
        "projection",
        f"PROJECTOR_PROJECTION is not set, and there is no table {roots[0]} for the example that"
        " comes along",
        "Have one written: projector scaffold TABLE > mine.py; then set"
        " PROJECTOR_PROJECTION=mine.py:documents (docs/projection.md).",
    )


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


def _redis_required(settings: Settings, plans: Sequence[Plan]) -> list[Check]:
    server = Server(settings.redis)
    try:
        return store.required(settings, plans, server)
    finally:
        server.close()


def _redis(settings: Settings, plans: Sequence[Plan]) -> list[Check]:
    server = Server(settings.redis)
    try:
        info = server.info(plans[0].name)
        checks = [ok("redis.reachable", "yes"), *store.required(settings, plans, server)]
        checks.append(store.left_behind(settings.redis, plans, server))
        return checks + store.recommended(settings.redis, info, _snapshots(server))
    finally:
        server.close()


def _snapshots(server: Server) -> str | None:
    """Ask when Redis writes snapshots; None where that may not be asked."""
    try:
        return str(server.call("CONFIG GET", "save").get("save", ""))
    except (OperatorError, RedisError):
        return None


def _stored(settings: Settings, plan: Plan) -> list[Check]:
    """Compare what is stored with what the database has."""
    schema = settings.mysql.parsed_url.database or ""
    sink = RedisSink(settings.redis, plan.name, Position.parse, views=plan.views.keep)
    try:
        checks = projection.checkpoint(settings, plan, sink.checkpoint_fields())
        with _asking(settings, [plan], settings.mysql.parsed_read_url) as (asker, _):
            table = look(asker, plan.table_name(plan.root, schema))
            mean = projection.mean_bytes(plan, asker)
        rows = table.rows if table is not None else 0
        checks += store.views(plan, sink.views())
        return [*checks, store.needs(sink.info(), plan, sink.count(), rows, mean)]
    finally:
        sink.close()
