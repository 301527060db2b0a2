"""Writes the module of projections for tables that exist, from the server's catalog.

    catalog   tables, their keys and columns, as the server has them
    roles     what is joined and listed: foreign keys, and what somebody said to follow
    proposals columns that look like references, for schemas without foreign keys
    layout    what is shown of each, under which name
    writing   the module's text
    models    the Pydantic models of its documents

What it prints runs as printed; whoever takes it strikes out what is not wanted. Never guesses:
where no foreign key is declared and nothing is to be followed, nothing is joined.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import URL

from projector.databases import Mysql
from projector.errors import OperatorError
from projector.mysql.connection import ServerError, engine, meaning
from projector.mysql.scaffold.catalog import Catalog
from projector.mysql.scaffold.proposals import proposals
from projector.mysql.scaffold.roles import Roles, read_follow
from projector.mysql.scaffold.writing import Writer


def module(
    url: URL,
    settings: Mysql,
    tables: Sequence[str],
    follow: Sequence[str] = (),
    *,
    with_models: bool = False,
) -> str:
    """Write the module. A table may be `database.table`. Raises OperatorError, TransientError."""
    wanted = [read_follow(said) for said in follow]
    source = engine(url, settings)
    try:
        with source.connect() as connection, warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)  # types that it does not know
            catalog = Catalog(connection)
            roots = [catalog.root(name) for name in dict.fromkeys(tables)]
            if not roots:
                raise OperatorError("no table is named", "Write projector scaffold TABLE.")
            roles = Roles(catalog, wanted)
            found = [roles.root(table) for table in roots]
            said = proposals(catalog, roots, wanted)
            return Writer(roles, found, said).text(with_models=with_models)
    except sa.exc.OperationalError as error:
        if not isinstance(error.orig, ServerError):
            raise
        raise meaning(error.orig) from error
    finally:
        source.dispose()
