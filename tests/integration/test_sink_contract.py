"""What every Sink promises, asked of Redis 7 and 8, Valkey, a cluster, and the one in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from projector.debt import ALL, ORPHANS, REQUESTED, Debt
from projector.errors import DocumentRefusedError, FencedError
from projector.model import Applied, Batch, Damage, Reason
from projector.mysql.position import Flavour, GtidSet, Position
from projector.ports import Sink
from tests.fix_servers import missing
from tests.projector_process import wait_for
from tests.servers import RedisKind, ServerUnavailable, start_redis, start_redis_cluster
from tests.sink_stores import OfMemory, OfServer, Store

pytestmark = pytest.mark.server

SERVER = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
SMALLEST_LIMIT = 1024 * 1024  # of proto-max-bulk-len


def position(number: int) -> Position:
    gtids = GtidSet.parse(f"{SERVER}:1-{number}")
    return Position(Flavour.MYSQL, SERVER, "binlog.000001", number, gtids)


def batch(
    documents: Mapping[str, str | bytes] | None = None,
    removed: frozenset[str] | set[str] = frozenset(),
    number: int | None = None,
    **more: Any,
) -> Batch:
    values = {k: v.encode() if isinstance(v, str) else v for k, v in (documents or {}).items()}
    place = position(number) if number is not None else None
    return Batch(values, frozenset(removed), Reason.CHANGE, position=place, **more)


def leader(store: Store, ttl_s: float = 5.0) -> Sink:
    """A sink that has the lease and has loaded the checkpoint."""
    sink = store.sink(ttl_s)
    assert sink.acquire()
    sink.load()
    return sink


def started(store: Store, documents: Mapping[str, str], ttl_s: float = 5.0) -> Sink:
    """A leader of a store with these documents at position 1."""
    sink = leader(store, ttl_s)
    sink.apply(batch(documents, number=1, fingerprint="f", committed_at=1.5))
    return sink


@pytest.fixture(scope="module", params=["memory", *RedisKind, "cluster"], ids=str)
def module_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """One store of each kind."""
    if request.param == "memory":
        yield OfMemory()
        return
    try:
        is_cluster = request.param == "cluster"
        servers = start_redis_cluster(3) if is_cluster else [start_redis(request.param)]
    except ServerUnavailable as problem:
        missing(problem)
    store = OfServer(servers)
    yield store
    store.close()
    store.discard()


@pytest.fixture
def store(module_store: Store) -> Iterator[Store]:
    """The same, empty."""
    module_store.wipe()
    module_store.limit_values(512 * 1024 * 1024)
    yield module_store
    module_store.close()


def test_what_is_applied_is_there(store: Store) -> None:
    """Documents, removals, records and checkpoint; a new process finds them all."""
    sink = leader(store)
    assert sink.load() is None
    first = sink.apply(
        batch(
            {"1": "a", "2": "b", "3": "ü"}, number=7, fingerprint="f", committed_at=12.25,
            debts={"all": "{}"}, quarantine={"9": "bad"}, resync={"state": "running"},
        )
    )  # fmt: skip
    assert (first.written, first.removed, first.documents) == (3, 0, 3)
    applied = sink.apply(
        batch({"2": "B"}, {"3", "nothing"}, debts={"all": None, "ids:1": "[1]"},
              quarantine={"9": None}, resync={"state": "done"})
    )  # fmt: skip
    assert (applied.written, applied.removed, applied.documents) == (1, 1, 2)
    assert applied.damage is Damage.NONE
    assert sink.read(["1", "2", "3"]) == {"1": b"a", "2": b"B"}
    assert sink.read([]) == {}
    assert sink.count() == 2
    assert sink.quarantined() == {}
    assert store.records("resync") == {"state": "done"}
    sink.release()
    second = leader(store)
    found = second.load()
    assert found == applied.checkpoint
    assert found is not None
    assert (found.position, found.fingerprint, found.committed_at) == (position(7), "f", 12.25)
    assert found.debts == {"ids:1": "[1]"}
    assert found.damage is Damage.NONE
    assert second.epoch > sink.epoch - 1


def test_the_first_write_needs_position_and_fingerprint(store: Store) -> None:
    """A checkpoint without them would mean nothing."""
    sink = leader(store)
    with pytest.raises(ValueError, match="position"):
        sink.apply(batch({"1": "a"}, fingerprint="f"))
    with pytest.raises(ValueError, match="fingerprint"):
        sink.apply(batch({"1": "a"}, number=1))
    assert sink.count() == 0


def test_one_lease_at_a_time(store: Store) -> None:
    """Another gets it after release, at once, and with a higher epoch."""
    first, second = store.sink(), store.sink()
    assert first.acquire()
    epoch = first.epoch
    assert first.acquire()
    assert first.epoch == epoch
    assert first.renew().held
    assert not second.acquire()
    assert not second.renew().held
    second.release()
    assert first.renew().held
    first.release()
    assert not first.renew().held
    assert second.acquire()
    assert second.epoch > first.epoch


def test_a_silent_holder_loses_the_lease(store: Store) -> None:
    """After its time another takes it; a renewed lease lasts."""
    first, second = started(store, {"1": "a"}, ttl_s=1.0), store.sink()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert first.renew().held
        assert not second.acquire()
        time.sleep(0.05)
    silent_since = time.monotonic()
    wait_for(second.acquire, timeout_s=5)
    assert 0.5 < time.monotonic() - silent_since < 2
    assert not first.renew().held


def test_who_lost_the_lease_writes_nothing(store: Store) -> None:
    """Also when nobody else has written since, and when it wakes up from a long pause."""
    paused = started(store, {"1": "a"})
    store.expire_lease()
    with pytest.raises(FencedError):
        paused.apply(batch({"1": "z"}, number=2))
    second = leader(store)
    with pytest.raises(FencedError):
        paused.apply(batch({"1": "z"}, number=2))
    second.apply(batch({"1": "b"}, number=3))
    with pytest.raises(FencedError):
        paused.apply(batch({"1": "z"}, {"2"}, number=2, debts={"all": "{}"}))
    assert second.read(["1"]) == {"1": b"b"}
    assert store.records("debts") == {}
    second.apply(batch({"1": "c"}, number=4))


def test_a_pause_longer_than_the_lease_ends_the_term(store: Store) -> None:
    """A process that slept over its lease finds itself without, though nobody else took it."""
    sink = started(store, {"1": "a"}, ttl_s=1.0)
    wait_for(lambda: store.sink().acquire(), timeout_s=5)
    with pytest.raises(FencedError):
        sink.apply(batch({"1": "z"}, number=2))
    assert store.sink().read(["1"]) == {"1": b"a"}


def test_a_write_continues_from_the_checkpoint_it_knows(store: Store) -> None:
    """With the lease but an older checkpoint nothing is written."""
    first = started(store, {"1": "a"})
    first.release()
    second = leader(store)
    second.apply(batch({"1": "b"}, number=2))
    second.release()
    assert first.acquire()  # without load
    with pytest.raises(FencedError):
        first.apply(batch({"1": "z"}, number=3))
    first.load()
    first.apply(batch({"1": "c"}, number=3))
    assert first.read(["1"]) == {"1": b"c"}


def test_a_term_begins_with_the_checkpoint(store: Store) -> None:
    """Not with what the last term knew, though nobody has written since."""
    sink = started(store, {"1": "a"})
    sink.release()
    assert sink.acquire()
    with pytest.raises(FencedError):
        sink.apply(batch({"1": "b"}, number=2))
    sink.load()
    sink.apply(batch({"1": "b"}, number=2))


def test_going_back_in_time_is_noticed(store: Store) -> None:
    """All keys as they were some writes ago, the lease with them: refused, and seen by renew."""
    sink = started(store, {"1": "a"})
    old = store.copy()
    sink.apply(batch({"1": "b"}, number=2))
    assert sink.renew().held
    store.restore(old)
    assert not sink.renew().held
    with pytest.raises(FencedError):
        sink.apply(batch({"1": "c"}, number=3))
    assert sink.read(["1"]) == {"1": b"a"}
    found = sink.load()
    assert found is not None
    assert found.position == position(1)
    sink.apply(batch({"1": "c"}, number=2))
    assert sink.renew().held


def test_a_store_wiped_under_a_leader_is_noticed(store: Store) -> None:
    """FLUSHALL takes the lease too: refused, then begun again, in a later epoch."""
    sink = started(store, {"1": "a"})
    before = sink.epoch
    store.wipe()
    assert not sink.renew().held
    with pytest.raises(FencedError):
        sink.apply(batch({"1": "b"}, number=2))
    sink.release()
    assert sink.acquire()
    assert sink.epoch > before
    assert sink.load() is None
    sink.apply(batch({"1": "b"}, number=2, fingerprint="f"))
    assert sink.read(["1"]) == {"1": b"b"}


def test_a_hash_changed_by_others_is_noticed(store: Store) -> None:
    """By load, renew and writes, until everything is owed again: also after another took over."""
    sink = started(store, {"1": "a", "2": "b"})
    assert sink.renew().damage is Damage.NONE
    store.lose("2")
    lease = sink.renew()
    assert lease.held
    assert lease.damage is Damage.LOST
    applied = sink.apply(batch({"3": "c"}, number=2))
    assert applied.damage is Damage.LOST
    assert sink.renew().damage is Damage.LOST
    sink.release()
    second = leader(store)
    found = second.load()
    assert found is not None
    assert found.damage is Damage.LOST
    assert second.renew().damage is Damage.LOST
    second.apply(batch(debts={"all": Debt("all", REQUESTED).to_json()}))  # may be cancelled
    assert second.renew().damage is Damage.LOST
    applied = second.apply(batch(debts={"all": "{}"}))
    assert applied.damage is Damage.LOST
    assert second.renew().damage is Damage.NONE
    applied = second.apply(batch({"3": "d"}, number=3))
    assert applied.damage is Damage.NONE


def test_lost_debts_are_noticed(store: Store) -> None:
    """They are part of what the checkpoint says."""
    sink = started(store, {"1": "a"})
    sink.apply(batch(debts={"route:1": "{}"}))
    store.forgive()
    assert sink.renew().damage is Damage.LOST
    found = sink.load()
    assert found is not None
    assert found.damage is Damage.LOST
    applied = sink.apply(batch({"1": "b"}, number=2))
    assert applied.damage is Damage.LOST


def test_a_loss_during_a_full_walk_outlives_it(store: Store) -> None:
    """The walk may have passed the documents lost: its progress does not cover them."""
    sink = started(store, {"1": "a", "2": "b"})
    sink.apply(batch(debts={ALL: "begun"}))
    store.lose("1")
    sink.apply(batch(debts={ALL: "further"}))
    assert sink.renew().damage is Damage.LOST
    sink.apply(batch(debts={ALL: None}))
    assert sink.renew().damage is Damage.LOST
    sink.apply(batch(debts={ALL: "begun"}))
    assert sink.renew().damage is Damage.NONE


def test_a_hash_that_grew_is_noticed(store: Store) -> None:
    """Until a look for orphans is owed again; a loss besides weighs more, and needs everything."""
    sink = started(store, {"1": "a"})
    store.add("stranger")
    assert sink.renew().damage is Damage.GREW
    applied = sink.apply(batch({"2": "b"}, number=2))
    assert (applied.damage, applied.grown) == (Damage.GREW, 1)
    sink.release()
    second = leader(store)
    found = second.load()
    assert found is not None
    assert found.damage is Damage.GREW
    second.apply(batch(debts={ORPHANS: "{}"}))
    assert second.renew().damage is Damage.NONE
    store.add("another")
    second.apply(batch(debts={ORPHANS: "further"}))
    assert second.renew().damage is Damage.GREW
    for lost in ("stranger", "another", "1"):
        store.lose(lost)
    assert second.apply(batch({"3": "c"}, debts={ORPHANS: None})).damage is Damage.LOST
    second.apply(batch(debts={ORPHANS: "{}"}))
    assert second.renew().damage is Damage.LOST
    second.apply(batch(debts={ALL: "{}"}))
    assert second.renew().damage is Damage.NONE


def test_a_new_checkpoint_beside_old_documents_is_not_taken_for_whole(store: Store) -> None:
    """The records of the old one go; its documents stay, and count as unknown."""
    sink = started(store, {"1": "a"})
    sink.apply(batch(debts={"ids:1": "{}"}, quarantine={"1": "bad"}, resync={"state": "done"}))
    store.lose_checkpoint()
    assert not sink.renew().held
    with pytest.raises(FencedError):
        sink.apply(batch({"1": "b"}, number=2))
    assert sink.load() is None
    applied = sink.apply(batch(number=3, fingerprint="f"))
    assert applied.damage is Damage.LOST
    assert sink.renew().damage is Damage.LOST
    assert (store.records("debts"), store.records("resync"), sink.quarantined()) == ({}, {}, {})
    sink.apply(batch(debts={ALL: "{}"}))
    assert sink.renew().damage is Damage.NONE


def test_forgotten_scripts_are_sent_again(store: Store) -> None:
    """SCRIPT FLUSH, as after a restart or a failover."""
    sink = started(store, {"1": "a"})
    store.forget_scripts()
    sink.apply(batch({"1": "b"}, number=2))
    store.forget_scripts()
    assert sink.renew().held
    store.forget_scripts()
    assert sink.load() is not None
    store.forget_scripts()
    sink.release()
    assert store.sink().acquire()


def test_a_hundred_thousand_documents_in_one_batch(store: Store) -> None:
    """And their removal in one: no argument limit, and nobody else's writes in between."""
    sink = started(store, {}, ttl_s=60)
    documents = {str(number): f"document {number}" for number in range(100_000)}
    applied = sink.apply(batch(documents, number=2, debts={"all": "{}"}))
    assert (applied.written, applied.documents) == (100_000, 100_000)
    assert applied.damage is Damage.NONE
    assert sink.renew().damage is Damage.NONE
    assert sink.read(["0", "99999"]) == {"0": b"document 0", "99999": b"document 99999"}
    everything = frozenset(documents)
    seen, cursor = set[str](), 0
    while True:
        cursor, ids = sink.scan(cursor, 10_000)
        seen.update(ids)
        if not cursor:
            break
    assert seen == everything
    removed = sink.apply(batch({}, everything, number=3))
    assert (removed.removed, removed.documents) == (100_000, 0)


def test_a_scan_gives_all_that_stays(store: Store) -> None:
    """Whatever is written and removed meanwhile."""
    sink = started(store, {f"stays {n}": "x" for n in range(3000)}, ttl_s=60)
    seen, cursor, turn = set[str](), 0, 0
    while True:
        cursor, ids = sink.scan(cursor, 100)
        seen.update(ids)
        if not cursor:
            break
        turn += 1
        written = {f"new {turn} {n}": "y" for n in range(50)}
        sink.apply(batch(written, {f"new {turn - 1} {n}" for n in range(50)}))
    assert turn > 5
    assert {f"stays {n}" for n in range(3000)} <= seen


def test_differences_are_told_by_kind(store: Store) -> None:
    """Missing, stale (of the same size or not) and orphaned; what is alike is not named."""
    sink = started(store, {"1": "alike", "2": "other", "3": "longer", "4": "gone", "5": "alike"})
    wanted = {"1": b"alike", "2": b"OTHER", "3": b"long", "9": b"missing"}
    found = sink.compare(wanted, ["4", "8"])
    assert (found.missing, found.stale, found.orphan) == ({"9"}, {"2", "3"}, {"4"})
    assert len(sink.compare({}, [])) == 0
    assert len(sink.compare({str(n): b"x" for n in range(100, 5100)}, []).missing) == 5000


def test_values_too_large_are_named_and_nothing_is_written(store: Store) -> None:
    """The caller sets these aside and writes the others."""
    store.limit_values(SMALLEST_LIMIT)
    sink = started(store, {"1": "a"})
    large = b"x" * (SMALLEST_LIMIT + 1)
    with pytest.raises(DocumentRefusedError) as refused:
        sink.apply(batch({"1": "b", "2": large}, number=2))
    assert refused.value.ids == {"2"}
    assert sink.read(["1", "2"]) == {"1": b"a"}
    exact = b"x" * SMALLEST_LIMIT
    sink.apply(batch({"1": "b", "2": exact}, number=2, quarantine={"2": refused.value.reason}))
    assert sink.read(["1", "2"]) == {"1": b"b", "2": exact}


def test_requests_reach_the_leader_and_are_taken_up_with_a_write(store: Store) -> None:
    """What is asked later stays."""
    sink = started(store, {"1": "a"})
    first = store.ask({"kind": "resync"})
    second = store.ask({"kind": "cancel"})
    assert set(sink.requests()) == {first, second}
    sink.apply(batch(requests_done=frozenset({first})))
    assert sink.requests() == {second: '{"kind": "cancel"}'}


def test_memory_is_told(store: Store) -> None:
    """Bytes in use, and the limit, 0 for none."""
    used, limit = started(store, {"1": "abc"}).memory()
    assert used > 0
    assert limit == 0


def test_the_same_batch_again_is_applied_anew(store: Store) -> None:
    """Only a batch whose reply was lost is recognized, not one that was answered."""
    sink = started(store, {"1": "a"})
    again = batch({"1": "b"}, number=2)
    stamps = {applied.checkpoint.stamp for applied in (_apply(sink, again), _apply(sink, again))}
    assert len(stamps) == 2


def _apply(sink: Sink, given: Batch) -> Applied:
    return sink.apply(given)
