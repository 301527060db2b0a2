"""What is released, as a stranger meets it: files, versions, and the first ten minutes with it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_servers import missing
from tests.servers import (
    DatabaseServer,
    Flavour,
    RedisServer,
    ServerUnavailable,
    start_database,
    start_redis,
)

ROOT = Path(__file__).parents[2]
_BACKEND = "import sys, setuptools.build_meta as b; getattr(b, 'build_' + sys.argv[1])(sys.argv[2])"
_EPOCH = "1700000000"


def _tracked(*folders: str) -> set[str]:
    """Files that git knows."""
    listed = _must(["git", "ls-files", "-z", "--cached", *folders], ROOT)
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


def _build(kind: str, tree: Path, into: Path) -> Path:
    into.mkdir()
    _must([sys.executable, "-c", _BACKEND, kind, str(into)], tree, SOURCE_DATE_EPOCH=_EPOCH)
    (file,) = into.iterdir()
    return file


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive of this tree, and the wheel that comes out of it."""
    folder = tmp_path_factory.mktemp("built")
    archive = _build("sdist", _copy(folder / "tree"), folder / "sdist")
    with tarfile.open(archive) as opened:
        opened.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return archive, _build("wheel", unpacked, folder / "wheel")


def test_the_wheel_holds_the_projector_alone(built: tuple[Path, Path]) -> None:
    """Every tracked file of the package but C sources, the licence, and no other package."""
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith(".so")}
    ours = {name for name in names if name.startswith("projector/")}
    assert ours == {n for n in _tracked("projector") if not n.endswith((".c", ".h"))}
    others = {name.partition("/")[0] for name in names - ours}
    assert len(others) == 1
    assert others.pop().endswith(".dist-info")
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_archive_holds_all_that_git_knows(built: tuple[Path, Path]) -> None:
    """Also the helpdesk, the tests and what deploys; and nothing that lies about."""
    with tarfile.open(built[0]) as archive:
        files = {entry.name.partition("/")[2] for entry in archive if entry.isfile()}
    made = {name for name in files if name.startswith("binlog_projector.egg-info/")}
    assert files - made - {"PKG-INFO", "setup.cfg"} == _tracked()


def test_two_builds_are_the_same_bytes(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Who builds the wheel of a source archive gets ours."""
    with tarfile.open(built[0]) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = _build("wheel", unpacked, tmp_path / "again")
    assert (again.name, again.read_bytes()) == (built[1].name, built[1].read_bytes())


def test_the_version_is_the_tags_and_never_nonsense(tmp_path: Path) -> None:
    """On a tag, beyond one, without any, in an archive with and without one, and without git."""
    tree = _copy(tmp_path / "clone")
    newest = _newest_release()
    assert _version(tree).startswith(_next(newest) + ".dev")  # no tags
    _must(["git", "tag", "unrelated-9"], tree)
    _must(["git", "tag", "v7.8.9"], tree)
    assert _version(tree) == "7.8.9"
    archive = _archived(tree, tmp_path / "tagged")
    assert _version(archive) == "7.8.9"
    _must([*_GIT, "commit", "-q", "--allow-empty", "-m", "beyond"], tree)
    assert _version(tree).startswith("7.8.10.dev1+g")
    assert _version(_archived(tree, tmp_path / "beyond")).startswith("7.8.10.dev1+g")
    _must(["git", "tag", "--delete", "v7.8.9"], tree)
    assert _version(_archived(tree, tmp_path / "tagless")) == newest


def test_every_place_that_names_a_version_names_the_newest_release() -> None:
    """CHANGELOG, the fallback for trees without tags, and the manifests."""
    import tomllib

    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    newest = _newest_release()
    assert project["tool"]["setuptools_scm"]["fallback_version"] == newest
    base = yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text("utf-8"))
    assert base["images"][0]["newTag"] == newest


# The first ten minutes


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[DatabaseServer, RedisServer]]:
    """Private servers with somebody's shop."""
    try:
        mysql, redis = start_database(Flavour.MYSQL), start_redis()
    except ServerUnavailable as problem:
        missing(problem)
    with mysql, redis:
        mysql.create_database("shop")
        mysql.load_sql(
            "CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(80));"
            "CREATE TABLE orders (id INT PRIMARY KEY, customer_id INT, total DECIMAL(8, 2),"
            " FOREIGN KEY (customer_id) REFERENCES customers (id));"
            "INSERT INTO customers VALUES (1, 'Ann');"
            "INSERT INTO orders VALUES (7, 1, 12.50), (8, 1, 3)",
            "shop",
        )
        yield mysql, redis


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_stranger_gets_from_the_wheel_to_live_documents(
    built: tuple[Path, Path], servers: tuple[DatabaseServer, RedisServer], tmp_path: Path
) -> None:
    """In an empty folder, beside an app that uses PyPI's `schema`, which outlives the projector."""
    mysql, redis = servers
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    program = place / "bin" / "projector"
    pip = [str(place / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    _must([*pip, "install", "--quiet", "schema==0.7.8"], tmp_path)
    _must([*pip, "install", "--quiet", *constraints, str(built[1])], tmp_path)
    _must([*pip, "check"], tmp_path)
    app = [str(place / "bin/python"), "-c", "import schema; print(schema.Schema(int).validate(4))"]
    assert _must(app, tmp_path) == "4\n"

    environment = {
        "PROJECTOR_MYSQL__URL": mysql.url("shop"),
        "PROJECTOR_REDIS__URL": redis.url(),
        "PROJECTOR_HTTP__PORT": "0",
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
    }
    for command in ("check", "run", "schema"):
        refused = _run([str(program), command], tmp_path, **environment)
        assert refused.returncode == 2
        assert len(refused.stderr.strip().splitlines()) == 1
        assert "PROJECTOR_PROJECTION is not set. `projector scaffold TABLE > shop.py`" in (
            refused.stderr
        )
    lines = [line for line in _tutorial() if line.startswith(("projector", "export PROJECTOR_P"))]
    assert [line.split()[1] for line in lines if line.startswith("projector")] == [
        "scaffold", "check", "explain", "run", "status", "verify",
    ]  # fmt: skip
    said = _must(["bash", "-euxc", "\n".join(lines)], tmp_path, **environment)
    assert re.search(r"\n\d+ checks: \d+ ok", said)
    assert "\n2 documents written, 0 removed\norders: 2 documents, whole up to " in said
    assert "no_daemon: No daemon follows orders" in said
    environment["PROJECTOR_PROJECTION"] = "shop.py:documents"
    for wrong in (["scaffold", "nothing"], ["explain", "--table", "nothing", "--key", "1"]):
        assert _run([str(program), *wrong], tmp_path, **environment).returncode == 2
    status = json.loads(_must([str(program), "status", "--json"], tmp_path, **environment))
    assert (status["verdict"], status["documents"]) == ("no_daemon", 2)
    client = redis.client()
    assert client.hlen("orders") == 2
    assert b'"name":"Ann"' in client.hget("orders", "7").replace(b"customer_name", b"name")
    _must([*pip, "uninstall", "--quiet", "--yes", "binlog-projector"], tmp_path)
    assert _must(app, tmp_path) == "4\n"


def _tutorial() -> list[str]:
    """What the tutorial tells to type."""
    text = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]


_GIT = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]


def _copy(folder: Path) -> Path:
    """A clone without tags of what is committed, with what is not beside it."""
    _must(["git", "clone", "--quiet", "--no-tags", str(ROOT), str(folder)], ROOT)
    known = _tracked()
    for name in _must(["git", "ls-files", "-z"], folder).split("\0"):
        if name and name not in known:
            (folder / name).unlink()
    for name in known:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    _must(["git", "add", "--all"], folder)
    _must([*_GIT, "commit", "--quiet", "--allow-empty", "-m", "as it is"], folder)
    return folder


def _archived(tree: Path, into: Path) -> Path:
    into.mkdir()
    _must(["sh", "-c", f"git archive HEAD | tar -x -C {into}"], tree)
    return into


def _version(tree: Path) -> str:
    return _must([sys.executable, "-m", "setuptools_scm"], tree).strip()


def _newest_release() -> str:
    lines = (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
    return next(
        line[3:] for line in lines if line.startswith("## ") and line != "## Unreleased"
    ).split()[0]


def _next(version: str) -> str:
    first, _, last = version.rpartition(".")
    return f"{first}.{int(last) + 1}"


def _run(command: list[str], folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PROJECTOR_")}
    return subprocess.run(
        command, cwd=folder, env={**environment, **variables}, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def _must(command: list[str], folder: Path, **variables: str) -> str:
    done = _run(command, folder, **variables)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
