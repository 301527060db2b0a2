"""For each kind of fault its cure taken out, found again by chance.

The kinds are described in tests/abroad/README.md. The commands are tests of hypothesis and of made-up
declarations, which find the mutant among the examples of every run, or what looks for more of the
kind on servers, at random: up to 200 seeds, until one ends wrong.
"""

from __future__ import annotations

from tests.mutants.mutant import Mutant

KINDS: list[Mutant] = [
    Mutant(
        "A: constants of a condition are left out where its table is read alone",
        "projector/projection/descent.py",
        "[own_by_parent[c.key] for c in root.key], top.conditions)",
        "[own_by_parent[c.key] for c in root.key], ())",
        "ABROAD_SEEDS=200 tests/unit/test_declared_random.py",
    ),
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
        "C: what a generated column is computed from is not read with it",
        "projector/mysql/generated.py",
        "    needed = bases(of, watch.columns)\n    read = watch.read | needed | bases(of, watch.read)\n",
        "    needed = frozenset[str]()\n    read = watch.read\n",
        "ABROAD_SEEDS=200 tests/abroad/test_hidden_random.py",
    ),
    Mutant(
        "D: columns that the account may not see have no place in a row",
        "projector/mysql/binlog/tables.py",
        "infos = [*known, *[None] * len(table_map.types)]",
        "infos = [*filter(None, known), *[None] * len(table_map.types)]",
        "tests.abroad.worlds 170-199 --until wrong",
    ),
    Mutant(
        "E: on a ring of servers numbers alone are compared",
        "projector/resume.py",
        "        if self._own.surely_reaches(position):",
        "        if str(self._own.gtids) >= str(position.gtids):",
        "tests/unit/test_resume.py::test_no_projection_misses_a_transaction",
    ),
    Mutant(
        "F: ALTER IGNORE deletes no rows",
        "projector/mysql/binlog/statements.py",
        'any(token.word == "IGNORE" for token in self._tokens[:at])',
        "False",
        "ABROAD_SEEDS=200 tests/abroad/test_statements.py::test_statements_of_a_grammar",
    ),
    Mutant(
        "G: the server says how many rows a query returns",
        "projector/mysql/session.py",
        " sql_select_limit=18446744073709551615,",
        "",
        "ABROAD_SEEDS=200 tests/abroad/test_session_state.py::test_any_settings_change_no_document",
    ),
    Mutant(
        "H: a refusal by the database is the end",
        "projector/daemon.py",
        "            except (TransientError, RefusedError) as error:\n",
        "            except TransientError as error:\n",
        "ABROAD_SEEDS=4 tests/abroad/test_errors.py"
        "::test_every_known_error_at_any_query_ends_in_the_right_documents",
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
        "J: what is owed waits for the place to restart from",
        "projector/pipeline.py",
        "            return Need(self.barrier)\n"
        "        return Need(self.barrier.later(debt.barrier), is_unspelled=True)\n",
        "            return Need(self.position)\n"
        "        return Need(self.position, is_unspelled=True)\n",
        "tests/unit/test_daemon.py::test_every_hash_is_the_database_in_the_end",
    ),
    Mutant(
        "K: a look-up by literals compares as the literal's type does",
        "projector/mysql/likeness.py",
        "        is_plain = all(x.takes(value) for x, value in zip(likenesses, row, strict=True))\n",
        "        is_plain = True\n",
        "ABROAD_SEEDS=10 tests/abroad/test_look_ups.py::test_a_look_up_finds_what_the_join_finds",
    ),
    Mutant(
        "L: names are exact where the server folds them",
        "projector/projection/plan.py",
        "        return name.folded(self.folds_names)\n",
        "        return name\n",
        "tests.abroad.worlds 60-199 --until wrong",
    ),
    Mutant(
        "M: a hidden change has no after",
        "projector/mysql/hidden.py",
        "    return RowsChange(child, Kind.UPDATE, before, after, len(before))\n",
        "    return RowsChange(child, Kind.DELETE, before, (), len(before))\n",
        "tests/unit/test_hidden_histories.py",
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
