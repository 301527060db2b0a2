"""The compiled core, if it is installed and wanted: `core`, else None.

`projector._native` stands in for the Python that splits rows, writes documents and takes the log
apart, byte for byte; its sources are in `csrc/`. Never needed: where no compiler was at hand when
this was installed, the Python does the work, at a third of the speed.
"""

from __future__ import annotations

from typing import Any

_VERSION = 3  # of csrc/module.c: raised with it when what is said between the two changes
_found: Any = None
_why_not = "not built: no compiler was at hand when projector was installed"
try:
    import projector._native as _found
except ModuleNotFoundError:
    pass
except ImportError as error:
    _why_not = f"cannot be loaded: {error}"

if _found is not None and _found.VERSION != _VERSION:  # an old build beside new sources
    _found, _why_not = None, "of another version: install projector again"

core: Any = _found


def use(*, wanted: bool) -> None:
    """Use the core from now on, if there is one, or do without it. Before any work is done."""
    global core  # noqa: PLW0603 (the one switch, thrown before any work)
    core = _found if wanted else None


def described() -> str:
    """Return whether it is in use, or why not."""
    if core is not None:
        return "in use"
    return "switched off by PROJECTOR_COMPILED" if _found is not None else _why_not
