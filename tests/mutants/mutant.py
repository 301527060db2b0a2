"""A decision of the product made wrong, and the test that must fail for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`before` stands once in `file`; with `after` in its place `command` must fail.

    `command`: what pytest is given, or a module with its arguments; `NAME=value` before that for
    its environment. `equivalent`: why nothing can tell the difference, for one that no test needs
    to find.
    """

    name: str
    file: str
    before: str
    after: str
    command: str
    equivalent: str = ""


def decision(module: str, before: str, after: str, test: str, equivalent: str = "") -> Mutant:
    """Make one of a module below `projector` for a test below `tests/unit`."""
    name = f"{module}: {' '.join(before.split())} -> {' '.join(after.split())}"
    return Mutant(name, f"projector/{module}.py", before, after, f"tests/unit/{test}", equivalent)
