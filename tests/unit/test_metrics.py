"""Many observations at once are what they would be one by one."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from projector.metrics import Moments

_BOUNDS = (0.5, 1.0, 5.0)


@given(st.lists(st.floats(0, 10) | st.sampled_from([0.0, *_BOUNDS])))
def test_observations_at_once_are_those_one_by_one(amounts: list[float]) -> None:
    """In the same buckets, with the same count and sum, also on the bounds themselves."""
    once, singly = (
        Moments("s", "s", buckets=_BOUNDS, registry=CollectorRegistry()) for _ in range(2)
    )
    once.observe_all(amounts)
    for amount in amounts:
        singly.observe(amount)
    [ours], [theirs] = once.collect(), singly.collect()
    assert [(s.name, s.labels, round(s.value, 6)) for s in ours.samples] == [
        (s.name, s.labels, round(s.value, 6)) for s in theirs.samples
    ]
