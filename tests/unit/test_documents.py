"""What the documents name exists, and what exists is named: commands, settings, metrics."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import BaseModel
from typer.testing import CliRunner

from projector import metrics  # noqa: F401 (registers the metrics)
from projector.cli import app
from projector.debt import GREW
from projector.service.outages import KINDS
from projector.settings import Settings

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")
RUNBOOK = (ROOT / "docs/runbook.md").read_text("utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in sorted(
        [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("readers/*/*.md")]
    )
}


def _settings(model: type[BaseModel], prefix: str) -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names |= _settings(kind, f"{prefix}{name.upper()}__")
        else:
            names.add(f"{prefix}{name.upper()}")
    return names


SETTINGS = _settings(Settings, "PROJECTOR_") | {"PROJECTOR_CONFIG", "PROJECTOR_SECRETS_DIR"}
COMMANDS = {
    info.name or info.callback.__name__ for info in app.registered_commands if info.callback
} | {str(group.name) for group in app.registered_groups}


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_every_setting_named_exists(text: str) -> None:
    """A setting in a document is one that the program reads."""
    named = set(re.findall(r"\bPROJECTOR_[A-Z0-9_]*[A-Z0-9]\b", text))
    known = SETTINGS | {"PROJECTOR_MYSQL__TLS", "PROJECTOR_SERVERS_DIR"}
    assert {name for name in named if not name.startswith("PROJECTOR_TEST_")} <= known


def test_every_setting_is_in_the_readme() -> None:
    """Nothing can be set that the README does not tell."""
    assert {name for name in SETTINGS if name not in README} == set()


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_every_command_named_exists(text: str) -> None:
    """`projector x` in a document is a command."""
    named = set(re.findall(r"`projector ([a-z]+)", text))
    assert named <= COMMANDS, named - COMMANDS


def test_every_command_is_in_the_readme() -> None:
    """The table of commands is whole."""
    assert {name for name in COMMANDS if f"`projector {name}" not in README} == set()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str) -> None:
    """--help ends with status 0 and says something."""
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_every_metric_named_exists(text: str) -> None:
    """A metric in a document is exported."""
    known = {sample for family in REGISTRY.collect() for sample in _names(family)}
    named = set(re.findall(r"\bprojector_[a-z_]+[a-z]\b", text)) - {"projector_reader"}
    assert named <= known, named - known


def test_the_runbook_explains_every_kind_of_error_and_every_recovery() -> None:
    """Labels that the daemon gives out stand in the runbook in backquotes."""
    code = "".join(path.read_text("utf-8") for path in sorted((ROOT / "projector").glob("*.py")))
    kinds = {*KINDS, *re.findall(r'\.failed\("(\w+)"', code)}
    recoveries = {GREW, *re.findall(r'(?:recoveries\.labels|_recover)\("(\w+)"', code)}
    recoveries |= set(re.findall(r'(?:reason = |\.first\(.*, )"(\w+)"', code)) - {"initial_build"}
    assert len(kinds) >= 5
    assert len(recoveries) >= 3
    assert {name for name in kinds | recoveries if f"`{name}`" not in RUNBOOK} == set()


def _names(family: Any) -> set[str]:
    kinds = {"", "_total", "_bucket", "_sum", "_count", "_seconds"}
    return {family.name + kind for kind in kinds}


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_files_named_in_the_documents_exist(text: str) -> None:
    """Paths in backquotes lead somewhere; deploy/secrets is made by deploy/make-secrets."""
    folders = "deploy|schema|projector|tests|readers|docs"
    named = re.findall(rf"`((?:{folders})/[A-Za-z0-9_./-]+)`", text)
    missing = [path for path in named if not (ROOT / path).exists()]
    assert [path for path in missing if not path.startswith("deploy/secrets")] == []


def test_the_readme_names_files() -> None:
    """The pattern above finds some."""
    assert re.findall(r"`deploy/[a-z.-]+`", README)


def _anchors(text: str) -> set[str]:
    """Headings as GitHub and the site make links of them."""
    titles = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_within_the_repository_leads_somewhere(name: str) -> None:
    """Files and headings; other links are to pages on https."""
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?ms)^```.*?^```", "", PAGES[name])):
        if "://" in target:
            assert target.startswith("https://"), target
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in _anchors(there.read_text("utf-8")), f"{name}: {target}"


def _said_commands(text: str) -> list[str]:
    """`projector …` as it stands in blocks and in backquotes."""
    blocks = re.findall(r"(?m)^(?:\$ |    )(projector(?:ctl)? [a-z].*?)(?:  +.*)?$", text)
    return blocks + re.findall(r"`(projector(?:ctl)? [a-z][^`]*)`", text)


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_every_command_and_option_in_the_documents_exists(text: str) -> None:
    """Options are those of the command's own help."""
    for said in _said_commands(text):
        words = re.split(r"\s[>#|&]|…", said)[0].split()[1:]
        command, options = words[0], [word for word in words[1:] if word.startswith("--")]
        assert command in COMMANDS, said
        helped = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        for option in options:
            assert option.partition("=")[0] in helped, said


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_every_make_target_in_the_documents_exists(text: str) -> None:
    """`make x` is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"(?m)^([a-z-]+):", makefile))
    named = set(
        re.findall(r"(?:`|^    |\$ )(?:[A-Z]+=\S+ )?make ([a-z][a-z-]*)", text, re.MULTILINE)
    )
    assert named <= targets, named - targets


def test_the_twelve_lines_of_the_readme_are_a_projection() -> None:
    """They stand in tests/examples/twelve.py, which a test loads, and are twelve."""
    [lines] = re.findall(r"```python\n(documents = .*?)```", README, re.DOTALL)
    assert lines in (ROOT / "tests/examples/twelve.py").read_text("utf-8")
    assert len(lines.splitlines()) == 12
