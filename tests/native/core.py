"""The compiled core, built from the sources as they are now, plain or under sanitizers."""

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
              "-fno-omit-frame-pointer")  # fmt: skip
_STRICT = ("-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers",
           "-Wno-cast-function-type")  # fmt: skip


def has_compiler() -> bool:
    """Whether there is a C compiler, and what it needs of Python."""
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return _compiler() is not None and headers.exists()


def _compiler() -> str | None:
    words = shlex.split(sysconfig.get_config_var("CC") or "cc")
    return shutil.which(words[0]) or shutil.which("cc") or shutil.which("gcc")


def sources() -> list[Path]:
    """The sources, as pyproject.toml names them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    [module] = project["tool"]["setuptools"]["ext-modules"]
    return [ROOT / name for name in module["sources"]]


def built(*more: str) -> Path:
    """Compile, unless these very sources have been compiled so before."""
    files = sources()
    said = [path.read_bytes() for path in [*files, files[0].parent / "native.h"]]
    name = hashlib.sha256(b"\0".join([*said, *map(str.encode, more)])).hexdigest()[:16]
    target = ROOT / "build" / "native" / name / "_native.abi3.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        making = target.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [str(_compiler()), "-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden",
             *_STRICT, *more, f"-I{sysconfig.get_paths()['include']}", *map(str, files),
             "-o", str(making)],
            check=True,
        )  # fmt: skip
        making.rename(target)
    return target


def loaded(path: Path) -> Any:
    """Import a build."""
    spec = importlib.util.spec_from_file_location("projector._native", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def current() -> Any:
    """Build and import once a process."""
    return loaded(built())


def sanitized_environment() -> dict[str, str]:
    """Return what a Python needs in its environment to load a build under sanitizers."""
    said = subprocess.run(
        [str(_compiler()), "-print-file-name=libasan.so"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return {
        "LD_PRELOAD": said.stdout.strip(),
        "PYTHONMALLOC": "malloc",  # so that a read beyond an object is seen
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    }


if __name__ == "__main__":
    sys.stdout.write(f"{built(*SANITIZERS)}\n")
