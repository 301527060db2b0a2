"""From a statement's bytes to tokens, in the character set and SQL mode that it was written in.

Linear in time; makes objects of names, words and marks, but steps over literals and numbers in
bulk: a statement of many megabytes is nearly all literals. A text whose character set or mode is
not known is read in every way that it may be meant.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple

_ANSI_QUOTES: Final = 1 << 2  # sql/query_options.h, sql/sql_class.h: MODE_ANSI_QUOTES
_MSSQL: Final = 1 << 10  # MariaDB: [names] in brackets
_NO_BACKSLASH_ESCAPES: Final = 1 << 20

# Collations by number (SELECT id, character_set_name FROM information_schema.collations) of the
# character sets that a client can speak, with Python's codec; UTF-8 for what is not named.
_IDS_BY_CODEC: Final = {
    "big5hkscs": (1, 84), "iso8859-2": (2, 9, 21, 27, 77), "cp850": (4, 80),
    "cp1252": (5, 8, 15, 31, 47, 48, 49, 94), "hp-roman8": (6, 72), "koi8-r": (7, 74),
    "ascii": (11, 65), "euc-jp": (12, 91, 97, 98), "cp932": (13, 88, 95, 96),
    "cp1251": (14, 23, 50, 51, 52), "iso8859-8": (16, 71), "tis-620": (18, 89),
    "cp949": (19, 85), "koi8-u": (22, 75), "gb2312": (24, 86), "iso8859-7": (25, 70),
    "cp1250": (26, 34, 44, 66, 99), "gbk": (28, 87), "cp1257": (29, 58, 59),
    "iso8859-9": (30, 78), "cp866": (36, 68), "mac-latin2": (38, 43), "mac-roman": (39, 53),
    "cp852": (40, 81), "iso8859-13": (20, 41, 42, 79), "cp1256": (57, 67),
    "gb18030": (248, 249, 250),
}  # fmt: skip
# Of eight bits, and Python does not know them: dec8, swe7, armscii8, keybcs2, geostd8.
_UNKNOWN: Final = frozenset({3, 69, 10, 82, 32, 64, 37, 73, 92, 93})
_CODEC_BY_ID: Final = {i: codec for codec, ids in _IDS_BY_CODEC.items() for i in ids}
_NOPAD: Final = (
    1024  # MariaDB's collations that do not pad have the number of those that do, and this
)

UNREADABLE: Final = "\ufffd"  # stands for a character that nobody can tell


class Session(NamedTuple):
    """What a query event says of the session that it was written in; None: it does not say."""

    charset: int | None = None  # number of a collation of the client's character set
    mode: int | None = None


class Token(NamedTuple):
    """A word, a name or a mark of a statement."""

    word: str  # upper case for an unquoted word, else empty
    name: str  # what it is as a name; empty for marks and texts
    mark: str


@dataclass(frozen=True, slots=True)
class Text:
    """One reading of a statement: its characters, how names are quoted, what escapes."""

    sql: str
    ansi_quotes: bool | None  # None: either
    brackets: bool
    escapes: bool  # a backslash does, in a text

    def tokens(self, *, names_only: bool = False) -> Iterator[Token]:
        """Return the tokens; a text or number as the mark `'`. With `names_only` all marks but dots
        and a few commas are left out."""
        pattern = _pattern(self.escapes, self.ansi_quotes, self.brackets, names_only)
        for match in pattern.finditer(self.sql):
            kind = match.lastgroup
            if kind is None:
                continue
            value = match.group()
            if kind == "word":
                yield Token(value.upper(), value, "")
            elif kind == "quoted":
                end = "]" if value[0] == "[" else value[0]
                yield Token("", value[1:-1].replace(end * 2, end), "")
            elif kind == "literal":
                yield Token("", "", "'")
            else:
                yield Token("", "", value)


def readings(text: bytes, session: Session) -> Iterator[Text]:
    """Return every way in which a statement may be meant."""
    sqls = _decoded(text, session.charset)
    mode = session.mode
    escapes = [True, False] if mode is None else [not mode & _NO_BACKSLASH_ESCAPES]
    if b"\\" not in text:
        escapes = escapes[:1]
    for sql, escape in product(sqls, escapes):
        ansi = None if mode is None else bool(mode & _ANSI_QUOTES)
        yield Text(sql, ansi, mode is not None and bool(mode & _MSSQL), escape)


def _decoded(text: bytes, charset: int | None) -> list[str]:
    """Read the text in the client's character set, and in UTF-8 where it is that too: statements
    that the server makes itself are, whatever the client speaks."""
    codec = _codec(charset)
    if text.isascii():
        return [text.decode("ascii")]
    found = []
    for each in dict.fromkeys([codec, "utf-8"]):
        try:
            found.append(text.decode(each))
        except UnicodeDecodeError:
            continue
    return found or [text.decode(codec, "replace")]


def _codec(charset: int | None) -> str:
    if charset in _UNKNOWN:
        return "ascii"
    number = (charset or 0) % _NOPAD if (charset or 0) < 2 * _NOPAD else 0
    return _CODEC_BY_ID.get(number, "utf-8")


@functools.cache
def _pattern(
    escapes: bool, ansi_quotes: bool | None, brackets: bool, names_only: bool
) -> re.Pattern[str]:
    """Write the expression for a reading. Repetitions are possessive: nothing is tried twice, so
    that time is linear in the text, whatever it is."""
    inside, escape = (r"\\", r"|\\.") if escapes else ("", "")
    texts = [rf"'(?:[^'{inside}]++{escape}|'')*+'"]
    double = rf"\"(?:[^\"{inside}]++{escape}|\"\")*+\""
    names = [r"`(?:[^`]++|``)*+`"]
    if ansi_quotes is False:
        texts.append(double)
    else:
        names.append(r"\"(?:[^\"]++|\"\")*+\"" if ansi_quotes else double)
    if brackets:
        names.append(r"\[(?:[^\]]++|\]\])*+\]")
    word = r"[\w$\u0080-\U0010ffff]"
    number = rf"[0-9]++(?!{word})"
    literal = "|".join([number, *texts])
    # What is in /*! */ is code to some server: only the marks are left out, the words are kept.
    comment = r"/\*(?!M?!)(?s:.*?)(?:\*/|\Z)|(?:--(?=[\s\x00-\x1f]|$)|\#)[^\n]*+|/\*M?!\d*+|\*/"
    if names_only:
        # The most frequent first. A comma parts names where a dot follows; reserved words are none.
        dull = r"[\s()=<>!+;:%&|^~?{}@]++|,(?!\s*+\.)"
        reserved = rf"(?<!\.)(?:NULL|null|DEFAULT|default)(?!{word})"
        skipped = rf"(?:{dull}|{literal}|{reserved}|{comment}|[-*/])++"
        return re.compile(
            rf"{skipped}|(?P<quoted>{'|'.join(names)})|(?P<word>{word}++)|(?P<mark>[.,])|.",
            re.DOTALL,
        )
    return re.compile(
        rf"\s++|(?P<literal>{literal})|(?P<word>{word}++)|(?P<quoted>{'|'.join(names)})|{comment}"
        rf"|(?P<mark>.)",
        re.DOTALL,
    )
