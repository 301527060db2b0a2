"""Which columns a generated one is computed from."""

from projector.model import TableName, Watch
from projector.mysql.generated import resolved, with_bases


def test_chains_end_at_plain_columns() -> None:
    """As MySQL and MariaDB write expressions; names ignore case and may hold backticks."""
    found = resolved(
        {"A": "", "b``x": None, "m": "(`a` + 1)", "g": "concat('y',`m`,`b````x`)", "z": "ROW START"}
    )
    assert found == {"m": {"a"}, "g": {"a", "b``x"}}


def test_of_an_unreadable_expression_every_column_is_a_base() -> None:
    """Also where quotes are others; a column that the account may not see is one by its name."""
    assert resolved({"a": None, "b": None, "g": 'concat("a")'}) == {"g": {"a", "b"}}
    assert resolved({"a": None, "g": "(`secret` + `a`)"}) == {"g": {"a", "secret"}}


def test_what_columns_are_computed_from_is_watched() -> None:
    """Documents' columns are read with their bases; those that routes need get digests too."""
    watch = Watch(TableName("s", "t"), ("id", "PID"), frozenset({"id", "PID", "g"}))
    wide = with_bases(watch, {"pid": frozenset({"src"}), "g": frozenset({"a"})})
    assert wide.bases == ("src",)
    assert wide.read == {"id", "PID", "g", "src", "a"}
    assert wide.columns == watch.columns
