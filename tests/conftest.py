"""The fixtures that every test can ask for, by subject."""

from tests.fix_servers import (
    database,
    fresh_database,
    fresh_redis,
    mariadb,
    mariadb11,
    mysql,
    redis_server,
)

__all__ = [
    "database",
    "fresh_database",
    "fresh_redis",
    "mariadb",
    "mariadb11",
    "mysql",
    "redis_server",
]
