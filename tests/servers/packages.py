"""Programs from the distribution's packages, unpacked into a private folder.

apt resolves, downloads and verifies with its own keys, as for an installation, but keeps its state in our folder and
installs nothing. The whole dependency closure is unpacked, the C library too, so that a program of Debian's unstable
runs on an older release: its own loader starts it with its own libraries. No maintainer script ever runs.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers.cache import cache_folder, locked
from tests.servers.flavours import RECIPES, Recipe, ServerKind, ServerUnavailable

_SOURCES = Path("/etc/apt")


def unpacked(kind: ServerKind) -> Path | None:
    """The folder with this server's program, if an earlier run made it."""
    folder = cache_folder() / kind.value
    return folder if folder.is_dir() else None


def unpack(kind: ServerKind) -> Path:
    """Fetch and unpack this server's packages once, saying so; the folder.

    Raises ServerUnavailable where there is no apt, no mirror or no such package.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ServerUnavailable("not a Debian or Ubuntu machine: apt-get and dpkg-deb are missing")
    recipe = RECIPES[kind]
    with locked("packages"):
        folder = unpacked(kind)
        if folder is None:
            apt = _Apt(unstable=recipe.unstable)
            source = "Debian unstable" if recipe.unstable else "this machine's release"
            _say(
                f"fetching {recipe.title} from {source} with apt into {cache_folder()} (nothing is installed)"
            )
            folder = apt.unpack(recipe, kind.value)
    return folder


def command(root: Path, recipe: Recipe) -> tuple[str, ...]:
    """The command that runs the recipe's program out of its private folder."""
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


class _Apt:
    """apt with its state in the cache folder, reading the machine's sources or unstable off the same mirror."""

    def __init__(self, *, unstable: bool) -> None:
        self.state = cache_folder() / ("apt-unstable" if unstable else "apt-own")
        for name in ("lists/partial", "archives/partial"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        (self.state / "status").touch()
        options = {
            "Dir::State": self.state,
            "Dir::State::lists": self.state / "lists",
            "Dir::State::status": self.state / "status",
            "Dir::Cache": self.state,
            "Dir::Cache::archives": self.state / "archives",
            "APT::Sandbox::User": "root",
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        if unstable:
            options["Dir::Etc::sourcelist"] = self._unstable_source()
            options["Dir::Etc::sourceparts"] = "/dev/null"
        self._options = [
            text for key, value in options.items() for text in ("-o", f"{key}={value}")
        ]
        self._run("update")

    def unpack(self, recipe: Recipe, name: str) -> Path:
        archives = self.state / "archives"
        package = self._choose(recipe)
        self._run("--download-only", "--yes", "install", package)
        building = cache_folder() / f"{name}.new"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        for archive in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", archive, building], check=True)
        self._run("clean")
        return building.rename(cache_folder() / name)

    def _choose(self, recipe: Recipe) -> str:
        for package in recipe.packages:
            if self._try("--simulate", "install", package).returncode == 0:
                return package
        raise ServerUnavailable(f"apt knows none of the packages {', '.join(recipe.packages)}")

    def _unstable_source(self) -> Path:
        mirror, keys = debian_mirror()
        line = f"deb [{f'signed-by={keys}' if keys else ''}] {mirror} unstable main\n".replace(
            "[] ", ""
        )
        path = self.state / "sources.list"
        path.write_text(line)
        return path

    def _try(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["apt-get", "-qq", *self._options, *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        )

    def _run(self, *arguments: str) -> None:
        done = self._try(*arguments)
        if done.returncode != 0:
            raise ServerUnavailable(f"apt-get {arguments[0]} failed: {done.stderr.strip()[-500:]}")


def debian_mirror(etc: Path = _SOURCES) -> tuple[str, str | None]:
    """The Debian mirror among apt's sources below `etc`, and the keyring file that signs it, if one is named.

    Reads the one-line format and deb822 (sources.list(5)). Raises ServerUnavailable when no source is a Debian archive.
    """
    for text in _stanzas(etc):
        mirror = _field(text, "URIs")
        suites = _field(text, "Suites") or ""
        if (
            mirror
            and "debian" in mirror
            and "security" not in mirror + suites
            and "main" in (_field(text, "Components") or "")
        ):
            keys = _field(text, "Signed-By")
            return mirror.split()[0], keys if keys and keys.startswith(
                "/"
            ) and "\n" not in keys else None
    raise ServerUnavailable(
        "no Debian mirror among apt's sources, so Debian unstable cannot be reached"
    )


def _stanzas(etc: Path) -> list[str]:
    """Every enabled source, in deb822 form."""
    found: list[str] = []
    for path in sorted(etc.glob("sources.list.d/*.sources")):
        text = re.sub(r"(?m)^#.*\n?", "", path.read_text())
        found += [
            stanza
            for stanza in re.split(r"\n\s*\n", text)
            if not re.search(r"(?mi)^Enabled:\s*no", stanza)
        ]
    for path in [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list"))]:
        for line in path.read_text().splitlines() if path.is_file() else []:
            parts = re.match(r"\s*deb\s+(?:\[(.*?)\]\s*)?(\S+)\s+(\S+)\s+(.*)", line)
            if parts:
                signed = re.search(r"signed-by=(\S+)", parts[1] or "")
                keys = f"\nSigned-By: {signed[1]}" if signed else ""
                found.append(f"URIs: {parts[2]}\nSuites: {parts[3]}\nComponents: {parts[4]}{keys}")
    return found


def _field(stanza: str, name: str) -> str | None:
    found = re.search(rf"(?mi)^{name}:[ \t]*(.*(?:\n[ \t]+.*)*)", stanza)
    return found[1].strip() if found else None


def _say(message: str) -> None:
    print(f"servers: {message}", file=sys.stderr, flush=True)
