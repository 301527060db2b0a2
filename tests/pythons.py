"""The unit tests elsewhere: on other CPythons (`make test-pythons`), on the oldest dependencies.

Each environment is new and lies in `build/`. An interpreter is looked for on the PATH, then among
pyenv's; one that is not there is named, and is no failure: nothing here can fetch one.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "pythons"
UV = "uv>=0.9"  # pip cannot resolve to the oldest versions


def supported() -> list[str]:
    """The versions that pyproject.toml claims: `3.11` and so on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    return list(found)


def interpreter(version: str) -> Path | None:
    """A CPython of this version on this machine, with venv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    named = [Path(found)] if (found := shutil.which(f"python{version}")) else []
    for file in [*named, *sorted(pyenv.glob(f"{version}.*/bin/python"))]:
        check = f"import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != {_pair(version)})"
        if subprocess.run([file, "-c", check], capture_output=True, check=False).returncode == 0:
            return file
    return None


def on_other_pythons() -> int:
    """Run the unit tests on each; give the status."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    failed = []
    for version in supported():
        if version == here:
            continue
        found = interpreter(version)
        if found is None:
            print(f"pythons: there is no CPython {version} here; NOT TESTED", flush=True)
            continue
        print(f"pythons: CPython {version}, {found}", flush=True)
        folder = BUILD / version
        shutil.rmtree(folder, ignore_errors=True)
        _must(found, "-m", "venv", folder)
        pip = (folder / "bin/python", "-m", "pip", "install", "--quiet")
        constraints = ("--constraint", ROOT / "constraints.txt")
        _must(*pip, *constraints, "--editable", f"{ROOT}[test,examples]", "--editable", _READER)
        failed += [version] if _unit_tests(folder) else []
    if failed:
        print(f"pythons: failed on {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def on_lowest() -> int:
    """Run the unit tests on the lower bounds; give the status."""
    folder, tool = BUILD / "lowest", BUILD / "uv"
    venv.create(tool, clear=True, with_pip=True)
    _must(tool / "bin/python", "-m", "pip", "install", "--quiet", UV)
    venv.create(folder, clear=True, with_pip=True)
    install = (tool / "bin/uv", "pip", "install", "--quiet", "--python", folder / "bin/python")
    lowest = ("--resolution", "lowest-direct")
    _must(*install, *lowest, "--editable", f"{ROOT}[test,examples]", "--editable", _READER)
    return _unit_tests(folder)


_READER = ROOT / "readers" / "python"


def _unit_tests(folder: Path) -> int:
    command = [folder / "bin/python", "-m", "pytest", "tests/unit", "tests/readers"]
    command += ["-m", "not server", "-q", "-p", "no:cacheprovider", "-n", "2"]
    command += ["--dist", "worksteal"]
    command += ["-W", "default::DeprecationWarning"]  # old ones may say what new ones did away with
    environment = {**os.environ, "MODEL_EXAMPLES": "50"}  # as in `make check`
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _must(*command: object) -> None:
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True)


def _pair(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.pythons", description=__doc__)
    parser.add_argument("--lowest", action="store_true")
    sys.exit(on_lowest() if parser.parse_args().lowest else on_other_pythons())
