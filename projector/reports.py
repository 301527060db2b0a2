"""How the command line shows things to people: tables, progress bars, differences."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from projector.inquiry import Inquiry
from projector.preflight import Check
from projector.verify import KINDS, Report, Sides

_COLOUR = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def show_progress(console: Console, inquiry: Inquiry) -> None:
    """Follow a resync to its end."""
    with _bar(console) as bar:
        task = bar.add_task("resync", total=None, rate="")
        for state in inquiry.progress():
            done, total = int(state.get("done") or 0), int(state.get("total") or 0)
            took = float(state.get("updated_at") or 0) - float(state.get("started_at") or 0)
            rate = f"{done / took:,.0f}/s" if took > 0 else ""
            bar.update(task, completed=done, total=max(total, done) or None, rate=rate)


@contextmanager
def counting(console: Console, sides: Sides) -> Iterator[Callable[[int], None]]:
    """Give what to call with the number of documents compared."""
    with _bar(console) as bar:
        task = bar.add_task("verify", total=sides.fetcher().count(), rate="")
        yield lambda done: bar.update(task, completed=done)


def verification(report: Report) -> dict[str, Any]:
    """Give a report for machines."""
    counts = {kind: getattr(report, kind) for kind in KINDS}
    return {
        "checked": report.checked,
        **counts,
        "repaired": report.repaired,
        "left": report.left,
        "sample": report.sample,
    }


def show_verification(console: Console, report: Report) -> None:
    """Show a report to people."""
    counts = ", ".join(f"{getattr(report, kind)} {kind}" for kind in KINDS)
    console.print(f"{report.checked} documents compared: {counts}; {report.repaired} repaired")
    for found in report.sample:
        fields = ", ".join(found["fields"])
        console.print(f"  {found['kind']} {found['id']}: {fields}", markup=False)


def show_status(console: Console, status: Mapping[str, Any]) -> None:
    """Show where things stand."""
    table = Table(show_header=False, box=None)
    for name, value in status.items():
        plain = json.dumps(value) if isinstance(value, dict | list) else str(value)
        text = "-" if value in (None, [], {}) else plain
        table.add_row(f"[bold]{name}[/bold]", escape(text))
    console.print(table)


def show_document(console: Console, report: Mapping[str, Any]) -> None:
    """Show both sides of a document and what differs."""
    for side in ("stored", "database"):
        console.print(f"[bold]{side}[/bold]")
        console.print(json.dumps(report[side], indent=2, ensure_ascii=False), markup=False)
    if report["refused"]:
        console.print(f"the database's row has no document: {report['refused']}", markup=False)
    differing = ", ".join(report["differing"])
    console.print(f"differing: {differing}" if differing else "the same", markup=False)


def show_checks(console: Console, checks: Sequence[Check]) -> None:
    """Show one line a check, with the fix."""
    for check in checks:
        colour = _COLOUR.get(str(check.status), "white")
        line = (
            f"[{colour}]{check.status:<8}[/{colour}] {escape(check.name)}: {escape(check.detail)}"
        )
        fix = f"\n         [bold]fix:[/bold] {escape(check.fix)}" if check.fix else ""
        console.print(line + fix, soft_wrap=True, highlight=False)
