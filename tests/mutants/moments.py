"""Decisions about documents that time alone changes."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, decision

_MOMENTS = "test_moments.py"

MOMENTS: list[Mutant] = [
    decision(
        "projection/forms",
        'b"true" if at <= clock.now_us() else b"false"',
        'b"true" if at < clock.now_us() else b"false"',
        f"{_MOMENTS}::test_a_moment_is_past_from_itself_on",
    ),
    decision(
        "projection/forms",
        "moment = _dated(kind, own)",
        "moment = _dated(kind, manner)",
        f"{_MOMENTS}::test_moments_are_kept_as_all_times_are",
    ),
    decision(
        "projection/timed",
        "if at is not None and at > now:",
        "if at is not None:",
        f"{_MOMENTS}::test_the_soonest_moment_to_come_is_kept",
    ),
    decision(
        "projection/timed",
        "found[key] = min(at, found.get(key, at))",
        "found[key] = max(at, found.get(key, at))",
        f"{_MOMENTS}::test_the_soonest_moment_to_come_is_kept",
    ),
    decision(
        "projection/plan",
        "return clock.held() if self.views.timed else nullcontext()",
        "return nullcontext()",
        f"{_MOMENTS}::test_a_document_and_its_moment_are_told_by_one_look_at_the_clock",
    ),
    decision(
        "projection/views",
        'if timed and f"by_{DUE}" in names:',
        'if not timed and f"by_{DUE}" in names:',
        f"{_MOMENTS}::test_what_is_no_moment_is_refused",
    ),
    decision(
        "due",
        "fresh = [k for k, at in found.items() if self._tried.get(k) != at]",
        "fresh = [k for k, at in found.items() if k not in self._tried]",
        f"{_MOMENTS}::test_what_cannot_be_made_is_not_owed_for_ever",
    ),
    decision(
        "due",
        "_AT_ONCE + len(self._tried)",
        "_AT_ONCE",
        f"{_MOMENTS}::test_what_cannot_be_made_is_not_owed_for_ever",
    ),
    decision(
        "due",
        "if any(debt.reason == DUE for debt in self._pipeline.known.debts.values()):",
        "if self._pipeline.known.debts and False:",
        f"{_MOMENTS}::test_what_is_due_is_owed_once",
    ),
]
