"""One line of `projector check`, and what to say of a server that is away.

Never holds a secret: details quote servers and settings' names, not URLs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from projector.errors import TransientError

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was found, and what to do about it.

    `failed`: the daemon would not work, or would be wrong. `warning`: it works, but something that
    recovery, speed or security presume is missing. `name` is dotted: `mysql.log_bin`.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


def ok(name: str, detail: str) -> Check:
    """All is as it should be."""
    return Check(name, "ok", detail)


def warning(name: str, detail: str, fix: str) -> Check:
    """It works, and should be better."""
    return Check(name, "warning", detail, fix)


def failed(name: str, detail: str, fix: str) -> Check:
    """It must be mended first."""
    return Check(name, "failed", detail, fix)


def skipped(name: str, detail: str) -> Check:
    """Could not be looked at, or has no meaning here."""
    return Check(name, "skipped", detail)


def reason(error: TransientError) -> str:
    """Return what a peer's absence looks like from below: the library's words hold no
    credentials."""
    said, cause = str(error).rstrip("."), str(error.__cause__ or "").rstrip(".")
    return said if error.peer == "mysql" or cause in said else f"{said}: {cause}"


# What to do, by words that the system, the drivers or the servers use.
_WAYS = (
    (
        ("name or service", "getaddrinfo", "name resolution", "nodename"),
        "Correct the host in {}, or the machine's DNS: the name is not known.",
    ),
    (
        ("refused", "no such file"),
        "Start the server, or correct host and port in {}: nothing listens there.",
    ),
    (
        ("timed out", "timeout", "unreachable"),
        "Open the way there (firewall, routing), or correct the host in {}.",
    ),
    (
        ("no master found",),
        "Correct PROJECTOR_REDIS__SENTINEL_MASTER and the Sentinels in {}.",
    ),
    (
        ("too many connections", "max_user_connections"),
        "Raise max_connections, or MAX_USER_CONNECTIONS of the account.",
    ),
)


def way_there(text: str, setting: str) -> str:
    """Return what to do about a server that is away; `setting` names it."""
    lowered = text.lower()
    for words, way in _WAYS:
        if any(word in lowered for word in words):
            return way.format(setting)
    return f"See whether the server is up, and {setting}; then try again."


def numbered(version: str) -> tuple[int, ...]:
    """Read `10.11.19-MariaDB` as (10, 11, 19)."""
    parts = version.partition("-")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())
