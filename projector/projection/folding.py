"""One spelling for all texts that a collation calls equal, so that they can name one list.

The server says what each character weighs in a collation. Each weight is written as one character
of that weight, in lower case where there is a choice; a character that weighs as much as several is
written as these (`ß` as `ss` where the collation says so), one that weighs nothing is left out.
Right for collations that compare character by character; others are not folded at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from projector.projection.columns import ColumnType

_BY_CHARACTER = re.compile(
    r"(?:(?:utf8mb4|utf8mb3|utf8|latin1|ascii)_)"
    r"(?:general(?:_mysql500)?|unicode(?:_520)?|0900_ai|uca1400|swedish)(?:_nopad)?(?:_ai)?_ci"
)
_SAME_IN_ALL = "".join(map(chr, range(0x20, 0x7F)))  # printable ASCII: told apart, but for case
_IMPLICIT = range(0xFB00, 0xFC00)  # first of the two weights of an ideograph
_NAMELESS = 0xF0000  # private use: a weight that no single character has

_ANY_BEYOND = "\U0010fffd"  # for private use: equal to others only where all above U+FFFF are

Weight = tuple[int, ...]


@dataclass(frozen=True)  # no slots: for the cached property
class Folding:
    """`table`: what is written for a character, where that is not itself. `beyond`: what is written
    for any character above U+FFFF that is not in the table, "" for itself."""

    collation: str
    pads: bool
    table: Mapping[int, str]
    beyond: str = ""
    is_simple: bool = True  # printable ASCII is written in lower case

    def fold(self, text: str) -> str:
        """Return the one spelling of all texts that are equal to this one."""
        if self.is_simple and text.isascii() and text.isprintable():
            folded = text.lower()
        else:
            folded = text.translate(self.table)
            if self.beyond:
                folded = "".join(self.beyond if c >= "\U00010000" else c for c in folded)
        return folded.rstrip(" ") if self.pads else folded

    @cached_property
    def packed(self) -> str:
        """What readers get: JSON, compressed, in base64."""
        return base64.b64encode(zlib.compress(self._text.encode())).decode()

    @cached_property
    def mark(self) -> str:
        """Changes with what is written for any text."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:8]

    @property
    def _text(self) -> str:
        said = {
            "pads": self.pads,
            "beyond": self.beyond,
            "table": {chr(code): text for code, text in sorted(self.table.items())},
        }
        return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


Foldings = Mapping[str, Folding]  # by collation


def is_exact(kind: ColumnType) -> bool:
    """Whether only equal characters are equal to the collation, but for spaces at the end."""
    return (kind.collation or "").endswith("_bin") or kind.charset == "binary"


def is_foldable(kind: ColumnType) -> bool:
    """Whether the collation compares character by character."""
    return _BY_CHARACTER.fullmatch(kind.collation or "") is not None


def characters(charset: str) -> list[str]:
    """Return those whose weights are asked for: all of the character set but for ideographs that
    are equal to themselves alone."""
    if charset == "latin1":  # MySQL's is Windows' 1252
        every = [bytes([n]).decode("cp1252", "ignore") for n in range(1, 256)]
        return [c for c in every if c]
    if charset == "ascii":
        return list(map(chr, range(1, 128)))
    last = 0x110000 if charset == "utf8mb4" else 0x10000
    known = [
        c for c in map(chr, range(1, last))
        if unicodedata.category(c) not in {"Cn", "Co", "Cs"} and not _is_ideograph(c)
    ]  # fmt: skip
    parts = {part for c in known for part in unicodedata.normalize("NFKD", c)}
    wanted = {*known, *parts, "\ufffd", _ANY_BEYOND}
    return sorted(c for c in wanted if ord(c) < last)


def folding(kind: ColumnType, weights: Iterable[tuple[str, bytes]]) -> Folding:
    """Make a folding of what the server says each character weighs."""
    size = 1 if kind.charset in {"latin1", "ascii"} else 2
    by_character = {c: _atoms(weight, size) for c, weight in weights}
    names: dict[Weight, str] = {}  # of what weighs one atom, the character that is written
    for c in sorted(by_character, key=_preference):
        if len(by_character[c]) == 1:
            names.setdefault(by_character[c][0], c)
    table: dict[int, str] = {}
    for c, atoms in by_character.items():
        written = "".join(_named(atom, names) for atom in atoms)
        if written != c:
            table[ord(c)] = written
    beyond = table.get(ord(_ANY_BEYOND), "")
    if beyond:
        table = {code: text for code, text in table.items() if code < 0x10000}
    is_simple = all(table.get(ord(c), c) == c.lower() for c in _SAME_IN_ALL)
    return Folding(kind.collation or "", kind.pads, table, beyond, is_simple)


def _atoms(weight: bytes, size: int) -> Sequence[Weight]:
    units = [int.from_bytes(weight[at : at + size], "big") for at in range(0, len(weight), size)]
    atoms: list[Weight] = []
    while units:
        count = 2 if size == 2 and units[0] in _IMPLICIT and len(units) > 1 else 1
        atoms.append(tuple(units[:count]))
        del units[:count]
    return atoms


def _named(atom: Weight, names: Mapping[Weight, str]) -> str:
    return names.get(atom) or "".join(chr(_NAMELESS + unit) for unit in atom)


def _preference(c: str) -> tuple[bool, bool, str]:
    return not c.isascii(), c != c.lower(), c


def _is_ideograph(c: str) -> bool:
    return unicodedata.name(c, "").startswith(("CJK UNIFIED", "TANGUT", "NUSHU", "KHITAN"))
