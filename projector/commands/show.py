"""How the command line shows things to people: tables, progress bars, differences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
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

from projector.checks import Check
from projector.commands.remote import Inquiry
from projector.record import printable, read_number, read_object
from projector.verify import KINDS, Report, Sides

_ID_CHARACTERS = 200
_ALIKE = 8  # findings of one kind that are shown one by one
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
            done, total = (int(read_number(state.get(name))) for name in ("done", "total"))
            took = read_number(state.get("updated_at")) - read_number(state.get("started_at"))
            rate = f"{done / took:,.0f}/s" if took > 0 else ""
            bar.update(task, completed=done, total=max(total, done) or None, rate=rate)


@contextmanager
def counting(console: Console, sides: Sides) -> Iterator[Callable[[int], None]]:
    """Return what to call with the number of documents compared."""
    with _bar(console) as bar:
        task = bar.add_task("verify", total=sides.fetcher().count(), rate="")
        yield lambda done: bar.update(task, completed=done)


def verification(report: Report) -> dict[str, Any]:
    """Return a report for machines."""
    counts = {kind: getattr(report, kind) for kind in KINDS}
    return {
        "checked": report.checked,
        **counts,
        "quarantined": report.quarantined,
        "repaired": report.repaired,
        "left": report.left,
        "sample": report.sample,
    }


def show_verification(console: Console, report: Report) -> None:
    """Show a report to people."""
    counts = ", ".join(f"{getattr(report, kind)} {kind}" for kind in KINDS)
    console.print(f"{report.checked} documents compared: {counts}; {report.repaired} repaired")
    if report.quarantined:
        console.print(
            f"{report.quarantined} rows have no document: `projector status` lists ids and reasons"
        )
    for found in report.sample:
        fields = ", ".join(found["fields"])
        line = f"  {found['kind']} {_shortened(found['id'])}: {fields}"
        console.print(line, markup=False, soft_wrap=True)


def _shortened(document_id: str) -> str:
    """A stranger's field may have any length."""
    text = printable(document_id)
    return text if len(text) <= _ID_CHARACTERS else f"{text[:_ID_CHARACTERS]}…"


def show_status(console: Console, status: Mapping[str, Any]) -> None:
    """Show where things stand."""
    for name, value in status.items():
        lines = [_said(name, value)]
        if isinstance(value, dict) and value:
            lines = [f"{printable(inner)} {_said(inner, of)}" for inner, of in value.items()]
        for number, line in enumerate(lines):
            label = name if number == 0 else ""
            console.print(
                f"[bold]{label:<17}[/bold]{escape(line)}", soft_wrap=True, highlight=False
            )


def _said(name: str, value: Any) -> str:
    """Write a value on one line: never cut, for it may be copied; times as people read them."""
    if value in (None, "", [], {}):
        return "-"
    if name.endswith("_at"):
        return datetime.fromtimestamp(read_number(value), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return printable(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def parsed(document: bytes | None) -> Any:
    """Return a document's fields; its text where it is damaged."""
    if document is None:
        return None
    text = document.decode(errors="backslashreplace")
    try:
        return read_object(text)
    except ValueError:
        return text


def show_document(console: Console, report: Mapping[str, Any]) -> None:
    """Show both sides of a document and what differs."""
    for side in ("stored", "database"):
        console.print(f"[bold]{side}[/bold]")
        text = json.dumps(report[side], indent=2, ensure_ascii=False)
        console.print(
            printable(text), markup=False, soft_wrap=True
        )  # a break would damage a string
    if report["refused"]:
        console.print(f"the database's row has no document: {report['refused']}", markup=False)
    elif report["stored"] is None and report["database"] is None:
        console.print(f"neither Redis nor the database has {report['id']}", markup=False)
    if isinstance(report["stored"], str):
        console.print("the stored document is damaged: it is no JSON object", markup=False)
    differing = ", ".join(report["differing"])
    console.print(f"differing: {differing}" if differing else "the same", markup=False)


def show_checks(console: Console, checks: Sequence[Check]) -> None:
    """Show one line a check, with the fix; of many alike the first ones, and a sum at the end."""
    shown: Counter[tuple[str, str]] = Counter()
    for check in checks:
        shown[check.name, str(check.status)] += 1
        if shown[check.name, str(check.status)] > _ALIKE:
            continue
        colour = _COLOUR.get(str(check.status), "white")
        line = (
            f"[{colour}]{check.status:<8}[/{colour}] {escape(check.name)}: {escape(check.detail)}"
        )
        fix = f"\n         [bold]fix:[/bold] {escape(check.fix)}" if check.fix else ""
        console.print(line + fix, soft_wrap=True, highlight=False)
    for (name, status), count in shown.items():
        if count > _ALIKE:
            more = f"{status:<8} {name}: {count - _ALIKE} more like these (--json shows all)"
            console.print(more, soft_wrap=True, highlight=False)
    sums = Counter(str(check.status) for check in checks)
    total = ", ".join(f"{count} {status}" for status, count in sums.items())
    console.print(f"{len(checks)} checks: {total}", highlight=False)
