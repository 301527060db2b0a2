"""A failing world made small: ingredients left out, then statements, as long as it fails alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.abroad.worlds.plan import INGREDIENTS, Plan, Verdict
from tests.abroad.worlds.world import World

Attempt = Callable[[Plan], tuple[World, Verdict]]


def shrink(
    world: World, verdict: Verdict, attempt: Attempt, seconds: float
) -> tuple[World, Verdict]:
    """Return the smallest world found in the time, with its verdict."""
    end = time.monotonic() + seconds
    best = world, verdict
    for ingredient in INGREDIENTS:
        if time.monotonic() > end:
            return best
        plan = best[0].plan
        found = attempt(replace(plan, without=plan.without | {ingredient}))
        if found[1].word == verdict.word:
            best = found
    size = 64
    while size and time.monotonic() < end:
        for chunk in _chunks(best[0], size):
            plan = best[0].plan
            found = attempt(replace(plan, skipped=plan.skipped | chunk))
            if found[1].word == verdict.word:
                best = found
            if time.monotonic() > end:
                break
        size //= 4
    return best


def _chunks(world: World, size: int) -> Iterator[frozenset[int]]:
    """The statements that were run, so many at a time, from the last to the first."""
    left = [n for n in range(world.started, 0, -1) if n not in world.plan.skipped]
    for first in range(0, len(left), size):
        yield frozenset(left[first : first + size])
