"""PostgreSQL as the source: its logical replication stream, by the plugin `pgoutput`.

Read `pgoutput` (from messages to whole transactions) first, then `stream` (the connection that
brings them), `slot` (what must exist for it, and whether it can be read on from a position),
`position`, and `visibility` (when the rows of a transaction can be seen). What the stream does not
tell is looked up each second: `publication` and `definitions`.
"""
