"""`projector check`: all that the daemon presumes of servers and projection, beforehand.

Every finding is one line with what to do about it. Never writes to either server, and never ends
with a traceback for what a server or a setting is like.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from redis import RedisError

from projector import compiled, fitness
from projector.checks import Check, Status, ok, skipped, warning
from projector.commands import check_mysql
from projector.commands.judging import failures, guarded
from projector.errors import ConfigurationError, OperatorError
from projector.position import Parse, Position
from projector.projection import Plan
from projector.settings import Settings
from projector.sink_redis import RedisSink
from projector.sink_redis import checks as store
from projector.sink_redis.client import Server

__all__ = ["Check", "Status", "require", "run_checks"]

_LOOK_AGAIN_S = 0.25
_REDIS = "PROJECTOR_REDIS__URL"


class Ground(Protocol):
    """What is looked at of a kind of database. `SETTING`: of its URL; `NEEDED`: checks without
    which nothing more can be told; `UNFORESEEN`: what its driver raises beside our own errors."""

    SETTING: str
    NEEDED: tuple[str, ...]
    UNFORESEEN: type[Exception]

    @property
    def parse(self) -> Parse:
        """Reads a position."""
        ...

    def every(self, settings: Settings, plans: Sequence[Plan]) -> list[Check]:
        """Look at everything."""
        ...

    def required(
        self,
        settings: Settings,
        plans: Sequence[Plan],
        unfit: list[Check],
        on_answer: Callable[[], None],
    ) -> list[Check]:
        """Look at what `run` needs; what is wrong with the projection goes to `unfit`."""
        ...

    def check_position(self, settings: Settings, position: Position) -> None:
        """Raise PositionLostError where the log cannot be read on from there."""
        ...

    def sizes(self, settings: Settings, plan: Plan) -> tuple[int, float]:
        """Return how many documents there may be, and their mean size in bytes."""
        ...


def _ground(settings: Settings) -> Ground:
    """Choose by the settings; PostgreSQL's driver is an extra."""
    if not settings.is_postgres:
        return check_mysql
    from projector.commands import check_postgres

    return check_postgres


def run_checks(settings: Settings, plans: Sequence[Plan]) -> list[Check]:
    """Look at everything; what cannot be looked at is said, and the rest goes on."""
    ground = _ground(settings)
    checks = [ok("projection", f"{plan.name}: {plan.fingerprint}") for plan in plans]
    checks.append(_core(settings))
    checks += [check for plan in plans for check in fitness.masks(plan)]
    look_at = partial(ground.every, settings, plans)
    database = guarded(ground.NEEDED[0], ground.SETTING, look_at, ground.UNFORESEEN)
    redis = guarded("redis.reachable", _REDIS, lambda: _redis(settings, plans))
    if any(check.name == "projection" for check in database):  # of nobody's choice
        return [*database, *redis]
    checks += database + redis
    if {*ground.NEEDED, "redis.reachable"} & {c.name for c in checks if c.status == "failed"}:
        return [*checks, skipped("stored documents", "both servers must answer first")]
    for plan in plans:
        look_at = partial(_stored, settings, ground, plan)
        checks += guarded(
            f"{plan.name}.checkpoint", _REDIS, look_at, (RedisError, ground.UNFORESEEN)
        )
    return checks


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
    ground = _ground(settings)
    unfit = [check for plan in plans for check in fitness.masks(plan)]
    look_at = partial(ground.required, settings, plans, unfit, on_answer)
    wrong = failures(look_at, ground.UNFORESEEN)
    wrong += failures(lambda: _redis_required(settings, plans))
    kind = OperatorError if wrong else ConfigurationError
    wrong += unfit
    if wrong:
        fixes = dict.fromkeys(check.fix for check in wrong if check.fix)
        raise kind("; ".join(check.detail for check in wrong), " ".join(fixes))


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


def _stored(settings: Settings, ground: Ground, plan: Plan) -> list[Check]:
    """Compare what is stored with what the database has."""
    sink = RedisSink(settings.redis, plan.name, ground.parse, views=plan.views.keep)
    try:
        check_position = partial(ground.check_position, settings)
        fields = sink.checkpoint_fields()
        checks = fitness.checkpoint(settings, plan, fields, ground.parse, check_position)
        rows, mean = ground.sizes(settings, plan)
        checks += store.views(plan, sink.views())
        return [*checks, store.needs(sink.info(), plan, sink.count(), rows, mean)]
    finally:
        sink.close()
