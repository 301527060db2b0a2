"""Our keys are the library's, of random tables of all types, on all servers and row images.

Where the library cannot read a log, its keys are those of the same statements logged plainly.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

import pytest

from projector.model import TableName, Watch
from projector.mysql.literals import literal
from projector.mysql.position import Position
from tests.integration.library_reading import Flat, flat, library_rows, same
from tests.integration.random_tables import Column, Table, random_statements, random_table
from tests.integration.source_reading import reading
from tests.servers import DatabaseServer, Flavour

pytestmark = [
    pytest.mark.server,
    # The library's own.
    pytest.mark.filterwarnings("ignore:.*(utcfromtimestamp|is deprecated, use):DeprecationWarning"),
]

SCHEMA = "differential"
STATEMENTS = 60


@pytest.fixture(scope="module", params=["mysql", "mariadb", "mariadb11"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    """Each server whose log is read."""
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@contextmanager
def globally(server: DatabaseServer, **variables: object) -> Iterator[None]:
    """Set global variables for a while."""
    before = {name: server.execute(f"SELECT @@GLOBAL.{name}")[0][0] for name in variables}
    try:
        for name, value in variables.items():
            server.execute(f"SET GLOBAL {name} = %s", value)
        yield
    finally:
        for name, value in before.items():
            server.execute(f"SET GLOBAL {name} = %s", value)


def run(
    server: DatabaseServer, table: Table, statements: Sequence[str], *prepare: str
) -> tuple[Position, Position]:
    """Make the table again and run the statements; the places in the log before and after."""
    server.drop_database(SCHEMA)
    server.create_database(SCHEMA)
    server.execute("FLUSH BINARY LOGS")
    with server.connect(SCHEMA) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = '', time_zone = '+00:00'")
        for statement in prepare:
            cursor.execute(statement)
        cursor.execute(table.definition())
        start = current(server)
        for statement in statements:
            cursor.execute(statement)
    return start, current(server)


def current(server: DatabaseServer) -> Position:
    with reading(server) as log:
        return log.source.current()


def our_rows(
    server: DatabaseServer, watched: Watch, start: Position, end: Position
) -> tuple[list[Flat], int]:
    """What our reader reads between two places, and how many rows it counted."""
    with reading(server, watched, start=start) as log:
        changes = log.read_to(end).changes
    return flat(changes), sum(getattr(change, "row_count", 0) for change in changes)


def watching(
    table: Table, columns: Sequence[str] | None = None, read: Sequence[str] | None = None
) -> Watch:
    """Watch all columns that may be keys, and see every update, unless told otherwise."""
    seen = [column.name for column in table.columns] if read is None else read
    return Watch(TableName(SCHEMA, "t"), tuple(columns or table.keys), frozenset(seen))


def differences(table: Table, ours: Sequence[Flat], theirs: Sequence[Flat]) -> list[object]:
    """The values that are not the same, with the types of their columns."""
    assert [row[0] for row in ours] == [row[0] for row in theirs]
    types = [column.type for column in table.columns if column.can_be_key]
    found: list[object] = []
    for (_, *our_images), (_, *their_images) in zip(ours, theirs, strict=True):
        for our_image, their_image in zip(our_images, their_images, strict=True):
            assert (our_image is None) == (their_image is None)
            values = zip(
                types,
                our_image or [None] * len(types),
                their_image or [None] * len(types),
                strict=True,
            )
            found += [value for value in values if not same(value[1], value[2])]
    return found


@pytest.mark.parametrize("image", ["FULL", "NOBLOB", "MINIMAL"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_keys_are_those_of_the_library(server: DatabaseServer, image: str, seed: int) -> None:
    """Every column of every row before and after is what mysql-replication gives, or missing."""
    random = Random(f"{seed} {image}")
    # 32 columns in all: the library takes unused bits of a bitmap, set under NOBLOB, for columns.
    table = random_table(random, server.flavour, is_for_library=True, size=29)
    statements = random_statements(random, table, STATEMENTS)
    with globally(server, binlog_row_metadata="FULL"):
        start, end = run(server, table, statements, f"SET SESSION binlog_row_image = {image}")
        theirs = list(library_rows(server, SCHEMA, table.keys, start, end))
    ours, count = our_rows(server, watching(table), start, end)
    assert len(ours) == count == len(theirs) > STATEMENTS / 2
    assert differences(table, ours, theirs) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_values_find_their_rows_in_sql(server: DatabaseServer, seed: int) -> None:
    """Of all types, what the log says of a row is what a look-up finds that row by."""
    random = Random(seed)
    table = random_table(random, server.flavour, is_for_library=False, size=36)
    start, end = run(server, table, random_statements(random, table, STATEMENTS))
    ours, _ = our_rows(server, watching(table), start, end)
    rows: list[tuple[object, ...]] = []
    for _, before, after in ours:
        if before is not None:
            rows.remove(before)
        if after is not None:
            rows.append(after)
    assert len(rows) == server.execute("SELECT COUNT(*) FROM t", database=SCHEMA)[0][0] > 0
    session = "SET time_zone = '+00:00', sql_mode = ''"
    with server.connect(SCHEMA, init_command=session) as connection, connection.cursor() as cursor:
        for row in rows:
            for name, value in zip(table.keys, row, strict=True):
                shown = "NULL" if value is None else literal(value)
                cursor.execute(
                    f"SELECT {name} <=> {shown} FROM t WHERE id = %s AND k = %s",
                    [row[table.keys.index("id")], row[table.keys.index("k")]],
                )
                assert (1,) in cursor.fetchall(), (name, value)


def test_lengths_of_one_and_of_two_bytes_are_told_apart(server: DatabaseServer) -> None:
    """Around 255 bytes, where the length before a value grows, each value is read whole."""
    kinds = ["VARBINARY({})", "VARCHAR({}) CHARACTER SET latin1"]
    if server.flavour is not Flavour.MYSQL:
        kinds.append("VARBINARY({}) COMPRESSED")
    types = [kind.format(size) for kind in kinds for size in range(253, 259)]
    types += ["BINARY(255)", "CHAR(63)", "CHAR(64)"]
    columns = [Column(f"c{i}", kind, lambda _: "''") for i, kind in enumerate(types)]
    columns.append(Column("id", "INT UNSIGNED PRIMARY KEY", lambda _: "0"))
    table = Table(tuple(columns), "")
    filled = [f"REPEAT('x', {re.findall('[0-9]+', kind)[0]})" for kind in types]
    rows = [[*filled, "1"], ["''"] * len(types) + ["2"]]
    statements = [f"INSERT INTO t VALUES ({', '.join(values)})" for values in rows]
    ours, _ = our_rows(server, watching(table), *run(server, table, statements))
    expected = server.execute("SELECT * FROM t ORDER BY id", database=SCHEMA)
    assert [after for _, _, after in ours] == [tuple(row) for row in expected]


FEATURES = {
    "compressed": ["SET SESSION binlog_transaction_compression = ON"],
    "tagged": ["SET SESSION gtid_next = 'AUTOMATIC:projector_test'"],
    "partial JSON": ["SET SESSION binlog_row_value_options = 'PARTIAL_JSON'"],
    "partial JSON, minimal": [
        "SET SESSION binlog_row_value_options = 'PARTIAL_JSON', binlog_row_image = MINIMAL"
    ],
}


@pytest.mark.parametrize("feature", FEATURES)
def test_mysqls_features_change_no_key(mysql: DatabaseServer, feature: str) -> None:
    """Compression, tags and partial JSON give the keys of the same statements without them."""
    random = Random(feature)
    table = random_table(random, mysql.flavour, is_for_library=False, size=24)
    statements = random_statements(random, table, STATEMENTS)
    image = "MINIMAL" if "minimal" in feature else "FULL"
    plain = run(mysql, table, statements, f"SET SESSION binlog_row_image = {image}")
    expected = our_rows(mysql, watching(table), *plain)
    found = our_rows(mysql, watching(table), *run(mysql, table, statements, *FEATURES[feature]))
    assert found == expected
    assert len(found[0]) > STATEMENTS / 2


@pytest.mark.parametrize("image", ["FULL", "NOBLOB", "MINIMAL"])
@pytest.mark.parametrize("flavour", [Flavour.MARIADB, Flavour.MARIADB_11], ids=str)
def test_mariadbs_compression_changes_no_key(
    flavour: Flavour, image: str, request: pytest.FixtureRequest
) -> None:
    """Compressed rows give the keys of the same statements without compression."""
    server: DatabaseServer = request.getfixturevalue(flavour.value)
    random = Random(image)
    table = random_table(random, server.flavour, is_for_library=False, size=24)
    statements = random_statements(random, table, STATEMENTS)
    session = f"SET SESSION binlog_row_image = {image}"
    expected = our_rows(server, watching(table), *run(server, table, statements, session))
    with globally(server, log_bin_compress=1, log_bin_compress_min_len=10):
        compressed = run(server, table, statements, session)
    found = our_rows(server, watching(table), *compressed)
    assert found == expected
    assert len(found[0]) > STATEMENTS / 2


def test_names_of_columns_in_the_log_change_no_key(server: DatabaseServer) -> None:
    """By the names in the log and by the catalog's ordinals the same columns are read."""
    random = Random(7)
    table = random_table(random, server.flavour, is_for_library=False, size=24)
    statements = random_statements(random, table, STATEMENTS)
    expected = our_rows(server, watching(table), *run(server, table, statements))
    with globally(server, binlog_row_metadata="FULL"):
        named = run(server, table, statements)
    assert our_rows(server, watching(table), *named) == expected


@pytest.mark.parametrize("seed", range(5))
def test_fewer_columns_are_read_out_of_the_same_rows(server: DatabaseServer, seed: int) -> None:
    """Any columns in any order; only updates that change nothing read are left out, but counted."""
    random = Random(seed)
    table = random_table(random, server.flavour, is_for_library=False, size=16)
    start, end = run(server, table, random_statements(random, table, STATEMENTS))
    everything, count = our_rows(server, watching(table), start, end)
    columns = random.sample(table.keys, 3)
    read = random.sample(table.keys, 2)
    few, counted = our_rows(server, watching(table, columns, read), start, end)

    def picked(names: Sequence[str], image: Sequence[object] | None) -> object:
        return image and tuple(image[table.keys.index(name)] for name in names)

    expected = [
        (kind, picked(columns, before), picked(columns, after))
        for kind, before, after in everything
        if kind != "update" or picked(read, before) != picked(read, after)
    ]
    assert few == expected
    assert counted == count == len(everything)
    assert len(few) < len(everything)
