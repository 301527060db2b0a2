"""Ids of documents: from the key of a row to the field of the hash, as the projector writes it."""

import uuid
from collections.abc import Sequence

Part = int | str | bytes | uuid.UUID
DocumentId = Part | Sequence[Part]


def document_id(key: DocumentId) -> str:
    """Return the id of the row with this primary key.

    Whole numbers and text stand for themselves. Bytes are those of a binary column: 16 of them
    become a UUID, others hex. The parts of a composite key are joined with `:`; in them `%` and `:`
    are written `%25` and `%3A`. An id read from Redis or from a change is text, and stays as it is.
    """
    if isinstance(key, int | str | bytes | uuid.UUID):
        return _text(key)
    if len(key) < 2:
        raise TypeError("a composite key has at least two parts")
    return ":".join(_text(part).replace("%", "%25").replace(":", "%3A") for part in key)


def _text(part: Part) -> str:
    if isinstance(part, bytes):
        return str(uuid.UUID(bytes=part)) if len(part) == 16 else part.hex()
    if isinstance(part, int):
        return str(int(part))  # a bool is a TINYINT(1), and an IntEnum a number
    return str.__str__(part) if isinstance(part, str) else str(part)  # of a StrEnum its value
