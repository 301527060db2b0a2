"""`projector settings`: what is set, by what, and a file to begin with. Never shows a secret."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape

from projector.settings import Settings, by_source, unknown_variables
from projector.variables import paths, variable

_WIDTH = 100
_HEAD = """\
# Settings of projector, each with its default. Take the # off a line to change it.
# Environment variables win over this file: PROJECTOR_MYSQL__URL is `url` under [mysql]. Secrets are
# better kept in the folder that PROJECTOR_SECRETS_DIR names, one file a variable.
"""
_EXAMPLES = {  # of what has no default
    "source.url": "postgresql://projector:password@db.internal/shop",
    "source.read_url": "postgresql://projector:password@standby.internal/shop",
    "source.owner_url": "postgresql://owner:password@db.internal/shop",
    "mysql.url": "mysql+pymysql://projector:password@db.internal/shop",
    "mysql.read_url": "mysql+pymysql://projector:password@replica.internal/shop",
    "mysql.server_id": 4711,
    "mysql.tls.ca": "/etc/projector/mysql-ca.pem",
    "mysql.tls.cert": "/etc/projector/mysql-client.pem",
    "mysql.tls.key": "/etc/projector/mysql-client.key",
    "redis.sentinel_master": "mymaster",
    "redis.ca": "/etc/projector/redis-ca.pem",
    "redis.cert": "/etc/projector/redis-client.pem",
    "redis.key": "/etc/projector/redis-client.key",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `value` None: not set, or nothing; `source`: who has set it."""

    path: tuple[str, ...]
    description: str
    default: Any
    value: Any
    source: str
    is_secret: bool
    is_required: bool

    @property
    def name(self) -> str:
        """The environment variable."""
        return variable(self.path)

    def report(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "name": self.name,
            "value": self.value,
            "default": self.default,
            "source": self.source,
            "secret": self.is_secret,
            "description": self.description,
        }


def every_setting(config: Path | None) -> list[Setting]:
    """Return all settings as they are now, wrong ones too. Raises ConfigurationError for a file
    that cannot be read."""
    sources = by_source(config)
    return [_setting(path, field, sources) for path, field in fields()]


def fields() -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield the path of every setting with its field."""
    for path in paths(Settings):
        model: Any = Settings
        for section in path[:-1]:
            model = model.model_fields[section].annotation
        yield path, model.model_fields[path[-1]]


def _setting(
    path: tuple[str, ...], field: FieldInfo, sources: Sequence[tuple[str, Mapping[str, Any]]]
) -> Setting:
    default = _plain(field.get_default(call_default_factory=True, validated_data={}))
    is_required = field.is_required()
    is_secret = "SecretStr" in str(field.annotation)
    value, source = None if is_required else default, "nobody" if is_required else "default"
    for said_by, values in sources:
        found = _find(values, path)
        if found is not None:
            value, source = _plain(found), said_by
            break
    if is_secret:
        value, default = masked(value), masked(None if is_required else default)
    return Setting(
        path, field.description or "", None if is_required else default, value, source,
        is_secret, is_required,
    )  # fmt: skip


def _find(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(values, Mapping):
            return None
        values = next((v for k, v in values.items() if k.lower() == name), None)
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return str(value) if isinstance(value, Path) else value


def masked(url: Any) -> str | None:
    """Write a URL without what may be secret: the password, and all that follows a ?."""
    if url is None:
        return None
    scheme, separator, rest = str(url).partition("://")
    if not separator:
        return "***"
    address, question, _ = rest.partition("?")
    account, at, place = address.rpartition("@")
    user, colon, _ = account.partition(":")
    if "#" in place:
        return f"{scheme}://***"
    is_user = colon or scheme.startswith(
        ("mysql", "mariadb", "postgres")
    )  # else perhaps a password alone
    shown = f"{user if is_user else '***'}{':***' if colon else ''}@" if at else ""
    return f"{scheme}://{shown}{place}{'?***' if question else ''}"


def unknown(name: str, meant: str | None) -> str:
    """Return the sentence that a variable sets nothing."""
    return f"{name} is no setting and changes nothing{f'; did you mean {meant}?' if meant else ''}"


def warn_of_unknown(others: Sequence[str] = ()) -> None:
    """Log variables that set nothing; `others` are known to be for something else (masks' keys)."""
    for name, meant in unknown_variables().items():
        if name not in others:
            structlog.get_logger().warning("unknown_setting", name=name, did_you_mean=meant)


def show(console: Console, settings: Sequence[Setting]) -> None:
    """Show one line a setting: its name, its value, who has set it."""
    width = max(len(setting.name) for setting in settings)
    for setting in settings:
        value = "-" if setting.value is None else str(setting.value)
        is_set = setting.source != "default"
        style = "bold" if is_set else "dim"
        console.print(
            f"[{style}]{setting.name:<{width}}[/{style}]  {escape(value)}  "
            f"[dim]({escape(setting.source)})[/dim]",
            soft_wrap=True,
            highlight=False,
        )


def sample() -> str:
    """Write a TOML file that holds every setting, commented out, with its default."""
    sections: dict[tuple[str, ...], list[str]] = {}
    for path, field in fields():
        lines = [f"# {line}\n" for line in textwrap.wrap(_said(field), _WIDTH - 2)]
        lines.append(f"# {path[-1]} = {_toml(path, field)}\n")
        sections.setdefault(path[:-1], []).append("".join(lines))
    plain = "\n".join(sections.pop(()))  # TOML wants what is in no section first
    tables = [f"[{'.'.join(name)}]\n\n" + "\n".join(of) for name, of in sections.items()]
    return "\n\n".join([f"{_HEAD}\n{plain}", *tables])


def _said(field: FieldInfo) -> str:
    said = field.description or ""
    notes = "Required" if field.is_required() else ""
    if not notes and field.default_factory is None and field.get_default() is None:
        notes = "Not set by default"
    if field.default_factory is not None:
        notes = "Depends on where it runs"
    if ":" not in said.partition(" ")[0]:
        said = said[:1].upper() + said[1:]
    return f"{said}.{f' {notes}.' if notes else ''}"


def _toml(path: tuple[str, ...], field: FieldInfo) -> str:
    """Write the default, or an example, as TOML: its strings, numbers and truths are JSON's."""
    name = ".".join(path)
    if name in _EXAMPLES:
        return json.dumps(_EXAMPLES[name])
    return json.dumps(_plain(field.get_default(call_default_factory=True, validated_data={})))
