"""How one value of a document is declared: as it is, hidden, or turned into something else.

Each wraps a (labelled) column or expression and says what readers see of it. Values only; `forms`
knows how each is written.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa
from sqlalchemy import Cast, ColumnElement, LargeBinary, cast

from projector.errors import ConfigurationError

Expression = ColumnElement[Any]
Scalar = str | int | float | bool | None
ZeroDates = Literal["refuse", "null"]


def require_option(name: str, given: object, options: Any) -> None:
    """Refuse a value that is none of a Literal's. `name`: of the option, and where it stands."""
    known = get_args(options)
    if given not in known:
        raise ConfigurationError(
            f"{name} is {given!r}", f"Write {' or '.join(map(repr, known))}, or leave it out."
        )


def require_names(names: Mapping[Any, Scalar]) -> None:
    """Refuse names of what is neither a whole number nor a text, and none at all."""
    if not names or not all(isinstance(value, str | int) for value in names):
        raise ConfigurationError(
            f"the values that have names are whole numbers or texts: {list(names)}",
            'Write {1: "low", 2: "high"}.',
        )


def text_of(value: object) -> str:
    """Write a whole number or a text as the server does; a member of an Enum is what it equals."""
    if isinstance(value, int):
        return str(int(value))
    return str.__str__(value) if isinstance(value, str) else str(value)


@dataclass(frozen=True, slots=True)
class Fixed:
    """A column masked by a fixed text; null stays null."""

    column: Expression
    text: str = "***"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise ConfigurationError(
                f"the text of a Fixed is {self.text!r}", 'Write Fixed(column, "***").'
            )

    def mask(self, value: str) -> str:
        """Return the text, whatever the value."""
        return self.text


@dataclass(frozen=True, slots=True)
class Hashed:
    """A column masked by its HMAC-SHA256 in hex: equal values stay equal, and say nothing else.

    The key is read from the environment variable `key_variable`, so that it stands in no module.
    """

    column: Expression
    key_variable: str

    def mask(self, value: str) -> str:
        """Return the keyed hash. Raises ConfigurationError when the key is not set."""
        key = os.environ.get(self.key_variable)
        if not key:
            raise ConfigurationError(
                f"{self.key_variable} is not set", "Set it to the key that masks the column."
            )
        return hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest()

    def key_mark(self) -> str:
        """Return what tells this key from another, and nothing of either; "" without a key."""
        return self.mask("the key itself") if os.environ.get(self.key_variable) else ""


@dataclass(frozen=True, slots=True)
class Partial:
    """A column of which only the first and last characters are shown, the rest as `*`."""

    column: Expression
    first: int = 1
    last: int = 0

    def __post_init__(self) -> None:
        if any(type(shown) is not int or shown < 0 for shown in (self.first, self.last)):
            raise ConfigurationError(
                f"a Partial shows {self.first!r} first and {self.last!r} last characters",
                "Write whole numbers from 0 on: Partial(column, first=2, last=2).",
            )

    def mask(self, value: str) -> str:
        """Hide the middle; values too short to hide anything are hidden whole."""
        hidden = len(value) - self.first - self.last
        if hidden <= 0:
            return "*" * len(value)
        return value[: self.first] + "*" * hidden + value[len(value) - self.last :]


@dataclass(frozen=True, slots=True)
class Choice:
    """The names of a column's values: `Choice(tickets.c.priority, {1: "low", 2: "high"})`.

    A value that is not listed is shown as `other`, null without one; NULL is always null.
    """

    column: Expression
    names: Mapping[Any, Scalar]
    other: Scalar = None

    def __post_init__(self) -> None:
        require_names(self.names)


@dataclass(frozen=True, slots=True)
class Flags:
    """The names of the bits that are set in a number, as an array in the order of the bits:
    `Flags(users.c.rights, {1: "read", 2: "write"})`. Without names: the members of a SET, in the
    order of its definition. Bits without a name are not shown."""

    column: Expression
    names: Mapping[int, str] | None = None

    def __post_init__(self) -> None:
        if self.names is None:
            return
        bits = list(self.names)
        if not bits or any(type(b) is not int or b < 1 or b & (b - 1) for b in bits):
            raise ConfigurationError(
                f"the flags of a number are its bits, and these are none: {bits}",
                'Write Flags(column, {1: "read", 2: "write", 4: "delete"}).',
            )


@dataclass(frozen=True, slots=True)
class Moment:
    """A DATE or DATETIME that is not as it should be.

    `zone`: the time zone by whose clock it was written (`Europe/Berlin`); converted to UTC by
    Python's time zones, never by the server's. An hour that comes twice is the first one, one that
    is left out is counted from before the gap. What is a TIMESTAMP is UTC already. `zero_dates`:
    with `null`, `0000-00-00` is shown as null. What is not said is as the projection says.
    """

    column: Expression
    zone: str | None = None
    zero_dates: ZeroDates | None = None

    def __post_init__(self) -> None:
        Manner(self.zone or "UTC", self.zero_dates or "refuse")


@dataclass(frozen=True, slots=True)
class Passed:
    """Whether a moment has come: `Passed(tickets.c.due_at.label("overdue"))` is true from then on,
    false before, null without one. The document is made again when it comes, though no row changes.

    A condition belongs into the moment: `sa.case((tickets.c.closed_at.is_(None),
    tickets.c.due_at))` never comes for a closed ticket. The column is a DATETIME or TIMESTAMP,
    kept as a `Moment` says. By the clock of the machine that the daemon runs on.
    """

    column: Expression
    zone: str | None = None
    zero_dates: ZeroDates | None = None

    def __post_init__(self) -> None:
        Manner(self.zone or "UTC", self.zero_dates or "refuse")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Text whose bytes are in another encoding than its column says, or stand in a binary column:
    `Encoded(posts.c.body, "utf-8")`. By Python's names of encodings. Bytes that are no such text
    set the document aside, unless `errors` is `replace`."""

    column: Expression
    encoding: str
    errors: Literal["refuse", "replace"] = "refuse"

    def __post_init__(self) -> None:
        require_option("errors of an Encoded", self.errors, Literal["refuse", "replace"])
        try:
            b"x".decode(self.encoding, "replace")  # of nothing no encoding is asked
        except (LookupError, UnicodeError):  # idna knows no errors="replace"
            raise ConfigurationError(
                f"{self.encoding!r} is no encoding that Python knows of texts",
                "Write its name as Python does: cp1252, latin-1, koi8-r, utf-8.",
            ) from None


@dataclass(frozen=True, slots=True)
class Json:
    """JSON that is kept in a text or binary column; an empty text is null. `otherwise`: what is
    shown for what is no JSON: nothing, and the document is set aside; `null`; or the `text`."""

    column: Expression
    otherwise: Literal["refuse", "null", "text"] = "refuse"

    def __post_init__(self) -> None:
        require_option("otherwise of a Json", self.otherwise, Literal["refuse", "null", "text"])


Mask = Fixed | Hashed | Partial
Turned = Choice | Flags | Moment | Passed | Encoded | Json
Field = Expression | Mask | Turned
WRAPPERS = (Fixed, Hashed, Partial, Choice, Flags, Moment, Passed, Encoded, Json)


@dataclass(frozen=True, slots=True)
class Manner:
    """How dates are kept in all tables of a projection. Raises ConfigurationError."""

    zone: str = "UTC"
    zero_dates: ZeroDates = "refuse"

    def __post_init__(self) -> None:
        require_option("zero_dates", self.zero_dates, ZeroDates)
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
            raise ConfigurationError(
                f"there is no time zone {self.zone!r}",
                "Write its name as in Europe/Berlin; where no zone is found at all, install the"
                " system's package tzdata.",
            ) from None

    def but(self, moment: Moment | Passed) -> Manner:
        """Return what holds for one column."""
        return Manner(moment.zone or self.zone, moment.zero_dates or self.zero_dates)


def binary(column: Expression) -> Cast[bytes]:
    """Order or compare by bytes: collations of the server differ from how readers compare."""
    return cast(column, LargeBinary)


def expression_of(declared: Field) -> Expression:
    """Return what is selected for a field: the column that is wrapped, or the expression itself."""
    wrapped = declared.column if isinstance(declared, WRAPPERS) else declared
    if not isinstance(wrapped, ColumnElement):
        raise ConfigurationError(
            f"a {type(wrapped).__name__} stands where a column or an expression should",
            "Write table.c.name or an expression with a label; what is an object or a list belongs"
            " into collections=[…].",
        )
    return _bytes_of(wrapped) if isinstance(declared, Encoded) else wrapped


def _bytes_of(column: Expression) -> Expression:
    """Have the bytes as they are stored, under the same name."""
    bare = column.element if isinstance(column, sa.Label) else column
    return binary(bare).label(getattr(column, "key", None) or None)
