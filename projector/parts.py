"""The only place that names concrete parts: which database, read by what, written where."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from projector.commands.explain import Explainer
from projector.commands.remote import RemoteProjection
from projector.daemon import Adapters
from projector.errors import ConfigurationError, OperatorError
from projector.mysql import explain as mysql_explain
from projector.mysql import scaffold as mysql_scaffold
from projector.mysql.binlog import BinlogSource
from projector.mysql.connection import Connection, engine
from projector.mysql.dialect import MYSQL
from projector.mysql.log import MysqlLog
from projector.mysql.position import Position
from projector.mysql.reader import MysqlDatabase
from projector.ports import Database, Source
from projector.position import Parse
from projector.projection import Plan, load_projections
from projector.projection.dialect import Dialect
from projector.scaffold.tables import Catalog
from projector.settings import Settings, is_postgres_named, projection_setting
from projector.sink_redis import RedisSink


class Room(NamedTuple):
    """What a kind of database brings along; connects to nothing by itself. `source`: the log, with
    where documents are read, and who is told of answers; `catalog` opens it for `scaffold`,
    `explainer` a projection for `explain`."""

    dialect: Dialect
    parse: Parse
    source: Callable[[Settings, Any, Callable[[], None]], Source]
    database: Callable[[Settings], Database]
    catalog: Callable[[Settings], AbstractContextManager[Catalog]]
    explainer: Callable[[Settings, Plan], AbstractContextManager[Explainer]]


def load_plans(chosen: Settings) -> list[Plan]:
    """Import the projections, planned for the database that is set. Raises ConfigurationError."""
    return load_projections(chosen.projection, room(chosen).dialect)


def plans_without_settings(config: Path | None) -> list[Plan]:
    """Import the projections where no server need be set."""
    dialect = _postgres().dialect if is_postgres_named(config) else MYSQL
    return load_projections(projection_setting(config), dialect)


def make_adapters(chosen: Settings, on_answer: Callable[[], None] = lambda: None) -> Adapters:
    """Make what the daemon works with; connects to nothing yet. `on_answer`: told when a server
    has answered."""
    plans = load_plans(chosen)
    sinks = [make_sink(chosen, plan) for plan in plans]
    parts = room(chosen)
    database = parts.database(chosen)
    return Adapters(plans, sinks, parts.source(chosen, database, on_answer), database)


def make_source(chosen: Settings) -> Source:
    """Make the log."""
    parts = room(chosen)
    return parts.source(chosen, parts.database(chosen), lambda: None)


def make_remote(chosen: Settings, plan: Plan) -> RemoteProjection:
    """Make what looks into one projection; connects to nothing yet."""
    parts = room(chosen)
    return RemoteProjection(
        chosen, plan, make_sink(chosen, plan), parts.database(chosen), parts.parse
    )


def make_sink(chosen: Settings, plan: Plan) -> RedisSink:
    """Make the store of one projection."""
    return RedisSink(
        chosen.redis,
        plan.name,
        room(chosen).parse,
        change_feed_max_length=chosen.change_feed_max_length,
        views=plan.views.keep,
    )


def open_catalog(chosen: Settings) -> AbstractContextManager[Catalog]:
    """Open the catalog of the server that documents are read from."""
    return room(chosen).catalog(chosen)


def open_explainer(chosen: Settings, plan: Plan) -> AbstractContextManager[Explainer]:
    """Open what explains a projection on the server that documents are read from."""
    return room(chosen).explainer(chosen, plan)


def slot_of(chosen: Settings) -> Any:
    """Return the commands for PostgreSQL's slot. Raises OperatorError on another database."""
    if not chosen.is_postgres:
        raise OperatorError(
            "MySQL and MariaDB have no replication slots", "Set PROJECTOR_SOURCE__URL."
        )
    _postgres()
    from projector.commands import slot

    return slot


def setup_of(chosen: Settings) -> Any:
    """Return what prepares PostgreSQL. Raises OperatorError on another database."""
    if not chosen.is_postgres:
        raise OperatorError(
            "`projector setup` prepares PostgreSQL alone",
            "Give the account its rights by deploy/grants-mysql.sql or deploy/grants-mariadb.sql;"
            " `projector check` names what is missing.",
        )
    _postgres()
    from projector.commands import setup

    return setup


def room(chosen: Settings) -> Room:
    """Choose by the settings. Raises ConfigurationError where a driver is not installed."""
    return _postgres() if chosen.is_postgres else _MYSQL


def _mysql_source(
    chosen: Settings, database: MysqlDatabase, on_answer: Callable[[], None]
) -> Source:
    mysql = chosen.mysql
    return MysqlLog(
        BinlogSource(mysql),
        lambda: Connection(database.engine, on_answer),
        mysql.default_schema,
        is_replica=mysql.reads_elsewhere,
    )


def _mysql_database(chosen: Settings) -> Database:
    mysql = chosen.mysql
    return MysqlDatabase(engine(mysql.parsed_read_url, mysql), is_replica=mysql.reads_elsewhere)


def _mysql_catalog(chosen: Settings) -> AbstractContextManager[Catalog]:
    return mysql_scaffold.catalog(chosen.mysql.parsed_read_url, chosen.mysql)


def _mysql_explainer(chosen: Settings, plan: Plan) -> AbstractContextManager[Explainer]:
    return mysql_explain.explainer(chosen.mysql.parsed_read_url, chosen.mysql, plan)


_MYSQL = Room(
    MYSQL, Position.parse, _mysql_source, _mysql_database, _mysql_catalog, _mysql_explainer
)


def _postgres() -> Room:
    """Import what PostgreSQL alone needs: its driver is an extra."""
    try:
        from projector.postgres.connection import connect
        from projector.postgres.dialect import POSTGRES
        from projector.postgres.explain import explainer
        from projector.postgres.log import Address, PostgresLog
        from projector.postgres.position import Position as PostgresPosition
        from projector.postgres.reader import PostgresDatabase
        from projector.postgres.scaffold import catalog
    except ImportError as error:  # also of a driver without libpq
        if str(error.name or "psycopg").partition(".")[0] not in ("psycopg", "psycopg_binary"):
            raise
        raise ConfigurationError(
            f"PostgreSQL's driver cannot be used: {str(error).splitlines()[0]}",
            "pip install 'binlog-projector[postgres]'.",
        ) from None

    def source(chosen: Settings, database: Database, on_answer: Callable[[], None]) -> Source:
        said = chosen.source
        return PostgresLog(
            Address(
                said.conninfo,
                said.slot,
                said.publication,
                schema=said.search_schema,
                patience_s=said.read_timeout_s,
                connect_timeout_s=said.connect_timeout_s,
                heartbeat_s=said.heartbeat_s,
                gather_s=said.gather_s,
                confirm_after_s=said.confirm_after_s,
                confirm_after_bytes=said.confirm_after_bytes,
            )
        )

    def database(chosen: Settings) -> Database:
        said = chosen.source
        return PostgresDatabase(
            lambda: connect(
                said.read_conninfo,
                said.read_timeout_s,
                schema=said.search_schema,
                connect_timeout_s=said.connect_timeout_s,
            )
        )

    return Room(
        POSTGRES,
        PostgresPosition.parse,
        source,
        database,
        lambda chosen: catalog(chosen.source),
        lambda chosen, plan: explainer(chosen.source, plan),
    )
