"""For each kind of fault its cure taken out, found again by chance.

The kinds are described in tests/abroad/README.md. The commands are tests of hypothesis and of made-up
declarations, which find the mutant among the examples of every run, or worlds on PostgreSQL. Kinds
that only another server can show are not here yet.
"""

from __future__ import annotations

from tests.mutants.mutant import Mutant

KINDS: list[Mutant] = [
    Mutant(
        "B: dates that no calendar has are written",
        "projector/projection/encoding.py",
        "        datetime.date(int(date[:4]), int(date[5:7]), int(date[8:]))\n",
        "        pass\n",
        "tests/unit/test_encoding.py::test_only_days_of_the_calendar_are_written",
    ),
    Mutant(
        "B: any bytes are a text",
        "projector/projection/encoding.py",
        "    if not value.isascii():\n        try:",
        "    if value.isascii():\n        try:",
        "tests/unit/test_encoding.py::test_bytes_are_a_text_or_refused",
    ),
    Mutant(
        "E: on a ring of servers numbers alone are compared",
        "projector/resume.py",
        "        if self._own.surely_reaches(position):",
        "        if str(self._own.gtids) >= str(position.gtids):",
        "tests/unit/test_resume.py::test_no_projection_misses_a_transaction",
    ),
    Mutant(
        "I: of two places the later one is the earlier",
        "projector/mysql/position.py",
        "        if self.surely_reaches(other):\n            return other\n",
        "        if self.surely_reaches(other):\n            return self\n",
        "tests/unit/test_resume.py::test_no_projection_misses_a_transaction",
    ),
    Mutant(
        "I: a file is no longer than 4 GB",
        "projector/mysql/binlog/progress.py",
        "            self._read_to += (log_pos - self._read_to) & _WRAPS\n",
        "            self._read_to = log_pos\n",
        "tests/unit/test_progress.py::test_a_file_beyond_4_gb_is_followed",
    ),
    Mutant(
        "O: a record that nobody can read ends the process",
        "projector/debt.py",
        "        except ValueError:\n            continue\n        # A scan's",
        "        except KeyError:\n            continue\n        # A scan's",
        "tests/unit/test_debt.py::test_any_record_is_a_debt_or_is_passed_over",
    ),
    Mutant(
        "D: what PostgreSQL's catalog changes silently is passed over",
        "projector/postgres/log.py",
        "        self._tell(self._redefine(digest))\n",
        "        self._redefine(digest)\n",
        "tests.abroad.postgres 0-60 --until wrong",
    ),
    Mutant(
        "D: what changes in a table that has another name is passed over",
        "projector/postgres/pgoutput.py",
        "            if oid in self.owners:\n",
        "            if oid in self.owners and False:\n",
        "tests.abroad.postgres 0-199 --until wrong",
    ),
]
