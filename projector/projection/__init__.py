"""What a document is, said once; SELECTs, routes and the tables to watch follow from it.

A projection is declared in the words of `declaration` and `values` over plain SQLAlchemy Core
tables. Never declares a join twice: `graph` turns the declaration into nodes and edges, `selects`
reads along the edges downwards, `assembly` makes documents of the rows, `routes` looks upwards
along the same edges.
"""

from projector.projection.declaration import (
    Aggregate,
    First,
    Join,
    Kind,
    Many,
    One,
    OneOf,
    Pairs,
    Path,
    Projection,
    View,
)
from projector.projection.loading import load_projections
from projector.projection.plan import Plan
from projector.projection.values import (
    Choice,
    Encoded,
    Fixed,
    Flags,
    Hashed,
    Json,
    Moment,
    Partial,
    Passed,
    binary,
)

__all__ = [
    "Aggregate",
    "Choice",
    "Encoded",
    "First",
    "Fixed",
    "Flags",
    "Hashed",
    "Join",
    "Json",
    "Kind",
    "Many",
    "Moment",
    "One",
    "OneOf",
    "Pairs",
    "Partial",
    "Passed",
    "Path",
    "Plan",
    "Projection",
    "View",
    "binary",
    "load_projections",
]
