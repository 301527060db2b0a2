"""Exit: what ends a command that nobody foresaw."""

import subprocess
import sys

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
