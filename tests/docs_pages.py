"""The pages of docs/reference that follow from the code: `python -m tests.docs_pages` writes them.

A test compares what is committed with what comes out here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client

from projector import metrics
from projector.commands.configured import fields, masked
from projector.variables import variable

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"


def settings_page() -> str:
    """Every setting: its variable, its place in TOML, its default."""
    lines = [
        "# Settings",
        "",
        "Environment variables, a secrets folder (`PROJECTOR_SECRETS_DIR`, one file a variable),",
        "`.env`, and a TOML file (`--config` or `PROJECTOR_CONFIG`): the first that names a",
        "setting wins. `projector settings` shows what is set and by whom, `projector settings",
        "--sample` prints this page as TOML.",
        "",
    ]
    section: tuple[str, ...] | None = None
    # those in no section first, as in TOML
    for path, field in sorted(fields(), key=lambda each: len(each[0]) > 1):
        if path[:-1] != section:
            section = path[:-1]
            title = f"`[{'.'.join(section)}]`" if section else "Beside all sections"
            lines += [
                "",
                f"## {title}",
                "",
                "| variable | meaning | default |",
                "| --- | --- | --- |",
            ]
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{variable(path)}` | {meaning} | {_default(field)} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "depends on where it runs"
    default = field.get_default()
    if default is None:
        return "–"
    if "SecretStr" in str(field.annotation):
        default = masked(default.get_secret_value())
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def metrics_page() -> str:
    """Every metric of the daemon: its type and labels."""
    lines = [
        "# Metrics",
        "",
        "On `/metrics`, port `PROJECTOR_HTTP__PORT`. Alerts on them are in",
        "`deploy/prometheus/rules.yaml`, a dashboard in `deploy/grafana/projector.json`.",
        "",
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *_metrics()]) + "\n"


def _metrics() -> Iterator[str]:
    for name in sorted(vars(metrics)):
        metric = getattr(metrics, name)
        if not isinstance(metric, prometheus_client.metrics.MetricWrapperBase):
            continue
        [family] = metric.describe()
        suffix = "_total" if family.type == "counter" else ""
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        meaning = family.documentation.replace("|", "\\|")
        yield f"| `{family.name}{suffix}` | {family.type} | {labels} | {meaning} |"


PAGES = {"settings.md": settings_page, "metrics.md": metrics_page}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (FOLDER / file).write_text(page(), "utf-8")
