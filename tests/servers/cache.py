"""The folder kept between runs, and locks in it.

Always build beside the final name and rename, under a lock: a folder with its final name is
complete.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """`$PROJECTOR_SERVERS_DIR`, else `~/.cache/projector-servers`: programs and templates."""
    named = os.environ.get("PROJECTOR_SERVERS_DIR")
    folder = Path(named) if named else Path.home() / ".cache" / "projector-servers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the named lock against every other process and thread; the kernel frees it if we die."""
    with open(cache_folder() / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
