"""Rates and percentiles for people: differences between readings of the counters.

Only ever reads `metrics`, by its public `collect`; Prometheus does the same from outside, better
and for longer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from projector import metrics


class Sample(NamedTuple):
    """The numbers of one second; rates are per second. `number` counts from 1."""

    number: int
    at: float
    lag_s: float | None
    transactions: float
    row_changes: float
    documents: float


class Latency(NamedTuple):
    """Commit to Redis over the last minute: median and 99th percentile, in seconds."""

    p50_s: float
    p99_s: float


class Rates:
    """Differences between readings of the counters, and of the histogram over a minute."""

    def __init__(self) -> None:
        self._before = self._counters()
        self._buckets: deque[list[tuple[float, float]]] = deque([self._histogram()], maxlen=61)

    def since(self, elapsed_s: float) -> tuple[float, float, float]:
        """Transactions, row changes and documents per second since the last call."""
        now = self._counters()
        before, self._before = self._before, now
        self._buckets.append(self._histogram())
        first, second, third = (
            (new - old) / elapsed_s for new, old in zip(now, before, strict=True)
        )
        return first, second, third

    def latency(self) -> Latency | None:
        """Return the percentiles of the last minute; None when there was no commit."""
        first, last = self._buckets[0], self._buckets[-1]
        counts = [(bound, new - old) for (bound, new), (_, old) in zip(last, first, strict=True)]
        if not counts or counts[-1][1] <= 0:
            return None
        return Latency(_quantile(counts, 0.5), _quantile(counts, 0.99))

    @staticmethod
    def _counters() -> tuple[float, float, float]:
        documents = total(metrics.documents_written) + total(metrics.documents_removed)
        return total(metrics.transactions), total(metrics.row_changes), documents

    @staticmethod
    def _histogram() -> list[tuple[float, float]]:
        (family,) = metrics.commit_to_redis.collect()
        return [
            (float(sample.labels["le"]), sample.value)
            for sample in family.samples
            if sample.name.endswith("_bucket")
        ]


def total(metric: MetricWrapperBase) -> float:
    """Sum a counter or gauge of `metrics` over its labels."""
    return sum(
        float(sample.value)
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    )


def latest(metric: MetricWrapperBase) -> float:
    """Return the largest number of `metrics` over its labels; 0 where there is none."""
    return max((float(s.value) for family in metric.collect() for s in family.samples), default=0.0)


def _quantile(cumulative: Sequence[tuple[float, float]], quantile: float) -> float:
    """Interpolate in the bucket that holds the quantile, as PromQL's histogram_quantile does."""
    rank = quantile * cumulative[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in cumulative:
        if count >= rank:
            if bound == float("inf"):
                break
            return lower + (bound - lower) * (rank - below) / max(count - below, 1e-9)
        lower, below = bound, count
    return lower
