"""`projector setup`: from bare tables to a check without a complaint, as the tables' owner."""

import threading
from dataclasses import dataclass, field

import psycopg
import pytest
import sqlalchemy as sa

from projector.commands import check_postgres, setup
from projector.commands.setup import Outcome
from projector.databases import Source
from projector.errors import ConfigurationError, OperatorError
from projector.postgres.dialect import POSTGRES
from projector.projection import Many, Plan, Projection
from projector.settings import Settings
from tests.servers import PostgresServer

pytestmark = pytest.mark.server

_SECRET = "it's a secret"

_METADATA = sa.MetaData()
_PARENT = sa.Table("Parent", _METADATA, sa.Column("id", sa.Integer, primary_key=True))
_CHILD = sa.Table(
    "child", _METADATA, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", sa.Integer), schema="odd schema",
)  # fmt: skip
_PLAN = Plan(
    Projection(
        "parents", _PARENT, list(_PARENT.c),
        collections=[Many("children", _CHILD, on=_CHILD.c.parent_id == _PARENT.c.id,
                          fields=[_CHILD.c.id])],
    ),
    POSTGRES,
)  # fmt: skip
_TABLES = (
    'CREATE TABLE public."Parent" (id int PRIMARY KEY)',
    'CREATE SCHEMA "odd schema"',
    'CREATE TABLE "odd schema".child (id int PRIMARY KEY, parent_id int NOT NULL)',
)
_CHILD_NAME = '"odd schema".child'


@dataclass
class Place:
    """A database, its owner, who is no superuser but may create roles, and the role to come."""

    server: PostgresServer
    name: str
    said: list[str] = field(default_factory=list)

    @property
    def role(self) -> str:
        """The daemon's."""
        return f"daemon-{self.name}"

    @property
    def owner(self) -> str:
        """Who has the tables."""
        return f"owner-{self.name}"

    def source(self, *, user: str | None = None, owner: str | None = None) -> Source:
        """Return settings of a daemon, with an owner's URL where one is named."""
        url = self.server.url(self.name, user=user or self.role, password=_SECRET)
        as_owner = owner and self.server.url(self.name, user=owner, password=_SECRET)
        return Source(url=url, owner_url=as_owner, slot=f"s_{self.name}")

    def setup(self, plan: Plan = _PLAN, *, is_dry: bool = False, **who: str) -> Outcome:
        """Run it, as the owner unless others are named."""
        self.said.clear()
        source = self.source(**(who or {"owner": self.owner}))
        settings = Settings(source=source, projection="a:b")
        return setup.setup(settings, [plan], self.said.append, is_dry=is_dry)

    def run(self, *statements: str, user: str | None = None) -> None:
        """Run statements as somebody."""
        for statement in statements:
            if user is None:
                self.server.execute(statement, database=self.name)
            else:
                url = self.server.url(self.name, user=user, password=_SECRET)
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(statement)

    def complaints(self) -> list[str]:
        """Return what `check` says as the daemon's role, of what is set up."""
        settings = Settings(source=self.source(), projection="a:b")
        return [
            f"{each.name}: {each.detail}"
            for each in check_postgres.every(settings, [_PLAN])
            if each.status in {"failed", "warning"}
            and each.name not in {"postgres.durability", "postgres.max_slot_wal_keep_size"}
            and not each.name.endswith(("indexes", "statistics"))
        ]


@pytest.fixture
def place(postgres_server: PostgresServer, fresh_postgres: str) -> Place:
    """Make the tables as their owner."""
    found = Place(postgres_server, fresh_postgres)
    secret = _SECRET.replace("'", "''")
    found.run(
        f"""CREATE ROLE "{found.owner}" LOGIN CREATEROLE REPLICATION PASSWORD '{secret}'""",
        f'GRANT CREATE ON DATABASE {found.name} TO "{found.owner}"',
        f'GRANT CREATE ON SCHEMA public TO "{found.owner}"',
        # before 16 a superuser alone makes roles that replicate
        f"""DO $$ BEGIN IF current_setting('server_version_num')::int < 160000 THEN
            ALTER ROLE "{found.owner}" SUPERUSER; END IF; END $$""",
    )
    found.run(*_TABLES, user=found.owner)
    return found


def test_bare_tables_are_made_ready(place: Place) -> None:
    """By one run; another one has nothing to do."""
    found = place.setup()
    assert found.left == []
    assert found.count == len(place.said) == 7
    assert "CREATE ROLE" in place.said[0]
    assert _SECRET not in str(place.said)
    assert "SCRAM" not in str(place.said)
    assert place.complaints() == []
    assert place.setup().count == 0


def test_a_dry_run_changes_nothing_and_is_what_would_be_run(place: Place) -> None:
    """Statement by statement."""
    place.setup(is_dry=True)
    told = list(place.said)
    place.setup(is_dry=True)
    assert place.said == told
    place.setup()
    assert place.said == told


@pytest.mark.parametrize(
    ("breaking", "statements"),
    [
        ("ALTER ROLE {role} NOREPLICATION", ["ALTER ROLE {role} REPLICATION;"]),
        ("ALTER ROLE {role} NOLOGIN NOREPLICATION", ["ALTER ROLE {role} LOGIN REPLICATION;"]),
        (f"REVOKE SELECT ON {_CHILD_NAME} FROM {{role}}",
         ['GRANT SELECT ON "odd schema"."child" TO {role};']),
        ('REVOKE USAGE ON SCHEMA "odd schema" FROM {role}',
         ['GRANT USAGE ON SCHEMA "odd schema" TO {role};']),
        ("ALTER PUBLICATION projector SET (publish = 'insert')",
         ["ALTER PUBLICATION \"projector\" SET (publish = 'insert, update, delete, truncate',"
          " publish_via_partition_root = false);"]),
        (f"ALTER PUBLICATION projector DROP TABLE {_CHILD_NAME}",
         ['ALTER PUBLICATION "projector" ADD TABLE "odd schema"."child";']),
        (f"ALTER TABLE {_CHILD_NAME} REPLICA IDENTITY NOTHING",
         ['ALTER TABLE "odd schema"."child" REPLICA IDENTITY USING INDEX "child_identity";']),
        ('ALTER TABLE "Parent" REPLICA IDENTITY NOTHING',
         ['ALTER TABLE "public"."Parent" REPLICA IDENTITY DEFAULT;']),
    ],
)  # fmt: skip
def test_only_what_is_missing_is_done(place: Place, breaking: str, statements: list[str]) -> None:
    """And is enough."""
    place.setup()
    quoted = f'"{place.role}"'
    place.run(breaking.replace("{role}", quoted))
    place.setup()
    assert place.said == [each.replace("{role}", quoted) for each in statements]
    assert place.complaints() == []


def test_an_index_that_was_left_unfinished_is_made_again(place: Place) -> None:
    """One that works and is of other columns keeps its name."""
    place.run(f"CREATE UNIQUE INDEX child_identity ON {_CHILD_NAME} (id)", user=place.owner)
    place.setup()
    assert 'USING INDEX "child_identity_2"' in place.said[-1]
    place.run(
        f"ALTER TABLE {_CHILD_NAME} REPLICA IDENTITY DEFAULT",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid ="
        " '\"odd schema\".child_identity_2'::regclass",
    )
    place.setup()
    assert place.said[0] == 'DROP INDEX CONCURRENTLY "odd schema"."child_identity_2";'
    assert place.complaints() == []


def test_the_whole_row_is_logged_where_no_index_can_be_the_identity(place: Place) -> None:
    """One of a column that may be NULL cannot."""
    place.run(f"ALTER TABLE {_CHILD_NAME} ALTER parent_id DROP NOT NULL")
    assert place.setup().left == []
    assert place.said[-1] == 'ALTER TABLE "odd schema"."child" REPLICA IDENTITY FULL;'


def test_a_constraint_is_left_to_the_owner(place: Place) -> None:
    """Rows may stand against it, and from 18 on FULL would have the application's UPDATE refused
    where there is a generated column. What is left is said, with the statements."""
    place.run(
        f"ALTER TABLE {_CHILD_NAME} ALTER parent_id DROP NOT NULL,"
        " ADD twice int GENERATED ALWAYS AS (id * 2) STORED"
    )
    found = place.setup()
    [[number]] = place.server.execute("SHOW server_version_num")
    if int(number) < 180000:
        assert found.left == []
        return
    [left] = found.left
    assert 'ALTER "parent_id" SET NOT NULL; CREATE UNIQUE INDEX CONCURRENTLY' in left.fix
    place.run(*(part for part in left.fix.split("; ") if part))
    assert place.setup().left == []


def test_who_may_not_is_told_of_the_owner(place: Place) -> None:
    """With the statement that was refused; what is missing is not made by the daemon's role."""
    place.setup()
    place.run("DROP PUBLICATION projector")
    with pytest.raises(OperatorError, match=r"CREATE PUBLICATION .*OWNER_URL") as refused:
        place.setup(user=place.role)
    assert _SECRET not in str(refused.value)


def test_a_role_that_is_not_there_names_the_owner_s_setting(place: Place) -> None:
    """It cannot make itself."""
    with pytest.raises(OperatorError, match="OWNER_URL"):
        place.setup(user=place.role)
    with pytest.raises(OperatorError, match="OWNER_URL"):
        place.setup(owner="nobody-there")


def test_an_account_that_is_the_owner_makes_everything(place: Place) -> None:
    """No other role is needed where the daemon is the owner."""
    place.setup(user=place.owner)
    assert not any("ROLE" in each or "GRANT" in each for each in place.said)


def test_a_projection_of_other_tables_is_refused(place: Place) -> None:
    """Before anything is made."""
    other = sa.Table("missing", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    with pytest.raises(OperatorError, match="there is no table"):
        place.setup(Plan(Projection("others", other, list(other.c)), POSTGRES))
    assert place.said == []


def test_where_nobody_is_a_superuser_a_role_is_granted(place: Place) -> None:
    """On rented servers it stands for the attribute, which nobody there may give."""
    place.run("CREATE ROLE rds_replication")
    try:
        place.setup(is_dry=True)
        assert place.said[0].startswith(f'CREATE ROLE "{place.role}" LOGIN;')
        assert place.said[1] == f'GRANT rds_replication TO "{place.role}";'
        place.run(f'CREATE ROLE "{place.role}" LOGIN', f'GRANT rds_replication TO "{place.role}"')
        place.setup(is_dry=True)
        assert not any("ROLE" in each or "rds" in each for each in place.said)
    finally:
        place.run("DROP ROLE rds_replication")


def test_the_application_is_not_held_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is not waited for for long; another run goes on. What is made concurrently waits for
    as long as it takes, and holds up nobody."""
    monkeypatch.setattr(setup, "_LOCK_S", 1)
    with place.server.connect(place.name, autocommit=False) as busy:
        busy.execute(f"SELECT * FROM {_CHILD_NAME}")
        busy.execute(f"LOCK TABLE {_CHILD_NAME} IN ROW EXCLUSIVE MODE")
        ending = threading.Timer(3, busy.rollback)
        ending.start()
        place.setup()
        ending.join()
    place.run(f"ALTER TABLE {_CHILD_NAME} REPLICA IDENTITY DEFAULT")
    with place.server.connect(place.name, autocommit=False) as busy:
        busy.execute(f"LOCK TABLE {_CHILD_NAME} IN ROW EXCLUSIVE MODE")
        with pytest.raises(OperatorError, match=r"USING INDEX.*55P03.*Try again"):
            place.setup()
        busy.rollback()
    place.setup()
    assert place.complaints() == []


def test_two_databases_are_refused(place: Place) -> None:
    """What was made in the one would be missed in the other."""
    owner_url = place.server.url("postgres", user=place.owner, password=_SECRET)
    source = Source(url=place.server.url(place.name, user=place.role), owner_url=owner_url)
    with pytest.raises(ConfigurationError, match="names the database postgres"):
        setup.setup(Settings(source=source, projection="a:b"), [_PLAN], print)


def test_a_url_without_a_user_is_refused(place: Place) -> None:
    """There is nobody to give rights to."""
    owner_url = place.source(owner=place.owner).owner_url
    source = Source(url=f"postgresql:///{place.name}", owner_url=owner_url)
    settings = Settings(source=source, projection="a:b")
    with pytest.raises(ConfigurationError, match="names no user"):
        setup.setup(settings, [_PLAN], print)
