"""What `check` asks of PostgreSQL: server, account, publication, tables, projection.

`every` says all of it, `required` what only a human can mend; both are in `run`.
"""
