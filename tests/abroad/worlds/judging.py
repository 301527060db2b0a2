"""What differs between a hash and what it should hold."""

from __future__ import annotations

import json
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
            yield f"{identity!r} is in quarantine: {quarantined[identity]}; it is {document}"
        elif identity not in stored:
            yield f"{identity!r} is missing; it is {document}"
        else:
            yield from _unlike(identity, stored[identity], document)
    for identity, value in stored.items():
        if identity not in wanted.documents and identity not in unsure:
            yield f"{identity!r} is an orphan: {value!r:.300}"
    for identity, reason in quarantined.items():
        if identity not in unsure:
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
    if _exact(found) == _exact(document):
        return
    for name in {**document, **found}:
        left, right = found.get(name, "nothing"), document.get(name, "nothing")
        if _exact(left) != _exact(right):
            yield f"{identity!r} field {name!r}: {left!r:.600}, not {right!r:.600}"


def _exact(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
