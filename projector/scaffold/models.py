"""The Pydantic models of a document, as readers use them."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator

import pydantic

from projector.scaffold.layout import Shape, Shown

_KINDS = (
    (r"mysql\.TINYINT\(display_width=1\)|sa\.Boolean", "bool"),
    (r"\w+\.(?:TINY|SMALL|MEDIUM|BIG)?INT(?:EGER)?\b|mysql\.(?:YEAR|BIT)\b", "int"),
    (r"sa\.(?:Small|Big)?Integer\b", "int"),
    (r"\w+\.(?:DECIMAL|NUMERIC|Numeric)\b", "decimal.Decimal"),
    (r"\w+\.(?:FLOAT|DOUBLE|Double|REAL)\b", "float"),
    (r"\w+\.(?:DATETIME|DateTime|TIMESTAMP)\b", "pydantic.AwareDatetime"),
    (r"\w+\.D(?:ATE|ate)\b", "datetime.date"),
    (r"\w+\.T(?:IME|ime)\b", "datetime.time"),
    (r"\w+\.JSON", "pydantic.JsonValue"),
    (r"\w+\.ARRAY", "list[pydantic.JsonValue]"),  # how deep it goes no type says
    (r"\w+\.BINARY\(length=16\)|\w+\.U(?:UID|uid)", "uuid.UUID"),
    (r"\w+\.(?:VAR)?BINARY\b|\w+\.(?:TINY|MEDIUM|LONG)?BLOB\b", "pydantic.Base64Bytes"),
    (r"sa\.LargeBinary\b", "pydantic.Base64Bytes"),
)


def models(shape: Shape, names: dict[int, str]) -> Iterator[str]:
    """Write the model of each object, those within others first. `names`: of the classes, by the
    id of the shape."""
    for part in shape.all():
        yield f"class {names[id(part)]}(pydantic.BaseModel):"
        taken: set[str] = set()
        for field in part.fields:
            if not field.doubt:
                kind = _kind(field)
                yield _field(field.name, f"{kind} | None" if field.is_nullable else kind, taken)
        for below in part.lists:
            yield _field(below.name, f"list[{names[id(below)]}]", taken)
        yield ""
        yield ""


def class_name(name: str) -> str:
    """Return a name for the class of a table's documents."""
    words = re.split(r"[\W_]+", name)
    made = "".join(word[:1].upper() + word[1:] for word in words if word)
    return made if made.isidentifier() else f"T{made}"


def _kind(field: Shown) -> str:
    for pattern, kind in _KINDS:
        if re.match(pattern, field.kind):
            return kind
    return "str"


def _field(name: str, kind: str, taken: set[str]) -> str:
    """Write a field; by an alias where its name can be no attribute of a model."""
    attribute = re.sub(r"\W", "_", name).lstrip("_") or "field"
    if attribute[0].isdigit():
        attribute = f"f_{attribute}"
    if (
        keyword.iskeyword(attribute)
        or hasattr(pydantic.BaseModel, attribute)
        or attribute.startswith("model_")
        or attribute in {"datetime", "decimal", "uuid", "pydantic"}
    ):
        attribute = f"{attribute.removeprefix('model_')}_"
    attribute = next(n for i in range(1, 10**6) if (n := attribute + "_" * (i - 1)) not in taken)
    taken.add(attribute)
    alias = f" = pydantic.Field(alias={name!r})" if attribute != name else ""
    return f"    {attribute}: {kind}{alias}"
