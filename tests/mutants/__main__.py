"""`python -m tests.mutants`: all mutants; `resume A:`: those whose name or file has such a word.

Status 1 when one survives that is not said to be equivalent, when its text is not there any more,
or when its test fails without it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.mutants.decisions import DECISIONS
from tests.mutants.declarations import DECLARATIONS
from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.four import FOUR
from tests.mutants.kinds import KINDS
from tests.mutants.moments import MOMENTS
from tests.mutants.mutant import Mutant
from tests.mutants.running import Outcome, Tree, trees

ALL = [*FOUR, *DECLARATIONS, *DECISIONS, *EQUIVALENT, *MOMENTS, *KINDS]


def judge(mutants: Sequence[Mutant], *, has_baseline: bool) -> list[str]:
    """Try each mutant; print how it ended, return what is wrong. `has_baseline`: try each command
    without a mutant first."""
    wrong: list[str] = []
    with trees() as tree:
        if has_baseline:
            wrong += [_told("the tree as it is", command, outcome)
                      for command in sorted({m.command for m in mutants if not m.equivalent})
                      if (outcome := tree.run(command)).word != "survived"]  # fmt: skip
        for mutant in mutants:
            outcome = _outcome(tree, mutant)
            wanted = "survived" if mutant.equivalent else "killed"
            print(f"{outcome.seconds:6.1f} s  {outcome.word:8}  {mutant.name}", flush=True)
            if outcome.word != wanted:
                wrong.append(_told(mutant.name, mutant.command, outcome))
    return wrong


def _outcome(tree: Tree, mutant: Mutant) -> Outcome:
    try:
        with tree.mutated(mutant):
            return tree.run(mutant.command)
    except ValueError as error:
        return Outcome("lost", 0.0, str(error))


def _told(name: str, command: str, outcome: Outcome) -> str:
    return f"{name}: {outcome.word} by {command}\n{outcome.said[-1500:]}"


def main() -> int:
    """Try what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="of names and files; all mutants without")
    parser.add_argument("--no-baseline", action="store_true", help="do not try the tree as it is")
    chosen = parser.parse_args()
    mutants = [
        mutant for mutant in ALL
        if not chosen.words or any(w in f"{mutant.name} {mutant.file}" for w in chosen.words)
    ]  # fmt: skip
    wrong = judge(mutants, has_baseline=not chosen.no_baseline)
    for each in wrong:
        print(f"\nWRONG: {each}")
    print(f"\n{len(mutants)} mutants, {len(wrong)} wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
