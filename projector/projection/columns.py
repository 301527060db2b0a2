"""What the catalog says of columns' types, as far as comparisons depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

INTEGERS = frozenset("tinyint smallint mediumint int bigint".split())
TEXTS = frozenset("char varchar tinytext text mediumtext longtext".split())
BINARIES = frozenset("binary varbinary tinyblob blob mediumblob longblob".split())
MEMBERS = frozenset({"enum", "set"})
EXACT = INTEGERS | {"decimal", "bit"}
APPROXIMATE = frozenset({"float", "double"})
NUMBERS = EXACT | APPROXIMATE | {"year"}
TIMES = frozenset("date datetime timestamp time".split())
NATIVE = frozenset({"uuid", "inet4", "inet6"})  # MariaDB's own


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's DATA_TYPE and COLUMN_TYPE, both in lower case but for the members of an ENUM or
    SET, which stand in `members` too."""

    kind: str
    full: str
    charset: str | None = None
    collation: str | None = None
    members: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether it is compared as a text."""
        return self.kind in TEXTS or self.kind in MEMBERS

    @property
    def pads(self) -> bool:
        """Whether spaces at the end do not count."""
        return not any(part in (self.collation or "") for part in ("_0900_", "nopad"))

    def number_of(self, member: str) -> int:
        """Return the number that stands for a value of an ENUM or SET. Raises ValueError for what
        is none."""
        if self.kind == "enum":  # the empty text stands for values that were no members
            return self.members.index(member) + 1 if member in self.members or member else 0
        return sum({1 << self.members.index(name) for name in member.split(",") if member})


TableTypes = Mapping[str, ColumnType]  # by lower-case name of the column
Types = Mapping[tuple[str | None, str], TableTypes]  # by schema (None: the default) and table
