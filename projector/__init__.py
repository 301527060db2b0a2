"""Live, complete documents in Redis, made from the rows of MySQL, MariaDB or PostgreSQL.

The flow, and the order in which to read the code:

    model       the nouns: change, transactions, need, batch, checkpoint; position has an order
    ports       the seams: Source (a log), Database with its Readers, Sink (a store)
    projection/ what a document is; SELECTs and routes follow from one declaration
    mysql/      MySQL and MariaDB: the log, reads behind the barrier, the catalog, checks
    postgres/   PostgreSQL: its logical stream and slot, reads behind the barrier, catalog, checks
    route       row changes -> ids of documents, or look-ups to make
    fetch       behind the read barrier, in one snapshot: look-ups and documents
    sink_redis/ documents, removals and checkpoint in one atomic act, under a lease
    pipeline    one step: route, fetch, apply
    debt        what is owed beside the log: walks and look-ups, stored with the checkpoint
    due         owes documents that show a moment which has come
    reconcile   one walk that makes Redis equal to the database; verify compares, and writes nothing
    lane        one projection in one term of leadership; leases keeps its lease
    resume      where each projection goes on when a term begins
    daemon      life: terms, loop, signals, retries; waiting says what for

compiled says whether csrc/ is in use: C that stands in for the Python of the hottest parts.

Beside it: service/ (health, metrics over HTTP, systemd), commands/ (what one asks of a running
daemon, its store and its database; `check`, whose findings on any database fitness makes, and
`explain`: the indexes that a projection wants both have from indexes), scaffold/ (a
projection's text for tables that exist, from what a server's catalog says of them), cli, parts
(names the concrete parts), settings with databases, logs, metrics and errors.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("binlog-projector")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0"
