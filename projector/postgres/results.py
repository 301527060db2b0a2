"""From PostgreSQL's text of a value to what the projection's encoders read, by the type's OID.

Holds for the session that `connection` states. Most values are as the encoders want them; bool,
bytea, moments and arrays are written otherwise, and here brought into that form. Values of the log
only look for rows: they stay as the server writes them, but for what ids are made of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from projector import compiled
from projector.projection.encoding import Promise, Promises, Raw, SentRows

Fix = Callable[[bytes], bytes]  # brings a value into the form that encoders read
Ask = Callable[[str], Sequence[Sequence[str | None]]]  # runs a query; gives rows of texts

# OIDs of built-in types: src/include/catalog/pg_type.dat.
BOOL: Final = 16
BYTEA: Final = 17
_TIMESTAMP, _TIMESTAMPTZ = 1114, 1184
WHOLE_NUMBERS: Final = frozenset({20, 21, 23, 26})  # int8, int2, int4, oid
_TEXTS = frozenset({18, 19, 25, 1042, 1043})  # "char", name, text, bpchar, varchar
# Those of which nothing is promised: json, xml, float4, float8, date, time, timetz, interval,
# numeric, uuid, jsonb, inet, cidr, macaddr, macaddr8, money, bit, varbit, pg_lsn.
_PLAIN = frozenset({
    114, 142, 700, 701, 1082, 1083, 1266, 1186, 1700, 2950, 3802, 869, 650, 829, 774, 790, 1560,
    1562, 3220,
})  # fmt: skip
KNOWN: Final = (
    _TEXTS | _PLAIN | WHOLE_NUMBERS | {BOOL, BYTEA, _TIMESTAMP, _TIMESTAMPTZ}
)  # what needs no look into the catalog

_PROMISES: Final = {
    **dict.fromkeys(WHOLE_NUMBERS, Promise.WHOLE),
    **dict.fromkeys(_TEXTS, Promise.TEXT),
    BOOL: Promise.WHOLE,
    _TIMESTAMP: Promise.INSTANT,
    _TIMESTAMPTZ: Promise.STAMP,
}
_ZONE = b"+00"  # of UTC, which the session states
_ODD = b"!"  # before what no encoder may take for a moment


def boolean(value: bytes) -> bytes:
    """`t` or `f` to a whole number."""
    return b"1" if value == b"t" else b"0"


def unhexed(value: bytes) -> bytes:
    r"""`\xdeadbeef` to the bytes."""
    return bytes.fromhex(value[2:].decode())


def moment(value: bytes) -> bytes:
    """A timestamp as encoders know it. `infinity`, years before Christ and beyond 9999 have no such
    form, and get one that each of them refuses."""
    if value[4:5] != b"-" or value[-1:] == b"C":
        return _ODD + value
    return value


def moment_of_zone(value: bytes) -> bytes:
    """The same of a timestamptz: always in UTC."""
    return moment(value[:-3] if value.endswith(_ZONE) else value)


_FIXES: Final[Mapping[int, Fix]] = {
    BOOL: boolean,
    BYTEA: unhexed,
    _TIMESTAMP: moment,
    _TIMESTAMPTZ: moment_of_zone,
}


# What the compiled core has, too (csrc/results.c).
_COMPILED: Final[Mapping[Fix | None, int]] = {None: 0, boolean: 1, moment: 2, moment_of_zone: 3}


class Kinds:
    """What types are that no list has: those of extensions and users, domains, and all arrays.

    Looked up once. For one session of one database, whose types keep their OIDs.
    """

    def __init__(self) -> None:
        self._base: dict[int, int] = {}
        self._element: dict[int, int] = {}
        self._texts: set[int] = set()

    def need(self, oids: Iterable[int], ask: Ask) -> None:
        """Look up what is not known yet of these types, of their bases and elements."""
        while missing := {oid for oid in oids if oid not in KNOWN and oid not in self._base}:
            rows = ask(_LOOK_UP.format(",".join(map(str, sorted(missing)))))
            found = [(int(oid or 0), int(base or 0), int(e or 0), t) for oid, base, e, t in rows]
            self._base.update(dict.fromkeys(missing, 0))  # also of a type that has gone meanwhile
            for oid, base, element, is_text in found:
                self._base[oid] = base
                self._element[oid] = element
                self._texts.update([oid] if is_text == "t" else [])
            oids = [each for _, base, element, _ in found for each in (base, element) if each]

    def promises(self, oids: Sequence[int]) -> Promises:
        """Return what columns of these types promise."""
        return tuple(self._promise(self._resolved(oid)) for oid in oids)

    def fix(self, oid: int) -> Fix | None:
        """Return what brings values of a type into form; None: they are so already."""
        oid = self._resolved(oid)
        if element := self._element.get(oid, 0):
            return array_of(_part_of(self._resolved(element)))
        return _FIXES.get(oid)

    def fixed(self, rows: list[tuple[Raw, ...]], oids: Sequence[int]) -> SentRows:
        """Bring rows into form, with their promises; by the compiled core where it is in use."""
        fixes = [self.fix(oid) for oid in oids]
        sent: SentRows
        if compiled.core is not None:
            sent = compiled.core.Rows.of(rows, tuple(_COMPILED.get(fix, fix) for fix in fixes))
        else:
            sent = SentRows(fixed_rows(rows, fixes))
        sent.promises = self.promises(oids)
        return sent

    def reader(self, oid: int) -> Callable[[bytes], Any]:
        """Return what reads a value of the log as whoever looks for rows needs it: whole numbers as
        int, bytes as they are, anything else as the text that the server takes back."""
        resolved = self._resolved(oid)
        if resolved in WHOLE_NUMBERS:
            return int
        if resolved == BYTEA:
            return unhexed
        if resolved == BOOL:
            return lambda value: int(value == b"t")
        return bytes.decode

    def _resolved(self, oid: int) -> int:
        while base := self._base.get(oid, 0):
            oid = base
        return oid

    def _promise(self, oid: int) -> Promise:
        return Promise.TEXT if oid in self._texts else _PROMISES.get(oid, Promise.NOTHING)


# typtype: e is an enum, d a domain; typcategory S: what behaves as a text, as citext does.
_LOOK_UP = """
SELECT oid, typbasetype, CASE WHEN typinput = 'array_in'::regproc THEN typelem ELSE 0 END,
       typtype = 'e' OR typtype = 'b' AND typcategory = 'S'
FROM pg_catalog.pg_type WHERE oid IN ({})"""


def fixed_rows(rows: list[tuple[Raw, ...]], fixes: Sequence[Fix | None]) -> list[tuple[Raw, ...]]:
    """Bring the values of each column into form."""
    places = [(place, fix) for place, fix in enumerate(fixes) if fix is not None]
    if not places:
        return rows
    found = []
    for row in rows:
        values = list(row)
        for place, fix in places:
            if (value := values[place]) is not None:
                values[place] = fix(value)
        found.append(tuple(values))
    return found


def _part_of(oid: int) -> Fix | None:
    """Return what brings elements of an array into form: in JSON bytes stay in hex."""
    if oid == BYTEA:
        return lambda value: value[2:]
    return _FIXES.get(oid)


def array_of(part: Fix | None) -> Fix:
    """Return what writes an array as JSON: texts, nulls and arrays; its bounds are left out."""

    def written(value: bytes) -> bytes:
        if value[:1] == b"[":  # [2:3]={7,8}: bounds that do not begin at 1
            value = value[value.index(b"=") + 1 :]
        found, _ = _array(value, 1, part)
        return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()

    return written


def _array(value: bytes, at: int, part: Fix | None) -> tuple[list[Any], int]:
    r"""Read from after a `{`, as in `{1,NULL,"a \"b\""}` (PostgreSQL manual, 8.15.6 "Array Input
    and Output Syntax"); return what stands in it, and the place after the `}`."""
    found: list[Any] = []
    while (mark := value[at]) != 0x7D:
        if mark == 0x2C:  # ,
            at += 1
        elif mark == 0x7B:  # {
            inner, at = _array(value, at + 1, part)
            found.append(inner)
        elif mark == 0x22:  # "
            item, at = _quoted(value, at + 1)
            found.append(_text(item, part))
        else:
            end = _end(value, at)
            item = value[at:end]
            found.append(None if item == b"NULL" else _text(item, part))
            at = end
    return found, at + 1


def _text(item: bytes, part: Fix | None) -> str:
    return (item if part is None else part(item)).decode()


def _end(value: bytes, at: int) -> int:
    comma, brace = value.find(b",", at), value.find(b"}", at)
    return brace if comma < 0 else min(comma, brace)


def _quoted(value: bytes, at: int) -> tuple[bytes, int]:
    end = value.index(b'"', at)
    if value.find(b"\\", at, end) < 0:
        return value[at:end], end + 1
    found = bytearray()
    while (byte := value[at]) != 0x22:
        if byte == 0x5C:
            at += 1
        found.append(value[at])
        at += 1
    return bytes(found), at + 1
