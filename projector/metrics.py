"""Every number kept, in one place; health and the status page are computed from the same numbers.

Names and labels are the interface's; each is created once, at import, in the default registry.
Labels with a known set of values exist from the start at 0, so that `increase()` sees the first
event. `Health` is the only writer of the gauges named in `health.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress

from prometheus_client import Counter, Enum, Gauge, Histogram, disable_created_metrics

# `*_created` doubles the series, and no rule or dashboard reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_DOCUMENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

STATES = ("starting", "standby", "building", "leading", "catching_up", "stopping", "stopped")


class Moments(Histogram):
    """A histogram that takes many observations at once: one by one they cost more than a step."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe these amounts."""
        bounds, found = self._upper_bounds, [0] * len(self._upper_bounds)
        for amount in amounts:
            found[bisect_left(bounds, amount)] += 1
        for bucket, count in zip(self._buckets, found, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(sum(amounts))


row_changes = Counter(
    "projector_row_changes_total", "Row changes of watched tables read.", ["table", "kind"]
)
transactions = Counter("projector_transactions_total", "Committed transactions read.")
documents_written = Counter("projector_documents_written_total", "Documents written.", ["reason"])
documents_removed = Counter("projector_documents_removed_total", "Documents removed.", ["reason"])
lag = Gauge("projector_lag_seconds", "Age of the oldest committed change not yet applied.")
commit_to_redis = Moments(
    "projector_commit_to_redis_seconds", "From commit to readable in Redis.", buckets=_SECONDS
)
stage = Histogram(
    "projector_stage_seconds", "Time spent in a stage of a step.", ["stage"], buckets=_SECONDS
)
batch_documents = Histogram(
    "projector_batch_documents", "Documents in a batch.", buckets=_DOCUMENTS
)
documents = Gauge("projector_documents", "Documents in the hash.", ["projection"])
is_leader = Gauge("projector_is_leader", "1 while this process holds a lease.")
projection_leader = Gauge(
    "projector_projection_leader",
    "1 while this process holds the projection's lease.",
    ["projection"],
)
state = Enum("projector_state", "1 for the state that this process is in.", states=STATES)
reconnects = Counter("projector_reconnects_total", "Connections lost and re-established.", ["peer"])
errors = Counter("projector_errors_total", "Errors by kind.", ["kind"])
recoveries = Counter(
    "projector_recoveries_total",
    "Recoveries of the daemon by itself, by cause.",
    ["reason", "projection"],
)
cascades = Counter(
    "projector_cascades_total",
    "Steps with cascades that the log does not show, by how their documents were found.",
    ["found"],
)
debts = Gauge(
    "projector_debts",
    "Pieces of work put off and recorded beside the checkpoint.",
    ["projection"],
)
resync_running = Gauge(
    "projector_resync_running", "1 while a resync or repair walk is under way.", ["projection"]
)
resync_progress = Gauge(
    "projector_resync_progress_ratio", "Progress of the walk, 0 to 1.", ["projection"]
)
differences = Gauge(
    "projector_differences", "Differences found by the last verification.", ["kind", "projection"]
)
verified_timestamp = Gauge(
    "projector_verified_timestamp_seconds", "When the last verification ended.", ["projection"]
)
checkpoint_timestamp = Gauge(
    "projector_checkpoint_timestamp_seconds",
    "Commit time of the last transaction applied.",
    ["projection"],
)
mysql_up = Gauge("projector_mysql_up", "1 while the server answers.")
postgres_up = Gauge("projector_postgres_up", "1 while the server answers.")
database_up = {"MySQL": mysql_up, "PostgreSQL": postgres_up}
redis_up = Gauge("projector_redis_up", "1 while Redis answers.")
redis_memory = Gauge("projector_redis_memory_bytes", "used_memory of Redis.")
redis_memory_limit = Gauge("projector_redis_memory_limit_bytes", "maxmemory of Redis; 0: none.")
quarantined = Gauge(
    "projector_quarantined_documents", "Documents that could not be written.", ["projection"]
)
build_info = Gauge("projector_build_info", "1, with the version as label.", ["version"])
compiled_core = Gauge(
    "projector_compiled_core", "1 while the compiled core is in use, 0 while Python does its work."
)
barrier_waits = Counter(
    "projector_barrier_waits_total", "Reads repeated because a commit was not visible yet."
)
scrub_differences = Counter(
    "projector_scrub_differences_total",
    "Differences that the scrub found and mended.",
    ["kind", "projection"],
)

view_members = Gauge(
    "projector_view_members", "Documents in the lists of a view.", ["view", "projection"]
)
view_lists = Gauge("projector_view_lists", "Lists of a view.", ["view", "projection"])
view_bytes = Gauge(
    "projector_view_bytes",
    "Memory of the lists of a view, estimated by some of them.",
    ["view", "projection"],
)

slot_retained = Gauge(
    "projector_slot_retained_bytes", "Log that PostgreSQL keeps for the slot.", ["slot"]
)
slot_unconfirmed = Gauge(
    "projector_slot_unconfirmed_bytes", "Log after the place confirmed to the slot.", ["slot"]
)
slot_safe = Gauge(
    "projector_slot_safe_bytes",
    "Log that can be written before the slot may be lost; +Inf: no limit.",
    ["slot"],
)
slot_status = Gauge(
    "projector_slot_status", "1 for the wal_status that the slot has.", ["slot", "status"]
)
slot_catalog_age = Gauge(
    "projector_slot_catalog_xmin_age",
    "Transactions since the oldest whose catalog rows the slot keeps from vacuum.",
    ["slot"],
)
slot_active = Gauge("projector_slot_active", "1 while somebody reads from the slot.", ["slot"])

_OF_ONE_LEADER = (  # what the next leader tells in its turn; there is no number before the first
    documents, debts, resync_running, resync_progress, verified_timestamp, checkpoint_timestamp,
    quarantined,
)  # fmt: skip

for _reason in ("change", "resync", "repair"):
    documents_written.labels(_reason)
    documents_removed.labels(_reason)
for _peer in ("mysql", "postgres", "redis"):
    reconnects.labels(_peer)
for _found in ("snapshot", "walk"):
    cascades.labels(_found)


def forget(projection: str) -> None:
    """Drop the figures of a projection that another process may lead from now on."""
    for gauge in _OF_ONE_LEADER:
        with suppress(KeyError):  # it never had one
            gauge.remove(projection)
    for of_view in (view_members, view_lists, view_bytes):
        of_view.remove_by_labels({"projection": projection})
    for kind in ("missing", "stale", "orphan"):
        with suppress(KeyError):
            differences.remove(kind, projection)
