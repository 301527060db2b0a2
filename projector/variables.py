"""Names of settings as environment variables, and what mistyped ones probably mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

from pydantic import BaseModel

# Other programs' names of ours: tests, and what Kubernetes announces of a Service of this name.
_OTHERS = re.compile(
    "PROJECTOR_(CONFIG|SECRETS_DIR|SERVERS_DIR|TEST_.*"
    r"|SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)"
)


def variable(path: Sequence[str]) -> str:
    """Return the environment variable of a setting: PROJECTOR_HTTP__PORT of `http`, `port`."""
    return "PROJECTOR_" + "__".join(part.upper() for part in path)


def paths(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every setting of a model, those of its sections included."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from paths(kind, (*path, name))
        else:
            yield (*path, name)


def unknown(names: Iterable[str], model: type[BaseModel]) -> dict[str, str | None]:
    """Find variables that look like settings and are none, each with the one probably meant.

    Such a variable changes nothing, and nobody would notice.
    """
    known = {variable(path) for path in paths(model)}
    sections = {variable(path[:-1]) for path in paths(model)}
    found: dict[str, str | None] = {}
    for name in sorted(names):
        told = name.upper()
        is_ours = told.startswith("PROJECTOR_") and not _OTHERS.fullmatch(told)
        if is_ours and told not in known | sections:
            found[name] = nearest(told, known)
    return found


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the setting that a mistyped variable probably means, if any is near."""
    by_letters = {each.replace("_", ""): each for each in known}
    close = difflib.get_close_matches(name.upper().replace("_", ""), by_letters, 1, 0.8)
    return by_letters[close[0]] if close else None
