"""The compiled core gives the bytes, the rows and the errors of the Python that it replaces."""

import json
import struct
import subprocess
import sys
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from pymysql.err import OperationalError

from projector import compiled
from projector.commands.check import _core
from projector.databases import Mysql
from projector.mysql.binlog.transactions import Assembler
from projector.mysql.position import Flavour
from projector.postgres import results
from projector.projection import encoding
from projector.projection.encoding import Promise
from projector.settings import Settings
from tests.native import both, wire
from tests.native.core import ROOT, current, has_compiler
from tests.native.log import SMALL, Log, in_all, made_log, read
from tests.native.made_up import MadeUp
from tests.unit.recorded_rows import recorded
from tests.unit.test_fuzz_events import changed

pytestmark = pytest.mark.skipif(not has_compiler(), reason="there is no C compiler here")

_ENCODERS = {encode.__name__: encode for encode in encoding._COMPILED if encode is not None}
# What a server promises of a value before it is taken without a look, as a pattern.
_TRUSTED = {
    "date_time": r"\d{4}-\d{2}-\d{2} [01]\d:[0-5]\d:[0-5]\d(\.\d{1,6})?",
    "date_only": r"\d{4}-\d{2}-\d{2}",
    "time_of_day": r"-?\d{2,3}:\d{2}:\d{2}(\.\d{1,6})?",
}
_FORMS = (
    r"[-+]?\d{1,20}", r"-?\d{1,17}(\.\d{0,17})?(e[-+]?\d{1,3})?", r"\d{4}-[01]\d-[0-3]\d",
    r"(0000|1900|20\d\d)-(02|12)-(28|29|3\d|00)[ T][0-2]\d:[0-6]\d:[0-6]\d(\.\d{1,7})?",
    r"[0-2]\d:[0-6]\d:[0-6]\d(\.\d{0,7})?", "[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}",
    r"[ \[\]{}\":,\\u0-9dD8eE.\-a-z\t]{0,30}",
)  # fmt: skip
_JSON_TEXTS = st.builds(
    lambda value, ascii, indent: json.dumps(value, ensure_ascii=ascii, indent=indent).encode(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8"), max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.text(st.characters(codec="utf-8"), max_size=6), inner, max_size=3
        ),
        max_leaves=10,
    ),
    st.booleans(), st.sampled_from([None, 1, "\t"]),
)  # fmt: skip
_values = (
    st.binary(max_size=40)
    | st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.one_of([st.from_regex(form, fullmatch=True) for form in _FORMS]).map(str.encode)
    | _JSON_TEXTS
)


def _encoder(core: Any, name: str, encode: Any) -> Any:
    field = (b'"v":', name, encode)
    return core.Encoder(((1, 1, False, True, b"", b"", b"", ((field,), (), ()), None),))


def _written(core: Any, name: str, encode: Any, value: bytes) -> bytes | None:
    [rows] = both.fed(core, [([Promise.WHOLE, Promise.NOTHING], [(b"1", value)])])
    found = _encoder(core, name, encode).documents([rows])
    return None if found is None else found[0][1].removeprefix(b'{"v":').removesuffix(b"}")


@pytest.mark.parametrize("name", sorted(_ENCODERS))
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_value_is_written_as_python_writes_it(name: str, data: st.DataObject) -> None:
    """Or refused, as there: by each encoder, whatever the bytes that its column may hold."""
    encode = _ENCODERS[name]
    values = _values
    if name in _TRUSTED:
        values = st.from_regex(_TRUSTED[name], fullmatch=True).map(str.encode)
    elif name == "trusted_json":
        values = _JSON_TEXTS
    value = data.draw(values)
    try:
        wanted: bytes | None = encode(value)
    except ValueError:
        wanted = None
    assert _written(current(), name, encode, value) == wanted


_COMMON = {
    "text": 'a "text" \\ with\nall 中 of it', "any_text": "中", "whole_number": "-42",
    "boolean": "1", "bits_boolean": "\1", "any_boolean": "0", "date_only": "2024-02-29",
    "date_time": "2026-11-22 21:59:12.452458", "any_date_time": "2026-11-22 21:59:12",
    "any_date": "1999-12-31", "time_of_day": "23:59:59.5", "number_as_text": "12.50",
    "any_number_as_text": "12.50", "floating": "-1.25", "blob": "abcd", "bits": "\1\2",
    "uuid_bytes": "0123456789abcdef", "uuid_text": "123e4567-e89b-42d3-8456-426655440000",
    "json_value": '{"a": [1, 2.5e3, null], "b c": {"d": "\\u00e9\\n"}}', "trusted_json": "[1, 2]",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(_ENCODERS))
def test_usual_values_are_written_without_python(name: str) -> None:
    """Nobody is asked about them, or nothing would be won."""

    def nobody(value: bytes) -> bytes:
        raise AssertionError

    value = _COMMON[name].encode()
    assert _written(current(), name, nobody, value) == _ENCODERS[name](value)


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_documents_are_those_of_python(seed: int) -> None:
    """Of made-up projections and rows: the same documents, and the same reasons without one."""
    made = MadeUp(seed)
    for _ in range(2):
        ours, theirs = both.documents(current(), made.plan, made.answers())
        assert ours == theirs


def test_made_up_rows_are_such_as_make_documents() -> None:
    """Most of them do, without a word of Python; some cannot be written."""
    refused = 0
    for seed in range(60):
        made = MadeUp(seed)
        rows = both.fed(current(), made.answers())
        with both.using(current()):
            made.plan.documents(rows)
            [encoder] = made.plan.top.encoders.values()
            refused += encoder.documents(rows) is None
    assert 1 < refused < 30


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
@settings(max_examples=12, deadline=None)
def test_answers_are_taken_apart_as_the_driver_does(
    seed: int, is_cut: bool, is_refused: bool
) -> None:
    """However their bytes come in, and wherever they break off or end in a refusal."""
    random = Random(seed)
    answers: list[wire.Result | None] = [*MadeUp(seed).answers()]
    answers.insert(random.randrange(len(answers) + 1), None)
    said = list(wire.bodies(answers, status=random.choice([2, 3, 0x4003])))
    if is_refused:
        at = random.randrange(len(said))
        said[at:] = [b"\xff" + struct.pack("<H", random.choice([1205, 1054, 4031])) + b"#HY000no"]
    stream = wire.packets(said)
    if is_cut:
        stream = stream[: random.randrange(len(stream))]
    ours = both.received(current(), stream, random)
    theirs = both.received(None, stream, random)
    if is_cut and isinstance(ours[0], type):
        assert ours[0] is theirs[0] is OperationalError
    else:
        assert ours == theirs


@pytest.mark.parametrize("size", [250, 251, 65535, 65536, 0xFFFFFF - 5, 0xFFFFFF - 4, 0xFFFFFF * 2])
def test_large_values_come_whole(size: int) -> None:
    """Also those that take several packets, of which the last may be empty."""
    rows = [(b"1", b"x" * size), (b"2", None), (b"3", b"")]
    stream = wire.packets(list(wire.bodies([([Promise.WHOLE, Promise.TEXT], rows)])))
    ours = both.received(current(), stream, Random(1))
    assert ours == both.received(None, stream, Random(1))
    assert [row for _, found in ours[0] for row in found] == rows


@given(st.integers(0, 2**32), st.integers(0, 400))
@settings(max_examples=12, deadline=None)
@example(0, 0)
def test_rows_without_room_are_refused(seed: int, room: int) -> None:
    """At the same size as in Python."""
    stream = wire.packets(list(wire.bodies(MadeUp(seed).answers())))
    ours = both.received(current(), stream, Random(seed), room)
    assert ours == both.received(None, stream, Random(seed), room)


def test_without_the_core_python_does_the_work() -> None:
    """It is switched off before any work, and says so."""
    before = compiled.core
    try:
        compiled.use(wanted=False)
        assert compiled.core is None
        assert compiled.described() != "in use"
    finally:
        compiled.core = before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sanitizers_find_nothing() -> None:
    """A short `make fuzz`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.native", "--seconds", "3"], cwd=ROOT, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-5000:]
    assert "nothing found" in done.stdout


def test_check_says_whether_the_core_is_in_use() -> None:
    """It is a warning that there is none, but not that nobody wants it."""
    wanted = Settings(mysql=Mysql(url=SecretStr("mysql://h/d")))
    unwanted = wanted.model_copy(update={"compiled": False})
    with both.using(current()):
        assert (_core(wanted).status, _core(wanted).detail) == ("ok", "in use")
    with both.using(None):
        assert _core(wanted).status == "warning"
        assert _core(wanted).fix
        assert _core(unwanted).status == "ok"


@pytest.mark.parametrize("name", ["mysql", "mariadb", "mariadb11"])
def test_rows_of_the_log_are_those_of_python(name: str) -> None:
    """Recorded ones, whole, cut and damaged: the same rows, or the same error."""
    log, random = recorded(name), Random(name)
    with both.using(current()):
        ours = log.decoder()
    with both.using(None):
        theirs = log.decoder()
    decoded = 0
    for _ in range(500):
        kind, body = random.choice(log.events)
        if random.random() < 0.7:
            body = changed(random, body)
        end = len(body) if random.random() < 0.9 else random.randrange(len(body))
        wanted = both.outcome(theirs.decode, kind, body, 0, end)
        assert repr(both.outcome(ours.decode, kind, body, 0, end)) == repr(wanted)
        decoded += ours.compiled.decode(kind, body, 0, end) is not None
    assert decoded > 15


@pytest.mark.parametrize("flavour", [Flavour.MYSQL, Flavour.MARIADB])
@given(seed=st.integers(0, 2**32), is_damaged=st.booleans())
@settings(max_examples=20, deadline=None)
def test_logs_are_read_as_python_reads_them(flavour: Flavour, seed: int, is_damaged: bool) -> None:
    """Made-up logs of every kind of transaction give the same changes, places, times and ends."""
    log = made_log(seed, flavour, is_damaged=is_damaged)
    with both.using(current()):
        ours = in_all(*read(log, seed))
    with both.using(None):
        theirs = in_all(*read(log, seed))
    assert ours == theirs


@pytest.mark.parametrize("lone", [False, True])
def test_rows_of_a_transaction_without_an_end_are_dropped(lone: bool) -> None:
    """Also where its damaged head called it a lone statement."""
    log = Log(Random(4), Flavour.MARIADB, is_damaged=False)
    for has_end in (True, False, True):
        log.begin(lone=lone and not has_end)
        log.map(SMALL, 1)
        log.small_rows(1)
        if has_end:
            log.end()
    found = []
    for core in (current(), None):
        with both.using(core):
            emitted, _ = read(log, 1)
            found.append(in_all(emitted, ""))
    assert found[0] == found[1]
    assert sum(len(each.changes) for each in emitted) == sum(each.count for each in emitted) == 2


def test_most_of_a_log_is_taken_by_the_core() -> None:
    """Or nothing would be won: nearly every transaction is a plain one."""
    log, ended = made_log(1, Flavour.MYSQL, count=300), []
    take_end = Assembler._take_end

    def counted(self: Assembler, buf: bytes, at: int, end: int) -> None:
        ended.append(at)
        take_end(self, buf, at, end)

    with both.using(current()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Assembler, "_take_end", counted)
        emitted, _ = read(log, 1)
    total = sum(each.count for each in emitted)
    assert len(ended) < total * 2 / 3, (len(ended), total)


_SIZES = st.sampled_from([0, 1, 250, 251, 252])
_TEXTS = st.one_of(
    st.none(), st.binary(max_size=40), _SIZES.map(lambda size: b"x" * size),
    st.sampled_from([b"t", b"f", b"infinity", b"-infinity", b"2026-11-26 01:02:03.5+00",
                     b"0044-03-15 00:00:00+00 BC", b"12026-01-01 00:00:00", b"+00", b"C", b"2026"]),
)  # fmt: skip
_FIXES = st.lists(
    st.sampled_from([None, results.boolean, results.moment, results.moment_of_zone, bytes.upper]),
    max_size=5,
)


@given(_FIXES.flatmap(lambda fixes: st.tuples(
    st.just(fixes), st.lists(st.tuples(*[_TEXTS] * len(fixes)), max_size=5))))  # fmt: skip
def test_texts_of_postgres_are_brought_into_the_same_form(made: Any) -> None:
    """Whatever a value is, and however long; moments that are none, too."""
    fixes, rows = made
    forms = tuple(results._COMPILED.get(fix, fix) for fix in fixes)
    assert list(current().Rows.of(rows, forms)) == results.fixed_rows(rows, fixes)


@pytest.mark.parametrize("size", [65_535, 65_536, (1 << 24) - 1, 1 << 24])
def test_values_may_have_any_length(size: int) -> None:
    """Their lengths are written in two, three and eight bytes."""
    [[value]] = current().Rows.of([(bytes(size),)], (0,))
    assert value == bytes(size)


@pytest.mark.parametrize(
    ("rows", "forms"),
    [([(b"1",)], (0, 0)), ([[b"1"]], (0,)), ([("1",)], (0,)), ([(b"1",)], (9,)), ((), ()),
     ([(b"1",)], (lambda value: "text",)), ([(b"\\xzz",)], (results.unhexed,))],
)  # fmt: skip
def test_what_are_no_rows_is_refused(rows: Any, forms: Any) -> None:
    """And hands on what Python raises."""
    with pytest.raises((TypeError, ValueError)):
        current().Rows.of(rows, forms)
