"""Decisions that once passed all unit tests when they were inverted."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

FOUR: list[Mutant] = [
    Mutant(
        "four: the stream begins at the latest position",
        "projector/mysql/position.py",
        "        if self.surely_reaches(other):\n            return other\n"
        "        if other.surely_reaches(self):\n            return self",
        "        if self.surely_reaches(other):\n            return self\n"
        "        if other.surely_reaches(self):\n            return other",
        "tests/unit/test_resume.py::test_the_stream_begins_where_the_last_one_is",
    ),
    Mutant(
        "four: nothing that the stream gives is done already",
        "projector/resume.py",
        "        if self._own.surely_reaches(position):\n            return True\n",
        "",
        "tests/unit/test_resume.py::test_on_one_server_nothing_is_done_twice",
    ),
    Mutant(
        "four: look-ups are put off without a limit",
        "projector/pipeline.py",
        "        if debts and not affected.repairs and self._is_flooded(debts):\n"
        '            affected.repairs.add("fanout")\n',
        "",
        "tests/unit/test_lane.py::test_many_look_ups_put_off_become_one_walk",
    ),
    Mutant(
        "four: what somebody asked for goes before what is owed",
        "projector/reconcile.py",
        "                return 3 if debts[key].reason in {REQUESTED, REFRESH, GREW} else 1",
        "                return 1",
        "tests/unit/test_lane.py::test_the_walk_that_is_waited_for_most_goes_first",
    ),
]
