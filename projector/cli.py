"""Commands; the only place that names concrete parts.

Usage and configuration errors print one readable message, never a secret, and exit 2.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
from rich.console import Console

from projector import __version__, logs, settings
from projector.binlog import BinlogSource
from projector.daemon import Daemon, Parts
from projector.database import engine
from projector.errors import ExitCode, OperatorError, ProjectorError
from projector.health import Health
from projector.http import Server
from projector.projection import Plan, load_projections
from projector.sink_redis import RedisSink

app = typer.Typer(
    name="projector",
    help="Keeps complete, joined documents of MySQL or MariaDB rows live in Redis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
IdsOption = Annotated[
    str | None, typer.Option("--ids", help="Only these documents, e.g. 1,2,3.", show_default=False)
]
ProjectionOption = Annotated[
    str | None,
    typer.Option("--projection", help="Name of the projection, where several are set."),
]


@contextmanager
def failures_explained() -> Iterator[None]:
    """Print what is wrong and what to do; give the exit status that says whose turn it is."""
    try:
        yield
    except OperatorError as error:
        _fail(str(error), error.exit_code)
    except ProjectorError as error:
        _fail(str(error), ExitCode.REFUSED)


def _fail(message: str, code: ExitCode) -> NoReturn:
    err.print(f"projector: {message}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def _version(value: bool) -> None:
    if value:
        out.print(f"projector {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    config: ConfigOption = None,
    resync: Annotated[
        bool, typer.Option("--resync", help="Make every document anew while tailing goes on.")
    ] = False,
    until_current: Annotated[
        bool,
        typer.Option(
            "--until-current", help="Stop once everything committed before the start is in Redis."
        ),
    ] = False,
) -> None:
    """Run the daemon: build the hash if need be, then follow the binlog until SIGTERM."""
    with failures_explained():
        chosen = settings.load(config)
        logs.configure(chosen.log)
        health = Health()
        parts = make_parts(chosen)
        daemon = Daemon(chosen, parts, health)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: daemon.stop())
        server = Server(chosen.http, health)
        server.start()
        try:
            code = daemon.run(until_current=until_current, resync=resync)
        finally:
            server.stop()
        structlog.get_logger().info("stopped")
        raise typer.Exit(code)


@app.command()
def schema(config: ConfigOption = None, projection: ProjectionOption = None) -> None:
    """Print the JSON Schema of the document."""
    with failures_explained():
        plan = choose_plan(load_projections(settings.projection_setting(config)), projection)
        model = plan.projection.document
        if model is None:
            raise OperatorError(
                f"the projection {plan.name} names no Pydantic model",
                "Give it one: Projection(document=...).",
            )
        sys.stdout.write(json.dumps(model.model_json_schema(mode="serialization"), indent=2) + "\n")


def make_parts(chosen: settings.Settings) -> Parts:
    """Make what the daemon works with; connects to nothing yet."""
    plans = load_projections(chosen.projection)
    sinks = [make_sink(chosen, plan) for plan in plans]
    source = BinlogSource(chosen.mysql)
    return Parts(plans, sinks, source, engine(chosen.mysql.parsed_read_url, chosen.mysql))


def make_sink(chosen: settings.Settings, plan: Plan) -> RedisSink:
    """Make the store of one projection."""
    return RedisSink(
        chosen.redis, plan.name, change_feed_max_length=chosen.change_feed_max_length
    )


def choose_plan(plans: list[Plan], name: str | None) -> Plan:
    """Give the projection of that name; the only one where none is named."""
    if name is None and len(plans) == 1:
        return plans[0]
    for plan in plans:
        if plan.name == name:
            return plan
    names = ", ".join(plan.name for plan in plans)
    raise OperatorError(f"which projection? There are: {names}", "Name it with --projection.")


def print_json(report: Any) -> None:
    """Write a report for machines."""
    sys.stdout.write(json.dumps(report, indent=2, default=str) + "\n")


def main() -> None:
    """Entry point."""
    app()
