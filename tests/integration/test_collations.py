"""Which texts are one value of a view's key: those that the server calls equal."""

import random
from typing import Any

import pytest

from projector.databases import Mysql
from projector.mysql.collations import _folding
from projector.mysql.connection import Connection, engine
from projector.projection.columns import ColumnType
from tests.servers import DatabaseServer, Flavour

pytestmark = pytest.mark.server

_COMMON = ["utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_unicode_520_ci",
           "latin1_swedish_ci", "utf8mb3_general_ci"]  # fmt: skip
_OWN = {
    Flavour.MYSQL: ["utf8mb4_0900_ai_ci"],
    Flavour.MARIADB: ["utf8mb4_general_nopad_ci", "utf8mb4_uca1400_ai_ci"],
}
_TELLING = (
    "aAäÄàbßsSẞoOöØøłlLæÆaeñnN n\u0303éeE\u0301 \t\x01\u00a0"
    "|%:'-_0１ＡЖжёеΣςσ漢豈ｱアあがか각각ıiİI😀😎𝐀ﬁfi"
)


@pytest.mark.parametrize("name", [*_COMMON, "of the server"])
def test_texts_are_folded_as_the_server_compares(
    database: DatabaseServer, fresh_database: str, name: str
) -> None:
    """Random texts, equal after folding exactly where the server calls them equal."""
    names = _OWN.get(database.flavour, []) if name == "of the server" else [name]
    mysql = Mysql(url=database.url(fresh_database))
    source = engine(mysql.parsed_url, mysql)
    connection = Connection(source)
    for collation in names:
        charset = collation.partition("_")[0]
        _compare(connection, ColumnType("varchar", "varchar(9)", charset, collation))
    connection.close()
    source.dispose()


def _compare(connection: Connection, kind: ColumnType) -> None:
    made = _folding(kind, connection)
    chance = random.Random(kind.collation)
    limit = {"utf8mb4": "\U0010ffff", "utf8mb3": "\uffff"}.get(kind.charset or "", "\xff")
    letters = [c for c in _TELLING if c <= limit and (c >= " " or kind.charset == "utf8mb4")]
    pairs = []
    for _ in range(3000):
        text = "".join(chance.choices(letters, k=chance.randint(0, 4)))
        other = "".join(_alike(chance, made, c, letters) for c in text)
        pairs.append((text, other + chance.choice(["", "", " "])))
    form = f"CONVERT(_utf8mb4 0x{{}} USING {kind.charset}) COLLATE {kind.collation}"
    for first in range(0, len(pairs), 500):
        some = pairs[first : first + 500]
        asked = ",".join(
            f"{form.format(a.encode().hex() or '00')} = {form.format(b.encode().hex() or '00')}"
            for a, b in some
        )
        [[row]] = connection.query(f"SELECT {asked}")
        wrong = [
            (a, b, made.fold(a), made.fold(b))
            for (a, b), equal in zip(some, row, strict=True)
            if a and b and bool(int(equal)) != (made.fold(a) == made.fold(b))
        ]
        assert not wrong, f"{kind.collation}: {wrong[:5]}"


def _alike(chance: random.Random, made: Any, c: str, letters: list[str]) -> str:
    """The same letter, one that should be equal, or another."""
    equal = [other for other in letters if made.fold(other) == made.fold(c)]
    return chance.choice([c, chance.choice(equal or [c]), chance.choice(letters)])
