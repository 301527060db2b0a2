"""`make bench`: the projector beside a plain baseline and the floor, in one run on the same data.

Private servers. Rates are compared within the run, for machines differ and are noisy. Options:
`--size` tickets, `--runs`, `--flavour`, `--only` some scenarios, `--against` the folder of another
checkout, whose daemon takes turns with this one, `--short` (for CI: fails when a ratio to the floor
falls), `--out` folder for bench.json and bench.png (the picture only where
matplotlib is installed).
"""

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.scenarios import SCENARIOS
from tests.benchmarks.stage import Bench
from tests.projector_process import ROOT
from tests.servers import Flavour

console = Console(highlight=False)
Figures = dict[str, dict[str, float]]

# Least ratios that the short form accepts: far below what is measured, for noisy machines.
LEAST = {"backlog": 0.35, "build": 0.4}


def main() -> int:
    """Run the scenarios, print, write, judge."""
    options = _options()
    names = ["build", "backlog", "latency"] if options.short else options.only or list(SCENARIOS)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(options.runs):
        with Bench.open(Flavour(options.flavour), options.size) as bench:
            for name in names:
                console.print(f"run {number + 1}/{options.runs}: {name}", style="dim")
                results[name].append(_both(bench, name, options.against, first=number % 2))
                console.print(_line(results[name][-1]), style="dim")
    figures = {name: _medians(found) for name, found in results.items() if found}
    _show(figures)
    _write(figures, options)
    return _judge(figures) if options.short else 0


def _both(bench: Bench, name: str, other: Path | None, *, first: int) -> dict[str, float]:
    """Run a scenario; with another checkout's daemon as well, if there is one, by turns before and
    after, and give the ratios."""
    if other is None:
        return SCENARIOS[name](bench)
    found: dict[Path, dict[str, float]] = {}
    bench.has_peers = False  # two daemons are enough
    for folder in (ROOT, other.resolve())[:: -1 if first else 1]:
        bench.daemon.folder = folder
        found[folder] = SCENARIOS[name](bench)
    ours, theirs = found[ROOT], found[other.resolve()]
    figures = {}
    for key, value in ours.items():
        figures |= {key: value, f"{key}: before": theirs[key]}
        figures |= {f"{key}: to before": value / theirs[key]} if theirs[key] else {}
    return figures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--size", type=int, default=20_000, help="tickets")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--flavour", default="mysql", choices=[f.value for f in Flavour])
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), help="some scenarios")
    parser.add_argument("--against", type=Path, help="another checkout, to compare with")
    parser.add_argument(
        "--short", action="store_true", help="one run of a few scenarios, that may fail"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    if options.short:
        options.runs = 1
    return options


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs if key in run) for key in runs[0]}


def _line(found: dict[str, float]) -> str:
    return "  " + ", ".join(f"{key} {value:,.5g}" for key, value in found.items())


def _show(figures: Figures) -> None:
    for name, found in figures.items():
        table = Table(title=name, box=None, title_justify="left")
        table.add_column("figure")
        table.add_column("median", justify="right")
        for key, value in found.items():
            table.add_row(key, f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}")
        console.print(table)


def _machine() -> dict[str, Any]:
    model = ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "processor": model,
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit.stdout.strip(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _write(figures: Figures, options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": _machine(), "flavour": options.flavour, "size": options.size,
        "runs": options.runs, "figures": figures,
    }  # fmt: skip
    (options.out / "bench.json").write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"written to {options.out}/bench.json")
    with contextlib.suppress(ImportError):
        _picture(figures, options.out / "bench.png")


def _picture(figures: Figures, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ratios = {
        f"{name}: {key}": value
        for name, found in figures.items()
        for key, value in found.items()
        if key.startswith("ratio")
    }
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.4 * len(ratios)))
    axes.barh(list(ratios), list(ratios.values()))
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    figure.tight_layout()
    figure.savefig(path)


def _judge(figures: Figures) -> int:
    for name, least in LEAST.items():
        ratio = figures[name]["ratio to the floor"]
        if ratio < least:
            console.print(f"{name}: {ratio:.2f} of the floor, at least {least} wanted", style="red")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
