"""Texts read back from the store, checked like any input: others can write there too.

Bytes that are no UTF-8 keep their identity as lone surrogates (PEP 383), so that what cannot be
read can still be named and removed.
"""

from __future__ import annotations

import json
import math
from typing import Any

_LATEST_S = 1e11  # seconds since the epoch; beyond, no time can be shown


def text_of(value: bytes) -> str:
    """Return bytes as text; `client` encodes it back to the same bytes."""
    return value.decode(errors="surrogateescape")


def printable(text: str) -> str:
    """Return a text that every terminal takes."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def read_object(text: str) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError for anything else."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def read_number(text: object, default: float = 0.0) -> float:
    """Return the finite number, at least 0, that a text spells; else `default`."""
    try:
        number = float(str(text))
    except ValueError:
        return default
    return number if math.isfinite(number) and 0 <= number < _LATEST_S else default


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
