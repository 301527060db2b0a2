"""Health: the rule of lag, states, events and rates, by a clock that the tests turn."""

import math

import pytest
from prometheus_client import REGISTRY

from projector import metrics
from projector.service.health import Health, State
from projector.service.probes import live, ready
from projector.settings import Http

SERVER = 1_800_000_000.0  # the server's clock at the start: far from ours, on purpose


class Clock:
    """Our monotonic clock and the server's, moved together."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    @property
    def server(self) -> float:
        return SERVER + self.now - 100.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leader(clock: Clock) -> Health:
    """A leader that has just applied everything."""
    health = Health(("tickets",), heartbeat_s=1.0, clock=clock)
    health.update(state=State.LEADING, database_up=True, redis_up=True)
    health.applied(clock.server, True, clock.server)
    return health


def gauge(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None
    return value


def test_lag_is_zero_on_an_idle_server(leader: Health, clock: Clock) -> None:
    """Heartbeats say that there is nothing more, so an hour without commits is no lag."""
    for _ in range(3600):
        clock.now += 1
        leader.applied(None, True, clock.server)
    assert leader.lag_s() == 0.0
    assert gauge("projector_lag_seconds") == 0.0


def test_lag_grows_by_itself_while_nothing_arrives(leader: Health, clock: Clock) -> None:
    """A silent source may hide commits: after three heartbeats the age of what is known counts."""
    clock.now += 3
    assert leader.lag_s() == 0.0
    clock.now += 0.5
    assert leader.lag_s() == pytest.approx(3.5)
    clock.now += 60
    assert gauge("projector_lag_seconds") == pytest.approx(63.5)


def test_lag_counts_from_the_first_commit_not_applied(leader: Health, clock: Clock) -> None:
    """While a batch waits to be applied, its oldest commit ages, however fresh the heartbeats."""
    leader.received(clock.server - 0.25)
    clock.now += 1
    leader.received(clock.server)
    assert leader.lag_s() == pytest.approx(1.25)
    leader.applied(clock.server, True, clock.server)
    assert leader.lag_s() == 0.0


def test_lag_while_catching_up_is_the_age_of_the_last_commit_applied(
    leader: Health, clock: Clock
) -> None:
    """Away from the head of the log everything up to that commit is known to be applied."""
    leader.applied(clock.server - 500, False, clock.server)
    assert leader.lag_s() == pytest.approx(500)


def test_lag_is_measured_by_the_servers_clock(clock: Clock) -> None:
    """A server a century ahead of this machine has no lag for it."""
    health = Health(heartbeat_s=1.0, clock=clock)
    health.update(state=State.LEADING)
    ahead = clock.server + 3e9
    health.applied(ahead - 2, False, ahead)
    assert health.lag_s() == pytest.approx(2)


def test_work_put_off_counts_as_lag(leader: Health, clock: Clock) -> None:
    """Documents that a wide change still owes are old, though the log is read to its end."""
    leader.update(owed_since=clock.server - 7)
    assert leader.lag_s() == pytest.approx(7)
    leader.update(owed_since=None)
    assert leader.lag_s() == 0.0


def test_who_does_not_lead_knows_no_lag(leader: Health, clock: Clock) -> None:
    """A standby shows neither 0 nor an old number, and a new term starts from nothing."""
    leader.update(state=State.STANDBY)
    assert leader.snapshot().lag_s is None
    assert math.isnan(gauge("projector_lag_seconds"))
    leader.update(state=State.LEADING)
    assert leader.lag_s() is None


def test_the_metrics_follow_the_state(leader: Health) -> None:
    """State, leadership and peers are the same in health and in metrics."""
    assert gauge("projector_is_leader") == 1
    assert gauge("projector_state", projector_state="leading") == 1
    leader.update(state=State.STANDBY, redis_up=False)
    assert gauge("projector_is_leader") == 0
    assert gauge("projector_state", projector_state="leading") == 0
    assert gauge("projector_state", projector_state="standby") == 1
    assert (gauge("projector_mysql_up"), gauge("projector_redis_up")) == (1, 0)


def test_every_state_has_its_metric() -> None:
    """The words of health and of the metric are the same."""
    assert tuple(State) == metrics.STATES


def test_a_leader_far_behind_is_catching_up_until_it_reaches_the_head(
    leader: Health, clock: Clock
) -> None:
    """The two states follow the lag."""
    leader.applied(clock.server - 60, False, clock.server)
    clock.now += 1
    leader.sample()
    assert leader.snapshot().state is State.CATCHING_UP
    leader.applied(clock.server, True, clock.server)
    assert leader.snapshot().state is State.LEADING


def test_samples_hold_the_rates_of_ten_minutes(leader: Health, clock: Clock) -> None:
    """One sample a second, however often asked; the oldest go; rates are per second."""
    metrics.transactions.inc(30)
    clock.now += 2
    leader.sample()
    leader.sample()
    (sample,) = leader.samples()
    assert (sample.number, sample.transactions) == (1, 15)
    for _ in range(700):
        clock.now += 1
        leader.sample()
    assert len(leader.samples()) == 600
    assert [sample.number for sample in leader.samples(after=699)] == [700, 701]


def test_latency_is_that_of_the_last_minute(leader: Health, clock: Clock) -> None:
    """Percentiles come from the histogram's growth, within its buckets, and expire."""
    assert leader.latency() is None
    for seconds in [0.0018] * 90 + [0.4] * 10:
        metrics.commit_to_redis.observe(seconds)
    clock.now += 1
    leader.sample()
    latency = leader.latency()
    assert latency is not None
    assert 0.001 <= latency.p50_s <= 0.002
    assert 0.25 <= latency.p99_s <= 0.5
    for _ in range(61):
        clock.now += 1
        leader.sample()
    assert leader.latency() is None


def test_the_last_fifty_events_are_kept_without_credentials(leader: Health) -> None:
    """Events are the newest first, and what they repeat of a URL has no password."""
    for number in range(60):
        leader.event("seen", number=number)
    leader.failed("transient", "no way to mysql://root:geheim@db/x")
    events = leader.events()
    assert len(events) == 50
    assert events[0].text == "transient: no way to mysql://***@db/x"
    assert events[1].text == "seen, number 59"
    assert "geheim" not in str(leader.snapshot())


@pytest.mark.parametrize(
    ("state", "lag_s", "redis_up", "ok", "why"),
    [
        (State.STARTING, None, None, False, "starting"),
        (State.STANDBY, None, True, True, "standby"),
        (State.STANDBY, None, False, False, "Redis not answering"),
        (State.BUILDING, 0, True, False, "building"),
        (State.LEADING, None, True, False, "not known"),
        (State.LEADING, 0, True, True, "caught up"),
        (State.LEADING, 0, False, False, "Redis not answering"),
        (State.CATCHING_UP, 29, True, True, "caught up"),
        (State.CATCHING_UP, 31, True, False, "31.0 s behind, 30 s allowed"),
        (State.STOPPING, None, True, False, "stopping"),
        (State.STOPPED, None, True, False, "stopped"),
    ],
)
def test_readiness_says_why(
    clock: Clock, state: State, lag_s: float | None, redis_up: bool | None, ok: bool, why: str
) -> None:
    """Ready is a leader that is caught up, or a healthy standby; the reason is given."""
    health = Health(clock=clock)
    health.update(state=state)
    if redis_up is not None:
        health.update(redis_up=redis_up)
    if lag_s is not None:
        health.applied(clock.server - lag_s, False, clock.server)
    verdict = ready(health.snapshot(), Http())
    assert verdict.ok is ok
    assert why in verdict.why


def test_only_a_loop_that_stands_still_is_not_alive(leader: Health, clock: Clock) -> None:
    """Dead servers and lag are no reason to restart; a loop that hangs is, and is not ready."""
    leader.update(database_up=False, redis_up=False)
    clock.now += 80
    leader.progress()
    clock.now += 89
    assert live(leader.snapshot(), Http()).ok
    clock.now += 2
    assert not live(leader.snapshot(), Http()).ok
    leader.update(database_up=True, redis_up=True)
    leader.applied(clock.server, True, clock.server)
    assert not ready(leader.snapshot(), Http()).ok
    leader.progress()
    assert live(leader.snapshot(), Http()).ok
