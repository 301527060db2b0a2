"""What JSON Schema says of one value that is not NULL in the database: each form has its shape.

Never says more than the form's encoders keep to, whatever the server sends them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Shape = Mapping[str, Any]

ANYTHING: Shape = {}
TEXT: Shape = {"type": "string"}
WHOLE: Shape = {"type": "integer"}
FLOATING: Shape = {"type": "number"}
BOOLEAN: Shape = {"type": "boolean"}
# The exponent is of a float that is declared a decimal.
DECIMAL: Shape = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?(E[-+][0-9]+)?$"}
INSTANT: Shape = {"type": "string", "format": "date-time"}
DATE: Shape = {"type": "string", "format": "date"}
TIME: Shape = {"type": "string", "pattern": r"^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?$"}
UUID: Shape = {"type": "string", "format": "uuid"}
BASE64: Shape = {"type": "string", "contentEncoding": "base64"}
HMAC: Shape = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def one_of(values: Iterable[object]) -> Shape:
    """One of these and no other; `true` and 1 are two values."""
    return {"enum": [json.loads(said) for said in dict.fromkeys(map(json.dumps, values))]}


def array(items: Shape, at_most: int | None = None) -> Shape:
    """An array of one kind of values."""
    limit = {} if at_most is None else {"maxItems": at_most}
    return {"type": "array", "items": items, **limit}


def any_of(shapes: Iterable[Shape]) -> Shape:
    """What has one of several shapes."""
    found: list[Shape] = []
    for shape in shapes:
        if shape == ANYTHING:
            return ANYTHING
        if shape not in found:
            found.append(shape)
    return found[0] if len(found) == 1 else {"anyOf": found}


def or_null(shape: Shape) -> Shape:
    """The same, or null."""
    if "enum" in shape:
        return one_of([*shape["enum"], None])
    if "anyOf" in shape:
        return any_of([*shape["anyOf"], {"type": "null"}])
    if isinstance(shape.get("type"), str):
        return {**shape, "type": [shape["type"], "null"]}
    return shape  # null is within
