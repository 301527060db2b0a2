"""What a document is, said once; SELECTs, routes and the tables to watch follow from it.

A projection is declared with `Projection`, `Join`, `Many` and `Aggregate` over plain SQLAlchemy
Core tables. Never declares a join twice: `graph` turns the declaration into nodes and edges,
`selects` reads along the edges downwards, `routes` looks upwards along the same edges.
"""

from projector.projection.declaration import (
    Aggregate,
    Fixed,
    Hashed,
    Join,
    Many,
    Partial,
    Projection,
    binary,
)
from projector.projection.loading import load_projections
from projector.projection.plan import Plan

__all__ = [
    "Aggregate",
    "Fixed",
    "Hashed",
    "Join",
    "Many",
    "Partial",
    "Plan",
    "Projection",
    "binary",
    "load_projections",
]
