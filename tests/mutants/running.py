"""Applies one mutant after the other to a copy of the tree, and sees whether its test fails.

Tests run in processes forked off one that has imported what every test imports, but for the tree
itself: a mutant of a fast test takes about a second.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
_HEAVY = (
    "pytest", "hypothesis", "hypothesis.stateful", "sqlalchemy.dialects.mysql", "pymysql",
    "pymysql.cursors", "redis", "pydantic", "pydantic_settings", "prometheus_client", "structlog",
    "typer", "rich.console", "zstandard", "cryptography.hazmat.primitives.asymmetric.rsa",
)  # fmt: skip
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "build", "node_modules", "__pycache__", ".*_cache", ".hypothesis", "*.log"
)
_LONGEST_S = 900.0
_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestWarning")


@dataclass(frozen=True)
class Outcome:
    """How a test ended: `killed`, `survived`, or `broken` (it never ran)."""

    word: str
    seconds: float
    said: str = ""


class Tree:
    """A copy of the tree with at most one mutant in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tree"
        shutil.copytree(ROOT, self.folder, ignore=_LEFT_OUT, symlinks=True)
        self._log = folder / "said"
        self._edits = 0

    @contextlib.contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """Have a mutant in the tree. Raises ValueError when its text is not there just once."""
        path = self.folder / mutant.file
        text = path.read_text("utf-8")
        if text.count(mutant.before) != 1:
            raise ValueError(f"{mutant.name}: {text.count(mutant.before)} times in {mutant.file}")
        changed = path.stat().st_mtime
        path.write_text(text.replace(mutant.before, mutant.after), "utf-8")
        self._edits += 1  # each is a file of its own to Python, also two within a second
        os.utime(path, (changed + 10 * self._edits,) * 2)
        try:
            yield
        finally:
            path.write_text(text, "utf-8")
            os.utime(path, (changed,) * 2)

    def run(self, command: str) -> Outcome:
        """Run `tests/…` with pytest, anything else as `python -m …`, until the first failure."""
        began = time.monotonic()
        words = command.split()
        more = dict(word.split("=", 1) for word in takewhile(_is_setting, words))
        words = words[len(more) :]
        is_test = words[0].startswith("tests/")
        code = self._pytest(words, more) if is_test else self._module(words, more)
        said = self._log.read_text("utf-8", "replace")[-3000:]
        word = {0: "survived", 1: "killed", 2: "killed", None: "killed"}.get(code, "broken")
        return Outcome(word, time.monotonic() - began, said)

    def _pytest(self, words: Sequence[str], more: Mapping[str, str]) -> int | None:
        if "projector" in sys.modules:  # of the tree itself: another test has imported it
            return self._module(["pytest", *_OPTIONS, *words], more)
        pid = os.fork()
        if pid == 0:
            try:
                os.environ.update(more)
                self._be_pytest(words)
            finally:
                os._exit(70)
        return _wait(pid)

    def _be_pytest(self, words: Sequence[str]) -> None:
        os.setsid()
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(self.folder)
        for name in [n for n in sys.modules if n.partition(".")[0] == "tests"]:
            del sys.modules[name]
        sys.path[:] = [str(self.folder), *(p for p in sys.path if p not in ("", str(ROOT)))]
        code = int(sys.modules["pytest"].main([*_OPTIONS, *words]))  # type: ignore[attr-defined]
        sys.stdout.flush()
        os._exit(code)

    def _module(self, words: Sequence[str], more: Mapping[str, str]) -> int | None:
        with self._log.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=self.folder, stdout=log, stderr=log,
                start_new_session=True, env={**os.environ, **more},
            )  # fmt: skip
        try:
            return process.wait(_LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def _is_setting(word: str) -> bool:
    return word.partition("=")[0].isupper()


def _wait(pid: int) -> int | None:
    """Return the exit status; None when it had to be ended."""
    deadline = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


@contextlib.contextmanager
def trees() -> Iterator[Tree]:
    """Make a copy of the tree, and whatever forks need."""
    for name in _HEAVY:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        yield Tree(Path(folder))
