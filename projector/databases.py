"""Settings of the databases: what holds of any, and of each kind its own."""

from __future__ import annotations

import os
import re
import socket
import zlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

Seconds = Annotated[float, Field(gt=0, le=86400)]


class Section(BaseModel):
    """Part of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tls(Section):
    """TLS to MySQL. Any of the three turns it on; the server's certificate is always verified."""

    ca: Path | None = Field(None, description="CA file that the server's certificate must chain to")
    cert: Path | None = Field(None, description="client certificate")
    key: Path | None = Field(None, description="client key")

    @model_validator(mode="after")
    def _cert_with_key(self) -> Tls:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together: give both or neither")
        return self


class Database(Section):
    """What holds of any database. `section`: of its settings; `peer`: its name in errors; `brand`:
    what people call it."""

    section: ClassVar[str]
    peer: ClassVar[str]
    brand: ClassVar[str]

    heartbeat_s: Annotated[float, Field(ge=0.05, le=3600)] = Field(
        1.0, description="how often an idle server says so"
    )
    connect_timeout_s: Seconds = Field(10.0, description="limit for a connection to stand")
    read_timeout_s: Seconds = Field(30.0, description="limit for an answer to a query")
    gather_s: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="while changes keep coming, how long the first of a few waits; 0: off"
    )
    on_position_lost: Literal["resync", "stop"] = Field(
        "resync", description="what to do when the log cannot be read on from the checkpoint"
    )

    @property
    def default_schema(self) -> str:
        """The schema of tables that a projection names without one."""
        raise NotImplementedError


class Mysql(Database):
    """MySQL or MariaDB."""

    section = peer = "mysql"
    brand = "MySQL"

    url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL of the primary whose binlog is read; required for MySQL and"
        " MariaDB",
    )
    read_url: SecretStr | None = Field(
        None, description="another server (a replica) to run the document queries on"
    )
    server_id: Annotated[int, Field(ge=1, le=2**32 - 1)] | None = Field(
        None, description="replica server id; derived, distinct per host and process, if not given"
    )
    tls: Tls = Tls()

    @field_validator("url", "read_url")
    @classmethod
    def _is_mysql_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            url = make_url(value.get_secret_value())
        except (ArgumentError, ValueError):
            # from None: the driver's message would repeat the URL with its password
            raise ValueError(
                "not a URL; write mysql+pymysql://user:password@host/database"
            ) from None
        if url.get_backend_name() not in {"mysql", "mariadb"}:
            raise ValueError("not a MySQL URL; write mysql+pymysql://user:password@host/database")
        if not url.database:
            raise ValueError(
                "the URL names no database; add it: mysql+pymysql://user@host/database"
            )
        return value

    @cached_property
    def parsed_url(self) -> URL:
        """The primary's URL."""
        assert self.url is not None  # `Settings` requires it, unless the source is another
        return make_url(self.url.get_secret_value())

    @cached_property
    def parsed_read_url(self) -> URL:
        """The URL that documents are read from."""
        return make_url(self.read_url.get_secret_value()) if self.read_url else self.parsed_url

    @property
    def default_schema(self) -> str:
        """The database that the URL names."""
        return self.parsed_url.database or ""

    @property
    def reads_elsewhere(self) -> bool:
        """Whether documents are read from another server than the one whose log is read."""
        here, there = self.parsed_url, self.parsed_read_url
        return (here.host, here.port or 3306) != (there.host, there.port or 3306)

    @property
    def replica_server_id(self) -> int:
        """The configured server id, or one derived from host and process, above the usual ones."""
        if self.server_id is not None:
            return self.server_id
        return zlib.crc32(f"{socket.gethostname()}:{os.getpid()}".encode()) | 0x8000_0000


class Source(Database):
    """PostgreSQL."""

    section, peer, brand = "source", "postgres", "PostgreSQL"

    url: SecretStr | None = Field(
        None, description="postgresql:// URL of the primary whose log is read, with libpq's options"
    )
    read_url: SecretStr | None = Field(
        None, description="another server (a standby) to run the document queries on"
    )
    owner_url: SecretStr | None = Field(
        None, description="URL of whoever owns the tables, for `projector setup` alone"
    )
    search_schema: str = Field(
        "public", description="schema of the tables that a projection names without one"
    )
    slot: str = Field("projector", description="replication slot, for this daemon alone")
    publication: str = Field("projector", description="publication of the watched tables")
    confirm_after_s: Annotated[float, Field(ge=0, le=86400)] = Field(
        60.0, description="how long the server keeps its log after Redis holds it, for a Redis"
        " that goes back in time"
    )  # fmt: skip
    confirm_after_bytes: Annotated[int, Field(ge=0, le=2**53)] = Field(
        1 << 30, description="how much of it at most"
    )

    @field_validator("url", "read_url", "owner_url")
    @classmethod
    def _is_postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        wanted = "write postgresql://user:password@host/database"
        try:
            url = make_url(value.get_secret_value())
        except (ArgumentError, ValueError):
            # from None: the message would repeat the URL with its password
            raise ValueError(f"not a URL; {wanted}") from None
        if url.get_backend_name() not in {"postgresql", "postgres"}:
            raise ValueError(f"not a PostgreSQL URL; {wanted} (MySQL: PROJECTOR_MYSQL__URL)")
        if not url.database:
            raise ValueError(f"the URL names no database; {wanted}")
        return value

    @field_validator("slot")
    @classmethod
    def _is_slot_name(cls, value: str) -> str:
        if not re.fullmatch("[a-z0-9_]{1,63}", value):
            raise ValueError("a slot's name has lower-case letters, digits and _ only, at most 63")
        return value

    @property
    def default_schema(self) -> str:
        """The schema of tables that a projection names without one."""
        return self.search_schema

    @cached_property
    def conninfo(self) -> str:
        """The primary's URL, for libpq."""
        assert self.url is not None
        return _plain_url(self.url)

    @cached_property
    def read_conninfo(self) -> str:
        """The URL that documents are read from, for libpq."""
        return _plain_url(self.read_url) if self.read_url else self.conninfo


def _plain_url(url: SecretStr) -> str:
    """Leave out the driver that SQLAlchemy's URLs name: postgresql+psycopg://."""
    return re.sub(r"^postgres(?:ql)?(?:\+\w+)?://", "postgresql://", url.get_secret_value())
