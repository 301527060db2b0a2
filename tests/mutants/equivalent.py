"""Mutants that no test can tell, each with the reason."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, decision

EQUIVALENT: list[Mutant] = [
    decision(
        "leases",
        "time.monotonic() - oldest > self._ttl_s",
        "time.monotonic() - oldest >= self._ttl_s",
        "test_leases.py",
        "two readings of a clock are never apart by a lease's very length",
    ),
    decision(
        "projection/routes",
        "        if not self.likenesses:\n",
        "        if self.likenesses is None:\n",
        "test_routes.py",
        "a plan gives each look-up a likeness of its own, known or not",
    ),
    decision(
        "projection/graph",
        "    if isinstance(source, Alias) and isinstance(source.name, _anonymous_label):",
        "    if isinstance(getattr(source, 'name', None), _anonymous_label):",
        "test_routes.py",
        "what is no alias is a table here, and a table's name is never anonymous",
    ),
    decision(
        "projection/selects",
        "    ties = [c for c in node.row_key if not any(c is other for other in chosen)]",
        "    ties = list(node.row_key)",
        "test_routes.py",
        "rows that are ordered by a column twice are ordered as by it once",
    ),
    decision(
        "projection/expressions",
        "        return element.name if element.is_literal else",
        "        return",
        "test_conditions.py",
        "a dot in front changes neither the words of a text nor what it calls",
    ),
]
