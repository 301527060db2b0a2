"""Which index is advised on PostgreSQL, and when none is."""

import pytest

from projector.indexes import Wanted
from projector.model import TableName
from projector.postgres.advice import UNLIKE, index, serves
from projector.projection.columns import ColumnType

_TABLE = TableName("public", "child")


def _type(kind: str, collation: str | None = None) -> ColumnType:
    return ColumnType(kind, kind, None, collation)


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ("int4", "int8", True), ("int8", "int2", True), ("int4", "numeric", False),
        ("numeric", "int4", True), ("numeric", "float8", False), ("float8", "numeric", True),
        ("float4", "int8", True), ("int4", "float8", False), ("text", "varchar", True),
        ("varchar", "text", True), ("text", "bpchar", True), ("bpchar", "text", False),
        ("citext", "text", False), ("text", "citext", True), ("timestamptz", "date", True),
        ("date", "time", False), ("uuid", "uuid", True), ("uuid", "text", False),
    ],
)  # fmt: skip
def test_an_index_serves_what_is_not_converted(own: str, other: str, expected: bool) -> None:
    """What its column would be converted to, it does not lead to."""
    assert serves(_type(own), _type(other)) is expected


def test_a_collation_that_was_chosen_counts() -> None:
    """Over the default one, on either side."""
    plain, c, german = _type("text"), _type("text", 'pg_catalog."C"'), _type("text", "public.de")
    assert serves(plain, plain)
    assert serves(c, plain)
    assert serves(c, c)
    assert not serves(plain, c)
    assert not serves(c, german)
    assert serves(plain, None)


def test_an_index_is_written_with_a_free_name() -> None:
    """Columns that are compared come first, names are quoted and at most 63 bytes long."""
    types = {"o": _type("int4"), "kind": _type("text"), "doc": _type("json"), "n": _type("int4")}
    wanted = Wanted({"o": [_type("int8")]}, ["kind"])
    said = index(_TABLE, wanted, types, {"ix_child_o_kind"}, is_partitioned=False)
    assert said == (
        'CREATE INDEX CONCURRENTLY "ix_child_o_kind_2" ON "public"."child" ("o", "kind");'
    )
    said = index(_TABLE, wanted, types, (), is_partitioned=True)
    assert said.startswith('CREATE INDEX "ix_child_o_kind" ON "public"."child" ("o", "kind"); (')
    long = TableName("s", "ü" * 31)
    said = index(long, Wanted({"o": ()}), types, (), is_partitioned=False)
    assert f'"ix_{"ü" * 30}"' in said
    said = index(_TABLE, Wanted({"doc": ()}), types, (), is_partitioned=False)
    assert said == "Join by a column that can have an index: doc is json."
    unlike = Wanted({"n": [_type("numeric")]})
    assert index(_TABLE, unlike, types, (), is_partitioned=False) == UNLIKE
