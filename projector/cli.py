"""Commands; the only place that names concrete parts.

Usage and configuration errors print one readable message, never a secret, and exit 2.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
from rich.console import Console

from projector import __version__, compiled, logs, settings
from projector import verify as verification
from projector.commands import show as reports
from projector.commands.check import require, run_checks
from projector.commands.remote import Inquiry, compared
from projector.daemon import Daemon, Parts
from projector.errors import ConfigurationError, ExitCode, OperatorError, ProjectorError
from projector.mysql import explain, scaffold
from projector.mysql.binlog import BinlogSource
from projector.mysql.connection import Connection, engine
from projector.mysql.log import MysqlLog
from projector.projection import Plan, load_projections
from projector.service.health import Health
from projector.service.http import Server
from projector.service.probes import live
from projector.service.shutdown import Ending
from projector.service.systemd import Notifier
from projector.sink_redis import RedisSink

app = typer.Typer(
    name="projector",
    help="Keeps complete, joined documents of MySQL or MariaDB rows live in Redis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_LOOK_AGAIN_FOR_S = 1.5  # before a start is refused
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}

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
        _fail(f"{str(error).rstrip('.')}. `projector check` says what to do.", ExitCode.REFUSED)


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
        bool, typer.Option("--resync", help="Rebuild every document while tailing goes on.")
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
        chosen = _settings(config)
        logs.configure(chosen.log)
        logs.switch_level_on_signal()
        health = Health(heartbeat_s=chosen.mysql.heartbeat_s)
        parts = make_parts(chosen, health.progress)
        daemon = Daemon(chosen, parts, health)
        ending = _end_on_signals(daemon)
        server = Server(chosen.http, health)
        server.start()
        structlog.get_logger().info(
            "listening", host=chosen.http.host, port=server.port, version=__version__
        )
        notifier = Notifier(lambda: live(health.snapshot(), chosen.http).ok)
        notifier.start()
        try:
            require(chosen, list(parts.plans), _LOOK_AGAIN_FOR_S, health.progress)
            code = daemon.run(until_current=until_current, resync=resync)
        finally:
            notifier.stop()
            server.stop()
            ending.done()
        raise typer.Exit(code)


def _end_on_signals(daemon: Daemon) -> Ending:
    """From here on SIGTERM ends this process within two seconds, whatever it waits for."""
    ending = Ending(daemon.stop, daemon.abandon)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.ask())
    return ending


@app.command()
def resync(
    config: ConfigOption = None,
    ids: IdsOption = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay and show progress until it is done.")
    ] = True,
    cancel: Annotated[bool, typer.Option("--cancel", help="Give up a resync asked for.")] = False,
    projection: ProjectionOption = None,
) -> None:
    """Ask the running daemon to rebuild documents, and show how far it is."""
    with failures_explained():
        inquiry = _inquire(config, projection)
        if cancel:
            inquiry.ask({"kind": "cancel"}, wait=False)
            out.print("cancelled")
            return
        request: dict[str, Any] = {"kind": "resync"}
        if ids is not None:
            request["ids"] = parse_ids(ids)
        inquiry.ask(request, wait=wait)
        if wait and ids is None:
            reports.show_progress(out, inquiry)
        out.print("done" if wait else "asked for")


@app.command()
def verify(
    config: ConfigOption = None,
    ids: IdsOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="Write what differs.")] = False,
    as_json: JsonOption = False,
    projection: ProjectionOption = None,
) -> None:
    """Compare every document with the database, under live traffic; exit 1 if any differ."""
    with failures_explained():
        chosen, inquiry = _inquire_with_settings(config, projection)
        source = BinlogSource(chosen.mysql)
        with inquiry.sides(source.current) as sides, reports.counting(err, sides) as progress:
            report = verification.verify(
                sides,
                parse_ids(ids) if ids is not None else None,
                inquiry.repair if repair else None,
                progress,
                inquiry.repair_lists if repair else None,
            )
        source.close()
        if as_json:
            print_json(reports.verification(report))
        else:
            reports.show_verification(out, report)
        raise typer.Exit(ExitCode.DIFFERENT if report.left else ExitCode.OK)


@app.command()
def status(
    config: ConfigOption = None, as_json: JsonOption = False, projection: ProjectionOption = None
) -> None:
    """Show checkpoint, lease, documents and progress; exit 3 when no checkpoint exists."""
    with failures_explained():
        inquiry = _inquire(config, projection)
        found = inquiry.status(time.time())
        if found is None:
            raise OperatorError("no checkpoint exists: nothing was built yet", "Run a daemon.")
        if as_json:
            print_json(found)
        else:
            reports.show_status(out, found)


@app.command()
def document(
    document_id: Annotated[str, typer.Argument(metavar="ID", help="The document's id.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    projection: ProjectionOption = None,
) -> None:
    """Show a stored document, what the database gives now, and how they differ (exit 1)."""
    with failures_explained():
        stored, fetched = _inquire(config, projection).document(document_id)
        database = fetched.documents.get(document_id)
        report = {
            "id": document_id,
            "stored": reports.parsed(stored),
            "database": reports.parsed(database),
            "refused": fetched.failed.get(document_id),
            "differing": compared(stored, database),
        }
        if as_json:
            print_json(report)
        else:
            reports.show_document(out, report)
        raise typer.Exit(ExitCode.OK if stored == database else ExitCode.DIFFERENT)


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Test beforehand all that the daemon presumes of MySQL, Redis and the projection."""
    with failures_explained():
        chosen = _settings(config)
        checks = run_checks(chosen, load_projections(chosen.projection))
        if as_json:
            print_json([dataclasses.asdict(check) for check in checks])
        else:
            reports.show_checks(out, checks)
        failed = any(check.status == "failed" for check in checks)
        raise typer.Exit(ExitCode.DIFFERENT if failed else ExitCode.OK)


@app.command("explain")
def explain_(
    config: ConfigOption = None,
    table: Annotated[
        str | None, typer.Option("--table", help="What a change of a row there would touch.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="The row's primary key; composite: a:b.")
    ] = None,
    as_json: JsonOption = False,
    projection: ProjectionOption = None,
) -> None:
    """Show the queries with the server's EXPLAIN, and how a changed row's documents are found."""
    with failures_explained():
        if (table is None) != (key is None):
            raise ConfigurationError("--table and --key go together", "Give both or neither.")
        chosen = _settings(config)
        plan = choose_plan(load_projections(chosen.projection), projection)
        connection = Connection(engine(chosen.mysql.parsed_read_url, chosen.mysql))
        report: dict[str, Any] = {"projection": plan.name}
        if table is not None and key is not None:
            report["touched"] = explain.touched(plan, table, key, connection)
        else:
            report["queries"] = explain.queries(plan, connection)
            report["routes"] = explain.routes(plan)
            report["notes"] = explain.notes(plan, connection)
            if plan.views.planned:
                report["views"] = explain.views(plan)
        connection.close()
        if as_json:
            print_json(report)
        else:
            sys.stdout.write(explain.as_text(report) + "\n")


@app.command("scaffold")
def scaffold_(
    tables: Annotated[
        list[str], typer.Argument(metavar="TABLE...", help="The tables of the documents.")
    ],
    config: ConfigOption = None,
    follow: Annotated[
        list[str] | None,
        typer.Option(
            "--follow",
            metavar="COLUMN=TABLE.COLUMN",
            help="A reference without a foreign key, also TABLE.COLUMN=TABLE.COLUMN.",
        ),
    ] = None,
    model: Annotated[
        bool, typer.Option("--model", help="Also write the document's Pydantic model.")
    ] = False,
) -> None:
    """Print a projection's module for existing tables: their columns, joins and collections."""
    with failures_explained():
        chosen = _settings(config)
        url = chosen.mysql.parsed_read_url
        sys.stdout.write(
            scaffold.module(url, chosen.mysql, tables, follow or (), with_models=model)
        )


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


def parse_ids(text: str) -> list[str]:
    """Read `1,2,3`. Raises ConfigurationError."""
    ids = [part.strip() for part in text.split(",") if part.strip()]
    if not ids:
        raise ConfigurationError("--ids names no document", "Write --ids 1,2,3.")
    return ids


def _settings(config: Path | None) -> settings.Settings:
    """Read the settings, and do as they say about the compiled core before any work."""
    chosen = settings.load(config)
    compiled.use(wanted=chosen.compiled)
    return chosen


def _inquire_with_settings(
    config: Path | None, projection: str | None
) -> tuple[settings.Settings, Inquiry]:
    chosen = _settings(config)
    logs.configure(chosen.log)
    plan = choose_plan(load_projections(chosen.projection), projection)
    return chosen, Inquiry(chosen, plan, make_sink(chosen, plan))


def _inquire(config: Path | None, projection: str | None) -> Inquiry:
    return _inquire_with_settings(config, projection)[1]


def make_parts(chosen: settings.Settings, on_answer: Callable[[], None] = lambda: None) -> Parts:
    """Make what the daemon works with; connects to nothing yet. `on_answer`: told when a server
    has answered."""
    plans = load_projections(chosen.projection)
    sinks = [make_sink(chosen, plan) for plan in plans]
    reading = engine(chosen.mysql.parsed_read_url, chosen.mysql)
    source = MysqlLog(
        BinlogSource(chosen.mysql),
        lambda: Connection(reading, on_answer),
        chosen.mysql.parsed_url.database or "",
        is_replica=chosen.mysql.reads_elsewhere,
    )
    return Parts(plans, sinks, source, reading)


def make_sink(chosen: settings.Settings, plan: Plan) -> RedisSink:
    """Make the store of one projection."""
    return RedisSink(
        chosen.redis,
        plan.name,
        change_feed_max_length=chosen.change_feed_max_length,
        views=plan.views.keep,
    )


def choose_plan(plans: list[Plan], name: str | None) -> Plan:
    """Return the projection of that name; the only one where none is named."""
    if name is None and len(plans) == 1:
        return plans[0]
    for plan in plans:
        if plan.name == name:
            return plan
    names = ", ".join(plan.name for plan in plans)
    raise ConfigurationError(f"which projection? There are: {names}", "Name it with --projection.")


def print_json(report: Any) -> None:
    """Write a report for machines."""
    sys.stdout.write(json.dumps(report, indent=2, default=str) + "\n")


def main() -> None:
    """Entry point. What nobody foresaw ends with its traceback, redacted, and a status of its own:
    supervisors restart on that one."""
    if sys.stdout is None:  # closed by whoever started this process
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (for the life of the process)
    try:
        with _answers_written():
            app()
    except Exception:
        if not structlog.is_configured():
            logs.configure(settings.Log())
        structlog.get_logger().error("bug", exc_info=True)
        sys.exit(ExitCode.BUG)


@contextmanager
def _answers_written() -> Iterator[None]:
    """See to it that what was printed is written: a full disk is nobody's bug."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        # Python would try again to write what is left, and fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        reason = os.strerror(error.errno or 0)
        with suppress(OSError):
            err.print(f"projector: the answer cannot be written: {reason}", soft_wrap=True)
        sys.exit(ExitCode.REFUSED)
