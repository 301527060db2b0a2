"""A writer that the system stops, wherever it is at that moment, and wakes after its lease."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from projector.errors import FencedError
from tests.integration.test_sink_contract import batch, started
from tests.projector_process import wait_for
from tests.servers import RedisServer
from tests.sink_stores import OfServer

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parent.parent.parent

# Leads, and writes as fast as it can until it is refused.
_WRITER = """
import sys
from projector.errors import FencedError
from projector.mysql.position import Position
from projector.settings import Redis
from projector.sink_redis import RedisSink
from tests.integration.test_sink_contract import batch
sink = RedisSink(Redis(url=sys.argv[1], lease_ttl_s=1), "tickets", Position.parse)
while not sink.acquire():
    pass
found = sink.load()
number = found.position.offset if found else 0
try:
    while True:
        number += 1
        sink.renew()
        sink.apply(batch({"1": "writer"}, number=number, fingerprint="f"))
except FencedError:
    print("fenced")
"""


@pytest.mark.parametrize("pause_after_s", [0.0, 0.011, 0.027, 0.043])
def test_a_stopped_process_writes_nothing_when_it_wakes(
    fresh_redis: RedisServer, pause_after_s: float
) -> None:
    """SIGSTOP in the middle of its writes, another takes over, SIGCONT: refused, and it knows."""
    store = OfServer([fresh_redis])
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, fresh_redis.url()],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: store.client.hget("tickets", "1") == b"writer")
        time.sleep(pause_after_s)  # another place in its loop each time
        writer.send_signal(signal.SIGSTOP)
        second = store.sink()
        wait_for(second.acquire)
        found = second.load()
        assert found is not None
        second.apply(batch({"1": "second"}, number=found.position.offset + 1))
        stamp = store.records("checkpoint")["stamp"]
        writer.send_signal(signal.SIGCONT)
        assert writer.communicate(timeout=20)[0] == "fenced\n"
        assert second.read(["1"]) == {"1": b"second"}
        assert store.records("checkpoint")["stamp"] == stamp
        assert second.renew().held
    finally:
        writer.kill()
        writer.wait()
        store.close()
        store.client.close()


def test_a_process_that_could_not_renew_does_not_even_try(fresh_redis: RedisServer) -> None:
    """By its own clock the lease may be over: nothing is sent, though Redis would still take it."""
    store = OfServer([fresh_redis])
    sink = started(store, {"1": "a"}, ttl_s=1.0)
    assert store.client.persist("{tickets}:lease")  # a server whose clock stands still

    def refused() -> bool:
        try:
            sink.apply(batch({"1": "b"}, number=2))
        except FencedError as error:
            return "run out" in str(error)
        return False

    wait_for(refused, timeout_s=2)
    stamp = store.records("checkpoint")["stamp"]
    assert refused()
    assert store.records("checkpoint")["stamp"] == stamp
    assert sink.renew().held
    assert not refused()
    store.close()
    store.client.close()
