"""The worlds abroad themselves: the daemon there is the documented account and nothing more."""

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from projector.projection import Projection
from tests.abroad.world import MakeWorld

pytestmark = pytest.mark.server

_thing = sa.Table(
    "thing", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", sa.Text)
)
things = Projection("things", root=_thing, fields=[_thing.c.id, _thing.c.v])


def test_a_table_is_followed_as_the_documented_account(abroad: MakeWorld) -> None:
    """The account may read the table and the log, and nothing else."""
    world = abroad(
        "CREATE TABLE thing (id INT PRIMARY KEY, v TEXT); INSERT INTO thing VALUES (1, 'a')",
        "tests.abroad.test_world:things",
    )
    world.start()
    world.execute("INSERT INTO thing VALUES (2, NULL)", "UPDATE thing SET v = 'b' WHERE id = 1")
    world.expect({"1": {"id": 1, "v": "b"}, "2": {"id": 2, "v": None}})
    user = make_url(world.url)
    connection = world.database.connect(world.schema, user=user.username, password=user.password)
    with connection, pytest.raises(pymysql.err.OperationalError, match="denied"):
        connection.cursor().execute("INSERT INTO thing VALUES (3, 'c')")
