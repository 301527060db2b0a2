"""The nouns. Values only: nothing here does I/O or knows a server.

A *position* (see `position`) is a place between two transactions in a log; a *checkpoint* is a
position made durable together with the documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import Any, Final, NamedTuple

from projector.position import Position


class TableName(NamedTuple):
    """A table of the server, as the server compares it: `folded` where it ignores case."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def folded(self, folds: bool) -> TableName:
        """Return the one spelling of a table on a server whose names ignore case
        (lower_case_table_names is not 0), else the name as it is."""
        return TableName(folded(self.schema), folded(self.name)) if folds else self


def folded(name: str) -> str:
    """Return a name in lower case, letter by letter as servers do it: as long as before."""
    if name.isascii():
        return name.lower()
    return "".join(letter.lower()[0] for letter in name)


class Missing(Enum):
    """The one value `MISSING`: the row image in the log does not hold this column."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING

Row = tuple[Any, ...]  # values of `Watch.columns`, in that order; MISSING where the log lacks one


class Kind(StrEnum):
    """What was done to rows."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


class RowsChange(NamedTuple):
    """Rows of one table, changed by one event.

    `before` is empty for inserts, `after` for deletes; for updates both have the same length and
    the same order. `row_count` is the number of rows changed, also of those left out because none
    of the columns that documents read has changed. `hides`: what foreign keys did to other rows in
    consequence is not in the log; otherwise it is, or they did nothing.
    """

    table: TableName
    kind: Kind
    before: Sequence[Row]
    after: Sequence[Row]
    row_count: int
    hides: bool = True


class TableChange(NamedTuple):
    """Rows of a table changed in a way that the log does not spell out, `reason` says how.

    `reason` is one of `truncate`, `drop`, `rename`, `statement`, `undecodable`, `alter`,
    `prepared`, `cascade`. With `table` None any watched table may have changed.
    """

    table: TableName | None
    reason: str


Change = RowsChange | TableChange

# Of each table its primary key: the place in a row of its `Watch`, and the name of each column.
KeyByTable = Mapping[TableName, tuple[tuple[int, str], ...]]


@dataclass(frozen=True, slots=True)
class Watch:
    """What a source reports of a table.

    `columns` are decoded into each `Row`, digests of `bases` follow them there: to tell whether
    columns have changed that the log may leave out, being generated from these. An update that
    leaves all columns of `read` as they were may be left out of the rows (but is counted).

    `implied`: tables with pairs of columns (own, theirs; in lower case) by which rows of this table
    belong to rows there, where a change of a row there touches all the documents that the rows of
    this table stand in.

    `is_read`: documents read the table; otherwise only what its deletes and updates do to other
    tables matters. `keys_unseen`: the account is not shown by which foreign keys the rows of this
    table change without a row in the log.
    """

    table: TableName
    columns: tuple[str, ...]
    read: frozenset[str]
    bases: tuple[str, ...] = ()
    implied: frozenset[tuple[TableName, frozenset[tuple[str, str]]]] = frozenset()
    is_read: bool = True
    keys_unseen: bool = False

    def joined(self, other: Watch) -> Watch:
        """Return what serves both, for one table."""
        if self.is_read and other.is_read:
            implied = self.implied & other.implied
        else:
            implied = self.implied if self.is_read else other.implied
        return Watch(
            self.table,
            tuple(dict.fromkeys([*self.columns, *other.columns])),
            self.read | other.read,
            (),
            implied,
            is_read=self.is_read or other.is_read,
            keys_unseen=self.keys_unseen or other.keys_unseen,
        )


def merged(watches: Iterable[Watch]) -> list[Watch]:
    """Join what several projections want of the same table."""
    by_table: dict[TableName, Watch] = {}
    for watch in watches:
        known = by_table.get(watch.table)
        by_table[watch.table] = watch if known is None else known.joined(watch)
    return list(by_table.values())


@dataclass(frozen=True, slots=True)
class Transactions:
    """One or more whole committed transactions in commit order, or a piece of a large one.

    `position`: where to read on, safe to keep as checkpoint; None for a piece of a transaction
    that has not ended yet. `barrier`: what a reading connection must have reached before these
    changes are visible to it (usually equal to `position`). `commit_times`: seconds since the
    epoch by the server's clock, one a transaction, as exact as the log has them. `is_head`: the
    source had nothing more to give at that moment. `has_undone`: of these changes, or of the pieces
    before, some did not last (a rollback that the server logs).
    """

    changes: Sequence[Change]
    count: int
    position: Position | None
    barrier: Position
    commit_times: Sequence[float]
    is_head: bool = False
    has_undone: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """What must be visible to a read: a position, and the changes that lead up to it.

    `is_unspelled`: among them some whose rows nobody knows (a statement, a build's beginning), so
    that where row locks are the barrier whatever is read must be locked. `is_kept`: the snapshot
    will stay open, so nothing may be locked in it; see `mysql.barrier`.
    """

    position: Position
    changes: Sequence[Change] = ()
    is_unspelled: bool = False
    is_kept: bool = False


class Reason(StrEnum):
    """Why documents are written."""

    CHANGE = "change"
    RESYNC = "resync"
    REPAIR = "repair"


class Damage(IntEnum):
    """What others did to hash and debts, judged by their numbers, since it was last owed.

    Numbers as the store records them.
    """

    NONE = 0
    LOST = 1  # some are gone, or nobody knows what stands there
    GREW = 2  # there are more documents than were written: nothing is missing

    def and_then(self, other: Damage) -> Damage:
        """Return the worse of both."""
        if other is Damage.NONE or self is Damage.LOST:
            return self
        return other


@dataclass(frozen=True, slots=True)
class ViewSet:
    """The lists that are kept beside documents. `mark` changes when the same rows would stand in
    other lists, "" without any. `definitions`: for readers, by name of the view."""

    mark: str = ""
    definitions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ViewFigures:
    """How much a view holds: entries of its lists, lists, and bytes, None where nobody may ask."""

    members: int
    lists: int
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Differences:
    """Ids by what is wrong with them in the store."""

    missing: frozenset[str] = frozenset()
    stale: frozenset[str] = frozenset()
    orphan: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.missing) + len(self.stale) + len(self.orphan)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position made durable, with what is owed beside it.

    `stamp` is new with every write; a writer goes on only from the stamp that it knows.
    `fingerprint` names the projection that the documents were made with. `committed_at`: commit
    time of the last transaction applied, seconds since the epoch. `documents`: size of the hash
    after the write. `debts`: work put off, by key, each a JSON text. `damage`: found when it was
    read. `views`: the mark of the views that documents were put into; `are_lists_lost`: they are
    not as they were written.
    """

    position: Position
    stamp: str
    fingerprint: str
    committed_at: float
    documents: int
    debts: Mapping[str, str] = field(default_factory=dict)
    damage: Damage = Damage.NONE
    views: str = ""
    are_lists_lost: bool = False


@dataclass(frozen=True, slots=True)
class Leader:
    """Who follows a projection, as its store has it. `name`: host and process, None when nobody
    does. `age_s`: since the last checkpoint was written, None without one. `lag_s`, `waiting_for`:
    what the last one said of itself."""

    name: str | None
    age_s: float | None = None
    lag_s: float | None = None
    waiting_for: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one atomic act writes. `position` None leaves the checkpoint's position as it is.

    `debts`, `quarantine`, `resync`: changes of the records beside, by key; None strikes one off.
    `requests_done`: what was asked of the daemon and is hereby taken up.

    `places`: by id, of documents written and of others, the lists in which they stand from now on
    (see `projection.places`). `strays`: lists with ids that should not stand there. `views`: those
    that there are from now on.
    """

    documents: Mapping[str, bytes]
    removed: frozenset[str]
    reason: Reason
    position: Position | None = None
    fingerprint: str | None = None
    committed_at: float | None = None
    debts: Mapping[str, str | None] = field(default_factory=dict)
    quarantine: Mapping[str, str | None] = field(default_factory=dict)
    resync: Mapping[str, str | None] = field(default_factory=dict)
    requests_done: frozenset[str] = frozenset()
    places: Mapping[str, str] = field(default_factory=dict)
    strays: frozenset[tuple[str, str]] = frozenset()
    views: ViewSet | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What a write did: `written` documents, `removed` ones that had existed, size of the hash.

    `grown`: how many documents more than recorded it found. `are_lists_lost`: as in Checkpoint.
    """

    written: int
    removed: int
    documents: int
    checkpoint: Checkpoint
    damage: Damage  # found before the write
    grown: int = 0
    are_lists_lost: bool = False
