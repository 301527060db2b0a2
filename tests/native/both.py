"""The same work by the compiled core and in Python, on the same bytes."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import pymysql

from projector import compiled
from projector.mysql.results import results
from projector.projection import Plan
from tests.native.wire import Result, bodies, packets

Outcome = Any


@contextmanager
def using(core: Any) -> Iterator[None]:
    """Work with this core; None: in Python."""
    before, compiled.core = compiled.core, core
    try:
        yield
    finally:
        compiled.core = before


def outcome(work: Any, *arguments: Any) -> Outcome:
    """What comes of it: a value, or an error with its text."""
    try:
        return work(*arguments)
    except Exception as error:
        return type(error), str(error)


def received(core: Any, stream: bytes, random: Random, room: float = float("inf")) -> Outcome:
    """Answers as they are read off a real socket that a server has written to, piece by piece."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        at = 0
        try:
            while at < len(stream):
                size = random.choice([1, 3, 100, 1000, 1 << 20])
                theirs.sendall(stream[at : at + size])
                at += size
        except OSError:
            pass  # the other side has seen enough
        theirs.close()

    driver: Any = pymysql.Connection(defer_connect=True)
    driver._execute_command = lambda *_: None
    driver._current_timeout = driver._read_timeout
    buffered = ours.makefile("rb")
    driver._sock, driver._rfile, driver._next_seq_id = ours, buffered, 1
    server = threading.Thread(target=serve)
    server.start()
    try:
        with using(core):
            found, status = results(driver, "", room)
        return [(getattr(r, "promises", ()), [tuple(row) for row in r]) for r in found], status
    except Exception as error:
        return type(error), str(error)
    finally:
        buffered.close()
        ours.close()
        server.join()


def fed(core: Any, results: Sequence[Result | None]) -> list[Any]:
    """Rows of the core's own kind."""
    answers = core.Results(-1)
    assert answers.feed(packets(list(bodies(results)))) == 1
    found: list[Any] = answers.found
    for rows, result in zip(found, results, strict=True):
        if result is not None:
            rows.promises = tuple(result[0])
    return found


def documents(core: Any, plan: Plan, results: Sequence[Result]) -> tuple[Outcome, Outcome]:
    """Documents of the core, and Python's of the same rows."""
    rows = fed(core, results)
    with using(core):
        ours = outcome(plan.documents, rows)
    with using(None):
        theirs = outcome(plan.documents, rows)
    return ours, theirs
