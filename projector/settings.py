"""Settings: read from environment, files and secrets once, checked, frozen.

The only reader of the environment. Never holds a secret in a field that prints itself: URLs with
credentials are `SecretUrl`-like and show as `***`.
"""

from __future__ import annotations

import os
import socket
import sys
import tomllib
import zlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from projector.errors import ConfigurationError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(_Section):
    """TLS to MySQL. Any of the three turns it on; the server's certificate is always verified."""

    ca: Path | None = Field(None, description="CA file that the server's certificate must chain to")
    cert: Path | None = Field(None, description="client certificate")
    key: Path | None = Field(None, description="client key")

    @model_validator(mode="after")
    def _cert_with_key(self) -> Tls:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together: give both or neither")
        return self


class Mysql(_Section):
    """The database."""

    url: SecretStr = Field(description="SQLAlchemy URL of the primary whose binlog is read")
    read_url: SecretStr | None = Field(
        None, description="another server (a replica) to run the document queries on"
    )
    server_id: Annotated[int, Field(ge=1, le=2**32 - 1)] | None = Field(
        None, description="replica server id; derived, distinct per host and process, if not given"
    )
    tls: Tls = Tls()
    heartbeat_s: PositiveFloat = Field(1.0, description="how often an idle server says so")
    connect_timeout_s: PositiveFloat = Field(10.0, description="limit for a connection to stand")
    read_timeout_s: PositiveFloat = Field(30.0, description="limit for an answer to a query")
    on_position_lost: Literal["resync", "stop"] = Field(
        "resync", description="what to do when the log cannot be read on from the checkpoint"
    )

    @field_validator("url", "read_url")
    @classmethod
    def _is_mysql_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            url = make_url(value.get_secret_value())
        except (ArgumentError, ValueError):
            # from None: the driver's message would repeat the URL with its password
            raise ValueError("not a URL; write mysql+pymysql://user:password@host/database") from None
        if url.get_backend_name() not in {"mysql", "mariadb"}:
            raise ValueError("not a MySQL URL; write mysql+pymysql://user:password@host/database")
        if not url.database:
            raise ValueError("the URL names no database; add it: mysql+pymysql://user@host/database")
        return value

    @cached_property
    def parsed_url(self) -> URL:
        """The primary's URL."""
        return make_url(self.url.get_secret_value())

    @cached_property
    def parsed_read_url(self) -> URL:
        """The URL that documents are read from."""
        return make_url((self.read_url or self.url).get_secret_value())

    @property
    def replica_server_id(self) -> int:
        """The configured server id, or one derived from host and process, above the usual ones."""
        if self.server_id is not None:
            return self.server_id
        return zlib.crc32(f"{socket.gethostname()}:{os.getpid()}".encode()) | 0x8000_0000


class Redis(_Section):
    """Where documents go."""

    url: SecretStr = Field(
        SecretStr("redis://localhost:6379/1"), description="redis://, rediss:// or unix:// URL"
    )
    sentinel_master: str | None = Field(
        None, description="name of the master; the URL's host then lists Sentinels, h1:p1,h2:p2"
    )
    cluster: bool = Field(False, description="the URL's host is a node of a Redis Cluster")
    ca: Path | None = Field(None, description="CA file for rediss://")
    cert: Path | None = Field(None, description="client certificate for rediss://")
    key: Path | None = Field(None, description="client key for rediss://")
    timeout_s: PositiveFloat = Field(5.0, description="limit for an answer")
    lease_ttl_s: Annotated[float, Field(ge=1.0)] = Field(
        5.0, description="how long a silent leader keeps its lease"
    )

    @field_validator("url")
    @classmethod
    def _is_redis_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("not a Redis URL; write redis://host:6379/1")
        return value


class Http(_Section):
    """Metrics, health and status page."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(9108, description="port; 0: any free one")


class Log(_Section):
    """Logs, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level")
    format: Literal["console", "json"] = Field(
        default_factory=lambda: "console" if sys.stderr.isatty() else "json",
        description="console for people, json for machines",
    )


class Reconcile(_Section):
    """Walks over all documents."""

    chunk_documents: PositiveInt = Field(1000, description="documents a chunk, at most")
    yield_at_lag_s: PositiveFloat = Field(2.0, description="a walk rests while lag is above")
    scrub_interval_s: Annotated[float, Field(ge=0)] = Field(
        86400.0, description="time for one background pass of verify and repair; 0: off"
    )
    on_projection_change: Literal["resync", "stop"] = Field(
        "resync", description="what to do when the documents were made by another projection"
    )


class Settings(BaseSettings):
    """Everything that can be set. Environment wins over secrets folder, `.env`, TOML file."""

    model_config = SettingsConfigDict(
        env_prefix="PROJECTOR_",
        env_nested_delimiter="__",
        env_file=".env",
        extra="ignore",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    mysql: Mysql
    redis: Redis = Redis()
    projection: str = Field(
        "schema.projection:tickets",
        description="module:attribute of the projection; several are separated by commas",
    )
    http: Http = Http()
    log: Log = Field(default_factory=Log)
    reconcile: Reconcile = Reconcile()
    batch_max_documents: PositiveInt = Field(500, description="documents a batch, at most")
    fanout_max_documents: PositiveInt = Field(
        2000, description="a change that touches more documents is worked off behind newer ones"
    )
    change_feed_max_length: Annotated[int, Field(ge=0)] = Field(
        0, description="entries kept in the stream {name}:changes; 0: no stream"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: environment, secrets, .env, then what `load` passes in (the file)."""
        return env_settings, file_secret_settings, dotenv_settings, init_settings


def load(config: Path | None = None) -> Settings:
    """Read the settings; `config` is a TOML file. Raises ConfigurationError, never with a secret."""
    config = config or (Path(p) if (p := os.environ.get("PROJECTOR_CONFIG")) else None)
    secrets = os.environ.get("PROJECTOR_SECRETS_DIR")
    from_file = _read_toml(config) if config else {}
    if secrets and not Path(secrets).is_dir():
        raise ConfigurationError(
            f"PROJECTOR_SECRETS_DIR: {secrets} is not a folder", "Mount it or unset the variable."
        )
    try:
        return Settings(_secrets_dir=secrets, **from_file)
    except ValidationError as error:
        raise ConfigurationError(_explain(error), "See the README, section Configuration.") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}", "Name an existing TOML file."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}", "Mend the file.") from None


def _explain(error: ValidationError) -> str:
    """One line a wrong setting: its name and what is wrong, without the value."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        name = "PROJECTOR_" + "__".join(str(part).upper() for part in problem["loc"])
        lines.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
