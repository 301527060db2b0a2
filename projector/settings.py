"""Settings: read from environment, files and secrets once, checked, frozen.

The only reader of the environment. Never holds a secret in a field that prints itself, and never
repeats a value in an error message: a secret may stand where it does not belong.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import (
    Field,
    PositiveFloat,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from projector.databases import Mysql, Seconds, Section, Source
from projector.errors import ConfigurationError
from projector.variables import nearest, paths, unknown, variable

Count = Annotated[int, Field(ge=1, le=1_000_000)]
REFERENCE = "schema.projection:tickets"  # the repository's helpdesk; the package lacks it


class Redis(Section):
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
    timeout_s: Seconds = Field(5.0, description="limit for an answer")
    lease_ttl_s: Annotated[float, Field(ge=1.0, le=86400)] = Field(
        5.0, description="how long a silent leader keeps its lease"
    )

    @field_validator("url")
    @classmethod
    def _is_redis_url(cls, value: SecretStr) -> SecretStr:
        secret = value.get_secret_value()
        try:
            url = urlsplit(secret)
            if "," not in url.netloc:  # Sentinels: each with its own port
                _ = url.port
            port_is_zero = any(port == 0 for _, port in _hosts(secret))
        except ValueError:
            # from None: the message would repeat a part of the URL, which may be the password
            raise ValueError(
                "the URL's port is not a number; write redis://:password@host:6379/1,"
                " with / @ : # ? % in the password percent-encoded"
            ) from None
        if url.scheme not in {"redis", "rediss", "unix"} or port_is_zero:
            raise ValueError("not a Redis URL; write redis://host:6379/1")
        if url.scheme != "unix" and not (url.path.strip("/") or "0").isdecimal():
            raise ValueError("the URL's database is not a number; write redis://host:6379/1")
        if url.scheme == "unix" and not url.path.strip("/"):
            raise ValueError("the URL names no socket; write unix:///run/redis.sock?db=1")
        _refuse_parameters(url)
        return value

    @property
    def hosts(self) -> list[tuple[str, int | None]]:
        """Hosts and ports of the URL: several where it lists Sentinels."""
        return _hosts(self.url.get_secret_value())

    @model_validator(mode="after")
    def _tls_is_consistent(self) -> Redis:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together: give both or neither")
        plain = not self.url.get_secret_value().startswith("rediss://")
        if plain and (self.ca or self.cert):
            raise ValueError("ca, cert and key need TLS: write the URL with rediss://")
        return self


def _hosts(url: str) -> list[tuple[str, int | None]]:
    """Take `h1:p1,[::1]:p2` out of a URL. Raises ValueError."""
    netloc = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    parts = [urlsplit(f"//{host}") for host in netloc.split(",")]
    return [(part.hostname or "localhost", part.port) for part in parts]


def _refuse_parameters(url: SplitResult) -> None:
    """The driver would take what stands after the ? for arguments of its own."""
    parameters = dict(parse_qsl(url.query, keep_blank_values=True))
    database = parameters.pop("db", "0") if url.scheme == "unix" else "0"
    if parameters or url.fragment:
        raise ValueError(
            "the URL has parameters after the ? or #; leave them out: TLS, time limits and Sentinel"
            " have settings of their own (and ? or # in a password is percent-encoded)"
        )
    if not database.isdecimal():
        raise ValueError("the URL's database is not a number; write unix:///run/redis.sock?db=1")


class Http(Section):
    """Metrics, health and status page."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(9108, description="port; 0: any free one")
    ready_max_lag_s: PositiveFloat = Field(30.0, description="/readyz fails while lag is above")
    live_timeout_s: PositiveFloat = Field(
        90.0, description="/livez fails when the loop has not gone round for so long"
    )


class Log(Section):
    """Logs, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level")
    format: Literal["console", "json"] = Field(
        default_factory=lambda: "console" if sys.stderr.isatty() else "json",
        description="console for people, json for machines",
    )

    @field_validator("level", "format", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class Reconcile(Section):
    """Walks over all documents."""

    chunk_documents: Count = Field(1000, description="documents a chunk, at most")
    yield_at_lag_s: PositiveFloat = Field(2.0, description="a walk rests while lag is above")
    scrub_interval_s: Annotated[float, Field(ge=0, le=1e9)] = Field(
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
        allow_inf_nan=False,
        nested_model_default_partial_update=True,
    )

    mysql: Mysql = Mysql()
    source: Source = Source()
    redis: Redis = Redis()
    projection: str = Field(
        REFERENCE,
        description="module:attribute or path/to/file.py:attribute of the projection; several are"
        " separated by commas, a path in a TOML file begins at that file",
    )
    http: Http = Http()
    log: Log = Field(default_factory=Log)
    reconcile: Reconcile = Reconcile()
    batch_max_documents: Count = Field(500, description="documents a batch, at most")
    fanout_max_documents: Count = Field(
        2000, description="a change that touches more documents is worked off behind newer ones"
    )
    compiled: bool = Field(True, description="use the compiled core where it is installed")
    change_feed_max_length: Annotated[int, Field(ge=0, le=2**53)] = Field(
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
        """Order the sources: environment, secrets, .env, then what `load` passes in (the file).

        A secret's file is named like the variable, in any case, with or without the prefix.
        """
        return env_settings, *_secrets(file_secret_settings), dotenv_settings, init_settings

    @property
    def is_postgres(self) -> bool:
        """Whether the source is PostgreSQL."""
        return self.source.url is not None

    @property
    def database(self) -> Mysql | Source:
        """The section of the database that is in use."""
        return self.source if self.is_postgres else self.mysql

    @model_validator(mode="after")
    def _has_one_source(self) -> Settings:
        if self.mysql.url is None and self.source.url is None:
            raise ValueError("PROJECTOR_MYSQL__URL: is not set (PostgreSQL: PROJECTOR_SOURCE__URL)")
        if self.mysql.url is not None and self.source.url is not None:
            raise ValueError("PROJECTOR_MYSQL__URL and PROJECTOR_SOURCE__URL: set one of them only")
        return self

    @model_validator(mode="after")
    def _probe_waits_for_servers(self) -> Settings:
        patience = self.database.connect_timeout_s + self.database.read_timeout_s
        if self.http.live_timeout_s <= patience:
            name = self.database.brand
            raise ValueError(
                f"PROJECTOR_HTTP__LIVE_TIMEOUT_S: must be above {patience:g}, the sum of {name}'s"
                f" connect and read timeouts, or a dead {name} would get this process restarted"
            )
        return self


def _secrets(files: PydanticBaseSettingsSource) -> tuple[NestedSecretsSettingsSource, ...]:
    bare = NestedSecretsSettingsSource(files, secrets_prefix="")
    return NestedSecretsSettingsSource(files), bare


def load(config: Path | None = None) -> Settings:
    """Read the settings; `config` is a TOML file. Raises ConfigurationError without any value."""
    from_file = _from_file(config)
    secrets = _secrets_folder()
    try:
        return Settings(_secrets_dir=secrets, **from_file)
    except ValidationError as error:
        raise ConfigurationError(
            _explain(error), "See the README, section Configuration."
        ) from None
    except SettingsError as error:  # a section as one value that is not JSON; names no value
        raise ConfigurationError(str(error), "See the README, section Configuration.") from None
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {error.filename}: {error.strerror}", "Let this user read the file."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(
            "a file of settings or secrets is not UTF-8", "Write it as text."
        ) from None


def by_source(config: Path | None = None) -> list[tuple[str, Mapping[str, Any]]]:
    """Return what each source says, the one that wins first, unchecked: secrets in clear.

    Raises ConfigurationError for a source that cannot be read.
    """
    folder = _secrets_folder()
    file = _from_file(config)
    try:
        secrets = _secrets(SecretsSettingsSource(Settings, secrets_dir=folder or None))
        return [
            ("environment", EnvSettingsSource(Settings)()),
            *((f"secret in {folder}", source()) for source in secrets),
            (".env", DotEnvSettingsSource(Settings)()),
            (str(_config(config)), file),
        ]
    except (SettingsError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(error), "Let this user read it, as UTF-8.") from None


def _config(config: Path | None) -> Path | None:
    return config or (Path(p) if (p := os.environ.get("PROJECTOR_CONFIG")) else None)


def _from_file(config: Path | None) -> dict[str, Any]:
    path = _config(config)
    return _read_toml(path) if path else {}


def _secrets_folder() -> str | None:
    folder = os.environ.get("PROJECTOR_SECRETS_DIR") or None
    if folder and not Path(folder).is_dir():
        raise ConfigurationError(
            f"PROJECTOR_SECRETS_DIR: {folder} is not a folder", "Mount it or unset the variable."
        )
    return folder


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}", "Name an existing TOML file."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}", "Mend the file.") from None
    unknown = sorted(values.keys() - Settings.model_fields.keys())
    if unknown:
        raise ConfigurationError(
            f"{path}: no such setting: {', '.join(unknown)}", "Correct or remove it."
        )
    if isinstance(projection := values.get("projection"), str):
        values["projection"] = _beside(path, projection)
    return values


def names_file(projection: str) -> bool:
    """Return whether `file:attribute` is meant, not `module:attribute`."""
    place = projection.rpartition(":")[0]
    return place.endswith(".py") or "/" in place


def _beside(config: Path, projection: str) -> str:
    """Let paths of files begin at the folder of the TOML file."""
    names = (name.strip() for name in projection.split(","))
    folder = os.path.abspath(config.parent)
    return ",".join(os.path.join(folder, name) if names_file(name) else name for name in names)


def _explain(error: ValidationError) -> str:
    """One line a wrong setting: its name and what is wrong, without the value."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        place = problem["loc"]
        name = variable([str(part) for part in place])
        wrong = {"missing": "is not set", "extra_forbidden": "no such setting"}.get(
            problem["type"], problem["msg"].removeprefix("Value error, ")
        )
        if problem["type"] == "extra_forbidden":
            meant = nearest(name, map(variable, paths(Settings)))
            wrong += f"; did you mean {meant}?" if meant else ""
        lines.append(f"{name}: {wrong}" if place else wrong)
    return "; ".join(lines)


def unknown_variables() -> dict[str, str | None]:
    """Find variables of the environment that set nothing, each with the setting probably meant."""
    return unknown(os.environ, Settings)


def projection_setting(config: Path | None = None) -> str:
    """Return the projection's setting alone, for commands that need no server."""
    from_file = _from_file(config).get("projection")
    default: str = Settings.model_fields["projection"].default
    from_env_file = DotEnvSettingsSource(Settings)().get("projection")
    return os.environ.get("PROJECTOR_PROJECTION") or from_env_file or from_file or default


def is_postgres_named(config: Path | None = None) -> bool:
    """Return whether PostgreSQL is set as the source, for commands that need no server."""
    for _, values in by_source(config):
        section = values.get("source")
        if isinstance(section, Mapping) and section.get("url"):
            return True
    return False
