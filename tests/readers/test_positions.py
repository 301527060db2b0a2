"""The Python reader's positions and ids, beside the projector's own; the readers' vectors."""

import importlib.metadata
import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from projector_reader import (
    InvalidTokenError,
    NotComparableError,
    Position,
    ViewError,
    document_id,
)
from projector_reader.lists import PAGE, Folding, list_name, read_cursor
from projector_reader.position import Place, WalPlace, parse_token
from sqlalchemy import BINARY, Column, Integer, String

from projector.mysql.dialect import MYSQL
from projector.mysql.position import GtidSet, MariadbGtids
from projector.mysql.position import Position as Written
from projector.postgres.position import Position as WrittenWal
from projector.projection.keys import KeyCodec
from projector.projection.places import canonical
from projector.sink_redis.lists import _BEFORE
from tests.unit.test_position import domains, gtid_set, members, positions

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text("utf-8"))


def outcome(position: str, token: str) -> bool | str:
    try:
        return Position.parse(position).includes(token)
    except InvalidTokenError:
        return "invalid"
    except NotComparableError:
        return "incomparable"


@pytest.mark.parametrize("vector", VECTORS["includes"], ids=lambda vector: str(vector["case"]))
def test_the_vectors_hold(vector: dict[str, Any]) -> None:
    """Each shared case of position and token comes out as it is written down."""
    assert outcome(vector["position"], vector["token"]) == vector["includes"]


@pytest.mark.parametrize("vector", VECTORS["lists"], ids=lambda vector: str(vector["values"]))
def test_values_give_the_list_that_the_projector_keeps(vector: dict[str, Any]) -> None:
    """Each shared case of a view's key comes out as it is written down."""
    foldings = {"x": Folding.parse(VECTORS["folding"].encode())}
    parts, secrets = vector["parts"], {"K": "secret"}
    found = list_name(vector["view"], vector["values"], parts, foldings, secrets)
    assert found == vector["name"]


@pytest.mark.parametrize("vector", VECTORS["lists"], ids=lambda vector: str(vector["values"]))
def test_values_are_spelled_as_the_projector_spells_them(vector: dict[str, Any]) -> None:
    """Each shared case without a folding, as its own text for the same value gives it."""
    kinds = [part["kind"] for part in vector["parts"] if len(part) == 1]
    if kinds != [part["kind"] for part in vector["parts"]] or {"hex", "text"} & {*kinds}:
        return
    raws = [str(int(v) if isinstance(v, bool) else v).encode() for v in vector["values"]]
    texts = [canonical(raw, kind) for raw, kind in zip(raws, kinds, strict=True)]
    spelled = [re.sub(r"[%|\x00-\x1f\x7f]", lambda c: f"%{ord(c[0]):02X}", t) for t in texts]
    assert f"x:{'|'.join(spelled)}" == vector["name"]


@pytest.mark.parametrize("wrong", VECTORS["wrong_values"], ids=str)
def test_values_that_are_none_of_their_kind_are_refused(wrong: dict[str, Any]) -> None:
    """As an error of this package, which an API can answer."""
    with pytest.raises(ViewError):
        list_name("by_x", [wrong["value"]], [{"kind": wrong["kind"]}], {}, {})


def test_cursors_are_checked_before_redis_sees_them() -> None:
    """For they come from anybody: what no page has given is refused."""
    for vector in VECTORS["cursors"]:
        assert read_cursor(vector["cursor"]) == (vector["score"], vector["id"])
    for wrong in VECTORS["wrong_cursors"]:
        with pytest.raises(InvalidTokenError):
            read_cursor(wrong)


def test_both_readers_run_the_same_script() -> None:
    """And order ids as the script of a write does."""
    source = (Path(__file__).parents[2] / "readers/typescript/src/lists.ts").read_text("utf-8")
    [page] = re.findall(r"export const PAGE = `(.*?)`;", source, re.DOTALL)
    assert page == PAGE
    assert _BEFORE in PAGE


@pytest.mark.parametrize("vector", VECTORS["includes"], ids=lambda vector: str(vector["case"]))
def test_the_projector_agrees_with_the_vectors(vector: dict[str, Any]) -> None:
    """Where the projector itself can answer, its answer is the one written down; the reader is
    stricter with what no server writes, for its tokens come from anybody."""
    if vector["includes"] == "invalid":
        return
    if vector["position"].startswith("postgres|"):
        _assert_agrees(vector)
        return
    try:
        position = Written.parse(vector["position"])
    except ValueError:
        return  # what only a tolerant reader reads
    try:
        if "|" in vector["token"]:
            assert position.reaches(Written.parse(vector["token"])) == vector["includes"]
        elif isinstance(position.gtids, GtidSet):
            found = position.gtids.contains(GtidSet.parse(vector["token"]))
            assert found == vector["includes"]
        elif isinstance(position.gtids, MariadbGtids):
            found = position.gtids.contains(MariadbGtids.parse(vector["token"]))
            assert found == vector["includes"]
    except ValueError:
        assert vector["includes"] in ("incomparable", True)


def _assert_agrees(vector: dict[str, Any]) -> None:
    """Of the timeline the projector asks the server: its positions do not compare it."""
    position = WrittenWal.parse(vector["position"])
    try:
        token = WrittenWal.parse(vector["token"])
        assert position.reaches(token) == vector["includes"] or position.timeline != token.timeline
    except ValueError:
        assert vector["includes"] in ("incomparable", True)


@given(members, members)
def test_sets_are_included_as_the_projector_says(
    first: frozenset[Any], second: frozenset[Any]
) -> None:
    """Any two sets of MySQL's, tags and gaps included."""
    reached, wanted = gtid_set(first), gtid_set(second)
    position = Position.parse(f"mysql|s|binlog.000001|4|{reached}")
    assert position.includes(str(wanted)) == reached.contains(wanted)


@given(domains, domains)
def test_domains_are_included_as_the_projector_says(
    first: dict[int, tuple[int, int]], second: dict[int, tuple[int, int]]
) -> None:
    """Any two positions of MariaDB's."""
    reached, wanted = MariadbGtids(first), MariadbGtids(second)
    position = Position.parse(f"mariadb|s|binlog.000001|4|{reached}")
    assert position.includes(str(wanted)) == reached.contains(wanted)


@given(positions, positions)
def test_positions_reach_each_other_as_the_projector_says(first: Written, second: Written) -> None:
    """Whatever position the projector writes is read, and compared alike where it can compare."""
    read = Position.parse(str(first))
    assert isinstance(read.place, Place)
    assert (read.place.server, read.place.file) == (first.server.strip(), first.file)
    try:
        expected = first.reaches(second)
    except ValueError:
        return
    if isinstance(first.gtids, MariadbGtids) and isinstance(second.gtids, MariadbGtids):
        # No log holds less at a later place: there either order is as good as the other.
        assume(expected == first.gtids.contains(second.gtids))
    if (first.gtids is None) == (second.gtids is None):
        assert read.includes(str(second)) == expected


_wal_positions = st.builds(
    WrittenWal,
    st.integers(0, 2).map(str),
    st.integers(1, 3),
    st.integers(0, 2**64 - 1) | st.integers(2**32 - 3, 2**32 + 3),
    st.frozensets(st.integers(3, 2**64 - 1), max_size=3),
)


@given(_wal_positions, _wal_positions)
def test_places_of_postgresql_reach_each_other_as_the_projector_says(
    first: WrittenWal, second: WrittenWal
) -> None:
    """Whatever position the projector writes is read; of one cluster and timeline, any two are
    compared alike, and others are refused or not reached."""
    read = Position.parse(str(first))
    assert read.place == WalPlace(first.system, first.timeline, first.lsn)
    expected: bool | str = first.surely_reaches(second)
    if first.system != second.system or first.timeline > second.timeline:
        expected = "incomparable"
    elif first.timeline < second.timeline:
        expected = False
    assert outcome(str(first), str(second)) == expected


_rests = st.text(alphabet="019aF/|,- ٣", max_size=30)


@given(
    st.text(alphabet="0123456789abcdef-:,| _\n٣", max_size=60)
    | st.text(max_size=20)
    | _rests.map("postgres|1|1|{}".format)
    | _rests.map("postgres|{}|1/1|".format)
)
def test_any_token_is_read_or_refused(text: str) -> None:
    """No text does worse than InvalidTokenError."""
    try:
        parse_token(text)
    except InvalidTokenError:
        return
    assert Position.parse("mysql|s|f.1|4|").includes("") is True


def of_vector(key: Any) -> Any:
    if isinstance(key, list):
        return tuple(of_vector(part) for part in key)
    [(kind, value)] = key.items()
    return {"number": int, "text": str, "bytes": bytes.fromhex}[kind](value)


@pytest.mark.parametrize("vector", VECTORS["ids"], ids=lambda vector: repr(vector["id"]))
def test_ids_are_the_projectors(vector: dict[str, Any]) -> None:
    """Numbers, text, bytes and composite keys give the field that the projector writes."""
    key = of_vector(vector["key"])
    assert document_id(key) == vector["id"]
    parts = key if isinstance(key, tuple) else (key,)
    columns = [
        Column("c", Integer)
        if isinstance(part, int)
        else Column("c", String(20))
        if isinstance(part, str)
        else Column("c", BINARY(len(part)))
        for part in parts
    ]
    assert KeyCodec(columns, MYSQL).to_id(parts) == vector["id"]


def test_what_is_no_key_is_refused() -> None:
    """A UUID is the text of its 16 bytes; a float, nothing and a sequence of one are mistakes."""
    value = uuid.UUID(int=5)
    assert document_id(value) == document_id(value.bytes) == str(value)
    for wrong in (1.5, None, (1,), ()):
        with pytest.raises(TypeError):
            document_id(wrong)  # type: ignore[arg-type]


def test_the_package_needs_redis_alone() -> None:
    """Nothing else is installed with it; SQLAlchemy only where it is asked for."""
    needed = importlib.metadata.requires("binlog-projector-reader") or []
    assert [each for each in needed if "extra" not in each] == ["redis>=6"]
