"""`make release`: wheels, source archives and SBOM of both Python packages, checked.

Writes to `dist/` and uploads nothing. Two builds of one commit must give the same bytes; what these
hold is listed in `tests/acceptance/test_release.py`. Ends with 1 where a check fails.
"""

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (ROOT, ROOT / "readers/python")
CONSTRAINTS = ROOT / "constraints.txt"


class ReleaseError(Exception):
    """What is wrong with the release; the message says it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "dist")
    parser.add_argument("--any-tree", action="store_true", help="also uncommitted changes, no tag")
    arguments = parser.parse_args()
    try:
        if not arguments.any_tree:
            _must_be_a_release()
        made = release(arguments.into)
    except ReleaseError as problem:
        print(f"release: {problem}", file=sys.stderr)
        return 1
    for file in made:
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}")
    return 0


def release(into: Path) -> list[Path]:
    """Build into a folder, twice, and check; give the files. Raises ReleaseError."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    work = ROOT / "build" / "release"
    tools = _environment(work / "tools", f"{ROOT}[release]", only_extra=True)
    for package in PACKAGES:
        build(tools, package, into)
        build(tools, package, work / "again")
    files = sorted(into.iterdir())
    for file in files:
        if file.read_bytes() != (work / "again" / file.name).read_bytes():
            raise ReleaseError(f"{file.name}: two builds of one commit differ")
    call(tools, "-m", "twine", "check", "--strict", *map(str, files))
    wheels = [file for file in files if file.suffix == ".whl"]
    installed = _environment(work / "installed", *map(str, wheels))
    call(installed, "-m", "pip", "check")
    call(installed, "-m", "projector", "--version")
    _bill_of_materials(tools, installed, into, wheels[0])
    files = sorted(into.iterdir())
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (into / "SHA256SUMS").write_text("".join(sums))
    return sorted(into.iterdir())


def build(python: Path, package: Path, into: Path) -> None:
    """Make the source archive, and the wheel from it, with the pinned tools of this environment."""
    shutil.rmtree(package / "build" / "lib", ignore_errors=True)
    options = ["--no-isolation", "--outdir", str(into), str(package)]
    call(python, "-m", "build", *options, SOURCE_DATE_EPOCH=str(_commit_time()))
    for archive in into.glob("*.tar.gz"):
        _settle(archive)


def _settle(archive: Path) -> None:
    """Take times, owners and order of this machine out of a source archive: setuptools has them."""
    packed = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=packed, mode="w") as new:
        for entry in sorted(old.getmembers(), key=lambda entry: entry.name):
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = (
                _commit_time(),
                0,
                0,
                "",
                "",
            )
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            entry.pax_headers = {}
            new.addfile(entry, old.extractfile(entry) if entry.isfile() else None)
    with archive.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
        zipped.write(packed.getvalue())


def call(python: Path, *words: str, **variables: str) -> str:
    """Run a module in an environment, away from the clone. Raises ReleaseError with its output."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PROJECTOR_", "PYTHON"))}
    done = subprocess.run(
        [str(python), *words], cwd="/", env={**inherited, **variables},
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ReleaseError(f"{' '.join(words[:3])} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def _environment(folder: Path, *wanted: str, only_extra: bool = False) -> Path:
    """A new virtual environment with exact versions; give its Python."""
    venv.create(folder, clear=True, with_pip=True)
    python = folder / "bin" / "python"
    if only_extra:  # what builds must not depend on what is built
        wanted = tuple(_extra("release"))
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call(python, *pip, "--constraint", str(CONSTRAINTS), *wanted)
    return python


def _extra(name: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted: list[str] = project["optional-dependencies"][name]
    return wanted


def _bill_of_materials(tools: Path, installed: Path, into: Path, wheel: Path) -> None:
    """CycloneDX of all that an installation of the wheel brings, in the pinned versions."""
    file = into / f"{wheel.name.removesuffix('.whl').split('-py3')[0]}.cdx.json"
    options = ["--output-reproducible", "--of", "JSON", "--output-file", str(file)]
    pyproject = ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application"]
    call(tools, "-m", "cyclonedx_py", "environment", *options, *pyproject, str(installed))


def _must_be_a_release() -> None:
    if _git("status", "--porcelain"):
        raise ReleaseError("there are uncommitted changes; --any-tree builds all the same")
    tags = [tag for tag in _git("tag", "--points-at", "HEAD").split() if tag.startswith("v")]
    if len(tags) != 1:
        raise ReleaseError("this commit has no tag v1.2.3; --any-tree builds all the same")
    if f"\n## {tags[0][1:]}\n" not in (ROOT / "CHANGELOG.md").read_text("utf-8"):
        raise ReleaseError(f"CHANGELOG.md has no section {tags[0][1:]}")


def _commit_time() -> int:
    return int(_git("log", "-1", "--format=%ct") or 1_700_000_000)


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def names_in(wheel: Path) -> list[str]:
    """What a wheel holds."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


if __name__ == "__main__":
    sys.exit(main())
