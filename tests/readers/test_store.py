"""The Python readers on a hash, checkpoint and stream made by hand: every kind of client, every
answer, Redis going away and coming back changed."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from projector_reader import (
    ChangesLostError,
    DocumentError,
    InvalidTokenError,
    NotComparableError,
    Reader,
    ViewError,
    WaitTimeoutError,
)
from projector_reader.operations import Walk
from pydantic import BaseModel, TypeAdapter

from tests.fix_servers import missing
from tests.readers.surfaces import CLIENTS, CLUSTER_CLIENTS, Surface, of_sentinel
from tests.servers import (
    RedisKind,
    RedisServer,
    ServerUnavailable,
    start_redis,
    start_redis_cluster,
    start_sentinel,
)

pytestmark = pytest.mark.server

SID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
NAMES = ["notes", "odd name:%|ü", "a{b}c", "{", "::1"]


class Note(BaseModel):
    id: int
    text: str


@dataclass
class Store:
    """What a projector would have written, under a projection's name."""

    redis: Any
    name: str

    def key(self, rest: str) -> str:
        return f"{{{self.name}}}:{rest}"

    def put(self, *numbers: int, text: str = "x") -> None:
        documents = {str(n): json.dumps({"id": n, "text": text}) for n in numbers}
        self.redis.hset(self.name, mapping=documents)

    def reach(self, number: int, **fields: str) -> None:
        position = f"mysql|u|binlog.000001|4|{SID}:1-{number}"
        told = {"position": position, "committed_at": f"{time.time():.6f}", "owed": "0"}
        self.redis.hset(self.key("checkpoint"), mapping={**told, "lost": "0", **fields})

    def change(self, *written: str, removed: tuple[str, ...] = ()) -> str:
        fields = {"written": json.dumps(written), "removed": json.dumps(removed)}
        entry: bytes = self.redis.xadd(self.key("changes"), fields)
        return entry.decode()


@pytest.fixture(params=NAMES, ids=str)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(fresh_redis: RedisServer) -> Iterator[Store]:
    with fresh_redis.client() as client:
        yield Store(client, "notes")


@pytest.fixture(params=list(CLIENTS), ids=str)
def surface(
    request: pytest.FixtureRequest, store: Store, redis_server: RedisServer
) -> Iterator[Surface]:
    made = Surface(CLIENTS[request.param](redis_server), store.name, Note)
    yield made
    made.close()


def test_documents_come_as_the_model(store: Store, surface: Surface) -> None:
    """One, some, a page, all, their ids and number; those that are missing are left out."""
    store.put(*range(1, 1201))
    assert surface.get(7) == surface.get("7") == Note(id=7, text="x")
    assert surface.get(0) is None
    asked = [*range(1200, 0, -1), 9999]
    found = surface.get_many(asked)
    assert list(found) == asked[:-1]
    assert {key: note.id for key, note in found.items()} == {n: n for n in asked[:-1]}
    assert surface.count() == 1200
    everything = {str(n) for n in range(1, 1201)}
    assert {key for key, _ in surface.scan(max_count=100)} == everything
    assert set(surface.ids(max_count=100)) == set(surface.ids()) == everything
    page = surface.page(0, 10)
    assert page.cursor != 0
    assert all(page.documents[key].id == int(key) for key in page.documents)


def listed(store: Store) -> None:
    """A view of nine notes, of which four have the same score, and one has no document."""
    store.put(*range(1, 9))
    scores = {"1": 5, "2": 5, "3": 5, "10": 5, "4": 9.5, "5": -math.inf, "6": 1_790_000_000_000_001,
              "7": 0, "8": 1}  # fmt: skip
    store.redis.zadd(store.key("by:kind:a%7Cb"), scores)
    store.redis.hset(store.key("lists:kind"), mapping={"a%7Cb": "9", "other": "3 5 2"})
    parts = [{"kind": "text", "pads": True}]
    store.redis.hset(store.key("views"), "kind", json.dumps({"parts": parts}))


LISTED = ["6", "4", "3", "2", "10", "1", "8", "7", "5"]


def test_lists_are_paged(store: Store, surface: Surface) -> None:
    """The newest first, ties by id; a page goes on behind an entry, whatever moved to the front."""
    listed(store)
    whole = surface.view("by_kind", "a|b  ", count=100)
    assert list(whole.documents) == [k for k in LISTED if k != "10"]
    assert whole.documents["6"] == Note(id=6, text="x")
    assert (whole.total, whole.cursor) == (9, None)
    for size in (1, 2, 3, 9):
        seen, cursor = [], None
        while True:
            page = surface.view("by_kind", "a|b", cursor=cursor, count=size)
            seen += page.documents
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == list(whole.documents)
    first = surface.view("by_kind", "a|b", count=4)
    store.redis.zadd(store.key("by:kind:a%7Cb"), {"3": 10**15, "8": 10**15 + 1})
    store.redis.zrem(store.key("by:kind:a%7Cb"), "2")
    rest = surface.view("by_kind", "a|b", cursor=first.cursor, count=9)
    assert list(rest.documents) == ["1", "7", "5"]
    assert surface.values("by_kind") == {"a%7Cb": 9, "other": 3}
    assert surface.view("by_kind", "nothing").documents == {}
    for wrong in (("by_other", "x"), ("by_kind",), ("by_kind", "x", "y")):
        with pytest.raises(ViewError):
            surface.view(*wrong)
    for forged in ("7", "1..2:x", "1-1:5", "1e:5"):
        with pytest.raises(InvalidTokenError):
            surface.view("by_kind", "x", cursor=forged)
    for odd in ("1e999:5", "-1e999:5", "inf:5", "5:\x00"):
        surface.view("by_kind", "a|b", cursor=odd)


def test_a_hash_that_is_not_there_is_empty(store: Store, surface: Surface) -> None:
    """Before the first build everything says so in its own way, and nothing fails."""
    assert surface.get(1) is None
    assert surface.get_many([1, 2]) == surface.get_many([]) == {}
    assert surface.count() == 0
    assert list(surface.scan()) == list(surface.ids()) == []
    assert surface.page().documents == {}
    assert surface.checkpoint() is None
    assert not surface.health().is_fresh()
    with pytest.raises(WaitTimeoutError, match="no checkpoint"):
        surface.wait(f"{SID}:1", 0.05)


def test_documents_of_any_model(store: Store, redis_server: RedisServer) -> None:
    """A callable over bytes, an adapter, nothing at all; what does not fit names the document."""
    store.put(1, text="ü🎫")
    with redis_server.client() as client, redis_server.client(decode_responses=True) as decoded:
        for each in (client, decoded):
            assert Reader(each, "notes", bytes).get(1) == store.redis.hget("notes", "1")
            assert Reader(each, "notes").get(1) == {"id": 1, "text": "ü🎫"}
            adapter = TypeAdapter(dict[str, int | str])
            assert Reader(each, "notes", adapter.validate_json).get(1) is not None
        store.redis.hset("notes", "2", b"\xff\x00 not JSON")
        with pytest.raises(DocumentError, match=r"document '2' of 'notes'") as found:
            list(Reader(client, "notes", Note).scan())
        assert found.value.document_id == "2"
        assert Reader(decoded, "notes", bytes).get(2) == b"\xff\x00 not JSON"


def test_any_name_of_a_projection(
    name: str, fresh_redis: RedisServer, redis_server: RedisServer
) -> None:
    """Blanks, braces, colons and other scripts in the name lead to the projector's own keys."""
    with fresh_redis.client() as client, redis_server.client() as reading:
        store = Store(client, name)
        store.put(1)
        store.reach(5)
        store.change("1")
        reader = Reader(reading, name, Note)
        assert reader.get(1, after=f"{SID}:5") == Note(id=1, text="x")
        assert [change.written for change in surface_take(reader, "0", 1)] == [("1",)]


def surface_take(reader: Any, after: str, count: int) -> list[Any]:
    changes = reader.changes(after)
    return [next(changes) for _ in range(count)]


def test_binary_and_composite_ids(store: Store, surface: Surface) -> None:
    """Keys as they stand in their columns find the fields that the projector made of them."""
    document = '{"id": 1, "text": "x"}'
    ids = ["3e11fa47-71ca-11e1-9e33-c80aa9429562", "00ff", "1:a%3Ab"]
    store.redis.hset("notes", mapping=dict.fromkeys(ids, document))
    keys = (bytes.fromhex(ids[0].replace("-", "")), b"\x00\xff", (1, "a:b"))
    assert list(surface.get_many(keys)) == list(keys)
    assert all(surface.get(key) is not None for key in keys)


def test_a_scan_stays_within_its_bytes(store: Store, redis_server: RedisServer) -> None:
    """With documents of 100 KB no answer is much larger than asked for; with small ones each is
    as long as allowed; one huge document alone exceeds the limit, and comes through."""
    sizes: list[int] = []

    class Measuring(redis.Redis):
        def execute_command(self, *args: Any, **options: Any) -> Any:
            reply = super().execute_command(*args, **options)
            if args[0] == "HSCAN":
                sizes.append(sum(map(len, reply[1].values())))
            return reply

    client = Measuring.from_url(redis_server.url())
    store.put(*range(300), text="y" * 100_000)
    assert len(dict(Reader(client, "notes", bytes).scan(max_bytes=500_000))) == 300
    assert sorted(sizes)[-2] < 2_500_000  # the first answers are not known beforehand
    assert sorted(sizes)[len(sizes) // 2] <= 700_000
    store.redis.hset("notes", "0", b"z" * 60_000_000)
    assert len(dict(Reader(client, "notes", bytes).scan())["0"]) == 60_000_000
    assert Reader(client, "notes", bytes).get(0) == b"z" * 60_000_000
    client.close()
    walk = Walk(1000, 10_000)
    walk.adapt(16, 1600)
    assert walk.count == 64
    walk.adapt(64, 64_000_000)
    assert walk.count == 1


def test_ids_without_the_documents(store: Store) -> None:
    """A Redis that knows NOVALUES sends ids alone."""
    try:
        server = start_redis(RedisKind.REDIS_8)
    except ServerUnavailable as problem:
        missing(problem)
    with server, server.client() as client:
        Store(client, "notes").put(*range(50), text="y" * 100_000)
        before = client.info("stats")["total_net_output_bytes"]
        assert len(set(Reader(client, "notes").ids())) == 50
        assert client.info("stats")["total_net_output_bytes"] - before < 100_000


def test_changes_are_followed_and_taken_up_again(store: Store, surface: Surface) -> None:
    """From now on, from a change seen before, from the beginning; heartbeats tell where one is."""
    first = store.change("1")
    changes = surface.changes(heartbeat_s=0.2)
    beat = next(changes)
    assert (bool(beat), beat.id) == (False, first)
    second = store.change("2", removed=("3",))
    third = store.change("4")
    heard = surface.take(2, changes)
    assert [change.id for change in heard] == [second, third]
    assert (heard[0].written, heard[0].removed) == (("2",), ("3",))
    assert not next(changes)
    assert [c.id for c in surface.take(2, surface.changes(after=first))] == [second, third]
    assert [c.id for c in surface.take(3, surface.changes("0", count=1))] == [first, second, third]
    for nonsense in ("x", "", "1-x", "-1", "1-2-3", "$", "99999999999999999999-0", "٣-0"):
        with pytest.raises(InvalidTokenError):
            next(surface.changes(nonsense))


def test_a_trimmed_stream_is_told(store: Store, surface: Surface) -> None:
    """Who resumes from, or stands at, a change that has been trimmed away with later ones is told,
    with the place from which on everything is covered again."""
    ids = [store.change(str(n)) for n in range(6)]
    changes = surface.changes(after=ids[0])
    assert next(changes).id == ids[1]
    store.redis.xtrim(store.key("changes"), minid=ids[4], approximate=False)
    surface.take(4, changes)  # were read already
    with pytest.raises(ChangesLostError) as found:
        next(surface.changes(after=ids[2]))
    assert (found.value.last_id, found.value.resume_from) == (ids[2], ids[5])
    after = store.change("7")
    assert next(surface.changes(after=found.value.resume_from)).id == after
    store.redis.xtrim(store.key("changes"), maxlen=1, approximate=False)
    last = [store.change(str(n)) for n in range(3)][-1]
    store.redis.xtrim(store.key("changes"), maxlen=1, approximate=False)
    with pytest.raises(ChangesLostError) as slow:
        next(changes)
    assert slow.value.resume_from == last


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_a_stream_that_is_lost_or_set_back_is_told(
    store: Store, redis_server: RedisServer, kind: str
) -> None:
    """A stream deleted, or behind the last change seen, is noticed while nothing comes."""
    surface = Surface(CLIENTS[kind](redis_server), "notes")
    store.change("1")
    changes = surface.changes(heartbeat_s=0.1)
    last = next(changes).id
    store.redis.delete(store.key("changes"))
    with pytest.raises(ChangesLostError) as lost:
        surface.take(100, changes)
    assert (lost.value.last_id, lost.value.resume_from) == (last, "0-0")
    store.redis.xadd(store.key("changes"), {"written": "[]", "removed": "[]"}, id="5-1")
    with pytest.raises(ChangesLostError) as back:
        next(surface.changes(after=last))
    assert back.value.resume_from == "5-1"
    surface.close()


def test_a_write_is_waited_for(store: Store, surface: Surface) -> None:
    """The wait ends when the checkpoint includes the token, and says which checkpoint it was."""
    store.put(1)
    store.reach(4)
    later = threading.Timer(0.15, store.reach, [5])
    began = time.monotonic()
    later.start()
    checkpoint = surface.wait(f"{SID}:5", 5)
    assert 0.1 < time.monotonic() - began < 2
    assert checkpoint.position.includes(f"{SID}:1-5")
    assert checkpoint.age_s() < 5
    assert surface.get(1, after=f"{SID}:5").id == 1
    assert list(surface.get_many([1], after="")) == [1]
    later.join()


def test_nobody_waits_for_ever(store: Store, surface: Surface) -> None:
    """What does not come in time, and what could never be told, has an error of its own."""
    store.reach(4)
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError, match=r"after 0\.1 s: the checkpoint is before it"):
        surface.get(1, after=f"{SID}:5", timeout_s=0.1)
    assert time.monotonic() - began < 1
    surface.wait(f"{SID}:4", 0)
    with pytest.raises(TimeoutError):
        surface.wait(f"{SID}:5", 0)
    with pytest.raises(NotComparableError):
        surface.wait("0-1-5", 5)
    with pytest.raises(InvalidTokenError):
        surface.wait("nonsense", 5)


def test_what_is_owed_is_waited_for(store: Store, surface: Surface) -> None:
    """Work behind the checkpoint may hold the write: waited for unless it runs in the background,
    and on demand not at all."""
    store.reach(5, owed="2")
    store.redis.hset(store.key("debts"), mapping={"scrub": "{}", "refresh": "{}"})
    surface.wait(f"{SID}:5", 0.1)
    store.redis.hset(store.key("debts"), "route:1", "{}")
    store.reach(5, owed="3")
    with pytest.raises(WaitTimeoutError, match="owed") as found:
        surface.wait(f"{SID}:5", 0.05)
    assert found.value.is_reached
    assert surface.wait(f"{SID}:5", 0.05, complete=False).owed == 3
    store.redis.delete(store.key("debts"))
    store.reach(5, lost="1")
    with pytest.raises(WaitTimeoutError, match="owed"):
        surface.wait(f"{SID}:5", 0.05)
    assert surface.checkpoint().is_lost


def test_health_tells_whether_documents_are_kept(store: Store, surface: Surface) -> None:
    """Fresh while a projector holds the lease and says that it is not behind."""
    store.put(1, 2)
    store.reach(5)
    store.redis.set(store.key("daemon"), '{"lag_s": 0.1, "last_error": null}')
    assert (surface.health().is_led, surface.health().lag_s) == (False, None)
    assert not surface.health().is_fresh()
    store.redis.set(store.key("lease"), "x")
    health = surface.health()
    assert (health.documents, health.is_led, health.lag_s) == (2, True, 0.1)
    assert health.is_fresh()
    assert not health.is_fresh(0.05)
    store.redis.set(store.key("daemon"), "nonsense")
    assert not surface.health().is_fresh()


def test_the_client_must_be_of_the_readers_kind(redis_server: RedisServer) -> None:
    """A blocking reader refuses an asynchronous client and the other way round, at once."""
    import redis.asyncio
    from projector_reader import AsyncReader

    with pytest.raises(TypeError, match="use AsyncReader"):
        Reader(redis.asyncio.Redis(), "notes")
    with redis_server.client() as client, pytest.raises(TypeError, match="use Reader"):
        AsyncReader(client, "notes")
    with pytest.raises(ValueError, match="empty"):
        Reader(redis.Redis(), "")


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_redis_dies_under_waiting_readers(kind: str) -> None:
    """Killed and started again with its data: who waits for a write or for changes goes on; when
    it stays away, each says so after its own time, and never takes silence for an answer."""
    try:
        server = start_redis(options=["--appendonly", "yes", "--appendfsync", "always"])
    except ServerUnavailable as problem:
        missing(problem)
    with server:
        writing = Store(server.client(), "notes")
        writing.reach(4)
        known = writing.change("1")
        surface = Surface(CLIENTS[kind](server), "notes")
        changes = surface.changes(after="0", patience_s=20)
        assert next(changes).id == known

        def revive() -> None:
            server.kill()
            server.start()
            writing.reach(5)
            writing.change("2")

        reviving = threading.Thread(target=revive)
        reviving.start()
        surface.wait(f"{SID}:5", 20)
        assert next(changes).written == ("2",)
        reviving.join()
        server.kill()
        with pytest.raises(WaitTimeoutError, match=r"Redis is away: \w+Error"):
            surface.wait(f"{SID}:6", 0.2)
        with pytest.raises(redis.ConnectionError):
            next(surface.changes(patience_s=0))
        server.start()
        assert next(surface.changes(after=known)).written == ("2",)
        if kind == "async":
            server.pause()
            began = time.monotonic()
            with pytest.raises(WaitTimeoutError, match="Redis is away"):
                surface.wait(f"{SID}:6", 0.3)
            assert time.monotonic() - began < 2
            server.resume()
            assert surface.get(1) is None
        writing.redis.close()
        surface.close()


def test_readers_of_a_cluster(redis_server: RedisServer) -> None:
    """All keys of a projection lie in one slot, on a node that the client finds."""
    try:
        nodes = start_redis_cluster(3)
    except ServerUnavailable as problem:
        missing(problem)
    try:
        with CLUSTER_CLIENTS["blocking"](nodes[1]) as writing:
            for label, client in CLUSTER_CLIENTS.items():
                name = f"notes {label}"
                _whole_surface(Store(writing, name), Surface(client(nodes[0]), name, Note))
    finally:
        for node in nodes:
            node.discard()


def test_readers_behind_a_sentinel(fresh_redis: RedisServer, redis_server: RedisServer) -> None:
    """A client that asks a Sentinel for the master reads like any other."""
    try:
        sentinel = start_sentinel({"documents": redis_server})
    except ServerUnavailable as problem:
        missing(problem)
    with sentinel, fresh_redis.client() as client:
        for label, reading in of_sentinel(sentinel, "documents").items():
            name = f"notes {label}"
            _whole_surface(Store(client, name), Surface(reading, name, Note))


def _whole_surface(store: Store, surface: Surface) -> None:
    store.put(1, 2, 3)
    store.reach(5)
    first = store.change("1")
    assert surface.get(1, after=f"{SID}:5").id == 1
    assert len(surface.get_many([1, 2, 3, 4])) == surface.count() == 3
    assert {key for key, _ in surface.scan()} == set(surface.ids()) == {"1", "2", "3"}
    assert surface.health().documents == 3
    changes = surface.changes(heartbeat_s=0.2)
    assert next(changes).id == first
    assert not next(changes)
    second = store.change("2")
    assert next(changes).id == second
    store.redis.xtrim(store.key("changes"), maxlen=0, approximate=False)
    store.change("3")
    with pytest.raises(ChangesLostError):
        next(surface.changes(after=first))
    surface.close()


def test_a_strangers_field_does_not_break_a_walk(store: Store, surface: Surface) -> None:
    """A field whose name is no UTF-8 comes through, and its document is judged like any other."""
    store.put(1)
    store.redis.hset("notes", b"\xff\x00", '{"id": 2, "text": "x"}')
    assert {note.id for _, note in surface.scan()} == {1, 2}
    assert len(list(surface.ids())) == 2
