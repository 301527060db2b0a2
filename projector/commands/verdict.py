"""The first line of `projector status`: how things stand, in one word and one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from projector.record import read_number

WELL = {"current", "owing"}  # nobody needs to look


@dataclass(frozen=True, slots=True)
class Verdict:
    """`word` is for machines and stays what it is; `sentence` is for people."""

    word: str
    sentence: str


def judge(status: Mapping[str, Any], max_lag_s: float) -> Verdict:
    """Judge what `RemoteProjection.status` tells; what weighs most comes first."""
    name = status["projection"]
    return next(_complaints(name, status, max_lag_s), None) or Verdict(
        "current", f"{name} is current: {status['documents']:,} documents."
    )


def _complaints(name: str, status: Mapping[str, Any], max_lag_s: float) -> Iterator[Verdict]:
    waiting, resync = status["waiting_for"], status["resync"] or {}
    lag_s, quarantined = status["lag_s"], status["quarantined"]
    if status["leader"] is None:
        age = duration(status["checkpoint_age_s"])
        yield Verdict("no_daemon", f"No daemon follows {name}: its documents are {age} old.")
    if waiting:
        yield Verdict("waiting", f"The daemon of {name} waits: {waiting}")
    if resync.get("state") == "running" and resync.get("scope") == "all":
        done, total = (int(read_number(resync.get(key))) for key in ("done", "total"))
        yield Verdict("making", f"All documents of {name} are rebuilt: {done:,} of {total:,}.")
    if lag_s is not None and read_number(lag_s) > max_lag_s:
        yield Verdict("behind", f"{name} is {duration(read_number(lag_s))} behind the database.")
    if status["fingerprint"] != status["fingerprint_now"]:
        yield Verdict("other_projection", f"{name} is kept by another projection than is set here.")
    if quarantined:
        yield Verdict("quarantine", f"{name} follows, but {quarantined:,} rows have no document.")
    if status["owed"]:
        pieces = len(status["owed"])
        yield Verdict("owing", f"{name} follows; {pieces} pieces of wide work are worked off.")


def not_built(name: str) -> Verdict:
    """Judge a projection without a checkpoint."""
    return Verdict("not_built", f"Nothing was built of {name} yet: no checkpoint exists.")


def duration(seconds: float) -> str:
    """Write a length of time as people say it."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
