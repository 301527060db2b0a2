"""What a command is about: ids and projections as they are named; one report or several."""

from __future__ import annotations

import json
import sys
from typing import Any

from projector.errors import ConfigurationError
from projector.projection import Plan


def parse_ids(text: str) -> list[str]:
    """Read `1,2,3`. Raises ConfigurationError."""
    ids = [part.strip() for part in text.split(",") if part.strip()]
    if not ids:
        raise ConfigurationError("--ids names no document", "Write --ids 1,2,3.")
    return ids


def choose_plan(plans: list[Plan], name: str | None) -> Plan:
    """Return the projection of that name; the only one where none is named."""
    if name is None and len(plans) == 1:
        return plans[0]
    for plan in plans:
        if plan.name == name:
            return plan
    names = ", ".join(plan.name for plan in plans)
    raise ConfigurationError(f"which projection? There are: {names}", "Name it with --projection.")


def one_or_all(reports: list[dict[str, Any]]) -> Any:
    """Return the report of the only projection, or a list where there are several."""
    return reports[0] if len(reports) == 1 else reports


def print_json(report: Any) -> None:
    """Write a report for machines."""
    sys.stdout.write(json.dumps(report, indent=2, default=str) + "\n")
