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
from projector.settings import Settings

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")
RUNBOOK = (ROOT / "deploy/RUNBOOK.md").read_text("utf-8")


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
}


@pytest.mark.parametrize("text", [README, RUNBOOK], ids=["README", "RUNBOOK"])
def test_every_setting_named_exists(text: str) -> None:
    """A setting in a document is one that the program reads."""
    named = set(re.findall(r"\bPROJECTOR_[A-Z0-9_]*[A-Z0-9]\b", text))
    known = SETTINGS | {"PROJECTOR_MYSQL__TLS"}
    assert {name for name in named if not name.startswith("PROJECTOR_TEST_")} <= known


def test_every_setting_is_in_the_readme() -> None:
    """Nothing can be set that the README does not tell."""
    assert {name for name in SETTINGS if name not in README} == set()


@pytest.mark.parametrize("text", [README, RUNBOOK], ids=["README", "RUNBOOK"])
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


@pytest.mark.parametrize("text", [README, RUNBOOK], ids=["README", "RUNBOOK"])
def test_every_metric_named_exists(text: str) -> None:
    """A metric in a document is exported."""
    known = {sample for family in REGISTRY.collect() for sample in _names(family)}
    named = set(re.findall(r"\bprojector_[a-z_]+[a-z]\b", text))
    assert named <= known, named - known


def test_the_runbook_explains_every_kind_of_error_and_every_recovery() -> None:
    """Labels that the daemon gives out stand in the runbook in backquotes."""
    code = "".join(path.read_text("utf-8") for path in sorted((ROOT / "projector").glob("*.py")))
    kinds = set(re.findall(r'\.failed\("(\w+)"', code))
    recoveries = {GREW, *re.findall(r'(?:recoveries\.labels|_recover)\("(\w+)"', code)}
    recoveries |= set(re.findall(r'(?:reason = |\.first\(.*, )"(\w+)"', code)) - {"initial_build"}
    assert len(kinds) >= 3
    assert len(recoveries) >= 3
    assert {name for name in kinds | recoveries if f"`{name}`" not in RUNBOOK} == set()


def _names(family: Any) -> set[str]:
    kinds = {"", "_total", "_bucket", "_sum", "_count", "_seconds"}
    return {family.name + kind for kind in kinds}


def test_files_named_in_the_readme_exist() -> None:
    """Paths in backquotes lead somewhere."""
    named = re.findall(r"`((?:deploy|schema|projector|tests)/[A-Za-z0-9_./-]+)`", README)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
