"""Which program runs a kind of server: Docker's, the machine's own, or one from the packages.

The answer is found once per process. Failure is one message that says what to install.
"""

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers import docker, packages
from tests.servers.flavours import (
    RECIPES,
    Flavour,
    PostgresFlavour,
    Recipe,
    RedisKind,
    ServerKind,
    ServerUnavailable,
)


@dataclass(frozen=True, slots=True)
class Program:
    """A program on this machine: its command, and the folder that holds its `share` and `lib`."""

    command: tuple[str, ...]
    prefix: Path

    @property
    def file(self) -> Path:
        return Path(self.command[-1])


@dataclass(frozen=True, slots=True)
class Image:
    """A server program in a Docker image that is present."""

    name: str


def find(kind: ServerKind) -> Program | Image:
    """The program for this kind of server, fetched if need be. Raises ServerUnavailable."""
    found = _present(kind)
    if found is not None:
        return found
    try:
        root = packages.unpack(kind)
        return Program(packages.command(root, RECIPES[kind]), root / "usr")
    except ServerUnavailable as problem:
        raise ServerUnavailable(_remedy(RECIPES[kind], str(problem))) from None


def available(kind: ServerKind) -> bool:
    """Whether this kind of server can be had without fetching anything."""
    return _address(kind) is not None or _present(kind) is not None


def ensure(*kinds: ServerKind) -> None:
    """Fetch whatever these kinds (default: all) still lack. Raises ServerUnavailable."""
    for kind in kinds or (*Flavour, *RedisKind, *PostgresFlavour):
        if _address(kind) is None:
            find(kind)


def _address(kind: ServerKind) -> str | None:
    variable = RECIPES[kind].environment
    return os.environ.get(variable) or None if variable else None


@functools.cache
def _on_machine(kind: ServerKind) -> Program | None:
    recipe = RECIPES[kind]
    folders = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/usr/libexec"]
    if isinstance(kind, PostgresFlavour):
        # Debian's, which are not on the path: one folder a version.
        folders += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
    path = os.pathsep.join(folders)
    for name in recipe.names:
        file = shutil.which(name, path=path)
        if file is None:
            continue
        said = subprocess.run(
            [file, "--version"], capture_output=True, text=True, check=False
        ).stdout
        if re.search(recipe.version, said):
            real = Path(file).resolve()
            own = real if isinstance(kind, PostgresFlavour) else file  # initdb is beside it
            return Program((str(own),), real.parent.parent)
    return None


def _present(kind: ServerKind) -> Program | Image | None:
    recipe = RECIPES[kind]
    if docker.pull(recipe.image):
        return Image(recipe.image)
    local = _on_machine(kind)
    if local is not None:
        return local
    root = packages.unpacked(kind)
    return Program(packages.command(root, recipe), root / "usr") if root else None


def _remedy(recipe: Recipe, reason: str) -> str:
    address = f", or set {recipe.environment}" if recipe.environment else ""
    ways = f"Install {recipe.names[0]}, or start Docker ({recipe.image}){address}."
    return f"no {recipe.title} server: {reason.rstrip('.')}. {ways}"
