"""Positions and GTID sets: laws of sets, one text form, the bytes that a server writes itself."""

import itertools
import uuid
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projector.mysql.position import (
    Flavour,
    GtidSet,
    GtidSetBuilder,
    MariadbGtids,
    Position,
    file_number,
)

SIDS = [str(uuid.UUID(int=number)) for number in (1, 2, 2**128 - 1)]
Gtid = tuple[str, str, int]

gtids = st.tuples(st.sampled_from(SIDS), st.sampled_from(["", "a", "tag_2"]), st.integers(1, 9))
members = st.frozensets(gtids, max_size=40)
few = st.integers(0, 3)  # so that two positions have domains in common
domains = st.dictionaries(
    few | st.integers(0, 2**32 - 1),
    st.tuples(few | st.integers(0, 2**32 - 1), few | st.integers(0, 2**64 - 1)),
    max_size=4,
)


def gtid_set(of: Iterable[Gtid]) -> GtidSet:
    builder = GtidSetBuilder(GtidSet())
    for sid, tag, number in of:
        builder.add(sid, tag, number)
    return builder.freeze()


def members_of(found: GtidSet) -> frozenset[Gtid]:
    return frozenset(
        (sid, tag, number)
        for (sid, tag), intervals in found.intervals.items()
        for first, last in intervals
        for number in range(first, last + 1)
    )


@given(st.lists(gtids, max_size=60))
def test_a_set_holds_what_was_added_in_any_order(added: list[Gtid]) -> None:
    """Adding in any order, again, by bytes or by text gives one canonical set."""
    found = gtid_set(added)
    assert members_of(found) == frozenset(added)
    assert found == gtid_set(sorted(added))
    by_bytes = GtidSetBuilder(GtidSet())
    for sid, tag, number in added:
        by_bytes.add(uuid.UUID(sid).bytes, tag, number)
    assert by_bytes.freeze() == found
    for intervals in found.intervals.values():
        ends = [end for interval in intervals for end in interval]
        assert ends == sorted(ends)
        assert all(b[0] - a[1] > 1 for a, b in itertools.pairwise(intervals))


@given(members, members)
def test_sets_obey_the_laws_of_sets(first: frozenset[Gtid], second: frozenset[Gtid]) -> None:
    """Union, difference and containment are those of the transactions themselves."""
    a, b = gtid_set(first), gtid_set(second)
    assert members_of(a | b) == first | second
    assert a - b == gtid_set(first - second)
    assert a.contains(b) == (first >= second)
    assert (a == b) == (first == second)
    assert bool(a) == bool(first)
    if a == b:
        assert hash(a) == hash(b)


@given(members, gtids)
def test_adding_leaves_the_set_as_it_was(first: frozenset[Gtid], another: Gtid) -> None:
    """A set is a value: a builder made of it, and `add`, give new ones."""
    found = gtid_set(first)
    more = found.add(*another)
    assert members_of(found) == first
    assert members_of(more) == first | {another}


@given(members, st.sampled_from(SIDS), st.integers(1, 30), st.integers(0, 9))
def test_an_interval_is_all_of_its_transactions(
    first: frozenset[Gtid], sid: str, begin: int, more: int
) -> None:
    """A run added at once is the same as its transactions one by one."""
    builder = GtidSetBuilder(gtid_set(first))
    builder.add_interval((sid, ""), begin, begin + more)
    run = {(sid, "", number) for number in range(begin, begin + more + 1)}
    assert builder.freeze() == gtid_set(first | run)


@given(members)
def test_a_set_survives_its_text(first: frozenset[Gtid]) -> None:
    """The text is read back as the same set, in either case, with the server's line breaks."""
    found = gtid_set(first)
    assert GtidSet.parse(str(found)) == found
    assert GtidSet.parse(str(found).upper().replace(",", ",\n ")) == found


def test_the_text_is_the_servers() -> None:
    """The order of UUIDs, tags and intervals is that of @@gtid_executed on MySQL 9.7."""
    text = f"{SIDS[0]}:1-3:5:a:1:tag_2:7-9,{SIDS[1]}:a:4"
    assert str(GtidSet.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "x:1",
        f"{SIDS[0]}",
        f"{SIDS[0]}:",
        f"{SIDS[0]}:0",
        f"{SIDS[0]}:-1",
        f"{SIDS[0]}:1-",
        f"{SIDS[0]}:1-9223372036854775807",
        f"{SIDS[0]}:1:Tag-2",
    ],
)
def test_what_is_no_set_is_refused(text: str) -> None:
    """Nonsense raises ValueError, and nothing else."""
    with pytest.raises(ValueError, match=r"."):
        GtidSet.parse(text)


@given(st.text(alphabet="0123456789abcdef-:,| _", max_size=60))
def test_any_text_is_a_set_or_refused(text: str) -> None:
    """No text does worse than ValueError; what is read is canonical."""
    for read in (GtidSet.parse, MariadbGtids.parse, Position.parse):
        try:
            found = read(text)
        except ValueError:
            continue
        assert read(str(found)) == found


# Bodies of PREVIOUS_GTIDS events of a MySQL 9.7.4, beside its own text of the same set.
SERVER_SETS = [
    ("", "0000000000000000"),
    (
        "00000000-0000-0000-0000-000000000001:7-8,"
        "2ee35782-e6e3-11f1-b7fb-02fc00000001:1-2,"
        "ffffffff-ffff-ffff-ffff-ffffffffffff:5",
        "03000000000000000000000000000000000000000000000101000000000000000700000000000000"
        "09000000000000002ee35782e6e311f1b7fb02fc0000000101000000000000000100000000000000"
        "0300000000000000ffffffffffffffffffffffffffffffff01000000000000000500000000000000"
        "0600000000000000",
    ),
    (
        "00000000-0000-0000-0000-000000000001:7-8:a:3:5:a_long_tag_of_thirty_two_letters:9,"
        "00000000-0000-0000-0000-00000000000f:z:1,"
        "2ee35782-e6e3-11f1-b7fb-02fc00000001:1-2,"
        "ffffffff-ffff-ffff-ffff-ffffffffffff:5:b:1",
        "01070000000000010000000000000000000000000000000100010000000000000007000000000000"
        "00090000000000000000000000000000000000000000000001026102000000000000000300000000"
        "00000004000000000000000500000000000000060000000000000000000000000000000000000000"
        "00000140615f6c6f6e675f7461675f6f665f7468697274795f74776f5f6c65747465727301000000"
        "0000000009000000000000000a000000000000000000000000000000000000000000000f027a0100"
        "000000000000010000000000000002000000000000002ee35782e6e311f1b7fb02fc000000010001"
        "0000000000000001000000000000000300000000000000ffffffffffffffffffffffffffffffff00"
        "010000000000000005000000000000000600000000000000ffffffffffffffffffffffffffffffff"
        "0262010000000000000001000000000000000200000000000000",
    ),
]


@pytest.mark.parametrize(("text", "body"), SERVER_SETS)
def test_the_bytes_are_the_servers(text: str, body: str) -> None:
    """A set is encoded as the server encodes it in its own log, with and without tags."""
    assert GtidSet.parse(text).encode().hex() == body


@example({0: (2, 1)}, {0: (1, 3)})
@given(domains, domains)
def test_mariadbs_positions_obey_their_laws(
    first: dict[int, tuple[int, int]], second: dict[int, tuple[int, int]]
) -> None:
    """Text, union and containment by domain and sequence number; the server id does not count."""
    a, b = MariadbGtids(first), MariadbGtids(second)
    assert MariadbGtids.parse(str(a)) == a
    assert (a | b).contains(a)
    assert (a | b).contains(b)
    assert a.contains(b) == all(
        domain in first and first[domain][1] >= number for domain, (_, number) in second.items()
    )
    if a.contains(b) and b.contains(a):
        assert {d: n for d, (_, n) in first.items()} == {d: n for d, (_, n) in second.items()}


@given(domains, st.integers(0, 3), st.integers(1, 9), st.integers(1, 99))
def test_a_domain_goes_on(
    first: dict[int, tuple[int, int]], domain: int, server: int, number: int
) -> None:
    """A transaction replaces its domain's place and leaves the others, and the value it was."""
    before = MariadbGtids(dict(first))
    after = before.replace(domain, server, number)
    assert after.by_domain == {**first, domain: (server, number)}
    assert before.by_domain == first


def test_a_domain_named_twice_is_refused() -> None:
    """Which of two places in one domain is meant nobody can say."""
    with pytest.raises(ValueError, match="twice"):
        MariadbGtids.parse("0-1-5,0-2-6")


positions = st.builds(
    lambda server, number, offset, found, is_mysql: Position(
        Flavour.MYSQL if is_mysql else Flavour.MARIADB,
        server,
        f"binlog.{number:06d}",
        offset,
        None
        if found is None
        else gtid_set(found)
        if is_mysql
        else MariadbGtids({len(sid): (1, number) for sid, _, number in found}),
    ),
    st.text(alphabet="ab/%|7C25.-", max_size=12),
    st.integers(1, 2_000_000),
    st.integers(4, 2**40),
    st.none() | members,
    st.booleans(),
)


@given(positions)
def test_a_position_survives_its_text(position: Position) -> None:
    """One text form, whatever the server's name holds, beyond 4 GB and 999,999 files."""
    assert Position.parse(str(position)) == position


@given(positions, positions)
def test_of_comparable_positions_one_reaches_the_other(first: Position, second: Position) -> None:
    """A position reaches itself; who reaches both ways is at the same place."""
    assert first.reaches(first)
    try:
        there, back = first.reaches(second), second.reaches(first)
    except ValueError:
        assert first.flavour != second.flavour or first.server != second.server
        return
    if first.gtids is None or second.gtids is None:
        assert there or back
        assert (there and back) == (
            (file_number(first.file), first.offset) == (file_number(second.file), second.offset)
        )
    elif there and back:
        assert not isinstance(first.gtids, GtidSet) or first.gtids == second.gtids


def test_files_are_ordered_by_number() -> None:
    """After binlog.999999 comes binlog.1000000, and a file's number comes before the offset."""
    late = Position(Flavour.MYSQL, "s", "binlog.1000000", 4, None)
    early = Position(Flavour.MYSQL, "s", "binlog.999999", 5_000_000_000, None)
    assert late.reaches(early)
    assert not early.reaches(late)


def test_gtids_count_more_than_files() -> None:
    """On another server, or after a failover, files say nothing and GTIDs everything."""
    first = Position(Flavour.MYSQL, "a", "binlog.000009", 4, GtidSet.parse(f"{SIDS[0]}:1-5"))
    second = Position(Flavour.MYSQL, "b", "binlog.000001", 4, GtidSet.parse(f"{SIDS[0]}:1-6"))
    assert second.reaches(first)
    assert not first.reaches(second)
