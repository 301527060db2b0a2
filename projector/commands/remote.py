"""What the command line asks of the stores and of a running daemon: status, verify, resync.

Reads, and puts requests where the holder of the lease finds them; writes no document itself unless
nobody holds the lease and a repair is wanted.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from projector.commands.verdict import judge, not_built
from projector.debt import LISTS, REPAIR, Debt, full, ids_debt
from projector.errors import OperatorError, ProjectorError
from projector.fetch import Fetched, Fetcher
from projector.lane import Lane
from projector.model import Need, Watch
from projector.ports import Database, Knowledge, Patience
from projector.position import Parse, Position
from projector.projection import Plan
from projector.reconcile import BACKGROUND
from projector.record import read_number
from projector.settings import Settings
from projector.sink_redis import RedisSink
from projector.verify import Comparison, differing_fields

_COUNTS = ("done", "total", "written", "removed")
_POLL_S = 0.2
_TAKEN_UP_S = 15.0  # a leader looks for requests several times a second


class RemoteProjection:
    """One projection, seen from outside the daemon."""

    def __init__(
        self, settings: Settings, plan: Plan, sink: RedisSink, database: Database, parse: Parse
    ) -> None:
        self.settings = settings
        self.plan = plan
        self.sink = sink
        self._database, self._parse = database, parse

    def status(self, now: float) -> dict[str, Any]:
        """Return verdict, checkpoint, lag, lease, progress, last error; `not_built` and no more
        when no checkpoint exists. Numbers are numbers, times RFC 3339."""
        fields = self.sink.checkpoint_fields()
        name = self.plan.name
        if "position" not in fields:
            none = not_built(name)
            return {"projection": name, "verdict": none.word, "summary": none.sentence}
        quarantine = self.sink.quarantined()
        leader, told = self.sink.holder(), self.sink.report()
        updated_at = read_number(fields.get("updated_at"), now)
        found = {f"by_{view}": dataclasses.asdict(x) for view, x in self.sink.views().items()}
        views = {"views": found} if found else {}
        facts = {
            "checkpoint": fields["position"],
            "committed_at": rfc3339(fields.get("committed_at")),
            "checkpoint_age_s": round(max(0.0, now - updated_at), 3),
            "lag_s": told.get("lag_s") if leader is not None else None,
            "epoch": int(read_number(fields.get("epoch"))),
            "leader": leader,
            "documents": self.sink.count(),
            "fingerprint": fields.get("fingerprint"),
            "fingerprint_now": self.plan.fingerprint,
            "resync": progress(self.sink.resync_state()),
            "owed": sorted(self.sink.debts().keys() - BACKGROUND),
            "quarantined": len(quarantine),
            "quarantine": dict(sorted(quarantine.items())[:20]),
            "waiting_for": told.get("waiting_for") if leader is not None else None,
            "last_error": told.get("last_error"),
            "last_error_at": rfc3339(told.get("last_error_at")),
            **views,
        }
        verdict = judge({"projection": name, **facts}, self.settings.http.ready_max_lag_s)
        said = {"projection": name, "verdict": verdict.word, "summary": verdict.sentence}
        return {**said, **facts}

    def document(self, document_id: str) -> tuple[bytes | None, Fetched]:
        """Return the stored document and what the database gives now."""
        with self._fetchers() as (fetcher, need):
            fetched = fetcher().documents([document_id], need)
        return self.sink.read([document_id]).get(document_id), fetched

    @contextmanager
    def sides(self, current: Callable[[], Any]) -> Iterator[Comparison]:
        """Return what `verify` compares."""
        with self._fetchers() as (fetcher, _):
            yield Comparison(
                self.sink, fetcher, lambda: self._database.count(self.plan.count_query(None)),
                self._position, self._passed, current,
                self.sink.holder() is not None,
                self.settings.reconcile.chunk_documents, bool(self.plan.views.timed),
            )  # fmt: skip

    def repair(self, ids: Sequence[str]) -> None:
        """Have documents rebuilt: by the daemon where one runs, else here under the lease."""
        key, debt = ids_debt(ids, REPAIR)
        if not self._is_done_here({key: debt}):
            self.ask({"kind": "resync", "ids": list(ids), "reason": "repair"}, wait=True)

    def repair_lists(self) -> None:
        """Have every document put into its lists, and what else stands there taken out."""
        if self._is_done_here({LISTS: full(REPAIR)}):
            return
        self.ask({"kind": "lists"}, wait=False)
        while LISTS in self.sink.debts():
            self._require_leader()
            time.sleep(_POLL_S)

    def ask(self, request: Mapping[str, Any], *, wait: bool) -> None:
        """Put a request; wait until it is taken up and, with `wait`, done.

        Raises OperatorError when no daemon runs.
        """
        if self.sink.holder() is None:
            raise OperatorError("no daemon runs", "Start one: `projector run`.")
        key = self.sink.request(request)
        deadline = time.monotonic() + _TAKEN_UP_S
        while key in self.sink.requests():
            if time.monotonic() > deadline:
                raise OperatorError(
                    "the daemon did not take the request up; it does so as soon as it can",
                    "See `projector status` and the daemon's log.",
                )
            time.sleep(_POLL_S / 4)
        if wait and request.get("ids"):
            debt_key, _ = ids_debt(request["ids"], "")
            while debt_key in self.sink.debts():
                self._require_leader()
                time.sleep(_POLL_S / 4)

    def progress(self) -> Iterator[dict[str, str]]:
        """Yield the progress of the walk over everything until it ends."""
        while True:
            state = self.sink.resync_state()
            owed = "all" in self.sink.debts()
            yield {**state, "state": "running" if owed else state.get("state", "done")}
            if not owed:
                return
            self._require_leader()
            time.sleep(_POLL_S)

    def require_no_leader(self) -> str | None:
        """Raise OperatorError where a daemon holds the lease. Where the store does not answer,
        return that it is not known."""
        try:
            holder = self.sink.holder()
        except ProjectorError as problem:
            return f"not known whether a daemon leads {self.plan.name}: {problem}"
        if holder is None:
            return None
        who = holder.rpartition(":")[0]
        raise OperatorError(f"{who} leads {self.plan.name}", "Stop the daemon first.")

    def _require_leader(self) -> None:
        deadline = time.monotonic() + 3 * self.settings.redis.lease_ttl_s
        while self.sink.holder() is None:
            if time.monotonic() > deadline:
                raise OperatorError(
                    "the daemon has gone; what was asked for is done when one runs again",
                    "Start one: `projector run`.",
                )
            time.sleep(_POLL_S)

    @contextmanager
    def _fetchers(self) -> Iterator[tuple[Callable[[], Fetcher], Need]]:
        """Return what gives each thread a fetcher of its own."""
        position = self._position()
        plan = self._database.fitted(self.plan)
        patience = Patience(seconds=self.settings.database.read_timeout_s)
        readers = self._database.readers(position, {}, patience)
        local = threading.local()
        made: list[Fetcher] = []

        def own() -> Fetcher:
            if not hasattr(local, "fetcher"):
                local.fetcher = Fetcher(plan, readers())
                made.append(local.fetcher)
            fetcher: Fetcher = local.fetcher
            return fetcher

        try:
            yield own, Need(position)
        finally:
            for fetcher in made:
                fetcher.close()

    def _position(self) -> Position:
        """Return the checkpoint's, and leave alone what the sink knows of it for its writes."""
        fields = self.sink.checkpoint_fields()
        if "position" not in fields:
            raise OperatorError("there is no checkpoint: nothing was built yet", "Run a daemon.")
        try:
            return self._parse(fields["position"])
        except ValueError:
            raise OperatorError(
                f"the checkpoint of {self.plan.name} cannot be read",
                "Run a daemon: it rebuilds everything.",
            ) from None

    def _passed(self) -> Position:
        """Return how far the daemon says that it has come, where that is beyond the checkpoint."""
        position = self._position()
        told = self.sink.report().get("passed")
        passed = self._parse(told) if told else position
        return passed if passed.surely_reaches(position) else position

    def _is_done_here(self, owed: Mapping[str, Debt]) -> bool:
        """Owe something and work it off, under the lease; False where a daemon holds it, perhaps
        since a moment ago."""
        if self.sink.holder() is not None:
            return False
        plan = self._database.fitted(self.plan)  # before: it may take longer than the lease lasts
        if not self.sink.acquire():
            return False
        checkpoint = self.sink.load()
        if checkpoint is None:
            raise OperatorError("there is no checkpoint that can be read", "Run a daemon.")
        watches: list[Watch] = self.plan.watches(self.settings.database.default_schema)
        lane = Lane(
            plan, self.sink, self._database, self.settings, Knowledge(watches),
            lambda: False, lambda: checkpoint.position, lambda: None,
        )  # fmt: skip
        try:
            lane.open(checkpoint)
            lane.pipeline.owe(owed)
            while owed.keys() & lane.pipeline.known.debts.keys():
                lane.walker.turn(0.0, 1.0)
                self.sink.renew()
                time.sleep(0.005)
        finally:
            lane.close()
            self.sink.release()
        return True


def progress(state: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the last walk over everything, or the one under way; None where there was none."""
    if not state:
        return None
    counts = {key: int(read_number(state.get(key))) for key in _COUNTS}
    times = {key: rfc3339(state.get(key)) for key in ("started_at", "updated_at")}
    texts = {key: state.get(key) or None for key in ("state", "scope", "reason", "phase", "cursor")}
    return {**texts, **counts, **times}


def rfc3339(seconds: object) -> str | None:
    """Write seconds since the epoch as a time in UTC; None for none."""
    number = read_number(seconds)
    if not number:
        return None
    return datetime.fromtimestamp(number, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def compared(stored: bytes | None, database: bytes | None) -> list[str]:
    """Name the fields that differ; none where both are the same."""
    return [] if stored == database else differing_fields(stored, database)
