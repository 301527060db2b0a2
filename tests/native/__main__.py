"""`make fuzz`: the compiled core under sanitizers, of addresses and of undefined behaviour.

Answers are cut into pieces, changed and broken off; made-up documents and values are compared with
Python's. What the sanitizers find ends the process with their report; what differs, with the seed.
"""

import argparse
import os
import subprocess
import sys
import time
from random import Random
from typing import Any

from projector.mysql.position import Flavour
from projector.postgres import results
from projector.projection import encoding
from projector.projection.encoding import Promise
from tests.native import both, core, wire
from tests.native.log import in_all, made_log, read
from tests.native.made_up import MadeUp

_BUILD = "PROJECTOR_TEST_SANITIZED"
_CHECKED = [
    encode for encode in encoding._COMPILED
    if encode is not None and encode.__name__.startswith(("any_", "whole", "float", "json", "uuid"))
]  # fmt: skip
_PIECES = (b'"', b"\\", b"\\u00", b"{", b"}", b"[", b"]", b",", b":", b"-", b".", b"e", b"0", b"1",
           b"2026-02-29", b" ", b"\xf0\x9f\x98\x80", b"\xed\xa0", b"\0", b"\x1f",
           b"a" * 9)  # fmt: skip


def main() -> int:
    """Run under the sanitizers: in a process of its own, for they must be there first."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9)
    options = parser.parse_args()
    if _BUILD not in os.environ:
        build = core.built(*core.SANITIZERS)
        return subprocess.run(
            [sys.executable, "-m", "tests.native", *sys.argv[1:]], cwd=core.ROOT, check=False,
            env={**os.environ, **core.sanitized_environment(), _BUILD: str(build)},
        ).returncode  # fmt: skip
    module = core.loaded(os.environ[_BUILD])  # type: ignore[arg-type]
    seed, deadline = options.seed, time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        seed += 1
        sys.stdout.write(f"\r{seed} ")
        sys.stdout.flush()
        _documents(module, seed)
        _answers(module, Random(seed))
        _values(module, Random(seed))
        _texts(module, Random(seed))
        _logs(module, seed)
    sys.stdout.write(f"\n{seed - options.seed} rounds, nothing found\n")
    return 0


def _documents(module: Any, seed: int) -> None:
    made = MadeUp(seed)
    ours, theirs = both.documents(module, made.plan, made.answers())
    assert ours == theirs, f"seed {seed}: documents differ"


def _texts(module: Any, random: Random) -> None:
    """PostgreSQL's texts, brought into form."""
    fixes = random.choices([*results._COMPILED, bytes.upper], k=random.randrange(6))
    sizes = [0, 1, 3, 5, 250, 251, 252, 65_535, 65_536]
    rows: list[tuple[bytes | None, ...]] = [
        tuple(random.choice([None, b"t", b"infinity", b"2026-11-26 01:02:03+00", b"44 BC", b"+00",
                             random.randbytes(random.choice(sizes))]) for _ in fixes)
        for _ in range(random.randrange(20))
    ]  # fmt: skip
    forms = tuple(results._COMPILED.get(fix, fix) for fix in fixes)
    assert list(module.Rows.of(rows, forms)) == results.fixed_rows(rows, fixes)


def _answers(module: Any, random: Random) -> None:
    """Whatever a server may send, and much that none would."""
    made = MadeUp(random.randrange(1 << 30))
    bodies = list(wire.bodies(made.answers()))
    for _ in range(random.choice([0, 1, 1, 3])):
        at = random.randrange(len(bodies))
        bodies[at] = _changed(bodies[at], random)
    stream = wire.packets(bodies)
    if random.random() < 0.3:
        stream = _changed(stream, random)
    answers, at, state = module.Results(random.choice([-1, -1, 1000])), 0, 0
    while state == 0 and at < len(stream):
        size = random.choice([1, 4, 50, 3000])
        state = answers.feed(stream[at : at + size])
        at += size
    found = [rows for rows in answers.found if rows is not None]
    for rows in found:
        assert all(len(row) == len(rows.definitions) // 5 for row in rows)
        rows.promises = ()
    if len(found) == len(made.plan.levels):
        with both.using(module):
            both.outcome(made.plan.documents, found)


def _values(module: Any, random: Random) -> None:
    for encode in _CHECKED:
        value = b"".join(random.choices(_PIECES, k=random.randrange(12)))
        field = (b"", encode.__name__, encode)
        writer = module.Encoder(((1, 1, True, False, b"", b"", b"", ((field,), (), ()), None),))
        [rows] = both.fed(module, [([Promise.WHOLE, Promise.NOTHING], [(b"1", value)])])
        found, wanted = writer.documents([rows]), both.outcome(encode, value)
        written = wanted if found is None else found[0][1]
        assert written == wanted, f"{encode.__name__} of {value!r}"
        assert (found is None) == isinstance(wanted, tuple), f"{encode.__name__} of {value!r}"


def _logs(module: Any, seed: int) -> None:
    random = Random(seed)
    flavour = random.choice([Flavour.MYSQL, Flavour.MARIADB])
    log = made_log(seed, flavour, is_damaged=random.random() < 0.6)
    with both.using(module):
        ours = in_all(*read(log, seed))
    with both.using(None):
        theirs = in_all(*read(log, seed))
    assert ours == theirs, f"seed {seed}: logs differ"


def _changed(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    piece = random.choice([b"", bytes([random.randrange(256)]), random.randbytes(4),
                           b"\xfb", b"\xfc\xff\xff", b"\xfe" + b"\xff" * 8])  # fmt: skip
    return data[:at] + piece + data[at + random.choice([0, 1, len(piece), 50]) :]


if __name__ == "__main__":
    sys.exit(main())
