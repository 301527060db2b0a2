"""The source: the replication stream of MySQL and MariaDB.

In the order in which the bytes go: connection, stream, payload, events, transactions, with tables,
tablemap and rows for what rows say, statements for what is no row, progress for the positions; and
source, which is what the rest of the program sees.
"""

from projector.mysql.binlog.source import BinlogSource

__all__ = ["BinlogSource"]
