"""Answers on standard output, and what becomes of those that cannot be written."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console

from projector.errors import ExitCode

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}


@contextmanager
def answers_written(err: Console) -> Iterator[None]:
    """See to it that what was printed is written: a full disk is nobody's bug."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        # Python would try again to write what is left, and fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        reason = os.strerror(error.errno or 0)
        with suppress(OSError):
            err.print(f"projector: the answer cannot be written: {reason}", soft_wrap=True)
        sys.exit(ExitCode.REFUSED)
