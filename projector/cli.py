"""Commands.

Usage and configuration errors print one readable message, never a secret, and exit 2.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
from rich.console import Console

from projector import __version__, compiled, logs, scaffold, settings
from projector import verify as verification
from projector.commands import configured, explain
from projector.commands import show as reports
from projector.commands.answers import answers_written
from projector.commands.check import require, run_checks
from projector.commands.chosen import choose_plan, one_or_all, parse_ids, print_json
from projector.commands.remote import RemoteProjection, compared
from projector.daemon import Daemon
from projector.errors import ConfigurationError, ExitCode, OperatorError, ProjectorError
from projector.parts import (
    load_plans,
    make_adapters,
    make_remote,
    make_source,
    open_catalog,
    open_explainer,
    plans_without_settings,
    setup_of,
    slot_of,
)
from projector.projection.jsonschema import json_schema
from projector.service.health import Health
from projector.service.http import Server
from projector.service.probes import live
from projector.service.shutdown import Ending
from projector.service.systemd import Notifier

app = typer.Typer(
    name="projector",
    help="Keeps complete, joined documents of MySQL, MariaDB or PostgreSQL rows live in Redis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_LOOK_AGAIN_FOR_S = 1.5  # before a start is refused

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
OneOrAllOption = Annotated[
    str | None,
    typer.Option("--projection", help="Only this projection; without it, all that are set."),
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
    """Run the daemon: build the hash if need be, then follow the log until SIGTERM."""
    with failures_explained():
        chosen = _settings(config)
        logs.configure(chosen.log)
        logs.switch_level_on_signal()
        health = Health(heartbeat_s=chosen.database.heartbeat_s, database=chosen.database.brand)
        parts = make_adapters(chosen, health.progress)
        daemon = Daemon(chosen, parts, health)
        ending = _end_on_signals(daemon)
        server = Server(chosen.http, health)
        server.start()
        structlog.get_logger().info(
            "listening", host=chosen.http.host, port=server.port, version=__version__
        )
        notifier = Notifier(lambda: live(health.snapshot(), chosen.http).ok)
        notifier.start()
        configured.warn_of_unknown([mask.key_variable for p in parts.plans for mask in p.hashed])
        try:
            require(chosen, list(parts.plans), _LOOK_AGAIN_FOR_S, health.progress)
            code = daemon.run(until_current=until_current, resync=resync)
        finally:
            notifier.stop()
            server.stop()
            ending.done()
        if until_current:
            reports.show_run(out, [make_remote(chosen, plan) for plan in parts.plans])
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
    projection: OneOrAllOption = None,
) -> None:
    """Ask the running daemon to rebuild documents, and show how far it is."""
    with failures_explained():
        remotes = _remote_projections(config, projection, ids)
        request: dict[str, Any] = {"kind": "cancel" if cancel else "resync"}
        if ids is not None and not cancel:
            request["ids"] = parse_ids(ids)
        for remote in remotes:
            remote.ask(request, wait=wait and not cancel)
        if wait and not cancel and ids is None:
            for remote in remotes:
                reports.show_progress(out, remote)
        out.print("cancelled" if cancel else "done" if wait else "asked for")


@app.command()
def verify(
    config: ConfigOption = None,
    ids: IdsOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="Write what differs.")] = False,
    as_json: JsonOption = False,
    projection: OneOrAllOption = None,
) -> None:
    """Compare every document with the database, under live traffic; exit 1 if any differ."""
    with failures_explained():
        remotes = _remote_projections(config, projection, ids)
        source = make_source(remotes[0].settings)
        wanted = parse_ids(ids) if ids is not None else None
        found = {}
        for remote in remotes:
            mend = remote.repair if repair else None
            mend_lists = remote.repair_lists if repair else None
            with remote.sides(source.current) as sides, reports.counting(err, sides) as progress:
                report = verification.verify(sides, wanted, mend, progress, mend_lists)
            found[remote.plan.name] = report
        source.close()
        if as_json:
            print_json(one_or_all([reports.verification(*each) for each in found.items()]))
        else:
            for name, report in found.items():
                reports.show_verification(out, name if len(found) > 1 else "", report)
        is_different = any(report.left for report in found.values())
        raise typer.Exit(ExitCode.DIFFERENT if is_different else ExitCode.OK)


@app.command()
def status(
    config: ConfigOption = None, as_json: JsonOption = False, projection: OneOrAllOption = None
) -> None:
    """Show how things stand: a verdict, checkpoint, lease, documents and progress; exit 3 when no
    checkpoint exists."""
    with failures_explained():
        found = [remote.status(time.time()) for remote in _remote_projections(config, projection)]
        if as_json:
            print_json(one_or_all(found))
        else:
            reports.show_statuses(out, found)
        unbuilt = [str(each["projection"]) for each in found if each["verdict"] == "not_built"]
        if unbuilt:
            raise OperatorError(
                f"no checkpoint of {', '.join(unbuilt)} exists: nothing was built yet",
                "Run a daemon.",
            )


@app.command()
def document(
    document_id: Annotated[str, typer.Argument(metavar="ID", help="The document's id.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    projection: ProjectionOption = None,
) -> None:
    """Show a stored document, what the database gives now, and how they differ (exit 1)."""
    with failures_explained():
        chosen = _settings(config)
        logs.configure(chosen.log)
        plan = choose_plan(load_plans(chosen), projection)
        stored, fetched = make_remote(chosen, plan).document(document_id)
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
    """Test beforehand all that the daemon presumes of the database, Redis and the projection."""
    with failures_explained():
        chosen = _settings(config)
        checks = run_checks(chosen, load_plans(chosen))
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
        plan = choose_plan(load_plans(chosen), projection)
        report: dict[str, Any] = {"projection": plan.name}
        with open_explainer(chosen, plan) as explainer:
            if table is not None and key is not None:
                report["touched"] = explain.touched(explainer, table, key)
            else:
                report |= explain.report(explainer)
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
        with open_catalog(chosen) as catalog:
            text = scaffold.module(catalog, tables, follow or (), with_models=model)
        sys.stdout.write(text)


@app.command()
def schema(config: ConfigOption = None, projection: ProjectionOption = None) -> None:
    """Print the JSON Schema of the document: by its own types or the model it names."""
    with failures_explained():
        plan = choose_plan(plans_without_settings(config), projection)
        print_json(json_schema(plan))


@app.command()
def setup(
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the statements, and run nothing.")
    ] = False,
) -> None:
    """PostgreSQL: make the role, its grants, the publication and the replica identities, as the
    owner of the tables (PROJECTOR_SOURCE__OWNER_URL); exit 1 when something is left to do."""
    with failures_explained():
        chosen = _settings(config)
        show = partial(out.print, markup=False, highlight=False, soft_wrap=True)
        found = setup_of(chosen).setup(chosen, load_plans(chosen), show, is_dry=dry_run)
        if found.left:
            err.print("left for you to do:")
            reports.show_checks(err, found.left)
            raise typer.Exit(ExitCode.DIFFERENT)
        what = "to run" if dry_run else "run; next: projector check"
        err.print(f"{found.count} statements {what}" if found.count else "nothing is missing")


slot_app = typer.Typer(help="PostgreSQL's replication slot: how it stands, and its end.")
app.add_typer(slot_app, name="slot")


@slot_app.command("status")
def slot_status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what the slot keeps, and how much longer it is safe; exit 3 when there is none."""
    with failures_explained():
        chosen = _settings(config)
        found = slot_of(chosen).status(chosen)
        if as_json:
            print_json(found)
        else:
            reports.show_facts(out, found)


@slot_app.command("drop")
def slot_drop(config: ConfigOption = None) -> None:
    """Drop the slot, for good or so that the next start creates it again and compares everything.

    Refused while a daemon leads: it would create the slot again at once.
    """
    with failures_explained():
        chosen = _settings(config)
        slot = slot_of(chosen)
        for plan in load_plans(chosen):
            if unknown := make_remote(chosen, plan).require_no_leader():
                err.print(unknown, markup=False)
        slot.drop(chosen)
        out.print(f"dropped {chosen.source.slot}", highlight=False)


@app.command("settings")
def settings_(
    config: ConfigOption = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Print a TOML file with every setting, commented.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting: its value, who has set it, and names that set nothing."""
    with failures_explained():
        if sample:
            sys.stdout.write(configured.sample())
            return
        every = configured.every_setting(config)
        if as_json:
            print_json([setting.report() for setting in every])
        else:
            configured.show(out, every)
        for name, meant in settings.unknown_variables().items():
            err.print(configured.unknown(name, meant), markup=False, soft_wrap=True)
        settings.load(config)


def _settings(config: Path | None) -> settings.Settings:
    """Read the settings, and do as they say about the compiled core before any work."""
    chosen = settings.load(config)
    compiled.use(wanted=chosen.compiled)
    return chosen


def _remote_projections(
    config: Path | None, projection: str | None, ids: str | None = None
) -> list[RemoteProjection]:
    """Look into the projection named; into all of them where none is. Ids belong to one."""
    chosen = _settings(config)
    logs.configure(chosen.log)
    plans = load_plans(chosen)
    if projection is not None or ids is not None:
        plans = [choose_plan(plans, projection)]
    return [make_remote(chosen, plan) for plan in plans]


def main() -> None:
    """Entry point. What nobody foresaw ends with its traceback, redacted, and a status of its own:
    supervisors restart on that one."""
    if sys.stdout is None:  # closed by whoever started this process
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (for the life of the process)
    try:
        with answers_written(err):
            app()
    except Exception:
        if not structlog.is_configured():
            logs.configure(settings.Log())
        structlog.get_logger().error("bug", exc_info=True)
        sys.exit(ExitCode.BUG)
