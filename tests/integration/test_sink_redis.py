"""The Redis sink where Redis or the network fails: lost replies, refusals, what errors mean."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from projector.errors import (
    ConfigurationError,
    DocumentRefusedError,
    FencedError,
    OperatorError,
    ProjectorError,
    TransientError,
)
from projector.mysql.position import Position
from projector.settings import Redis as RedisSettings
from projector.sink_redis import RedisSink
from tests.fix_servers import missing
from tests.integration.test_sink_contract import batch, leader, position, started
from tests.projector_process import wait_for
from tests.servers import RedisKind, RedisServer, ServerUnavailable, TcpProxy, start_redis
from tests.sink_stores import LATE_S, OfServer

pytestmark = pytest.mark.server

MEGABYTE = 1024 * 1024


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A private Redis."""
    try:
        made = start_redis()
    except ServerUnavailable as problem:
        missing(problem)
    with made:
        yield made


@pytest.fixture
def store(server: RedisServer) -> Iterator[OfServer]:
    """The same as a store."""
    made = OfServer([server])
    yield made
    made.close()
    made.client.close()


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[TcpProxy]:
    """A proxy before it."""
    with TcpProxy(server.host, server.port) as made:
        yield made


def test_a_write_whose_reply_was_lost_is_recognized(store: OfServer, proxy: TcpProxy) -> None:
    """The same batch again says ok and is not applied twice, though the request reached Redis."""
    sink = store.impatient_sink(proxy)
    assert sink.acquire()
    sink.load()
    sink.apply(batch({"1": "a"}, number=1, fingerprint="f"))
    stamp = store.records("checkpoint")["stamp"]
    given = batch({"1": "b"}, {"2"}, number=2)
    proxy.delay(LATE_S)
    with pytest.raises(TransientError):
        sink.apply(given)
    proxy.delay(0)
    written = wait_for(lambda: store.records("checkpoint")["stamp"] != stamp and store.records(
        "checkpoint"))  # fmt: skip
    applied = sink.apply(given)
    assert applied.documents == 1
    assert store.records("checkpoint") == written
    sink.apply(batch({"1": "c"}, number=3))


def test_a_write_in_parts_is_taken_up_where_its_replies_ended(
    store: OfServer, proxy: TcpProxy
) -> None:
    """Cut in the middle of forty parts, again and again, until it is done: once."""
    sink = store.impatient_sink(proxy)
    assert sink.acquire()
    sink.load()
    documents = {f"{n:06}": "x" * 20 for n in range(400_000)}
    given = batch(documents, number=1, fingerprint="f")
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.15):
            proxy.reset_connections()

    cutter = threading.Thread(target=cut)
    cutter.start()
    failures = 0
    try:
        for _ in range(200):
            try:
                sink.renew()
                applied = sink.apply(given)
                break
            except TransientError:
                failures += 1
    finally:
        stop.set()
        cutter.join()
    assert failures
    assert (applied.written, applied.documents) == (400_000, 400_000)
    assert sink.count() == 400_000


def test_a_write_in_parts_begins_anew_after_a_load(store: OfServer) -> None:
    """What was acknowledged of it before may be gone: here all went back in time."""
    sink = started(store, {"1": "a"})
    before = store.copy()
    store.client.set("{tickets}:resync", "somebody's")  # met by the last of three parts
    documents = {f"{n:06}": "x" for n in range(50_000)}
    given = batch(documents, number=2, resync={"state": "running"})
    with pytest.raises(OperatorError):
        sink.apply(given)
    assert sink.count() > 40_000
    store.restore(before)
    sink.load()
    assert sink.apply(given).documents == 50_001


def test_a_lease_whose_reply_was_lost_is_ours(store: OfServer, proxy: TcpProxy) -> None:
    """The process does not wait for itself."""
    sink = store.impatient_sink(proxy)
    assert sink.acquire()
    sink.release()
    proxy.delay(LATE_S)
    with pytest.raises(TransientError):
        sink.acquire()
    proxy.delay(0)
    wait_for(sink.holder)
    assert sink.acquire()


def test_a_lease_that_could_not_be_given_up_is_kept_by_the_next_term(
    store: OfServer, proxy: TcpProxy
) -> None:
    """Redis away for a moment costs no wait for the lease's end."""
    sink = store.impatient_sink(proxy)
    assert sink.acquire()
    proxy.cut()
    with pytest.raises(TransientError):
        sink.release()
    proxy.heal()
    assert sink.acquire()


def test_renewals_beside_writes_never_cry_wolf(store: OfServer) -> None:
    """Ten thousand writes while another thread renews: held and intact every time."""
    sink = started(store, {"1": "a"})
    stop = threading.Event()
    wrong: list[object] = []

    def renew() -> None:
        while not stop.is_set():
            lease = sink.renew()
            if not lease.held or lease.damage:
                wrong.append(lease)

    keeper = threading.Thread(target=renew)
    keeper.start()
    try:
        deadline = time.monotonic() + 5
        number = 1
        while time.monotonic() < deadline and not wrong:
            number += 1
            sink.apply(batch({str(number % 7): "b"}, number=number))
    finally:
        stop.set()
        keeper.join()
    assert number > 500
    assert wrong == []


def test_a_restarted_server_is_found_again(server: RedisServer, store: OfServer) -> None:
    """Away, back and empty: a transient failure, then a new beginning."""
    sink = started(store, {"1": "a"})
    server.kill()
    with pytest.raises(TransientError):
        sink.apply(batch({"1": "b"}, number=2))
    server.start()
    with pytest.raises(FencedError):
        sink.apply(batch({"1": "b"}, number=2))
    sink.release()
    assert sink.acquire()
    assert sink.load() is None


def test_a_demoted_server_is_left(server: RedisServer, store: OfServer, proxy: TcpProxy) -> None:
    """READONLY is transient, and the next try makes a new connection: it may lead elsewhere."""
    sink = store.sink(url=f"redis://127.0.0.1:{proxy.port}/1")
    assert sink.acquire()
    sink.load()
    before = proxy.connections
    store.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(TransientError, match="read") as refused:
        sink.apply(batch({"1": "a"}, number=1, fingerprint="f"))
    assert refused.value.answered, "it is busy, not away"
    store.client.execute_command("REPLICAOF", "NO", "ONE")
    sink.apply(batch({"1": "a"}, number=1, fingerprint="f"))
    assert proxy.connections > before


def test_a_full_server_takes_nothing_and_then_everything(store: OfServer) -> None:
    """OOM: a batch is refused as a whole, removals with it, and waits; the lease goes on."""
    sink = started(store, {"1": "a", "2": "b"})
    store.client.config_set("maxmemory", 1)
    with pytest.raises(TransientError, match="maxmemory"):
        sink.apply(batch({"1": "z"}, {"2"}, number=2))
    assert sink.renew('{"last_error": "out of memory"}').held
    store.client.config_set("maxmemory", 0)
    assert sink.read(["1", "2"]) == {"1": b"a", "2": b"b"}
    sink.apply(batch({"1": "z"}, {"2"}, number=2))
    assert sink.read(["1", "2"]) == {"1": b"z"}


def test_a_server_that_cannot_save_is_waited_for(server: RedisServer, store: OfServer) -> None:
    """MISCONF: the disk is gone, writes are refused."""
    sink = started(store, {"1": "a"})
    store.client.config_set("save", "1 1")
    assert server.folder is not None
    (server.folder / "dump.rdb").mkdir(exist_ok=True)  # rename() onto a folder fails
    store.client.bgsave()
    wait_for(lambda: store.client.info("persistence")["rdb_last_bgsave_status"] == "err")
    with pytest.raises(TransientError, match="MISCONF"):
        sink.apply(batch({"1": "b"}, number=2))
    store.client.config_set("stop-writes-on-bgsave-error", "no")
    sink.renew()
    sink.apply(batch({"1": "b"}, number=2))


def test_too_few_replicas_are_waited_for(store: OfServer) -> None:
    """NOREPLICAS: a primary cut off from its replicas must not take writes."""
    sink = started(store, {"1": "a"})
    store.client.config_set("min-replicas-to-write", 1)
    with pytest.raises(TransientError, match="NOREPLICAS"):
        sink.apply(batch({"1": "b"}, number=2))


def test_a_loading_server_is_waited_for() -> None:
    """LOADING: after a restart with much data."""
    slow = ["--loading-process-events-interval-bytes", "1024", "--key-load-delay", "100"]
    with start_redis(options=[*slow, "--enable-debug-command", "yes"]) as server:
        store = OfServer([server])
        sink = started(store, {str(n): "x" * 100 for n in range(100)})
        with server.client(db=0) as client:
            for number in range(5000):
                client.set(f"ballast {number}", "x" * 100)
        loader = threading.Thread(target=_reload, args=(server,))
        loader.start()
        found: list[str] = []
        while loader.is_alive():
            try:
                sink.renew()
            except TransientError as error:
                found.append(str(error))
        loader.join()
        store.close()
        assert any("loading" in text for text in found), found[:3]


def _reload(server: RedisServer) -> None:
    with server.client(db=0, socket_timeout=60) as client:
        client.execute_command("DEBUG", "RELOAD")


def test_a_limit_lowered_under_way_is_found_by_trying(store: OfServer) -> None:
    """The connection breaks, and the documents that are too large are named all the same."""
    sink = started(store, {"1": "a"})
    store.limit_values(MEGABYTE)
    large = batch({"2": b"x" * (MEGABYTE + 1), "3": "c"}, number=2)
    with pytest.raises(DocumentRefusedError) as refused:
        sink.apply(large)
    assert refused.value.ids == {"2"}
    sink.apply(replace(large, documents={"3": b"c"}))


@pytest.mark.parametrize("kind", [RedisKind.REDIS, RedisKind.VALKEY], ids=str)
def test_a_hidden_config_command_is_no_obstacle(kind: RedisKind) -> None:
    """Providers take CONFIG away: the usual limit is presumed then."""
    with start_redis(kind, options=["--rename-command", "CONFIG", ""]) as server:
        store = OfServer([server])
        started(store, {"1": "a"}).apply(batch({"1": "b"}, number=2))
        store.close()


def failure(store: OfServer, **settings: object) -> ProjectorError:
    """What the first call with these settings raises."""
    with pytest.raises(ProjectorError) as found:
        store.sink(**settings).acquire()  # type: ignore[arg-type]
    return found.value


def test_refused_access_needs_an_operator(server: RedisServer, store: OfServer) -> None:
    """No password, a wrong one, a user without rights: the setting is named, no secret shown."""
    with server.client(db=0) as admin:
        admin.config_set("requirepass", "s3cret")
        for url in (server.url(), f"redis://:wr0ng@127.0.0.1:{server.port}/1"):
            error = failure(store, url=url)
            assert isinstance(error, OperatorError)
            assert "PROJECTOR_REDIS__URL" in str(error)
            assert "wr0ng" not in str(error)
        admin.auth("s3cret")
        admin.execute_command("ACL", "SETUSER", "few", "on", ">pw", "~*", "+@connection", "+info")
        error = failure(store, url=f"redis://few:pw@127.0.0.1:{server.port}/1")
        assert isinstance(error, OperatorError)
        admin.execute_command(
            "ACL", "SETUSER", "some", "on", ">pw", "~*", "+@all", "-hset", "-debug"
        )
        error = failure(store, url=f"redis://some:pw@127.0.0.1:{server.port}/1")
        assert isinstance(error, OperatorError), error
        assert "redis.acl" in str(error)


def test_wrong_urls_say_what_to_mend(server: RedisServer, store: OfServer) -> None:
    """A database that does not exist; a cluster taken for a server, and the other way round."""
    error = failure(store, url=server.url(db=99))
    assert isinstance(error, ConfigurationError), error
    error = failure(store, url=server.url(db=0), cluster=True)
    assert isinstance(error, ConfigurationError), error
    assert "PROJECTOR_REDIS__CLUSTER" in str(error)
    error = failure(store, url=server.url(db=1), cluster=True)
    assert isinstance(error, ConfigurationError), error
    with start_redis(cluster=True) as node:
        with node.client(db=0) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
            foreign = client.execute_command("CLUSTER", "KEYSLOT", "tickets")
            client.execute_command("CLUSTER", "DELSLOTS", foreign)
        assert isinstance(failure(store, url=node.url(db=0)), TransientError)  # CLUSTERDOWN


def test_nobody_there_is_transient(store: OfServer) -> None:
    """A refused connection, a name that does not resolve."""
    for url in ("redis://127.0.0.1:1/1", "redis://no-such-host.invalid:6379/1"):
        assert isinstance(failure(store, url=url), TransientError)


def test_a_key_of_another_type_needs_an_operator(store: OfServer) -> None:
    """Somebody else's string under our name is left as it is, and no retry is promised."""
    store.client.set("tickets", "somebody's")
    sink = store.sink()
    assert sink.acquire()
    with pytest.raises(OperatorError, match="the key tickets in Redis holds something"):
        sink.load()
    assert store.client.get("tickets") == b"somebody's"


def test_the_change_feed_names_what_was_written(store: OfServer) -> None:
    """Ids by entry, at most 500 each, and no more entries than asked for (Redis trims roughly)."""
    sink = store.sink(change_feed_max_length=10)
    assert sink.acquire()
    sink.load()
    many = {f"{n:04}": "x" for n in range(1200)}
    sink.apply(batch(many, {"gone"}, number=1, fingerprint="f"))
    entries = [fields for _, fields in store.client.xrange("{tickets}:changes")]
    assert [len(redis_ids(e[b"written"])) for e in entries] == [500, 500, 200, 0]
    assert redis_ids(entries[-1][b"removed"]) == ["gone"]
    for number in range(2, 400):
        sink.apply(batch({"1": "x"}, number=number))
    assert store.client.xlen("{tickets}:changes") < 300


def redis_ids(text: bytes) -> list[str]:
    return list(json.loads(text))


def test_another_projection_has_keys_of_its_own(store: OfServer) -> None:
    """Two leases, two checkpoints, one database; no other key is touched."""
    sink = started(store, {"1": "a"})
    other = RedisSink(RedisSettings(url=store.url), "orders", Position.parse)
    assert other.acquire()
    assert other.load() is None
    other.apply(batch({"1": "o"}, number=9, fingerprint="g"))
    assert sink.read(["1"]) == {"1": b"a"}
    keys = {key.decode() for key in store.client.keys("*")}
    assert keys == {f"{k}{rest}" for k, rest in [
        ("tickets", ""), ("{tickets}", ":checkpoint"), ("{tickets}", ":lease"),
        ("orders", ""), ("{orders}", ":checkpoint"), ("{orders}", ":lease"),
    ]}  # fmt: skip
    other.close()


def test_a_replaced_leader_hears_of_it_from_renew_alone(store: OfServer) -> None:
    """An idle process learns without a write that Redis has another's checkpoint."""
    first = started(store, {"1": "a"})
    copied = store.copy()
    first.release()
    second = leader(store)
    second.apply(batch({"1": "b"}, number=2))
    second.release()
    old = store.client.dump("{tickets}:checkpoint")
    store.restore(copied)
    store.client.delete("{tickets}:lease")
    third = leader(store)
    found = third.load()
    assert found is not None
    assert found.position == position(1)
    store.client.restore("{tickets}:checkpoint", 0, old, replace=True)
    assert not third.renew().held
