"""Whether documents are as `projector schema` says, by a validator that is not the product's."""

import re
from collections.abc import Iterable
from typing import Any

import jsonschema

from projector.projection import Plan
from projector.projection.jsonschema import json_schema

_FORMATS = jsonschema.FormatChecker(["date", "uuid"])
_INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z"


@_FORMATS.checks("date-time")
def _is_instant(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(_INSTANT, value))


def assert_as_said(plan: Plan, documents: Iterable[Any]) -> None:
    """Each of these documents, parsed, has the plan's JSON Schema, its members in its order."""
    schema = json_schema(plan)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema, format_checker=_FORMATS)
    for document in documents:
        found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
        assert found == [], schema
        assert plan.projection.document or list(document) == list(schema["properties"])
