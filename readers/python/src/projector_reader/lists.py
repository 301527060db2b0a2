"""Lists of a projection's views: their names, made of values as the projector makes them, and the
script that reads a page of one.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import os
import re
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, TypeVar

from projector_reader.errors import InvalidTokenError, ViewError

T = TypeVar("T")
Value = str | int | bytes | Decimal | datetime.date | uuid.UUID
_UNSAFE = re.compile(r"[%|\x00-\x1f\x7f]")
_MASKED = 32  # hexadecimal digits
_CURSOR = re.compile(
    r"(-?(?:inf|[0-9]{1,32}(?:\.[0-9]{1,32})?(?:e[-+]?[0-9]{1,3})?)):(.*)", re.DOTALL
)
_WHOLE = re.compile(r"[-+]?[0-9]{1,100}")
_DIGITS_MAX = 400  # of a decimal, before or behind the point

# KEYS: list, hash. ARGV: score and id of the last entry of the page before ('' and '': none), how
# many. Gives the number of entries, whether more follow, ids with scores, documents.
PAGE = """
local function before(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local total, from = redis.call('ZCARD', KEYS[1]), 0
if ARGV[1] ~= '' then
  from = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[1], '+inf')
  local last = from + redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[1])
  while from < last do
    local middle = math.floor((from + last) / 2)
    if before(redis.call('ZREVRANGE', KEYS[1], middle, middle)[1], ARGV[2]) then
      last = middle
    else
      from = middle + 1
    end
  end
end
local found = redis.call('ZREVRANGE', KEYS[1], from, from + tonumber(ARGV[3]) - 1, 'WITHSCORES')
local ids = {}
for at = 1, #found, 2 do ids[#ids + 1] = found[at] end
local documents = {}
if #ids > 0 then documents = redis.call('HMGET', KEYS[2], unpack(ids)) end
return {total, (from + #ids < total) and 1 or 0, found, documents}
"""
PAGE_SHA = hashlib.sha1(PAGE.encode()).hexdigest()
MOST = 1000  # documents a page


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A page of a list: documents by id, the newest first. `cursor` asks for the next page, None:
    that was all. `total`: of the whole list at this moment."""

    documents: dict[str, T]
    cursor: str | None
    total: int


@dataclass(frozen=True, slots=True)
class Folding:
    """How a collation's equal texts are spelled as one; see the projector's `folding`."""

    table: Mapping[int, str]
    beyond: str
    pads: bool

    @classmethod
    def parse(cls, packed: bytes) -> Folding:
        """Read what the projector has written."""
        said = json.loads(zlib.decompress(base64.b64decode(packed)))
        table = {ord(c): text for c, text in said["table"].items()}
        return cls(table, said["beyond"], said["pads"])

    def fold(self, text: str) -> str:
        """Return the one spelling."""
        folded = text.translate(self.table)
        if self.beyond:
            folded = "".join(self.beyond if c >= "\U00010000" else c for c in folded)
        return folded.rstrip(" ") if self.pads else folded


def short(view: str) -> str:
    """Return a view's name as it stands in keys."""
    return view.removeprefix("by_")


def list_name(
    view: str,
    values: Sequence[Value],
    parts: Sequence[Mapping[str, Any]],
    foldings: Mapping[str, Folding],
    secrets: Mapping[str, str],
) -> str:
    """Return the name of the list of these values. Raises ViewError."""
    if len(values) != len(parts):
        raise ViewError(f"the key of {view} has {len(parts)} parts, not {len(values)}")
    texts = [_text(view, *each, foldings, secrets) for each in zip(values, parts, strict=True)]
    return f"{short(view)}:{'|'.join(texts)}"


def _text(
    view: str,
    value: Value,
    part: Mapping[str, Any],
    foldings: Mapping[str, Folding],
    secrets: Mapping[str, str],
) -> str:
    text = _spelled(view, value, part["kind"])
    if "fold" in part:
        text = foldings[part["fold"]].fold(text)
    elif part.get("pads"):
        text = text.rstrip(" ")
    variable = part.get("variable")
    if variable is None:
        return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", text)
    secret = secrets.get(variable) or os.environ.get(variable)
    if not secret:
        raise ViewError(f"values of {view} are masked: give the key {variable}")
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()[:_MASKED]


def _spelled(view: str, value: Value, kind: str) -> str:
    if isinstance(value, bytes):
        is_uuid = kind == "uuid" and len(value) == 16
        return str(uuid.UUID(bytes=value)) if is_uuid else value.hex()
    text = str(int(value)) if isinstance(value, bool) else str(value)
    match kind:
        case "flag":
            named = {"true": "1", "false": "0"}.get(text.lower())
            text = named or ("0" if _decimal(view, text) == "0" else "1")
        case "decimal":
            text = _decimal(view, text)
        case "whole":
            if _WHOLE.fullmatch(text) is None:
                raise ViewError(f"a part of the key of {view} is a whole number")
            text = str(int(text))
        case "uuid":
            text = _uuid(text)
        case "hex":
            text = text.lower()
        case _ if isinstance(value, datetime.date):
            text = value.isoformat()[:10]
    return text


def _decimal(view: str, text: str) -> str:
    """Write all digits of a number, but for zeros that say nothing."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > _DIGITS_MAX:
        raise ViewError(f"a part of the key of {view} is a number")
    said = format(number, "f")
    said = said.rstrip("0").rstrip(".") if "." in said else said
    return "0" if said == "-0" else said


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:  # another value of a column for 16 bytes, in hexadecimal
        return text.lower()


def read_cursor(cursor: str | None) -> tuple[str, str]:
    """Return score and id of the entry that a page ended with."""
    if cursor is None:
        return "", ""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidTokenError("not a cursor of a list")
    return found[1], found[2]
