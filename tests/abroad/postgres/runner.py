"""Many worlds on PostgreSQL's servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tests.abroad.postgres.settings import PROFILES
from tests.abroad.postgres.world import PostgresWorld
from tests.abroad.worlds.runner import Runner
from tests.abroad.worlds.world import World
from tests.faults.postgres_faults import OF_WORLDS
from tests.servers import PostgresFlavour, start_postgres


class PostgresRunner(Runner):
    """As `Runner`."""

    world: ClassVar[type[World]] = PostgresWorld
    flavours: ClassVar[Sequence[str]] = list(PostgresFlavour)
    faults: ClassVar[Sequence[Any]] = OF_WORLDS
    profiles: ClassVar[Mapping[str, Sequence[tuple[str, ...]]]] = dict.fromkeys(
        PostgresFlavour, PROFILES
    )

    def start(self, flavour: str, options: tuple[str, ...]) -> Any:
        """Start a server."""
        return start_postgres(PostgresFlavour(flavour), options=options)
