"""A MySQL or MariaDB server as tests use it: its address, statements, and its life and death."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pymysql
from pymysql.constants import CLIENT

from tests.servers.flavours import RECIPES, Flavour, ServerUnavailable
from tests.servers.process import Running, wait_until_ready

ROOT_PASSWORD = "root-secret"


@dataclass
class DatabaseServer:
    """One server; `process` is None for a server that is not ours, named in the environment."""

    flavour: Flavour
    host: str
    port: int
    user: str
    password: str
    socket: Path | None
    process: Running | None

    def url(
        self,
        database: str | None = "helpdesk",
        *,
        user: str | None = None,
        password: str | None = None,
    ) -> str:
        """The SQLAlchemy URL; `root` unless a user is named."""
        name, secret = (self.user, self.password) if user is None else (user, password or "")
        credentials = f"{quote(name, safe='')}:{quote(secret, safe='')}"
        return f"mysql+pymysql://{credentials}@{self.host}:{self.port}/{database or ''}"

    def connect(self, database: str | None = None, **settings: Any) -> "pymysql.Connection[Any]":
        """A new PyMySQL connection as `root` with autocommit; the settings are PyMySQL's."""
        defaults: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": database,
            "autocommit": True,
            "charset": "utf8mb4",
            "connect_timeout": 10,
        }
        return pymysql.connect(**{**defaults, **settings})

    def execute(
        self, sql: str, *arguments: Any, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own; the rows."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(sql, arguments or None)
            return list(cursor.fetchall())

    def create_database(self, name: str) -> None:
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def load_sql(self, script: Path | str, database: str) -> None:
        """Run a file, or a text, of many statements."""
        text = script.read_text() if isinstance(script, Path) else script
        many = CLIENT.MULTI_STATEMENTS
        with self.connect(database, client_flag=many) as connection, connection.cursor() as cursor:
            cursor.execute(text)
            while cursor.nextset():
                pass

    def start(self) -> None:
        """Start again after stop() or kill(): same port, same data. Returns once it answers."""
        own = self._own()
        own.start()
        wait_until_ready(
            own, self._answers, f"{RECIPES[self.flavour].title} on port {self.port}", 120
        )

    def stop(self) -> None:
        """Shut down cleanly; the data stays until our process ends."""
        self._own().terminate()

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        self._own().kill()

    def pause(self) -> None:
        self._own().pause()

    def resume(self) -> None:
        self._own().resume()

    def discard(self) -> None:
        """Kill the server, if it is ours, and remove its data."""
        if self.process is not None:
            self.process.discard()

    @property
    def pid(self) -> int:
        return self._own().pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def _own(self) -> Running:
        if self.process is None:
            raise ServerUnavailable(
                f"{RECIPES[self.flavour].environment} names a server that is not ours to control"
            )
        return self.process

    def _answers(self) -> bool:
        try:
            self.connect(connect_timeout=2).close()
        except pymysql.err.OperationalError:
            return False
        return True
