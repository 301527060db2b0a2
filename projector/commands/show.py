"""How the command line shows things to people: tables, progress bars, differences."""

from __future__ import annotations

import json
import time
from collections import Counter
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

from projector.checks import Check
from projector.commands.remote import RemoteProjection
from projector.commands.verdict import WELL
from projector.metrics import documents_removed, documents_written
from projector.record import printable, read_number, read_object
from projector.verify import KINDS, Comparison, Report

_ID_CHARACTERS = 200
_ALIKE = 8  # findings of one kind that are shown one by one
_COLOUR = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def show_progress(console: Console, remote: RemoteProjection) -> None:
    """Follow a resync to its end."""
    with _bar(console) as bar:
        task = bar.add_task("resync", total=None, rate="")
        for state in remote.progress():
            done, total = (int(read_number(state.get(name))) for name in ("done", "total"))
            took = read_number(state.get("updated_at")) - read_number(state.get("started_at"))
            rate = f"{done / took:,.0f}/s" if took > 0 else ""
            bar.update(task, completed=done, total=max(total, done) or None, rate=rate)


@contextmanager
def counting(console: Console, sides: Comparison) -> Iterator[Callable[[int], None]]:
    """Return what to call with the number of documents compared."""
    with _bar(console) as bar:
        task = bar.add_task("verify", total=sides.count(), rate="")
        yield lambda done: bar.update(task, completed=done)


def verification(name: str, report: Report) -> dict[str, Any]:
    """Return a report for machines."""
    counts = {kind: getattr(report, kind) for kind in KINDS}
    return {
        "projection": name,
        "checked": report.checked,
        **counts,
        "quarantined": report.quarantined,
        "repaired": report.repaired,
        "left": report.left,
        "sample": report.sample,
    }


def show_verification(console: Console, name: str, report: Report) -> None:
    """Show a report to people. `name`: of the projection, where there are several."""
    counts = ", ".join(f"{getattr(report, kind)} {kind}" for kind in KINDS)
    place = f"{name}: " if name else ""
    said = f"{place}{report.checked} documents compared: {counts}; {report.repaired} repaired"
    console.print(said, soft_wrap=True)
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


def show_statuses(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """Show where things stand: first the verdicts, then the facts of each projection."""
    for status in found:
        colour = "green" if status["verdict"] in WELL else "yellow"
        console.print(
            f"[{colour}]{status['verdict']}[/{colour}]: {escape(printable(status['summary']))}",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
    for status in found:
        facts = {k: v for k, v in status.items() if k not in {"verdict", "summary"}}
        if len(facts) > 1:
            console.print()
            show_facts(console, facts)


def show_run(console: Console, remotes: Sequence[RemoteProjection]) -> None:
    """Show what `run --until-current` has done, and up to which commit documents are whole."""
    written, removed = (
        int(sum(s.value for family in counter.collect() for s in family.samples
                if s.name.endswith("_total")))
        for counter in (documents_written, documents_removed)
    )  # fmt: skip
    console.print(f"{written:,} documents written, {removed:,} removed", highlight=False)
    for remote in remotes:
        status = remote.status(time.time())
        if "checkpoint" in status:
            console.print(
                f"{status['projection']}: {status['documents']:,} documents, whole up to"
                f" {status['checkpoint']}",
                markup=False, soft_wrap=True, highlight=False,
            )  # fmt: skip


def show_facts(console: Console, facts: Mapping[str, Any]) -> None:
    """Show names beside values."""
    for name, value in facts.items():
        lines = [_said(value)]
        if isinstance(value, dict) and value:
            lines = [f"{printable(inner)} {_said(of)}" for inner, of in value.items()]
        for number, line in enumerate(lines):
            label = name if number == 0 else ""
            console.print(
                f"[bold]{label:<17}[/bold]{escape(line)}", soft_wrap=True, highlight=False
            )


def _said(value: Any) -> str:
    """Write a value on one line: never cut, for it may be copied."""
    if value in (None, "", [], {}):
        return "-"
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
    """Show each check with its fix, on a terminal wrapped at words; of many alike the first ones.
    The sum comes last."""
    table = Table.grid(padding=(0, 1))
    shown: Counter[tuple[str, str]] = Counter()
    for check in checks:
        shown[check.name, str(check.status)] += 1
        if shown[check.name, str(check.status)] > _ALIKE:
            continue
        colour = _COLOUR.get(str(check.status), "white")
        table.add_row(
            f"[{colour}]{check.status:<8}[/{colour}]",
            f"{escape(check.name)}: {escape(check.detail)}",
        )
        if check.fix:
            table.add_row("", f"[bold]fix:[/bold] {escape(check.fix)}")
    for (name, status), count in shown.items():
        if count > _ALIKE:
            more = f"{escape(name)}: {count - _ALIKE} more like these (--json shows all)"
            table.add_row(f"{status:<8}", more)
    if console.is_terminal:
        console.print(table, highlight=False)
    else:  # one line each, for grep
        for state, said in zip(*(column.cells for column in table.columns), strict=True):
            console.print(f"{state or ' ' * 8} {said}", soft_wrap=True, highlight=False)
    sums = Counter(str(check.status) for check in checks)
    total = ", ".join(f"{count} {status}" for status, count in sums.items())
    console.print(f"{len(checks)} checks: {total}", highlight=False)
