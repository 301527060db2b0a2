"""Find the projections that a setting names."""

from __future__ import annotations

import importlib
import os
import sys

from projector.errors import ConfigurationError
from projector.projection.declaration import Projection
from projector.projection.plan import Plan


def load_projections(setting: str) -> list[Plan]:
    """Import each `module:attribute` of a comma-separated list. Raises ConfigurationError."""
    plans = [Plan(_load(name.strip())) for name in setting.split(",") if name.strip()]
    names = [plan.name for plan in plans]
    if not plans or len(set(names)) < len(names):
        raise ConfigurationError(
            f"PROJECTOR_PROJECTION={setting!r} must name one projection or more, each with a hash "
            "of its own",
            "Write module:attribute, separated by commas.",
        )
    return plans


def _load(name: str) -> Projection:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(
            f"PROJECTOR_PROJECTION: {name!r} is not of the form module:attribute",
            "For example schema.projection:tickets.",
        )
    if os.getcwd() not in sys.path:  # a console script's path lacks the working folder
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"PROJECTOR_PROJECTION: no module {error.name!r} can be imported",
            "Start in the folder that holds it, or set PYTHONPATH.",
        ) from None
    except Exception as error:  # whatever the user's module does wrong
        raise ConfigurationError(
            f"PROJECTOR_PROJECTION: {module_name} cannot be used: {type(error).__name__}: {error}",
            "Name an existing attribute; a column must be one of its table's columns.",
        ) from None
    if not isinstance(found, Projection):
        raise ConfigurationError(
            f"PROJECTOR_PROJECTION: {name} is a {type(found).__name__}, not a Projection",
            "Name the Projection object.",
        )
    return found
