"""Find the projections that a setting names: attributes of modules, or of files by their path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import zlib
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from projector.errors import ConfigurationError
from projector.projection.declaration import Projection
from projector.projection.dialect import Dialect
from projector.projection.plan import Plan
from projector.settings import REFERENCE, names_file

WRITE_ONE = (  # to whom has none yet
    "`projector scaffold TABLE > shop.py` writes one for a table of yours; then set"
    " PROJECTOR_PROJECTION=shop.py:documents."
)


def load_projections(setting: str, dialect: Dialect) -> list[Plan]:
    """Import each of a comma-separated list: `module:attribute` or `/path/to/file.py:attribute`.

    A path that is not absolute begins at the working folder. Raises ConfigurationError.
    """
    plans = [Plan(_load(name.strip()), dialect) for name in setting.split(",") if name.strip()]
    names = [plan.name for plan in plans]
    if not plans or len(set(names)) < len(names):
        raise ConfigurationError(
            f"PROJECTOR_PROJECTION={setting!r} must name one projection or more, each with a hash "
            "of its own",
            "Write module:attribute or path/to/file.py:attribute, separated by commas.",
        )
    return plans


def _load(name: str) -> Projection:
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise ConfigurationError(
            f"PROJECTOR_PROJECTION: {name!r} is not of the form module:attribute"
            " or path/to/file.py:attribute",
            "For example shop:documents, or /etc/projector/shop.py:documents.",
        )
    try:
        module = _of_file(Path(place)) if names_file(name) else _of_name(place)
        found = getattr(module, attribute)
    except ModuleNotFoundError as error:
        raise _not_found(name, error) from None
    except ConfigurationError:
        raise
    except Exception as error:  # whatever the user's module does wrong
        raise ConfigurationError(
            f"PROJECTOR_PROJECTION: {place} cannot be used: {type(error).__name__}: {error}",
            "Name an existing attribute; a column must be one of its table's columns.",
        ) from None
    if not isinstance(found, Projection):
        raise ConfigurationError(
            f"PROJECTOR_PROJECTION: {name} is a {type(found).__name__}, not a Projection",
            "Name the Projection object.",
        )
    return found


def _of_name(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:  # a console script's path lacks the working folder
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def _of_file(path: Path) -> ModuleType:
    """Import a file, once; its neighbours can be imported from it by their names."""
    path = Path(os.path.abspath(path))  # links stay: a mounted ConfigMap is made of them
    name = f"_projection_{zlib.crc32(str(path).encode()):08x}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    try:
        path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"PROJECTOR_PROJECTION: cannot read {path}: {error.strerror}",
            "Name a file that exists and that this user may read.",
        ) from None
    if str(path.parent) not in sys.path:  # last: a neighbour must not hide a package
        sys.path.append(str(path.parent))
    loader = _Loader(name, str(path))
    module = ModuleType(name)
    spec = importlib.util.spec_from_loader(name, loader)
    module.__spec__, module.__file__ = spec, str(path)
    sys.modules[name] = module  # what it declares (Pydantic models) looks for its module there
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Loader(SourceFileLoader):
    """Imports a source file and leaves no __pycache__ beside the user's settings."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Keep nothing."""


def _not_found(name: str, error: ModuleNotFoundError) -> ConfigurationError:
    if name == REFERENCE and str(error.name).partition(".")[0] == "schema":
        return ConfigurationError("PROJECTOR_PROJECTION is not set", WRITE_ONE)
    return ConfigurationError(
        f"PROJECTOR_PROJECTION: no module {error.name!r} can be imported",
        "Start in the folder that holds it, set PYTHONPATH, or name the file: shop.py:documents.",
    )
