"""Worlds made up whole on PostgreSQL: what is not as in `tests.abroad.worlds`.

    kinds     types of columns
    schemas   tables of such columns: identities, partitions, domains, enums, names of any kind
    grammar   statements and definitions
    settings  what somebody set for the role, the database and the server
    world     one world on one server
    runner    many worlds on few servers

`python -m tests.abroad.postgres 12` makes world 12 again and prints it with what differs.
"""
