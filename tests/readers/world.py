"""Notes with labels, and things by binary keys, in a database that the daemon follows."""

import sqlalchemy as sa

from projector.projection import Join, Projection

DDL = """
    CREATE TABLE labels (id INT NOT NULL PRIMARY KEY, name VARCHAR(40) NOT NULL);
    CREATE TABLE notes (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, label_id INT NULL, text LONGTEXT,
      KEY (label_id));
    CREATE TABLE things (id BINARY(16) NOT NULL, kind VARCHAR(10) NOT NULL, v INT,
      PRIMARY KEY (id, kind));
    INSERT INTO labels VALUES (1, 'old');
    INSERT INTO notes SELECT a.d * 100 + b.d * 10 + c.d, 1, 'begun' FROM
      (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3) a,
      (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5
       UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) b,
      (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5
       UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) c"""
POSTGRES_DDL = """
    CREATE TABLE labels (id int PRIMARY KEY, name varchar(40) NOT NULL);
    CREATE TABLE notes (id bigint PRIMARY KEY, label_id int, text text);
    CREATE INDEX ON notes (label_id);
    CREATE TABLE others (id int PRIMARY KEY, text text);
    INSERT INTO labels VALUES (1, 'old');
    INSERT INTO notes SELECT n, 1, 'begun' FROM generate_series(0, 3999) AS n;
    INSERT INTO others VALUES (1, 'begun')"""
PROJECTIONS = "tests.readers.world:notes,tests.readers.world:things"

_metadata = sa.MetaData()
_labels = sa.Table(
    "labels", _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(40)),
)  # fmt: skip
_notes = sa.Table(
    "notes", _metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("label_id", sa.Integer),
    sa.Column("text", sa.Text),
)  # fmt: skip
_things = sa.Table(
    "things", _metadata,
    sa.Column("id", sa.BINARY(16), primary_key=True),
    sa.Column("kind", sa.String(10), primary_key=True),
    sa.Column("v", sa.Integer),
)  # fmt: skip

notes = Projection(
    name="notes",
    root=_notes,
    joins=[Join(_labels, _labels.c.id == _notes.c.label_id)],
    fields=[_notes.c.id, _notes.c.text, _labels.c.name.label("label")],
)
things = Projection(name="odd things|%: ü", root=_things, fields=[_things.c.kind, _things.c.v])
