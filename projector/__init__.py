"""Live, complete documents in Redis, made from the rows of MySQL or MariaDB.

The flow, and the order in which to read the code:

    model       the nouns: position, change, transactions, documents, batch, checkpoint
    ports       the two seams: Source (a log) and Sink (a store)
    projection  what a document is; SELECTs and routes follow from one declaration
    binlog/     the source: MySQL's and MariaDB's replication stream
    route       row changes -> ids of documents, or look-ups to make
    fetch       behind the read barrier, in one snapshot: look-ups and documents
    sink_redis  documents, removals and checkpoint in one atomic act, under a lease
    pipeline    one step: route, fetch, apply
    reconcile   one walk that makes Redis equal to the database
    daemon      life: loop, lease, signals, retries
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("projector")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0"
