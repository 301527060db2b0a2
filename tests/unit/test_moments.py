"""Moments that documents wait for: how they are written, kept, and met when they have come."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from projector import due
from projector.debt import DUE, Debt
from projector.errors import ConfigurationError
from projector.fetch import Fetcher
from projector.model import Need
from projector.mysql.dialect import MYSQL
from projector.projection import Many, Moment, Passed, Plan, Projection, View
from projector.projection.encoding import Promise, SentRows
from projector.projection.forms import form_for
from projector.projection.values import Manner
from tests.examples import promises
from tests.unit.model_database import position

_METADATA = sa.MetaData()
TICKETS = sa.Table(
    "tickets", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("due_at", sa.DateTime), sa.Column("day", sa.Date), sa.Column("title", sa.String(9)),
)  # fmt: skip
STEPS = sa.Table(
    "steps", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("ticket_id", sa.Integer), sa.Column("until", sa.DateTime),
)  # fmt: skip
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 1_000_000_000


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noon in UTC, on a day of summer."""
    monkeypatch.setattr(time, "time_ns", lambda: NOW_NS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that gets on by a second each time somebody looks at it."""
    made = SimpleNamespace(ns=NOW_NS)

    def look() -> int:
        made.ns += 1_000_000_000
        return int(made.ns)

    monkeypatch.setattr(time, "time_ns", look)
    return made


def plan(**more: Any) -> Plan:
    fields = [TICKETS.c.id, Passed(TICKETS.c.due_at.label("overdue"))]
    steps = Many(
        "steps", STEPS, on=STEPS.c.ticket_id == TICKETS.c.id, fields=[Passed(STEPS.c.until)]
    )
    return Plan(Projection("tickets", TICKETS, fields, collections=[steps], **more), MYSQL)


@pytest.mark.parametrize("promise", [Promise.NOTHING, Promise.INSTANT, Promise.STAMP])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"2026-07-01 11:59:59.999999", b"true"),
        (b"2026-07-01 12:00:00", b"true"),
        (b"2026-07-01 12:00:00.000001", b"false"),
        (b"1000-01-01 00:00:00", b"true"),
        (b"9999-12-31 23:59:59.999999", b"false"),
    ],
)
@pytest.mark.usefixtures("noon")
def test_a_moment_is_past_from_itself_on(promise: Promise, value: bytes, shown: bytes) -> None:
    """To the microsecond, whatever the server has promised."""
    encode = form_for(Passed(TICKETS.c.due_at)).encoder(promise)
    assert encode is not None
    assert encode(value) == shown


@pytest.mark.usefixtures("noon")
def test_moments_are_kept_as_all_times_are() -> None:
    """By a zone of the projection or of the field, and with zero dates as they say."""
    in_berlin = form_for(Passed(TICKETS.c.due_at), Manner("Europe/Berlin"))
    assert in_berlin.checked(b"2026-07-01 14:00:00") == b"true"
    assert in_berlin.checked(b"2026-07-01 14:00:01") == b"false"
    stamp = in_berlin.encoder(Promise.STAMP)
    assert stamp is not None
    assert stamp(b"2026-07-01 12:00:01") == b"false"  # of a TIMESTAMP, which is UTC
    own = form_for(Passed(TICKETS.c.due_at, zone="America/New_York", zero_dates="null"))
    assert own.checked(b"2026-07-01 08:00:00") == b"true"
    assert own.checked(b"2026-07-01 08:00:01") == b"false"
    assert own.checked(b"0000-00-00 00:00:00") == b"null"
    assert own.shape == {"type": ["boolean", "null"]}
    with pytest.raises(ValueError, match="does not exist"):
        in_berlin.checked(b"0000-00-00 00:00:00")
    with pytest.raises(ValueError, match="not a date"):
        in_berlin.checked(b"infinity")


def test_what_is_no_moment_is_refused() -> None:
    """At start, with a remedy: a day, a text; as the key of a view; a view of the list's name."""
    for column in (TICKETS.c.day, TICKETS.c.title):
        with pytest.raises(ConfigurationError, match="no time of day") as refused:
            form_for(Passed(column))
        assert refused.value.remedy
    key: Any = Passed(TICKETS.c.due_at)
    with pytest.raises(ConfigurationError, match="Passed is no key"):
        plan(views=[View("by_overdue", key, TICKETS.c.id)])
    with pytest.raises(ConfigurationError, match="moments to come of overdue"):
        plan(views=[View("by_due", TICKETS.c.id, TICKETS.c.id)])
    with pytest.raises(ConfigurationError, match="there is no time zone"):
        Passed(TICKETS.c.due_at, zone="Berlin")


def rows(*given: tuple[bytes | None, ...]) -> SentRows:
    found = SentRows(given)
    found.promises = (Promise.WHOLE,) * 2 + (Promise.INSTANT,) * (len(given[0]) - 2 if given else 0)
    return found


@pytest.mark.usefixtures("noon")
def test_the_soonest_moment_to_come_is_kept() -> None:
    """Of all levels; none of what is past, nor of documents without one."""
    made = plan()
    past, soon, later = b"2026-07-01 11:00:00", b"2026-07-01 13:00:00", b"2026-07-02 13:00:00"
    top = rows((b"1", b"1", later), (b"2", b"2", soon), (b"3", b"3", past), (b"4", b"4", None))
    steps = rows((b"1", soon), (b"2", past), (b"2", later), (b"3", past), (b"4", later))
    steps.promises = (Promise.WHOLE, Promise.INSTANT)
    places, odd = made.places([top, steps])
    hour = 3_600_000_000
    now_us = NOW_NS // 1000
    assert odd == {}
    assert places == {
        "1": f"{now_us + hour} due:next",
        "2": f"{now_us + hour} due:next",
        "3": "",
        "4": f"{now_us + 25 * hour} due:next",
    }


def test_a_document_and_its_moment_are_told_by_one_look_at_the_clock(
    clock: SimpleNamespace,
) -> None:
    """A moment that comes in between would be false in the document, and waited for by nobody."""
    moments = [NOW_NS // 1000 + 100_000 * tenth for tenth in range(200)]
    made = plan()
    top = rows(*(
        (b"%d" % n, b"%d" % n, _written(at)) for n, at in enumerate(moments)
    ))  # fmt: skip

    class Reader:
        def rows(self, *_: Any) -> list[SentRows]:
            return [top, rows()]

        def close(self) -> None:
            pass

    fetched = Fetcher(made, Reader()).documents([str(n) for n in range(200)], Need(position(1)))  # type: ignore[arg-type]
    shown = {k: json.loads(v)["overdue"] for k, v in fetched.documents.items()}
    assert set(shown.values()) == {True, False}
    assert {k for k, place in fetched.places.items() if place} == {
        k for k, has_come in shown.items() if not has_come
    }
    assert clock.ns == NOW_NS + 1_000_000_000


def _written(at_us: int) -> bytes:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f").encode()


def test_all_places_of_a_field_are_found() -> None:
    """In objects, arrays, single rows and figures; and another field is another document."""
    made = Plan(promises.promises, MYSQL)
    assert [timed.name for timed in made.views.timed] == [
        "overdue", "late", "parent.overdue", "steps.over", "first", "all_over",
    ]  # fmt: skip
    shown = [TICKETS.c.id, TICKETS.c.due_at.label("overdue")]
    moment = [TICKETS.c.id, Moment(TICKETS.c.due_at.label("overdue"))]
    passed = [TICKETS.c.id, Passed(TICKETS.c.due_at.label("overdue"))]
    plans = [Plan(Projection("t", TICKETS, fields), MYSQL) for fields in (shown, moment, passed)]
    assert len({each.fingerprint for each in plans}) == 3
    assert [each.placer.mark != "" for each in plans] == [False, False, True]
    assert [each.views.keep for each in plans] == [{}, {}, {"due": 0}]


class Store:
    """A sink that has entries of the list, and a pipeline that takes what is owed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entries: dict[str, str] = {}
        self.asked = 0
        self.owed: list[tuple[str, ...]] = []
        self.known = SimpleNamespace(debts={})
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        made: Any = self
        self.due_of = due.Due(plan(), made, made)

    def due(self, until_us: int, limit: int) -> dict[str, str]:
        self.asked += 1
        return dict(list(self.entries.items())[:limit])

    def owe(self, debts: dict[str, Debt]) -> None:
        for debt in debts.values():
            assert debt.reason == DUE
            self.owed.append(debt.ids)
        self.known.debts.update(debts)

    def done(self, *ids: str) -> None:
        """What was owed is made; these documents lose their entries."""
        self.known.debts.clear()
        for k in ids:
            del self.entries[k]

    def turn(self, after_s: float = 0.0) -> None:
        self.now += after_s
        self.due_of.turn()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(monkeypatch)


def test_what_is_due_is_owed_once(store: Store) -> None:
    """And nothing else before it is made; asked for twice a second while there is nothing."""
    store.turn()
    store.turn(0.4)
    assert store.asked == 1
    store.entries |= {"7": "1", "8": "2"}
    store.turn(0.2)
    assert store.owed == [("7", "8")]
    store.entries["9"] = "3"
    store.turn(5.0)
    assert store.asked == 2
    store.done("7", "8")
    store.turn()
    assert store.owed == [("7", "8"), ("9",)]


def test_what_cannot_be_made_is_not_owed_for_ever(store: Store) -> None:
    """An entry that stays (its document is in quarantine) keeps no other from being met, and is
    owed again for another moment only."""
    store.entries |= {str(n): "1" for n in range(1500)}
    store.turn()
    store.done()
    store.turn()
    assert [len(ids) for ids in store.owed] == [1000, 500]
    store.done()
    store.entries |= {"new": "2", "3": "2"}
    store.turn(2.0)
    assert store.owed[2:] == [("3", "new")]
    store.done("3", "new")
    for _ in range(5):
        store.turn(2.0)
    assert len(store.owed) == 3


def test_a_projection_without_moments_asks_nothing(store: Store) -> None:
    """The store need not even have lists."""
    made: Any = store
    simple = Plan(Projection("t", TICKETS, [TICKETS.c.id]), MYSQL)
    due.Due(simple, made, made).turn()
    assert store.asked == 0
