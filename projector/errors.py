"""Failures, told apart by what must be done about them.

Transient failures are retried by the daemon alone; failures that need an operator end with the
remedy; anything else is a bug and ends the process with its traceback.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses of the command line (sysexits are not used: few shells' users know them)."""

    OK = 0
    DIFFERENT = 1  # a comparison or a check found something
    USAGE = 2  # wrong option, setting or projection: restarting does not help
    REFUSED = 3  # a server's state forbids it, or there is nothing to talk to: see the message
    BUG = 70  # an unforeseen error, with its traceback


class ProjectorError(Exception):
    """Any failure that this program foresees."""


class TransientError(ProjectorError):
    """A peer is away or busy: try again with backoff. `peer` is `mysql`, `postgres` or `redis`.

    `answered`: it is there and said "not now": the same connection's place, and the lease, may be
    kept while one waits.
    """

    def __init__(self, peer: str, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.peer = peer
        self.answered = answered


class TooMuchError(TransientError):
    """What was asked for takes too long or too much room: less at once may do."""


class OperatorError(ProjectorError):
    """Somebody has to act. The message says what is wrong, `remedy` what to do about it."""

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}. {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class RefusedError(OperatorError):
    """The database refuses a query: an account, a table, or the query is not as it should be.

    Somebody may have to act, or has just acted: privileges and tables come back. A command ends
    with it; a running daemon says it and waits.
    """

    peer = "mysql"


class DeniedError(RefusedError):
    """Redis refuses this account: rules are changed in several steps, and may be right soon."""

    peer = "redis"


class ValueRefusedError(RefusedError):
    """A row's value makes a query fail: perhaps that of one document alone."""


class ConfigurationError(OperatorError):
    """A setting, an option or the projection is wrong."""

    exit_code = ExitCode.USAGE


class PositionLostError(ProjectorError):
    """The log cannot be read on from the checkpoint: purged, reset, or another server's log."""


class FencedError(ProjectorError):
    """Redis refused the write: the lease is another's, or the checkpoint is not the one known."""


class UndecodableLogError(OperatorError):
    """The log holds something that must not be skipped and that this version cannot read."""


class DocumentRefusedError(ProjectorError):
    """The store takes the others, but not these documents."""

    def __init__(self, ids: frozenset[str], reason: str) -> None:
        super().__init__(reason)
        self.ids = ids
        self.reason = reason
