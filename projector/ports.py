"""The seams: where changes come from, where documents are read, where they go."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from projector.model import (
    Applied,
    Batch,
    Checkpoint,
    Damage,
    Differences,
    KeyByTable,
    Leader,
    Need,
    Transactions,
    ViewFigures,
    Watch,
)
from projector.position import Position
from projector.projection import Plan
from projector.projection.columns import Types
from projector.projection.folding import Foldings
from projector.projection.levels import Rows


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a term knows of the database beside the projections. `watches`: what the log must tell;
    `types`: of the columns that the projections read; `private`: the log's own, compared only;
    `foldings`: which texts are one value of views' keys."""

    watches: Sequence[Watch]
    types: Types = field(default_factory=dict)
    private: object = None
    foldings: Foldings = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Patience:
    """How to wait until the log's changes show where documents are read. `is_stopping` ends a wait
    with TransientError, as `seconds` do; `on_wait` is told what a long one is for, and None when it
    is over."""

    is_stopping: Callable[[], bool] = bool
    seconds: float = math.inf
    on_wait: Callable[[str | None], None] = lambda cause: None


FOR_EVER = Patience()


class Source(Protocol):
    """A log of committed transactions.

    Contract: every transaction after the start position comes out exactly once between two
    failures, in commit order, whole or in pieces that end with a position. No position is ever
    handed out that lies inside a transaction. A method raises `TransientError` (peer `mysql`) when
    the server is away; the source has then ended and `start` may be called again with the last
    position that was made durable.
    """

    @property
    def clock_offset_s(self) -> float:
        """The server's clock minus ours, in seconds, as last measured."""
        ...

    @property
    def crash_loss_s(self) -> float:
        """For how many seconds what can be read may yet be lost in a crash of the server, without
        a word in the log; 0: never. Since the last `start`."""
        ...

    def learn(self, plans: Sequence[Plan], patience: Patience) -> Knowledge:
        """Read what must be known of the projections' tables, as it is at the log's end."""
        ...

    def current(self) -> Position:
        """Return the end of the server's log: everything committed by now lies at or before it."""
        ...

    def visible_end(self) -> Position:
        """Return a place at or beyond `current`: everything that a snapshot can hold by now lies at
        or before it, also what is seen already and not yet counted as committed."""
        ...

    def begin(self) -> Position:
        """Return a place to read from for a build of everything: whatever a snapshot does not show
        by now will be streamed. What others have read before is given up; nobody goes on from
        there. While no stream is under way."""
        ...

    def check(self, position: Position) -> None:
        """Raise PositionLostError when the log cannot be read on from `position` (purged, reset,
        another server's log); `start` may find out more. While no stream is under way."""
        ...

    def start(self, position: Position, watches: Sequence[Watch]) -> None:
        """Begin to read after `position`; `watches` are those last learned. Raises
        PositionLostError when the log cannot be read on from there (purged, reset, another
        server's log)."""
        ...

    def read(self, timeout_s: float) -> Transactions | None:
        """Return what has been read since the last call, at once if there is something, else wait.

        None: nothing came within `timeout_s`. An idle server's heartbeats come as Transactions
        without changes and with `is_head`. Raises PositionLostError when the log broke off where
        it cannot be read on, UndecodableLogError for what must not be skipped.
        """
        ...

    def confirm(self, durable: Collection[Position]) -> None:
        """Note what checkpoints hold: what lies before all of these places may be let go."""
        ...

    def wake(self) -> None:
        """Let a `read` under way, or else the next one, return at once; for any thread."""
        ...

    def close(self) -> None:
        """End the stream and free the connection; `start` may follow."""
        ...


class Reader(Protocol):
    """Reads of the database, for one thread at a time."""

    def rows(
        self, queries: Sequence[str], need: Need, max_bytes: float = math.inf
    ) -> Sequence[Rows]:
        """Run queries in one snapshot that holds what is needed; return the rows of each.

        Waits for that as long as it takes. Raises TransientError when the database is away or the
        wait was ended, TooMuchError beyond `max_bytes`, ValueRefusedError for a value that the
        server refuses, RefusedError for any other refusal.
        """
        ...

    def close(self) -> None:
        """Free the connection."""
        ...


class Database(Protocol):
    """Where documents are read: the log's server, or a replica of it."""

    def readers(
        self,
        position: Position,
        keys: KeyByTable,
        patience: Patience,
        on_answer: Callable[[], None] = lambda: None,
    ) -> Callable[[], Reader]:
        """Return what makes readers, for any thread, that wait for places of this one's log.

        `keys`: of the tables whose changes are waited for. `on_answer` is told of each answer.
        Raises OperatorError where nobody can tell what is visible.
        """
        ...

    def fitted(self, plan: Plan) -> Plan:
        """Return the plan for the types that its tables have now."""
        ...

    def count(self, query: str) -> int:
        """Return a count as of now, 0 where that takes more than seconds: for a bar."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """What a renewal finds.

    `held`: still this process's, with the checkpoint that it knows. `are_lists_lost`: lists are not
    as they were written, as far as this renewal has looked; some are looked at in each.
    """

    held: bool
    damage: Damage = Damage.NONE
    are_lists_lost: bool = False


class Sink(Protocol):
    """A store of documents by id with a checkpoint.

    Contract: `apply` is one atomic act, refused with FencedError unless this process holds the
    lease, has called `load` in this term, and the stored checkpoint is the one it continues from.
    All methods raise TransientError (peer `redis`) when the store is away; an `apply` that failed
    so may have been done: calling it again with the same batch is safe and does it once.

    Damage is told by `load`, `renew` and every `apply`, also to the next process, until a batch
    records a debt that covers it, where none of its key is owed: `all`, or `orphans` for growth.

    Lists are written in the same act. It moves ids by what it finds recorded of each, whatever was
    written before; documents without a place stand in none from then on; for any reason but a
    change of rows it rewrites every entry. Lost lists are told like damage, until `lists` or `all`
    is owed, for cause.
    """

    @property
    def epoch(self) -> int:
        """The number of this term; grows with every new holder of the lease."""
        ...

    def memory(self) -> tuple[int, int]:
        """Return the store's memory in use and its limit (0: none), in bytes."""
        ...

    def acquire(self) -> bool:
        """Take or keep the lease; False when another holds it."""
        ...

    def renew(self, report: str = "") -> Lease:
        """Extend the lease. Also notices a store that changed by itself. `report`, if any, is what
        the holder says of itself, as JSON, for those who ask the store."""
        ...

    def release(self) -> None:
        """Release the lease, if held."""
        ...

    def leader(self) -> Leader:
        """Return who holds the lease, and what is known of the last one who did."""
        ...

    def load(self) -> Checkpoint | None:
        """Read the checkpoint and remember its stamp as the one to continue from."""
        ...

    def apply(self, batch: Batch) -> Applied:
        """Write documents, removals, records and checkpoint together. The first write of a new
        hash gives position and fingerprint."""
        ...

    def read(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        """Return the stored documents among `ids`."""
        ...

    def compare(self, documents: Mapping[str, bytes], gone: Collection[str]) -> Differences:
        """Return how the store differs from these documents, and which of those gone it has. Never
        holds more than a few stored documents at once, however large they are."""
        ...

    @property
    def has_lists(self) -> bool:
        """Whether there are views, or lists that former ones have left."""
        ...

    def displaced(self, places: Mapping[str, str]) -> frozenset[str]:
        """Return those ids that do not stand in these lists, or in others too."""
        ...

    def strays(
        self, cursor: str | None, count: int
    ) -> tuple[str | None, int, frozenset[tuple[str, str]]]:
        """Look at some entries of lists. Return the cursor to go on with, None at the end; how many
        lists and entries were looked at; and those, as list and id, that nothing recorded of the id
        accounts for. An empty id: what is recorded of the list is wrong."""
        ...

    def due(self, until_us: int, limit: int) -> Mapping[str, str]:
        """Return ids whose documents time alone has made wrong, each with the moment since when (in
        microseconds since 1970, as text): at most so many, the longest due first."""
        ...

    def views(self) -> Mapping[str, ViewFigures]:
        """Return how much each view holds."""
        ...

    def scan(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """Return some ids and the cursor to go on with (0 when all were given): HSCAN's promise.
        Ids that stand in lists alone are given too."""
        ...

    def count(self) -> int:
        """Return the number of documents."""
        ...

    def quarantined(self, ids: Sequence[str] | None = None) -> Mapping[str, str]:
        """Return the reasons by id of documents, of all or among `ids`, that could not be
        written."""
        ...

    def debts(self) -> Mapping[str, str]:
        """Return what is owed, as JSON by key."""
        ...

    def requests(self) -> Mapping[str, str]:
        """Return what the command line asked for, as JSON by key."""
        ...
