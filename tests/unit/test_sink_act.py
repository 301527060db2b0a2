"""How a batch is cut: no part too large for one script, nothing lost, the checkpoint last."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from projector.model import Batch, Reason
from projector.mysql.position import Flavour, Position
from projector.sink_redis.act import Keys, arguments, parts

MEGABYTE = b"x" * 1024 * 1024
POSITION = Position(Flavour.MYSQL, "s", "binlog.000001", 4, None)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 5, 31, 32, 33, 64]), max_size=20),
    small=st.sampled_from([0, 1, 19_999, 20_000, 45_000]),
    removed=st.sampled_from([0, 1, 20_000, 20_001, 45_000]),
)
def test_parts_are_bounded_and_lose_nothing(sizes: list[int], small: int, removed: int) -> None:
    """32 MiB and 20,000 ids a part, but for a single value that is larger; records at the end."""
    documents = {f"large {n}": memory(size) for n, size in enumerate(sizes)}
    documents |= {f"small {n}": b"{}" for n in range(small)}
    whole = Batch(
        documents, frozenset(f"gone {n}" for n in range(removed)), Reason.RESYNC,
        position=POSITION, fingerprint="f", committed_at=1.0, debts={"all": "{}"},
        quarantine={"1": None}, resync={"state": "done"}, requests_done=frozenset({"r"}),
    )  # fmt: skip
    made = parts(whole)
    for part in made:
        assert len(part.documents) + len(part.removed) <= 20_000
        size = sum(map(len, part.documents.values()))
        assert size <= 32 * len(MEGABYTE) or len(part.documents) == 1
    assert [key for part in made for key in part.documents] == list(documents)
    assert sorted(key for part in made for key in part.removed) == sorted(whole.removed)
    nothing = Batch({}, frozenset(), Reason.RESYNC)
    for part in made[:-1]:
        assert replace(part, documents={}, removed=frozenset()) == nothing
    assert replace(made[-1], documents=documents, removed=whole.removed) == whole


def memory(megabytes: int) -> bytes:
    """Bytes of that size; the same object each time."""
    return _MADE.setdefault(megabytes, MEGABYTE * megabytes)


_MADE: dict[int, bytes] = {}


def test_a_small_batch_is_one_part() -> None:
    """All in one act, with the checkpoint: what nearly every write is."""
    whole = Batch({"1": b"{}"}, frozenset({"2"}), Reason.CHANGE, position=POSITION)
    assert parts(whole) == [whole]


def test_the_arguments_are_what_the_script_reads() -> None:
    """Sections with their command, key and number of values, then the values, then the feed."""
    batch = Batch(
        {"1": b"one", "2": b"two"}, frozenset({"4", "3"}), Reason.CHANGE,
        debts={"all": "owed", "ids:1": None},
    )  # fmt: skip
    assert arguments(batch, {"position": "p"}, 0) == [
        "all", 5, "HSET", 1, 4, "HDEL", 1, 2, "HSET", 2, 2, "HSET", 4, 2, "HDEL", 4, 1,
        "1", b"one", "2", b"two", "3", "4", "position", "p", "all", "owed", "ids:1", 0,
    ]  # fmt: skip
    assert arguments(batch, {}, 9)[-5:] == [9, '["1", "2"]', "[]", "[]", '["3", "4"]']
    assert arguments(replace(batch, debts={"all": None}), {}, 0)[0] == ""


def test_all_keys_share_the_slot_of_the_hash() -> None:
    """The braces name the hash, which has none itself."""
    keys = Keys.of("tickets").all()
    assert keys[0] == "tickets"
    assert keys[1:] == [
        "{tickets}:checkpoint", "{tickets}:lease", "{tickets}:debts", "{tickets}:quarantine",
        "{tickets}:resync", "{tickets}:requests", "{tickets}:changes", "{tickets}:daemon",
    ]  # fmt: skip
