"""What `check` says of replica identities is what the server does, and its statements mend it."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest
import sqlalchemy as sa

from projector.checks import Check
from projector.commands import check_postgres
from projector.databases import Source
from projector.postgres.dialect import POSTGRES
from projector.projection import Many, Plan, Projection
from projector.settings import Settings
from tests.servers import PostgresServer
from tests.servers.role import documented_role, role_of

pytestmark = pytest.mark.server

SHAPES = 30
_18 = 180000

_METADATA = sa.MetaData()
_PARENT = sa.Table("parent", _METADATA, sa.Column("id", sa.Integer, primary_key=True))
_CHILD = sa.Table(
    "child", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", sa.Integer), sa.Column("note", sa.Text),
)  # fmt: skip
_PLAN = Plan(
    Projection(
        "parents", _PARENT, list(_PARENT.c),
        collections=[Many("children", _CHILD, on=_CHILD.c.parent_id == _PARENT.c.id,
                          fields=[_CHILD.c.id, _CHILD.c.note])],
    ),
    POSTGRES,
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A table `child`, its identity, and whether stored columns are published."""

    columns: str
    identity: str
    publishes_generated: bool


_PLAIN = "id int NOT NULL, base int, parent_id int NOT NULL, note text, "
_EDGES = [
    Shape(_PLAIN + key, "DEFAULT", publishes_generated=False)
    for key in (
        "PRIMARY KEY (id, parent_id)",
        "PRIMARY KEY (id, parent_id) DEFERRABLE",
        "PRIMARY KEY (id) INCLUDE (parent_id)",
        "PRIMARY KEY (id) INCLUDE (parent_id) DEFERRABLE",
    )
]


def shapes(number: int) -> list[Shape]:
    """Return made-up tables, after some that chance brings together too seldom. `number`: the
    server's version."""
    chance = random.Random(number)
    return [*_EDGES, *(_shape(chance, is_new=number >= _18) for _ in range(SHAPES))]


def _shape(chance: random.Random, *, is_new: bool) -> Shape:
    kinds = ["STORED", "VIRTUAL"] if is_new else ["STORED"]
    computed = "int GENERATED ALWAYS AS ({} + 1) " + chance.choice(kinds)
    base = "base int" + chance.choice([" NOT NULL", ""])
    parent = chance.choice(["int NOT NULL", "int", computed.format("base")])
    more = chance.choice(["", "", ", more " + computed.format("base")])
    index = ", CONSTRAINT wide UNIQUE (base, id)" if "NOT NULL" in base else ""
    key = chance.choice(
        ["PRIMARY KEY (id)", "PRIMARY KEY (id) DEFERRABLE", "PRIMARY KEY (id) INCLUDE (base)",
         "PRIMARY KEY (id, base)", "CHECK (true)"]
    )  # fmt: skip
    if index and chance.random() < 0.3:
        identity = "USING INDEX wide"
    else:
        identity = chance.choice(["DEFAULT", "DEFAULT", "FULL", "NOTHING"])
    columns = f"id int NOT NULL, {base}, parent_id {parent}, note text{more}{index}, {key}"
    return Shape(columns, identity, is_new and chance.random() < 0.5)


def test_what_is_said_of_an_identity_is_so(
    postgres_server: PostgresServer, fresh_postgres: str
) -> None:
    """A failure: the application's UPDATE fails. The statements end it, and all walks that an
    identity can end."""
    server, name = postgres_server, fresh_postgres

    def run(*statements: str) -> None:
        for statement in statements:
            server.execute(statement, database=name)

    run("CREATE TABLE parent (id int PRIMARY KEY)")
    url = documented_role(server, name, ["parent"])
    settings = Settings(source=Source(url=url, slot=f"s_{name}"), projection="a:b")
    [[number]] = server.execute("SHOW server_version_num")
    failing = 0
    for shape in shapes(int(number)):
        run(
            f"CREATE TABLE child ({shape.columns})",
            f"ALTER TABLE child REPLICA IDENTITY {shape.identity}",
            "ALTER PUBLICATION projector ADD TABLE child",
            f"GRANT SELECT ON child TO {role_of(name)}",
            "INSERT INTO child (id, base) VALUES (1, 1)"
            if "GENERATED" in shape.columns.partition("note")[0]
            else "INSERT INTO child (id, base, parent_id) VALUES (1, 1, 1)",
        )
        if shape.publishes_generated:
            run("ALTER PUBLICATION projector SET (publish_generated_columns = 'stored')")
        failing += _judge(run, lambda: check_postgres.every(settings, [_PLAN]), shape)
        run("DROP TABLE child")
        if shape.publishes_generated:
            run("ALTER PUBLICATION projector SET (publish_generated_columns = 'none')")
    assert 0 < failing < len(_EDGES) + SHAPES


def _judge(run: Callable[..., None], check: Callable[[], list[Check]], shape: Shape) -> bool:
    """Compare what is said with what happens; do what is said; return whether it failed."""
    said = _said(check())
    is_failing = any(each.status == "failed" for each in said)
    assert is_failing == _fails(run), (shape, said)
    if shape in _EDGES:  # only of the first the log has the old parent_id
        assert bool(said) == (shape != _EDGES[0]), (shape, said)
    keys = [c for c in check() if c.name == "parents.keys" and c.status != "ok"]
    assert bool(keys) == ("(id)" not in shape.columns), (shape, keys)
    for _ in range(3):
        fixes = [each.fix for each in said if each.fix.startswith(("ALTER", "CREATE"))]
        if not fixes:
            break
        run(*itertools.chain(*map(_statements, fixes)))
        said = _said(check())
    assert all(not each.fix.startswith(("ALTER", "CREATE")) for each in said), (shape, said)
    is_hopeless = any(each.fix.startswith("Give") for each in said)
    assert is_hopeless or not _fails(run), (shape, said)
    return is_failing


def _said(checks: list[Check]) -> list[Check]:
    found = [check for check in checks if check.name == "postgres.replica_identity"]
    assert found, checks
    return [check for check in found if check.status != "ok"]


def _fails(run: Callable[..., None]) -> bool:
    try:
        run("UPDATE child SET note = 'x'")
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return True
    except psycopg.errors.InvalidColumnReference:  # PostgreSQL 18
        return True
    return False


def _statements(fix: str) -> list[str]:
    return [each for each in (part.strip() for part in fix.split(";")) if each[:1] not in ("", "(")]
