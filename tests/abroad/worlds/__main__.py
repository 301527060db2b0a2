"""`python -m tests.abroad.worlds 12`: one world again; `0-99`: many; `12 --report`: all of it."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from tests.abroad.worlds.plan import Plan
from tests.abroad.worlds.runner import Runner
from tests.abroad.worlds.shrinking import shrink


def main(make: type[Runner] = Runner, name: str = "tests.abroad.worlds") -> int:
    """Play worlds, say how each ended that was not right; 1 if any failed."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=__doc__)
    parser.add_argument("seeds", help="a number, or first-last")
    parser.add_argument(
        "--server", choices=[str(f) for f in make.flavours], help="instead of its own"
    )
    parser.add_argument("--without", default="", help="ingredients to leave out, with commas")
    parser.add_argument("--shrink", type=float, metavar="S", help="seconds to make a failure small")
    parser.add_argument("--report", action="store_true", help="print how to make each again")
    parser.add_argument("--out", type=Path, help="a folder for the reports of failures")
    parser.add_argument("--faults", action="store_true", help="as the fault suite plays it")
    parser.add_argument("--until", metavar="WORD", help="stop at the first that ends so; 1 then")
    chosen = parser.parse_args()
    first, _, last = chosen.seeds.partition("-")
    without = frozenset(chosen.without.split(",")) - {""}
    flavour = chosen.server
    with make(chosen.out) as runner:
        for seed in range(int(first), int(last or first) + 1):
            plan, faults = Plan(seed, without), runner.faults_of(seed) if chosen.faults else []
            world, verdict = runner.play(plan, flavour, faults)
            if verdict.is_failure and chosen.shrink:
                attempt = partial(runner.play, flavour=flavour, faults=faults)
                world, verdict = shrink(world, verdict, attempt, chosen.shrink)
            if verdict.word != "right" or chosen.report:
                print(f"{time.strftime('%T')} {verdict.seconds:.1f} s {verdict}", flush=True)
            if chosen.report or (verdict.is_failure and chosen.shrink):
                print(world.report())
            if verdict.word == chosen.until:
                break
        print(runner.tally)
    if chosen.until:
        return bool(runner.tally.words[chosen.until])
    return bool(runner.tally.failures)


if __name__ == "__main__":
    sys.exit(main())
