"""What differs between a hash and what it should hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.abroad.world import strict_json
from tests.abroad.worlds import oracle


def differences(
    wanted: oracle.Expected, stored: dict[str, bytes], quarantined: dict[str, str]
) -> Iterator[str]:
    unsure = wanted.ambiguous | wanted.impossible
    for identity, document in wanted.documents.items():
        if identity in unsure:
            continue
        if identity in quarantined:
            if _is_uncertain(document):
                continue
            yield f"{identity!r} is in quarantine: {quarantined[identity]}; it is {document}"
        elif identity not in stored:
            yield f"{identity!r} is missing; it is {document}"
        else:
            yield from _unlike(identity, stored[identity], document)
    for identity, value in stored.items():
        if identity not in wanted.documents and identity not in unsure:
            yield f"{identity!r} is an orphan: {value!r:.300}"
    for identity, reason in quarantined.items():
        if identity not in unsure and identity not in wanted.documents:
            yield f"{identity!r} is in quarantine without a reason: {reason}"
    for identity in wanted.impossible - wanted.ambiguous:
        if identity not in quarantined:
            yield f"{identity!r} has no JSON form and is not in quarantine"


def _unlike(identity: str, value: bytes, document: Any) -> Iterator[str]:
    try:
        found = strict_json(value)
    except (ValueError, AssertionError) as problem:
        yield f"{identity!r} is no JSON ({problem}): {value!r:.500}"
        return
    for name in {**document, **found}:
        left, right = found.get(name, "nothing"), document.get(name, "nothing")
        if not _is_like(left, right):
            yield f"{identity!r} field {name!r}: {left!r:.600}, not {right!r:.600}"


def _is_like(found: Any, wanted: Any) -> bool:
    """Whether two values are the same to the type: `True` is not 1, and 1.0 is not 1."""
    if wanted is oracle.ANYTHING:
        return True
    if type(found) is not type(wanted):
        return False
    if isinstance(found, dict):
        return found.keys() == wanted.keys() and all(
            _is_like(value, wanted[name]) for name, value in found.items()
        )
    if isinstance(found, list):
        return len(found) == len(wanted) and all(map(_is_like, found, wanted))
    return bool(found == wanted)


def _is_uncertain(document: Any) -> bool:
    """Whether a value in it may be anything, or nothing that JSON can say."""
    if isinstance(document, dict):
        return any(map(_is_uncertain, document.values()))
    if isinstance(document, list):
        return any(map(_is_uncertain, document))
    return document is oracle.ANYTHING
