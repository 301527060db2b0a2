"""Whoever comes with tables of their own is told the next step."""

import contextlib
import json
from pathlib import Path

import pytest

from tests.projector_process import Projector
from tests.servers import DatabaseServer, RedisServer
from tests.servers.account import documented_account

pytestmark = pytest.mark.server

_MANY = """
import sqlalchemy as sa
from projector.projection import Many, Projection
metadata = sa.MetaData()
t = sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True))
tables = [sa.Table(f"u{i}", metadata, sa.Column("id", sa.Integer, primary_key=True),
                   sa.Column("t_id", sa.Integer)) for i in range(12)]
documents = Projection("t", t, [t.c.id], collections=[
    Many(u.name, u, on=u.c.t_id == t.c.id, value=u.c.id) for u in tables])
"""


def test_without_a_projection_the_next_step_is_one_line(
    database: DatabaseServer, fresh_database: str, redis_server: RedisServer
) -> None:
    """Not what the example would miss; the servers are looked at all the same."""
    database.load_sql("CREATE TABLE orders (id INT PRIMARY KEY)", fresh_database)
    url = documented_account(database, fresh_database)
    with contextlib.closing(_daemon(url, redis_server.url(db=1))) as daemon:
        del daemon.environment["PROJECTOR_PROJECTION"]
        done = daemon.run("check", "--json")
        assert done.returncode == 1
        checks = json.loads(done.stdout)
        [only] = [c for c in checks if c["status"] == "failed"]
        assert only["name"] == "projection"
        assert "projector scaffold TABLE" in only["fix"]
        assert {"mysql.reachable", "redis.reachable"} <= {c["name"] for c in checks}
        daemon.environment["PROJECTOR_PROJECTION"] = "schema.projection:tickets"
        chosen = daemon.run("check").stdout
    assert "PROJECTOR_PROJECTION is not set" not in chosen
    assert "\nfailed " in chosen


def test_many_findings_end_in_a_sum(
    database: DatabaseServer, fresh_database: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Twelve missing indexes are not twelve pages; rows are counted as they are; an empty table
    is said to be one."""
    (tmp_path / "many_lists.py").write_text(_MANY, "utf-8")
    tables = ";".join(f"CREATE TABLE u{i} (id INT PRIMARY KEY, t_id INT)" for i in range(12))
    database.load_sql(f"CREATE TABLE t (id INT PRIMARY KEY);{tables}", fresh_database)
    database.load_sql("INSERT INTO u3 VALUES (1, 1), (2, 1), (3, 2)", fresh_database)
    url = documented_account(database, fresh_database)
    with contextlib.closing(_daemon(url, redis_server.url(db=1))) as daemon:
        daemon.environment |= {
            "PROJECTOR_PROJECTION": "many_lists:documents", "PYTHONPATH": str(tmp_path),
        }  # fmt: skip
        shown = daemon.run("check").stdout
        assert "t.indexes: 4 more like these" in shown
        assert shown.rstrip().splitlines()[-1].split(":")[0].endswith(" checks")
        details = [c["detail"] for c in json.loads(daemon.run("check", "--json").stdout)]
        assert any(".u3 is read whole (about 3 rows)" in detail for detail in details)
        assert "note: there is no document of t yet" in daemon.run("explain").stdout


class _CommandLine(Projector):
    def close(self) -> None:
        self.__exit__(None)


def _daemon(url: str, redis_url: str) -> _CommandLine:
    return _CommandLine(url, redis_url, PROJECTOR_PROJECTION="")
