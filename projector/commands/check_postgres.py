"""What `projector check` looks at in PostgreSQL, and what a start requires of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from projector import fitness
from projector.checks import Check, failed, ok, warning
from projector.commands.judging import guarded
from projector.databases import Source
from projector.errors import RefusedError
from projector.fetch import Fetcher
from projector.model import Need, TableName, Watch, merged
from projector.ports import FOR_EVER
from projector.position import Parse
from projector.position import Position as AnyPosition
from projector.postgres import catalog, publication, slot
from projector.postgres.checks import access, fit, identity, server
from projector.postgres.checks.asking import Asker, Facts, Refusal
from projector.postgres.checks.tables import Table, look
from projector.postgres.connection import connect
from projector.postgres.errors import ServerError
from projector.postgres.figures import Figures, figures
from projector.postgres.indexes import explained
from projector.postgres.position import Position, own
from projector.postgres.reader import PostgresDatabase
from projector.projection import Plan
from projector.settings import Settings

SETTING: str = "PROJECTOR_SOURCE__URL"
NEEDED: tuple[str, ...] = (
    "postgres.reachable",
    "postgres.privileges",
)  # before documents are compared with rows
UNFORESEEN: type[Exception] = ServerError
parse: Parse = Position.parse

_READ = "PROJECTOR_SOURCE__READ_URL"
_PUBLICATION = "postgres.publication"
_PUBLISHED = ("r", "p")  # of relkind: tables, and partitioned ones
_SOME = 100  # documents that are made for their mean size
_NOW = Need(Position("", 0, 0))


def every(settings: Settings, plans: Sequence[Plan]) -> list[Check]:
    """Look at everything."""
    source = settings.source
    with _asking(source) as asker:
        facts = asker.facts()
        checks = [ok("postgres.reachable", f"as {facts.account}")]
        if (unchosen := _unchosen(settings, plans, asker)) is not None:
            plans, checks = (), [unchosen, *checks]
        kept = figures(asker.session, source.slot)
        watches, found = _tables(source, plans, asker)
        checks += _needed(source, asker, facts, kept, watches, _there(found))
        checks += _identities(source, plans, asker, facts, watches, _there(found))
        checks += server.recommended(facts, kept)
        checks += [access.clock(asker)]
        checks += [access.writers(asker)] if kept is None else []
        checks += [access.encryption(asker, "postgres.tls", SETTING)]
        may_read = "postgres.privileges" not in _failing(checks)
        for plan in plans:
            fits = _fits(source, plan, asker, found, may_read=may_read)
            checks += fits
            if may_read and not _failing(fits):
                checks += _indexes(source, plan, asker)
        if source.read_url is not None:
            look_there = partial(_read, source, facts, watches, _there(found))
            checks += guarded("postgres.read_url", _READ, look_there, ServerError)
    return checks


def required(
    settings: Settings,
    plans: Sequence[Plan],
    unfit: list[Check],
    on_answer: Callable[[], None],
) -> list[Check]:
    """Look at what `run` needs; what is wrong with the projection goes to `unfit`."""
    source = settings.source
    with _asking(source, on_answer) as asker:
        facts = asker.facts()
        watches, found = _tables(source, plans, asker)
        kept = figures(asker.session, source.slot)
        checks = _needed(source, asker, facts, kept, watches, _there(found))
        if "postgres.privileges" not in _failing(checks):
            for plan in plans:
                fits = _fits(source, plan, asker, found, may_read=True)
                unfit += [check for check in fits if check.status == "failed"]
    return checks


def check_position(settings: Settings, position: AnyPosition) -> None:
    """Raise PositionLostError where the log cannot be read on from there."""
    asker = Asker(settings.source)
    session = asker.open(is_replication=True)
    try:
        slot.check(session, session, settings.source.slot, own(position))
    finally:
        session.close()


def sizes(settings: Settings, plan: Plan) -> tuple[int, float]:
    """Return how many documents there may be, and their mean size in bytes."""
    source = settings.source
    with _asking(source, reads=True) as asker:
        table = look(asker, plan.table_name(plan.root, source.default_schema))
    database = PostgresDatabase(
        lambda: connect(source.read_conninfo, source.read_timeout_s, schema=source.default_schema)
    )
    fetcher = Fetcher(database.fitted(plan), database.readers(_NOW.position, {}, FOR_EVER)())
    try:
        documents = fetcher.documents(fetcher.ids_after(None, _SOME, _NOW), _NOW).documents
    finally:
        fetcher.close()
    mean = sum(map(len, documents.values())) / max(1, len(documents))
    estimate = table.rows if table is not None else 0  # nothing before the first ANALYZE
    return max(estimate, len(documents)), mean


@contextmanager
def _asking(
    source: Source, on_answer: Callable[[], None] = lambda: None, *, reads: bool = False
) -> Iterator[Asker]:
    asker = Asker(source, on_answer, reads=reads)
    try:
        yield asker
    finally:
        asker.close()


def _tables(
    source: Source, plans: Sequence[Plan], asker: Asker
) -> tuple[list[Watch], dict[TableName, Table | None]]:
    watches = merged(w for plan in plans for w in plan.watches(source.default_schema))
    return watches, {watch.table: look(asker, watch.table) for watch in watches}


def _there(found: Mapping[TableName, Table | None]) -> dict[TableName, Table]:
    """Return the tables that can be published; what is wrong with others `fit` says."""
    return {
        name: table
        for name, table in found.items()
        if table is not None and table.kind in _PUBLISHED and table.persistence == "p"
    }


def _needed(
    source: Source,
    asker: Asker,
    facts: Facts,
    kept: Figures | None,
    watches: Sequence[Watch],
    there: Mapping[TableName, Table],
) -> list[Check]:
    checks = server.required(facts, kept, source)
    checks += [access.privileges(facts, watches, there), access.row_security(facts, there)]
    checks += [access.stream(asker)] if facts.may_replicate else []
    return [*checks, *_published(source.publication, asker, there)]


def _identities(
    source: Source,
    plans: Sequence[Plan],
    asker: Asker,
    facts: Facts,
    watches: Sequence[Watch],
    there: Mapping[TableName, Table],
) -> list[Check]:
    """Test the replica identities. No start requires any: what the log lacks costs walks, and where
    there is none the server lets no row change that has been written."""
    wanted = identity.needed(plans, source.default_schema)
    unsent = catalog.unsent(asker.session, list(there), source.publication)
    problems = identity.problems(wanted, watches, there, unsent, facts.number)
    return identity.identities(problems)


def _published(name: str, asker: Asker, there: Mapping[TableName, Table]) -> list[Check]:
    found = publication.find(asker.rows, name)
    parts = {t: {each.table for each in table.identities} for t, table in there.items()}
    if problems := list(publication.problems(name, found, parts)):
        return [failed(_PUBLICATION, problem.detail, problem.fix) for problem in problems]
    checks = [ok(_PUBLICATION, f"{name} has all changes of {len(parts)} tables")]
    if found is not None and (more := publication.surplus(found, parts)) is not None:
        checks.append(warning(_PUBLICATION, more.detail, more.fix))
    return checks


def _failing(checks: Iterable[Check]) -> set[str]:
    return {check.name for check in checks if check.status == "failed"}


def _fits(
    source: Source,
    plan: Plan,
    asker: Asker,
    found: Mapping[TableName, Table | None],
    *,
    may_read: bool,
) -> list[Check]:
    checks = fit.tables(plan, source.default_schema, found)
    if _failing(checks) or not may_read:
        return checks
    roles = [(n, found[plan.table_name(n, source.default_schema)]) for n in plan.all_nodes()]
    there = [(node, table) for node, table in roles if table is not None]
    plan = plan.fitted(catalog.types_of([plan], asker.session))
    return [*checks, *fitness.keys(plan, there), *fitness.views(plan), *_queries(plan, asker)]


def _queries(plan: Plan, asker: Asker) -> Iterator[Check]:
    """Test that the server takes each query, for no keys."""
    name = f"{plan.name}.queries"
    asked = [(level.node.source.description, level.query([], plan.codec)) for level in plan.asked]
    asked += [(title, each.query([], (), 1)) for title, each in plan.look_ups.items()]
    refused = [(t, said) for t, sql in asked if isinstance(said := asker.attempt(sql), Refusal)]
    for title, said in refused:
        yield failed(
            name, f"{title}: the server refuses the query ({said.state}: {said.text})",
            "Correct the projection: types that are compared, columns, functions.",
        )  # fmt: skip
    if not refused:
        yield ok(name, f"the server takes all {len(asked)} queries")


def _indexes(source: Source, plan: Plan, asker: Asker) -> list[Check]:
    """Test that what is sought has an index, and that the server takes the queries for values."""
    try:
        return fitness.indexes(plan, explained(plan, asker, source.default_schema))
    except RefusedError as error:
        return [failed(f"{plan.name}.queries", error.message, error.remedy)]


def _unchosen(settings: Settings, plans: Sequence[Plan], asker: Asker) -> Check | None:
    roots = [plan.table_name(plan.root, settings.source.default_schema) for plan in plans]
    way = "Have one written: projector scaffold TABLE > mine.py"
    return fitness.unchosen(settings, roots, lambda root: look(asker, root) is not None, way)


def _read(
    source: Source, primary: Facts, watches: Sequence[Watch], there: Mapping[TableName, Table]
) -> list[Check]:
    """Look at the server that documents are read from."""
    with _asking(source, reads=True) as asker:
        facts = asker.facts()
        if problem := access.stranger(primary, facts, _READ):
            return [problem]
        seen = {name: table for name in there if (table := look(asker, name)) is not None}
        return [
            access.readable(facts, watches, seen),
            access.encryption(asker, "postgres.read_tls", _READ),
        ]
