"""The window in which lone changes gather: what opens and closes it, and that it may be off."""

import threading
import time
from collections.abc import Callable

import pytest

from projector.errors import TransientError
from projector.model import Transactions
from projector.mysql.position import Flavour, Position
from projector.queue import Queue

_WINDOW_S = 1.0
_AT_ONCE_S = 0.5
_PLACE = Position(Flavour.MYSQL, "server", "binlog.000001", 4, None)


def _change() -> Transactions:
    return Transactions([], 1, _PLACE, _PLACE, [0.0])


def _busy(window_s: float = _WINDOW_S) -> Queue:
    """A queue through which changes have come one after the other."""
    queue = Queue("mysql", window_s)
    for _ in range(20):
        queue.put(_change(), 1)
    while not queue.is_empty():
        queue.get(0)
    return queue


def _get(queue: Queue) -> tuple[int, float]:
    """Take once; give the number of transactions and the seconds that it took."""
    began = time.monotonic()
    found = queue.get(10)
    assert found is not None
    return found.count, time.monotonic() - began


def _soon(act: Callable[[], object]) -> threading.Thread:
    timer = threading.Timer(0.05, act)
    timer.start()
    return timer


def test_a_change_after_a_quiet_time_is_given_at_once() -> None:
    """Nobody keeps it company, so it waits for nobody."""
    queue = Queue("mysql", _WINDOW_S)
    queue.put(_change(), 1)
    count, took_s = _get(queue)
    assert count == 1
    assert took_s < _AT_ONCE_S


def test_changes_that_keep_coming_are_given_together() -> None:
    """The first one waits, no longer than the window after it came."""
    queue = _busy()
    began = time.monotonic()
    queue.put(_change(), 1)
    later = _soon(lambda: queue.put(_change(), 1))
    count, _ = _get(queue)
    later.join()
    assert count == 2
    assert _WINDOW_S * 0.9 < time.monotonic() - began < _WINDOW_S + _AT_ONCE_S


def test_a_change_that_has_waited_already_waits_no_more() -> None:
    """Whatever it waited for: under load nothing is held back."""
    queue = _busy(0.2)
    queue.put(_change(), 1)
    time.sleep(0.25)
    _, took_s = _get(queue)
    assert took_s < 0.15


def test_enough_changes_do_not_wait() -> None:
    """Neither those that are there, nor those that are once another comes."""
    queue = _busy()
    queue.put(_change(), 8)
    assert _get(queue)[1] < _AT_ONCE_S
    queue.put(_change(), 1)
    later = _soon(lambda: queue.put(_change(), 7))
    count, took_s = _get(queue)
    later.join()
    assert count == 2
    assert took_s < _AT_ONCE_S


@pytest.mark.parametrize("end", ["wake", "fail", "close"])
def test_the_window_ends_with_everything_else(end: str) -> None:
    """A stop, a chunk that has been read, a lost connection: what has come is given at once."""
    queue = _busy()
    queue.put(_change(), 1)
    acts = {
        "wake": queue.wake,
        "fail": lambda: queue.fail(TransientError("mysql", "gone")),
        "close": queue.close,
    }
    later = _soon(acts[end])
    count, took_s = _get(queue)
    later.join()
    assert count == 1
    assert took_s < _AT_ONCE_S
    if end == "fail":
        with pytest.raises(TransientError, match="gone"):
            queue.get(0)


def test_without_a_window_nothing_waits() -> None:
    """It can be switched off."""
    queue = _busy(0)
    queue.put(_change(), 1)
    assert _get(queue)[1] < _AT_ONCE_S


def test_what_touches_nothing_waits_for_nothing() -> None:
    """A heartbeat, a transaction of other tables: there is nothing to be read."""
    queue = _busy()
    queue.put(_change(), 0)
    assert _get(queue)[1] < _AT_ONCE_S
