"""Worlds made up whole from one integer: tables, declarations, accounts, settings and histories.

    kinds         types of columns: as the server has them, as they are declared, values, JSON
    schemas       tables of such columns, their keys, foreign keys, triggers and views
    spec          what a document is, in words of our own
    declarations  made-up documents over made-up tables
    module        the same in the product's words: the text of a Python module
    oracle        what the hash should hold: SQL that is written from the spec, run as root
    settings      globals that somebody set on the server, and how the account is granted
    grammar       statements and definitions
    breaking      a daemon killed at a write of our choice
    judging       what differs between a hash and what it should hold
    plan          a world's number, what is left out of it, how it ended
    world         one world on one server: its life and its verdict
    shrinking     a failing world made small
    runner        many worlds on few servers

`python -m tests.abroad.worlds 12` makes world 12 again and prints it with what differs.
"""
