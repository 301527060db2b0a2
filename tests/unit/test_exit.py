"""Exit: what ends a command that nobody foresaw."""

import subprocess
import sys

import pytest

from projector.errors import ExitCode
from tests.projector_process import ROOT

BROKEN = """
from projector.cli import app, main

@app.command()
def broken():
    raise KeyError("mysql://root:geheim@db/helpdesk")

main()
"""


def test_a_bug_ends_with_its_traceback_and_its_own_status() -> None:
    """70, on which systemd restarts, and not the 1 of a comparison; no secret in the traceback."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, "broken"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.BUG
    assert "KeyError" in done.stderr
    assert "geheim" not in done.stderr


@pytest.mark.parametrize("words", ["schema", "--version", "--help", "run --help"])
@pytest.mark.parametrize(
    ("redirection", "status"),
    [("> /dev/full", ExitCode.REFUSED), (">&-", ExitCode.OK), ("> /dev/full 2>&1", 3)],
)
def test_an_answer_that_cannot_be_written_is_no_bug(
    words: str, redirection: str, status: int
) -> None:
    """A full disk has a message, where there is a place for one; nobody reads: nothing is said."""
    command = f"exec {sys.executable} -m projector {words} {redirection}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == status, done.stderr
    assert ("cannot be written" in done.stderr) == (redirection == "> /dev/full")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
