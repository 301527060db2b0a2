"""The TypeScript reader's tests, compiled and run by the machine's Node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.tools import ToolUnavailable, ensure_npm, missing

PACKAGE = Path(__file__).parents[2] / "readers" / "typescript"
_SOURCES = (
    "src", "test", "package.json", "tsconfig.json", "tsconfig.test.json", "README.md", "LICENSE"
)  # fmt: skip


def run_node(test: str, **environment: str) -> str:
    """Run one file of compiled tests; return what it printed. Skips without Node; in CI fails."""
    try:
        folder = _compiled()
    except ToolUnavailable as problem:
        missing(problem)
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", f"build/test/{test}"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,  # less than a test has
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{test}:\n{(done.stdout + done.stderr)[-6000:]}", pytrace=False)
    return done.stdout


def packed() -> list[str]:
    """Return the names of the files that npm would publish."""
    try:
        folder = _compiled()
    except ToolUnavailable as problem:
        missing(problem)
    done = subprocess.run(
        ["npm", "pack", "--dry-run", "--json", "--ignore-scripts"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    [package] = said if isinstance(said, list) else said.values()
    return sorted(file["path"] for file in package["files"])


@cache
def _compiled() -> Path:
    """Compile the package and its tests, beside what npm has fetched once."""
    modules = ensure_npm(PACKAGE)
    folder = Path(tempfile.mkdtemp(prefix="reader-typescript-"))
    for name in _SOURCES:
        source = PACKAGE / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    (folder / "node_modules").symlink_to(modules)
    for project in ("tsconfig.json", "tsconfig.test.json"):
        compiler = ["node", "node_modules/typescript/bin/tsc", "-p", project]
        done = subprocess.run(compiler, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder
