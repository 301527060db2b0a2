"""Writes the module of projections for tables that exist, from a server's catalog.

    tables    tables, their keys and columns, and what a server's catalog is asked
    roles     what is joined and listed: foreign keys, and what somebody said to follow
    proposals columns that look like references, for schemas without foreign keys
    layout    what is shown of each, under which name
    writing   the module's text
    models    the Pydantic models of its documents

What it prints runs as printed; whoever takes it strikes out what is not wanted. Never guesses:
where no foreign key is declared and nothing is to be followed, nothing is joined.
"""

from __future__ import annotations

from collections.abc import Sequence

from projector.errors import OperatorError
from projector.scaffold.proposals import proposals
from projector.scaffold.roles import Roles, read_follow
from projector.scaffold.tables import Catalog, chosen
from projector.scaffold.writing import Writer


def module(
    catalog: Catalog, tables: Sequence[str], follow: Sequence[str], *, with_models: bool
) -> str:
    """Write the module. A table may be `schema.table`. Raises OperatorError, and what the catalog
    does."""
    wanted = [read_follow(said) for said in follow]
    roots = [chosen(catalog, name) for name in dict.fromkeys(tables)]
    if not roots:
        raise OperatorError("no table is named", "Write projector scaffold TABLE.")
    roles = Roles(catalog, wanted)
    found = [roles.root(table) for table in roots]
    said = proposals(catalog, roots, wanted)
    return Writer(roles, found, said, catalog.dialect).text(with_models=with_models)
