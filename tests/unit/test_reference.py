"""docs/reference is what the code says: generated pages, and the fields of --json."""

import re
from dataclasses import fields
from typing import Any

import pytest
from typer.testing import CliRunner

from projector.checks import Check
from projector.cli import app
from projector.commands.configured import Setting
from projector.commands.remote import RemoteProjection, progress
from projector.commands.show import verification
from projector.commands.verdict import WELL
from projector.mysql.dialect import MYSQL
from projector.mysql.position import Position
from projector.settings import Settings
from projector.verify import Report
from tests.docs_pages import FOLDER, PAGES

JSON = (FOLDER / "json.md").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(PAGES))
def test_generated_pages_are_fresh(name: str) -> None:
    """`python -m tests.docs_pages` would change nothing."""
    assert (FOLDER / name).read_text("utf-8") == PAGES[name]()


class _Store:
    """What `status` asks of a store; nothing else of the sink is touched."""

    def checkpoint_fields(self) -> dict[str, str]:
        return {"position": "f:1", "updated_at": "1764078000", "epoch": "3", "committed_at": "1e9"}

    def quarantined(self) -> dict[str, str]:
        return {"7": "total: no number"}

    def holder(self) -> str | None:
        return "host:1"

    def report(self) -> dict[str, Any]:
        return {"lag_s": 0.5, "last_error": "x", "last_error_at": 1764078000.0}

    def resync_state(self) -> dict[str, str]:
        return {"state": "done", "done": "5", "started_at": "1764078000.0"}

    def debts(self) -> dict[str, str]:
        return {}

    def count(self) -> int:
        return 5

    def views(self) -> dict[str, Any]:
        return {}


def _fields(section: str) -> list[str]:
    """The names in backquotes in the first column of a section's table, or in its sentence."""
    text = JSON.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = re.findall(r"(?m)^\| (`.*?`) \|", text)
    return re.findall(r"`(\w+)`", " ".join(rows) if rows else text)


def _status() -> dict[str, Any]:
    from projector.projection import load_projections

    settings = Settings(mysql={"url": "mysql://u@h/d"}, _env_file=None)
    [plan] = load_projections("tests.examples.twelve:documents", MYSQL)
    return RemoteProjection(settings, plan, _Store(), None, Position.parse).status(1764078060.0)  # type: ignore[arg-type]


def test_the_fields_of_status_are_those_of_the_page() -> None:
    """In the same order; numbers are numbers, times RFC 3339."""
    found = _status()
    assert list(found) == _fields("`projector status --json`")
    assert found["committed_at"] == "2001-09-09T01:46:40.000Z"
    assert (found["lag_s"], found["epoch"], found["checkpoint_age_s"]) == (0.5, 3, 60.0)
    for name in progress({"state": "done"}) or {}:
        assert f"`{name}`" in JSON
    for word in WELL | {found["verdict"], "not_built"}:
        assert f"`{word}`" in JSON


def test_the_fields_of_the_other_reports_are_those_of_the_page() -> None:
    """verify, check, document, settings, explain."""
    assert list(verification("orders", Report())) == _fields("`projector verify --json`")
    named = set(_fields("`projector check --json`"))
    assert {field.name for field in fields(Check)} <= named
    report = Setting(("x",), "", None, None, "", False, False).report()
    assert list(report) == _fields("`projector settings --json`")
    code = app.registered_commands
    assert {"document", "explain"} <= {c.name or getattr(c.callback, "__name__", "") for c in code}


def test_every_json_report_has_a_section() -> None:
    """A command with --json is told of."""
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        if "--json" in CliRunner().invoke(app, [name, "--help"]).output:
            assert f"## `projector {name}" in JSON, name
