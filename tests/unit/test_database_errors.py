"""What each error number is taken for, and what is said of it."""

from pathlib import Path

import pymysql
import pytest
import sqlalchemy as sa

from projector.errors import RefusedError, TooMuchError, TransientError, ValueRefusedError
from projector.mysql.connection import meaning, translated
from projector.mysql.errors import NAME_BY_CODE, Meaning, meaning_of

RECORDED = Path(__file__).parent / "recorded" / "database_errors.txt"
ROWS = [line.split() for line in RECORDED.read_text().splitlines() if not line.startswith("#")]


def test_every_number_of_both_servers_is_sorted() -> None:
    """The recorded list says the class of each number; a change there is seen in review."""
    assert len(ROWS) > 2300
    wrong = [row for row in ROWS if meaning_of(int(row[0])) is not Meaning(row[3])]
    assert wrong == []


def test_the_names_are_those_of_the_servers() -> None:
    """A number that is sorted by name is that number on one of the servers."""
    names: dict[int, set[str]] = {}
    for number, _, name, _ in ROWS:
        names.setdefault(int(number), set()).add(name)
    odd = {
        code: name
        for code, name in NAME_BY_CODE.items()
        if not 2000 <= code < 2100 and name not in names.get(code, ())
    }
    # Retired by the newer servers, sent by older ones.
    assert odd == {}


@pytest.mark.parametrize("code", [1213, 1205, 1412, 3032, 1969, 3024, 1317, 1040, 1290, 145, 5, 28])
def test_what_passes_is_told_by_its_own_name(code: int) -> None:
    """Number and text of the server, not that it is away."""
    found = meaning(pymysql.err.OperationalError(code, "its own words"))
    assert isinstance(found, TransientError)
    assert found.answered
    assert str(code) in str(found)
    assert "its own words" in str(found)
    assert "away" not in str(found)


@pytest.mark.parametrize("code", [1045, 1142, 1146, 1054, 1049, 1064, 1267, 1055])
def test_what_hardly_passes_comes_with_a_remedy(code: int) -> None:
    """A command ends with it; the daemon waits."""
    found = meaning(pymysql.err.ProgrammingError(code, "said so"))
    assert isinstance(found, RefusedError)
    assert found.remedy


@pytest.mark.parametrize("code", [1690, 3140, 1242, 4038, 3037, 1644])
def test_a_value_is_never_quoted(code: int) -> None:
    """The text of such an error may hold what the row holds."""
    found = meaning(pymysql.err.DataError(code, "BIGINT value 'secret' is out of range"))
    assert isinstance(found, ValueRefusedError)
    assert "secret" not in str(found)
    assert str(code) in str(found)


def test_what_nobody_knows_may_pass_and_quotes_nothing() -> None:
    """A proxy's own number, a plugin's, a newer server's: never the end."""
    for code in (4999, 9001, 50000, 65535):
        found = meaning(pymysql.err.InternalError(code, "odd 'secret' thing"))
        assert isinstance(found, TransientError)
        assert "secret" not in str(found)
        assert "nothing is known" in str(found)


def test_silence_is_too_much_and_a_lost_line_is_away() -> None:
    """A read that timed out may succeed with less; a broken line has nothing to do with size."""
    silent = pymysql.err.OperationalError(2013, "Lost connection (timed out)")
    silent.__context__ = TimeoutError("timed out")
    assert isinstance(meaning(silent), TooMuchError)
    lost = meaning(pymysql.err.OperationalError(2013, "Lost connection"))
    assert isinstance(lost, TransientError)
    assert not isinstance(lost, TooMuchError)
    assert not lost.answered


def test_an_error_that_sqlalchemy_wraps_is_the_servers() -> None:
    """It asks each new server's first connection something of its own, and may meet anything."""
    lost = pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")
    with pytest.raises(TransientError, match="2013") as caught, translated():
        raise sa.exc.OperationalError("SELECT DATABASE()", {}, lost)
    assert not caught.value.answered
    with pytest.raises(sa.exc.DBAPIError), translated():
        raise sa.exc.DBAPIError("x", {}, ValueError("x"))
