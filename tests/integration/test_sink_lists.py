"""What every Sink promises of lists, asked of Redis 7 and 8, Valkey, a cluster, and memory."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from projector.debt import ALL, LISTS, REQUESTED, Debt
from projector.errors import FencedError, OperatorError
from projector.model import Applied, Batch, Reason, ViewSet
from projector.ports import Lease, Sink
from tests.integration.test_sink_contract import batch, module_store, position, store
from tests.memory_sink import entries
from tests.servers import RedisKind
from tests.sink_stores import NAME, OfServer, Store

__all__ = ["module_store", "store"]
pytestmark = pytest.mark.server

VIEWS = {"status": 0, "tag": 0}

# What keys of types are, the store in memory does not know.
on_servers = pytest.mark.parametrize(
    "module_store", [*RedisKind, "cluster"], indirect=True, scope="module", ids=str
)
Places = Mapping[str, str]


def leader(store: Store, views: Mapping[str, int] = VIEWS) -> Sink:
    sink = store.sink(views=views)
    assert sink.acquire()
    sink.load()
    return sink


def started(store: Store, places: Places, views: Mapping[str, int] = VIEWS) -> Sink:
    """A leader of a store with documents that stand there."""
    sink = leader(store, views)
    listed(sink, places, number=1, fingerprint="f", views=ViewSet("mark", {"status": "{}"}))
    return sink


def listed(sink: Sink, places: Places, removed: set[str] | None = None, **more: Any) -> Applied:
    return sink.apply(batch(dict.fromkeys(places, "x"), removed or set(), places=places, **more))


def walked(sink: Sink, places: Places, **more: Any) -> Applied:
    """Write as a walk does that found ids displaced."""
    return sink.apply(Batch({}, frozenset(), Reason.REPAIR, places=places, **more))


def ids(store: Store) -> dict[str, list[str]]:
    return {name: [k for k, _ in found] for name, found in store.lists().items()}


def mended(sink: Sink, places: Places) -> None:
    """Do what the walk does that is owed for lost lists."""
    wrong = sink.displaced(places)
    if wrong:
        walked(sink, {k: places[k] for k in wrong})
    cursor: str | None = None
    while True:
        cursor, _, strays = sink.strays(cursor, 100)
        if strays:
            walked(sink, {}, strays=strays)
        if cursor is None:
            break


def test_documents_move_between_lists(store: Store) -> None:
    """By what is recorded of them; an empty list vanishes, and so does what is removed."""
    sink = started(store, {"1": "10 status:open", "2": "20 status:open\n tag:a", "3": ""})
    assert store.lists() == {"status:open": [("2", 20), ("1", 10)], "tag:a": [("2", 20)]}
    listed(sink, {"1": "30 status:closed\n tag:a", "3": "5 status:open"})
    assert ids(store) == {"status:open": ["2", "3"], "status:closed": ["1"], "tag:a": ["1", "2"]}
    listed(sink, {"1": "31 status:closed\n tag:a\n7 tag:b"}, {"2"})
    assert ids(store) == {"status:open": ["3"], "status:closed": ["1"], "tag:a": ["1"],
                          "tag:b": ["1"]}  # fmt: skip
    figures = sink.views()
    assert (figures["status"].members, figures["status"].lists) == (2, 2)
    assert (figures["tag"].members, figures["tag"].lists) == (2, 2)
    listed(sink, {"1": ""}, {"3"})
    assert store.lists() == {}
    assert not sink.renew().are_lists_lost
    found = sink.load()
    assert found is not None
    assert (found.views, found.are_lists_lost) == ("mark", False)


def test_ties_are_ordered_by_id_and_scores_are_exact(store: Store) -> None:
    """Microseconds of our time are whole numbers that a score keeps."""
    now = 1_790_000_000_123_456
    started(store, {"a": f"{now} status:x", "b": f"{now} status:x", "c": f"{now + 1} status:x"})
    assert store.lists() == {"status:x": [("c", now + 1), ("b", now), ("a", now)]}


def test_names_may_hold_anything(store: Store) -> None:
    """But line feeds, which nobody writes there."""
    places = {"1": "1 status:a b:c|%7C ü😀", "2": "1 status: x"}
    started(store, places)
    assert ids(store) == {"status:a b:c|%7C ü😀": ["1"], "status: x": ["2"]}
    assert store.sink(views=VIEWS).displaced(places) == frozenset()


def test_a_refused_write_moves_nothing(store: Store) -> None:
    """Nor does one that is repeated because its reply was lost move twice."""
    sink = started(store, {"1": "1 status:open"})
    store.expire_lease()
    with pytest.raises(FencedError):
        listed(sink, {"1": "2 status:closed"})
    assert ids(store) == {"status:open": ["1"]}


def test_a_successor_without_views_keeps_the_lists_right(store: Store) -> None:
    """Until the walk that takes documents out of them has passed: the store says where they are."""
    started(store, {"1": "1 status:open", "2": "2 status:open"}).release()
    sink = leader(store, {})
    sink.apply(batch({}, {"2"}, number=2))
    assert ids(store) == {"status:open": ["1"]}
    sink.apply(batch(views=ViewSet(), debts={LISTS: "{}"}))
    assert sink.displaced({"1": "", "2": ""}) == {"1"}
    walked(sink, {"1": ""})
    assert store.lists() == {}
    sink.release()
    found = leader(store, {}).load()
    assert found is not None
    assert (found.views, found.are_lists_lost) == ("", False)


def test_what_the_tail_writes_after_views_are_given_up_leaves_its_lists(store: Store) -> None:
    """No place is given for it then, and the walk under way passes over it."""
    started(store, {"1": "1 status:open", "2": "2 status:open"}).release()
    sink = leader(store, {})
    sink.apply(batch(views=ViewSet(), debts={LISTS: "{}"}))
    sink.apply(batch({"1": "changed"}, number=2))
    assert ids(store) == {"status:open": ["2"]}
    walked(sink, {"2": ""}, debts={LISTS: None})
    assert store.lists() == {}
    assert not sink.renew().are_lists_lost


def test_views_added_later_fill_by_a_walk(store: Store) -> None:
    """Documents that were written before views were declared are displaced, and no others."""
    sink = leader(store, {})
    sink.apply(batch({"1": "a", "2": "b"}, number=1, fingerprint="f"))
    sink.release()
    sink = leader(store)
    places = {"1": "1 status:open", "2": ""}
    assert sink.displaced(places) == {"1"}
    walked(sink, {"1": places["1"]}, views=ViewSet("m"))
    assert sink.displaced(places) == frozenset()
    assert ids(store) == {"status:open": ["1"]}
    assert sink.read(["1", "2"]) == {"1": b"a", "2": b"b"}


@pytest.mark.parametrize("loss", ["list", "listed", "entry", "stranger"])
def test_lost_lists_are_noticed_and_mended(store: Store, loss: str) -> None:
    """By renewals, writes and the next process, until a walk is owed; it puts all back."""
    states = ["closed", "open", "open"]
    places = {str(n): f"{n} status:{states[n % 3]}\n tag:t{n % 7}" for n in range(60)}
    sink = started(store, places)
    whole = store.lists()
    match loss:
        case "list":
            store.lose_list("status:open")
        case "listed":
            store.lose_listed()
        case "entry":
            store.put("tag:t1", "1", 99)
            store.lose_list("tag:t2")
        case "stranger":
            store.put("status:open", "nobody", 5)
    assert any(sink.renew().are_lists_lost for _ in range(4))
    applied = listed(sink, {"1": "1 status:open\n tag:t1", "2": "3 status:open\n tag:t2"})
    lost_by_write = applied.are_lists_lost
    listed(sink, {"2": "2 status:open\n tag:t2"})
    assert lost_by_write or sink.renew().are_lists_lost
    sink.release()
    sink = leader(store)
    found = sink.load()
    assert found is not None
    assert found.are_lists_lost
    sink.apply(batch(debts={LISTS: "{}"}))
    for _ in range(2):
        mended(sink, places)
        sink.apply(batch(debts={LISTS: None}))
        if not any(sink.renew().are_lists_lost for _ in range(4)):
            break
        sink.apply(batch(debts={LISTS: "{}"}))
    assert store.lists() == whole
    assert sink.displaced(places) == frozenset()
    assert not any(sink.renew().are_lists_lost for _ in range(4))


def test_a_walk_over_everything_covers_lost_lists_too(store: Store) -> None:
    """For it looks at lists as well; but not one that somebody has asked for, and may cancel."""
    sink = started(store, {"1": "1 status:open"})
    store.lose_list("status:open")
    listed(sink, {"1": "2 status:open"})
    assert sink.renew().are_lists_lost
    sink.apply(batch(debts={ALL: Debt("all", REQUESTED).to_json()}))
    sink.apply(batch(debts={ALL: None}))
    assert sink.renew().are_lists_lost
    sink.apply(batch(debts={ALL: "{}"}))
    assert not sink.renew().are_lists_lost


def test_limits_are_kept_in_the_act(store: Store) -> None:
    """The newest stay, twice as many at most; what was cut is not put back in between."""
    sink = started(store, {str(n): f"{n} status:x" for n in range(50)}, {"status": 10})
    assert [k for k, _ in store.lists()["status:x"]] == [str(n) for n in range(49, 29, -1)]
    listed(sink, {"7": "7 status:x", "40": "3 status:x", "41": "60 status:x"})
    assert ids(store)["status:x"] == ["41", *(str(n) for n in range(49, 41, -1)),
                                      *(str(n) for n in range(39, 29, -1))]  # fmt: skip
    assert not sink.renew().are_lists_lost
    assert sink.displaced({"7": "7 status:x", "41": "60 status:x"}) == frozenset()
    gone = {str(n) for n in (*range(42, 50), *range(36, 39))}
    applied = listed(sink, {}, gone)
    assert applied.are_lists_lost
    assert len(ids(store)["status:x"]) < 10
    left = {str(n): f"{n} status:x" for n in range(36)} | {"41": "60 status:x", "39": "39 status:x"}
    left["40"] = "3 status:x"
    sink.apply(batch(debts={LISTS: "{}"}))
    mended(sink, left)
    order = sorted(left, key=lambda k: (entries(left[k])["status:x"], k.encode()), reverse=True)
    found = ids(store)["status:x"]
    assert found == order[: len(found)]
    assert 10 <= len(found) <= 20


def test_a_store_begun_anew_beside_old_lists(store: Store) -> None:
    """Where the checkpoint is lost the lists are unknown, but still moved by what is recorded."""
    sink = started(store, {"1": "1 status:open", "2": "2 status:open"})
    store.lose_checkpoint()
    sink.release()
    sink = leader(store)
    applied = listed(sink, {"1": "1 status:closed"}, number=2, fingerprint="f", debts={ALL: "{}"})
    assert applied.are_lists_lost
    assert ids(store) == {"status:open": ["2"], "status:closed": ["1"]}
    assert not sink.renew().are_lists_lost


@on_servers
def test_writes_of_versions_without_lists_are_noticed(store: OfServer) -> None:
    """They change documents and leave lists as they were, with every number the same."""
    sink = started(store, {"1": "1 status:open"})
    sink.release()
    older = store.sink()
    assert older.acquire()
    older.load()
    older._lists.in_use = False
    older.apply(batch({"1": "changed"}, number=2))
    older.release()
    found = store.sink(views=VIEWS).load()
    assert found is not None
    assert found.are_lists_lost


def test_ids_in_lists_alone_are_found(store: Store) -> None:
    """A document that a stranger took out of the hash is looked for in the lists as well."""
    sink = started(store, {"1": "1 status:open", "2": "2 status:open"})
    store.lose("2")
    seen, cursor = set[str](), 0
    while True:
        cursor, some = sink.scan(cursor, 10)
        seen.update(some)
        if not cursor:
            break
    assert seen == {"1", "2"}
    assert sink.compare({}, ["1", "2", "3"]).orphan == {"1", "2"}


def test_many_at_once(store: Store) -> None:
    """A batch in parts, with lists of thousands."""
    places = {str(n): f"{n} status:s{n % 3}\n tag:t{n % 700}" for n in range(6000)}
    sink = started(store, places)
    assert sink.displaced(places) == frozenset()
    assert {len(found) for name, found in store.lists().items() if name[:2] == "st"} == {2000}
    listed(sink, {}, set(places))
    assert store.lists() == {}
    assert sink.views().get("status") is None or sink.views()["status"].members == 0


@pytest.mark.parametrize("seed", range(6))
def test_random_writes_and_losses_end_as_one_write(store: Store, seed: int) -> None:
    """Whatever was written and lost before: lists are what the places of the documents say."""
    chance = random.Random(seed)
    keep = {"status": chance.choice([0, 3]), "tag": 0}
    sink = started(store, {}, keep)
    places: dict[str, str] = {}
    for _ in range(25):
        some = {
            str(k): "\n".join(
                f"{chance.randrange(20)} {name}"
                for name in sorted(chance.sample(["status:a", "status:b", "tag:x", "tag:y"], 2))
            )
            for k in chance.sample(range(30), 4)
        }
        gone = {str(k) for k in chance.sample(range(30), 2)} - some.keys()
        listed(sink, some, gone)
        places = {k: v for k, v in {**places, **some}.items() if k not in gone}
        if chance.random() < 0.1:
            store.put(chance.choice(["status:a", "tag:x"]), str(chance.randrange(30)), 7)
    for _ in range(2):
        sink.apply(batch(debts={LISTS: "{}"}))
        mended(sink, places)
        sink.apply(batch(debts={LISTS: None}))
    wanted: dict[str, list[tuple[float, bytes]]] = {}
    for k, place in places.items():
        for name, score in entries(place).items():
            wanted.setdefault(name, []).append((score, k.encode()))
    found = {n: [(s, k.encode()) for k, s in each] for n, each in store.lists().items()}
    for name in wanted.keys() | found.keys():
        order = sorted(wanted.get(name, []), reverse=True)
        most = keep[name.partition(":")[0]]
        got = found.get(name, [])
        assert got == (order[: len(got)] if most else order), name
        assert len(got) >= min(most, len(order))


@on_servers
def test_a_key_of_another_type_stops_the_write_before_it_begins(store: OfServer) -> None:
    """Neither documents nor lists are half written."""
    sink = started(store, {"1": "1 status:open"})
    store.client.set(f"{{{NAME}}}:by:status:closed", "mine")
    with pytest.raises(OperatorError):
        listed(sink, {"1": "1 status:closed", "2": "2 status:open"}, number=2)
    store.client.delete(f"{{{NAME}}}:by:status:closed")
    assert ids(store) == {"status:open": ["1"]}
    assert sink.read(["2"]) == {}
    found = store.sink(views=VIEWS).load()
    assert found is not None
    assert found.position == position(1)


def key(rest: str) -> str:
    return f"{{{NAME}}}:{rest}"


@on_servers
@pytest.mark.parametrize("wrong", ["by:status:open", "by:status:closed", "lists:status", "listed"])
def test_a_key_of_another_type_is_named(store: OfServer, wrong: str) -> None:
    """By the write that meets it, by a look at what is displaced, and by `check`; the lease is
    kept meanwhile, and a stranger's key is not taken away."""
    client = store.client
    sink = started(store, {"1": "1 status:open"})
    client.delete(key(wrong))
    client.set(key(wrong), "mine")
    if wrong != "by:status:closed":
        assert any(sink.renew() == Lease(held=True, are_lists_lost=True) for _ in range(4))
    acts: list[Callable[[], object]] = [lambda: listed(sink, {"1": "2 status:closed"}, number=2)]
    if wrong != "by:status:closed":
        acts.append(lambda: sink.displaced({"1": "1 status:open"}))
    for act in acts:
        with pytest.raises(OperatorError, match=re.escape(f"{key(wrong)} in Redis")) as refused:
            act()
        assert f"DEL '{key(wrong)}'" in refused.value.remedy
    assert sink.read(["1"]) == {"1": b"x"}
    if not wrong.startswith("by:"):
        assert store.sink(views=VIEWS).unusable_key() == key(wrong)


@on_servers
def test_garbage_among_records_is_passed_over(store: OfServer) -> None:
    """Of where an id stands, of how much a view holds, of how long a list is."""
    client = store.client
    places = {"1": "11 status:new", "2": "2 status:open", "3": "3 status:open"}
    sink = started(store, {"1": "10 status:open", "2": places["2"], "3": places["3"]})
    client.hset(key("listed"), "1", "5 garbage\nhigh status:x")
    client.hset(key("checkpoint"), "view:status", "abc")
    client.hset(key("lists:status"), "open", "x y z")
    assert sink.views()["status"].members == 0
    assert listed(sink, places).are_lists_lost
    rounds(sink, places)
    assert ids(store) == {"status:new": ["1"], "status:open": ["3", "2"]}
    assert (sink.views()["status"].members, sink.views()["status"].lists) == (3, 2)


def rounds(sink: Sink, places: Places) -> None:
    """Walk until nothing is lost: the walk's own acts may meet a loss as well, hence twice."""
    for _ in range(2):
        sink.apply(batch(debts={LISTS: "{}"}))
        mended(sink, places)
        sink.apply(batch(debts={LISTS: None}))
    assert not any(sink.renew().are_lists_lost for _ in range(4))


@on_servers
@pytest.mark.parametrize("loss", ["junk", "list and record", "directory and record", "figure"])
def test_a_directory_that_lies_is_mended(store: OfServer, loss: str) -> None:
    """By a walk, and for good: what it names and is not there, and lists that it does not name."""
    client = store.client
    sink = started(store, {"1": "10 status:open", "2": "20 status:closed"})
    places = {"1": "11 status:closed", "2": "20 status:closed"}
    match loss:
        case "junk":
            client.hset(key("lists:status"), "junk", "5")
        case "list and record":
            client.delete(key("listed"), key("by:status:open"))
        case "directory and record":
            client.delete(key("listed"), key("lists:status"))
        case "figure":
            client.hset(key("checkpoint"), "view:status", "7 9")
    listed(sink, {"1": places["1"]})
    assert any(sink.renew().are_lists_lost for _ in range(4))
    if loss != "figure":
        assert any(strays_of(sink))
    rounds(sink, places)
    assert store.lists() == {"status:closed": [("2", 20), ("1", 11)]}
    assert client.hgetall(key("lists:status")) == {b"closed": b"2"}
    assert (sink.views()["status"].members, sink.views()["status"].lists) == (2, 1)
    assert strays_of(sink) == set()


def strays_of(sink: Sink) -> set[tuple[str, str]]:
    found, cursor = set[tuple[str, str]](), None
    while True:
        cursor, _, some = sink.strays(cursor, 3)
        found |= some
        if cursor is None:
            return found


@on_servers
def test_a_score_that_is_no_number_moves_nothing(store: OfServer) -> None:
    """The others of its batch stand where they should: nothing is half written."""
    sink = started(store, {"1": "10 status:open", "2": "20 status:open"})
    listed(sink, {"1": "high status:new", "2": "21 status:new"})
    assert ids(store) == {"status:new": ["2"]}


@on_servers
def test_a_long_list_is_cut_little_by_little(store: OfServer) -> None:
    """So that a limit that was lowered does not hold the server up; what was cut stays away."""
    client = store.client
    sink = started(store, {"0": "0 status:x", "1": "1 status:y"})
    many = {str(n): n for n in range(12_000)}
    client.zadd(key("by:status:x"), many)
    client.hset(key("listed"), mapping={k: f"{n} status:x" for k, n in many.items()})
    client.zrem(key("by:status:x"), "1")
    client.hset(key("listed"), "1", "1 status:y")
    client.hset(key("lists:status"), "x", str(len(many) - 1))
    client.hset(key("checkpoint"), mapping={"listed": len(many), "view:status": "12000 2"})
    sink.release()
    sink = leader(store, {"status": 1000})
    sizes = []
    for n in range(3):
        assert not listed(sink, {"9": f"{20_000 + n} status:x", "3": "3 status:x"}).are_lists_lost
        sizes.append(client.zcard(key("by:status:x")))
    assert sizes == [6999, 2000, 2000]
    assert [k for k, _ in store.lists()["status:x"]][-1] == "10001"
    assert sink.views()["status"].members == 2001


@on_servers
def test_many_short_lists_are_looked_at_together(store: OfServer) -> None:
    """One script looks at a hundred; how much was looked at is told, so that a walk can rest."""
    client = store.client
    sink = started(store, {str(n): f"{n} tag:t{n}" for n in range(3000)})
    if not store.is_cluster:  # type: ignore[attr-defined]
        client.config_resetstat()
    cursor, looked, calls = None, 0, 0
    while True:
        cursor, some, found = sink.strays(cursor, 2000)
        assert not found
        looked, calls = looked + some, calls + 1
        if cursor is None:
            break
    assert looked >= 6000
    assert calls <= 12
    if not store.is_cluster:  # type: ignore[attr-defined]
        stats = client.info("commandstats")
        assert stats["cmdstat_hscan"]["calls"] < 100
        assert stats["cmdstat_evalsha"]["calls"] < 150


def test_what_is_due_comes_first_first(store: Store) -> None:
    """Up to a moment, the longest due first, so many; what is written without one is gone."""
    places = {str(n): f"{1000 + n} due:next" for n in range(20)} | {"other": "5 status:open"}
    sink = started(store, places, {"due": 0, "status": 0})
    assert sink.due(999, 10) == {}
    assert sink.due(1002, 10) == {"0": "1000", "1": "1001", "2": "1002"}
    assert list(sink.due(5000, 4)) == ["0", "1", "2", "3"]
    listed(sink, {"1": "", "2": "1700000000000123 due:next"}, {"0"})
    assert list(sink.due(1004, 10)) == ["3", "4"]
    assert sink.due(1700000000000123, 100)["2"] == "1700000000000123"


def test_without_such_a_list_nothing_is_due(store: Store) -> None:
    """As in a store of former days."""
    assert started(store, {"1": "5 status:open"}).due(10, 10) == {}
