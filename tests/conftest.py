"""The fixtures that every test can ask for, by subject."""

import os

from projector import compiled
from tests.fix_servers import (
    database,
    fresh_database,
    fresh_postgres,
    fresh_redis,
    mariadb,
    mariadb11,
    mysql,
    postgres15_server,
    postgres18_server,
    postgres_server,
    redis_server,
)

__all__ = [
    "database",
    "fresh_database",
    "fresh_postgres",
    "fresh_redis",
    "mariadb",
    "mariadb11",
    "mysql",
    "postgres15_server",
    "postgres18_server",
    "postgres_server",
    "redis_server",
]

# The whole suite runs without the compiled core, too: PROJECTOR_COMPILED=false make ...
compiled.use(wanted=os.environ.get("PROJECTOR_COMPILED", "true") == "true")
