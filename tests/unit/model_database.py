"""The model's database: every version of it, the log that led there, and what readers see of it.

Tickets belong to customers; a document is a ticket with its customer. Each write has a number of
its own, so two documents are equal only if they are of the same moment.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Column, Integer, MetaData, Table

from projector.fetch import Fetched, Found
from projector.model import Change, Kind, Need, RowsChange, TableChange, TableName
from projector.mysql.dialect import MYSQL
from projector.mysql.position import Flavour, GtidSet, Position
from projector.projection import Join, Plan, Projection
from projector.route import Values

SID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
TICKETS, CUSTOMERS, OTHERS = (TableName("db", name) for name in ("tickets", "customers", "others"))
TICKET_IDS = range(1, 8)
CUSTOMER_IDS = range(1, 3)

_metadata = MetaData()
_customers = Table("customers", _metadata, Column("id", Integer, primary_key=True),
                   Column("name", Integer))  # fmt: skip
_tickets = Table("tickets", _metadata, Column("id", Integer, primary_key=True),
                 Column("customer_id", Integer), Column("title", Integer))  # fmt: skip
PLAN = Plan(
    Projection(
        name="tickets",
        root=_tickets,
        fields=[_tickets.c.title, _customers.c.name],
        joins=[Join(_customers, _customers.c.id == _tickets.c.customer_id)],
    ),
    MYSQL,
)
WATCHES = PLAN.watches("db")


def position(version: int) -> Position:
    """The place after so many transactions."""
    gtids = GtidSet({(SID, ""): ((1, version),)} if version else {})
    return Position(Flavour.MYSQL, SID, "binlog.000001", version, gtids)


@dataclass(frozen=True)
class Version:
    """The database between two transactions."""

    tickets: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # customer, title
    customers: Mapping[int, int] = field(default_factory=dict)  # name

    def document(self, ticket: int) -> bytes | None:
        """The document of a ticket, if there is one."""
        if ticket not in self.tickets:
            return None
        customer, title = self.tickets[ticket]
        return f"{title} {customer} {self.customers.get(customer)}".encode()

    def place(self, ticket: int) -> str:
        """In which lists a ticket stands."""
        return place_of(self.document(ticket))

    def documents(self) -> dict[str, bytes]:
        """All documents by id."""
        return {str(ticket): self.document(ticket) or b"" for ticket in self.tickets}


def place_of(document: bytes | None) -> str:
    """In which lists a document stands: its customer's, and that of odd titles."""
    if document is None:
        return ""
    title, customer, _ = document.decode().split(" ")
    return f"{title} customer:{customer}" + ("\n title:odd" if int(title) % 2 else "")


def row(table: TableName, key: int) -> tuple[int, ...]:
    """A row as the log has it: of both tables the route needs the key alone."""
    [columns] = [watch.columns for watch in WATCHES if watch.table == table]
    assert columns == ("id",)
    return (key,)


class Database:
    """All versions, oldest first. `visible`: how far other connections see it at least."""

    def __init__(self) -> None:
        self.versions = [Version()]
        self.log: list[list[Change]] = []
        self.visible = 0
        self._writes = 0

    @property
    def committed(self) -> int:
        return len(self.log)

    def commit(self, writes: Sequence[tuple[str, int, int]]) -> None:
        """One transaction of writes: what is done, to which ticket, with which customer."""
        tickets, customers = dict(self.versions[-1].tickets), dict(self.versions[-1].customers)
        changes: list[Change] = []
        for act, ticket, customer in writes:
            self._writes += 1
            match act:
                case "ticket":
                    changes.append(_changed(TICKETS, ticket, is_new=ticket not in tickets))
                    tickets[ticket] = customer, self._writes
                case "customer":
                    changes.append(_changed(CUSTOMERS, customer, is_new=customer not in customers))
                    customers[customer] = self._writes
                case "delete":
                    if tickets.pop(ticket, None):
                        changes.append(_deleted(TICKETS, ticket))
                case "leave":
                    if customers.pop(customer, None):
                        changes.append(_deleted(CUSTOMERS, customer))
                case "truncate":
                    tickets.clear()
                    changes.append(TableChange(TICKETS, "truncate"))
                case "statement":  # logged as such: of all customers nobody knows which
                    customers[customer] = self._writes
                    changes.append(TableChange(CUSTOMERS, "statement"))
                case "other":
                    changes.append(RowsChange(OTHERS, Kind.INSERT, [], [(1,)], 1))
        self.versions.append(Version(tickets, customers))
        self.log.append(changes)


def _changed(table: TableName, key: int, *, is_new: bool) -> RowsChange:
    after = [row(table, key)]
    return RowsChange(
        table, Kind.INSERT if is_new else Kind.UPDATE, [] if is_new else after, after, 1
    )


def _deleted(table: TableName, key: int) -> RowsChange:
    return RowsChange(table, Kind.DELETE, [row(table, key)], [], 1)


class VersionFetcher:
    """What `Fetcher` promises, over versions: each call sees one snapshot at or beyond its need,
    and none where there is nothing to read.

    `choose(least, most)` says which of the versions that may be seen is.
    """

    def __init__(
        self, database: Database, choose: Callable[[int, int], int], *, has_barrier: bool
    ) -> None:
        self._database = database
        self._choose = choose
        self._has_barrier = has_barrier

    def _snapshot(self, need: Need) -> Version:
        database = self._database
        least = database.visible
        if self._has_barrier:
            least = max(least, need.position.offset)
        database.visible = self._choose(least, database.committed)
        return database.versions[database.visible]

    def look_up(self, look_ups: Mapping[str, set[Values]], need: Need, limit: int) -> Found:
        if not look_ups:
            return Found(frozenset(), {})
        version = self._snapshot(need)
        ids: set[str] = set()
        deferred: dict[str, frozenset[Values]] = {}
        for name, values in look_ups.items():
            found = _of_customers(version, values)
            if len(found) > limit:
                deferred[name] = frozenset(values)
            else:
                ids.update(found)
        return Found(frozenset(ids), deferred)

    def look_up_after(
        self, name: str, values: Sequence[Values], after: str | None, limit: int, need: Need
    ) -> list[str]:
        return _beyond(_of_customers(self._snapshot(need), values), after)[:limit]

    def ids_after(self, after: str | None, limit: int, need: Need) -> list[str]:
        return _beyond(map(str, self._snapshot(need).tickets), after)[:limit]

    def existing(self, ids: Sequence[str], need: Need) -> set[str]:
        if not ids:
            return set()
        version = self._snapshot(need)
        return {document_id for document_id in ids if int(document_id) in version.tickets}

    def documents(self, ids: Sequence[str], need: Need) -> Fetched:
        if not ids:
            return Fetched({}, frozenset(), {})
        version = self._snapshot(need)
        found = {k: version.document(int(k)) for k in ids}
        there = {k: v for k, v in found.items() if v is not None}
        places = {k: version.place(int(k)) for k in there}
        return Fetched(there, frozenset(ids) - there.keys(), {}, places)


def _of_customers(version: Version, values: Sequence[Values] | set[Values]) -> list[str]:
    return [str(k) for k, (customer, _) in version.tickets.items() if (customer,) in values]


def _beyond(ids: object, after: str | None) -> list[str]:
    least = int(after) if after is not None else 0
    return [str(k) for k in sorted(map(int, ids)) if k > least]  # type: ignore[call-overload]


def scan_place(document_id: str) -> int:
    """Where the store in memory has an id in its order of scanning."""
    return 1 + zlib.crc32(document_id.encode())
