"""What the probes ask: would a restart help, and can this process be relied on? Pure."""

from __future__ import annotations

from dataclasses import dataclass

from projector.service.health import HealthState, State
from projector.settings import Http


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer to a probe. `why` is for people."""

    ok: bool
    why: str


def live(state: HealthState, settings: Http) -> Verdict:
    """Judge whether a restart would help: only when the loop itself stands still."""
    age = state.progress_age_s
    if age > settings.live_timeout_s:
        return Verdict(False, f"the loop has not gone round for {age:.0f} s")
    return Verdict(True, f"the loop makes progress{_cause(state)}")


def ready(state: HealthState, settings: Http) -> Verdict:
    """Judge whether documents are current by this process's doing, or it stands by in health."""
    dead = [
        name
        for name, up in ((state.database, state.database_up), ("Redis", state.redis_up))
        if up is False
    ]
    if not live(state, settings).ok:
        return live(state, settings)
    if dead:
        return Verdict(False, f"{' and '.join(dead)} not answering")
    match state.state:
        case State.STANDBY:
            return Verdict(True, f"standby: {_leader(state)}")
        case State.BUILDING:
            walk = state.resync
            told = f"building: {walk.done} of {walk.total}" if walk else "building"
            return Verdict(False, told + _cause(state))
        case State.LEADING | State.CATCHING_UP:
            verdict = _caught_up(state.lag_s, settings.ready_max_lag_s)
            return Verdict(verdict.ok, verdict.why + _standby(state) + _cause(state))
        case State.STARTING | State.STOPPING | State.STOPPED:
            return Verdict(False, state.state.value)


def _cause(state: HealthState) -> str:
    return f"; waiting: {state.waiting_for}" if state.waiting_for else ""


def _leader(state: HealthState) -> str:
    if state.leader is None:
        return "another process leads"
    return f"{state.leader.name} leads" if state.leader.name else "nobody leads at the moment"


def _standby(state: HealthState) -> str:
    names = ", ".join(state.standby_for)
    return f"; stands by for {names}" if names else ""


def _caught_up(lag_s: float | None, limit_s: float) -> Verdict:
    if lag_s is None:
        return Verdict(False, "leader, lag not known yet")
    if lag_s > limit_s:
        return Verdict(False, f"lagging: {lag_s:.1f} s behind, {limit_s:g} s allowed")
    return Verdict(True, "leader and caught up")
