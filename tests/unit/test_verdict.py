"""The verdict of `projector status`: what weighs most is said first."""

from typing import Any

import pytest

from projector.commands.remote import progress, rfc3339
from projector.commands.verdict import WELL, duration, judge

WELL_STATUS: dict[str, Any] = {
    "projection": "orders", "checkpoint_age_s": 0.4, "lag_s": 0.0, "leader": "host:1",
    "documents": 1234, "fingerprint": "f", "fingerprint_now": "f", "resync": None, "owed": [],
    "quarantined": 0, "waiting_for": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "word", "says"),
    [
        ({}, "current", "orders is current: 1,234 documents."),
        ({"leader": None, "checkpoint_age_s": 7200.0}, "no_daemon", "documents are 2 h old"),
        ({"waiting_for": "1045 Access denied"}, "waiting", "1045 Access denied"),
        (
            {"resync": {"state": "running", "scope": "all", "done": 5, "total": 9000}},
            "making",
            "5 of 9,000",
        ),
        ({"resync": {"state": "done", "scope": "all"}}, "current", ""),
        ({"lag_s": 90.0}, "behind", "orders is 1.5 min behind"),
        ({"lag_s": None}, "current", ""),
        ({"fingerprint": "g"}, "other_projection", "another projection"),
        ({"quarantined": 3}, "quarantine", "3 rows"),
        ({"owed": ["x"]}, "owing", "1 pieces"),
        ({"leader": None, "quarantined": 3, "lag_s": 99}, "no_daemon", ""),
    ],
)
def test_one_word_and_one_sentence(facts: dict[str, Any], word: str, says: str) -> None:
    """Each state has its word; only two of them are well."""
    verdict = judge({**WELL_STATUS, **facts}, 30.0)
    assert verdict.word == word
    assert says in verdict.sentence
    assert (word in WELL) == (word in {"current", "owing"})


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.0, "0 s"), (59.9, "59.9 s"), (90, "1.5 min"), (172800, "2 d")]
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    """Three digits at most."""
    assert duration(seconds) == said


def test_numbers_are_numbers_and_times_are_times() -> None:
    """What Redis holds as texts; garbage counts as nothing."""
    assert rfc3339("1764078000.25") == "2025-11-25T13:40:00.250Z"
    assert [rfc3339(value) for value in (None, "", "0", "nan", "soon")] == [None] * 5
    assert progress({}) is None
    found = progress({"state": "running", "done": "12", "total": "x", "started_at": "1764078000"})
    assert found is not None
    assert (found["done"], found["total"], found["phase"]) == (12, 0, None)
    assert found["started_at"] == "2025-11-25T13:40:00.000Z"
